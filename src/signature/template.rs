//! Templates: text with placeholders that stand for parts of a request.
//!
//! `{body} {timestamp} {id} {key_id} {head} {url} {url.with-port} {url.without-port} {host} {path} {target} {query}
//! {query.sorted} {method} {form.sorted} {secret} {secret:name}` and any location, each with filters behind it:
//! `{header:X-Host|lower}`. What stands in brackets is left out as a whole when a value in it is absent or
//! empty: `{header:X-GitHub-Event}[.{json:/action}]`. A brace or bracket that is meant literally is doubled.
//!
//! Filters apply to several parts as one where these stand in a group: `{({query:code}{secret})|sha256|hex}`.
//!
//! - `{headers:LOCATION}`: the headers that a list names, `name:value` in the order of names, joined by `;`
//! - `{headers.lines:LOCATION}`: the same as lines, `Name: value`, in the order and spelling of the list
//! - `{form.php:FIELD}`: all form fields but one, as PHP serializes an array of texts, in the order of names
//! - `{body.keyed:/POINTER}`: the JSON body with the secret in the place of the string at the pointer

mod parse;

use std::borrow::Cow;

use super::items::with_string_at;
use super::listed::Listed;
use super::{Error, Fields, Filter, Location, Pointer, Slot, Values};

/// Most parts of one template.
const PARTS_MAX: usize = 64;
/// What filling a template may cost, in passes over the longest of its values: that may be a body, and
/// filters may lengthen it. The catalogue's dearest template makes 20.
const PASSES_MAX: usize = 32;

/// What taking a form apart, sorting its fields and writing them costs.
const SORTED_FORM_PASSES: usize = 4;
/// How many times as long as the form its fields may be as PHP serializes them.
const PHP_FORM_GROWTH: usize = 8;

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Value(Source, Vec<Filter>),
    Optional(Vec<Part>),
    Group(Vec<Part>, Vec<Filter>),
}

impl Part {
    /// Returns the parts that it consists of.
    fn inner(&self) -> &[Part] {
        match self {
            Part::Optional(inner) | Part::Group(inner, _) => inner,
            other => std::slice::from_ref(other),
        }
    }

