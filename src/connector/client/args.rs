//! Arguments held against what a method takes, before anything is sent. Pure.

use serde_json::{Map, Value};

use super::ClientError;
use crate::catalog::{ArgType, ClientArg, ClientMethod, INSTALLATION_ARG, PAGE_ARGS};
use crate::settings::nearest;

/// Most items that `limit` may ask for; beyond it a caller goes on with `next_cursor`.
pub(super) const LIMIT_MAX: u64 = 10_000;
/// Deepest nesting of an argument: what is deeper is no request that a provider takes.
const DEPTH_MAX: usize = 32;

/// Arguments that suit a method.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Args {
    /// The method's own, by name; those that are null are left out.
    pub(super) own: Map<String, Value>,
    /// How much of a listing is wanted.
    pub(super) wanted: Wanted,
    /// The app's installation to call as.
    pub(super) installation: Option<String>,
}

/// How much of a listing is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) limit: Option<u64>,
    pub(super) all: bool,
    pub(super) cursor: Option<String>,
}

impl Args {
    /// Reads the arguments of a call.
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidArgs`] for the first one that the method does not take, lacks or cannot read.
    pub(super) fn read(method: &ClientMethod, args: Value) -> Result<Self, ClientError> {
        let wrong = |problem| ClientError::InvalidArgs { method: method.name.clone(), problem };
        let given = match args {
            Value::Object(given) => given,
            Value::Null => Map::new(),
            other => return Err(wrong(format!("expected an object, found {}", word(&other)))),
        };
        let mut read = Self::default();
        for (name, value) in given {
            let arg = method.args.iter().find(|arg| arg.name == name);
            let arg = arg.ok_or_else(|| wrong(unknown(method, &name)))?;
            if value.is_null() && arg.kind != ArgType::Any {
                continue;
            }
            check(arg, &value).map_err(|what| wrong(format!("`{name}`: {what}")))?;
            read.take(method, name, value).map_err(wrong)?;
        }
        let is_missing = |arg: &&ClientArg| method.is_required(arg) && !read.own.contains_key(&arg.name);
        match method.args.iter().find(is_missing) {
            Some(arg) => Err(wrong(format!("`{}` is missing: {}", arg.name, arg.about))),
            None => Ok(read),
        }
    }

    fn take(&mut self, method: &ClientMethod, name: String, value: Value) -> Result<(), String> {
        let [limit, all, cursor] = PAGE_ARGS;
        match name.as_str() {
            INSTALLATION_ARG => self.installation = Some(value.to_string()),
            name if method.pages.is_some() && name == limit => {
                let asked = value.as_u64().filter(|asked| (1..=LIMIT_MAX).contains(asked));
                self.wanted.limit = Some(asked.ok_or_else(|| format!("`{limit}`: use 1 to {LIMIT_MAX}"))?);
            }
            name if method.pages.is_some() && name == all => self.wanted.all = value == Value::Bool(true),
            name if method.pages.is_some() && name == cursor => {
                self.wanted.cursor = value.as_str().map(str::to_owned);
            }
            _ => drop(self.own.insert(name, value)),
        }
        Ok(())
    }
}

fn unknown(method: &ClientMethod, name: &str) -> String {
    let known: Vec<&str> = method.args.iter().map(|arg| arg.name.as_str()).collect();
    let shown: String = name.chars().take(60).collect();
    match (nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => format!("unknown argument `{shown}`; did you mean `{near}`?"),
        (None, []) => format!("unknown argument `{shown}`; there are none"),
        (None, known) => format!("unknown argument `{shown}`; there are {}", known.join(", ")),
    }
}

fn check(arg: &ClientArg, value: &Value) -> Result<(), String> {
    let suits = match arg.kind {
        ArgType::String => value.is_string(),
        ArgType::Integer => value.is_i64() || value.is_u64(),
        ArgType::Number => value.is_number(),
        ArgType::Boolean => value.is_boolean(),
        ArgType::Object => value.is_object(),
        ArgType::Array => value.is_array(),
        ArgType::Any => true,
    };
    if !suits {
        return Err(format!("expected {}, found {}", expected(arg.kind), word(value)));
    }
    if !is_shallow(value, DEPTH_MAX) {
        return Err(format!("it is nested deeper than {DEPTH_MAX}"));
    }
    let text = value.as_str().unwrap_or_default();
    if arg.values.is_empty() || arg.values.iter().any(|known| known == text) {
        return Ok(());
    }
    let near = nearest(text, arg.values.iter().map(String::as_str));
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(format!("expected one of {}{near}", arg.values.join(", ")))
}

fn is_shallow(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_shallow(item, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|field| is_shallow(field, depth - 1)),
        _ => true,
    }
}

fn expected(kind: ArgType) -> &'static str {
    match kind {
        ArgType::String => "a string",
        ArgType::Integer => "a whole number",
        ArgType::Number => "a number",
        ArgType::Boolean => "true or false",
        ArgType::Object => "an object",
        ArgType::Array => "an array",
        ArgType::Any => "any JSON",
    }
}

/// Says what kind of value was found; never the value.
fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn method() -> ClientMethod {
        let text = "name = \"merge\"\nabout = \"x\"\nrequest = \"PUT /repos/{repo}/merge\"\nargs = [\n\
            { name = \"repo\", about = \"the repository\" },\n\
            { name = \"count\", type = \"integer\", about = \"x\" },\n\
            { name = \"how\", values = [\"merge\", \"squash\"], about = \"x\" },\n\
            { name = \"data\", type = \"any\", about = \"x\" },\n]";
        toml::from_str(text).unwrap()
    }

    fn check(args: Value, expected: Result<Value, &str>) {
        let read = Args::read(&method(), args.clone()).map(|args| Value::Object(args.own));
        let read = read.map_err(|error| error.to_string());
        let expected = expected.map_err(|problem| format!("arguments of `merge`: {problem}"));
        assert_eq!(read, expected, "{args}");
    }

    #[test]
    fn arguments_are_held_against_what_the_method_takes() {
        check(json!({"repo": "a", "count": 1}), Ok(json!({"repo": "a", "count": 1})));
        check(json!({"repo": "a", "count": null, "data": null}), Ok(json!({"repo": "a", "data": null})));
        check(json!({"repo": "a", "how": "squash"}), Ok(json!({"repo": "a", "how": "squash"})));
        check(Value::Null, Err("`repo` is missing: the repository"));
        check(json!([]), Err("expected an object, found an array"));
        check(json!({"repo": 1}), Err("`repo`: expected a string, found a number"));
        check(json!({"repo": "a", "count": 1.5}), Err("`count`: expected a whole number, found a number"));
        check(json!({"repo": "a", "coumt": 1}), Err("unknown argument `coumt`; did you mean `count`?"));
        check(
            json!({"repo": "a", "zzzzz": 1}),
            Err("unknown argument `zzzzz`; there are repo, count, how, data"),
        );
        check(
            json!({"repo": "a", "how": "squsah"}),
            Err("`how`: expected one of merge, squash; did you mean `squash`?"),
        );
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        check(json!({"repo": "a", "data": deep}), Err("`data`: it is nested deeper than 32"));
    }
}
