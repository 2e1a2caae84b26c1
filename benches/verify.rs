//! What verification costs beside what cannot be saved.
//!
//! ```text
//! cargo bench --bench verify
//! ```
//!
//! - Verifying a body of 7 KB against the bare HMAC-SHA256 of the same bytes, and the allocations of both a
//!   small and a large body, which must not differ. `whole` is all that a trigger does with a request:
//!   kind, id and time are read out of the body, too.
//! - Loading the catalogue, in a process of its own.
//! - Whether the time of a comparison tells where the first difference is: Welch's t of two classes of wrong
//!   signatures, of which more than 4.5 would be a finding.
//!
//! Rounds are interleaved and medians printed, for machines are noisy: trust ratios within one run.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::alloc::System;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookkeeper::catalog::{ProviderCatalog, ProviderEntry};
use hookkeeper::connector::{
    Judging, NormalizeResult, RawInbound, SignRequest, Signer, TriggerSettings, Verifier,
};
use hookkeeper::event::Timestamp;
use hookkeeper::secrets::Secret;
use hookkeeper::signature::{Fields, Key, Request, Scheme, Text, Values, Window};
use sha2::Sha256;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PROVIDERS: [(&str, &str); 3] = [
    ("github", "It's a Secret to Everybody"),
    ("stripe", "whsec_test_secret"),
    ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw"),
];
const BODY_BYTES: usize = 7 * 1024;
const LARGE_BODY_BYTES: usize = 700 * 1024;
const ROUNDS: usize = 61;
const CALLS: u32 = 400;

fn main() {
    if std::env::args().any(|arg| arg == "--load-catalogue") {
        let begun = Instant::now();
        let entries = ProviderCatalog::built_in().entries().count();
        println!("{} {entries}", begun.elapsed().as_micros());
        return;
    }
    verification();
    catalogue();
    comparison();
}

