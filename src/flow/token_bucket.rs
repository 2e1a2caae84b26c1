//! A token bucket without a lock.
//!
//! One number holds the whole bucket: the time at which it will be full again (the generic cell rate
//! algorithm). Workers share it behind an `Arc`; it survives a republished snapshot.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const NANOS_PER_SECOND: f64 = 1e9;
/// Slowest rate that a bucket can have, in tokens per second: one a day. What is slower is raised to it.
const PER_SECOND_MIN: f64 = 1.0 / 86_400.0;
/// Fastest rate that a bucket can have, in tokens per second: one a nanosecond.
const PER_SECOND_MAX: f64 = NANOS_PER_SECOND;

/// A token bucket that several threads share without a lock.
#[derive(Debug)]
pub struct TokenBucket {
    /// Time that one token takes to come back, in nanoseconds.
    interval_ns: i64,
    /// Time that the empty bucket takes to fill, in nanoseconds.
    capacity_ns: i64,
    /// When the bucket will be full, in nanoseconds since 1970.
    full_at_ns: AtomicI64,
}

impl TokenBucket {
    /// Returns a full bucket that gains `per_second` tokens a second and holds at most `burst`, at least one.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let per_second = if per_second.is_nan() { PER_SECOND_MIN } else { per_second };
        let per_second = per_second.clamp(PER_SECOND_MIN, PER_SECOND_MAX);
        let interval_ns = (NANOS_PER_SECOND / per_second).round() as i64;
        let capacity_ns = interval_ns.saturating_mul(i64::from(burst.max(1)));
        Self { interval_ns, capacity_ns, full_at_ns: AtomicI64::new(i64::MIN) }
    }

    /// Takes one token at `now_us` (microseconds since 1970).
    ///
    /// Time that goes backwards costs at most the tokens that the bucket held.
    ///
    /// # Errors
    ///
    /// The wait until there is a token, if there is none now; nothing is taken then.
    pub fn try_take(&self, now_us: i64) -> Result<(), Duration> {
        let now_ns = now_us.saturating_mul(1_000);
        let empty_ns = now_ns.saturating_add(self.capacity_ns);
        let mut full_at_ns = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            // More than empty means that the clock went back.
            let before_ns = full_at_ns.clamp(now_ns, empty_ns);
            let after_ns = before_ns.saturating_add(self.interval_ns);
            let taken = after_ns <= empty_ns;
            let store_ns = if taken { after_ns } else { before_ns };
            let stored = self.full_at_ns.compare_exchange_weak(
                full_at_ns,
                store_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match stored {
                Ok(_) if taken => return Ok(()),
                Ok(_) => return Err(Duration::from_nanos(after_ns.abs_diff(empty_ns))),
                Err(current_ns) => full_at_ns = current_ns,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_US: i64 = 1_000_000;
    const START_US: i64 = 1_700_000_000 * SECOND_US;

    #[test]
    fn burst_goes_through_then_the_rate() {
        let bucket = TokenBucket::new(10.0, 3);
        for _ in 0..3 {
            assert_eq!(bucket.try_take(START_US), Ok(()));
        }
        assert_eq!(bucket.try_take(START_US), Err(Duration::from_millis(100)));
        assert_eq!(bucket.try_take(START_US + 99_000), Err(Duration::from_millis(1)));
        assert_eq!(bucket.try_take(START_US + 100_000), Ok(()));
        assert_eq!(bucket.try_take(START_US + 100_000), Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_long_pause_fills_to_the_burst_and_no_further() {
        let bucket = TokenBucket::new(1.0, 2);
        let later_us = START_US + 1_000 * SECOND_US;
        assert_eq!(bucket.try_take(START_US), Ok(()));
        assert_eq!(bucket.try_take(later_us), Ok(()));
        assert_eq!(bucket.try_take(later_us), Ok(()));
        assert!(bucket.try_take(later_us).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_blocks_no_longer_than_one_interval() {
        let bucket = TokenBucket::new(1.0, 5);
        assert_eq!(bucket.try_take(START_US), Ok(()));
        let earlier_us = START_US - 3_600 * SECOND_US;
        assert_eq!(bucket.try_take(earlier_us), Err(Duration::from_secs(1)));
        assert_eq!(bucket.try_take(earlier_us + SECOND_US), Ok(()));
    }

    #[test]
    fn absurd_rates_do_not_panic() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, 1e300] {
            let bucket = TokenBucket::new(per_second, 0);
            assert_eq!(bucket.try_take(START_US), Ok(()), "{per_second}");
            let _ = bucket.try_take(i64::MAX);
            let _ = bucket.try_take(i64::MIN);
        }
    }

    #[test]
    fn threads_together_take_no_more_than_the_burst() {
        let bucket = TokenBucket::new(0.001, 1_000);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| bucket.try_take(START_US).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            per_second in 0.5_f64..1_000.0,
            burst in 1_u32..20,
            steps_us in prop::collection::vec(0_i64..500_000, 1..200),
        ) {
            let bucket = TokenBucket::new(per_second, burst);
            let mut now_us = START_US;
            let mut taken = 0_u32;
            for step_us in steps_us {
                now_us += step_us;
                match bucket.try_take(now_us) {
                    Ok(()) => taken += 1,
                    Err(wait) => {
                        prop_assert!(wait.as_secs_f64() <= 1.0 / per_second + 1e-6);
                        let then_us = now_us + wait.as_micros() as i64 + 1;
                        prop_assert_eq!(bucket.try_take(then_us), Ok(()));
                        now_us = then_us;
                        taken += 1;
                    }
                }
            }
            let elapsed = (now_us - START_US) as f64 / 1e6;
            prop_assert!(f64::from(taken) <= f64::from(burst) + elapsed * per_second * (1.0 + 1e-6) + 1.0);
        }
    }
}
