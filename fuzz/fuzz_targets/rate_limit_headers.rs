//! What providers' answers say about rate limits: whatever it is, it stops nobody for longer than the bound.
//!
//! Input: a provider, a line feed, a status, a line feed, headers as `name: value`, one a line.

#![no_main]

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use hookkeeper::clock::Clock;
use hookkeeper::event::ProviderId;
use hookkeeper::permits::{
    HeaderRules, Lane, Permit, RateLimited, RateLimiter, RateLimiterFactory, TAUGHT_MAX, learn,
};
use hookkeeper_fuzz::{line, now};
use libfuzzer_sys::fuzz_target;

/// The burst of the budget that nobody configured.
const BURST: u32 = 10;

fn acquire(limiter: &RateLimiter) -> Result<Permit, RateLimited> {
    match pin!(limiter.acquire(Lane::Live, now())).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("a call whose deadline is now waits"),
    }
}

fuzz_target!(|data: &[u8]| {
    let (provider, rest) = line(data);
    let (status, rest) = line(rest);
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let provider = text(provider).and_then(|id| id.parse::<ProviderId>().ok());
    let provider = provider.unwrap_or_else(|| "acme".parse().expect("a name"));
    let status = text(status).and_then(|status| status.trim().parse().ok()).unwrap_or(429);
    let headers = rest.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((text(&line[..colon])?, &line[colon + 1..]))
    });

    let correction = learn(&HeaderRules::of(&provider), status, headers.clone(), now());
    assert!(correction.wait.is_none_or(|wait| wait <= TAUGHT_MAX && correction.refused));
    assert!(correction.quotas.iter().all(|quota| quota.resets_in <= TAUGHT_MAX));

    let clock = Clock::fixed(now());
    let limiter = RateLimiterFactory::new(clock.clone()).limiter(&provider, "");
    let permit = acquire(&limiter).expect("the bucket is full");
    permit.observe(status, headers, now());
    if let Err(limited) = acquire(&limiter) {
        assert!(limited.retry_after <= TAUGHT_MAX, "stopped for {:?}", limited.retry_after);
    }
    // A day later the bucket is full again, and holds no more than the budget's burst.
    clock.set(now() + TAUGHT_MAX);
    let taken = (0..BURST * 100).take_while(|_| acquire(&limiter).is_ok()).count();
    assert_eq!(taken, BURST as usize);
});
