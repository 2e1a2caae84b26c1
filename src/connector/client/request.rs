//! From arguments to a request, without who calls. Pure.

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};
use url::Url;

use super::encode::{Nesting, form, pairs, scalar, segment};
use crate::catalog::{ArgPlace, BodyKind, ClientMethod, ClientPages, PageKind, PathPart};
use crate::outbound::HeaderValue;

/// Most bytes of a request's body.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a URL, beyond which servers refuse it.
const URL_BYTES_MAX: usize = 16 << 10;
/// What a raw path may hold that a URL writes otherwise.
const RAW_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// A request that is still without who calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) verb: String,
    pub(super) url: Url,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Draft {
    /// Returns the path behind that of the base URL.
    pub(super) fn path<'a>(&'a self, base: &Url) -> &'a str {
        self.url.path().strip_prefix(base.path().trim_end_matches('/')).unwrap_or_default()
    }

    fn content(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.push(("content-type".to_owned(), content_type.to_owned()));
        self.body = body.into();
        self
    }
}

/// What a page adds to the arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PageParams {
    pub(super) cursor: Option<String>,
    pub(super) size: Option<u64>,
}

/// Puts the path of a request behind the base URL.
///
/// # Errors
///
/// If it leads elsewhere: a URL drops dots, and writes some characters otherwise.
fn at(base: &Url, path: &str, query: &str) -> Result<Url, String> {
    let full = format!("{}{path}", base.path().trim_end_matches('/'));
    let mut url = base.clone();
    url.set_path(&full);
    url.set_query((!query.is_empty()).then_some(query));
    if url.path() != full {
        return Err("the path holds dots or characters that lead elsewhere".to_owned());
    }
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(format!("the URL is longer than {URL_BYTES_MAX} bytes"));
    }
    Ok(url)
}

/// Makes the request of a method.
///
/// # Errors
///
/// What is wrong with an argument.
pub(super) fn draft(
    base: &Url,
    body_kind: BodyKind,
    method: &ClientMethod,
    args: &Map<String, Value>,
    page: &PageParams,
) -> Result<Draft, String> {
    let path = path(method, args)?;
    let mut parts = Parts::default();
    for arg in &method.args {
        let Some(value) = args.get(&arg.name) else { continue };
        let name = arg.at.as_deref().unwrap_or(&arg.name);
        parts.put(method.place_of(arg), name, value)?;
    }
    parts.page(method, page)?;
    let nesting = if body_kind == BodyKind::Form { Nesting::Brackets } else { Nesting::Repeated };
    let url = at(base, &path, &form(&pairs(&parts.query, nesting)))?;
    let draft = Draft { verb: method.verb().to_owned(), url, headers: parts.headers, body: Bytes::new() };
    let kind = method.body.unwrap_or(body_kind);
    let takes_body = method.args.iter().any(|arg| method.place_of(arg) == ArgPlace::Body)
        || !method.fixed.is_empty()
        || !method.document.is_empty();
    let draft = if takes_body { body(draft, kind, method, parts.body)? } else { draft };
    sized(draft)
}

/// Makes the request of the raw method.
///
/// # Errors
///
/// What is wrong with an argument.
pub(super) fn raw(base: &Url, kind: BodyKind, args: &Map<String, Value>) -> Result<Draft, String> {
    let path = args.get("path").and_then(Value::as_str).unwrap_or_default();
    if !path.starts_with('/') || path.contains(['?', '#', '\\']) {
        return Err("`path`: expected one such as /users/me; a query goes into `query`".to_owned());
    }
    let none = Map::new();
    let query = args.get("query").and_then(Value::as_object).unwrap_or(&none);
    let nesting = if kind == BodyKind::Form { Nesting::Brackets } else { Nesting::Repeated };
    let url = at(base, &utf8_percent_encode(path, RAW_PATH).to_string(), &form(&pairs(query, nesting)))?;
    let body = args.get("body");
    let usual = if body.is_some() { "POST" } else { "GET" };
    let verb = args.get("method").and_then(Value::as_str).unwrap_or(usual).to_owned();
    let draft = Draft { verb, url, headers: Vec::new(), body: Bytes::new() };
    let Some(body) = body else { return Ok(draft) };
    if draft.verb == "GET" {
        return Err("`body`: a GET has none".to_owned());
    }
    let draft = match (kind, body) {
        (BodyKind::Json | BodyKind::Graphql, body) => draft.content("application/json", body.to_string()),
        (_, Value::Object(fields)) => draft.content(FORM, form(&pairs(fields, nesting_of(kind)))),
        _ => return Err("`body`: expected an object, the fields of a form".to_owned()),
    };
    sized(draft)
}

const FORM: &str = "application/x-www-form-urlencoded";

