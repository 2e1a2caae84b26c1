//! What of the buckets outlives the process: what is worth storing is handed out, in batches, to whoever keeps
//! it, and what was kept is taken back at the start.
//!
//! Nothing is written for each permit. So after an end that was not [closed](ProviderPermits::close), nobody
//! knows what was spent last, and the worst is assumed: buckets start empty, and of what quotas had left, as
//! much is taken off as can have been spent unwritten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bucket::{Bucket, Quota};
use super::budget::{Rate, SECOND};
use super::factory::Provider;
use super::scope::{Scope, nanos, timestamp};
use crate::event::{CoolDown, PermitsChange, QuotaLeft, TaughtPace};

/// How often at most a scope is written, in nanoseconds. More often costs the log more; less often costs more
/// calls after a crash, since they are taken for spent.
const WRITE_EVERY: i64 = 5 * SECOND;
/// How long before a crash the last write of a scope may lie that had something to write: the interval, and as
/// long again for the log to take it.
const UNWRITTEN: i64 = 2 * WRITE_EVERY;
/// Most scopes of one record. A record has a bound, and a scope takes some two hundred bytes at most.
const BATCH_MAX: usize = 512;

/// What the scopes of a provider have to be written.
///
/// Where nobody keeps them, nothing is noted: it would grow for ever.
#[derive(Default)]
pub(super) struct Unwritten {
    is_kept: AtomicBool,
    /// By the time at which they may be written, each scope at most once.
    scopes: Mutex<BTreeMap<(i64, u64), Arc<Scope>>>,
    /// Permits were given out and it was not written yet that they may be.
    opened: AtomicBool,
    used: AtomicBool,
    notify: Notify,
}

impl Unwritten {
    /// Notes from now on what there is to write: somebody takes it.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// Notes that a permit was given out.
    pub(super) fn used(&self) {
        if !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed) {
            self.opened.store(true, Ordering::Release);
            self.notify.notify_one();
        }
    }

    pub(super) fn add(&self, scope: &Arc<Scope>, at: i64) {
        let id = Arc::as_ptr(scope).addr() as u64;
        self.scopes.lock().insert((at, id), scope.clone());
        self.notify.notify_one();
    }

    /// Takes the scopes that may be written, or says when the first one may.
    fn take(&self, now: i64) -> Result<Vec<Arc<Scope>>, Option<i64>> {
        let mut scopes = self.scopes.lock();
        let mut due = Vec::new();
        while let Some(entry) =
            scopes.first_entry().filter(|entry| entry.key().0 <= now && due.len() < BATCH_MAX)
        {
            due.push(entry.remove());
        }
        if due.is_empty() { Err(scopes.keys().next().map(|(at, _)| *at)) } else { Ok(due) }
    }
}

/// When a scope was written last, and whether it waits to be.
#[derive(Debug, Default)]
pub(super) struct Written {
    at: Option<i64>,
    waits: bool,
}

impl Written {
    /// Says from when on a scope may be written that has changed; nothing where it waits for it already.
    pub(super) fn wants(&mut self, now: i64) -> Option<i64> {
        let waits = std::mem::replace(&mut self.waits, true);
        let next = self
            .at
            .map_or(now, |at| at.saturating_add(WRITE_EVERY).clamp(now, now.saturating_add(WRITE_EVERY)));
        (!waits).then_some(next)
    }

    fn done(&mut self, now: i64) {
        *self = Self { at: Some(now), waits: false };
    }
}

/// One provider's permits, for whoever keeps what they know.
///
/// # Examples
///
/// ```
/// use hookkeeper::clock::Clock;
/// use hookkeeper::event::PermitsChange;
/// use hookkeeper::permits::{Known, Lane, RateLimiterFactory};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
/// let acme = "acme".parse().unwrap();
/// let factory = RateLimiterFactory::new(clock.clone());
/// let permits = factory.provider(&acme);
/// let permit = factory.limiter(&acme, "").acquire(Lane::Live, clock.now()).await.unwrap();
/// assert_eq!(permits.changed().await, PermitsChange::Opened);
/// permit.observe(429, [("retry-after", b"60".as_slice())], clock.now());
/// let PermitsChange::Learned(cool_downs) = permits.changed().await else { panic!() };
///
/// // The process is killed; the next one goes on from what was written.
/// let factory = RateLimiterFactory::new(clock.clone());
/// factory.provider(&acme).restore(Known { open: true, cool_downs });
/// assert!(factory.limiter(&acme, "").acquire(Lane::Live, clock.now()).await.is_err());
/// # }
/// ```
#[derive(Clone)]
pub struct ProviderPermits(pub(super) Arc<Provider>);

/// What was kept of a provider's permits.
///
/// # Examples
///
/// ```
/// use hookkeeper::permits::Known;
///
/// // Of a provider that was never called.
/// let known = Known::default();
/// assert!(!known.open && known.cool_downs.is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Permits were given out, and nobody wrote that it ended.
    pub open: bool,
    /// What is known of its scopes.
    pub cool_downs: Vec<CoolDown>,
}

