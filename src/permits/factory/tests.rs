//! Scopes apart, and how many there are.

use std::time::Duration;

use super::*;
use crate::event::Timestamp;
use crate::permits::Lane;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

struct Bed {
    clock: Clock,
    factory: RateLimiterFactory,
    provider: ProviderId,
}

impl Bed {
    fn new() -> Self {
        let clock = Clock::fixed(at(0));
        let factory = RateLimiterFactory::new(clock.clone());
        let provider: ProviderId = "acme".parse().unwrap();
        factory.register(&provider, Profile::new(Budget { per_second: 1.0, burst: 1 }));
        Self { clock, factory, provider }
    }

    fn limiter(&self, scope: &str) -> RateLimiter {
        self.factory.limiter(&self.provider, scope)
    }

    /// Takes the one token of a scope.
    async fn spend(&self, scope: &str) -> bool {
        self.limiter(scope).acquire(Lane::Live, self.clock.now()).await.is_ok()
    }

    fn scopes(&self) -> usize {
        self.factory.of(&self.provider).scopes.lock().by_key.len()
    }
}

#[tokio::test]
async fn scopes_and_providers_have_budgets_of_their_own() {
    let bed = Bed::new();
    assert!(bed.spend("a").await);
    assert!(!bed.spend("a").await);
    assert!(bed.spend("b").await);
    let other = bed.factory.limiter(&"other".parse().unwrap(), "a");
    assert!(other.acquire(Lane::Live, bed.clock.now()).await.is_ok());
    // All clones share them.
    let clone = bed.factory.clone().limiter(&bed.provider, "a");
    assert!(clone.acquire(Lane::Live, bed.clock.now()).await.is_err());
}

/// Found by the fuzz target `rate_limit_headers`.
#[tokio::test]
async fn what_nobody_keeps_is_gone_with_its_factory() {
    let Bed { clock, factory, provider } = Bed::new();
    let shared = Arc::downgrade(&factory.of(&provider).shared);
    let permit = factory.limiter(&provider, "a").acquire(Lane::Live, clock.now()).await.unwrap();
    permit.observe(429, [("retry-after", b"60".as_slice())], clock.now());
    drop(factory);
    assert!(shared.upgrade().is_none());
}

#[tokio::test]
async fn a_full_table_gives_up_idle_scopes_and_none_that_owes() {
    let bed = Bed::new();
    for n in 0..SCOPES_MAX {
        bed.limiter(&n.to_string());
    }
    let held = bed.limiter("0");
    assert!(bed.spend("1").await);
    let permit = bed.limiter("2").acquire(Lane::Live, bed.clock.now()).await.unwrap();
    permit.observe(429, [("retry-after", b"3600".as_slice())], bed.clock.now());
    assert_eq!(bed.scopes(), SCOPES_MAX);

    bed.limiter("one more");
    assert_eq!(bed.scopes(), 4);
    assert!(!bed.spend("1").await);
    assert!(!bed.spend("2").await);
    // What was held is the same as what others get.
    assert!(held.acquire(Lane::Live, bed.clock.now()).await.is_ok());
    assert!(!bed.spend("0").await);
}

#[tokio::test]
async fn scopes_that_find_no_room_share_one_bucket() {
    let bed = Bed::new();
    let _held: Vec<_> = (0..SCOPES_MAX).map(|n| bed.limiter(&n.to_string())).collect();
    assert!(bed.spend("x").await);
    assert!(!bed.spend("y").await);
    assert_eq!(bed.scopes(), SCOPES_MAX + 1);
    // There is room again once some are let go.
    drop(_held);
    bed.clock.set(at(2));
    assert!(bed.spend("x").await && bed.spend("y").await);
}

#[test]
fn long_keys_are_kept_as_their_hash() {
    let bed = Bed::new();
    let long = "x".repeat(SCOPE_BYTES_MAX + 1);
    assert_eq!(bed.limiter(&long).scope().len(), 64);
    assert_ne!(bed.limiter(&long).scope(), bed.limiter(&(long.clone() + "y")).scope());
    assert_eq!(bed.limiter(&long[1..]).scope(), &long[1..]);
    assert_ne!(bed.limiter(OVERFLOW).scope(), OVERFLOW);
}

#[tokio::test]
async fn a_budget_registered_later_holds_from_then_on() {
    let bed = Bed::new();
    let limiter = bed.limiter("a");
    assert!(limiter.acquire(Lane::Live, bed.clock.now()).await.is_ok());
    bed.factory.register(&bed.provider, Profile::new(Budget { per_second: 0.1, burst: 1 }));
    let limited = limiter.acquire(Lane::Live, bed.clock.now()).await.err().unwrap();
    assert_eq!(limited.retry_after, Duration::from_secs(10));
}
