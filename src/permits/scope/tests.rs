//! Who gets a permit, when, and who hears what: by example, and whatever comes.

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

/// A limiter, and the clock that it goes by.
struct Bed {
    clock: Clock,
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
        match self.call(lane, -100 * 24 * 3_600_000).1 {
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
    let mut call = Box::pin(bed.limiter.acquire(Lane::Live, at(0)));
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

#[test]
fn what_an_answer_says_refuses_those_who_wait_and_cannot_be_served_any_more() {
    let bed = Bed::new(10.0, 1);
    let mut first = Box::pin(bed.limiter.acquire(Lane::Live, at(0)));
    let Poll::Ready(Ok(permit)) = first.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the bucket is full")
    };
    let mut short = bed.waits(Lane::Live, 1_000);
    let mut long = bed.waits(Lane::Live, 3_000);
    permit.observe(429, [("Retry-After", b"2".as_slice())], bed.clock.now());
    assert_eq!(poll(&mut short), Poll::Ready(Err(2_000)));
    assert_eq!(poll(&mut long), Poll::Pending);
    bed.set(2_000);
    assert_eq!(poll(&mut long), Poll::Ready(Ok(())));
}

#[test]
fn quotas_hold_until_their_reset_and_leave_a_tenth_for_live_calls() {
    let bed = Bed::new(1_000.0, 100);
    let mut first = Box::pin(bed.limiter.acquire(Lane::Live, at(0)));
    let Poll::Ready(Ok(permit)) = first.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the bucket is full")
    };
    permit.observe(200, [("RateLimit", b"limit=50, remaining=8, reset=10".as_slice())], bed.clock.now());
    for _ in 0..3 {
        assert_eq!(bed.now(Lane::Backfill), Ok(()));
    }
    assert_eq!(bed.now(Lane::Backfill), Err(10_000));
    let mut replay = bed.waits(Lane::Replay, 20_000);
    for _ in 0..5 {
        assert_eq!(bed.now(Lane::Live), Ok(()));
    }
    assert_eq!(bed.now(Lane::Live), Err(10_000));
    bed.set(10_000);
    assert_eq!(poll(&mut replay), Poll::Ready(Ok(())));
}

#[test]
fn refusals_without_a_time_double_and_are_forgotten_after_an_answer() {
    let bed = Bed::new(1_000.0, 100);
    let mut now = 0;
    let mut answered = |status: u16| {
        bed.set(now);
        let mut call = Box::pin(bed.limiter.acquire(Lane::Live, at(now)));
        let Poll::Ready(Ok(permit)) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing stops it at {now}")
        };
        permit.observe(status, [], bed.clock.now());
        let wait = bed.now(Lane::Live).err().unwrap_or(0);
        now += wait as i64;
        wait
    };
    assert_eq!([answered(429), answered(429), answered(429)], [1_000, 2_000, 4_000]);
    assert_eq!([answered(200), answered(429)], [0, 1_000]);
    let last = (0..20).map(|_| answered(429)).last();
    assert_eq!(last, Some(300_000));
}

#[test]
fn a_clock_that_is_set_back_stops_nobody_for_longer_than_the_bound() {
    let bed = Bed::new(1.0, 5);
    assert_eq!(bed.now(Lane::Live), Ok(()));
    bed.set(-10 * 24 * 3_600_000);
    assert_eq!(bed.now(Lane::Live), Err(1_000));
}

mod properties {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    /// Time between two tokens, and the step of everything, in milliseconds.
    const INTERVAL: i64 = 100;
    const STEP: i64 = 50;
    const BURST: u32 = 3;

    #[derive(Debug, Clone)]
    enum Op {
        /// A call that can wait for so many steps.
        Call(Lane, i64),
        /// So many steps go by.
        Wait(i64),
        /// One of those who wait gives up.
        Cancel(prop::sample::Index),
        /// A permit is given back, or its answer comes: a wait of so many steps, or so many left.
        GiveBack,
        Refused(i64),
        Left(u32, i64),
    }

    fn ops() -> impl Strategy<Value = Op> {
        let lane = || prop::sample::select(Lane::ALL.to_vec());
        prop_oneof![
            8 => (lane(), 0_i64..40).prop_map(|(lane, steps)| Op::Call(lane, steps)),
            5 => (1_i64..8).prop_map(Op::Wait),
            1 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            1 => Just(Op::GiveBack),
            1 => (1_i64..10).prop_map(Op::Refused),
            1 => (0_u32..6, 1_i64..30).prop_map(|(left, steps)| Op::Left(left, steps)),
        ]
    }

