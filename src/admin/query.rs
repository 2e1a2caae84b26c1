//! The parameters of a request, read strictly: what is unknown, twice, or makes no sense is a problem.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::Problem;
use crate::config::{nearest, parse_duration};
use crate::event::Timestamp;

/// Most items of a page.
pub const LIMIT_MAX: usize = 500;
/// Items of a page where none is asked for.
const LIMIT_DEFAULT: usize = 50;
/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// A request's parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the part of a URL after the question mark.
    ///
    /// # Errors
    ///
    /// If a parameter stands there twice, is not UTF-8, or the query is too long.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Problem::bad(
                "query_too_long",
                format!("a query has at most {QUERY_BYTES_MAX} bytes"),
            ));
        }
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if parameters.insert(name.clone(), value).is_some() {
                return Err(Problem::bad(
                    "repeated_parameter",
                    format!("the parameter `{name}` is there twice"),
                ));
            }
        }
        Ok(Self(parameters))
    }

    /// Builds a query from pairs, leaving out those without a value.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Self {
        Self(pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// Sets a parameter.
    pub fn set(&mut self, name: &str, value: impl Display) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// Returns the query without a parameter.
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Writes the query as the part of a URL after the question mark.
    pub fn to_url(&self) -> String {
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, ENCODED).to_string();
        let pairs: Vec<_> =
            self.0.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        pairs.join("&")
    }

    /// Refuses parameters that are none of `known`.
    ///
    /// # Errors
    ///
    /// For the first unknown one, naming the nearest known one.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some(unknown) = self.0.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
        let help = match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "there are none here".to_owned(),
            None => format!("known here: {}", known.join(", ")),
        };
        Err(Problem::bad(
            "unknown_parameter",
            format!("unknown parameter `{}`; {help}", unknown.escape_debug()),
        ))
    }

    /// Returns a parameter's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Reads a parameter.
    ///
    /// # Errors
    ///
    /// If it is there and makes no sense.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let read = |text: &str| {
            text.parse()
                .map_err(|error| Problem::bad("invalid_parameter", format!("parameter `{name}`: {error}")))
        };
        self.text(name).map(read).transpose()
    }

    /// Reads the `cursor` of a page.
    ///
    /// # Errors
    ///
    /// If it is none that a page ended with.
    pub fn cursor<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let read = |text: &str| {
            text.parse().map_err(|_| {
                let detail = "parameter `cursor`: this is no cursor; give `next_cursor` of the page before as it \
                              stands there, or leave it out for the first page";
                Problem::bad("invalid_parameter", detail)
            })
        };
        self.text("cursor").map(read).transpose()
    }

    /// Reads the `limit` of a page.
    ///
    /// # Errors
    ///
    /// If it is not 1 to [`LIMIT_MAX`].
    pub fn limit(&self) -> Result<usize, Problem> {
        let limit = self.get::<usize>("limit")?.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::bad("invalid_parameter", format!("parameter `limit`: use 1 to {LIMIT_MAX}")))
    }

    /// Reads an instant: RFC 3339, seconds since 1970, or a duration such as `2h` for that long before `now`.
    ///
    /// # Errors
    ///
    /// If it is there and is none of these.
    pub fn time(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse_time(text, now).map(Some).ok_or_else(|| {
            Problem::bad(
                "invalid_parameter",
                format!("parameter `{name}`: use RFC 3339 (2026-11-23T14:00:00Z), seconds since 1970, or 2h for two hours ago"),
            )
        })
    }

    /// Reads a flag: `true`, `false`, or the bare name for `true`.
    ///
    /// # Errors
    ///
    /// If it is anything else.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => {
                Err(Problem::bad("invalid_parameter", format!("parameter `{name}`: use true or false")))
            }
        }
    }
}

/// Reads an instant: RFC 3339, seconds since 1970, or a duration for that long before `now`.
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    now.checked_sub(parse_duration(text)?).ok()
}

/// What is escaped in a query: everything but what RFC 3986 calls unreserved.
const ENCODED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn decode(text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Problem::bad("invalid_query", "the query is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parameters_name_the_nearest() {
        let query = Query::parse("triger=github").unwrap();
        let problem = query.only(&["trigger", "limit"]).unwrap_err();
        assert_eq!((problem.status, problem.code), (400, "unknown_parameter"));
        assert!(problem.detail.contains("did you mean `trigger`?"), "{problem}");
        assert!(query.only(&[]).unwrap_err().detail.contains("none here"));
    }

    #[test]
    fn values_are_decoded_and_may_stand_once() {
        let query = Query::parse("text=a%20b+c%26&x=&flag").unwrap();
        assert_eq!(query.text("text"), Some("a b c&"));
        assert!(query.flag("flag").unwrap() && !query.flag("none").unwrap());
        assert_eq!(Query::parse("a=1&a=2").unwrap_err().code, "repeated_parameter");
        assert_eq!(Query::parse("a=%ff").unwrap_err().code, "invalid_query");
    }

    #[test]
    fn a_cursor_is_what_a_page_ended_with() {
        let read = |text: &str| Query::parse(text).unwrap().cursor::<u64>();
        assert_eq!(read("cursor=7").unwrap(), Some(7));
        assert_eq!(read("").unwrap(), None);
        let problem = read("cursor=zz").unwrap_err();
        assert_eq!((problem.status, problem.code), (400, "invalid_parameter"));
        assert!(problem.detail.contains("`next_cursor` of the page before"), "{problem}");
    }

    #[test]
    fn limits_have_bounds() {
        for (text, expected) in [
            ("", Some(50)),
            ("limit=500", Some(500)),
            ("limit=0", None),
            ("limit=501", None),
            ("limit=x", None),
        ] {
            assert_eq!(Query::parse(text).unwrap().limit().ok(), expected, "{text}");
        }
    }

    #[test]
    fn instants_are_absolute_or_ago() {
        let now: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
        let read = |text: &str| parse_time(text, now).map(|at| at.to_string());
        assert_eq!(read("2h").as_deref(), Some("2026-11-23T12:00:00Z"));
        assert_eq!(read("2026-11-23T13:00:00+01:00").as_deref(), Some("2026-11-23T12:00:00Z"));
        assert_eq!(read("0").as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(read("yesterday"), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "\\PC{0,20}", name in "[a-z]{1,5}") {
            let query = Query::of([(name.as_str(), Some(value))]);
            proptest::prop_assert_eq!(Query::parse(&query.to_url()).unwrap(), query);
        }
    }
}
