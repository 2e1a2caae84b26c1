//! What headers teach, as providers document them, and as nobody should send them.

use proptest::prelude::*;

use super::*;
use crate::permits::Lane;
use crate::permits::bucket::Bucket;
use crate::permits::budget::{Budget, Rate};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// Learns from headers as they stand in an answer: `name: value`, one a line.
fn learned(provider: &str, status: u16, headers: &str) -> Correction {
    let lines = headers.lines().filter_map(|line| line.trim().split_once(": "));
    let headers = lines.map(|(name, value)| (name, value.as_bytes()));
    learn(&HeaderRules::of(&provider.parse().unwrap()), status, headers, at(0))
}

/// What a call would meet: refused, wait in milliseconds, and quotas as limit, remaining, milliseconds to reset.
type Met = (bool, Option<u128>, Vec<(Option<u32>, u32, u128)>);

fn check(provider: &str, status: u16, headers: &str, expected: Met) {
    let it = learned(provider, status, headers);
    let quotas = it.quotas.iter().map(|it| (it.limit, it.remaining, it.resets_in.as_millis())).collect();
    assert_eq!((it.refused, it.wait.map(|it| it.as_millis()), quotas), expected, "{headers}");
}

#[test]
fn retry_after_counts_for_refusals_in_every_form() {
    let none = Vec::new;
    check("acme", 429, "Retry-After: 30", (true, Some(30_000), none()));
    check("acme", 429, "retry-after: 2.5", (true, Some(2_500), none()));
    check("acme", 429, "Retry-After: Fri, 15 Jan 2027 08:01:00 GMT", (true, Some(60_000), none()));
    check("acme", 429, "Retry-After: 2027-01-15T08:00:10Z", (true, Some(10_000), none()));
    check("acme", 429, "Retry-After: 1m30s", (true, Some(90_000), none()));
    check("acme", 503, "Retry-After: 7", (true, Some(7_000), none()));
    check("acme", 429, "X-RateLimit-Retry-After: 9", (true, Some(9_000), none()));
    check("acme", 429, "", (true, None, none()));
    check("acme", 429, "Retry-After: soon", (true, None, none()));
    check("acme", 202, "Retry-After: 30", (false, None, none()));
    check("acme", 503, "", (false, None, none()));
    check("acme", 403, "", (false, None, none()));
}

#[test]
fn a_reset_is_read_by_its_magnitude() {
    let headers =
        |reset: &str| format!("X-RateLimit-Limit: 60\nX-RateLimit-Remaining: 7\nX-RateLimit-Reset: {reset}");
    let reset =
        |text: &str, ms: u128| check("acme", 200, &headers(text), (false, None, vec![(Some(60), 7, ms)]));
    reset("30", 30_000);
    reset("30.25", 30_250);
    reset("86400", 86_400_000);
    reset("86401", 86_401);
    reset("600000", 600_000);
    reset("1800000060", 60_000);
    reset("1800000060.5", 60_500);
    reset("1800000060250", 60_250);
    reset("1799999999", 0);
    reset("Fri Jan 15 08:00:30 2027", 30_000);
}

#[test]
fn a_time_of_the_senders_clock_is_compared_with_its_own_date() {
    let headers =
        "Date: Fri, 15 Jan 2027 08:10:00 GMT\nX-RateLimit-Remaining: 1\nX-RateLimit-Reset: 1800000660";
    check("acme", 200, headers, (false, None, vec![(None, 1, 60_000)]));
}

#[test]
fn both_forms_of_the_ratelimit_field_are_read() {
    check(
        "acme",
        200,
        "RateLimit: limit=100, remaining=50, reset=30",
        (false, None, vec![(Some(100), 50, 30_000)]),
    );
    let new = "RateLimit-Policy: \"burst\";q=100;w=60,\"daily\";q=1000;w=86400\nRateLimit: \"burst\";r=50;t=30, \"daily\";r=3";
    check("acme", 200, new, (false, None, vec![(Some(100), 50, 30_000), (Some(1_000), 3, 86_400_000)]));
    assert_eq!(learned("acme", 200, new).pace, Some(Pace { limit: 100, window: Duration::from_secs(60) }));
    let bytes = "RateLimit-Policy: \"size\";q=65535;qu=\"content-bytes\";w=10";
    assert_eq!(learned("acme", 200, bytes), Correction::default());
    let three = "RateLimit-Limit: 100, 100;w=10, 1000;w=3600\nRateLimit-Remaining: 0\nRateLimit-Reset: 5";
    check("acme", 429, three, (true, Some(5_000), vec![(Some(100), 0, 5_000)]));
    assert_eq!(learned("acme", 429, three).pace, Some(Pace { limit: 100, window: Duration::from_secs(10) }));
    let quoted = "RateLimit: \"a,b;c\";r=4;t=6";
    check("acme", 200, quoted, (false, None, vec![(None, 4, 6_000)]));
}

#[test]
fn a_reset_without_what_is_left_is_the_wait_of_a_refusal() {
    check("acme", 429, "X-RateLimit-Reset: 12", (true, Some(12_000), Vec::new()));
    check("acme", 200, "X-RateLimit-Reset: 12", (false, None, Vec::new()));
}

