//! Reads a template's text.

use super::{Part, Source};
use crate::signature::{Error, Fields, Filter, Location, Slot};

/// Reads a text as parts; the locations that it names are added to `fields`, as `signed` says whose values may be
/// long.
pub(super) fn parts(text: &str, fields: &mut Fields, signed: bool) -> Result<Vec<Part>, Error> {
    Parser { text, rest: text, fields, signed }.parts(Inside::Nothing)
}

/// What the parser is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Bracket,
    Group,
}

struct Parser<'t, 'f> {
    text: &'t str,
    rest: &'t str,
    fields: &'f mut Fields,
    signed: bool,
}

impl Parser<'_, '_> {
    fn parts(&mut self, inside: Inside) -> Result<Vec<Part>, Error> {
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
                    parts.push(if c == '{' { self.value(inside)? } else { self.optional(inside)? });
                }
                _ if self.ends(inside, c) && !doubled => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(literal));
                    }
                    return Ok(parts);
                }
                '}' | ']' if !doubled => return Err(self.error(format!("{c:?} without its opening one"))),
                _ => literal.push(c),
            }
        }
        if inside != Inside::Nothing {
            return Err(self.error("a bracket or group is not closed".to_owned()));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(parts)
    }

    /// Tells whether a character ends what the parser is in. A parenthesis within a group is a plain one unless
    /// the group's filters, or its brace, follow.
    fn ends(&self, inside: Inside, c: char) -> bool {
        match inside {
            Inside::Nothing => false,
            Inside::Bracket => c == ']',
            Inside::Group => c == ')' && self.rest.starts_with(['|', '}']),
        }
    }

    fn optional(&mut self, inside: Inside) -> Result<Part, Error> {
        self.refuse_nesting(inside)?;
        Ok(Part::Optional(self.parts(Inside::Bracket)?))
    }

    fn value(&mut self, inside: Inside) -> Result<Part, Error> {
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.refuse_nesting(inside)?;
            self.rest = rest;
            let inner = self.parts(Inside::Group)?;
            return Ok(Part::Group(inner, self.filters()?));
        }
        let end = self.rest.find(['|', '}']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Part::Value(self.source(name)?, self.filters()?))
    }

    fn refuse_nesting(&self, inside: Inside) -> Result<(), Error> {
        match inside {
            Inside::Nothing => Ok(()),
            _ => Err(self.error("brackets and groups do not nest".to_owned())),
        }
    }

    /// Reads the filters up to the closing brace.
    fn filters(&mut self) -> Result<Vec<Filter>, Error> {
        let Some((filters, rest)) = self.rest.split_once('}') else {
            return Err(self.error("a brace is not closed".to_owned()));
        };
        self.rest = rest;
        Filter::pipe(filters).map_err(|error| self.wrap(&error))
    }

    fn source(&mut self, name: &str) -> Result<Source, Error> {
        Ok(match name {
            "body" => Source::Body,
            "timestamp" => Source::Timestamp,
            "id" => Source::Id,
            "key_id" => Source::KeyId,
            "head" => Source::Head,
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
                Some(("headers", list)) => Source::Listed(self.want(list)?),
                Some(("headers.lines", list)) => Source::ListedLines(self.want(list)?),
                Some(("form.php", without)) => Source::PhpForm(without.to_owned()),
                Some(("body.keyed", pointer)) => {
                    Source::KeyedBody(pointer.parse().map_err(|error| self.wrap(&error))?)
                }
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
