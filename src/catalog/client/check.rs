//! Holds what the types of a `[client]` cannot say. Every problem names its place.

use std::collections::BTreeSet;

use super::{
    ArgPlace, ArgType, BodyKind, ClientArg, ClientMethod, ClientPages, ClientSpec, INSTALLATION_ARG,
    PAGE_ARGS, PageKind, PathPart, RAW_METHOD, placeholders,
};
use crate::settings::nearest;

/// Methods that requests have.
const VERBS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// Headers that the engine writes itself.
const OWN_HEADERS: [&str; 4] = ["authorization", "content-length", "content-type", "host"];
/// Most methods of a client.
const METHODS_MAX: usize = 256;
/// Most arguments of a method.
const ARGS_MAX: usize = 64;

type Checked = Result<(), String>;

/// Validates a client.
///
/// # Errors
///
/// The first problem: its place within the entry, and what is wrong.
pub(in crate::catalog) fn validate(client: &ClientSpec) -> Checked {
    let base = client.base_url.strip_prefix("https://").unwrap_or_default();
    if base.is_empty() || base.contains(['?', '#', '@', ' ']) || base.ends_with('/') {
        return Err(format!(
            "client.base_url = {:?}: expected an https URL without user, query and trailing slash",
            client.base_url
        ));
    }
    names(client)?;
    secrets(client)?;
    settings(client)?;
    headers(client)?;
    pointers(client)?;
    if client.limits.per_second.is_some() != client.limits.burst.is_some() {
        return Err("client.limits: per_second and burst go together".to_owned());
    }
    if client.limits.per_second.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err("client.limits.per_second: expected a number above 0".to_owned());
    }
    if client.methods.len() > METHODS_MAX {
        return Err(format!("client.methods: there are more than {METHODS_MAX}"));
    }
    client.methods.iter().try_for_each(|method| Method { client, method }.check())
}

fn names(client: &ClientSpec) -> Checked {
    let mut known = BTreeSet::new();
    for name in client.methods.iter().map(|method| &method.name) {
        if !is_name(name) {
            return Err(format!("client.methods: {name:?}: a name has lower-case letters, digits and `_`"));
        }
        if client.raw && name == RAW_METHOD {
            return Err(format!("client.methods: the name {name:?} is that of the raw method (raw = false)"));
        }
        if !known.insert(name) {
            return Err(format!("client.methods: {name:?} stands there twice"));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Returns the first of `used` that is not declared, with the nearest that is, and the first of `declared`
/// that is not used.
fn compare(what: &str, place: &str, declared: &[&str], used: &[&str]) -> Checked {
    if let Some(unknown) = used.iter().find(|name| !declared.contains(*name)) {
        let near = nearest(unknown, declared.iter().copied());
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("client: {what} {unknown:?} is used and not declared in {place}{near}"));
    }
    match declared.iter().find(|name| !used.contains(*name)) {
        Some(unused) => Err(format!("{place}: {what} {unused:?} is not used")),
        None => Ok(()),
    }
}

fn secrets(client: &ClientSpec) -> Checked {
    let declared: Vec<&str> = client.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let used: Vec<&str> = client.auth.iter().flat_map(|auth| auth.secrets()).collect();
    compare("secret", "client.secrets", &declared, &used)
}

fn settings(client: &ClientSpec) -> Checked {
    let declared: Vec<&str> = client.settings.iter().map(|setting| setting.name.as_str()).collect();
    let mut used: Vec<&str> = client.auth.iter().flat_map(|auth| auth.settings()).collect();
    used.extend(client.texts().flat_map(|text| placeholders(text, "${")));
    used.extend(
        client.settings.iter().filter_map(|it| it.default.as_deref()).flat_map(|it| placeholders(it, "${")),
    );
    compare("setting", "client.settings", &declared, &used)
}

fn headers(client: &ClientSpec) -> Checked {
    let names = client.headers.keys().chain(client.idempotency_header.as_ref());
    let own = client.auth.iter().filter_map(|auth| match auth {
        super::ClientAuth::Header { name, .. } => Some(name),
        _ => None,
    });
    for name in names.clone().chain(own) {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("client: {name:?} is no header"));
        }
    }
    match names.into_iter().find(|name| OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str())) {
        Some(name) => Err(format!("client.headers: {name} follows from the authentication or the body")),
        None => Ok(()),
    }
}

