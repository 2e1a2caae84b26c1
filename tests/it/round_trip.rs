//! What follows from every entry of the catalogue, as properties: what is signed verifies, and nothing else does.
//! What can be checked of each entry at once is in `testkit`'s suite, which `providers` runs.

use std::sync::LazyLock;

use hookkeeper::catalog::{ProviderCatalog, Sample};
use hookkeeper::connector::{Judging, RawInbound, Rendered, render};
use hookkeeper::event::Timestamp;
use hookkeeper::testkit::Pair;
use proptest::prelude::*;
use proptest::sample::Index;

/// Fewest providers that sign.
const PAIRS_MIN: usize = 250;

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let catalog = ProviderCatalog::built_in();
    let pairs: Vec<Pair> = catalog.entries().filter_map(|entry| Pair::of(entry, &[7; 32]).unwrap()).collect();
    assert!(pairs.len() >= PAIRS_MIN, "only {} providers sign", pairs.len());
    pairs
});

fn any_pair() -> impl Strategy<Value = &'static Pair> {
    proptest::sample::select((0..PAIRS.len()).collect::<Vec<_>>()).prop_map(|index| &PAIRS[index])
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (1_000_000_000_000_i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn id(pair: &Pair) -> &str {
    pair.entry().id.as_str()
}

fn sample(pair: &Pair) -> &Sample {
    pair.entry().samples.first().unwrap_or_else(|| panic!("{} has no sample for `send`", id(pair)))
}

fn sample_delivery(pair: &Pair, at: Timestamp) -> RawInbound {
    pair.sample_delivery(at).unwrap_or_else(|error| panic!("{}: {error}", id(pair)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_body_that_is_signed_verifies(
        pair in any_pair(), body in any::<Vec<u8>>(), at in any_time()
    ) {
        prop_assume!(pair.covers_bytes());
        let sample = sample(pair);
        let rendered = Rendered { body, ..render(sample, "id-1", at) };
        if let Ok(raw) = pair.sign(rendered, &sample.kind, at) {
            prop_assert!(pair.judge(&raw, at).is_ok(), "{}", id(pair));
        }
    }

    #[test]
    fn any_changed_byte_of_the_body_fails(
        pair in any_pair(), index in any::<Index>(), change in 1_u8.., at in any_time()
    ) {
        prop_assume!(pair.covers_bytes());
        let raw = sample_delivery(pair, at);
        prop_assume!(!raw.body.is_empty());
        let mut changed = raw.body.to_vec();
        let longer = [&raw.body[..], &[change]].concat();
        let shorter = raw.body[..raw.body.len() - 1].to_vec();
        changed[index.index(raw.body.len())] ^= change;
        for body in [changed, longer, shorter] {
            let judged = pair.judge(&RawInbound { body: body.into(), ..raw.clone() }, at);
            prop_assert!(judged.is_err(), "{}", id(pair));
        }
    }

    #[test]
    fn any_changed_byte_of_the_proof_fails(
        pair in any_pair(), which in any::<Index>(), index in any::<Index>(), at in any_time()
    ) {
        let signature = pair.entry().signature.as_ref().unwrap();
        // Of several signatures in one proof, one that is good is enough; some parts do not matter.
        prop_assume!(signature.syntax.iter().filter(|pattern| pattern.contains("{sig}")).count() < 2);
        prop_assume!(!signature.syntax.iter().any(|text| text.contains("{_}") || text.contains("{key_id}")));
        // What stands beside a signature in one JSON, such as the name of a key that is at hand, proves nothing.
        prop_assume!(!signature.sig.starts_with("packed:"));
        let mut raw = sample_delivery(pair, at);
        let proof: Vec<String> = pair.signer().renewed_headers().into_iter().map(str::to_owned).collect();
        prop_assume!(!proof.is_empty());
        let name = &proof[which.index(proof.len())];
        let (_, value) = raw.headers.iter_mut().find(|(known, _)| known == name).unwrap();
        let mut bytes = value.to_vec();
        let at_byte = index.index(bytes.len());
        // The case of hex digits, and of the first word of `Authorization`, does not matter; every
        // other change does.
        bytes[at_byte] = if bytes[at_byte] == b'0' { b'1' } else { b'0' };
        *value = bytes.into();
        prop_assert!(pair.judge(&raw, at).is_err(), "{}: {name}", id(pair));
    }

    #[test]
    fn no_request_panics(
        pair in any_pair(),
        headers in proptest::collection::vec(any::<(u8, Vec<u8>)>(), 0..6),
        body in any::<Vec<u8>>(),
        armed in any::<bool>(),
    ) {
        let raw = sample_delivery(pair, now());
        let known: Vec<String> = raw.headers.iter().map(|(name, _)| name.clone()).collect();
        let header = |(name, value): (u8, Vec<u8>)| (known[usize::from(name) % known.len()].clone(), value.into());
        let raw = RawInbound { headers: headers.into_iter().map(header).collect(), body: body.into(), ..raw };
        let _ = pair.verifier().normalize_inbound(&raw, Judging { armed, ..Judging::at(now()) });
    }
}
