//! The vectors of the catalogue: requests of providers, and what must become of them.

#![allow(clippy::unwrap_used, reason = "a helper of tests may end in a panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookkeeper::catalog::{Confidence, ProviderCatalog, ProviderEntry, SIGNING_SECRET};
use hookkeeper::connector::{
    BatchPart, FetchedKey, Judging, NormalizeResult, Normalized, RawInbound, TriggerSettings, Verifier,
};
use hookkeeper::event::{Header, RejectReason, SignatureStatus, Timestamp};
use hookkeeper::secrets::Secret;
use serde::Deserialize;

/// Fewest providers whose facts were read at their source and that have vectors.
const CONFIRMED_MIN: usize = 80;

/// One request and what must become of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    what: String,
    /// Who made the signature.
    source: String,
    secrets: Vec<String>,
    /// Further secrets, by name.
    #[serde(default)]
    named: BTreeMap<String, String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default = "post")]
    method: String,
    /// Path and query as sent.
    #[serde(default = "hooks_x")]
    url: String,
    /// The URL as registered, without its query.
    public_url: Option<String>,
    /// Keys that the provider publishes, by name or URL.
    #[serde(default)]
    keys: BTreeMap<String, serde_json::Value>,
    headers: Vec<(String, String)>,
    body: Option<String>,
    body_base64: Option<String>,
    at: At,
    #[serde(default)]
    armed: bool,
    expect: Expect,
}

fn post() -> String {
    "POST".to_owned()
}

