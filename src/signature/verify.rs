//! Verifies a request by its scheme.
//!
//! Order of checks: the proof is there, it has the provider's form, it holds, and only then the clock
//! is asked. So a sender without the secret learns nothing about our clock.

use std::borrow::Cow;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::jwt::{self, Token};
use super::key::{Check, Material};
use super::listed::Listed;
use super::scheme::{Bind, in_body};
use super::{Algorithm, Context, Encoding, Field, Key, Location, Problem, Scheme, Template, Values};
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
        let id = claim.id.as_deref().map(Cow::Borrowed).or_else(|| self.signed_id(values));
        let context = Context {
            timestamp: claim.timestamp.as_deref(),
            id: id.as_deref(),
            key_id: claim.key_id.as_deref(),
            head: claim.head.as_deref(),
            ..Context::of(values)
        };
        let tokens = self.tokens(&claim.candidates, values)?;
        if keys.is_empty() {
            return Err(Problem::NoKey);
        }
        let found = match self.algorithm {
            Algorithm::Jwt => self.matching_token(keys, tokens, values, window)?,
            _ => self.matching_key(keys, &claim.candidates, &context)?,
        };
        let key_index =
            found.ok_or_else(|| Problem::Mismatch { place: self.places_text(values), keys: keys.len() })?;
        let context = Context { secret: keys[key_index].secret.as_ref().map(|s| s.as_slice()), ..context };
        self.verify_lists(values)?;
        self.verify_binds(&context)?;
        let signed_at = match claim.signed_at {
            None => self.time_in_content(values)?,
            signed_at => signed_at,
        };
        self.verify_window(signed_at, window)?;
        Ok(Proof { key_index, signed_at })
    }

    /// Returns which of the provider's keys a request's proof says it was made with, if it says so, and
    /// nothing if the request has no proof of the provider's form.
    pub fn claimed_key_id(&self, values: &Values<'_>) -> Option<Option<String>> {
        let claim = self.claim(values).ok()?;
        if self.algorithm == Algorithm::Jwt {
            return claim.candidates.iter().find_map(Token::parse).map(|token| token.key_id);
        }
        Some(claim.key_id.map(|id| String::from_utf8_lossy(&id).into_owned()))
    }

    /// Returns the proofs that a request brings, decoded, to find out why none of them holds.
    pub fn claimed_proofs(&self, values: &Values<'_>) -> Vec<Vec<u8>> {
        self.claim(values).map(|claim| claim.candidates.proofs).unwrap_or_default()
    }

    /// Returns the algorithm with which a request's token says it is signed, where that is none of those
    /// that are accepted.
    pub fn foreign_algorithm(&self, values: &Values<'_>) -> Option<String> {
        if self.algorithm != Algorithm::Jwt {
            return None;
        }
        let proofs = self.claimed_proofs(values);
        let mut tokens = proofs.iter().filter_map(|text| Token::parse(text));
        tokens
            .find(|token| !token.is_of_any(&self.algs))
            .and_then(|token| token.algorithm())
            .map(|alg| alg.to_string())
    }

    fn refuse_conflicts(&self, values: &Values<'_>) -> Result<(), Problem> {
        let ids = self.ids.iter().copied().filter(|_| self.covers_id());
        let signed = self.contents.iter().flat_map(Template::slots);
        let bound = self.binds.iter().map(|bind| bind.at);
        let mut proof = self.sigs.iter().copied().chain(self.timestamp).chain(ids).chain(signed).chain(bound);
        match proof.find(|slot| values.conflicts(*slot)) {
            Some(slot) => Err(Problem::Conflict { place: values.location(slot).to_string() }),
            None => Ok(()),
        }
    }

    /// Returns the delivery's id where it is part of what is signed; an empty one is none. Where it is not part,
    /// it is not looked for, so that the body of a request that may be forged is not parsed.
    pub(super) fn signed_id<'v>(&self, values: &'v Values<'_>) -> Option<Cow<'v, [u8]>> {
        let mut ids = self.ids.iter().filter(|_| self.covers_id()).filter_map(|slot| values.get(*slot));
        ids.find(|id| !id.is_empty())
    }

    /// Reads what the request claims: its signatures and its signed time.
    fn claim<'v>(&self, values: &'v Values<'_>) -> Result<Claim<'v>, Problem> {
        let mut candidates = Candidates::default();
        let (mut times, mut ids, mut key_ids) = (Once::default(), Once::default(), Once::default());
        let mut heads = Once::default();
        let mut present = false;
        for text in self.sigs.iter().filter_map(|slot| values.get(*slot)) {
            present |= !text.is_empty();
            self.syntax.read(&text, |field, value| match field {
                Field::Signature => {
                    candidates.add(self.encoding, value, self.algorithm.proof_bytes_max());
                }
                Field::Timestamp => times.add(value),
                Field::Id => ids.add(value),
                Field::KeyId => key_ids.add(value),
                Field::Head => heads.add(value),
                Field::Ignored => {}
            });
        }
        let (place, form) = (|| self.places_text(values), || self.form());
        if !present && self.sigs.iter().all(|slot| values.get(*slot).is_none()) {
            return Err(Problem::Missing { place: place(), form: form() });
        }
        let malformed = || Problem::Malformed { place: place(), form: form() };
        if candidates.is_unusable() || times.conflict || ids.conflict || heads.conflict {
            return Err(malformed());
        }
        let (id, head) = (ids.first, heads.first);
        let named = || values.get(self.key_id?).map(Cow::into_owned);
        let key_id = key_ids.first.or_else(named);
        if self.syntax.has_timestamp() {
            let text = times.first.ok_or_else(malformed)?;
            let signed_at = self.parse_time(&text).ok_or_else(malformed)?;
            let timestamp = Some(text.into());
            return Ok(Claim { candidates, timestamp, signed_at: Some(signed_at), id, key_id, head });
        }
        let (timestamp, signed_at) = self.time_beside_content(values)?.unzip();
        Ok(Claim { candidates, timestamp, signed_at, id, key_id, head })
    }

    /// Reads a signed time that stands in a place of its own, outside of body and token.
    fn time_beside_content<'v>(&self, values: &'v Values<'_>) -> Result<Option<TextAndTime<'v>>, Problem> {
        let Some(slot) = self.timestamp.filter(|slot| !is_content(values.location(*slot))) else {
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
        let mut missing = None;
        for (index, key) in keys.iter().enumerate() {
            let context = Context { secret: key.secret.as_ref().map(|s| s.as_slice()), ..*context };
            let mut computed = false;
            for content in &self.contents {
                let Some(mut check) = Check::new(self.algorithm, key) else { continue };
                // Of several forms of the content, the request has the values of one.
                if let Err(place) = content.write(&context, &mut |bytes| check.update(bytes)) {
                    missing.get_or_insert(place);
                    continue;
                }
                computed = true;
                if check.accepts(candidates.iter()) {
                    return Ok(Some(index));
                }
            }
            if let Some(place) = missing.take_if(|_| !computed) {
                return Err(Problem::Missing { place, form: "it is part of what is signed".to_owned() });
            }
        }
        Ok(None)
    }

    /// Takes the tokens of a proof apart, those of an algorithm that the provider uses.
    fn tokens<'c>(&self, candidates: &'c Candidates, values: &Values<'_>) -> Result<Vec<Token<'c>>, Problem> {
        if self.algorithm != Algorithm::Jwt {
            return Ok(Vec::new());
        }
        let tokens = candidates.iter().filter_map(Token::parse);
        let tokens: Vec<_> = tokens.filter(|token| token.is_of_any(&self.algs)).collect();
        if tokens.is_empty() {
            return Err(Problem::Malformed { place: self.places_text(values), form: self.form() });
        }
        Ok(tokens)
    }

    /// Finds the key of a token, and keeps the token's claims.
    fn matching_token(
        &self,
        keys: &[Key],
        tokens: Vec<Token<'_>>,
        values: &Values<'_>,
        window: Window,
    ) -> Result<Option<usize>, Problem> {
        for token in tokens {
            let signs = |key: &Key| match &key.material {
                Material::Jwt(key) => token.is_signed_by(key, &self.algs),
                _ => false,
            };
            let Some(index) = keys.iter().position(signs) else { continue };
            let off = token.seconds_off(window.now);
            let unstated = self.must_claim.iter().find(|time| !token.states(**time));
            values.set_claims(token.claims);
            if let Some(time) = unstated {
                return Err(Problem::Unstated { claim: time.to_string() });
            }
            if off != 0 {
                return Err(Problem::OutOfWindow { ahead_s: off, tolerance_s: jwt::LEEWAY_S.unsigned_abs() });
            }
            return Ok(Some(index));
        }
        Ok(None)
    }

    /// Holds that the request lists as signed what must be.
    fn verify_lists(&self, values: &Values<'_>) -> Result<(), Problem> {
        for list in self.contents.iter().flat_map(Template::lists) {
            let text = values.text(list).unwrap_or_default();
            let listed = Listed::new(&text, values.request());
            let is_signed = |name: &&String| listed.as_ref().is_some_and(|listed| listed.has(name));
            if let Some(name) = self.must_sign.iter().find(|name| !is_signed(name)) {
                return Err(Problem::Uncovered { place: format!("header {}", name.to_ascii_lowercase()) });
            }
        }
        Ok(())
    }

    fn verify_binds(&self, context: &Context<'_>) -> Result<(), Problem> {
        let unbound = |bind: &Bind| Problem::Unbound { place: context.values.location(bind.at).to_string() };
        if let Some(bind) = self.binds.iter().find(|bind| bind.forbids(context.values)) {
            return Err(unbound(bind));
        }
        self.verify_form(context.values)?;
        for bind in self.binds.iter().filter(|bind| bind.applies(context.values)) {
            let expected = bind.equals.fill(context).map_err(|_| unbound(bind))?;
            // Whether base64 ends in its padding says nothing.
            let bare = |text: &[u8]| -> Vec<u8> {
                let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
                text[..end].to_vec()
            };
            let expected = bare(&expected);
            let values = context.values.all(bind.at);
            if !values.iter().any(|value| bool::from(bare(value).ct_eq(&expected))) {
                return Err(unbound(bind));
            }
        }
        Ok(())
    }

    /// Refuses a body that is no form where only forms are signed, and nothing else is bound to it.
    fn verify_form(&self, values: &Values<'_>) -> Result<(), Problem> {
        let request = values.request();
        let reads_form = self.contents.iter().any(Template::reads_form);
        let is_covered = || {
            let mut binds = self.binds.iter().filter(|bind| bind.applies(values));
            binds.any(|bind| bind.equals.covers_body())
        };
        if reads_form && !request.is_form() && !request.body.is_empty() && !is_covered() {
            return Err(Problem::Unbound { place: "a body that is no form".to_owned() });
        }
        Ok(())
    }

    /// Reads a signed time that stands in the body, where it is there, or in a token, where it must be.
    fn time_in_content(&self, values: &Values<'_>) -> Result<Option<Timestamp>, Problem> {
        let Some(slot) = self.timestamp.filter(|slot| is_content(values.location(*slot))) else {
            return Ok(None);
        };
        let time = values.text(slot).and_then(|text| self.unit.parse(&text));
        if time.is_none() && matches!(values.location(slot), Location::Claim(_)) {
            let place = values.location(slot).to_string();
            return Err(Problem::Malformed { place, form: self.unit.form().to_owned() });
        }
        Ok(time)
    }

    fn verify_window(&self, signed_at: Option<Timestamp>, window: Window) -> Result<(), Problem> {
        let (Some(signed_at), Some(tolerance)) = (signed_at, window.tolerance) else { return Ok(()) };
        if u128::from(self.unit.distance_ms(signed_at, window.now)) <= tolerance.as_millis() {
            return Ok(());
        }
        let ahead_s = signed_at.as_second() - window.now.as_second();
        Err(Problem::OutOfWindow { ahead_s, tolerance_s: tolerance.as_secs() })
    }

    fn places_text(&self, values: &Values<'_>) -> String {
        let places: Vec<_> = self.sigs.iter().map(|slot| values.location(*slot).to_string()).collect();
        places.join(" or ")
    }
}