#[test]
fn providers_own_names_are_read_as_their_documentation_says() {
    // GitHub: nothing left is the primary limit; a secondary one tells a wait while calls are left.
    let primary = "x-ratelimit-limit: 5000\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1800000900";
    check("github", 403, primary, (true, Some(900_000), vec![(Some(5_000), 0, 900_000)]));
    let secondary = "retry-after: 60\nx-ratelimit-remaining: 14\nx-ratelimit-reset: 1800000900";
    check("github", 403, secondary, (true, Some(60_000), vec![(None, 14, 900_000)]));
    check(
        "github",
        403,
        "x-ratelimit-remaining: 14\nx-ratelimit-reset: 1800000900",
        (false, None, vec![(None, 14, 900_000)]),
    );
    check("slack", 429, "Retry-After: 30", (true, Some(30_000), Vec::new()));
    let discord = "X-RateLimit-Limit: 5\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1800009999\nX-RateLimit-Reset-After: 0.25";
    check("discord", 200, discord, (false, None, vec![(Some(5), 0, 250)]));
    let linear = "X-RateLimit-Requests-Limit: 1500\nX-RateLimit-Requests-Remaining: 2\nX-RateLimit-Requests-Reset: 1800000060000";
    check("linear", 200, linear, (false, None, vec![(Some(1_500), 2, 60_000)]));
    let hubspot = "X-HubSpot-RateLimit-Max: 100\nX-HubSpot-RateLimit-Remaining: 40\nX-HubSpot-RateLimit-Daily: 250000\nX-HubSpot-RateLimit-Daily-Remaining: 9";
    check(
        "hubspot",
        200,
        hubspot,
        (false, None, vec![(Some(100), 40, 10_000), (Some(250_000), 9, 3_600_000)]),
    );
    let zendesk = "x-rate-limit: 700\nratelimit-limit: 700\nx-rate-limit-remaining: 699\nratelimit-remaining: 699\nratelimit-reset: 41";
    check("zendesk", 200, zendesk, (false, None, vec![(Some(700), 699, 41_000), (Some(700), 699, 60_000)]));
    assert_eq!(learned("shopify", 200, "X-Shopify-Shop-Api-Call-Limit: 39/40").room, Some(1));
    assert_eq!(learned("shopify", 200, "X-Shopify-Shop-Api-Call-Limit: 41/40").room, Some(0));
}

#[test]
fn quotas_of_other_buckets_do_not_take_each_others_place() {
    let name = |resource: &str| {
        let headers = format!(
            "x-ratelimit-resource: {resource}\nx-ratelimit-remaining: 1\nx-ratelimit-reset: 1800000900"
        );
        learned("github", 200, &headers).quotas[0].name
    };
    assert_ne!(name("core"), name("search"));
    assert_eq!(name("core"), name("core"));
}

#[test]
fn what_is_no_value_teaches_nothing() {
    for value in ["-1", "NaN", "inf", "1e9", "0x10", "", "ten", "+5", "1.", ".5", "٣", "\u{0}", "1 2"] {
        let headers =
            format!("X-RateLimit-Remaining: {value}\nX-RateLimit-Reset: {value}\nRetry-After: {value}");
        assert_eq!(learned("acme", 200, &headers), Correction::default(), "{value:?}");
    }
}

/// Digits, dates and signs as headers have them, and anything else.
fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[0-9]{1,30}(\\.[0-9]{1,9})?".prop_map(String::into_bytes),
        "-?[0-9]{1,12}(;w=[0-9]{1,9})?(, ?[0-9]{1,9};w(indow)?=[0-9]{1,12}){0,3}"
            .prop_map(String::into_bytes),
        "\"[a-z]{0,3}\";[rqtw]=[0-9]{1,12};[tw]=[0-9]{1,12}".prop_map(String::into_bytes),
        "(limit|remaining|reset)=[0-9]{1,12}(, (remaining|reset)=[0-9]{1,12}){0,2}"
            .prop_map(String::into_bytes),
        "[0-9]{1,11}/[0-9]{1,11}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Retry-After",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "X-RateLimit-Reset-After",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
        "RateLimit",
        "RateLimit-Policy",
        "X-Shopify-Shop-Api-Call-Limit",
        "Date",
    ])
}

proptest! {
    #[test]
    fn no_answer_stops_a_provider_for_longer_or_lets_it_run_faster_than_the_bounds(
        provider in prop::sample::select(vec!["acme", "github", "discord", "shopify", "linear"]),
        answers in prop::collection::vec(
            (prop::sample::select(vec![200_u16, 403, 429, 503]), prop::collection::vec((names(), values()), 0..8)),
            1..6,
        ),
    ) {
        let rules = HeaderRules::of(&provider.parse().unwrap());
        let base = Rate::from(Budget { per_second: 2.0, burst: 7 });
        let mut bucket = Bucket::new(base, i64::MIN);
        let now = NOW * 1_000_000_000;
        for (status, headers) in &answers {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_slice()));
            let correction = learn(&rules, *status, headers, at(0));
            prop_assert!(correction.wait.is_none_or(|wait| wait <= TAUGHT_MAX));
            prop_assert!(correction.quotas.iter().all(|quota| quota.resets_in <= TAUGHT_MAX));
            bucket.correct(&correction, 0, base, rules.unsaid_wait, now);
            for lane in Lane::ALL {
                prop_assert!(bucket.ready_at(lane, now) <= now + TAUGHT_MAX.as_nanos() as i64);
            }
            prop_assert!(bucket.rate.interval >= base.interval / i64::from(PACE_RAISE_MAX));
            prop_assert!(bucket.rate.interval <= base.interval * i64::from(PACE_CUT_MAX));
            prop_assert!((1..=base.burst).contains(&bucket.rate.burst));
        }
        // After that time all of it is forgotten.
        let later = now + TAUGHT_MAX.as_nanos() as i64;
        bucket.settle(base, later);
        prop_assert_eq!(bucket.rate, base);
        prop_assert!(bucket.blocked_until <= later);
        prop_assert!(bucket.quotas.iter().all(|quota| quota.until <= later));
    }
}
