//! What outlives a process: by example, and over any number of restarts.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::event::{ProviderId, Timestamp};
use crate::permits::{Budget, Lane, Permit, Profile, RateLimiter, RateLimiterFactory};

const BUDGET: Budget = Budget { per_second: 2.0, burst: 10 };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
}

fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A process and what is kept of it, over several lives.
struct House {
    clock: Clock,
    known: Known,
    permits: ProviderPermits,
    limiter: RateLimiter,
    out: Vec<Permit>,
}

impl House {
    fn new() -> Self {
        Self::start(Clock::fixed(at(0)), Known::default())
    }

    fn start(clock: Clock, known: Known) -> Self {
        let (factory, provider): (_, ProviderId) =
            (RateLimiterFactory::new(clock.clone()), "acme".parse().unwrap());
        factory.register(&provider, Profile::new(BUDGET));
        let permits = factory.provider(&provider);
        permits.restore(known.clone());
        let limiter = factory.limiter(&provider, "a");
        let mut house = Self { clock, known, permits, limiter, out: Vec::new() };
        house.keep();
        house
    }

    /// Keeps what may be kept now; returns how many records that were.
    fn keep(&mut self) -> usize {
        let mut records = 0;
        while let Some(change) = poll(self.permits.changed()) {
            self.fold(change);
            records += 1;
        }
        records
    }

    fn fold(&mut self, change: PermitsChange) {
        let (open, learned) = match change {
            PermitsChange::Opened => (true, Vec::new()),
            PermitsChange::Learned(learned) => (self.known.open, learned),
            PermitsChange::Closed(learned) => (false, learned),
        };
        self.known.open = open;
        for cool_down in learned {
            self.known.cool_downs.retain(|known| known.scope != cool_down.scope);
            self.known.cool_downs.push(cool_down);
        }
    }

    fn crash(self) -> Self {
        Self::start(self.clock, self.known)
    }

    fn stop(mut self) -> Self {
        for change in self.permits.close() {
            self.fold(change);
        }
        self.crash()
    }

    fn take(&mut self) -> bool {
        let now = self.clock.now();
        let permit = poll(self.limiter.acquire(Lane::Live, now)).expect("it does not wait");
        let taken = permit.is_ok();
        self.out.extend(permit);
        taken
    }

    fn answer(&mut self, status: u16, headers: &[(&str, String)]) {
        let now = self.clock.now();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        self.out.remove(0).observe(status, headers, now);
    }

    fn set(&self, ms: i64) {
        self.clock.set(at(ms));
    }
}

#[test]
fn a_cool_down_outlives_a_crash_and_buckets_start_empty() {
    let mut house = House::new();
    assert!(house.take());
    house.answer(429, &[("retry-after", "60".to_owned())]);
    assert_eq!(house.keep(), 2);
    let mut house = house.crash();
    house.set(59_999);
    assert!(!house.take());
    house.set(60_000);
    // Full since long.
    assert!((0..10).all(|_| house.take()));
    assert!(!house.take());

    house.set(120_000);
    let mut house = house.crash();
    assert!(!house.take());
    house.set(120_500);
    assert!(house.take());
    assert!(!house.take());
}

#[test]
fn after_a_clean_end_all_is_as_it_was() {
    let mut house = House::new();
    assert!((0..7).all(|_| house.take()));
    house.answer(200, &[("ratelimit", "limit=100, remaining=90, reset=50".to_owned())]);
    let mut house = house.stop();
    assert!((0..3).all(|_| house.take()));
    assert!(!house.take());
    assert_eq!(house.known.cool_downs[0].quotas[0].remaining, 84);
}

#[test]
fn a_provider_that_was_never_called_starts_full_and_writes_nothing() {
    let mut house = House::new();
    assert_eq!(house.keep(), 0);
    assert_eq!(house.permits.close(), []);
    assert!((0..10).all(|_| house.take()));
}

#[test]
fn a_scope_is_written_at_most_once_in_an_interval_and_only_with_something_to_tell() {
    let mut house = House::new();
    let quota = |remaining: u32| vec![("ratelimit", format!("limit=100, remaining={remaining}, reset=500"))];
    let spent = |house: &mut House, ms: i64, remaining: u32| {
        house.set(ms);
        assert!(house.take());
        house.answer(200, &quota(remaining));
        house.keep()
    };
    // The opening alone: most of the quota is left.
    assert_eq!(spent(&mut house, 0, 80), 1);
    assert_eq!(spent(&mut house, 1_000, 50), 1);
    assert_eq!(spent(&mut house, 2_000, 49), 0);
    assert_eq!(spent(&mut house, 5_999, 48), 0);
    house.set(6_000);
    assert_eq!(house.keep(), 1);
    assert_eq!(house.known.cool_downs[0].quotas[0].remaining, 48);
    house.set(100_000);
    assert_eq!(house.keep(), 0);
}

#[test]
fn what_was_not_kept_is_handed_out_again() {
    let mut house = House::new();
    assert!(house.take());
    house.answer(429, &[("retry-after", "60".to_owned())]);
    // Taken, and lost.
    while poll(house.permits.changed()).is_some() {}
    house.permits.again();
    house.set(5_000);
    house.keep();
    assert!(house.known.open);
    assert_eq!(house.known.cool_downs.len(), 1);
}

#[derive(Debug, Clone)]
enum Op {
    Call,
    Answer,
    Wait(i64),
    Crash,
    Stop,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => Just(Op::Call),
        10 => Just(Op::Answer),
        4 => (1_i64..2_000).prop_map(Op::Wait),
        1 => (2_000_i64..90_000).prop_map(Op::Wait),
        1 => Just(Op::Crash),
        1 => Just(Op::Stop),
    ]
}

proptest! {
    /// A provider with a quota of 60 a minute: over any number of restarts it never has to refuse, and no time
    /// sees more calls than the budget.
    #[test]
    fn restarts_never_overspend(ops in prop::collection::vec(ops(), 1..400)) {
        let mut house = House::new();
        let (mut now, mut calls) = (0_i64, Vec::new());
        let mut used = (0_i64, 0_u32);
        for op in ops {
            match op {
                Op::Call if house.out.len() < 4 => if house.take() {
                    let minute = now / 60_000;
                    used = if used.0 == minute { (minute, used.1 + 1) } else { (minute, 1) };
                    prop_assert!(used.1 <= 60, "the provider would refuse call {} of minute {minute}", used.1);
                    calls.push(now);
                },
                Op::Answer if !house.out.is_empty() => {
                    let left = if used.0 == now / 60_000 { 60 - used.1 } else { 60 };
                    let reset = 1_800_000_000 + (now / 60_000 + 1) * 60;
                    house.answer(200, &[
                        ("x-ratelimit-limit", "60".to_owned()),
                        ("x-ratelimit-remaining", left.to_string()),
                        ("x-ratelimit-reset", reset.to_string()),
                    ]);
                }
                Op::Call | Op::Answer => {}
                Op::Wait(ms) => {
                    now += ms;
                    house.set(now);
                }
                Op::Crash => house = house.crash(),
                Op::Stop => house = house.stop(),
            }
            house.keep();
        }
        for (i, from) in calls.iter().enumerate() {
            for (n, to) in (1_i64..).zip(&calls[i..]) {
                prop_assert!(n <= 10 + (to - from) * 2 / 1_000, "{n} calls in {} ms", to - from);
            }
        }
    }
}
