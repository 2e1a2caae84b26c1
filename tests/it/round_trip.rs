//! What follows from every entry of the catalogue: what is signed verifies, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a helper of tests may end in a panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use hookkeeper::catalog::{ProviderCatalog, ProviderEntry, SIGNING_SECRET, Sample};
use hookkeeper::connector::{
    Judging, NormalizeResult, Normalized, RawInbound, Rendered, SignRequest, Signer, TriggerSettings,
    Verifier, generate_secret, private_scheme, render,
};
use hookkeeper::event::{Header, RejectReason, Timestamp};
use hookkeeper::secrets::Secret;
use hookkeeper::signature::{PrivateKey, PublicScheme, Signed, with_query};
use proptest::prelude::*;
use proptest::sample::Index;

const PUBLIC_URL: &str = "https://hooks.example.com/hooks/x";

/// What signs as a provider does, and what verifies it.
#[derive(Debug)]
struct Pair {
    entry: Arc<ProviderEntry>,
    signer: Signer,
    trigger: TriggerSettings,
}

/// Making an RSA key takes long; the keys of providers do not differ.
fn private_key(scheme: PublicScheme) -> PrivateKey {
    static KEYS: LazyLock<Mutex<Vec<(PublicScheme, PrivateKey)>>> = LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock().unwrap();
    if let Some((_, key)) = keys.iter().find(|(_, key)| key.public().fits(scheme)) {
        return key.clone();
    }
    keys.push((scheme, PrivateKey::generate(scheme)));
    keys.last().unwrap().1.clone()
}

impl Pair {
    /// Returns nothing for a provider that sends no proof.
    fn of(entry: &Arc<ProviderEntry>, random: &[u8; 32]) -> Option<Self> {
        let signature = entry.signature.as_ref()?;
        let secret = |spec| (generate_secret(spec, random), spec.name.clone());
        let secrets = entry.secrets.iter().map(secret).map(|(secret, name)| (name, vec![secret]));
        let open = entry.settings.iter().filter(|setting| setting.default.is_none());
        let mut trigger = TriggerSettings {
            secrets: secrets.collect(),
            settings: open.map(|setting| (setting.name.clone(), "X-Signature".to_owned())).collect(),
            public_url: Some(PUBLIC_URL.to_owned()),
            ..TriggerSettings::default()
        };
        if let Some(signer) = Signer::new(entry, &trigger).unwrap() {
            return Some(Self { entry: entry.clone(), signer, trigger });
        }
        let key = private_key(private_scheme(entry, &trigger.settings).unwrap().unwrap());
        let signer = if signature.keys.is_none() && signature.public_keys.is_empty() {
            trigger.secrets.remove(SIGNING_SECRET);
            let signer = Signer::with_private_key(entry, &trigger, key.clone()).unwrap().unwrap();
            trigger.secrets.insert(SIGNING_SECRET.to_owned(), vec![Secret::new(key.public_pem())]);
            signer
        } else {
            trigger.public_keys = vec![key.public_pem()];
            Signer::with_private_key(entry, &trigger, key).unwrap().unwrap()
        };
        Some(Self { entry: entry.clone(), signer, trigger })
    }

    fn sample(&self) -> &Sample {
        self.entry.samples.first().unwrap_or_else(|| panic!("{} has no sample for `send`", self.entry.id))
    }

    /// Signs a request; nothing comes of a body that the provider would not send.
    fn sign(&self, rendered: Rendered, kind: &str, at: Timestamp) -> Result<RawInbound, String> {
        let Rendered { method, query, headers, body } = rendered;
        let url = format!("/hooks/x{query}");
        let request = SignRequest {
            method: &method,
            url: &url,
            headers: &headers,
            body: &body,
            now: at,
            delivery_id: "id-1",
            kind: Some(kind),
        };
        let Signed { headers: added, query, body: signed } =
            self.signer.sign(request).map_err(|error| error.to_string())?;
        let mut headers: Vec<Header> = headers;
        headers.retain(|(name, _)| !added.iter().any(|(known, _)| known == name));
        headers.extend(added.into_iter().map(|(name, value)| (name, value.into())));
        let (url, body) = (with_query(&url, &query), signed.unwrap_or(body).into());
        Ok(RawInbound { method, url, headers, body, received_at: at, peer: None })
    }

    fn sample_delivery(&self, at: Timestamp) -> RawInbound {
        let sample = self.sample();
        let signed = self.sign(render(sample, "id-1", at), &sample.kind, at);
        signed.unwrap_or_else(|error| panic!("{}: {error}", self.entry.id))
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(&self.entry, &self.trigger).unwrap()
    }

