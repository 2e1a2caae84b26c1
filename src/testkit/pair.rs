//! What signs as a provider does, and what verifies it as a trigger does.

use std::fmt;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::connector::{
    BuildError, Judging, NormalizeResult, Normalized, RawInbound, Rejection, Rendered, SignError,
    SignRequest, Signer, TriggerSettings, Verifier, generate_secret, private_scheme, render,
};
use crate::event::{Header, Timestamp};
use crate::secrets::Secret;
use crate::signature::{PrivateKey, PublicScheme, Signed, with_query};

/// The URL under which the trigger of a pair is registered.
const PUBLIC_URL: &str = "https://hooks.example.com/hooks/x";
/// The path at which its deliveries come in.
const PATH: &str = "/hooks/x";
/// The id of every delivery that is made.
pub(super) const DELIVERY_ID: &str = "id-1";
/// Stands for what an entry leaves to the trigger: the name of a header, which every place for a name takes.
const OPEN_SETTING: &str = "X-Signature";

/// What signs as a provider does, and what verifies it as a trigger does, with secrets of the provider's form.
#[derive(Debug)]
pub struct Pair {
    entry: Arc<ProviderEntry>,
    signer: Signer,
    trigger: TriggerSettings,
    verifier: Verifier,
}

/// Why a request became no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It does not verify.
    Rejected(Rejection),
    /// It was taken for a handshake.
    Handshake,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Rejected(rejection) => write!(f, "{}: {}", rejection.reason, rejection.hint),
            Refused::Handshake => f.write_str("it is taken for a handshake"),
        }
    }
}

/// Making an RSA key takes long, and the keys of providers do not differ: there is one of each kind.
fn private_key(scheme: PublicScheme) -> PrivateKey {
    static KEYS: LazyLock<Mutex<Vec<PrivateKey>>> = LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock();
    if let Some(key) = keys.iter().find(|key| key.public().fits(scheme)) {
        return key.clone();
    }
    let key = PrivateKey::generate(scheme);
    keys.push(key.clone());
    key
}

impl Pair {
    /// Makes secrets of the given random bytes, and a key pair for a provider that signs with a private key.
    /// Nothing comes of a provider that sends no proof.
    ///
    /// # Errors
    ///
    /// If the entry does not compile, or does not take secrets of the form that it describes.
    pub fn of(entry: &Arc<ProviderEntry>, random: &[u8; 32]) -> Result<Option<Self>, BuildError> {
        let Some(signature) = entry.signature.as_ref() else { return Ok(None) };
        let secret = |spec| (generate_secret(spec, random), spec.name.clone());
        let secrets = entry.secrets.iter().map(secret).map(|(secret, name)| (name, vec![secret]));
        let open = entry.settings.iter().filter(|setting| setting.default.is_none());
        let mut trigger = TriggerSettings {
            secrets: secrets.collect(),
            settings: open.map(|setting| (setting.name.clone(), OPEN_SETTING.to_owned())).collect(),
            public_url: Some(PUBLIC_URL.to_owned()),
            ..TriggerSettings::default()
        };
        if let Some(signer) = Signer::new(entry, &trigger)? {
            return Self::with_signer(entry, signer, trigger).map(Some);
        }
        let Some(scheme) = private_scheme(entry, &trigger.settings)? else { return Ok(None) };
        let key = private_key(scheme);
        let publishes = signature.keys.is_some() || !signature.public_keys.is_empty();
        if !publishes {
            trigger.secrets.remove(SIGNING_SECRET);
        }
        let signer = Signer::with_private_key(entry, &trigger, key.clone())?;
        if publishes {
            trigger.public_keys = vec![key.public_pem()];
        } else {
            trigger.secrets.insert(SIGNING_SECRET.to_owned(), vec![Secret::new(key.public_pem())]);
        }
        signer.map(|signer| Self::with_signer(entry, signer, trigger)).transpose()
    }

    fn with_signer(
        entry: &Arc<ProviderEntry>,
        signer: Signer,
        trigger: TriggerSettings,
    ) -> Result<Self, BuildError> {
        let verifier = Verifier::new(entry, &trigger)?;
        Ok(Self { entry: entry.clone(), signer, trigger, verifier })
    }

