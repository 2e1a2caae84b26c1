//! Verifies a request by its scheme.
//!
//! Order of checks: the proof is there, it has the provider's form, it holds, and only then the clock
//! is asked. So a sender without the secret learns nothing about our clock.

use std::borrow::Cow;
use std::time::Duration;

use subtle::Choice;

use super::mac::TAG_BYTES_MAX;
use super::scheme::in_body;
use super::{Context, Encoding, Field, Key, Problem, Scheme, Values};
use crate::event::Timestamp;

/// Most signatures in one proof. Providers send one per secret in rotation; a longer list is an
/// attempt to make us compare.
const CANDIDATES_MAX: usize = 16;

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

impl Scheme {
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
        let id = self.signed_id(values);
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
        let ids = self.ids.iter().copied().filter(|_| self.content.covers_id());
        let mut proof =
            self.sigs.iter().copied().chain(self.timestamp).chain(ids).chain(self.content.slots());
        match proof.find(|slot| values.conflicts(*slot)) {
            Some(slot) => Err(Problem::Conflict { place: values.location(slot).to_string() }),
            None => Ok(()),
        }
    }

    /// Reads what the request claims: its signatures and its signed time.
    fn claim<'v>(&self, values: &'v Values<'_>) -> Result<Claim<'v>, Problem> {
        let mut candidates = Candidates::default();
        let mut times = Times::default();
        let mut present = false;
        for text in self.sigs.iter().filter_map(|slot| values.get(*slot)) {
            present = true;
            self.syntax.read(&text, |field, value| match field {
                Field::Signature => candidates.add(self.encoding, value),
                Field::Timestamp => times.add(value),
                Field::Ignored => {}
            });
        }
        if !present {
            return Err(Problem::Missing { place: self.places(values), form: self.form() });
        }
        let malformed = || Problem::Malformed { place: self.places(values), form: self.form() };
        if candidates.is_unusable() || times.conflict {
            return Err(malformed());
        }
        if self.syntax.has_timestamp() {
            let text = times.first.ok_or_else(malformed)?;
            let signed_at = self.parse_time(&text).ok_or_else(malformed)?;
            return Ok(Claim { candidates, timestamp: Some(text.into()), signed_at: Some(signed_at) });
        }
        let (timestamp, signed_at) = self.time_beside_body(values)?.unzip();
        Ok(Claim { candidates, timestamp, signed_at })
    }

    /// Reads a signed time that stands in a place of its own, other than the body.
    fn time_beside_body<'v>(&self, values: &'v Values<'_>) -> Result<Option<TextAndTime<'v>>, Problem> {
        let Some(slot) = self.timestamp.filter(|slot| !in_body(values.location(*slot))) else {
            return Ok(None);
        };
        let (place, form) = (|| values.location(slot).to_string(), || self.unit.form().to_owned());
        let text = values.get(slot).ok_or_else(|| Problem::Missing { place: place(), form: form() })?;
        let time =
            self.parse_time(&text).ok_or_else(|| Problem::Malformed { place: place(), form: form() })?;
        Ok(Some((text, time)))
    }

    fn parse_time(&self, text: &[u8]) -> Option<Timestamp> {
        self.unit.parse(std::str::from_utf8(text).ok()?)
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
}

/// A time's text, verbatim, and what it says.
type TextAndTime<'v> = (Cow<'v, [u8]>, Timestamp);

/// What a request claims about itself.
struct Claim<'v> {
    candidates: Candidates,
    /// The signed time's text, verbatim.
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