fn nesting_of(kind: BodyKind) -> Nesting {
    if kind == BodyKind::FormJson { Nesting::Json } else { Nesting::Brackets }
}

fn sized(draft: Draft) -> Result<Draft, String> {
    if draft.body.len() > REQUEST_BYTES_MAX {
        return Err(format!("the body is larger than {REQUEST_BYTES_MAX} bytes"));
    }
    Ok(draft)
}

fn path(method: &ClientMethod, args: &Map<String, Value>) -> Result<String, String> {
    let mut path = String::new();
    for part in method.path_parts().ok_or("the entry's path has braces that do not match")? {
        match part {
            PathPart::Text(text) => path.push_str(text),
            PathPart::Arg(name) => {
                let text = args.get(name).and_then(scalar).filter(|text| !text.is_empty());
                path.push_str(&segment(&text.ok_or_else(|| format!("`{name}` is empty"))?));
            }
        }
    }
    Ok(path)
}

/// Arguments by where they go.
#[derive(Default)]
struct Parts {
    query: Map<String, Value>,
    headers: Vec<(String, String)>,
    body: Vec<(String, Value)>,
}

impl Parts {
    fn put(&mut self, place: ArgPlace, name: &str, value: &Value) -> Result<(), String> {
        match place {
            ArgPlace::Path => {}
            ArgPlace::Query => drop(self.query.insert(name.to_owned(), value.clone())),
            ArgPlace::Body => self.body.push((name.to_owned(), value.clone())),
            ArgPlace::Header => {
                let text = scalar(value).unwrap_or_default();
                if HeaderValue::from_str(&text).is_err() {
                    return Err(format!("`{name}`: it holds what a header cannot carry"));
                }
                self.headers.push((name.to_owned(), text));
            }
        }
        Ok(())
    }

    fn page(&mut self, method: &ClientMethod, page: &PageParams) -> Result<(), String> {
        let Some(pages) = &method.pages else { return Ok(()) };
        if let Some(size) = page.size {
            self.put(method.usual_place(), &pages.size, &size.into())?;
        }
        match &page.cursor {
            Some(cursor) if pages.by != PageKind::Link => {
                self.put(method.usual_place(), &pages.into, &cursor.as_str().into())
            }
            _ => Ok(()),
        }
    }
}