    fn passes(&self) -> usize {
        let inner = || self.inner().iter().map(Part::passes).sum::<usize>();
        match self {
            Part::Text(_) => 0,
            Part::Value(source, filters) => {
                let (passes, length) = source.passes();
                passes + length * Filter::passes(filters)
            }
            Part::Optional(_) => inner(),
            // What the values cost is no less than their length.
            Part::Group(_, filters) => inner() * (2 + Filter::passes(filters)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Body,
    Timestamp,
    Id,
    KeyId,
    Head,
    Url,
    UrlWithPort,
    UrlWithoutPort,
    Host,
    Path,
    Target,
    Query,
    SortedQuery,
    Method,
    SortedForm,
    Secret,
    Named(String),
    /// The headers that the value at the slot lists.
    Listed(Slot),
    /// The same, as lines.
    ListedLines(Slot),
    /// The form without a field, in PHP's form.
    PhpForm(String),
    /// The body with the secret in the place of a string.
    KeyedBody(Pointer),
    At(Slot),
}

impl Source {
    /// Tells whether it is the registered URL with its query, in one of its forms.
    fn is_whole_url(&self) -> bool {
        matches!(self, Source::Url | Source::UrlWithPort | Source::UrlWithoutPort)
    }

    /// Tells whether it is made of the URL that is registered at the provider.
    fn is_registered(&self) -> bool {
        self.is_whole_url() || *self == Source::Host
    }

    fn is_whole_body(&self) -> bool {
        matches!(self, Source::Body | Source::SortedForm | Source::PhpForm(_) | Source::KeyedBody(_))
    }

    /// Returns what writing it costs in passes over the longest value, and how many times as long as that it may be.
    fn passes(&self) -> (usize, usize) {
        match self {
            Source::SortedForm => (SORTED_FORM_PASSES, 1),
            Source::PhpForm(_) => (SORTED_FORM_PASSES + PHP_FORM_GROWTH, PHP_FORM_GROWTH),
            // Each step into the body reads it anew.
            Source::KeyedBody(pointer) => (1 + 2 * pointer.tokens().len(), 1),
            _ => (1, 1),
        }
    }
}

/// What a template is filled from.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The request's values.
    pub values: &'a Values<'a>,
    /// The signed time's text, verbatim.
    pub timestamp: Option<&'a [u8]>,
    /// The delivery's id.
    pub id: Option<&'a [u8]>,
    /// Which of the sender's keys was used, as it says.
    pub key_id: Option<&'a [u8]>,
    /// What the proof itself says, as it is signed.
    pub head: Option<&'a [u8]>,
    /// The secret whose proof is computed.
    pub secret: Option<&'a [u8]>,
    /// The key of filters that need one.
    pub key: Option<&'a [u8]>,
}

impl<'a> Context<'a> {
    /// Fills from the request's values alone.
    pub fn of(values: &'a Values<'a>) -> Self {
        Self { values, timestamp: None, id: None, key_id: None, head: None, secret: None, key: None }
    }

    fn get(&self, source: &Source) -> Option<Cow<'a, [u8]>> {
        let request = self.values.request();
        let owned = |text: String| Cow::Owned(text.into_bytes());
        match source {
            Source::Body => Some(Cow::Borrowed(request.body)),
            Source::Timestamp => self.timestamp.map(Cow::Borrowed),
            Source::Id => self.id.map(Cow::Borrowed),
            Source::KeyId => self.key_id.map(Cow::Borrowed),
            Source::Head => self.head.map(Cow::Borrowed),
            Source::Url => request.registered_url().map(owned),
            Source::UrlWithPort => request.url_with_port().map(owned),
            Source::UrlWithoutPort => request.url_without_port().map(owned),
            Source::Host => request.host().map(|host| Cow::Borrowed(host.as_bytes())),
            Source::Path => Some(Cow::Borrowed(request.path().as_bytes())),
            Source::Target => Some(Cow::Borrowed(request.url.as_bytes())),
            Source::Query => Some(Cow::Borrowed(request.query().as_bytes())),
            Source::SortedQuery => Some(owned(request.sorted_query())),
            Source::Method => Some(Cow::Borrowed(request.method.as_bytes())),
            Source::SortedForm => Some(owned(request.sorted_form())),
            Source::Secret => self.secret.map(Cow::Borrowed),
            Source::Named(name) => self.values.secret(name).map(Cow::Borrowed),
            Source::Listed(slot) => {
                Listed::new(&self.values.text(*slot)?, request).map(|listed| owned(listed.sorted()))
            }
            Source::ListedLines(slot) => {
                Listed::new(&self.values.text(*slot)?, request).map(|listed| owned(listed.lines()))
            }
            Source::PhpForm(without) => request.php_form(without).map(owned),
            Source::KeyedBody(pointer) => with_string_at(request.body, pointer, self.secret?).map(Cow::Owned),
            Source::At(slot) => self.values.get(*slot),
        }
    }

    fn describe(&self, source: &Source) -> String {
        match source {
            Source::Body => "the body".to_owned(),
            Source::Timestamp => "the timestamp".to_owned(),
            Source::Id => "the delivery's id".to_owned(),
            Source::KeyId => "the key's id".to_owned(),
            Source::Head => "the head of the proof".to_owned(),
            Source::Url | Source::UrlWithPort | Source::UrlWithoutPort | Source::Host => {
                "the public URL (set server.public_url)".to_owned()
            }
            Source::Path => "the path".to_owned(),
            Source::Target => "path and query".to_owned(),
            Source::Query | Source::SortedQuery => "the query".to_owned(),
            Source::Method => "the method".to_owned(),
            Source::SortedForm => "the form".to_owned(),
            Source::Secret => "the secret".to_owned(),
            Source::Named(name) => format!("the secret {name}"),
            Source::Listed(slot) | Source::ListedLines(slot) => {
                format!("the headers that {} lists, each once,", self.values.location(*slot))
            }
            Source::PhpForm(_) => "a form whose fields are words and stand there once".to_owned(),
            Source::KeyedBody(pointer) => format!("the string at {pointer} of the body"),
            Source::At(slot) => self.values.location(*slot).to_string(),
        }
    }
}

impl Template {
    /// Compiles a template; the locations that it names are added to `fields`.
    ///
    /// # Errors
    ///
    /// If braces or brackets do not match, or a placeholder or filter is unknown.
    pub fn new(text: &str, fields: &mut Fields) -> Result<Self, Error> {
        Self::compile(text, fields, false)
    }

    /// Compiles the template of what is signed, whose values may be long.
    pub(super) fn signed(text: &str, fields: &mut Fields) -> Result<Self, Error> {
        Self::compile(text, fields, true)
    }