    fn judge(&self, raw: &RawInbound, now: Timestamp) -> Result<Vec<Normalized>, RejectReason> {
        match self.verifier().normalize_inbound(raw, Judging::at(now)) {
            NormalizeResult::Event(event) => Ok(vec![event]),
            NormalizeResult::Batch(events) => Ok(events),
            NormalizeResult::Reject(rejection) => Err(rejection.reason),
            NormalizeResult::Immediate { .. } => {
                panic!("{}: a delivery is taken for a handshake", self.entry.id)
            }
        }
    }

    /// Tells whether the proof covers every byte of the body, and not what they mean.
    fn covers_bytes(&self) -> bool {
        let signature = self.entry.signature.as_ref().unwrap();
        let bound =
            signature.binds.iter().any(|bind| bind.unless.is_none() && bind.equals.starts_with("{body|sha"));
        let content = signature.content.as_deref().unwrap_or("{body}");
        let is_covered = content.contains("{body}") || content.contains("{body|sha");
        let is_signed = !matches!(signature.alg.as_deref(), Some("jwt" | "token"));
        !signature.each && (bound || is_covered && is_signed)
    }
}

fn pairs() -> Vec<Pair> {
    ProviderCatalog::built_in().entries().filter_map(|entry| Pair::of(entry, &[7; 32])).collect()
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// Every provider's fault is told, so that one does not hide the others.
fn for_each(check: impl Fn(&Pair) -> Result<(), String> + std::panic::RefUnwindSafe) {
    let mut failures = Vec::new();
    for pair in pairs() {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&pair)));
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(what)) => failures.push(format!("{}: {what}", pair.entry.id)),
            Err(_) => failures.push(format!("{}: panicked", pair.entry.id)),
        }
    }
    assert!(failures.is_empty(), "{} providers fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_sample_signs_verifies_and_has_its_kind() {
    for_each(|pair| {
        for sample in &pair.entry.samples {
            let rendered = render(sample, "id-1", now());
            let raw = pair.sign(rendered, &sample.kind, now())?;
            let events = pair.judge(&raw, now()).map_err(|reason| format!("{}: {reason}", sample.kind))?;
            if events[0].kind != sample.kind {
                return Err(format!("kind {:?}, not {:?}", events[0].kind, sample.kind));
            }
        }
        Ok(())
    });
}

#[test]
fn samples_of_providers_without_a_proof_are_taken_too() {
    for entry in ProviderCatalog::built_in().entries().filter(|entry| entry.signature.is_none()) {
        let verifier = Verifier::new(entry, &TriggerSettings::default()).unwrap();
        for sample in &entry.samples {
            let Rendered { method, query, headers, body } = render(sample, "id-1", now());
            let (url, body) = (format!("/hooks/x{query}"), body.into());
            let raw = RawInbound { method, url, headers, body, received_at: now(), peer: None };
            let result = verifier.normalize_inbound(&raw, Judging::at(now()));
            let NormalizeResult::Event(event) = result else { panic!("{}: {result:?}", entry.id) };
            assert_eq!(event.kind, sample.kind, "{}", entry.id);
        }
    }
}

