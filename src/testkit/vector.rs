//! One captured request and what must become of it: the form of `vectors.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::connector::{
    BatchPart, FetchedKey, Judging, NormalizeResult, Normalized, RawInbound, Rejection, Reply,
    TriggerSettings, Verifier,
};
use crate::event::{RejectReason, SignatureStatus, Timestamp};
use crate::secrets::Secret;

/// Secrets shorter than this stand in hints by chance.
const TELLING_SECRET_BYTES: usize = 9;

/// One captured request and what must become of it. A `vectors.toml` is a list of `[[vectors]]` tables with these fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What is shown, in a few words.
    pub what: String,
    /// Who made the signature: where it was published, or what it was made with.
    pub source: String,
    /// The trigger's main secrets, the current one first.
    pub secrets: Vec<String>,
    /// Further secrets, by name.
    #[serde(default)]
    pub named: BTreeMap<String, String>,
    /// The trigger's settings.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Method; default `POST`.
    #[serde(default = "post")]
    pub method: String,
    /// Path and query as sent; default `/hooks/x`.
    #[serde(default = "hooks_x")]
    pub url: String,
    /// The URL as it is registered at the provider, without its query; for schemes that sign it.
    pub public_url: Option<String>,
    /// Keys that the provider publishes, by name or URL: PEM, a JWK, a key set, or base64.
    #[serde(default)]
    pub keys: BTreeMap<String, Value>,
    /// Headers in the order sent.
    pub headers: Vec<(String, String)>,
    /// The body as text; it or `body_base64`.
    pub body: Option<String>,
    /// The body in base64.
    pub body_base64: Option<String>,
    /// When the request came in.
    pub at: At,
    /// Whether a handshake may bring a secret.
    #[serde(default)]
    pub armed: bool,
    /// What must become of it.
    pub expect: Expect,
}

fn post() -> String {
    "POST".to_owned()
}

fn hooks_x() -> String {
    "/hooks/x".to_owned()
}

/// An instant: seconds since 1970, or RFC 3339.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
pub enum At {
    /// Seconds since 1970.
    Seconds(i64),
    /// RFC 3339.
    Time(Timestamp),
}

/// What must become of a request. What is left out is not looked at, but for the parts of a reply.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// What it turns out to be.
    pub state: State,
    /// Why it is rejected.
    pub reason: Option<RejectReason>,
    /// Kind of the event, or of a batch's first one.
    pub kind: Option<String>,
    /// Its identity.
    pub dedupe_key: Option<String>,
    /// When it happened, as the provider says.
    pub occurred_at: Option<Timestamp>,
    /// Which of the main secrets verifies it, counted from 0.
    pub secret_index: Option<usize>,
    /// Whether the proof covers the body.
    pub covers_body: Option<bool>,
    /// The events of a batch, in order.
    pub events: Option<Vec<ExpectedEvent>>,
    /// The answer to a handshake.
    pub reply: Option<ExpectedReply>,
    /// The secret that a handshake brings; without it none must be learned.
    pub learn: Option<ExpectedLearn>,
}

/// What a request turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// One event, or several, whose proof holds.
    Verified,
    /// An event of a provider that sends no proof.
    Unsigned,
    /// Refused.
    Rejected,
    /// A handshake.
    Handshake,
}

