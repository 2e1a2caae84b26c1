//! The values of one request that a scheme or a kind asks for.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use zeroize::Zeroizing;

use super::json::{Extract, SIGNED_VALUE_BYTES_MAX, Tree, VALUE_BYTES_MAX, float_text};
use super::{Location, Pointer, form, items, multipart, packed};
use crate::event::Header;

/// A request as a scheme sees it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Path and query as sent.
    pub url: &'a str,
    /// The URL as it is registered at the provider, without its query.
    pub public_url: Option<&'a str>,
    /// Headers in the order sent, names in lower case.
    pub headers: &'a [Header],
    /// The raw body.
    pub body: &'a [u8],
}

/// A header that a proof rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// Not there.
    Nothing,
    /// There, once or several times with the same value.
    One(&'a [u8]),
    /// There with different values: nobody can say which one is meant.
    Conflict,
}

/// Finds where the port of an absolute URL begins, with its colon, and where it ends; both are the same place
/// where there is none.
fn port_of(url: &str) -> Option<(usize, usize)> {
    let begin = url.find("://")? + 3;
    let end = url[begin..].find(['/', '?']).map_or(url.len(), |at| begin + at);
    // The colons within brackets are those of an address.
    let brackets = url[begin..end].find(']').map_or(begin, |at| begin + at);
    Some((url[brackets..end].find(':').map_or(end, |at| brackets + at), end))
}

impl<'a> Request<'a> {
    /// Returns the first value of a header of the given lower-case name, without the blanks around
    /// it, which HTTP does not count as part of the value.
    pub fn first_header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.trim_ascii())
    }

    /// Returns the one value of a header of the given lower-case name.
    pub fn header(&self, name: &str) -> Found<'a> {
        let mut values =
            self.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value.trim_ascii());
        match values.next() {
            None => Found::Nothing,
            Some(first) if values.all(|value| value == first) => Found::One(first),
            Some(_) => Found::Conflict,
        }
    }

    /// Returns the URL's path.
    pub fn path(&self) -> &'a str {
        self.url.split_once('?').map_or(self.url, |(path, _)| path)
    }

    /// Returns the URL as the provider called it, if it is known: proxies may have changed what
    /// arrives here.
    pub fn registered_url(&self) -> Option<String> {
        let query = self.url.split_once('?').map_or("", |(path, _)| &self.url[path.len()..]);
        self.public_url.map(|base| format!("{base}{query}"))
    }

    /// Returns the host of the registered URL, with its port where that has one.
    pub(super) fn host(&self) -> Option<&'a str> {
        self.public_url?.split_once("://")?.1.split('/').next()
    }

    /// Returns the registered URL with its port written out, that of its scheme where it has none.
    pub(super) fn url_with_port(&self) -> Option<String> {
        let url = self.registered_url()?;
        let (host_end, _) = port_of(&url)?;
        let port = if url.starts_with("http://") { ":80" } else { ":443" };
        let has_port = url[host_end..].starts_with(':');
        Some(if has_port { url } else { format!("{}{port}{}", &url[..host_end], &url[host_end..]) })
    }

    /// Returns the registered URL without a port.
    pub(super) fn url_without_port(&self) -> Option<String> {
        let url = self.registered_url()?;
        let (host_end, port_end) = port_of(&url)?;
        Some(format!("{}{}", &url[..host_end], &url[port_end..]))
    }

    /// Returns the query as sent, without its question mark.
    pub fn query(&self) -> &'a str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns the query with its parameters in the order of their names, each as sent.
    pub(super) fn sorted_query(&self) -> String {
        let mut pairs: Vec<&str> = self.query().split('&').filter(|pair| !pair.is_empty()).collect();
        pairs.sort_by_key(|pair| pair.split('=').next());
        pairs.join("&")
    }

    fn content_type(&self) -> &'a [u8] {
        self.first_header("content-type").unwrap_or_default()
    }

    fn media_type_is(&self, wanted: &str) -> bool {
        let media_type = self.content_type().split(|b| *b == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    }

    /// Tells whether the body is a form.
    pub(super) fn is_form(&self) -> bool {
        self.is_urlencoded() || self.media_type_is("multipart/form-data")
    }

    pub(super) fn is_urlencoded(&self) -> bool {
        self.media_type_is("application/x-www-form-urlencoded")
    }

    /// Returns the fields of a form in the order sent; none of another body.
    fn form_fields(&self) -> Vec<(String, String)> {
        if self.is_urlencoded() {
            form::pairs(self.body).collect()
        } else {
            multipart::fields(self.content_type(), self.body)
        }
    }

    /// Returns all fields of a form, names in the order of their bytes, each name immediately followed
    /// by its value; values of one name are sorted, and equal ones stand once.
    pub(super) fn sorted_form(&self) -> String {
        if !self.is_form() {
            return String::new();
        }
        let fields: BTreeSet<(String, String)> = self.form_fields().into_iter().collect();
        fields.into_iter().flat_map(|(name, value)| [name, value]).collect()
    }

    /// Returns all fields of a form but one, as PHP serializes the array that it makes of them.
    pub(super) fn php_form(&self, without: &str) -> Option<String> {
        let fields = self.is_form().then(|| self.form_fields())?;
        form::php(fields.into_iter().filter(|(name, _)| name != without))
    }
}