#[test]
fn a_foreign_secret_verifies_nothing() {
    for_each(|pair| {
        // Where the provider signs with its own key, the secret does not make the proof.
        if !pair.trigger.public_keys.is_empty()
            || private_scheme(&pair.entry, &pair.trigger.settings).unwrap().is_some()
        {
            return Ok(());
        }
        let foreign = Pair::of(&pair.entry, &[8; 32]).unwrap();
        match pair.judge(&foreign.sample_delivery(now()), now()) {
            Err(RejectReason::InvalidSignature) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn the_tolerance_is_exact_in_both_directions() {
    for_each(|pair| {
        let signature = pair.entry.signature.as_ref().unwrap();
        let Some(tolerance) = signature.tolerance_s else { return Ok(()) };
        // What an entry leaves open may be a time, too.
        if signature.timestamp.as_deref().is_some_and(|at| at.contains("${")) {
            return Ok(());
        }
        // A token's own times are narrower.
        if signature.alg.as_deref() == Some("jwt") {
            return Ok(());
        }
        let raw = pair.sample_delivery(now());
        for (seconds, expected) in [(tolerance, true), (tolerance + 1, false)] {
            for now in [now() + Duration::from_secs(seconds), now() - Duration::from_secs(seconds)] {
                let judged = pair.judge(&raw, now);
                let is_expected = match &judged {
                    Ok(_) => expected,
                    Err(reason) => !expected && *reason == RejectReason::TimestampOutOfWindow,
                };
                if !is_expected {
                    return Err(format!("{seconds} s off: {:?}", judged.map(|events| events.len())));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn every_secret_of_a_rotation_list_verifies() {
    for_each(|pair| {
        let shared = private_scheme(&pair.entry, &pair.trigger.settings).unwrap().is_none();
        let Some(spec) =
            pair.entry.secrets.iter().find(|spec| spec.name == SIGNING_SECRET).filter(|_| shared)
        else {
            return Ok(());
        };
        let raw = pair.sample_delivery(now());
        let own = pair.trigger.secrets[SIGNING_SECRET][0].clone();
        let other = |i: u8| generate_secret(spec, &[100 + i; 32]);
        for index in 0..8_u8 {
            let mut secrets: Vec<Secret> = (0..8).map(other).collect();
            secrets[usize::from(index)] = own.clone();
            let secrets = BTreeMap::from([(SIGNING_SECRET.to_owned(), secrets)]);
            let mut trigger = TriggerSettings { secrets, ..pair.trigger.clone() };
            for (name, list) in &pair.trigger.secrets {
                trigger.secrets.entry(name.clone()).or_insert_with(|| list.clone());
            }
            let list = Pair { entry: pair.entry.clone(), signer: pair.signer.clone(), trigger };
            let events = list.judge(&raw, now()).map_err(|reason| format!("{index}: {reason}"))?;
            if events[0].secret_index != Some(usize::from(index)) {
                return Err(format!("secret {index} is told as {:?}", events[0].secret_index));
            }
        }
        Ok(())
    });
}

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(pairs);

fn any_pair() -> impl Strategy<Value = &'static Pair> {
    proptest::sample::select((0..PAIRS.len()).collect::<Vec<_>>()).prop_map(|index| &PAIRS[index])
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (1_000_000_000_000_i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_body_that_is_signed_verifies(
        pair in any_pair(), body in any::<Vec<u8>>(), at in any_time()
    ) {
        prop_assume!(pair.covers_bytes());
        let sample = pair.sample();
        let rendered = Rendered { body, ..render(sample, "id-1", at) };
        if let Ok(raw) = pair.sign(rendered, &sample.kind, at) {
            prop_assert!(pair.judge(&raw, at).is_ok(), "{}", pair.entry.id);
        }
    }

    #[test]
    fn any_changed_byte_of_the_body_fails(
        pair in any_pair(), index in any::<Index>(), change in 1_u8.., at in any_time()
    ) {
        prop_assume!(pair.covers_bytes());
        let raw = pair.sample_delivery(at);
        prop_assume!(!raw.body.is_empty());
        let mut changed = raw.body.to_vec();
        let longer = [&raw.body[..], &[change]].concat();
        let shorter = raw.body[..raw.body.len() - 1].to_vec();
        changed[index.index(raw.body.len())] ^= change;
        for body in [changed, longer, shorter] {
            let judged = pair.judge(&RawInbound { body: body.into(), ..raw.clone() }, at);
            prop_assert!(judged.is_err(), "{}", pair.entry.id);
        }
    }

    #[test]
    fn any_changed_byte_of_the_proof_fails(
        pair in any_pair(), which in any::<Index>(), index in any::<Index>(), at in any_time()
    ) {
        let signature = pair.entry.signature.as_ref().unwrap();
        // Of several signatures in one proof, one that is good is enough; some parts do not matter.
        prop_assume!(signature.syntax.iter().filter(|pattern| pattern.contains("{sig}")).count() < 2);
        prop_assume!(!signature.syntax.iter().any(|text| text.contains("{_}") || text.contains("{key_id}")));
        let mut raw = pair.sample_delivery(at);
        let proof: Vec<String> = pair.signer.renewed_headers().into_iter().map(str::to_owned).collect();
        prop_assume!(!proof.is_empty());
        let name = &proof[which.index(proof.len())];
        let (_, value) = raw.headers.iter_mut().find(|(known, _)| known == name).unwrap();
        let mut bytes = value.to_vec();
        let at_byte = index.index(bytes.len());
        // The case of hex digits, and of the first word of `Authorization`, does not matter; every
        // other change does.
        bytes[at_byte] = if bytes[at_byte] == b'0' { b'1' } else { b'0' };
        *value = bytes.into();
        prop_assert!(pair.judge(&raw, at).is_err(), "{}: {name}", pair.entry.id);
    }

    #[test]
    fn no_request_panics(
        pair in any_pair(),
        headers in proptest::collection::vec(any::<(u8, Vec<u8>)>(), 0..6),
        body in any::<Vec<u8>>(),
        armed in any::<bool>(),
    ) {
        let raw = pair.sample_delivery(now());
        let known: Vec<String> = raw.headers.iter().map(|(name, _)| name.clone()).collect();
        let header = |(name, value): (u8, Vec<u8>)| (known[usize::from(name) % known.len()].clone(), value.into());
        let raw = RawInbound { headers: headers.into_iter().map(header).collect(), body: body.into(), ..raw };
        let _ = pair.verifier().normalize_inbound(&raw, Judging { armed, ..Judging::at(now()) });
    }
}
