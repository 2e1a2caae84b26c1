//! `call`: a method of a provider's API, through a running server, which has the credentials.

use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::render::{self, BOLD, Cell, DIM, Table, note};
use super::source::{Source, post};
use super::{Reach, Usage, settings};
use crate::catalog::{ArgType, ClientMethod, PLACEHOLDER, ProviderEntry};
use crate::config::{Scope, nearest};

/// Largest file of arguments, in bytes: what the admin API takes.
const ARGS_BYTES_MAX: u64 = 1 << 20;

/// `call`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper call github                                  what can be called, and with what
  hookkeeper call github create_comment --arg owner=acme --arg repo=shop --arg number=7 --arg body='Thanks!'
  hookkeeper call slack post --args @message.json --timeout 10s
  hookkeeper call stripe request --arg path=/balance
  hookkeeper call linear list_issues --arg limit=200

The client needs a table [clients.PROVIDER] in the configuration; `hookkeeper providers show PROVIDER` says what \
belongs in it. Without METHOD no server is needed.")]
pub(super) struct Call {
    /// The provider's id
    provider: String,
    /// The method; without one, the methods are listed
    method: Option<String>,
    /// One argument; the value is JSON where the argument is no string
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    arg: Vec<String>,
    /// All arguments as a JSON object, or @FILE with one, @- for stdin; --arg adds to them
    #[arg(long, value_name = "JSON|@FILE")]
    args: Option<String>,
    /// How long the call may take, up to 1m, the wait for a permit included [default: 30s]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// On whose behalf: live, replay or backfill; they share the provider's budget in this order [default: live]
    #[arg(long, value_name = "LANE")]
    lane: Option<String>,
    /// Tells the provider that a repeated call is the same, where it knows such keys
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print JSON; results are JSON in any case
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Call {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let settings = settings::load(&self.reach.config, Scope::Text)?;
        let entry = super::providers::entry(&settings.catalog, &self.provider)?;
        let methods = entry.client.as_ref().map(|client| client.all_methods()).unwrap_or_default();
        let Some(method) = &self.method else { return self.list(entry, &methods) };
        let known = methods.iter().find(|known| known.name == *method);
        let mut body = json!({"method": method, "args": self.arguments(known)?});
        let options =
            [("timeout", &self.timeout), ("lane", &self.lane), ("idempotency_key", &self.idempotency_key)];
        for (name, value) in options {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        let client = Source::server(&self.reach).await?;
        let answer = post(&client, &format!("providers/{}/call", entry.id), &body).await?;
        render::json(&answer["result"])
    }

    fn arguments(&self, method: Option<&ClientMethod>) -> anyhow::Result<Value> {
        let mut args = match &self.args {
            None => Map::new(),
            Some(text) => read_object(text)?,
        };
        for pair in &self.arg {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Usage(format!("--arg {pair}: expected NAME=VALUE, such as number=7")))?;
            args.insert(name.to_owned(), value_of(method, name, value)?);
        }
        Ok(Value::Object(args))
    }

    fn list(&self, entry: &ProviderEntry, methods: &[ClientMethod]) -> anyhow::Result<()> {
        if self.json {
            return render::json(&json!({"items": items(entry, methods), "next_cursor": null}));
        }
        if entry.is_placeholder() {
            note(format_args!("{} is a placeholder: {PLACEHOLDER}", entry.id));
        } else if methods.is_empty() && entry.is_coded {
            let id = &entry.id;
            note(format_args!(
                "the connector of {id} is code; what its methods take stands in its documentation"
            ));
        } else if methods.is_empty() {
            note(format_args!(
                "nothing is known of the API of {}: describe it in a [[providers]] table's [client]",
                entry.id
            ));
        }
        let mut table = Table::new(["METHOD", "ARGUMENT", "TYPE", "ABOUT"]);
        for name in named(entry, methods) {
            table.row([Cell::styled(BOLD, name), "".into(), "".into(), "".into()]);
        }
        for method in methods {
            let name = Cell::styled(BOLD, &method.name);
            table.row([name, "".into(), "".into(), method.about.clone().into()]);
            for arg in &method.args {
                let mark = if method.is_required(arg) { "" } else { "?" };
                let about = match arg.values.as_slice() {
                    [] => arg.about.clone(),
                    values => format!("{}: {}", arg.about, values.join(", ")),
                };
                let kind = Cell::styled(DIM, arg.kind.as_str());
                table.row(["".into(), format!("{}{mark}", arg.name).into(), kind, about.into()]);
            }
        }
        table.print()
    }
}