/// The secrets of a trigger beside the one that is its key, by name, for templates.
pub type Named = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The number of a wanted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// All values that one trigger wants of a request, collected when its scheme is compiled.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    locations: Vec<Location>,
    json: Tree,
    unwrap: Option<String>,
    batch: Option<Pointer>,
}

impl Fields {
    /// Wants nothing yet. With `unwrap`, JSON values of a form-encoded body are read from the form
    /// field of that name.
    pub fn new(unwrap: Option<String>) -> Self {
        Self { unwrap, ..Self::default() }
    }

    /// Says where the elements of a batch stand in the JSON.
    #[must_use]
    pub fn with_batch(self, batch: Option<Pointer>) -> Self {
        Self { batch, ..self }
    }

    /// Wants the value at a location.
    pub fn want(&mut self, location: Location) -> Slot {
        self.want_up_to(location, VALUE_BYTES_MAX)
    }

    /// Wants the value at a location although it may be long, for it is part of what is signed.
    pub(super) fn want_signed(&mut self, location: Location) -> Slot {
        self.want_up_to(location, SIGNED_VALUE_BYTES_MAX)
    }

    fn want_up_to(&mut self, location: Location, bytes_max: usize) -> Slot {
        let known = self.locations.iter().position(|known| *known == location);
        let slot = known.unwrap_or(self.locations.len());
        if let Location::Json(pointer) = &location {
            self.json.want(pointer, slot, bytes_max);
        }
        if known.is_none() {
            self.locations.push(location);
        }
        Slot(slot)
    }

    /// Returns where a value stands.
    pub fn location(&self, slot: Slot) -> &Location {
        &self.locations[slot.0]
    }
}

/// The wanted values of one request, or of one element of its batch. The body is parsed when the first
/// value of it is asked for, and once.
pub struct Values<'a> {
    fields: &'a Fields,
    request: Request<'a>,
    body: OnceCell<Vec<Option<Extract>>>,
    named: Option<&'a Named>,
    item: Option<&'a str>,
    item_value: OnceCell<Value>,
    claims: OnceCell<Value>,
}

impl<'a> Values<'a> {
    /// Looks at a request.
    pub fn new(fields: &'a Fields, request: Request<'a>) -> Self {
        Self {
            fields,
            request,
            body: OnceCell::new(),
            named: None,
            item: None,
            item_value: OnceCell::new(),
            claims: OnceCell::new(),
        }
    }

    /// Adds the secrets that templates may name.
    #[must_use]
    pub fn with_named(self, named: &'a Named) -> Self {
        Self { named: Some(named), ..self }
    }

    /// Looks at one element of the request's batch, given as its JSON text; all else stays as it is.
    pub fn of_item(&self, item: &'a str) -> Self {
        Self {
            fields: self.fields,
            request: self.request,
            body: self.body.clone(),
            named: self.named,
            item: Some(item),
            item_value: OnceCell::new(),
            claims: self.claims.clone(),
        }
    }

