//! Whole requests to the trigger of any provider. Nothing verifies that was made without the secret,
//! what is signed is taken, the parts of a batch are the delivery again, and nobody is told the secret.
//!
//! Input: the provider's id and flags (`github as`: armed, signed here), a line feed, a request.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use hookkeeper::catalog::{ProviderCatalog, ProviderEntry, SIGNING_SECRET};
use hookkeeper::connector::{
    BatchPart, Cause, Judging, NormalizeResult, Normalized, RawInbound, SignRequest, Signer, TriggerSettings,
    Verifier, explain, generate_secret, private_scheme,
};
use hookkeeper::event::SignatureStatus;
use hookkeeper::secrets::Secret;
use hookkeeper::signature::{PrivateKey, PublicScheme, with_query};
use hookkeeper_fuzz::{line, now, request, secret_of};
use libfuzzer_sys::fuzz_target;

static ENTRIES: LazyLock<Vec<Arc<ProviderEntry>>> =
    LazyLock::new(|| ProviderCatalog::built_in().entries().cloned().collect());

/// The entry of an id; any, but always the same one, of an id that is none.
fn entry(id: &[u8]) -> &'static Arc<ProviderEntry> {
    let known = ENTRIES.iter().find(|entry| entry.id.as_str().as_bytes() == id);
    let sum = id.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    known.unwrap_or_else(|| &ENTRIES[sum % ENTRIES.len()])
}

fn settings(entry: &ProviderEntry, random: &[u8; 32]) -> TriggerSettings {
    let secrets = entry.secrets.iter().map(|spec| (spec.name.clone(), vec![generate_secret(spec, random)]));
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    TriggerSettings {
        secrets: secrets.collect(),
        settings: open.map(|setting| (setting.name.clone(), "X-Signature".to_owned())).collect(),
        public_url: Some("https://hooks.example.com/hooks/x".to_owned()),
        ..TriggerSettings::default()
    }
}

fn private_key(scheme: PublicScheme) -> PrivateKey {
    static KEYS: LazyLock<Mutex<Vec<PrivateKey>>> = LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock().expect("no input panics here");
    let known = keys.iter().find(|key| key.public().fits(scheme)).cloned();
    known.unwrap_or_else(|| {
        keys.push(PrivateKey::generate(scheme));
        keys.last().expect("one was pushed").clone()
    })
}

/// Returns what signs, and sets what verifies it where that is a public key.
fn signer(entry: &Arc<ProviderEntry>, settings: &mut TriggerSettings) -> Option<Signer> {
    if let Some(signer) = Signer::new(entry, settings).ok()? {
        return Some(signer);
    }
    let key = private_key(private_scheme(entry, &settings.settings).ok()??);
    let signature = entry.signature.as_ref()?;
    if signature.keys.is_some() || !signature.public_keys.is_empty() {
        settings.public_keys = vec![key.public_pem()];
        return Signer::with_private_key(entry, settings, key).ok()?;
    }
    settings.secrets.remove(SIGNING_SECRET);
    let pem = Secret::new(key.public_pem());
    let signer = Signer::with_private_key(entry, settings, key).ok()?;
    settings.secrets.insert(SIGNING_SECRET.to_owned(), vec![pem]);
    signer
}

fn sign(signer: &Signer, raw: &RawInbound) -> Option<RawInbound> {
    let request = SignRequest {
        method: &raw.method,
        url: &raw.url,
        headers: &raw.headers,
        body: &raw.body,
        now: now(),
        delivery_id: "id-1",
        kind: None,
    };
    let signed = signer.sign(request).ok()?;
    let mut headers = raw.headers.clone();
    headers.retain(|(name, _)| !signed.headers.iter().any(|(known, _)| known == name));
    headers.extend(signed.headers.into_iter().map(|(name, value)| (name, value.into())));
    let body = signed.body.map_or_else(|| raw.body.clone(), Into::into);
    Some(RawInbound { url: with_query(&raw.url, &signed.query), headers, body, ..raw.clone() })
}

/// Looks at the events of a delivery that was taken.
fn check_events(entry: &ProviderEntry, raw: &RawInbound, events: &[Normalized]) {
    let parts: Vec<&BatchPart> = events.iter().filter_map(|event| event.part.as_ref()).collect();
    assert!(parts.is_empty() || parts.len() == events.len());
    if let [first, ..] = parts[..] {
        // Of a batch in a form, the first part has the whole form before it.
        assert!(BatchPart::join(parts.iter().copied()) == raw.body || first.lead == raw.body);
    }
    for event in events {
        assert!(!event.kind.is_empty() && event.kind.len() <= 256 && !event.kind.contains(char::is_control));
        assert!(event.dedupe_key.as_ref().is_none_or(|key| !key.is_empty() && key.len() <= 512));
        let is_signed = entry.signature.is_some();
        assert_eq!(matches!(event.signature_status, SignatureStatus::Verified { .. }), is_signed);
    }
}

fn tells_secret(text: &str, settings: &TriggerSettings) -> bool {
    let mut secrets =
        settings.secrets.values().flatten().map(|secret| String::from_utf8_lossy(secret.expose()));
    secrets.any(|secret| !secret.starts_with("-----") && text.contains(&*secret))
}

fuzz_target!(|data: &[u8]| {
    let (first, rest) = line(data);
    let mut words = first.split(|byte| *byte == b' ');
    let (entry, flags) = (entry(words.next().unwrap_or_default()), words.next().unwrap_or_default());
    let mut raw = request(rest);
    let mut settings = settings(entry, &secret_of(data));
    let mut signed = false;
    if flags.contains(&b's')
        && let Some(signer) = signer(entry, &mut settings)
        && let Some(delivery) = sign(&signer, &raw)
    {
        (raw, signed) = (delivery, true);
    }
    let Ok(verifier) = Verifier::new(entry, &settings) else { return };
    let keys_wanted = verifier.wanted_keys(&raw).is_some();
    let judging = Judging { armed: flags.contains(&b'a'), ..Judging::at(now()) };
    let result = verifier.normalize_inbound(&raw, judging);
    assert!(
        !keys_wanted || matches!(result, NormalizeResult::Reject(_)),
        "taken without the provider's keys"
    );
    let may_verify = signed || entry.signature.is_none();
    match &result {
        NormalizeResult::Event(event) => {
            assert!(may_verify, "{}: a forged delivery verifies", entry.id);
            check_events(entry, &raw, std::slice::from_ref(event));
        }
        NormalizeResult::Batch(events) => {
            assert!(may_verify, "{}: a forged batch verifies", entry.id);
            assert!(events.len() > 0);
            check_events(entry, &raw, events);
        }
        NormalizeResult::Immediate { reply, events, .. } => {
            assert!(events.is_empty());
            assert!((200..=599).contains(&reply.status));
        }
        NormalizeResult::Reject(rejection) => assert!(!tells_secret(&rejection.hint, &settings)),
    }
    if let Ok(Some(cause)) = explain(entry, &settings, &[], &raw, now(), &[]) {
        assert!(!tells_secret(&Cause::to_string(&cause), &settings));
    }
});