    fn compile(text: &str, fields: &mut Fields, signed: bool) -> Result<Self, Error> {
        let template = Self { parts: parse::parts(text, fields, signed)? };
        let error = |what| Error::Template { text: text.to_owned(), what };
        if template.parts.len().max(template.flat().count()) > PARTS_MAX {
            return Err(error(format!("it has more than {PARTS_MAX} parts")));
        }
        let passes: usize = template.parts.iter().map(Part::passes).sum();
        if passes > PASSES_MAX {
            let what = format!("filling it may take {passes} passes over a value, more than {PASSES_MAX}");
            return Err(error(what));
        }
        Ok(template)
    }

    /// Hands the filled template out piece by piece; the body is not copied.
    ///
    /// # Errors
    ///
    /// The name of a value that is absent or that a filter cannot read.
    pub fn write(&self, context: &Context<'_>, out: &mut impl FnMut(&[u8])) -> Result<(), String> {
        write_parts(&self.parts, context, out)
    }

    /// Returns the filled template.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn fill(&self, context: &Context<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        self.write(context, &mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    /// Returns the filled template as text, or nothing if a value outside of brackets is absent or
    /// empty.
    pub fn text(&self, values: &Values<'_>) -> Option<String> {
        let context = Context::of(values);
        if !is_complete(&self.parts, &context) {
            return None;
        }
        Some(String::from_utf8_lossy(&self.fill(&context).ok()?).into_owned())
    }

    /// Tells whether the whole body is part of the template, as it is or as all fields of a form. A
    /// checksum of it does not count: another body of the same checksum is easily made.
    pub fn covers_body(&self) -> bool {
        let is_kept = |filters: &[Filter]| !filters.contains(&Filter::Crc32);
        let is_body = |part: &Part| match part {
            Part::Value(source, filters) => source.is_whole_body() && is_kept(filters),
            _ => false,
        };
        self.parts.iter().any(|part| match part {
            Part::Group(_, filters) if !is_kept(filters) => false,
            part => part.inner().iter().any(is_body),
        })
    }

    /// Tells whether the template takes the body as a form.
    pub(super) fn reads_form(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::SortedForm | Source::PhpForm(_)))
    }

    /// Tells whether what the proof itself says is part of the template.
    pub(super) fn covers_head(&self) -> bool {
        self.sources().any(|source| *source == Source::Head)
    }

    /// Tells whether the signed time is part of the template.
    pub fn covers_timestamp(&self) -> bool {
        self.sources().any(|source| *source == Source::Timestamp)
    }

    /// Tells whether the URL, or its path, is part of the template.
    pub fn covers_url(&self) -> bool {
        self.sources().any(|source| source.is_registered() || matches!(source, Source::Path | Source::Target))
    }

    /// Tells whether the delivery's id is part of the template.
    pub fn covers_id(&self) -> bool {
        self.sources().any(|source| *source == Source::Id)
    }

    /// Tells whether the URL's query is part of the template.
    pub(super) fn covers_query(&self) -> bool {
        self.sources().any(|source| {
            source.is_whole_url() || matches!(source, Source::Target | Source::Query | Source::SortedQuery)
        })
    }

    /// Tells whether the template needs the URL under which the provider knows the trigger.
    pub fn needs_public_url(&self) -> bool {
        self.sources().any(Source::is_registered)
    }

    /// Tells whether the secret itself is part of the template.
    pub(super) fn covers_secret(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::Secret | Source::KeyedBody(_)))
    }

    /// Returns the name of a secret that the template needs and the trigger does not have.
    pub fn lacks_secret<'t>(&'t self, values: &Values<'_>) -> Option<&'t str> {
        self.sources().find_map(|source| match source {
            Source::Named(name) if values.secret(name).is_none() => Some(name.as_str()),
            _ => None,
        })
    }

    /// Returns the locations of lists of signed headers.
    pub(super) fn lists(&self) -> impl Iterator<Item = Slot> + '_ {
        self.sources().filter_map(|source| match source {
            Source::Listed(slot) | Source::ListedLines(slot) => Some(*slot),
            _ => None,
        })
    }

    /// Tells whether a filter of the template needs a key.
    pub fn is_keyed(&self) -> bool {
        let keyed = |part: &Part| match part {
            Part::Value(_, filters) | Part::Group(_, filters) => filters.iter().any(Filter::is_keyed),
            _ => false,
        };
        self.parts.iter().any(keyed) || self.flat().any(keyed)
    }

    /// Returns the locations that the template names.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.sources().filter_map(|source| match source {
            Source::At(slot) | Source::Listed(slot) | Source::ListedLines(slot) => Some(*slot),
            _ => None,
        })
    }

    /// Splits a filled text back into the headers that it was made of, as far as that is possible
    /// without guessing: each header takes what stands before the next literal text.
    pub fn headers_of(&self, text: &str, fields: &Fields) -> Vec<(String, String)> {
        let flat: Vec<&Part> = self.flat().collect();
        let mut headers = Vec::new();
        let mut rest = text;
        for (i, part) in flat.iter().enumerate() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str()).unwrap_or(rest),
                Part::Value(source, _) => {
                    let next = flat.get(i + 1).and_then(|next| match next {
                        Part::Text(text) => rest.find(text.as_str()),
                        _ => None,
                    });
                    let (value, after) = rest.split_at(next.unwrap_or(rest.len()));
                    if let Source::At(slot) = source
                        && let Location::Header(name) = fields.location(*slot)
                        && !value.is_empty()
                    {
                        headers.push((name.clone(), value.to_owned()));
                    }
                    rest = after;
                }
                Part::Optional(_) | Part::Group(..) => unreachable!("flat() opens them"),
            }
        }
        headers
    }

    fn flat(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().flat_map(Part::inner)
    }

    fn sources(&self) -> impl Iterator<Item = &Source> + '_ {
        self.flat().filter_map(|part| match part {
            Part::Value(source, _) => Some(source),
            _ => None,
        })
    }
}