    /// Returns the request.
    pub fn request(&self) -> Request<'a> {
        self.request
    }

    /// Returns a secret that templates may name.
    pub(super) fn secret(&self, name: &str) -> Option<&'a [u8]> {
        self.named?.get(name).map(|secret| secret.as_slice())
    }

    /// Keeps the claims of a token that was verified.
    pub(super) fn set_claims(&self, claims: Value) {
        // A second token of the same request adds nothing.
        let _ = self.claims.set(claims);
    }

    /// Returns the value that stands first at the slot's location.
    pub fn get(&self, slot: Slot) -> Option<Cow<'_, [u8]>> {
        match &self.fields.locations[slot.0] {
            Location::Header(name) => self.request.first_header(name).map(Cow::Borrowed),
            Location::Query(name) => {
                let mut pairs = form::pairs(self.request.query().as_bytes());
                pairs.find(|(key, _)| key == name).map(|(_, value)| Cow::Owned(value.into_bytes()))
            }
            Location::Form(_) | Location::Json(_) => {
                match &self.body.get_or_init(|| self.extract())[slot.0] {
                    Some(Extract::Text(text)) => Some(Cow::Borrowed(text.as_bytes())),
                    Some(Extract::Composite) | None => None,
                }
            }
            Location::Item(pointer) => {
                let item = self.item_value.get_or_init(|| self.parse_item());
                scalar(pointer.of(item)?).map(|text| Cow::Owned(text.into_bytes()))
            }
            Location::Claim(pointer) => {
                scalar(pointer.of(self.claims.get()?)?).map(|text| Cow::Owned(text.into_bytes()))
            }
            Location::Packed(name, pointer) => {
                let packed = packed::read(self.request.first_header(name)?)?;
                scalar(pointer.of(&packed)?).map(|text| Cow::Owned(text.into_bytes()))
            }
            Location::Body => Some(Cow::Borrowed(self.request.body)),
        }
    }

    fn parse_item(&self) -> Value {
        self.item.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Returns the value as text, blanks around it trimmed, if there is any; what is not UTF-8 is
    /// replaced.
    pub fn text(&self, slot: Slot) -> Option<String> {
        let value = self.get(slot)?;
        let text = String::from_utf8_lossy(value.trim_ascii());
        (!text.is_empty()).then(|| text.into_owned())
    }

    /// Tells whether there is a value, and not an empty one. An object or array is one.
    pub fn is_present(&self, slot: Slot) -> bool {
        match &self.fields.locations[slot.0] {
            Location::Json(_)
                if self.body.get_or_init(|| self.extract())[slot.0] == Some(Extract::Composite) =>
            {
                true
            }
            _ => self.text(slot).is_some(),
        }
    }

    /// Returns every value of a claim that may be a list, such as `aud`; else the one value.
    pub(super) fn all(&self, slot: Slot) -> Vec<Cow<'_, [u8]>> {
        let list = match &self.fields.locations[slot.0] {
            Location::Claim(pointer) => self.claims.get().and_then(|claims| pointer.of(claims)),
            _ => None,
        };
        match list {
            Some(Value::Array(list)) => {
                list.iter().filter_map(scalar).map(|text| Cow::Owned(text.into_bytes())).collect()
            }
            _ => self.get(slot).into_iter().collect(),
        }
    }

    /// Tells whether the slot's header or query parameter is there with different values.
    pub fn conflicts(&self, slot: Slot) -> bool {
        match &self.fields.locations[slot.0] {
            Location::Header(name) | Location::Packed(name, _) => {
                self.request.header(name) == Found::Conflict
            }
            Location::Query(name) => {
                let pairs = form::pairs(self.request.query().as_bytes());
                let mut values = pairs.filter(|(key, _)| key == name).map(|(_, value)| value);
                values.next().is_some_and(|first| values.any(|value| value != first))
            }
            _ => false,
        }
    }

    /// Returns where a value stands.
    pub fn location(&self, slot: Slot) -> &'a Location {
        &self.fields.locations[slot.0]
    }

    /// Returns the text of the JSON that the body holds: the body, or the form field that wraps it.
    pub fn json_text(&self) -> Option<Cow<'a, str>> {
        if !self.request.is_form() {
            return std::str::from_utf8(self.request.body).ok().map(Cow::Borrowed);
        }
        let unwrap = self.fields.unwrap.as_ref()?;
        self.request.form_fields().into_iter().find(|(name, _)| name == unwrap).map(|(_, v)| Cow::Owned(v))
    }

    /// Returns the elements of the batch, given the JSON text, if it is one.
    pub fn items_of<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        items(text, self.fields.batch.as_ref()?)
    }

    fn extract(&self) -> Vec<Option<Extract>> {
        let mut out = vec![None; self.fields.locations.len()];
        if !self.request.is_form() {
            if !self.fields.json.is_empty() {
                self.fields.json.extract(self.request.body, &mut out);
            }
            return out;
        }
        for (name, value) in self.request.form_fields() {
            if self.fields.unwrap.as_ref() == Some(&name) {
                self.fields.json.extract(value.as_bytes(), &mut out);
            }
            let wanted =
                self.fields.locations.iter().position(|l| matches!(l, Location::Form(n) if *n == name));
            if let Some(slot) = wanted
                && out[slot].is_none()
            {
                out[slot] = Some(Extract::Text(value));
            }
        }
        out
    }
}