fn hooks_x() -> String {
    "/hooks/x".to_owned()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Seconds(i64),
    Time(Timestamp),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    state: String,
    reason: Option<RejectReason>,
    kind: Option<String>,
    dedupe_key: Option<String>,
    occurred_at: Option<Timestamp>,
    secret_index: Option<usize>,
    covers_body: Option<bool>,
    /// The events of a batch, in order.
    events: Option<Vec<ExpectedEvent>>,
    reply: Option<Reply>,
    learn: Option<Learn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedEvent {
    kind: String,
    dedupe_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    status: u16,
    content_type: Option<String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Learn {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

fn vectors(id: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(id).join("vectors.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Vec::new() };
    toml::from_str::<Vectors>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).vectors
}

impl Vector {
    fn settings(&self) -> TriggerSettings {
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

    fn check_event(&self, name: &str, event: &Normalized) {
        let said = |expected: &Option<String>, got: Option<&String>| {
            assert!(expected.is_none() || expected.as_ref() == got, "{name}: {expected:?}, got {got:?}");
        };
        said(&self.expect.kind, Some(&event.kind));
        said(&self.expect.dedupe_key, event.dedupe_key.as_ref());
        let at = self.expect.occurred_at;
        assert!(at.is_none() || at == event.occurred_at, "{name}: {:?}", event.occurred_at);
        let index = self.expect.secret_index;
        assert!(index.is_none() || index == event.secret_index, "{name}");
        if let Some(covers_body) = self.expect.covers_body {
            assert_eq!(event.signature_status, SignatureStatus::Verified { covers_body }, "{name}");
        }
    }

    fn check(&self, entry: &Arc<ProviderEntry>) {
        let name = format!("{}: {} ({})", entry.id, self.what, self.source);
        let at = match self.at {
            At::Seconds(seconds) => Timestamp::from_second(seconds).unwrap(),
            At::Time(time) => time,
        };
        let body = match (&self.body, &self.body_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).unwrap(),
            _ => panic!("{name}: one of body and body_base64"),
        };
        let header = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone().into());
        let raw = RawInbound {
            method: self.method.clone(),
            url: self.url.clone(),
            ..request(self.headers.iter().map(header).collect(), body, at)
        };
        let verifier = Verifier::new(entry, &self.settings()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let keys: Vec<FetchedKey> =
            self.keys.iter().flat_map(|(name, value)| FetchedKey::read(name, value)).collect();
        let keys = verifier.wanted_keys(&raw).map(|wanted| wanted.pick_named(&keys)).unwrap_or_default();
        let judging = Judging { now: at, armed: self.armed, keys: &keys };
        match (self.expect.state.as_str(), verifier.normalize_inbound(&raw, judging)) {
            ("verified", NormalizeResult::Event(event)) if self.expect.events.is_none() => {
                self.check_event(&name, &event);
            }
            ("unsigned", NormalizeResult::Event(event)) => {
                assert_eq!(event.signature_status, SignatureStatus::Unsigned, "{name}");
                self.check_event(&name, &event);
            }
            ("verified", NormalizeResult::Batch(events)) => {
                self.check_event(&name, &events[0]);
                if let Some(expected) = &self.expect.events {
                    let got = events.iter().map(|event| (&event.kind, &event.dedupe_key));
                    let expected = expected.iter().map(|event| (&event.kind, &event.dedupe_key));
                    assert_eq!(got.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
                }
                let parts = events.iter().map(|event| event.part.as_ref().unwrap());
                assert!(
                    BatchPart::join(parts.clone()) == raw.body
                        || parts.clone().next().unwrap().lead == raw.body,
                    "{name}: the parts are not the delivery"
                );
            }
            ("rejected", NormalizeResult::Reject(rejection)) => {
                assert_eq!(Some(rejection.reason), self.expect.reason, "{name}: {}", rejection.hint);
                for secret in self.secrets.iter().filter(|secret| secret.len() > 8) {
                    assert!(!rejection.hint.contains(secret.as_str()), "{name}: the hint shows the secret");
                }
            }
            ("handshake", NormalizeResult::Immediate { reply, learn, .. }) => {
                let expected = self.expect.reply.as_ref().expect("a handshake has a reply");
                let content_type = reply.headers.iter().find(|(name, _)| name == "content-type");
                assert_eq!(reply.status, expected.status, "{name}");
                assert_eq!(String::from_utf8_lossy(&reply.body), expected.body, "{name}");
                for (header, value) in &expected.headers {
                    let got = reply.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(header));
                    assert_eq!(got.map(|(_, value)| value), Some(value), "{name}: {header}");
                }
                assert_eq!(content_type.map(|(_, value)| value), expected.content_type.as_ref(), "{name}");
                let expected =
                    self.expect.learn.as_ref().map(|learn| (learn.name.clone(), Secret::new(&*learn.value)));
                assert_eq!(learn, expected, "{name}");
            }
            (expected, result) => panic!("{name}: expected {expected}, got {result:?}"),
        }
    }
}

fn request(headers: Vec<Header>, body: Vec<u8>, at: Timestamp) -> RawInbound {
    RawInbound {
        method: "POST".into(),
        url: "/hooks/x".into(),
        headers,
        body: body.into(),
        received_at: at,
        peer: None,
    }
}

/// Vectors of all providers are run, so that one fault does not hide the others.
#[test]
fn every_provider_passes_its_vectors() {
    let mut failures = Vec::new();
    for entry in ProviderCatalog::built_in().entries() {
        let vectors = vectors(entry.id.as_str());
        let has = |state| vectors.iter().any(|vector| vector.expect.state == state);
        let is_signed = entry.signature.is_some();
        if !vectors.is_empty() && is_signed && !(has("verified") && has("rejected")) {
            failures.push(format!("{}: needs a good and a bad vector", entry.id));
        }
        for vector in &vectors {
            let checked = std::panic::catch_unwind(|| vector.check(entry));
            if let Err(panic) = checked {
                let text = panic.downcast_ref::<String>().cloned();
                failures.push(text.unwrap_or_else(|| format!("{}: {}", entry.id, vector.what)));
            }
        }
    }
    assert!(failures.is_empty(), "{} vectors fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn what_is_confirmed_at_its_source_has_vectors() {
    let catalog = ProviderCatalog::built_in();
    let confirmed = |entry: &&Arc<ProviderEntry>| {
        matches!(entry.confidence, Confidence::SdkSource | Confidence::Docs)
            && !vectors(entry.id.as_str()).is_empty()
    };
    let count = catalog.entries().filter(confirmed).count();
    assert!(count >= CONFIRMED_MIN, "only {count} providers are confirmed and have vectors");
}
