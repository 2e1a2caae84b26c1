//! Where in a request a value stands: `header:Name`, `query:name`, `form:name`, `json:/pointer`,
//! `item:/pointer` of a batch's element, `claim:name` of a JWT, `packed:Name/pointer` of the JSON that a header
//! carries in base64, `body`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::Error;

/// The token of a pointer that stands for the first child.
pub(super) const ANY_CHILD: &str = "*";

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A header, by its lower-case name.
    Header(String),
    /// A parameter of the URL's query.
    Query(String),
    /// A field of a form-encoded body.
    Form(String),
    /// A value of a JSON body.
    Json(Pointer),
    /// A value of one element of a batch.
    Item(Pointer),
    /// A claim of the JWT that is the proof.
    Claim(Pointer),
    /// A value of the JSON that a header carries in base64, by the header's lower-case name: of all of it, or,
    /// as in a JWS (RFC 7515), of what stands before its first dot.
    Packed(String, Pointer),
    /// The whole body.
    Body,
}

/// A JSON pointer (RFC 6901); a token `*` stands for the first child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Returns the pointer's tokens, unescaped.
    pub fn tokens(&self) -> &[String] {
        &self.0
    }

    /// Returns the value of a document that the pointer leads to.
    pub fn of<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(document, |value, token| match value {
            Value::Object(map) if token == ANY_CHILD => map.values().next(),
            Value::Object(map) => map.get(token),
            Value::Array(list) if token == ANY_CHILD => list.first(),
            Value::Array(list) => list.get(token.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl FromStr for Pointer {
    type Err = Error;

    /// Reads a pointer; empty text leads to the whole document.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let path = text.strip_prefix('/').ok_or_else(|| Error::Location(text.to_owned()))?;
        Ok(Self(path.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Location(text.to_owned());
        if text == "body" {
            return Ok(Location::Body);
        }
        let (place, name) = text.split_once(':').ok_or_else(bad)?;
        if name.is_empty() {
            return Err(bad());
        }
        match place {
            "header" if is_token(name) => Ok(Location::Header(name.to_ascii_lowercase())),
            "query" => Ok(Location::Query(name.to_owned())),
            "form" => Ok(Location::Form(name.to_owned())),
            "json" => Ok(Location::Json(name.parse()?)),
            "item" => Ok(Location::Item(name.parse()?)),
            "claim" if name.starts_with('/') => Ok(Location::Claim(name.parse()?)),
            "claim" => Ok(Location::Claim(Pointer(vec![name.to_owned()]))),
            "packed" => {
                let (header, pointer) = name.split_at(name.find('/').ok_or_else(bad)?);
                if header.is_empty() || !is_token(header) {
                    return Err(bad());
                }
                Ok(Location::Packed(header.to_ascii_lowercase(), pointer.parse()?))
            }
            _ => Err(bad()),
        }
    }
}

/// Tells whether the text may be a header's name (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl fmt::Display for Location {
    /// Names the place for an operator: `header x-hub-signature-256`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Header(name) => write!(f, "header {name}"),
            Location::Query(name) => write!(f, "query parameter {name}"),
            Location::Form(name) => write!(f, "form field {name}"),
            Location::Json(pointer) => write!(f, "body field {pointer}"),
            Location::Item(pointer) => write!(f, "field {pointer} of an item"),
            Location::Claim(pointer) => write!(f, "claim {pointer}"),
            Location::Packed(name, pointer) => write!(f, "field {pointer} in header {name}"),
            Location::Body => f.write_str("the body"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read() {
        let json =
            |tokens: &[&str]| Location::Json(Pointer(tokens.iter().map(ToString::to_string).collect()));
        assert_eq!("header:X-Sig".parse(), Ok(Location::Header("x-sig".into())));
        assert_eq!("query:sig".parse(), Ok(Location::Query("sig".into())));
        assert_eq!("form:command".parse(), Ok(Location::Form("command".into())));
        assert_eq!("json:/event/type".parse(), Ok(json(&["event", "type"])));
        assert_eq!("json:/a~1b/m~0n".parse(), Ok(json(&["a/b", "m~n"])));
        assert_eq!("body".parse(), Ok(Location::Body));
        let pointer = |tokens: &[&str]| Pointer(tokens.iter().map(ToString::to_string).collect());
        assert_eq!("item:/a/*".parse(), Ok(Location::Item(pointer(&["a", "*"]))));
        assert_eq!("claim:http://a/b".parse(), Ok(Location::Claim(pointer(&["http://a/b"]))));
        assert_eq!("claim:/a/b".parse(), Ok(Location::Claim(pointer(&["a", "b"]))));
        assert_eq!("packed:X-Sig/a/0".parse(), Ok(Location::Packed("x-sig".into(), pointer(&["a", "0"]))));
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for bad in [
            "",
            "header",
            "header:",
            "header:a b",
            "json:event",
            "cookie:x",
            "X-Sig",
            "packed:X-Sig",
            "packed:/a",
        ] {
            assert!(matches!(bad.parse::<Location>(), Err(Error::Location(_))), "{bad}");
        }
    }
}