/// Tells whether a value is part of what is signed, body or token, and not beside it.
fn is_content(location: &Location) -> bool {
    in_body(location) || matches!(location, Location::Claim(_))
}

/// A time's text, verbatim, and what it says.
type TextAndTime<'v> = (Cow<'v, [u8]>, Timestamp);

/// What a request claims about itself.
struct Claim<'v> {
    candidates: Candidates,
    /// The signed time's text, verbatim.
    timestamp: Option<Cow<'v, [u8]>>,
    signed_at: Option<Timestamp>,
    id: Option<Vec<u8>>,
    key_id: Option<Vec<u8>>,
    head: Option<Vec<u8>>,
}

/// Decoded signatures.
#[derive(Default)]
struct Candidates {
    proofs: Vec<Vec<u8>>,
    overflow: bool,
}

impl Candidates {
    /// Adds a signature if it is strictly encoded; one that is not can match nothing.
    fn add(&mut self, encoding: Encoding, text: &[u8], bytes_max: usize) {
        let Some(proof) = encoding.decode(text, bytes_max) else { return };
        if self.proofs.len() == CANDIDATES_MAX {
            self.overflow = true;
        } else {
            self.proofs.push(proof);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.proofs.iter().map(Vec::as_slice)
    }

    fn is_unusable(&self) -> bool {
        self.overflow || self.proofs.is_empty()
    }
}

/// A value of a proof's text that stands there once, such as its time; different ones are ambiguous.
#[derive(Default)]
struct Once {
    first: Option<Vec<u8>>,
    conflict: bool,
}

impl Once {
    fn add(&mut self, text: &[u8]) {
        match &self.first {
            None => self.first = Some(text.to_vec()),
            Some(first) => self.conflict |= first != text,
        }
    }
}