/// A body as providers send it.
fn body(bytes: usize) -> String {
    let item = |n: usize| format!(r#"{{"id":"item-{n}","price":{n},"text":"a line of an order, as it is"}}"#);
    let mut items = String::new();
    for n in 0.. {
        if items.len() + 120 > bytes {
            break;
        }
        items = items + if n > 0 { "," } else { "" } + &item(n);
    }
    format!(r#"{{"id":"evt_1","type":"order.paid","action":"opened","created":1,"items":[{items}]}}"#)
}

/// A trigger and what it is sent.
struct Case {
    fields: Fields,
    scheme: Scheme,
    keys: Vec<Key>,
    verifier: Verifier,
    raw: RawInbound,
    secret: &'static str,
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn scheme(entry: &ProviderEntry) -> (Fields, Scheme) {
    let text = entry.signature.as_ref().unwrap();
    let mut fields = Fields::default();
    let scheme = Scheme::new(
        &Text {
            sig: vec![&text.sig],
            syntax: text.syntax.iter().map(String::as_str).collect(),
            list: text.list.as_deref(),
            alg: text.alg.as_deref(),
            encoding: text.encoding.as_deref(),
            content: text.content.as_deref().into_iter().collect(),
            key: text.key.as_deref(),
            timestamp: text.timestamp.as_deref(),
            id: entry.event.delivery.iter().map(String::as_str).collect(),
            ..Text::default()
        },
        &mut fields,
    );
    (fields, scheme.unwrap())
}

impl Case {
    fn new(provider: &str, secret: &'static str, body: String) -> Self {
        let entry = ProviderCatalog::built_in().get(provider).unwrap().clone();
        let trigger = TriggerSettings::of_secrets([Secret::new(secret)]);
        let signer = Signer::new(&entry, &trigger).unwrap().unwrap();
        let request = SignRequest {
            method: "POST",
            url: "/hooks/x",
            headers: &[],
            body: body.as_bytes(),
            now: now(),
            delivery_id: "id-1",
            kind: Some("issues.opened"),
        };
        let mut headers = vec![("content-type".to_owned(), "application/json".into())];
        let signed = signer.sign(request).unwrap();
        headers.extend(signed.headers.into_iter().map(|(name, value)| (name, value.into())));
        let (fields, scheme) = scheme(&entry);
        Self {
            keys: vec![scheme.key(secret.as_bytes()).unwrap()],
            fields,
            scheme,
            verifier: Verifier::new(&entry, &trigger).unwrap(),
            raw: RawInbound {
                method: "POST".to_owned(),
                url: "/hooks/x".to_owned(),
                headers,
                body: Bytes::from(body),
                received_at: now(),
                peer: None,
            },
            secret,
        }
    }

    fn bare(&self) {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(black_box(&self.raw.body));
        black_box(mac.finalize().into_bytes());
    }

    fn verify(&self) -> bool {
        let request = Request {
            method: &self.raw.method,
            url: &self.raw.url,
            public_url: None,
            headers: black_box(&self.raw.headers),
            body: black_box(&self.raw.body),
        };
        let window = Window { now: now(), tolerance: Some(Duration::from_secs(300)) };
        self.scheme.verify(&self.keys, &Values::new(&self.fields, request), window).is_ok()
    }

    fn whole(&self) {
        let result = self.verifier.normalize_inbound(black_box(&self.raw), Judging::at(now()));
        assert!(matches!(result, NormalizeResult::Event(_)));
    }
}

fn per_call(mut call: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns how many allocations a call makes, and of how many bytes.
fn allocated(call: impl FnOnce()) -> (usize, usize) {
    let region = Region::new(ALLOCATOR);
    call();
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

fn verification() {
    println!("body of {BODY_BYTES} bytes   bare µs   verify µs  ratio   whole µs  ratio");
    for (provider, secret) in PROVIDERS {
        let case = Case::new(provider, secret, body(BODY_BYTES));
        let (mut bare, mut verify, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(per_call(|| case.bare()));
            verify.push(per_call(|| assert!(case.verify())));
            whole.push(per_call(|| case.whole()));
        }
        let ratio = |of: &[f64]| median(of.iter().zip(&bare).map(|(one, bare)| one / bare).collect());
        let (verify_ratio, whole_ratio) = (ratio(&verify), ratio(&whole));
        let (bare, verify, whole) = (median(bare.clone()), median(verify), median(whole));
        println!(
            "{provider:<20} {bare:>8.2}  {verify:>9.2}  {verify_ratio:>5.2}  {whole:>9.2}  {whole_ratio:>5.2}"
        );
    }
    for (provider, secret) in PROVIDERS {
        let of = |bytes| {
            let case = Case::new(provider, secret, body(bytes));
            (allocated(|| assert!(case.verify())), allocated(|| case.whole()))
        };
        let (small, large) = (of(BODY_BYTES), of(LARGE_BODY_BYTES));
        assert_eq!(small, large, "{provider}: allocations grow with the body");
        let ((verify, verify_bytes), (whole, whole_bytes)) = small;
        println!(
            "{provider:<20} allocations: verify {verify} ({verify_bytes} bytes), whole {whole} ({whole_bytes} bytes)"
        );
    }
}

fn catalogue() {
    let load = || -> f64 {
        let output = Command::new(std::env::current_exe().unwrap()).arg("--load-catalogue").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let took = median((0..21).map(|_| load()).collect()) / 1000.0;
    println!("catalogue loads in   {took:.1} ms");
}

/// Compares wrong signatures that differ in their first byte with ones that differ in their last; and, to
/// see what the machine makes, ones that differ in their first byte with others that do. All of them stand in the
/// same place in memory, one after the other.
fn comparison() {
    const SAMPLES: u64 = 600_000;
    let (provider, secret) = PROVIDERS[0];
    let mut case = Case::new(provider, secret, "{}".to_owned());
    let at = case.raw.headers.iter().position(|(name, _)| name.contains("signature")).unwrap();
    let right = case.raw.headers[at].1.to_vec();
    let places = ["sha256=".len(), right.len() - 1, "sha256=".len()];
    let mut samples = [const { Vec::new() }; 3];
    let mut random = 1_u64;
    for _ in 0..SAMPLES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let class = (random >> 33) as usize % 3;
        let mut wrong = right.clone();
        let digit = &mut wrong[places[class]];
        *digit = if *digit == b'0' { b'1' } else { b'0' };
        case.raw.headers[at].1 = wrong.into();
        let begun = Instant::now();
        let verifies = black_box(case.verify());
        samples[class].push(begun.elapsed().as_nanos() as f64);
        assert!(!verifies);
    }
    let [first, last, control] = &samples;
    println!("comparison: first against last byte t = {:.2}", welch(first, last));
    println!("            first against first     t = {:.2}", welch(first, control));
}

/// Welch's t of two samples, without the slowest tenth, which the machine made.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let of = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values.truncate(values.len() * 9 / 10);
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (of(one), of(other));
    (mean - other_mean) / (error + other_error).sqrt()
}