/// Returns a JSON value as text, if it is one value and not several.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_f64() => float_text(number.as_f64()?),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(url: &'a str, headers: &'a [Header], body: &'a str) -> Request<'a> {
        Request { method: "POST", url, public_url: None, headers, body: body.as_bytes() }
    }

    fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec().into())).collect()
    }

    fn check(request: Request<'_>, location: &str, expected: Option<&str>) {
        let mut fields = Fields::new(Some("payload".into()));
        let slot = fields.want(location.parse().unwrap());
        assert_eq!(Values::new(&fields, request).text(slot).as_deref(), expected, "{location}");
    }

    #[test]
    fn a_registered_url_is_told_with_and_without_its_port() {
        for (url, with, without) in [
            ("https://a.example/x", "https://a.example:443/x", "https://a.example/x"),
            ("http://a.example", "http://a.example:80", "http://a.example"),
            ("https://a.example:8443/x:1", "https://a.example:8443/x:1", "https://a.example/x:1"),
            ("https://[::1]/x", "https://[::1]:443/x", "https://[::1]/x"),
            ("https://[::1]:8443/x", "https://[::1]:8443/x", "https://[::1]/x"),
        ] {
            let request = Request { public_url: Some(url), ..request("/x?a=b:1", &[], "") };
            assert_eq!(request.url_with_port(), Some(format!("{with}?a=b:1")), "{url}");
            assert_eq!(request.url_without_port(), Some(format!("{without}?a=b:1")), "{url}");
        }
        assert_eq!(request("/x", &[], "").url_with_port(), None);
    }

    #[test]
    fn values_are_found_in_header_query_and_json() {
        let headers = headers(&[("x-event", " push "), ("x-empty", "")]);
        let request = request("/hook?a=1&b=x%20y", &headers, r#"{"id": 7}"#);
        check(request, "header:X-Event", Some("push"));
        check(request, "header:X-Empty", None);
        check(request, "header:X-None", None);
        check(request, "query:b", Some("x y"));
        check(request, "json:/id", Some("7"));
        check(request, "form:id", None);
    }

    #[test]
    fn json_in_a_form_field_is_unwrapped() {
        let headers = headers(&[("content-type", "Application/x-www-form-urlencoded; charset=utf-8")]);
        let request = request("/", &headers, "payload=%7B%22action%22%3A%22opened%22%7D&command=%2Fdeploy");
        check(request, "json:/action", Some("opened"));
        check(request, "form:command", Some("/deploy"));
    }

    #[test]
    fn an_item_says_the_same_number_as_a_body() {
        let mut fields = Fields::default();
        let slot = fields.want("item:/id".parse().unwrap());
        let request = request("/", &[], "");
        for (number, expected) in [
            ("7", Some("7")),
            ("1.50", Some("1.5")),
            ("7.0", Some("7")),
            // Not exact: another id would be written alike.
            ("123456789012345678901", None),
        ] {
            let item = format!("{{\"id\": {number}}}");
            let values = Values::new(&fields, request);
            assert_eq!(values.of_item(&item).text(slot).as_deref(), expected, "{number}");
            check(Request { body: item.as_bytes(), ..request }, "json:/id", expected);
        }
    }

    #[test]
    fn equal_repetitions_of_a_header_are_one_and_different_ones_conflict() {
        let same = headers(&[("sig", "a"), ("sig", "a")]);
        let different = headers(&[("sig", "a"), ("sig", "b")]);
        assert_eq!(request("/", &same, "").header("sig"), Found::One(b"a"));
        assert_eq!(request("/", &different, "").header("sig"), Found::Conflict);
        assert_eq!(request("/", &[], "").header("sig"), Found::Nothing);
    }
}
