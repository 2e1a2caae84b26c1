//! What a permit costs, and a scope.
//!
//! ```text
//! cargo bench --bench permits
//! ```
//!
//! - A permit with nobody else there: acquired and dropped, with the system's clock; with an answer that
//!   teaches nothing, and with one of GitHub's; and the limiter of a scope looked up each time.
//! - The same scope from several threads, and callers who join a full queue.
//! - The memory of 10,000 scopes: fresh, after a permit, and with a quota and a cool-down that wait to be written.
//!
//! Medians of rounds; the goals are 2 µs for a permit and 10 MB for 10,000 scopes.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::alloc::System;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hookkeeper::clock::Clock;
use hookkeeper::event::ProviderId;
use hookkeeper::permits::{
    Budget, Lane, Permit, Profile, RateLimited, RateLimiter, RateLimiterFactory, WAITERS_MAX,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 31;
const CALLS: u32 = 10_000;
const SCOPES: usize = 10_000;

fn main() {
    alone();
    contended();
    queue();
    memory();
}

fn factory(budget: Budget) -> (RateLimiterFactory, ProviderId) {
    let (factory, provider) = (RateLimiterFactory::new(Clock::system()), "github".parse().unwrap());
    factory.register(&provider, Profile::new(budget));
    (factory, provider)
}

/// A budget that no round spends.
const PLENTY: Budget = Budget { per_second: 1e6, burst: 1_000_000 };

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn acquire(limiter: &RateLimiter, clock: &Clock) -> Result<Permit, RateLimited> {
    now(limiter.acquire(Lane::Live, clock.now()))
}

/// Prints the median of rounds, in nanoseconds a call.
fn measure(name: &str, mut call: impl FnMut(&RateLimiterFactory, &ProviderId, &RateLimiter, &Clock)) {
    let clock = Clock::system();
    let rounds = (0..ROUNDS).map(|_| {
        let (factory, provider) = factory(PLENTY);
        let limiter = factory.limiter(&provider, "installation-4711");
        let begun = Instant::now();
        for _ in 0..CALLS {
            call(&factory, &provider, &limiter, &clock);
        }
        begun.elapsed() / CALLS
    });
    println!("{name:<44} {:>8} ns", median(rounds.collect()).as_nanos());
}

fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort();
    rounds[rounds.len() / 2]
}

fn alone() {
    measure("a permit, acquired and dropped", |_, _, limiter, clock| {
        drop(black_box(acquire(limiter, clock).unwrap()));
    });
    measure("  with its limiter looked up", |factory, provider, _, clock| {
        drop(black_box(acquire(&factory.limiter(provider, "installation-4711"), clock).unwrap()));
    });
    measure("  with an answer that teaches nothing", |_, _, limiter, clock| {
        let headers =
            [("content-type", b"application/json".as_slice()), ("server", b"acme"), ("etag", b"\"1\"")];
        acquire(limiter, clock).unwrap().observe(200, headers, clock.now());
    });
    measure("  with an answer as GitHub's", |_, _, limiter, clock| {
        let reset = (clock.now().as_second() + 1_800).to_string();
        let headers = [
            ("date", b"Fri, 27 Nov 2026 03:00:00 GMT".as_slice()),
            ("content-type", b"application/json; charset=utf-8"),
            ("x-ratelimit-limit", b"1000000"),
            ("x-ratelimit-remaining", b"999999"),
            ("x-ratelimit-reset", reset.as_bytes()),
            ("x-ratelimit-resource", b"core"),
        ];
        acquire(limiter, clock).unwrap().observe(200, headers, clock.now());
    });
}

/// One scope from several threads.
fn contended() {
    for threads in [2, 4] {
        let rounds = (0..ROUNDS).map(|_| {
            let (factory, provider) = factory(PLENTY);
            let limiter = factory.limiter(&provider, "");
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    let limiter = limiter.clone();
                    scope.spawn(move || {
                        let clock = Clock::system();
                        for _ in 0..CALLS / threads {
                            drop(black_box(acquire(&limiter, &clock).unwrap()));
                        }
                    });
                }
            });
            begun.elapsed() / CALLS
        });
        println!(
            "{:<44} {:>8} ns",
            format!("a permit of a scope that {threads} threads share"),
            median(rounds.collect()).as_nanos()
        );
    }
}

/// Callers who have to wait, and those who hear at once that they would wait too long.
fn queue() {
    let clock = Clock::system();
    let (factory, provider) = factory(Budget { per_second: 0.01, burst: 1 });
    let limiter = factory.limiter(&provider, "");
    drop(acquire(&limiter, &clock).unwrap());
    let refused = |limiter: &RateLimiter| {
        let begun = Instant::now();
        for _ in 0..1_000 {
            black_box(acquire(limiter, &clock).err().unwrap());
        }
        begun.elapsed() / 1_000
    };
    println!("{:<44} {:>8} ns", "refused at once, nobody waiting", refused(&limiter).as_nanos());
    let deadline = clock.now() + Duration::from_secs(1_000_000);
    let begun = Instant::now();
    let mut waiting = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    for _ in 0..WAITERS_MAX {
        let limiter = limiter.clone();
        let mut call = Box::pin(async move { limiter.acquire(Lane::Replay, deadline).await });
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        waiting.push(call);
    }
    let joined = begun.elapsed() / WAITERS_MAX as u32;
    println!("{:<44} {:>8} ns", format!("joining a queue, mean of {WAITERS_MAX}"), joined.as_nanos());
    println!(
        "{:<44} {:>8} ns",
        format!("refused at once, {WAITERS_MAX} waiting"),
        refused(&limiter).as_nanos()
    );
}

fn memory() {
    let (factory, provider) = factory(Budget::default());
    let clock = Clock::system();
    let names: Vec<_> = (0..SCOPES).map(|n| format!("installation-{n:08}")).collect();
    let region = Region::new(ALLOCATOR);
    let held = || {
        let change = region.change();
        change.bytes_allocated.saturating_sub(change.bytes_deallocated) as f64 / 1e6
    };
    for name in &names {
        black_box(factory.limiter(&provider, name));
    }
    println!("{:<44} {:>8.2} MB", format!("{SCOPES} scopes, fresh"), held());
    for name in &names {
        drop(acquire(&factory.limiter(&provider, name), &clock).unwrap());
    }
    println!("{:<44} {:>8.2} MB", format!("{SCOPES} scopes, after a permit"), held());
    for name in &names {
        let headers = [
            ("retry-after", b"60".as_slice()),
            ("x-ratelimit-remaining", b"10"),
            ("x-ratelimit-limit", b"5000"),
            ("x-ratelimit-reset", b"9999999999"),
        ];
        let permit = acquire(&factory.limiter(&provider, name), &clock).unwrap();
        permit.observe(429, headers, clock.now());
    }
    println!("{:<44} {:>8.2} MB", format!("{SCOPES} scopes, all to be written"), held());
}
