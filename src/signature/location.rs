//! Where in a request a value stands: `header:Name`, `query:name`, `form:name`, `json:/pointer`.

use std::fmt;
use std::str::FromStr;

use super::Error;

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
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Returns the pointer's tokens, unescaped.
    pub fn tokens(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Location(text.to_owned());
        let (place, name) = text.split_once(':').ok_or_else(bad)?;
        if name.is_empty() {
            return Err(bad());
        }
        match place {
            "header" if is_token(name) => Ok(Location::Header(name.to_ascii_lowercase())),
            "query" => Ok(Location::Query(name.to_owned())),
            "form" => Ok(Location::Form(name.to_owned())),
            "json" => {
                let path = name.strip_prefix('/').ok_or_else(bad)?;
                let tokens = path.split('/').map(|token| token.replace("~1", "/").replace("~0", "~"));
                Ok(Location::Json(Pointer(tokens.collect())))
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
            Location::Json(pointer) => write!(f, "body field /{}", pointer.0.join("/")),
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
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for bad in ["", "header", "header:", "header:a b", "json:event", "cookie:x", "X-Sig"] {
            assert_eq!(bad.parse::<Location>(), Err(Error::Location(bad.into())));
        }
    }
}
