//! Applies what an answer taught to a scope's bucket. Bounds hold here too, whoever made the correction.

use std::time::Duration;

use super::bucket::{Bucket, HELD_MAX, QUOTAS_MAX, Quota};
use super::budget::{Rate, SECOND};
use super::learn::{Correction, PACE_CUT_MAX, PACE_RAISE_MAX, Pace, QuotaSeen};

/// Longest wait after refusals that name no time, in nanoseconds.
const UNSAID_WAIT_MAX: i64 = 300 * SECOND;
/// Policies of this time and less set the pace; what is allowed in a longer time may be spent at the budget's
/// own rate, and is counted as a quota.
const PACED_WINDOW_MAX: Duration = Duration::from_secs(60);
/// Two resets no further apart are the same one: spans are told in whole seconds, and answers take their time.
const SAME_RESET: i64 = 2 * SECOND;

impl Bucket {
    /// Applies a correction. `others` are the permits that are out and that the sender may not have counted.
    /// Returns whether callers may now have to wait longer, or less long.
    pub(super) fn correct(
        &mut self,
        correction: &Correction,
        others: u32,
        base: Rate,
        unsaid_wait: Duration,
        now: i64,
    ) -> bool {
        let before = *self;
        if let Some(pace) = correction.pace {
            self.set_pace(pace, base, now);
        }
        if let Some(room) = correction.room {
            self.leave_at_most(room.saturating_sub(others), now);
        }
        for seen in &correction.quotas {
            self.set_quota(seen, others, now);
        }
        self.set_wait(correction, unsaid_wait, now);
        *self != before
    }

    fn set_pace(&mut self, pace: Pace, base: Rate, now: i64) {
        let interval = (pace.window.as_nanos() as f64 / f64::from(pace.limit.max(1))).ceil() as i64;
        if interval > base.interval && pace.window > PACED_WINDOW_MAX {
            return;
        }
        let fastest = base.interval / i64::from(PACE_RAISE_MAX);
        let slowest = base.interval.saturating_mul(i64::from(PACE_CUT_MAX)).min(HELD_MAX);
        let interval = interval.clamp(fastest.max(1), slowest.max(1));
        let rate = Rate { interval, burst: base.burst.min(pace.limit.max(1)) };
        if rate != self.rate {
            self.set_rate(rate, now);
        }
        self.taught_until = now.saturating_add(HELD_MAX);
    }

    /// Takes away what the bucket holds beyond `room`.
    fn leave_at_most(&mut self, room: u32, now: i64) {
        let missing = i64::from(self.rate.burst.saturating_sub(room));
        let full_at = now.saturating_add(missing.saturating_mul(self.rate.interval));
        self.full_at = self.full_at.max(full_at);
    }

    fn set_quota(&mut self, seen: &QuotaSeen, others: u32, now: i64) {
        let until = now.saturating_add(nanos(seen.resets_in).min(HELD_MAX));
        if until <= now {
            return;
        }
        let remaining = seen.remaining.saturating_sub(others);
        let limit = seen.limit.unwrap_or(0);
        let known = self.quotas.iter_mut().find(|quota| quota.name == seen.name && quota.until > now);
        match known {
            // Answers may come in another order than they were made: of one period, the least counts.
            Some(quota) if quota.until.abs_diff(until) <= SAME_RESET as u64 => {
                quota.remaining = quota.remaining.min(remaining);
                quota.limit = limit;
            }
            Some(quota) => {
                *quota = Quota { name: seen.name, limit, remaining, until };
                self.epoch = self.epoch.wrapping_add(1);
            }
            None => {
                *self.slot(now) = Quota { name: seen.name, limit, remaining, until };
                self.epoch = self.epoch.wrapping_add(1);
            }
        }
    }

    /// Returns where a further quota is kept: instead of one that is over, or of the one with the most left.
    fn slot(&mut self, now: i64) -> &mut Quota {
        let worth = |quota: &Quota| if quota.until > now { u64::from(quota.remaining) } else { u64::MAX };
        let at = (0..QUOTAS_MAX).max_by_key(|at| worth(&self.quotas[*at])).expect("there are some");
        &mut self.quotas[at]
    }

    fn set_wait(&mut self, correction: &Correction, unsaid_wait: Duration, now: i64) {
        if !correction.refused {
            self.strikes = 0;
            return;
        }
        let wait = match correction.wait {
            Some(wait) => nanos(wait).min(HELD_MAX),
            // Refusals of calls that were made side by side are one.
            None if self.blocked_until > now => 0,
            None => {
                let factor = 1_i64 << self.strikes.min(30);
                self.strikes = self.strikes.saturating_add(1);
                nanos(unsaid_wait).saturating_mul(factor).min(UNSAID_WAIT_MAX)
            }
        };
        self.blocked_until = self.blocked_until.max(now.saturating_add(wait));
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