    /// Notes that somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Waiting {
        call: Call,
        lane: Lane,
        deadline: i64,
        /// Permits that others got since it came, and how many of them lower lanes.
        passed: (u32, u32),
    }

    struct Run {
        bed: Bed,
        now: i64,
        waiting: Vec<Waiting>,
        granted: Vec<i64>,
        permits: Vec<Permit>,
        /// Until when no answer allows a call.
        stopped_until: i64,
    }

    impl Run {
        /// Polls all until none is woken by another any more.
        fn settle(&mut self) -> Result<(), TestCaseError> {
            let woken = Arc::new(Woken::default());
            woken.0.store(true, Ordering::Relaxed);
            while woken.0.swap(false, Ordering::Relaxed) {
                self.poll_all(&Waker::from(Arc::clone(&woken)))?;
            }
            for waiting in self.waiting.iter().filter(|it| it.lane == Lane::Live) {
                let (all, lower) = waiting.passed;
                prop_assert!(lower <= 2 + all / 6, "{lower} of {all} permits went past a live call");
            }
            Ok(())
        }

        fn poll_all(&mut self, waker: &Waker) -> Result<(), TestCaseError> {
            let mut index = 0;
            while index < self.waiting.len() {
                let waiting = &mut self.waiting[index];
                let polled = waiting.call.as_mut().poll(&mut Context::from_waker(waker));
                let Poll::Ready(outcome) = polled else {
                    prop_assert!(waiting.deadline >= self.now, "it waits beyond its deadline");
                    index += 1;
                    continue;
                };
                let waiting = self.waiting.remove(index);
                match outcome {
                    Ok(permit) => {
                        prop_assert!(self.now <= waiting.deadline, "it was let through too late");
                        prop_assert!(self.now >= self.stopped_until, "the provider said no");
                        self.permits.push(permit);
                        self.granted.push(self.now);
                        for other in self.waiting.iter_mut().filter(|it| it.lane == Lane::Live) {
                            other.passed.0 += 1;
                            other.passed.1 += u32::from(waiting.lane != Lane::Live);
                        }
                    }
                    Err(limited) => {
                        let turn = self.now + limited.retry_after.as_millis() as i64;
                        prop_assert!(turn > waiting.deadline, "its turn would have come in time");
                    }
                }
            }
            Ok(())
        }

        fn answer(&mut self, status: u16, headers: &[(&str, &str)]) {
            if self.permits.is_empty() {
                return;
            }
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            self.permits.remove(0).observe(status, headers, self.bed.clock.now());
        }

        fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
            match op {
                Op::Call(lane, steps) => {
                    let (limiter, deadline) = (self.bed.limiter.clone(), self.now + steps * STEP);
                    let call: Call = Box::pin(async move { limiter.acquire(lane, at(deadline)).await });
                    self.waiting.push(Waiting { call, lane, deadline, passed: (0, 0) });
                    self.settle()?;
                }
                Op::Wait(steps) => {
                    for _ in 0..steps {
                        self.now += STEP;
                        self.bed.set(self.now);
                        self.settle()?;
                    }
                }
                Op::Cancel(index) if !self.waiting.is_empty() => {
                    let index = index.index(self.waiting.len());
                    self.waiting.remove(index);
                }
                Op::GiveBack if !self.permits.is_empty() && self.granted.last() == Some(&self.now) => {
                    self.granted.pop();
                    self.permits.pop().unwrap().give_back();
                }
                Op::Refused(steps) if !self.permits.is_empty() => {
                    let seconds = format!("0.{:03}", (steps * STEP).min(999));
                    self.stopped_until = self.stopped_until.max(self.now + steps * STEP);
                    self.answer(429, &[("retry-after", &seconds)]);
                }
                Op::Left(left, steps) => {
                    let value =
                        format!("\"x\";r={left};t={}.{:03}", steps * STEP / 1_000, steps * STEP % 1_000);
                    self.answer(200, &[("ratelimit", &value)]);
                }
                Op::Cancel(_) | Op::GiveBack | Op::Refused(_) => {}
            }
            self.settle()
        }
    }

    proptest! {
        #[test]
        fn budget_deadlines_and_lanes_hold_whatever_comes(ops in prop::collection::vec(ops(), 1..150)) {
            let bed = Bed::new(10.0, BURST);
            let (waiting, granted, permits) = (Vec::new(), Vec::new(), Vec::new());
            let mut run = Run { bed, now: 0, waiting, granted, permits, stopped_until: 0 };
            for op in ops {
                run.apply(op)?;
            }
            for (i, from) in run.granted.iter().enumerate() {
                for (n, to) in (1_i64..).zip(&run.granted[i..]) {
                    prop_assert!(n <= i64::from(BURST) + (to - from) / INTERVAL, "{n} permits in {} ms", to - from);
                }
            }
            // Nobody is forgotten: in time, whoever still waits is let through or told.
            run.apply(Op::Wait(100))?;
            prop_assert!(run.waiting.is_empty());
        }
    }
}