impl ProviderPermits {
    /// Takes back what was kept. For the start, before the first permit; what came since stays as it is.
    pub fn restore(&self, known: Known) {
        let now = nanos(self.0.shared.clock.now());
        let rate = self.0.shared.profile().rate;
        if known.open {
            self.0.start_empty(now);
        }
        for cool_down in known.cool_downs.into_iter().filter(|it| !it.is_over(timestamp(now))) {
            let bucket = restored(&cool_down, rate, known.open, now);
            if let Some(scope) = self.0.restored(&cool_down.scope, bucket) {
                // What was taken off for spent stays off, whatever happens next.
                scope.note(&mut scope.state.lock(), now);
            }
        }
    }

    /// Returns the next change that is to be kept, as soon as there is one: a scope at most once in some
    /// seconds. What it returned is not returned again: where it could not be kept, see
    /// [`again`](Self::again). Cancelling it loses nothing.
    pub async fn changed(&self) -> PermitsChange {
        let shared = &self.0.shared;
        loop {
            let woken = shared.unwritten.notify.notified();
            if shared.unwritten.opened.swap(false, Ordering::AcqRel) {
                return PermitsChange::Opened;
            }
            let now = nanos(shared.clock.now());
            match shared.unwritten.take(now) {
                Ok(scopes) => {
                    return PermitsChange::Learned(scopes.iter().map(|scope| written(scope, now)).collect());
                }
                Err(None) => woken.await,
                Err(Some(at)) => {
                    tokio::select! {
                        () = shared.clock.pause_until(timestamp(at)) => {}
                        () = woken => {}
                    }
                }
            }
        }
    }

    /// Has all that is worth keeping returned by [`changed`](Self::changed) once more.
    pub fn again(&self) {
        let (shared, now) = (&self.0.shared, nanos(self.0.shared.clock.now()));
        if shared.unwritten.used.load(Ordering::Relaxed) {
            shared.unwritten.opened.store(true, Ordering::Release);
        }
        for scope in self.0.scopes() {
            scope.note(&mut scope.state.lock(), now);
        }
        shared.unwritten.notify.notify_one();
    }

    /// Returns the changes that end the permits, to be kept in this order: with them, all is known at the next
    /// start. For the end, after the last permit. Nothing where no permit was given out.
    pub fn close(&self) -> Vec<PermitsChange> {
        let shared = &self.0.shared;
        if !shared.unwritten.used.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let now = nanos(shared.clock.now());
        let known = self.0.scopes().into_iter().map(|scope| written(&scope, now));
        let known: Vec<_> = known.filter(|it| !it.is_over(timestamp(now))).collect();
        let mut changes: Vec<_> =
            known.chunks(BATCH_MAX).map(|it| PermitsChange::Learned(it.to_vec())).collect();
        changes.push(PermitsChange::Closed(Vec::new()));
        changes
    }
}

/// Returns what is known of a scope, which counts as written then.
fn written(scope: &Scope, now: i64) -> CoolDown {
    let mut state = scope.state.lock();
    state.written.done(now);
    let bucket = &state.bucket;
    let quota = |quota: &Quota| QuotaLeft {
        name: quota.name,
        limit: quota.limit,
        remaining: quota.remaining,
        until: timestamp(quota.until),
    };
    let pace = TaughtPace {
        interval_ns: bucket.rate.interval.unsigned_abs(),
        burst: bucket.rate.burst,
        until: timestamp(bucket.taught_until),
    };
    CoolDown {
        scope: scope.key.as_ref().to_owned(),
        full_at: timestamp(bucket.full_at.max(0)),
        blocked_until: timestamp(bucket.blocked_until.max(0)),
        quotas: bucket.quotas.iter().filter(|quota| quota.until > now).map(quota).collect(),
        pace: (bucket.taught_until > now).then_some(pace),
    }
}

/// Returns the bucket of a scope as it was written, or emptier where it may have been spent from since.
fn restored(known: &CoolDown, base: Rate, is_open: bool, now: i64) -> Bucket {
    let mut bucket = Bucket::new(base, nanos(known.full_at));
    if let Some(pace) = known.pace {
        let interval = i64::try_from(pace.interval_ns).unwrap_or(i64::MAX).max(1);
        (bucket.rate, bucket.taught_until) = (Rate { interval, burst: pace.burst.max(1) }, nanos(pace.until));
    }
    bucket.blocked_until = nanos(known.blocked_until);
    let lost = match is_open {
        true => bucket
            .rate
            .burst
            .saturating_add(u32::try_from(UNWRITTEN / bucket.rate.interval).unwrap_or(u32::MAX)),
        false => 0,
    };
    for (slot, quota) in bucket.quotas.iter_mut().zip(&known.quotas) {
        let remaining = quota.remaining.saturating_sub(lost);
        *slot = Quota { name: quota.name, limit: quota.limit, remaining, until: nanos(quota.until) };
    }
    if is_open {
        bucket.full_at = now.saturating_add(bucket.rate.capacity());
    }
    bucket.settle(base, now);
    bucket
}

#[cfg(test)]
mod tests;
