//! Headers that a request lists itself, to say which of them are signed.

use std::fmt::Write as _;

use super::{Found, Request};

/// Most headers of one list. Providers list up to ten.
const LISTED_MAX: usize = 64;

/// A list of headers, each of which is there once.
pub(super) struct Listed<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Listed<'a> {
    /// Takes a list apart and looks its headers up. Nothing comes of a list that is too long or names a header twice,
    /// nor where a header is not there, or with several values: nobody could say which one is signed.
    pub(super) fn new(list: &'a str, request: Request<'a>) -> Option<Self> {
        let mut headers: Vec<(&str, &str)> = Vec::new();
        for name in list.split([',', ';']).map(str::trim) {
            let Found::One(value) = request.header(&name.to_ascii_lowercase()) else { return None };
            let is_known = headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if is_known || headers.len() == LISTED_MAX {
                return None;
            }
            headers.push((name, std::str::from_utf8(value).ok()?));
        }
        Some(Self(headers))
    }

    /// Tells whether a header is among them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Writes `name:value`, names in lower case and in their order, joined by semicolons.
    pub(super) fn sorted(&self) -> String {
        let mut lower: Vec<_> =
            self.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        lower.sort();
        let pairs: Vec<String> = lower.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        pairs.join(";")
    }

    /// Writes `Name: value` and a line feed for each, in the order and spelling of the list.
    pub(super) fn lines(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            writeln!(out, "{name}: {value}").expect("a string takes any text");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Header;

    fn of(list: &str) -> Option<(String, String)> {
        let header = |(name, value): (&str, &str)| -> Header { (name.to_owned(), value.to_owned().into()) };
        let headers = [("b", " 2 "), ("a", "1"), ("c", "1"), ("c", "2")].map(header);
        let request = Request { method: "POST", url: "/", public_url: None, headers: &headers, body: b"" };
        Listed::new(list, request).map(|listed| (listed.sorted(), listed.lines()))
    }

    #[test]
    fn listed_headers_are_written_in_either_form() {
        assert_eq!(of("B, a"), Some(("a:1;b:2".to_owned(), "B: 2\na: 1\n".to_owned())));
    }

    #[test]
    fn a_list_that_can_be_read_in_two_ways_is_none() {
        for bad in ["", "a,", "a,A", "d", "c", "a,c"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