    /// Returns the same signer in front of another trigger.
    ///
    /// # Errors
    ///
    /// If the entry does not compile with the trigger's secrets and settings.
    pub fn with_trigger(&self, trigger: TriggerSettings) -> Result<Self, BuildError> {
        Self::with_signer(&self.entry, self.signer.clone(), trigger)
    }

    /// Returns the provider's entry.
    pub fn entry(&self) -> &Arc<ProviderEntry> {
        &self.entry
    }

    /// Returns what signs.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Returns the trigger's secrets and settings.
    pub fn trigger(&self) -> &TriggerSettings {
        &self.trigger
    }

    /// Returns what verifies.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Tells whether one secret both signs and verifies, and there is no private key.
    pub fn is_shared(&self) -> bool {
        let scheme = private_scheme(&self.entry, &self.trigger.settings);
        self.trigger.public_keys.is_empty() && matches!(scheme, Ok(None))
    }

    /// Tells whether the proof covers every byte of the body, and not what the bytes mean.
    pub fn covers_bytes(&self) -> bool {
        let Some(signature) = &self.entry.signature else { return false };
        let is_bound =
            signature.binds.iter().any(|bind| bind.unless.is_none() && bind.equals.contains("{body|sha"));
        let content = self.with_settings(signature.content.as_deref().unwrap_or("{body}"));
        let is_covered = ["{body}", "{body|sha", "{body.keyed:"].iter().any(|body| content.contains(body));
        let is_signed = !matches!(signature.alg.as_deref(), Some("jwt" | "token"));
        !signature.each && (is_bound || is_covered && is_signed)
    }

    /// Puts the trigger's settings, and the defaults of the others, into a text of the entry.
    fn with_settings(&self, text: &str) -> String {
        self.entry.settings.iter().fold(text.to_owned(), |text, setting| {
            let given = self.trigger.settings.get(&setting.name).or(setting.default.as_ref());
            given.map_or_else(|| text.clone(), |value| text.replace(&format!("${{{}}}", setting.name), value))
        })
    }

    /// Signs a request of the given kind as the provider does at the time `at`.
    ///
    /// # Errors
    ///
    /// If the body is none that the provider would send.
    pub fn sign(&self, rendered: Rendered, kind: &str, at: Timestamp) -> Result<RawInbound, SignError> {
        let Rendered { method, query, mut headers, body } = rendered;
        let url = format!("{PATH}{query}");
        let request = SignRequest {
            method: &method,
            url: &url,
            headers: &headers,
            body: &body,
            now: at,
            delivery_id: DELIVERY_ID,
            kind: Some(kind),
        };
        let Signed { headers: added, query, body: signed } = self.signer.sign(request)?;
        headers.retain(|(name, _)| !added.iter().any(|(known, _)| known == name));
        headers.extend(added.into_iter().map(|(name, value)| -> Header { (name, value.into()) }));
        let (url, body) = (with_query(&url, &query), signed.unwrap_or(body).into());
        Ok(RawInbound { method, url, headers, body, received_at: at, peer: None })
    }

    /// Signs the entry's first sample.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be signed.
    pub fn sample_delivery(&self, at: Timestamp) -> Result<RawInbound, String> {
        let sample = self.entry.samples.first().ok_or("the entry has no sample")?;
        self.sign(render(sample, DELIVERY_ID, at), &sample.kind, at).map_err(|error| error.to_string())
    }

    /// Verifies a request as of `now` and returns its events.
    ///
    /// # Errors
    ///
    /// If it becomes none.
    pub fn judge(&self, raw: &RawInbound, now: Timestamp) -> Result<Vec<Normalized>, Refused> {
        match self.verifier.normalize_inbound(raw, Judging::at(now)) {
            NormalizeResult::Event(event) => Ok(vec![event]),
            NormalizeResult::Batch(events) => Ok(events),
            NormalizeResult::Reject(rejection) => Err(Refused::Rejected(rejection)),
            NormalizeResult::Immediate { .. } => Err(Refused::Handshake),
        }
    }
}

/// Returns a request as it stands in a sample, for a provider that signs nothing.
pub(super) fn unsigned(rendered: Rendered, at: Timestamp) -> RawInbound {
    let Rendered { method, query, headers, body } = rendered;
    let url = format!("{PATH}{query}");
    RawInbound { method, url, headers, body: body.into(), received_at: at, peer: None }
}
