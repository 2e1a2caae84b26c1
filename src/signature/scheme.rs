//! A signature scheme: where the proof stands, what it covers, how it is computed. Here it is compiled,
//! and signs; verifying is the next file's.

use std::borrow::Cow;

use super::{
    Algorithm, Context, Encoding, Error, Fields, Filter, Key, KeyError, Location, Request, Slot, Syntax,
    Template, Unit, Values,
};
use crate::event::{Header, Timestamp};

/// The text of a scheme, as a catalogue entry has it.
#[derive(Debug, Clone, Default)]
pub struct Text<'a> {
    /// Locations of the proof; several where a provider sends one proof per secret.
    pub sig: Vec<&'a str>,
    /// Patterns of the proof's text; none means that it is the signature alone.
    pub syntax: Vec<&'a str>,
    /// Separator, where the proof's text is a list.
    pub list: Option<&'a str>,
    /// Algorithm's name; default `hmac-sha256`.
    pub alg: Option<&'a str>,
    /// Encoding of the signature; default `hex`.
    pub encoding: Option<&'a str>,
    /// Template of what is signed; default `{body}`.
    pub content: Option<&'a str>,
    /// Pipe from the secret to the key's bytes; default none.
    pub key: Option<&'a str>,
    /// Location of the signed time, where it is not in the proof's text.
    pub timestamp: Option<&'a str>,
    /// Unit of the signed time; default `s`.
    pub unit: Option<&'a str>,
    /// Locations of the delivery's id; the first one that has a value counts.
    pub id: Vec<&'a str>,
}

/// A compiled scheme.
#[derive(Debug, Clone)]
pub struct Scheme {
    pub(super) sigs: Vec<Slot>,
    pub(super) syntax: Syntax,
    algorithm: Algorithm,
    pub(super) encoding: Encoding,
    pub(super) content: Template,
    key: Vec<Filter>,
    pub(super) timestamp: Option<Slot>,
    pub(super) unit: Unit,
    pub(super) ids: Vec<Slot>,
}

impl Scheme {
    /// Compiles a scheme; the locations that it names are added to `fields`.
    ///
    /// # Errors
    ///
    /// If a part of the text cannot be read, or if the scheme has a signed time that it does not sign.
    pub fn new(text: &Text<'_>, fields: &mut Fields) -> Result<Self, Error> {
        if text.sig.is_empty() {
            return Err(Error::Location(String::new()));
        }
        let mut slot = |location: &str| Ok(fields.want(location.parse()?));
        let sigs = text.sig.iter().map(|location| slot(location)).collect::<Result<_, Error>>()?;
        let ids = text.id.iter().map(|location| slot(location)).collect::<Result<_, Error>>()?;
        let timestamp = text.timestamp.map(slot).transpose()?;
        let scheme = Self {
            sigs,
            syntax: Syntax::new(&text.syntax, text.list)?,
            algorithm: text.alg.map_or(Ok(Algorithm::default()), str::parse)?,
            encoding: text.encoding.map_or(Ok(Encoding::default()), str::parse)?,
            content: Template::new(text.content.unwrap_or("{body}"), fields)?,
            key: Filter::pipe(text.key.unwrap_or_default())?,
            timestamp,
            unit: text.unit.map_or(Ok(Unit::default()), str::parse)?,
            ids,
        };
        if scheme.has_unsigned_timestamp(fields) {
            return Err(Error::Template {
                text: text.content.unwrap_or("{body}").to_owned(),
                what: "the timestamp is not part of it, so anybody could renew it".to_owned(),
            });
        }
        Ok(scheme)
    }

    fn has_unsigned_timestamp(&self, fields: &Fields) -> bool {
        let in_body =
            self.timestamp.is_some_and(|slot| in_body(fields.location(slot)) && self.content.covers_body());
        let has = self.timestamp.is_some() || self.syntax.has_timestamp();
        has && !in_body && !self.content.covers_timestamp()
    }

    /// Prepares a key of a secret.
    ///
    /// # Errors
    ///
    /// If the secret protects nothing, or does not have the form that the scheme needs.
    pub fn key(&self, secret: &[u8]) -> Result<Key, KeyError> {
        if secret.iter().all(|b| *b == 0 || b.is_ascii_whitespace()) {
            return Err(KeyError::Blank);
        }
        let key = Filter::apply_all(&self.key, secret).ok_or(KeyError::Form)?;
        // An HMAC pads its key with NUL, so that a key of NUL is the empty key.
        if key.iter().all(|b| *b == 0) { Err(KeyError::Blank) } else { Ok(Key::new(self.algorithm, &key)) }
    }

    /// Prepares a key of bytes that did not go through the scheme's key pipe, to find out how a
    /// signature was made that does not verify.
    pub fn key_of_bytes(&self, bytes: &[u8]) -> Key {
        Key::new(self.algorithm, bytes)
    }

    /// Tells whether the proof covers the body.
    pub fn covers_body(&self) -> bool {
        self.content.covers_body()
    }

    /// Tells whether the proof covers the URL or its path.
    pub fn covers_url(&self) -> bool {
        self.content.covers_url()
    }

    /// Returns the same scheme with its signatures in another encoding, to find out how a signature was
    /// written that does not verify.
    pub fn with_encoding(&self, encoding: Encoding) -> Self {
        Self { encoding, ..self.clone() }
    }

