//! How long a run waits before its next attempt.

use std::time::Duration;

use super::RETRY_AFTER_MAX;
use crate::settings::Backoff;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// Waits of `standard` in seconds, the last repeating.
const STANDARD_SECONDS: [u64; 9] =
    [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
/// Longest wait of `exponential` and `linear`, in seconds.
const GROWTH_SECONDS_MAX: u64 = HOUR;
/// First wait of `exponential`, in seconds.
const EXPONENTIAL_SECONDS: u64 = 1;
/// What `linear` adds each time, in seconds.
const LINEAR_SECONDS: u64 = 10;

/// Most that jitter adds to a wait, as a share of it.
pub const JITTER_MAX: f64 = 0.2;

/// Returns the planned wait after the failed attempt of the given number, counted from 1, without jitter.
pub fn backoff(schedule: Backoff, attempt: u32) -> Duration {
    let step = u64::from(attempt.max(1)) - 1;
    let seconds = match schedule {
        Backoff::Standard => {
            let last = STANDARD_SECONDS.len() - 1;
            STANDARD_SECONDS[usize::try_from(step).map_or(last, |step| step.min(last))]
        }
        Backoff::Exponential => {
            let factor = 1_u64.checked_shl(step.min(63) as u32).unwrap_or(u64::MAX);
            EXPONENTIAL_SECONDS.saturating_mul(factor).min(GROWTH_SECONDS_MAX)
        }
        Backoff::Linear => LINEAR_SECONDS.saturating_mul(step + 1).min(GROWTH_SECONDS_MAX),
        Backoff::None => 0,
    };
    Duration::from_secs(seconds)
}

/// Adds jitter: between nothing and [`JITTER_MAX`] of the wait, as `random` goes from 0 to `u32::MAX`.
///
/// It is never subtracted, so that no receiver is called earlier than planned.
pub fn with_jitter(wait: Duration, random: u32) -> Duration {
    let share = f64::from(random) / f64::from(u32::MAX) * JITTER_MAX;
    wait.saturating_add(wait.mul_f64(share))
}

/// Returns the wait before the next attempt: the schedule's or the receiver's own wish, whichever is longer,
/// with jitter. A wish counts up to [`RETRY_AFTER_MAX`].
pub fn next_wait(schedule: Backoff, attempt: u32, wish: Option<Duration>, random: u32) -> Duration {
    let wish = wish.unwrap_or_default().min(RETRY_AFTER_MAX);
    with_jitter(backoff(schedule, attempt).max(wish), random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(schedule: Backoff, expected_seconds: &[u64]) {
        let waits: Vec<_> =
            (1..=expected_seconds.len() as u32).map(|attempt| backoff(schedule, attempt).as_secs()).collect();
        assert_eq!(waits, expected_seconds);
    }

    #[test]
    fn schedules_are_those_of_the_contract() {
        check(
            Backoff::Standard,
            &[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400, 86_400],
        );
        check(Backoff::Exponential, &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 3_600, 3_600]);
        check(Backoff::Linear, &[10, 20, 30, 40]);
        check(Backoff::None, &[0, 0, 0]);
        assert_eq!(backoff(Backoff::Linear, 360).as_secs(), 3_600);
        assert_eq!(backoff(Backoff::Linear, 361).as_secs(), 3_600);
    }

    #[test]
    fn a_wish_beyond_the_cap_counts_as_the_cap() {
        let wish = Some(Duration::from_secs(10 * 86_400));
        assert_eq!(next_wait(Backoff::None, 1, wish, 0), RETRY_AFTER_MAX);
    }

    fn schedules() -> impl Strategy<Value = Backoff> {
        prop_oneof![
            Just(Backoff::Standard),
            Just(Backoff::Exponential),
            Just(Backoff::Linear),
            Just(Backoff::None)
        ]
    }

    proptest! {
        #[test]
        fn jitter_is_added_up_to_its_share_and_never_subtracted(
            schedule in schedules(), attempt in any::<u32>(), random in any::<u32>(),
        ) {
            let planned = backoff(schedule, attempt);
            let wait = next_wait(schedule, attempt, None, random);
            prop_assert!(wait >= planned);
            prop_assert!(wait <= planned + planned.mul_f64(JITTER_MAX) + Duration::from_nanos(1));
        }

        #[test]
        fn never_earlier_than_the_receiver_wishes_within_the_cap(
            schedule in schedules(), attempt in any::<u32>(), wish in 0_u64..400_000, random in any::<u32>(),
        ) {
            let wish = Duration::from_secs(wish);
            let wait = next_wait(schedule, attempt, Some(wish), random);
            prop_assert!(wait >= wish.min(RETRY_AFTER_MAX));
            prop_assert!(wait >= backoff(schedule, attempt));
        }

        #[test]
        fn waits_never_shrink_from_attempt_to_attempt(schedule in schedules(), attempt in 0_u32..10_000) {
            prop_assert!(backoff(schedule, attempt + 1) >= backoff(schedule, attempt));
        }
    }
}