fn pointers(client: &ClientSpec) -> Checked {
    let errors = &client.errors;
    let all = errors.ok.iter().chain(&errors.failed).chain(&errors.wait_s).chain(&errors.code);
    let mut all = all.chain(&errors.message);
    all.try_for_each(|pointer| is_pointer("client.errors", pointer))
}

fn is_pointer(place: &str, pointer: &str) -> Checked {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(format!("{place}: {pointer:?} is no JSON pointer; one begins with a slash"))
}

/// One method of a client.
struct Method<'a> {
    client: &'a ClientSpec,
    method: &'a ClientMethod,
}

impl Method<'_> {
    fn wrong(&self, what: impl std::fmt::Display) -> String {
        format!("client.methods.{}: {what}", self.method.name)
    }

    fn check(&self) -> Checked {
        self.request()?;
        if self.method.args.len() > ARGS_MAX {
            return Err(self.wrong(format!("there are more than {ARGS_MAX} arguments")));
        }
        let mut names = BTreeSet::new();
        for arg in &self.method.args {
            if !names.insert(&arg.name) {
                return Err(self.wrong(format!("argument {:?} stands there twice", arg.name)));
            }
            self.arg(arg).map_err(|what| self.wrong(format!("argument {:?}: {what}", arg.name)))?;
        }
        self.document()?;
        is_pointer(&format!("client.methods.{}.result", self.method.name), &self.method.result)?;
        self.method.pages.as_ref().map_or(Ok(()), |pages| self.pages(pages))
    }

    fn request(&self) -> Checked {
        let (verb, path) = (self.method.verb(), self.method.path());
        if !VERBS.contains(&verb) || !path.starts_with('/') {
            let example = "POST /issues/{number}/comments";
            return Err(
                self.wrong(format!("request = {:?}: expected one such as {example:?}", self.method.request))
            );
        }
        let plain = path.replace("${", "{");
        if plain.contains(['?', '#', '\\', ' ']) || plain.split('/').any(|part| part == "." || part == "..") {
            return Err(self.wrong(format!("request = {path:?}: the path holds what paths do not")));
        }
        // Settings are put in before arguments are looked for.
        let without = ClientMethod { request: without_settings(&self.method.request), ..self.method.clone() };
        let parts = without.path_parts().ok_or_else(|| self.wrong("the braces of the path do not match"))?;
        for part in parts {
            if let PathPart::Arg(name) = part
                && !self.method.args.iter().any(|arg| arg.name == name)
            {
                let known = self.method.args.iter().map(|arg| arg.name.as_str());
                let near = nearest(name, known).map(|near| format!("; did you mean `{near}`?"));
                let near = near.unwrap_or_default();
                return Err(self.wrong(format!("the path names {name:?}, which is no argument{near}")));
            }
        }
        Ok(())
    }

    fn arg(&self, arg: &ClientArg) -> Checked {
        if !is_name(&arg.name) {
            return Err("a name has lower-case letters, digits and `_`".to_owned());
        }
        if self.method.pages.is_some() && PAGE_ARGS.contains(&arg.name.as_str()) {
            return Err("a method with pages has it already".to_owned());
        }
        if self.client.has_installations() && arg.name == INSTALLATION_ARG {
            return Err("every method of an app has it already".to_owned());
        }
        if !arg.values.is_empty() && arg.kind != ArgType::String {
            return Err("only a string has `values`".to_owned());
        }
        let place = self.method.place_of(arg);
        let is_nested = matches!(arg.kind, ArgType::Object | ArgType::Array | ArgType::Any);
        match place {
            ArgPlace::Path if !self.method.path().contains(&format!("{{{}}}", arg.name)) => {
                Err("it goes into the path, which does not name it".to_owned())
            }
            ArgPlace::Path if arg.at.is_some() => Err("what stands in the path has no `at`".to_owned()),
            ArgPlace::Path | ArgPlace::Header if is_nested => {
                Err(format!("no {} goes there", arg.kind.as_str()))
            }
            ArgPlace::Body if self.method.verb() == "GET" => Err("a GET has no body".to_owned()),
            ArgPlace::Body => self.body_place(arg),
            _ => Ok(()),
        }
    }

    fn body_kind(&self) -> BodyKind {
        self.method.body.unwrap_or(self.client.body)
    }

    fn body_place(&self, arg: &ClientArg) -> Checked {
        match (self.body_kind(), arg.at.as_deref()) {
            (_, None) => Ok(()),
            (BodyKind::Graphql, Some(_)) => Err("a variable has no `at`".to_owned()),
            (BodyKind::Json, Some("")) if !matches!(arg.kind, ArgType::Object | ArgType::Any) => {
                Err("only an object is a whole body".to_owned())
            }
            (BodyKind::Json, Some(at)) => is_pointer("at", at),
            (_, Some("")) if arg.kind != ArgType::Object => Err("only an object is a whole form".to_owned()),
            _ => Ok(()),
        }
    }

    /// Holds a document's variables against the arguments of the body.
    fn document(&self) -> Checked {
        let is_graphql = self.body_kind() == BodyKind::Graphql && self.method.verb() != "GET";
        if is_graphql == self.method.document.is_empty() {
            let what = if is_graphql { "`document` is missing" } else { "only GraphQL has a `document`" };
            return Err(self.wrong(what));
        }
        if !is_graphql {
            return Ok(());
        }
        let mut given: BTreeSet<&str> = self
            .method
            .args
            .iter()
            .filter(|arg| self.method.place_of(arg) == ArgPlace::Body)
            .map(|arg| arg.name.as_str())
            .collect();
        let of_pages = self.method.pages.iter().flat_map(|it| [it.into.as_str(), it.size.as_str()]);
        given.extend(of_pages.filter(|name| !name.is_empty()));
        let used = variables(&self.method.document);
        match given.symmetric_difference(&used).next() {
            Some(name) if used.contains(name) => {
                Err(self.wrong(format!("the document's variable ${name} is no argument")))
            }
            Some(name) => Err(self.wrong(format!("the document has no variable ${name}"))),
            None => Ok(()),
        }
    }

    fn pages(&self, pages: &ClientPages) -> Checked {
        let place = format!("client.methods.{}.pages", self.method.name);
        let mut pointers = [&pages.items, &pages.from].into_iter().chain(&pages.more);
        pointers.try_for_each(|pointer| is_pointer(&place, pointer))?;
        if !self.method.result.is_empty() {
            return Err(format!("{place}: a method with pages has `items` in place of `result`"));
        }
        let is_link = pages.by == PageKind::Link;
        if is_link && !(pages.from.is_empty() && pages.into.is_empty()) {
            return Err(format!("{place}: the link says all: remove `from` and `into`"));
        }
        if !is_link && (pages.from.is_empty() || pages.into.is_empty()) {
            return Err(format!("{place}: `from` and `into` say where the cursor stands and goes"));
        }
        if pages.size_max == 0 {
            return Err(format!("{place}: size_max is at least 1"));
        }
        Ok(())
    }
}