fn body(
    draft: Draft,
    kind: BodyKind,
    method: &ClientMethod,
    given: Vec<(String, Value)>,
) -> Result<Draft, String> {
    let fixed = serde_json::to_value(&method.fixed).map_err(|error| error.to_string())?;
    let mut fields = match fixed {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    for (name, value) in given {
        match (name.as_str(), value) {
            ("", Value::Object(all)) => fields.extend(all),
            // Only the loader's `any` comes here: a body that is no object.
            ("", other) => return Ok(draft.content("application/json", other.to_string())),
            (name, value) if kind == BodyKind::Json && name.starts_with('/') => {
                insert(&mut fields, &name[1..], value);
            }
            (_, value) => drop(fields.insert(name, value)),
        }
    }
    Ok(match kind {
        BodyKind::Json => draft.content("application/json", Value::Object(fields).to_string()),
        BodyKind::Graphql => {
            let body = json!({"query": method.document, "variables": fields});
            draft.content("application/json", body.to_string())
        }
        BodyKind::Form | BodyKind::FormJson => draft.content(FORM, form(&pairs(&fields, nesting_of(kind)))),
    })
}

/// Puts a value where a JSON pointer without its first slash says, making objects on the way.
fn insert(fields: &mut Map<String, Value>, pointer: &str, value: Value) {
    match pointer.split_once('/') {
        None => drop(fields.insert(unescaped(pointer), value)),
        Some((first, rest)) => {
            let inner = fields.entry(unescaped(first)).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// Returns how many items of a page are asked for, where they can be.
pub(super) fn page_size(pages: &ClientPages, left: Option<u64>, all: bool) -> Option<u64> {
    match left {
        _ if pages.size.is_empty() => None,
        Some(left) => Some(left.clamp(1, pages.size_max)),
        None => all.then_some(pages.size_max),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::{ArgType, ClientArg, ClientCode, ProviderCatalog};
    use crate::connector::client::args::Args;

    fn method(text: &str) -> ClientMethod {
        toml::from_str(&format!("name = \"m\"\nabout = \"x\"\n{text}")).unwrap()
    }

    fn base() -> Url {
        "https://api.acme.example/v1".parse().unwrap()
    }

    fn drafted(text: &str, kind: BodyKind, args: Value) -> Result<Draft, String> {
        draft(&base(), kind, &method(text), args.as_object().unwrap(), &PageParams::default())
    }

    /// Tells a request in one line.
    fn told(draft: &Draft) -> String {
        let body = String::from_utf8_lossy(&draft.body);
        format!("{} {} {body}", draft.verb, draft.url).trim_end().to_owned()
    }

    #[track_caller]
    fn check(text: &str, kind: BodyKind, args: Value, expected: &str) {
        assert_eq!(told(&drafted(text, kind, args).unwrap()), expected);
    }

    #[test]
    fn a_page_is_asked_for_by_size_where_the_provider_has_a_parameter_for_it() {
        let cursor = "by = \"cursor\"\nfrom = \"/next\"\ninto = \"c\"\n";
        let sized: ClientPages = toml::from_str(&format!("{cursor}size = \"n\"\nsize_max = 50")).unwrap();
        assert_eq!(page_size(&sized, None, true), Some(50));
        assert_eq!(page_size(&sized, Some(7), false), Some(7));
        assert_eq!(page_size(&sized, None, false), None);
        let unsized_pages: ClientPages = toml::from_str(cursor).unwrap();
        assert_eq!(page_size(&unsized_pages, Some(7), true), None);
    }

    const COMMENT: &str = "request = \"POST /repos/{owner}/issues/{number}\"\nargs = [\n\
        { name = \"owner\", about = \"x\" }, { name = \"number\", type = \"integer\", about = \"x\" },\n\
        { name = \"body\", about = \"x\" }, { name = \"labels\", type = \"array\", about = \"x\" },\n\
        { name = \"title\", at = \"/meta/title\", about = \"x\" },\n\
        { name = \"draft\", type = \"boolean\", in = \"query\", at = \"is_draft\", about = \"x\" }]";

    #[test]
    fn arguments_go_where_the_entry_says() {
        check(
            COMMENT,
            BodyKind::Json,
            json!({"owner": "a/b ü", "number": 7, "body": "hi", "labels": ["x"], "title": "t", "draft": true}),
            "POST https://api.acme.example/v1/repos/a%2Fb%20%C3%BC/issues/7?is_draft=true \
             {\"body\":\"hi\",\"labels\":[\"x\"],\"meta\":{\"title\":\"t\"}}",
        );
        check(
            COMMENT,
            BodyKind::Json,
            json!({"owner": "a", "number": 7}),
            "POST https://api.acme.example/v1/repos/a/issues/7 {}",
        );
        let list = "request = \"GET /items\"\nargs = [{ name = \"ids\", type = \"array\", about = \"x\" }]";
        let args = json!({"ids": ["a&b", 2]});
        check(list, BodyKind::Json, args.clone(), "GET https://api.acme.example/v1/items?ids=a%26b&ids=2");
        check(
            list,
            BodyKind::Form,
            args,
            "GET https://api.acme.example/v1/items?ids%5B0%5D=a%26b&ids%5B1%5D=2",
        );
    }

    #[test]
    fn bodies_are_written_as_their_kind_has_them() {
        let text = "request = \"POST /a\"\nfixed = { kind = \"note\" }\nargs = [\n\
            { name = \"to\", about = \"x\" }, { name = \"meta\", type = \"object\", about = \"x\" }]";
        let args = json!({"to": "a b", "meta": {"k": [1]}});
        let url = "POST https://api.acme.example/v1/a";
        let json = format!("{url} {{\"kind\":\"note\",\"meta\":{{\"k\":[1]}},\"to\":\"a b\"}}");
        check(text, BodyKind::Json, args.clone(), &json);
        check(text, BodyKind::Form, args.clone(), &format!("{url} kind=note&meta%5Bk%5D%5B0%5D=1&to=a+b"));
        let form_json = format!("{url} kind=note&meta=%7B%22k%22%3A%5B1%5D%7D&to=a+b");
        check(text, BodyKind::FormJson, args, &form_json);
        let graphql = "request = \"POST /graphql\"\nbody = \"graphql\"\n\
            document = \"query($id: ID!) { a(id: $id) }\"\nargs = [{ name = \"id\", about = \"x\" }]";
        check(
            graphql,
            BodyKind::Json,
            json!({"id": "7"}),
            "POST https://api.acme.example/v1/graphql \
             {\"query\":\"query($id: ID!) { a(id: $id) }\",\"variables\":{\"id\":\"7\"}}",
        );
        let whole =
            "request = \"POST /a\"\nargs = [{ name = \"all\", type = \"object\", at = \"\", about = \"x\" }]";
        check(whole, BodyKind::Json, json!({"all": {"a": 1}}), &format!("{url} {{\"a\":1}}"));
    }

    #[test]
    fn no_argument_leaves_its_segment() {
        let text = "request = \"GET /a/{id}/b\"\nargs = [{ name = \"id\", about = \"x\" }]";
        for bad in ["", ".", ".."] {
            assert!(drafted(text, BodyKind::Json, json!({ "id": bad })).is_err(), "{bad:?}");
        }
        for odd in ["../x", "%2e%2e", "a/../..", "..\\x", "a?b#c", "\u{0}\n", "//evil.example/"] {
            let draft = drafted(text, BodyKind::Json, json!({ "id": odd })).unwrap();
            assert_eq!(draft.url.path().split('/').count(), 5, "{odd:?} {}", draft.url);
            assert_eq!((draft.url.host_str(), draft.url.query()), (Some("api.acme.example"), None));
        }
    }

    #[test]
    fn a_raw_path_stays_below_the_base_url() {
        let raw = |args: Value| raw(&base(), BodyKind::Json, args.as_object().unwrap());
        let check = |args: Value, expected: &str| assert_eq!(told(&raw(args).unwrap()), expected);
        check(json!({"path": "/a/b c"}), "GET https://api.acme.example/v1/a/b%20c");
        check(
            json!({"path": "/a", "query": {"q": "x y"}, "body": {"a": 1}}),
            "POST https://api.acme.example/v1/a?q=x+y {\"a\":1}",
        );
        check(json!({"path": "//evil.example/"}), "GET https://api.acme.example/v1//evil.example/");
        for bad in
            ["", "a", "https://evil.example/", "/a/../../b", "/%2e%2e/b", "/a/.", "/a?b", "/a#b", "/\\b"]
        {
            assert!(raw(json!({ "path": bad })).is_err(), "{bad:?}");
        }
        assert!(raw(json!({"path": "/a", "method": "GET", "body": 1})).is_err());
    }

    #[test]
    fn a_header_that_cannot_be_written_is_refused() {
        let text = "request = \"GET /a\"\nargs = [{ name = \"x\", in = \"header\", about = \"x\" }]";
        assert!(drafted(text, BodyKind::Json, json!({"x": "a\r\nb: c"})).is_err());
        let draft = drafted(text, BodyKind::Json, json!({"x": "a"})).unwrap();
        assert_eq!(draft.headers, [("x".to_owned(), "a".to_owned())]);
    }

    /// Any JSON.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let fields = proptest::collection::btree_map(any::<String>(), inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// A value that suits an argument, made of any.
    fn suiting(arg: &ClientArg, value: &Value) -> Value {
        match arg.kind {
            _ if !arg.values.is_empty() => json!(arg.values[0]),
            ArgType::String => json!(value.to_string()),
            ArgType::Integer | ArgType::Number => json!(7),
            ArgType::Boolean => json!(true),
            ArgType::Object => json!({ "any": value }),
            ArgType::Array => json!([value]),
            ArgType::Any => value.clone(),
        }
    }

    /// Makes the request of any method of any client of the catalogue, if the arguments suit.
    fn any_request(value: &Value, is_suiting: bool) {
        for entry in ProviderCatalog::built_in().entries() {
            let Some(client) = &entry.client else { continue };
            for method in client.all_methods() {
                let of = |arg: &ClientArg| if is_suiting { suiting(arg, value) } else { value.clone() };
                let args = method.args.iter().map(|arg| (arg.name.clone(), of(arg)));
                let Ok(args) = Args::read(&method, Value::Object(args.collect())) else { continue };
                let made = match method.code {
                    Some(ClientCode::Raw) => raw(&base(), client.body, &args.own),
                    _ => draft(&base(), client.body, &method, &args.own, &PageParams::default()),
                };
                let host = made.as_ref().ok().and_then(|draft| draft.url.host_str());
                assert!(host.is_none_or(|host| host == "api.acme.example"), "{}", method.name);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_arguments_make_a_panic(value in any_json()) {
            any_request(&value, false);
            any_request(&value, true);
        }

        #[test]
        fn any_arguments_stay_with_their_host(id in any::<String>(), path in any::<String>(), body in any::<String>()) {
            let args = json!({"owner": id, "number": 1, "body": body});
            if let Ok(draft) = drafted(COMMENT, BodyKind::Json, args) {
                prop_assert_eq!(draft.url.host_str(), Some("api.acme.example"));
                prop_assert!(draft.url.path().starts_with("/v1/repos/"));
                let read: Value = serde_json::from_slice(&draft.body).unwrap();
                prop_assert_eq!(&read["body"], &json!(body));
            }
            let args = json!({"path": format!("/{path}"), "query": {"q": body}});
            if let Ok(draft) = raw(&base(), BodyKind::Json, args.as_object().unwrap()) {
                prop_assert_eq!(draft.url.host_str(), Some("api.acme.example"));
                prop_assert!(draft.url.path().starts_with("/v1/"));
                let read = draft.url.query_pairs().next().unwrap().1.into_owned();
                prop_assert_eq!(read, body);
            }
        }
    }
}