/// Returns the names of the methods of a connector in code, of which nothing else is known.
fn named<'e>(entry: &'e ProviderEntry, methods: &[ClientMethod]) -> &'e [String] {
    if methods.is_empty() { &entry.outbound } else { &[] }
}

fn items(entry: &ProviderEntry, methods: &[ClientMethod]) -> Vec<Value> {
    let named = named(entry, methods).iter();
    let named = named.map(|name| json!({"name": name, "about": null, "args": null}));
    methods.iter().map(described).chain(named).collect()
}

fn described(method: &ClientMethod) -> Value {
    let args = method.args.iter().map(|arg| {
        json!({
            "name": arg.name,
            "type": arg.kind.as_str(),
            "required": method.is_required(arg),
            "values": arg.values,
            "about": arg.about,
        })
    });
    json!({"name": method.name, "about": method.about, "args": args.collect::<Vec<_>>()})
}

fn read_object(text: &str) -> anyhow::Result<Map<String, Value>> {
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some("-") => bounded(std::io::stdin()).context("cannot read stdin")?,
        Some(path) => {
            std::fs::File::open(path).and_then(bounded).with_context(|| format!("cannot read {path}"))?
        }
    };
    let read = serde_json::from_str(&text);
    read.map_err(|error| Usage(format!("--args: expected a JSON object: {error}")).into())
}

fn bounded(reader: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    if reader.take(ARGS_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > ARGS_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Reads a value as the argument's type has it; of one that is not known, the server says what is wrong.
fn value_of(method: Option<&ClientMethod>, name: &str, text: &str) -> Result<Value, Usage> {
    let args = method.map(|method| method.args.as_slice()).unwrap_or_default();
    let arg = args.iter().find(|arg| arg.name == name);
    match arg.map(|arg| arg.kind) {
        None | Some(ArgType::String) => Ok(Value::String(text.to_owned())),
        // What is no JSON is meant as text.
        Some(ArgType::Any) => Ok(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
        Some(kind) => serde_json::from_str(text).map_err(|_| {
            let near = nearest(text, ["true", "false"]).filter(|_| kind == ArgType::Boolean);
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Usage(format!("--arg {name}: expected JSON, of type {}{near}", kind.as_str()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: Result<Value, &str>) {
        let method: ClientMethod = toml::from_str(
            "name = \"m\"\nabout = \"x\"\nrequest = \"POST /a\"\nargs = [\n\
             { name = \"text\", about = \"x\" }, { name = \"count\", type = \"integer\", about = \"x\" },\n\
             { name = \"on\", type = \"boolean\", about = \"x\" }, { name = \"data\", type = \"any\", about = \"x\" }]",
        )
        .unwrap();
        let found = value_of(Some(&method), name, text).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{name}={text}");
    }

    #[test]
    fn of_a_connector_in_code_the_methods_are_named() {
        let mut entry = ProviderEntry::of_code("acme".parse().unwrap());
        entry.outbound = vec!["get_account".to_owned()];
        assert_eq!(items(&entry, &[]), [json!({"name": "get_account", "about": null, "args": null})]);
        let method = "name = \"m\"\nabout = \"x\"\nrequest = \"POST /a\"";
        assert_eq!(items(&entry, &[toml::from_str(method).unwrap()]).len(), 1);
    }

    #[test]
    fn values_are_read_as_their_argument_has_them() {
        check("text", "7", Ok(json!("7")));
        check("text", "a=b", Ok(json!("a=b")));
        check("count", "7", Ok(json!(7)));
        check("count", "x", Err("--arg count: expected JSON, of type integer"));
        check("on", "treu", Err("--arg on: expected JSON, of type boolean; did you mean `true`?"));
        check("data", "{\"a\":1}", Ok(json!({"a": 1})));
        check("data", "@channel", Ok(json!("@channel")));
        check("other", "7", Ok(json!("7")));
    }
}
