//! Why a request does not verify: the likely cause, found offline by trying what commonly goes wrong.
//!
//! For `verify` and the quarantine, when somebody looks; never on a request's way, for it costs many
//! hashes, and never shown to the sender.

mod attempts;
mod cause;

use std::sync::Arc;

use attempts::{bases, bodies, paths, proofs, readings, users};
pub use cause::Cause;

use super::keys::{given_public_keys, keys, named};
use super::plan::{BuildError, Form, Plan};
use super::verifier::verify_each;
use super::{FetchedKey, RawInbound, TriggerSettings};
use crate::catalog::{ProviderEntry, SIGNING_SECRET, words};
use crate::event::Timestamp;
use crate::secrets::Secret;
use crate::signature::{Encoding, Key, Location, Named, Problem, Request, Scheme, Unit, Values, Window};

/// Looks for the cause why a request does not verify; `None` if it does, or if no cause was found.
///
/// `others` are further secrets to try, such as those of other triggers, with names for people. `fetched` are
/// the provider's public keys, where they are known.
///
/// # Errors
///
/// If the entry cannot be compiled with the trigger's settings and secrets.
pub fn explain(
    entry: &Arc<ProviderEntry>,
    trigger: &TriggerSettings,
    others: &[(String, Secret)],
    raw: &RawInbound,
    now: Timestamp,
    fetched: &[FetchedKey],
) -> Result<Option<Cause>, BuildError> {
    let plan = Plan::new(entry, &trigger.settings)?;
    let secrets = trigger.secrets.get(SIGNING_SECRET).map(Vec::as_slice).unwrap_or_default();
    let named = named(&trigger.secrets);
    let request = request(raw, trigger.public_url.as_deref());
    let form = plan.form_of(&Values::new(&plan.fields, request).with_named(&named));
    let Some(form) = form.map(|index| &plan.forms[index]) else { return Ok(None) };
    let given = given_public_keys(&trigger.public_keys)?;
    let mut keys = keys(&plan, form, secrets, given.as_deref())?;
    if keys.is_empty() {
        let secret = secrets.first().map(Secret::expose);
        keys.extend(fetched.iter().filter_map(|it| form.scheme.key_of_public(&it.key, secret)));
    }
    let case = Case { plan: &plan, form, scheme: &form.scheme, trigger, named: &named, raw };
    let window = Window { now, tolerance: trigger.tolerance.or(form.tolerance) };
    Ok(match case.verify(&keys, raw, window) {
        Ok(()) | Err(Problem::Conflict { .. }) => None,
        Err(Problem::OutOfWindow { ahead_s, .. }) => {
            case.time_unit(&keys, window).or(Some(Cause::Clock { ahead_s }))
        }
        Err(Problem::Unbound { place }) => {
            case.url(&keys).or_else(|| case.body(&keys)).or_else(|| case.unbound(&place))
        }
        Err(Problem::Missing { .. }) => case.other_header(&keys).or_else(|| case.url(&keys)),
        Err(_) => case
            .other_secret(others)
            .or_else(|| case.secret_form(secrets))
            .or_else(|| case.signature_form(&keys))
            .or_else(|| case.proof_form(&keys))
            .or_else(|| case.token_algorithm())
            .or_else(|| case.time_unit(&keys, window))
            .or_else(|| case.url(&keys))
            .or_else(|| case.body(&keys)),
    })
}

fn request<'a>(raw: &'a RawInbound, public_url: Option<&'a str>) -> Request<'a> {
    Request { method: &raw.method, url: &raw.url, public_url, headers: &raw.headers, body: &raw.body }
}

struct Case<'a> {
    plan: &'a Plan,
    form: &'a Form,
    /// The form's scheme, or one that differs from it in what is tried.
    scheme: &'a Scheme,
    trigger: &'a TriggerSettings,
    named: &'a Named,
    raw: &'a RawInbound,
}

