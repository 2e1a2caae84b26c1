//! Signs as a provider does: for `send` and `bench`, and for deliveries that carry the provider's
//! signature anew. The exact inverse of [`Verifier`](super::Verifier), run by the same scheme.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::{self, named};
use super::plan::{BuildError, Form, Plan};
use super::verifier::TriggerSettings;
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::event::{Header, Timestamp};
use crate::secrets::Secret;
use crate::signature::{Named, PrivateKey, PublicScheme, Request, Scheme, Signed, SigningKey, Values};

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

/// Signs requests as a provider does.
#[derive(Debug, Clone)]
pub struct Signer {
    plan: Arc<Plan>,
    /// For each form of the proof its key.
    keys: Vec<SigningKey>,
    named: Named,
    public_url: Option<String>,
}

/// Returns how a provider's private key signs, where it signs with one and not with a shared secret.
///
/// # Errors
///
/// If the entry cannot be compiled with these settings.
pub fn private_scheme(
    entry: &Arc<ProviderEntry>,
    settings: &BTreeMap<String, String>,
) -> Result<Option<PublicScheme>, BuildError> {
    let plan = Plan::new(entry, settings)?;
    Ok(plan.main_form().and_then(|form| form.scheme.private_scheme()))
}

impl Signer {
    /// Compiles an entry for signing with the current one of a trigger's main secrets. Nothing comes of an
    /// entry that has no signature, of a trigger that has no secret, and of a provider that signs with a
    /// private key.
    ///
    /// # Errors
    ///
    /// If the secret cannot serve, or a setting is missing, unknown, or makes no sense.
    pub fn new(entry: &Arc<ProviderEntry>, trigger: &TriggerSettings) -> Result<Option<Self>, BuildError> {
        let plan = Plan::new(entry, &trigger.settings)?;
        let current = trigger.secrets.get(SIGNING_SECRET).and_then(|list| list.first());
        let (Some(secret), Some(form)) = (current, plan.main_form()) else { return Ok(None) };
        if form.scheme.takes_public_key() && form.scheme.signing_key(secret.expose()).is_err() {
            return Ok(None);
        }
        let key = |form: &Form| {
            let read = form.scheme.signing_key(secret.expose());
            read.map_err(|why| keys::wrong(&plan, SIGNING_SECRET, 0, why))
        };
        let keys = plan.forms.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Some(Self::of(plan, keys, trigger)))
    }

    /// Compiles an entry for signing with a private key that stands for the provider's own. Nothing comes
    /// of a key that does not fit, and of an entry whose provider does not sign with one.
    ///
    /// # Errors
    ///
    /// If a setting is missing, unknown, or makes no sense.
    pub fn with_private_key(
        entry: &Arc<ProviderEntry>,
        trigger: &TriggerSettings,
        key: PrivateKey,
    ) -> Result<Option<Self>, BuildError> {
        let plan = Plan::new(entry, &trigger.settings)?;
        let current = trigger.secrets.get(SIGNING_SECRET).and_then(|list| list.first());
        let key = |form: &Form| form.scheme.private_signing_key(key.clone(), current.map(Secret::expose));
        let keys: Option<Vec<_>> = plan.forms.iter().map(key).collect();
        Ok(keys.filter(|keys| !keys.is_empty()).map(|keys| Self::of(plan, keys, trigger)))
    }

    fn of(plan: Plan, keys: Vec<SigningKey>, trigger: &TriggerSettings) -> Self {
        let (named, public_url) = (named(&trigger.secrets), trigger.public_url.clone());
        Self { plan: Arc::new(plan), keys, named, public_url }
    }

    fn scheme(&self) -> &Scheme {
        &self.plan.main_form().expect("a signer is built only of an entry with a scheme").scheme
    }

    /// Returns what makes the request one of the provider's: kind, delivery id, signed time and
    /// signature. Headers replace those of the same name.
    ///
    /// # Errors
    ///
    /// If what is signed includes something that the request does not have.
    pub fn sign(&self, request: SignRequest<'_>) -> Result<Signed, SignError> {
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
        let mut signed = self.proof(SignRequest { headers: &headers, ..request })?;
        added.append(&mut signed.headers);
        Ok(Signed { headers: added, ..signed })
    }

    /// Signs a stored request anew: its body, and all headers but those that are returned, stay as
    /// they are. Returned are [`renewed_headers`](Self::renewed_headers), and the id header if the
    /// signature covers it and the request has none.
    ///
    /// # Errors
    ///
    /// If what is signed includes something that the request does not have.
    pub fn sign_anew(&self, request: SignRequest<'_>) -> Result<Vec<(String, String)>, SignError> {
        let signed = match self.scheme().covers_id() {
            false => self.proof(request)?,
            true => self.sign(SignRequest { kind: None, ..request })?,
        };
        Ok(signed.headers)
    }

    fn proof(&self, request: SignRequest<'_>) -> Result<Signed, SignError> {
        let view = Request {
            method: request.method,
            url: request.url,
            public_url: self.public_url.as_deref(),
            headers: request.headers,
            body: request.body,
        };
        let form = self.plan.form_of(&Values::new(&self.plan.fields, view)).unwrap_or_default();
        let (scheme, key) = (&self.plan.forms[form].scheme, &self.keys[form]);
        scheme.sign(&self.plan.fields, key, view, &self.named, request.now).map_err(SignError)
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
