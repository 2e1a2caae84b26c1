//! What one scope may spend: tokens, cool-down and quotas. Arithmetic only; time comes in.
//!
//! The token bucket is one number, the time at which it is full again (the generic cell rate algorithm, as
//! in [`TokenBucket`](crate::flow::TokenBucket)). Beside it stand what providers told: until when nobody may
//! call, and how many calls are left until when. Times are nanoseconds since 1970.

use super::budget::Rate;
use super::lane::Lane;

/// Longest time that anything a provider said holds, in nanoseconds: longer than its quotas last, and short
/// enough that a wrong header is forgotten by the next day.
pub(super) const HELD_MAX: i64 = 24 * 3_600 * super::budget::SECOND;
/// How many quotas of a scope are kept; of more, the one with the most left is forgotten.
pub(super) const QUOTAS_MAX: usize = 3;
/// The part of a quota that replays and backfills leave for live calls: one of this many.
pub(super) const LIVE_RESERVE: u32 = 10;
/// A quota is worth keeping when no more than one part in this many is left: until then, a restart cannot spend all
/// of it before the first answer tells what is left.
const KEPT_BELOW: u32 = 2;

/// How many calls are left until a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quota {
    /// Which one, where a provider has several.
    pub(super) name: u32,
    /// How many there are from reset to reset; 0 where that is not known.
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// When it is filled up; in the past for one that does not count.
    pub(super) until: i64,
}

impl Quota {
    fn left_for(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Live => self.remaining,
            Lane::Replay | Lane::Backfill => self.remaining.saturating_sub(self.limit / LIVE_RESERVE),
        }
    }
}

/// What one scope may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) rate: Rate,
    /// Until when `rate` is what the provider taught; the budget's own after that.
    pub(super) taught_until: i64,
    /// When the bucket is full.
    pub(super) full_at: i64,
    /// Until when nobody may call.
    pub(super) blocked_until: i64,
    pub(super) quotas: [Quota; QUOTAS_MAX],
    /// Refusals in a row that named no time.
    pub(super) strikes: u8,
    /// Grows when quotas are set anew: tokens of an earlier one are not given back to a later one.
    pub(super) epoch: u32,
}

impl Bucket {
    /// Returns a bucket that is full at `full_at`.
    pub(super) fn new(base: Rate, full_at: i64) -> Self {
        Self {
            rate: base,
            taught_until: i64::MIN,
            full_at,
            blocked_until: i64::MIN,
            quotas: [Quota { until: i64::MIN, ..Quota::default() }; QUOTAS_MAX],
            strikes: 0,
            epoch: 0,
        }
    }

    /// Forgets what is over, and bounds what a clock that was set back would make last too long.
    pub(super) fn settle(&mut self, base: Rate, now: i64) {
        let held_max = now.saturating_add(HELD_MAX);
        self.taught_until = self.taught_until.min(held_max);
        if self.taught_until <= now && self.rate != base {
            self.set_rate(base, now);
        }
        self.full_at = self.full_at.min(now.saturating_add(self.rate.capacity()));
        self.blocked_until = self.blocked_until.min(held_max);
        for quota in &mut self.quotas {
            quota.until = quota.until.min(held_max);
        }
    }

    /// Changes the rate; the tokens that are missing stay missing.
    pub(super) fn set_rate(&mut self, rate: Rate, now: i64) {
        let missing = self.full_at.saturating_sub(now).max(0) as f64 / self.rate.interval as f64;
        let missing = missing.min(f64::from(rate.burst)) * rate.interval as f64;
        self.full_at = now.saturating_add(missing.ceil() as i64);
        self.rate = rate;
    }

    /// Returns when a call of the lane may be made, from `now` on.
    pub(super) fn ready_at(&self, lane: Lane, now: i64) -> i64 {
        let filled = self.full_at.saturating_add(self.rate.interval).saturating_sub(self.rate.capacity());
        let free = now.max(filled).max(self.blocked_until);
        let used_up = self.quotas.iter().filter(|quota| quota.left_for(lane) == 0);
        used_up.map(|quota| quota.until).fold(free, i64::max)
    }

    /// Takes a token at `at`, when a call may be made.
    pub(super) fn take(&mut self, at: i64) {
        self.full_at = self.full_at.max(at).saturating_add(self.rate.interval);
        for quota in self.quotas.iter_mut().filter(|quota| quota.until > at) {
            quota.remaining = quota.remaining.saturating_sub(1);
        }
    }

    /// Gives back a token that was taken in `epoch` and not used.
    pub(super) fn give_back(&mut self, epoch: u32) {
        self.full_at = self.full_at.saturating_sub(self.rate.interval);
        if epoch == self.epoch {
            for quota in &mut self.quotas {
                quota.remaining = quota.remaining.saturating_add(1);
            }
        }
    }

    /// Tells whether something is known that a restart must not forget. Tokens are not: they are taken for spent.
    pub(super) fn is_worth_keeping(&self, now: i64) -> bool {
        let runs_low =
            |quota: &Quota| quota.until > now && quota.remaining <= quota.limit.max(1) / KEPT_BELOW;
        let unknown = |quota: &Quota| quota.until > now && quota.limit == 0;
        self.blocked_until > now
            || self.taught_until > now
            || self.quotas.iter().any(|quota| runs_low(quota) || unknown(quota))
    }

    /// Tells whether nothing is missing and nothing is remembered but a rate.
    pub(super) fn is_full(&self, now: i64) -> bool {
        self.full_at <= now && self.blocked_until <= now && self.quotas.iter().all(|quota| quota.until <= now)
    }
}