/// One event of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedEvent {
    /// Its kind.
    pub kind: String,
    /// Its identity.
    pub dedupe_key: Option<String>,
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedReply {
    /// Status.
    pub status: u16,
    /// Content type.
    pub content_type: Option<String>,
    /// Body.
    #[serde(default)]
    pub body: String,
    /// Headers that must be among the answer's.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// A secret that a handshake brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedLearn {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Text that is no list of vectors.
#[derive(Debug, thiserror::Error)]
#[error("no vectors: {0}")]
pub struct VectorError(#[from] toml::de::Error);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    vectors: Vec<Vector>,
}

impl Vector {
    /// Reads the text of a `vectors.toml`.
    ///
    /// # Errors
    ///
    /// If it is not of that form; the error names the line.
    pub fn parse(text: &str) -> Result<Vec<Self>, VectorError> {
        Ok(toml::from_str::<Vectors>(text)?.vectors)
    }

    /// Returns the trigger that the request comes in on.
    pub fn trigger(&self) -> TriggerSettings {
        let list = |values: &[String]| values.iter().map(|text| Secret::new(text.as_str())).collect();
        let mut secrets: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
        if !self.secrets.is_empty() {
            secrets.insert(SIGNING_SECRET.to_owned(), list(&self.secrets));
        }
        for (name, value) in &self.named {
            secrets.insert(name.clone(), list(std::slice::from_ref(value)));
        }
        let (settings, public_url) = (self.settings.clone(), self.public_url.clone());
        TriggerSettings { secrets, settings, public_url, ..TriggerSettings::default() }
    }

    /// Returns the request.
    ///
    /// # Errors
    ///
    /// If it has no body or two, or one that is not base64, or came in at no time that there is.
    pub fn request(&self) -> Result<RawInbound, String> {
        let at = match self.at {
            At::Seconds(seconds) => Timestamp::from_second(seconds).map_err(|error| error.to_string())?,
            At::Time(time) => time,
        };
        let body = match (&self.body, &self.body_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| "body_base64 is not base64")?,
            _ => return Err("it needs body or body_base64, and not both".to_owned()),
        };
        let header = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone().into());
        Ok(RawInbound {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.iter().map(header).collect(),
            body: body.into(),
            received_at: at,
            peer: None,
        })
    }

    /// Verifies the request with an entry, and holds what becomes of it against what is expected.
    ///
    /// # Errors
    ///
    /// What differs.
    pub fn check(&self, entry: &Arc<ProviderEntry>) -> Result<(), String> {
        let raw = self.request()?;
        let verifier = Verifier::new(entry, &self.trigger()).map_err(|error| error.to_string())?;
        let keys = self.known_keys();
        let keys = verifier.wanted_keys(&raw).map(|wanted| wanted.pick_named(&keys)).unwrap_or_default();
        let judging = Judging { now: raw.received_at, armed: self.armed, keys: &keys };
        self.compare(&raw, verifier.normalize_inbound(&raw, judging))
    }

    /// Returns what is known of the provider's keys.
    pub(super) fn known_keys(&self) -> Vec<FetchedKey> {
        self.keys.iter().flat_map(|(name, value)| FetchedKey::read(name, value)).collect()
    }

    /// Holds what became of the request against what is expected.
    pub(super) fn compare(&self, raw: &RawInbound, result: NormalizeResult) -> Result<(), String> {
        let expected = &self.expect;
        match (expected.state, result) {
            (State::Verified, NormalizeResult::Event(event)) if expected.events.is_none() => {
                match event.signature_status {
                    SignatureStatus::Verified { .. } => expected.check_event(&event),
                    other => Err(format!("expected verified, got {other:?}")),
                }
            }
            (State::Unsigned, NormalizeResult::Event(event)) => {
                same("signature", &SignatureStatus::Unsigned, &event.signature_status)?;
                expected.check_event(&event)
            }
            (State::Verified, NormalizeResult::Batch(events)) => expected.check_batch(&events, raw),
            (State::Rejected, NormalizeResult::Reject(rejection)) => self.check_rejection(&rejection),
            (State::Handshake, NormalizeResult::Immediate { reply, learn, .. }) => {
                expected.check_reply(&reply)?;
                let wanted = expected.learn.as_ref();
                let wanted = wanted.map(|learn| (learn.name.clone(), Secret::new(&*learn.value)));
                if learn == wanted { Ok(()) } else { Err("another secret is learned".to_owned()) }
            }
            (state, result) => Err(format!("expected {state:?}, got {}", outcome(&result))),
        }
    }

    fn check_rejection(&self, rejection: &Rejection) -> Result<(), String> {
        if let Some(reason) = self.expect.reason
            && reason != rejection.reason
        {
            return Err(format!("expected {reason}, got {}: {}", rejection.reason, rejection.hint));
        }
        let mut secrets = self.secrets.iter().filter(|secret| secret.len() >= TELLING_SECRET_BYTES);
        match secrets.any(|secret| rejection.hint.contains(secret.as_str())) {
            true => Err("the hint shows the secret".to_owned()),
            false => Ok(()),
        }
    }
}

impl Expect {
    fn check_event(&self, event: &Normalized) -> Result<(), String> {
        if let Some(kind) = &self.kind {
            same("kind", kind, &event.kind)?;
        }
        if self.dedupe_key.is_some() {
            same("dedupe_key", &self.dedupe_key, &event.dedupe_key)?;
        }
        if self.occurred_at.is_some() {
            same("occurred_at", &self.occurred_at, &event.occurred_at)?;
        }
        if self.secret_index.is_some() {
            same("secret_index", &self.secret_index, &event.secret_index)?;
        }
        match self.covers_body {
            Some(covers_body) => {
                same("signature", &SignatureStatus::Verified { covers_body }, &event.signature_status)
            }
            None => Ok(()),
        }
    }

