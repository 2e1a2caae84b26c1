//! The suite that every provider of the catalogue passes: its vectors, and what follows from its entry.

#![allow(clippy::unwrap_used, reason = "a helper of tests may end in a panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookkeeper::catalog::{Family, ProviderCatalog, ProviderEntry, SIGNING_SECRET};
use hookkeeper::connector::{
    NormalizeResult, RawInbound, Rendered, SignRequest, Signer, TriggerSettings, Verifier, generate_secret,
    render,
};
use hookkeeper::event::{Header, RejectReason, Timestamp};
use hookkeeper::secrets::Secret;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Deserialize;

/// One request and what must become of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    what: String,
    /// Who made the signature.
    source: String,
    secrets: Vec<String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
    body: Option<String>,
    body_base64: Option<String>,
    at: At,
    #[serde(default)]
    armed: bool,
    expect: Expect,
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
    reply: Option<Reply>,
    learn: Option<Learn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    status: u16,
    content_type: Option<String>,
    body: String,
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
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("every provider has vectors: {}: {error}", path.display()));
    toml::from_str::<Vectors>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).vectors
}

fn verifier(entry: &Arc<ProviderEntry>, secrets: &[Secret], settings: &BTreeMap<String, String>) -> Verifier {
    let secrets = BTreeMap::from([(SIGNING_SECRET.to_owned(), secrets.to_vec())]);
    let trigger = TriggerSettings { secrets, settings: settings.clone(), ..TriggerSettings::default() };
    Verifier::new(entry, &trigger).unwrap()
}

