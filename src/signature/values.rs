//! The values of one request that a scheme or a kind asks for.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::json::Tree;
use super::{Location, form};
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

    fn query(&self) -> &'a str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    fn is_form(&self) -> bool {
        self.first_header("content-type").is_some_and(|value| {
            let media_type = value.split(|b| *b == b';').next().unwrap_or_default();
            media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        })
    }
}

/// The number of a wanted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// All values that one trigger wants of a request, collected when its scheme is compiled.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    locations: Vec<Location>,
    json: Tree,
    unwrap: Option<String>,
}

impl Fields {
    /// Wants nothing yet. With `unwrap`, JSON values of a form-encoded body are read from the form
    /// field of that name.
    pub fn new(unwrap: Option<String>) -> Self {
        Self { unwrap, ..Self::default() }
    }

    /// Wants the value at a location.
    pub fn want(&mut self, location: Location) -> Slot {
        if let Some(slot) = self.locations.iter().position(|known| *known == location) {
            return Slot(slot);
        }
        if let Location::Json(pointer) = &location {
            self.json.want(pointer, self.locations.len());
        }
        self.locations.push(location);
        Slot(self.locations.len() - 1)
    }

    /// Returns where a value stands.
    pub fn location(&self, slot: Slot) -> &Location {
        &self.locations[slot.0]
    }
}

/// The wanted values of one request. The body is parsed when the first value of it is asked for, and
/// once.
pub struct Values<'a> {
    fields: &'a Fields,
    request: Request<'a>,
    body: OnceCell<Vec<Option<String>>>,
}

impl<'a> Values<'a> {
    /// Looks at a request.
    pub fn new(fields: &'a Fields, request: Request<'a>) -> Self {
        Self { fields, request, body: OnceCell::new() }
    }

    /// Returns the request.
    pub fn request(&self) -> Request<'a> {
        self.request
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
                let values = self.body.get_or_init(|| self.extract());
                values[slot.0].as_deref().map(|text| Cow::Borrowed(text.as_bytes()))
            }
        }
    }

    /// Returns the value as text, blanks around it trimmed, if there is any; what is not UTF-8 is
    /// replaced.
    pub fn text(&self, slot: Slot) -> Option<String> {
        let value = self.get(slot)?;
        let text = String::from_utf8_lossy(value.trim_ascii());
        (!text.is_empty()).then(|| text.into_owned())
    }

    /// Tells whether the slot's header is there with different values.
    pub fn conflicts(&self, slot: Slot) -> bool {
        match &self.fields.locations[slot.0] {
            Location::Header(name) => self.request.header(name) == Found::Conflict,
            _ => false,
        }
    }

    /// Returns where a value stands.
    pub fn location(&self, slot: Slot) -> &'a Location {
        &self.fields.locations[slot.0]
    }

    fn extract(&self) -> Vec<Option<String>> {
        let mut out = vec![None; self.fields.locations.len()];
        if !self.request.is_form() {
            if !self.fields.json.is_empty() {
                self.fields.json.extract(self.request.body, &mut out);
            }
            return out;
        }
        for (name, value) in form::pairs(self.request.body) {
            if self.fields.unwrap.as_ref() == Some(&name) {
                self.fields.json.extract(value.as_bytes(), &mut out);
            }
            let wanted =
                self.fields.locations.iter().position(|l| matches!(l, Location::Form(n) if *n == name));
            if let Some(slot) = wanted
                && out[slot].is_none()
            {
                out[slot] = Some(value);
            }
        }
        out
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
    fn equal_repetitions_of_a_header_are_one_and_different_ones_conflict() {
        let same = headers(&[("sig", "a"), ("sig", "a")]);
        let different = headers(&[("sig", "a"), ("sig", "b")]);
        assert_eq!(request("/", &same, "").header("sig"), Found::One(b"a"));
        assert_eq!(request("/", &different, "").header("sig"), Found::Conflict);
        assert_eq!(request("/", &[], "").header("sig"), Found::Nothing);
    }
}
