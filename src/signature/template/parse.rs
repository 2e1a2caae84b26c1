//! Reads a template's text.

use super::{Part, Source};
use crate::signature::{Error, Fields, Filter, Location, Slot};

/// Reads a text as parts; the locations that it names are added to `fields`, as `signed` says whose values may be
/// long.
pub(super) fn parts(text: &str, fields: &mut Fields, signed: bool) -> Result<Vec<Part>, Error> {
    Parser { text, rest: text, fields, signed }.parts(false)
}

struct Parser<'t, 'f> {
    text: &'t str,
    rest: &'t str,
    fields: &'f mut Fields,
    signed: bool,
}

impl Parser<'_, '_> {
    fn parts(&mut self, inside: bool) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        while let Some(c) = self.next() {
            let doubled = "{}[]".contains(c) && self.rest.starts_with(c);
            if doubled {
                self.next();
            }
            match c {
                '{' | '[' if !doubled => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(if c == '{' { self.value()? } else { self.optional(inside)? });
                }
                ']' if !doubled && inside => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(literal));
                    }
                    return Ok(parts);
                }
                '}' | ']' if !doubled => return Err(self.error(format!("{c:?} without its opening one"))),
                _ => literal.push(c),
            }
        }
        if inside {
            return Err(self.error("a bracket is not closed".to_owned()));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(parts)
    }

    fn optional(&mut self, inside: bool) -> Result<Part, Error> {
        if inside {
            return Err(self.error("brackets do not nest".to_owned()));
        }
        Ok(Part::Optional(self.parts(true)?))
    }

    fn value(&mut self) -> Result<Part, Error> {
        let Some((inner, rest)) = self.rest.split_once('}') else {
            return Err(self.error("a brace is not closed".to_owned()));
        };
        self.rest = rest;
        let (name, filters) = inner.split_once('|').unwrap_or((inner, ""));
        let source = self.source(name)?;
        let filters = Filter::pipe(filters).map_err(|error| self.wrap(&error))?;
        Ok(Part::Value(source, filters))
    }

    fn source(&mut self, name: &str) -> Result<Source, Error> {
        Ok(match name {
            "body" => Source::Body,
            "timestamp" => Source::Timestamp,
            "id" => Source::Id,
            "key_id" => Source::KeyId,
            "url" => Source::Url,
            "url.with-port" => Source::UrlWithPort,
            "url.without-port" => Source::UrlWithoutPort,
            "host" => Source::Host,
            "path" => Source::Path,
            "target" => Source::Target,
            "query" => Source::Query,
            "query.sorted" => Source::SortedQuery,
            "method" => Source::Method,
            "form.sorted" => Source::SortedForm,
            "secret" => Source::Secret,
            _ => match name.split_once(':') {
                Some(("secret", name)) => Source::Named(name.to_owned()),
                Some(("headers", name)) => Source::Listed(self.want(&format!("header:{name}"))?),
                _ => Source::At(self.want(name)?),
            },
        })
    }

    fn want(&mut self, location: &str) -> Result<Slot, Error> {
        let location: Location = location.parse().map_err(|error| self.wrap(&error))?;
        Ok(if self.signed { self.fields.want_signed(location) } else { self.fields.want(location) })
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn wrap(&self, error: &Error) -> Error {
        self.error(error.to_string())
    }

    fn error(&self, what: String) -> Error {
        Error::Template { text: self.text.to_owned(), what }
    }
}
