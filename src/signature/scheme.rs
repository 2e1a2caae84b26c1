//! A signature scheme: where the proof stands, what it covers, how it is computed. Verifies and signs.
//!
//! Order of checks: the proof is there, it has the provider's form, it holds, and only then the clock
//! is asked. So a sender without the secret learns nothing about our clock.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use subtle::Choice;

use super::mac::TAG_BYTES_MAX;
use super::{
    Algorithm, Context, Encoding, Error, Field, Fields, Filter, Key, Location, Request, Slot, Syntax,
    Template, Unit, Values,
};
use crate::event::{Header, RejectReason, Timestamp};

/// Most signatures in one proof. Providers send one per secret in rotation; a longer list is an
/// attempt to make us compare.
const CANDIDATES_MAX: usize = 16;

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
    sigs: Vec<Slot>,
    syntax: Syntax,
    algorithm: Algorithm,
    encoding: Encoding,
    content: Template,
    key: Vec<Filter>,
    timestamp: Option<Slot>,
    unit: Unit,
    ids: Vec<Slot>,
}

/// When a signed time is acceptable.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The present.
    pub now: Timestamp,
    /// Greatest accepted distance between the signed time and now, in either direction; none accepts
    /// any time.
    pub tolerance: Option<Duration>,
}

/// A proof that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Which key of the list yields it.
    pub key_index: usize,
    /// The signed time, where the scheme has one.
    pub signed_at: Option<Timestamp>,
}

/// Why a proof does not hold, told to the operator. Names places and forms; never a secret, never the
/// expected signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Something that the proof needs is absent.
    Missing {
        /// What and where.
        place: String,
        /// What it should look like.
        form: String,
    },
    /// A header of the proof is there twice with different values.
    Conflict {
        /// Which.
        place: String,
    },
    /// The proof does not have the provider's form.
    Malformed {
        /// Where.
        place: String,
        /// What it should look like.
        form: String,
    },
    /// There is no key to verify with.
    NoKey,
    /// No key yields the signature.
    Mismatch {
        /// Where the signature stood.
        place: String,
        /// How many keys were tried.
        keys: usize,
    },
    /// The signature is good, but too far from now.
    OutOfWindow {
        /// Signed time minus now, in seconds.
        ahead_s: i64,
        /// The tolerance in seconds.
        tolerance_s: u64,
    },
}

impl Problem {
    /// Returns the code that the sender sees.
    pub fn reason(&self) -> RejectReason {
        match self {
            Problem::Missing { .. } => RejectReason::MissingHeader,
            Problem::Conflict { .. } | Problem::Malformed { .. } => RejectReason::InvalidHeader,
            Problem::NoKey | Problem::Mismatch { .. } => RejectReason::InvalidSignature,
            Problem::OutOfWindow { .. } => RejectReason::TimestampOutOfWindow,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { place, form } => write!(f, "{place} is missing; expected {form}"),
            Problem::Conflict { place } => {
                write!(f, "{place} is there more than once, with different values")
            }
            Problem::Malformed { place, form } => write!(f, "{place} has another form; expected {form}"),
            Problem::NoKey => f.write_str("the trigger has no secret yet, so nothing can be verified"),
            Problem::Mismatch { place, keys } => {
                let secrets = if *keys == 1 { "the secret yields" } else { "none of the secrets yields" };
                write!(
                    f,
                    "{secrets} the signature in {place}: wrong secret, or the body was changed on the way"
                )
            }
            Problem::OutOfWindow { ahead_s, tolerance_s } => {
                let side = if *ahead_s < 0 { "behind" } else { "ahead of" };
                let by = ahead_s.unsigned_abs();
                write!(f, "the signed time is {by} s {side} our clock; the tolerance is {tolerance_s} s")
            }
        }
    }
}