    fn check_batch(&self, events: &[Normalized], raw: &RawInbound) -> Result<(), String> {
        self.check_event(events.first().ok_or("the batch is empty")?)?;
        if let Some(expected) = &self.events {
            let event = |event: &Normalized| ExpectedEvent {
                kind: event.kind.clone(),
                dedupe_key: event.dedupe_key.clone(),
            };
            same("events", expected, &events.iter().map(event).collect())?;
        }
        let parts: Vec<&BatchPart> = events.iter().filter_map(|event| event.part.as_ref()).collect();
        let in_form = parts.first().is_some_and(|part| part.lead == raw.body);
        match parts.len() == events.len() && (in_form || BatchPart::join(parts) == raw.body) {
            true => Ok(()),
            false => Err("the parts of the batch are not the delivery".to_owned()),
        }
    }

    fn check_reply(&self, reply: &Reply) -> Result<(), String> {
        let expected = self.reply.as_ref().ok_or("the vector of a handshake needs expect.reply")?;
        let header = |wanted: &str| {
            let found = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        same("reply's status", &expected.status, &reply.status)?;
        same("reply's body", expected.body.as_str(), &*String::from_utf8_lossy(&reply.body))?;
        same("reply's content type", &expected.content_type, &header("content-type"))?;
        for (name, value) in &expected.headers {
            same(&format!("reply's {name}"), &Some(value.clone()), &header(name))?;
        }
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

fn outcome(result: &NormalizeResult) -> String {
    match result {
        NormalizeResult::Event(event) => format!("{:?} of kind {}", event.signature_status, event.kind),
        NormalizeResult::Batch(events) => format!("a batch of {}", events.len()),
        NormalizeResult::Immediate { reply, .. } => format!("a handshake, answered {}", reply.status),
        NormalizeResult::Reject(rejection) => format!("{}: {}", rejection.reason, rejection.hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    /// GitHub's published example, with other expectations; holds the error against a part of it.
    fn check(change: &str, part: Option<&str>) {
        let text = format!(
            "[[vectors]]\nwhat = \"w\"\nsource = \"published\"\nsecrets = [\"It's a Secret to Everybody\"]\n\
             headers = [[\"X-Hub-Signature-256\", \
             \"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\"], \
             [\"X-GitHub-Event\", \"push\"]]\nbody = \"Hello, World!\"\nat = 1700000000\nexpect = {{ {change} }}\n"
        );
        let vectors = Vector::parse(&text).unwrap();
        let checked = vectors[0].check(ProviderCatalog::built_in().get("github").unwrap());
        match (checked, part) {
            (Ok(()), None) => {}
            (Err(what), Some(part)) => assert!(what.contains(part), "{what}"),
            (checked, _) => panic!("{change}: {checked:?}"),
        }
    }

    #[test]
    fn what_differs_is_told() {
        check("state = \"verified\", kind = \"push\", secret_index = 0, covers_body = true", None);
        check("state = \"verified\", kind = \"ping\"", Some("kind: expected \"ping\""));
        check("state = \"verified\", dedupe_key = \"1\"", Some("dedupe_key"));
        check("state = \"verified\", occurred_at = \"2026-11-23T12:00:00Z\"", Some("occurred_at"));
        check("state = \"verified\", secret_index = 1", Some("secret_index"));
        check("state = \"verified\", covers_body = false", Some("signature"));
        check("state = \"verified\", events = [{ kind = \"push\" }]", Some("expected Verified"));
        check("state = \"unsigned\"", Some("signature"));
        check("state = \"rejected\", reason = \"invalid_signature\"", Some("expected Rejected"));
        check("state = \"handshake\", reply = { status = 200 }", Some("expected Handshake"));
    }

    #[test]
    fn a_file_that_is_no_list_of_vectors_says_so() {
        for (text, part) in [
            ("vectors = 1", "vectors"),
            ("[[vectors]]\nwhat = \"w\"\ncolour = 1", "colour"),
            ("[[vectors]]\nwhat = \"w\"", "missing field"),
        ] {
            let error = Vector::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