impl Case<'_> {
    fn verify(&self, keys: &[Key], raw: &RawInbound, window: Window) -> Result<(), Problem> {
        self.verify_at(self.trigger.public_url.as_deref(), keys, raw, window)
    }

    /// Verifies as if the trigger were registered under another URL.
    fn verify_at(
        &self,
        public_url: Option<&str>,
        keys: &[Key],
        raw: &RawInbound,
        window: Window,
    ) -> Result<(), Problem> {
        let values = Values::new(&self.plan.fields, request(raw, public_url)).with_named(self.named);
        match self.scheme.is_each() {
            true => verify_each(self.scheme, keys, &values, window).map(drop),
            false => self.scheme.verify(keys, &values, window).map(drop),
        }
    }

    /// Verifies at any time.
    fn holds(&self, keys: &[Key], raw: &RawInbound) -> bool {
        self.verify(keys, raw, self.any_time()).is_ok()
    }

    fn any_time(&self) -> Window {
        Window { now: self.raw.received_at, tolerance: None }
    }

    fn other_header(&self, keys: &[Key]) -> Option<Cause> {
        let signed = self.scheme.signed_headers(&self.plan.fields);
        let place = (*signed.first()?).to_owned();
        let candidates = self.raw.headers.iter().filter(|(name, _)| !signed.contains(&name.as_str()));
        let judged = candidates.filter_map(|(name, value)| {
            let mut raw = self.raw.clone();
            raw.headers.push((place.clone(), value.clone()));
            let name = name.clone();
            match self.verify(keys, &raw, self.any_time()) {
                Ok(()) => Some(Cause::OtherHeader { name, holds: true }),
                Err(Problem::Mismatch { .. } | Problem::NoKey) => {
                    Some(Cause::OtherHeader { name, holds: false })
                }
                Err(_) => None,
            }
        });
        let judged: Vec<Cause> = judged.collect();
        let good = judged.iter().find(|cause| matches!(cause, Cause::OtherHeader { holds: true, .. }));
        good.or(judged.first()).cloned()
    }

    fn other_secret(&self, others: &[(String, Secret)]) -> Option<Cause> {
        let found = others.iter().find(|(_, secret)| {
            self.scheme.key(secret.expose()).is_ok_and(|key| self.holds(&[key], self.raw))
        })?;
        Some(Cause::OtherSecret { name: found.0.clone() })
    }

    fn secret_form(&self, secrets: &[Secret]) -> Option<Cause> {
        secrets.iter().enumerate().find_map(|(index, secret)| {
            let found = self.readings(secret.expose()).into_iter().find(|(_, bytes)| {
                let as_is = self.scheme.key_of_bytes(bytes);
                let piped = self.scheme.key(bytes).ok();
                let keys: Vec<Key> = as_is.into_iter().chain(piped).collect();
                self.holds(&keys, self.raw)
            });
            found.map(|(how, _)| Cause::SecretForm { number: index + 1, how })
        })
    }

    fn readings(&self, secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut readings = readings(secret);
        if self.scheme.is_bearer() {
            let values = Values::new(&self.plan.fields, request(self.raw, None));
            let sent = self.scheme.claimed_proofs(&values);
            readings.extend(sent.iter().flat_map(|sent| users(secret, sent)));
        }
        readings
    }

    fn signature_form(&self, keys: &[Key]) -> Option<Cause> {
        let found = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url].into_iter().find(|encoding| {
            let scheme = self.scheme.with_encoding(*encoding);
            Case { scheme: &scheme, ..*self }.holds(keys, self.raw)
        })?;
        Some(Cause::SignatureForm { encoding: found })
    }

    fn proof_form(&self, keys: &[Key]) -> Option<Cause> {
        let headers = self.scheme.places(&self.plan.fields).filter_map(|place| match place {
            Location::Header(name) => Some(name),
            _ => None,
        });
        let places = headers.filter_map(|name| self.raw.headers.iter().position(|(known, _)| known == name));
        places.into_iter().find_map(|at| {
            let text = std::str::from_utf8(&self.raw.headers[at].1).ok()?.trim();
            let found = proofs(text).into_iter().find(|(text, _)| {
                let mut raw = self.raw.clone();
                raw.headers[at].1 = text.clone().into();
                self.holds(keys, &raw)
            });
            found.map(|(_, how)| Cause::ProofForm { how })
        })
    }

    fn token_algorithm(&self) -> Option<Cause> {
        let values = Values::new(&self.plan.fields, request(self.raw, None));
        let alg = self.scheme.foreign_algorithm(&values)?;
        Some(Cause::TokenAlgorithm { alg, accepted: self.scheme.accepted_algorithms() })
    }

    /// Looks for the unit in which the signed time is within the window.
    fn time_unit(&self, keys: &[Key], window: Window) -> Option<Cause> {
        window.tolerance?;
        let units = [Unit::Seconds, Unit::Milliseconds, Unit::Microseconds, Unit::Rfc3339, Unit::HttpDate];
        let unit = units.into_iter().find(|unit| {
            let scheme = self.scheme.with_unit(*unit);
            Case { scheme: &scheme, ..*self }.verify(keys, self.raw, window).is_ok()
        })?;
        Some(Cause::TimeUnit { unit })
    }

    /// Says what a signed value must be that is something else.
    fn unbound(&self, place: &str) -> Option<Cause> {
        let is_meant = |bind: &&(String, String)| {
            bind.0.parse::<Location>().is_ok_and(|location| location.to_string() == place)
        };
        let (at, expected) = self.form.binds.iter().find(is_meant)?;
        Some(Cause::Unbound { place: words::place(at), expected: words::content(expected) })
    }

    fn url(&self, keys: &[Key]) -> Option<Cause> {
        if !self.scheme.covers_url() {
            return None;
        }
        let (path, query) = match self.raw.url.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (self.raw.url.as_str(), String::new()),
        };
        let bases = bases(self.raw, self.trigger.public_url.as_deref());
        let tried = bases.iter().flat_map(|base| paths(path).map(|path| (base, path)));
        let mut tried = tried.flat_map(|(base, path)| [&*query, ""].map(|query| (base, path.clone(), query)));
        tried.find_map(|(base, path, query)| {
            let public_url = base.as_ref().map(|base| format!("{base}{path}"));
            let raw = RawInbound { url: format!("{path}{query}"), ..self.raw.clone() };
            let verified = self.verify_at(public_url.as_deref(), keys, &raw, self.any_time());
            verified
                .ok()
                .map(|()| Cause::Url { signed: format!("{}{path}{query}", base.as_deref().unwrap_or("")) })
        })
    }

    fn body(&self, keys: &[Key]) -> Option<Cause> {
        bodies(&self.raw.body).into_iter().find_map(|(how, body)| {
            let raw = RawInbound { body, ..self.raw.clone() };
            self.holds(keys, &raw).then_some(Cause::Body { how })
        })
    }
}

#[cfg(test)]
mod tests;