impl Vector {
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
        let headers = self.headers.iter().map(header).collect();
        let raw = request(headers, body, at);
        let secrets: Vec<Secret> = self.secrets.iter().map(|text| Secret::new(text.as_str())).collect();
        let result = verifier(entry, &secrets, &self.settings).normalize_inbound(&raw, at, self.armed);
        match (self.expect.state.as_str(), result) {
            ("verified", NormalizeResult::Event(event)) => {
                let said = |expected: &Option<String>, got: Option<&String>| {
                    assert!(
                        expected.is_none() || expected.as_ref() == got,
                        "{name}: {expected:?}, got {got:?}"
                    );
                };
                said(&self.expect.kind, Some(&event.kind));
                said(&self.expect.dedupe_key, event.dedupe_key.as_ref());
                assert!(
                    self.expect.occurred_at.is_none() || self.expect.occurred_at == event.occurred_at,
                    "{name}"
                );
                let index = self.expect.secret_index;
                assert!(index.is_none() || index == event.secret_index, "{name}");
            }
            ("rejected", NormalizeResult::Reject(rejection)) => {
                assert_eq!(Some(rejection.reason), self.expect.reason, "{name}: {}", rejection.hint);
                for secret in &self.secrets {
                    assert!(!rejection.hint.contains(secret), "{name}: the hint shows the secret");
                }
            }
            ("handshake", NormalizeResult::Immediate { reply, learn, .. }) => {
                let expected = self.expect.reply.as_ref().expect("a handshake has a reply");
                let content_type = reply.headers.iter().find(|(name, _)| name == "content-type");
                assert_eq!(reply.status, expected.status, "{name}");
                assert_eq!(reply.body, expected.body, "{name}");
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

#[test]
fn every_provider_passes_its_vectors() {
    for entry in ProviderCatalog::built_in().entries() {
        let vectors = vectors(entry.id.as_str());
        assert!(vectors.iter().any(|vector| vector.expect.state == "verified"), "{}", entry.id);
        assert!(vectors.iter().any(|vector| vector.expect.state == "rejected"), "{}", entry.id);
        vectors.iter().for_each(|vector| vector.check(entry));
    }
}

fn any_entry() -> impl Strategy<Value = Arc<ProviderEntry>> {
    let entries: Vec<_> = ProviderCatalog::built_in().entries().cloned().collect();
    proptest::sample::select(entries)
}

/// Settings that leave nothing open.
fn settings(entry: &ProviderEntry) -> BTreeMap<String, String> {
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    open.map(|setting| (setting.name.clone(), "X-Signature".to_owned())).collect()
}

/// A delivery of the entry's first sample with its body replaced, as the provider would sign it.
fn signed(entry: &Arc<ProviderEntry>, secret: &Secret, body: &[u8], at: Timestamp) -> Vec<Header> {
    let signer = Signer::new(entry, &settings(entry), None, secret).unwrap().unwrap();
    let Rendered { headers, .. } = render(&entry.samples[0], "id-1", at);
    let request = SignRequest {
        method: "POST",
        url: "/hooks/x",
        headers: &headers,
        body,
        now: at,
        delivery_id: "id-1",
        kind: Some(&entry.samples[0].kind),
    };
    let added = signer.sign(request).unwrap().into_iter().map(|(name, value)| (name, value.into()));
    headers.iter().cloned().chain(added).collect()
}

fn reason(result: NormalizeResult) -> Result<usize, RejectReason> {
    match result {
        NormalizeResult::Event(event) => Ok(event.secret_index.unwrap()),
        NormalizeResult::Reject(rejection) => Err(rejection.reason),
        other => panic!("{other:?}"),
    }
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (1_000_000_000_000_i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

/// Bodies with the signed time where a provider has it there.
fn with_time(body: &[u8], at: Timestamp) -> Vec<u8> {
    let mut text = format!(r#"{{"webhookTimestamp":{},"rest":""#, at.as_millisecond()).into_bytes();
    text.extend(body.iter().filter(|b| b.is_ascii_alphanumeric()));
    text.extend(br#""}"#);
    text
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        entry in any_entry(), key in any::<[u8; 32]>(), body in any::<Vec<u8>>(), at in any_time()
    ) {
        let secret = generate_secret(&entry.secrets[0], &key);
        let verifier = verifier(&entry, std::slice::from_ref(&secret), &settings(&entry));
        let headers = signed(&entry, &secret, &body, at);
        prop_assert_eq!(reason(verifier.normalize_inbound(&request(headers, body, at), at, false)), Ok(0));
    }

    #[test]
    fn any_changed_byte_of_the_body_fails(
        entry in any_entry(),
        body in proptest::collection::vec(any::<u8>(), 1..200),
        index in any::<Index>(),
        change in 1_u8..,
        at in any_time(),
    ) {
        let secret = generate_secret(&entry.secrets[0], &[7; 32]);
        let verifier = verifier(&entry, std::slice::from_ref(&secret), &settings(&entry));
        let headers = signed(&entry, &secret, &body, at);
        let mut changed = body.clone();
        changed[index.index(body.len())] ^= change;
        let result = reason(verifier.normalize_inbound(&request(headers.clone(), changed, at), at, false));
        prop_assert_eq!(result, Err(RejectReason::InvalidSignature));
        let longer = [&body[..], &[change]].concat();
        let result = reason(verifier.normalize_inbound(&request(headers.clone(), longer, at), at, false));
        prop_assert_eq!(result, Err(RejectReason::InvalidSignature));
        let shorter = body[..body.len() - 1].to_vec();
        let result = reason(verifier.normalize_inbound(&request(headers, shorter, at), at, false));
        prop_assert_eq!(result, Err(RejectReason::InvalidSignature));
    }

    #[test]
    fn any_changed_byte_of_the_signed_headers_fails(
        entry in any_entry(), which in any::<Index>(), index in any::<Index>(), at in any_time()
    ) {
        let secret = generate_secret(&entry.secrets[0], &[7; 32]);
        let verifier = verifier(&entry, std::slice::from_ref(&secret), &settings(&entry));
        let signer = Signer::new(&entry, &settings(&entry), None, &secret).unwrap().unwrap();
        let mut headers = signed(&entry, &secret, b"{}", at);
        let proof = signer.renewed_headers();
        let name = proof[which.index(proof.len())];
        let (_, value) = headers.iter_mut().find(|(known, _)| known == name).unwrap();
        let mut bytes = value.to_vec();
        let at_byte = index.index(bytes.len());
        // The case of hex digits does not matter; every other change does.
        bytes[at_byte] = if bytes[at_byte] == b'0' { b'1' } else { b'0' };
        *value = bytes.into();
        let result = reason(verifier.normalize_inbound(&request(headers, b"{}".to_vec(), at), at, false));
        prop_assert!(result.is_err());
    }

    #[test]
    fn every_secret_of_a_rotation_list_verifies(
        entry in any_entry(), count in 1_usize..=8, index in any::<Index>(), at in any_time()
    ) {
        let secret = |i| generate_secret(&entry.secrets[0], &[i; 32]);
        let secrets: Vec<Secret> = (1..).map(secret).take(count).collect();
        let index = index.index(count);
        let verifier = verifier(&entry, &secrets, &settings(&entry));
        let raw = request(signed(&entry, &secrets[index], b"{}", at), b"{}".to_vec(), at);
        prop_assert_eq!(reason(verifier.normalize_inbound(&raw, at, false)), Ok(index));
    }

    #[test]
    fn the_tolerance_is_exact_in_both_directions(
        entry in any_entry(), at in any_time(), offset_s in -400_i64..400
    ) {
        let secret = generate_secret(&entry.secrets[0], &[7; 32]);
        let verifier = verifier(&entry, std::slice::from_ref(&secret), &settings(&entry));
        let body = with_time(b"x", at);
        let raw = request(signed(&entry, &secret, &body, at), body, at);
        let now = at + jiff::SignedDuration::from_secs(offset_s);
        let has_time = entry.family != Family::Hmac;
        let tolerance_s = entry.signature.as_ref().unwrap().tolerance_s.filter(|_| has_time);
        let expected = match tolerance_s {
            Some(s) if offset_s.unsigned_abs() > s => Err(RejectReason::TimestampOutOfWindow),
            _ => Ok(0),
        };
        prop_assert_eq!(reason(verifier.normalize_inbound(&raw, now, false)), expected);
    }

    #[test]
    fn no_request_panics(
        entry in any_entry(),
        headers in proptest::collection::vec(any::<(u8, Vec<u8>)>(), 0..6),
        body in any::<Vec<u8>>(),
        armed in any::<bool>(),
    ) {
        let secret = generate_secret(&entry.secrets[0], &[7; 32]);
        let verifier = verifier(&entry, std::slice::from_ref(&secret), &settings(&entry));
        let at = Timestamp::UNIX_EPOCH;
        let known: Vec<String> = signed(&entry, &secret, b"", at).into_iter().map(|(name, _)| name).collect();
        let header = |(name, value): (u8, Vec<u8>)| (known[usize::from(name) % known.len()].clone(), value.into());
        let raw = request(headers.into_iter().map(header).collect(), body, at);
        let _ = verifier.normalize_inbound(&raw, at, armed);
    }
}
