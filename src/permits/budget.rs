//! How much a scope may spend.

use serde::Deserialize;

/// One second, in the unit that this module counts in.
pub(super) const SECOND: i64 = 1_000_000_000;
/// Slowest rate: one call a day. What is slower, or no number, is raised to it.
const PER_SECOND_MIN: f64 = 1.0 / 86_400.0;
/// Fastest rate: more would be no limit.
const PER_SECOND_MAX: f64 = 1e6;
/// Largest burst.
const BURST_MAX: u32 = 1_000_000;

/// How many calls a scope may make: so many at once, then so many a second.
///
/// # Examples
///
/// ```
/// use hookkeeper::permits::Budget;
///
/// let budget = Budget { per_second: 1.4, burst: 10 };
/// assert!(Budget::default().per_second > budget.per_second);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Calls a second, from one a day to a million; what is outside, or no number, counts as the nearer end.
    pub per_second: f64,
    /// Calls at once after a pause, 1 to a million.
    pub burst: u32,
}

/// What a provider gets that nobody said anything about: slower than the limits of nearly all of them.
impl Default for Budget {
    fn default() -> Self {
        Self { per_second: 5.0, burst: 10 }
    }
}

/// A budget as the bucket counts, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Time that one token takes to come back.
    pub(super) interval: i64,
    /// Tokens of a full bucket.
    pub(super) burst: u32,
}

impl Rate {
    /// Time that the empty bucket takes to fill.
    pub(super) fn capacity(self) -> i64 {
        self.interval.saturating_mul(i64::from(self.burst))
    }
}

impl From<Budget> for Rate {
    fn from(budget: Budget) -> Self {
        let per_second = if budget.per_second.is_nan() { PER_SECOND_MIN } else { budget.per_second };
        // Rounded up: never faster than asked for.
        let interval = (SECOND as f64 / per_second.clamp(PER_SECOND_MIN, PER_SECOND_MAX)).ceil() as i64;
        Self { interval, burst: budget.burst.clamp(1, BURST_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_budgets_count_as_the_nearer_end() {
        for per_second in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let rate = Rate::from(Budget { per_second, burst: 0 });
            assert_eq!(rate, Rate { interval: 86_400 * SECOND, burst: 1 }, "{per_second}");
        }
        let rate = Rate::from(Budget { per_second: f64::INFINITY, burst: u32::MAX });
        assert_eq!(rate, Rate { interval: 1_000, burst: BURST_MAX });
    }
}
