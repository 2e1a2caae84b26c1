use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::clock::Clock;
use crate::permits::{Budget, Profile, RateLimiterFactory, WAITERS_MAX};

const MS: i64 = 1_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_microsecond(1_800_000_000_000_000 + ms * MS).unwrap()
}

/// A limiter of ten permits a second and a burst of two, and the clock that it goes by.
pub(crate) struct Bed {
    pub(crate) clock: Clock,
    limiter: RateLimiter,
}

type Call = Pin<Box<dyn Future<Output = Result<Permit, RateLimited>>>>;

impl Bed {
    fn new(per_second: f64, burst: u32) -> Self {
        let clock = Clock::fixed(at(0));
        let (factory, provider) = (RateLimiterFactory::new(clock.clone()), "acme".parse().unwrap());
        factory.register(&provider, Profile::new(Budget { per_second, burst }));
        Self { clock, limiter: factory.limiter(&provider, "") }
    }

    /// Starts a call that can wait until the given time, and polls it once.
    fn call(&self, lane: Lane, until_ms: i64) -> (Call, Poll<Result<(), u128>>) {
        let limiter = self.limiter.clone();
        let mut call: Call = Box::pin(async move { limiter.acquire(lane, at(until_ms)).await });
        let polled = poll(&mut call);
        (call, polled)
    }

    fn waits(&self, lane: Lane, until_ms: i64) -> Call {
        let (call, polled) = self.call(lane, until_ms);
        assert_eq!(polled, Poll::Pending);
        call
    }

    /// Says what becomes of a call that does not wait.
    fn now(&self, lane: Lane) -> Result<(), u128> {
        match self.call(lane, -1).1 {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it waits beyond its deadline"),
        }
    }

    fn set(&self, ms: i64) {
        self.clock.set(at(ms));
    }
}

/// Polls a call; a refusal is its time in milliseconds.
fn poll(call: &mut Call) -> Poll<Result<(), u128>> {
    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    polled.map(|outcome| outcome.map(drop).map_err(|limited| limited.retry_after.as_millis()))
}

#[test]
fn burst_goes_through_then_the_rate_and_the_refusal_tells_the_time() {
    let bed = Bed::new(10.0, 2);
    assert_eq!(bed.now(Lane::Live), Ok(()));
    assert_eq!(bed.now(Lane::Live), Ok(()));
    assert_eq!(bed.now(Lane::Live), Err(100));
    assert_eq!(bed.call(Lane::Live, 99).1, Poll::Ready(Err(100)));
    let mut call = bed.waits(Lane::Live, 100);
    // Behind the one that waits.
    assert_eq!(bed.call(Lane::Live, 199).1, Poll::Ready(Err(200)));
    bed.set(99);
    assert_eq!(poll(&mut call), Poll::Pending);
    bed.set(100);
    assert_eq!(poll(&mut call), Poll::Ready(Ok(())));
}

#[test]
fn live_goes_first_and_pushes_out_whom_it_makes_too_late() {
    let bed = Bed::new(10.0, 1);
    assert_eq!(bed.now(Lane::Live), Ok(()));
    let mut backfill = bed.waits(Lane::Backfill, 1_000);
    let mut replay = bed.waits(Lane::Replay, 100);
    let mut live = bed.waits(Lane::Live, 100);
    // The live call has the next token; the replay cannot have one in time any more.
    assert_eq!(poll(&mut replay), Poll::Ready(Err(200)));
    bed.set(100);
    assert_eq!(poll(&mut backfill), Poll::Pending);
    assert_eq!(poll(&mut live), Poll::Ready(Ok(())));
    bed.set(200);
    assert_eq!(poll(&mut backfill), Poll::Ready(Ok(())));
}

#[test]
fn a_call_that_is_dropped_gives_back_its_place_and_its_token() {
    let bed = Bed::new(10.0, 1);
    assert_eq!(bed.now(Lane::Live), Ok(()));
    let first = bed.waits(Lane::Live, 1_000);
    let mut second = bed.waits(Lane::Live, 1_000);
    drop(first);
    bed.set(100);
    assert_eq!(poll(&mut second), Poll::Ready(Ok(())));
    // This one comes to its turn, and is dropped before it looks.
    let third = bed.waits(Lane::Live, 1_000);
    let mut fourth = bed.waits(Lane::Live, 1_000);
    bed.set(200);
    assert_eq!(poll(&mut fourth), Poll::Pending);
    drop(third);
    assert_eq!(poll(&mut fourth), Poll::Ready(Ok(())));
    assert_eq!(bed.now(Lane::Live), Err(100));
}

#[test]
fn a_permit_given_back_lets_the_next_one_go() {
    let bed = Bed::new(10.0, 1);
    let (mut call, _) = (Box::pin(bed.limiter.acquire(Lane::Live, at(0))), ());
    let Poll::Ready(Ok(permit)) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the bucket is full")
    };
    let mut next = bed.waits(Lane::Live, 1_000);
    permit.give_back();
    assert_eq!(poll(&mut next), Poll::Ready(Ok(())));
}

#[test]
fn a_lane_that_is_full_refuses_at_once_and_keeps_no_other_lane_out() {
    let bed = Bed::new(10.0, 1);
    assert_eq!(bed.now(Lane::Live), Ok(()));
    let _waiting: Vec<_> = (0..WAITERS_MAX).map(|_| bed.waits(Lane::Backfill, 1_000_000)).collect();
    let (_, refused) = bed.call(Lane::Backfill, 1_000_000);
    assert_eq!(refused, Poll::Ready(Err(100 * (WAITERS_MAX as u128 + 1))));
    let _live = bed.waits(Lane::Live, 100);
}

#[tokio::test]
async fn waiters_of_one_scope_wake_one_after_another() {
    let clock = Clock::system();
    let (factory, provider) = (RateLimiterFactory::new(clock.clone()), "acme".parse().unwrap());
    factory.register(&provider, Profile::new(Budget { per_second: 500.0, burst: 1 }));
    let limiter = factory.limiter(&provider, "");
    let (start, deadline) = (clock.now(), clock.now() + Duration::from_secs(60));
    let call = |lane| {
        let limiter = limiter.clone();
        async move { limiter.acquire(lane, deadline).await.map(drop) }
    };
    let calls = (0..30).map(|n| call(Lane::ALL[n % 3]));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(clock.now().duration_since(start) >= jiff::SignedDuration::from_millis(58));
}