fn write_parts(parts: &[Part], context: &Context<'_>, out: &mut dyn FnMut(&[u8])) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out(text.as_bytes()),
            Part::Value(source, filters) => {
                let value = context.get(source).ok_or_else(|| context.describe(source))?;
                let value = Filter::apply_keyed(filters, context.key, &value);
                out(&value.ok_or_else(|| context.describe(source))?);
            }
            Part::Optional(inner) if is_complete(inner, context) => {
                // Brackets hold no brackets, so this goes one level deep.
                write_parts(inner, context, out)?;
            }
            Part::Group(inner, filters) => {
                let mut joined = Vec::new();
                write_parts(inner, context, &mut |bytes| joined.extend_from_slice(bytes))?;
                let value = Filter::apply_keyed(filters, context.key, &joined);
                out(&value.ok_or_else(|| "a group that its filters can read".to_owned())?);
            }
            Part::Optional(_) => {}
        }
    }
    Ok(())
}

fn is_complete(parts: &[Part], context: &Context<'_>) -> bool {
    parts.iter().all(|part| match part {
        Part::Value(source, _) => context.get(source).is_some_and(|value| !value.is_empty()),
        Part::Group(inner, _) => is_complete(inner, context),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::event::Header;
    use crate::signature::{Named, Request};

    fn headers() -> Vec<Header> {
        vec![
            ("x-event".into(), "pull_request".into()),
            ("x-empty".into(), "".into()),
            ("x-signed".into(), "X-Event, x-signed".into()),
        ]
    }

    fn fill(template: &str, body: &str) -> Result<String, String> {
        let mut fields = Fields::default();
        let template = Template::new(template, &mut fields).unwrap();
        let headers = headers();
        let request = Request {
            method: "POST",
            url: "/hook?b=2&a=1",
            public_url: Some("https://example.com/hook"),
            headers: &headers,
            body: body.as_bytes(),
        };
        let values = Values::new(&fields, request);
        let named = Named::from([("token".to_owned(), Zeroizing::new(b"t0k".to_vec()))]);
        let values = values.with_named(&named);
        let context = Context {
            timestamp: Some(b"0017"),
            id: Some(b"id1"),
            key_id: Some(b"k1"),
            secret: Some(b"s3c"),
            key: Some(b"key"),
            ..Context::of(&values)
        };
        Ok(String::from_utf8(template.fill(&context)?).unwrap())
    }

    fn check(template: &str, body: &str, expected: &str) {
        assert_eq!(fill(template, body).as_deref(), Ok(expected), "{template}");
    }

    #[test]
    fn placeholders_stand_for_parts_of_the_request() {
        check("v0:{timestamp}:{body}", "b", "v0:0017:b");
        check("{id}.{timestamp}.{body}", "b", "id1.0017.b");
        check("{method} {path} {url}", "", "POST /hook https://example.com/hook?b=2&a=1");
        check("{host} {target} {query} {query.sorted}", "", "example.com /hook?b=2&a=1 b=2&a=1 a=1&b=2");
        check("{url.with-port}", "", "https://example.com:443/hook?b=2&a=1");
        check("{url.without-port}", "", "https://example.com/hook?b=2&a=1");
        check("{secret} {secret:token} {key_id}", "", "s3c t0k k1");
        check("{headers:header:X-Signed}", "", "x-event:pull_request;x-signed:X-Event, x-signed");
        check("{headers.lines:header:X-Signed}", "", "X-Event: pull_request\nx-signed: X-Event, x-signed\n");
        check("{body.keyed:/a}", r#"{"a": "x"}"#, r#"{"a": "s3c"}"#);
        check("{body|hmac-sha1|hex}", "x", "2a00e8e8343df86c4c188b263eeca331afa31548");
        check("{query:a}{json:/x|base64}", r#"{"x": "hi"}"#, "1aGk=");
        check("{body|sha256|hex}", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn brackets_drop_out_with_their_values() {
        let kind = "{header:X-Event}[.{json:/action}]";
        check(kind, r#"{"action": "opened"}"#, "pull_request.opened");
        check(kind, r#"{"action": ""}"#, "pull_request");
        check(kind, "not json", "pull_request");
        check("a[{header:X-Empty}b]c", "", "ac");
    }

    #[test]
    fn filters_apply_to_a_group_as_one() {
        check("{({query:a}){timestamp})|base64}!", "", "MSkwMDE3!");
        check("{({method} {path})|lower}{({id})}", "", "post /hookid1");
        assert_eq!(fill("{({header:X-None})|hex}", ""), Err("header x-none".to_owned()));
        assert_eq!(fill("{({id})|unhex}", ""), Err("a group that its filters can read".to_owned()));
    }

    #[test]
    fn a_checksum_of_the_body_does_not_cover_it() {
        let covers = |text: &str| Template::new(text, &mut Fields::default()).unwrap().covers_body();
        for good in ["{body}", "{(x{body})|sha256}", "{form.php:sig}", "{body.keyed:/a}", "[{body}]"] {
            assert!(covers(good), "{good}");
        }
        for bad in ["{body|crc32}", "{(x{body})|crc32}", "{(x{body|crc32})|sha256}", "{headers:header:X}"] {
            assert!(!covers(bad), "{bad}");
        }
    }

    #[test]
    fn doubled_braces_and_brackets_are_literal() {
        check("{{{timestamp}}}[[x]]", "", "{0017}[x]");
    }

    #[test]
    fn an_absent_value_is_named() {
        assert_eq!(fill("{header:X-None}", ""), Err("header x-none".to_owned()));
        assert_eq!(fill("{json:/a/b}", "{}"), Err("body field /a/b".to_owned()));
    }

    #[test]
    fn broken_templates_are_refused() {
        for bad in [
            "{",
            "}",
            "[",
            "]",
            "{nope}",
            "[[{body}]",
            "[a[b]]",
            "{body|rot13}",
            "{header:}",
            "{(",
            "{(a",
            "{(a)",
            "{({(a)})}",
            "[{(a)}]",
            "{([a])}",
            "{(a)|rot13}",
            "{headers:X}",
            "{body.keyed:a}",
        ] {
            assert!(Template::new(bad, &mut Fields::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_would_cost_too_much_is_refused() {
        let refused = |text: &str| Template::new(text, &mut Fields::default()).is_err();
        let twice = |text: &str, times: usize| [text.repeat(times), text.repeat(times + 1)];
        for [good, bad] in [
            twice("{body}", 32),
            twice("[{header:X-A}]", 32),
            twice("{form.sorted}", 8),
            twice("{form.php:a}", 2),
            ["{({body})|hex|hex}".to_owned(), "{({body}{body}{body})|hex|hex|hex}".to_owned()],
            twice("{body|hex|hex|hex}", 2),
            ["{body|hex|hex|hex|hex}".to_owned(), "{body|hex|hex|hex|hex|hex}".to_owned()],
            ["x".to_owned(), "[]".repeat(65)],
            ["x".repeat(100_000), format!("[{}]", "x{body}".repeat(128))],
        ] {
            assert!(!refused(&good), "{good}");
            assert!(refused(&bad), "{bad}");
        }
    }

    #[test]
    fn headers_are_split_out_of_a_kind() {
        let mut fields = Fields::default();
        let template = Template::new("{header:X-GitHub-Event}[.{json:/action}]", &mut fields).unwrap();
        let header = |value: &str| vec![("x-github-event".to_owned(), value.to_owned())];
        assert_eq!(template.headers_of("pull_request.opened", &fields), header("pull_request"));
        assert_eq!(template.headers_of("push", &fields), header("push"));
    }
}