/// Why a secret does not serve as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, blank, or all NUL: anybody could sign with it.
    #[error("the secret is empty or blank")]
    Blank,
    /// The scheme's key pipe cannot read it.
    #[error("the secret does not have the provider's form")]
    Form,
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

    /// Tells whether the proof covers the delivery's id.
    pub fn covers_id(&self) -> bool {
        self.content.covers_id()
    }

    /// Tells whether any part of the proof is there.
    pub fn is_present(&self, values: &Values<'_>) -> bool {
        self.sigs.iter().any(|slot| values.get(*slot).is_some())
    }

    /// Returns the delivery's id.
    pub fn id(&self, values: &Values<'_>) -> Option<String> {
        self.ids.iter().find_map(|slot| values.text(*slot))
    }

    /// Verifies a request.
    ///
    /// A signed time that stands in the body is looked at where it is there: a signed delivery is not
    /// refused over its shape.
    ///
    /// # Errors
    ///
    /// Why the proof does not hold.
    pub fn verify(&self, keys: &[Key], values: &Values<'_>, window: Window) -> Result<Proof, Problem> {
        self.refuse_conflicts(values)?;
        let claim = self.claim(values)?;
        let id = self.ids.iter().find_map(|slot| values.get(*slot));
        let context = Context { values, timestamp: claim.timestamp.as_deref(), id: id.as_deref() };
        if keys.is_empty() {
            return Err(Problem::NoKey);
        }
        let key_index = self.matching_key(keys, &claim.candidates, &context)?.ok_or_else(|| {
            let place = self.places(values);
            Problem::Mismatch { place, keys: keys.len() }
        })?;
        let signed_at = claim.signed_at.or_else(|| self.time_in_body(values));
        self.check_window(signed_at, window)?;
        Ok(Proof { key_index, signed_at })
    }

    fn refuse_conflicts(&self, values: &Values<'_>) -> Result<(), Problem> {
        let ids = self.ids.iter().filter(|_| self.content.covers_id()).copied();
        let mut proof =
            self.sigs.iter().copied().chain(self.timestamp).chain(ids).chain(self.content.slots());
        match proof.find(|slot| values.conflicts(*slot)) {
            Some(slot) => Err(Problem::Conflict { place: values.location(slot).to_string() }),
            None => Ok(()),
        }
    }

    /// Reads what the request claims: its signatures and its signed time.
    fn claim<'v>(&self, values: &'v Values<'_>) -> Result<Claim<'v>, Problem> {
        let mut claim = Claim::default();
        let mut times = Times::default();
        for slot in &self.sigs {
            let Some(text) = values.get(*slot) else { continue };
            claim.present = true;
            self.syntax.read(&text, |field, value| match field {
                Field::Signature => claim.candidates.add(self.encoding, value),
                Field::Timestamp => times.add(value),
                Field::Ignored => {}
            });
        }
        if !claim.present {
            return Err(Problem::Missing { place: self.places(values), form: self.form() });
        }
        let malformed = || Problem::Malformed { place: self.places(values), form: self.form() };
        if claim.candidates.is_unusable() || times.conflict {
            return Err(malformed());
        }
        if self.syntax.has_timestamp() {
            claim.timestamp = Some(Cow::Owned(times.first.ok_or_else(malformed)?));
        } else if let Some(slot) = self.timestamp.filter(|slot| !in_body(values.location(*slot))) {
            claim.timestamp = Some(values.get(slot).ok_or_else(|| self.no_time(values, slot))?);
        }
        if let Some(text) = &claim.timestamp {
            let time = std::str::from_utf8(text).ok().and_then(|text| self.unit.parse(text));
            let place = || {
                self.timestamp.map_or_else(|| self.places(values), |slot| values.location(slot).to_string())
            };
            let form = || self.unit.form().to_owned();
            claim.signed_at = Some(time.ok_or_else(|| Problem::Malformed { place: place(), form: form() })?);
        }
        Ok(claim)
    }

    fn no_time(&self, values: &Values<'_>, slot: Slot) -> Problem {
        Problem::Missing { place: values.location(slot).to_string(), form: self.unit.form().to_owned() }
    }

    fn matching_key(
        &self,
        keys: &[Key],
        candidates: &Candidates,
        context: &Context<'_>,
    ) -> Result<Option<usize>, Problem> {
        for (index, key) in keys.iter().enumerate() {
            let mut mac = key.clone();
            self.content.write(context, &mut |bytes| mac.update(bytes)).map_err(|place| {
                Problem::Missing { place, form: "it is part of what is signed".to_owned() }
            })?;
            let tag = mac.finish();
            let matches =
                candidates.iter().fold(Choice::from(0), |any, candidate| any | tag.matches(candidate));
            if matches.into() {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn time_in_body(&self, values: &Values<'_>) -> Option<Timestamp> {
        let slot = self.timestamp.filter(|slot| in_body(values.location(*slot)))?;
        self.unit.parse(&values.text(slot)?)
    }

    fn check_window(&self, signed_at: Option<Timestamp>, window: Window) -> Result<(), Problem> {
        let (Some(signed_at), Some(tolerance)) = (signed_at, window.tolerance) else { return Ok(()) };
        if u128::from(self.unit.distance_ms(signed_at, window.now)) <= tolerance.as_millis() {
            return Ok(());
        }
        let ahead_s = signed_at.as_second() - window.now.as_second();
        Err(Problem::OutOfWindow { ahead_s, tolerance_s: tolerance.as_secs() })
    }

    fn places(&self, values: &Values<'_>) -> String {
        let places: Vec<_> = self.sigs.iter().map(|slot| values.location(*slot).to_string()).collect();
        places.join(" or ")
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
        let id = self.ids.iter().find_map(|slot| values.get(*slot));
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

fn in_body(location: &Location) -> bool {
    matches!(location, Location::Json(_) | Location::Form(_))
}

/// What a request claims about itself.
#[derive(Default)]
struct Claim<'v> {
    present: bool,
    candidates: Candidates,
    timestamp: Option<Cow<'v, [u8]>>,
    signed_at: Option<Timestamp>,
}

/// Decoded signatures.
struct Candidates {
    tags: [([u8; TAG_BYTES_MAX], usize); CANDIDATES_MAX],
    len: usize,
    overflow: bool,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { tags: [([0; TAG_BYTES_MAX], 0); CANDIDATES_MAX], len: 0, overflow: false }
    }
}

impl Candidates {
    /// Adds a signature if it is strictly encoded; one that is not can match nothing.
    fn add(&mut self, encoding: Encoding, text: &[u8]) {
        let mut buffer = [0; TAG_BYTES_MAX];
        let len = encoding.decode(text, &mut buffer).map_or(0, <[u8]>::len);
        if len == 0 {
            return;
        }
        match self.tags.get_mut(self.len) {
            Some(slot) => {
                *slot = (buffer, len);
                self.len += 1;
            }
            None => self.overflow = true,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.tags[..self.len].iter().map(|(bytes, len)| &bytes[..*len])
    }

    fn is_unusable(&self) -> bool {
        self.overflow || self.len == 0
    }
}

/// The signed times that stand in a proof's text; different ones are ambiguous.
#[derive(Default)]
struct Times {
    first: Option<Vec<u8>>,
    conflict: bool,
}

impl Times {
    fn add(&mut self, text: &[u8]) {
        match &self.first {
            None => self.first = Some(text.to_vec()),
            Some(first) => self.conflict |= first != text,
        }
    }
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
