//! Signs as a provider does: for `send` and `bench`, and for deliveries that carry the provider's
//! signature anew. The exact inverse of [`Verifier`](super::Verifier), run by the same scheme.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::{BuildError, Plan};
use super::verifier::keys;
use crate::catalog::ProviderEntry;
use crate::event::{Header, Timestamp};
use crate::secrets::Secret;
use crate::signature::{Key, Request, Scheme};

/// A request to sign.
#[derive(Debug, Clone, Copy)]
pub struct SignRequest<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Path and query.
    pub url: &'a str,
    /// Headers that the request has already, names in lower case.
    pub headers: &'a [Header],
    /// The body, which is signed as it is.
    pub body: &'a [u8],
    /// The time that the signature carries, where it carries one.
    pub now: Timestamp,
    /// The delivery's id, for providers that send it in a header; a header that is there already wins.
    pub delivery_id: &'a str,
    /// The event's kind, for providers that send it in a header; a header that is there already wins.
    pub kind: Option<&'a str>,
}

/// What a request lacks to be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign without {0}")]
pub struct SignError(String);

/// Signs requests with one secret.
#[derive(Debug, Clone)]
pub struct Signer {
    plan: Arc<Plan>,
    key: Key,
    public_url: Option<String>,
}

impl Signer {
    /// Compiles an entry for signing with one secret; `settings` are the trigger's. Nothing comes of an
    /// entry that has no signature.
    ///
    /// # Errors
    ///
    /// If the secret cannot serve, or a setting is missing, unknown, or makes no sense.
    pub fn new(
        entry: &Arc<ProviderEntry>,
        settings: &BTreeMap<String, String>,
        public_url: Option<&str>,
        secret: &Secret,
    ) -> Result<Option<Self>, BuildError> {
        let plan = Plan::new(entry, settings)?;
        let key = keys(&plan, std::slice::from_ref(secret))?.pop();
        Ok(key.map(|key| Self { plan: Arc::new(plan), key, public_url: public_url.map(str::to_owned) }))
    }

    fn scheme(&self) -> &Scheme {
        self.plan.scheme.as_ref().expect("a signer is built only of an entry with a scheme")
    }

    /// Returns the headers that make the request one of the provider's: kind, delivery id, signed time
    /// and signature. They replace headers of the same name.
    ///
    /// # Errors
    ///
    /// If what is signed includes something that the request does not have.
    pub fn sign(&self, request: SignRequest<'_>) -> Result<Vec<(String, String)>, SignError> {
        let mut added = Vec::new();
        if let (Some(kind), Some(template)) = (request.kind, self.plan.kinds.first()) {
            added.extend(template.headers_of(kind, &self.plan.fields));
        }
        if let Some(name) = self.scheme().id_header(&self.plan.fields) {
            added.push((name.to_owned(), request.delivery_id.to_owned()));
        }
        added.retain(|(name, _)| !request.headers.iter().any(|(known, _)| known == name));
        let mut headers = request.headers.to_vec();
        headers.extend(added.iter().map(|(name, value)| (name.clone(), value.clone().into())));
        added.extend(self.proof(SignRequest { headers: &headers, ..request })?);
        Ok(added)
    }

    /// Signs a stored request anew: its body, and all headers but those that are returned, stay as
    /// they are. Returned are [`renewed_headers`](Self::renewed_headers), and the id header if the
    /// signature covers it and the request has none.
    ///
    /// # Errors
    ///
    /// If what is signed includes something that the request does not have.
    pub fn sign_anew(&self, request: SignRequest<'_>) -> Result<Vec<(String, String)>, SignError> {
        if !self.scheme().covers_id() {
            return self.proof(request);
        }
        self.sign(SignRequest { kind: None, ..request })
    }

    fn proof(&self, request: SignRequest<'_>) -> Result<Vec<(String, String)>, SignError> {
        let view = Request {
            method: request.method,
            url: request.url,
            public_url: self.public_url.as_deref(),
            headers: request.headers,
            body: request.body,
        };
        self.scheme().sign(&self.plan.fields, &self.key, view, request.now).map_err(SignError)
    }

    /// Returns the lower-case names of the headers that signing anew replaces: signature and signed time.
    pub fn renewed_headers(&self) -> Vec<&str> {
        self.scheme().signed_headers(&self.plan.fields)
    }

    /// Tells whether signing anew also renews the signed time. Where it stands in the body (Linear) it
    /// does not, for the body is not changed: receivers that check the window may refuse a late
    /// delivery. Without a signed time there is nothing to renew either.
    pub fn renews_timestamp(&self) -> bool {
        self.scheme().renews_timestamp(&self.plan.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ProviderCatalog, SIGNING_SECRET};
    use crate::connector::{NormalizeResult, RawInbound, TriggerSettings, Verifier, generate_secret, render};

    fn settings(provider: &str) -> BTreeMap<String, String> {
        let header = BTreeMap::from([("header".to_owned(), "X-Signature".to_owned())]);
        if provider == "hmac" { header } else { BTreeMap::new() }
    }

    #[test]
    fn every_sample_of_every_entry_signs_and_verifies() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        for entry in ProviderCatalog::built_in().entries() {
            let secret = generate_secret(&entry.secrets[0], &[7; 32]);
            let settings = settings(entry.id.as_str());
            let signer = Signer::new(entry, &settings, None, &secret).unwrap().unwrap();
            let secrets = BTreeMap::from([(SIGNING_SECRET.to_owned(), vec![secret])]);
            let trigger = TriggerSettings { secrets, settings, ..TriggerSettings::default() };
            let verifier = Verifier::new(entry, &trigger).unwrap();
            assert!(!entry.samples.is_empty(), "{} has no sample for `send`", entry.id);
            for sample in &entry.samples {
                let rendered = render(sample, "id-1", now);
                let request = SignRequest {
                    method: "POST",
                    url: "/hooks/x",
                    headers: &rendered.headers,
                    body: &rendered.body,
                    now,
                    delivery_id: "id-1",
                    kind: Some(&sample.kind),
                };
                let mut headers = rendered.headers.clone();
                headers.extend(
                    signer.sign(request).unwrap().into_iter().map(|(name, value)| (name, value.into())),
                );
                let raw = RawInbound {
                    method: "POST".into(),
                    url: "/hooks/x".into(),
                    headers,
                    body: rendered.body.clone().into(),
                    received_at: now,
                    peer: None,
                };
                let result = verifier.normalize_inbound(&raw, now, false);
                let NormalizeResult::Event(event) = result else { panic!("{}: {result:?}", entry.id) };
                assert_eq!(event.kind, sample.kind, "{}", entry.id);
                if entry.id.as_str() != "hmac" {
                    assert!(event.dedupe_key.unwrap().contains("id-1"), "{}", entry.id);
                }
            }
        }
    }
}