/// Returns a text with `${name}` left out.
fn without_settings(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + "x" + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// Returns the variables that a GraphQL document names.
fn variables(document: &str) -> BTreeSet<&str> {
    let end = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    document.split('$').skip(1).map(|rest| &rest[..end(rest)]).collect()
}

#[cfg(test)]
mod tests {
    use crate::catalog::ProviderCatalog;

    const BASE: &str = "id = \"acme\"\n[client]\nbase_url = \"https://api.acme.example\"\n";

    /// Loads an entry whose client has this beside its URL.
    fn load(rest: &str) -> Result<Vec<String>, String> {
        let catalog = ProviderCatalog::with_user_entries(&[format!("{BASE}{rest}")]);
        catalog.map(|it| it.get("acme").unwrap().outbound.clone()).map_err(|error| error.to_string())
    }

    fn check(rest: &str, expected: &str) {
        let error = load(rest).expect_err(rest);
        assert!(error.contains(expected), "{rest}\n{error}");
    }

    fn method(rest: &str) -> String {
        format!("[[client.methods]]\nname = \"a\"\nabout = \"x\"\n{rest}\n")
    }

    #[test]
    fn the_methods_are_the_entrys_outbound_list() {
        let get = method("request = \"GET /a/{id}\"\nargs = [{ name = \"id\", about = \"x\" }]");
        assert_eq!(load(&get).unwrap(), ["a", "request"]);
        assert_eq!(load(&format!("raw = false\n{get}")).unwrap(), ["a"]);
        let listed = format!("outbound = [\"b\"]\n{BASE}");
        let error = ProviderCatalog::with_user_entries(&[listed]).unwrap_err().to_string();
        assert!(error.contains("outbound follows from client.methods"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        check("metods = []", "unknown field `metods`");
        check(
            "[[client.secrets]]\nname = \"key\"\nabout = \"x\"",
            "client.secrets: secret \"key\" is not used",
        );
        check(
            "[[client.auth]]\nkind = \"bearer\"\nsecret = \"tokn\"\n\
             [[client.auth]]\nkind = \"bearer\"\nsecret = \"token\"\n\
             [[client.secrets]]\nname = \"token\"\nabout = \"x\"",
            "secret \"tokn\" is used and not declared in client.secrets; did you mean `token`?",
        );
        check("headers = { X-A = \"${version}\" }", "setting \"version\" is used and not declared");
        check("headers = { Authorization = \"x\" }", "follows from the authentication");
        check("headers = { \"X A\" = \"x\" }", "is no header");
        check(
            &method("request = \"FETCH /a\""),
            "client.methods.a: request = \"FETCH /a\": expected one such as",
        );
        check(&method("request = \"GET /a/../b\""), "the path holds what paths do not");
        check(&method("request = \"GET /a/{id\""), "the braces of the path do not match");
        check(
            &method("request = \"GET /a/{idd}\"\nargs = [{ name = \"id\", about = \"x\", in = \"query\" }]"),
            "the path names \"idd\", which is no argument; did you mean `id`?",
        );
        check(
            &method("request = \"GET /a\"\nargs = [{ name = \"id\", about = \"x\", in = \"path\" }]"),
            "argument \"id\": it goes into the path, which does not name it",
        );
        check(
            &method("request = \"GET /a\"\nargs = [{ name = \"id\", about = \"x\", in = \"body\" }]"),
            "a GET has no body",
        );
        check(
            &method("request = \"GET /a\"\nargs = [{ name = \"id\", about = \"x\", type = \"int\" }]"),
            "unknown variant `int`",
        );
        check(
            &method("request = \"POST /a\"\nbody = \"graphql\"\ndocument = \"query($x: ID!) { a(id: $x) }\""),
            "client.methods.a: the document's variable $x is no argument",
        );
        check(&method("request = \"POST /a\"\nbody = \"graphql\""), "`document` is missing");
        check(&method("request = \"POST /a\"\nresult = \"a\""), "is no JSON pointer");
        check(
            &method("request = \"GET /a\"\npages = { by = \"cursor\", size = \"n\" }"),
            "`from` and `into` say where",
        );
        check(
            &(method("request = \"GET /a\"") + &method("request = \"GET /a\"")),
            "\"a\" stands there twice",
        );
    }

    #[test]
    fn secrets_live_under_the_entrys_namespace() {
        let client = |namespace: &str| {
            format!(
                "[[client.auth]]\nkind = \"bearer\"\nsecret = \"token\"\n\
                 [[client.secrets]]\nname = \"token\"\nabout = \"x\"\n{namespace}"
            )
        };
        load(&client("")).unwrap();
        load(&client("namespace = \"acme\"")).unwrap();
        check(&client("namespace = \"other\""), "must live under namespace \"acme\"");
    }
}