    /// Tells whether the proof covers the delivery's id.
    pub fn covers_id(&self) -> bool {
        self.content.covers_id()
    }

    /// Returns the delivery's id where it is part of what is signed. Where it is not, it is not looked
    /// for, so that the body of a request that may be forged is not parsed.
    pub(super) fn signed_id<'v>(&self, values: &'v Values<'_>) -> Option<Cow<'v, [u8]>> {
        self.ids.iter().filter(|_| self.content.covers_id()).find_map(|slot| values.get(*slot))
    }

    /// Says what the proof's text looks like, such as `sha256=<hex>`.
    pub fn form(&self) -> String {
        self.syntax.write(&format!("<{}>", self.encoding), "<timestamp>")
    }

    /// Tells whether signing anew also renews the signed time: it does not where there is none, or
    /// where it stands in the body.
    pub fn renews_timestamp(&self, fields: &Fields) -> bool {
        let in_header =
            self.timestamp.is_some_and(|slot| matches!(fields.location(slot), Location::Header(_)));
        in_header || self.syntax.has_timestamp()
    }

    /// Returns the lower-case names of the headers that [`sign`](Self::sign) writes.
    pub fn signed_headers<'f>(&self, fields: &'f Fields) -> Vec<&'f str> {
        let slots = self.sigs.iter().take(1).copied().chain(self.timestamp);
        let names = slots.filter_map(|slot| match fields.location(slot) {
            Location::Header(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// Returns the header that carries the delivery's id, if it is a header.
    pub fn id_header<'f>(&self, fields: &'f Fields) -> Option<&'f str> {
        self.ids.iter().find_map(|slot| match fields.location(*slot) {
            Location::Header(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Signs a request as the provider would: the exact inverse of [`verify`](Self::verify).
    ///
    /// What stands in the request already for the headers that this writes is not looked at.
    ///
    /// # Errors
    ///
    /// The name of what the content needs and the request does not have, or of the proof's place if
    /// that is not a header.
    pub fn sign(
        &self,
        fields: &Fields,
        key: &Key,
        request: Request<'_>,
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        let time = self.unit.write(now);
        let replaced = self.signed_headers(fields);
        let mut headers: Vec<Header> = request.headers.to_vec();
        headers.retain(|(name, _)| !replaced.contains(&name.as_str()));
        let mut signed = Vec::new();
        if let Some(Location::Header(name)) = self.timestamp.map(|slot| fields.location(slot)) {
            signed.push((name.clone(), time.clone()));
            headers.push((name.clone(), time.clone().into()));
        }
        let values = Values::new(fields, Request { headers: &headers, ..request });
        let id = self.signed_id(&values);
        let context = Context { values: &values, timestamp: Some(time.as_bytes()), id: id.as_deref() };
        let mut mac = key.clone();
        self.content.write(&context, &mut |bytes| mac.update(bytes))?;
        let signature = self.encoding.encode(mac.finish().as_bytes());
        match fields.location(self.sigs[0]) {
            Location::Header(name) => signed.push((name.clone(), self.syntax.write(&signature, &time))),
            other => return Err(other.to_string()),
        }
        Ok(signed)
    }
}

/// Tells whether a value is covered with the body that it is part of.
pub(super) fn in_body(location: &Location) -> bool {
    matches!(location, Location::Json(_) | Location::Form(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &Text<'_>, expected: Result<(), &str>) {
        match (Scheme::new(text, &mut Fields::default()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{text:?}: {got:?}"),
        }
    }

    #[test]
    fn a_signed_time_must_be_signed() {
        let sig = vec!["header:Sig"];
        let plain = || Text { sig: sig.clone(), ..Text::default() };
        let timed = || Text { timestamp: Some("header:Time"), ..plain() };
        check(&plain(), Ok(()));
        check(&timed(), Err("not part of it"));
        check(&Text { content: Some("{timestamp}{body}"), ..timed() }, Ok(()));
        check(&Text { timestamp: Some("json:/time"), ..plain() }, Ok(()));
        check(&Text { syntax: vec!["{timestamp}:{sig}"], ..plain() }, Err("not part of it"));
    }

    #[test]
    fn texts_that_mean_nothing_are_refused() {
        let sig = vec!["header:Sig"];
        let plain = || Text { sig: sig.clone(), ..Text::default() };
        check(&Text::default(), Err("location"));
        check(&Text { alg: Some("hmac-md5"), ..plain() }, Err("algorithm"));
        check(&Text { encoding: Some("base32"), ..plain() }, Err("encoding"));
        check(&Text { unit: Some("h"), ..plain() }, Err("unit"));
        check(&Text { key: Some("rot13"), ..plain() }, Err("filter"));
    }

    #[test]
    fn forms_are_shown_to_operators() {
        let text = Text {
            sig: vec!["header:Sig"],
            syntax: vec!["t={timestamp}", "v1={sig}"],
            list: Some(","),
            content: Some("{timestamp}.{body}"),
            ..Text::default()
        };
        assert_eq!(Scheme::new(&text, &mut Fields::default()).unwrap().form(), "t=<timestamp>,v1=<hex>");
    }
}
