//! One scope as callers see it: acquire a permit, make the call, say what came of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::Bucket;
use super::factory::Shared;
use super::headers::HeaderRules;
use super::lane::{Lane, Shares};
use super::learn::{Correction, learn, learn_refused};
use super::queue::{Outcome, Queue, Wake};
use super::store::Written;
use crate::event::Timestamp;

/// The budget allows no call within the caller's deadline.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use hookkeeper::permits::RateLimited;
///
/// let limited = RateLimited { retry_after: Duration::from_millis(1500) };
/// assert_eq!(limited.to_string(), "the rate limit leaves no call for 1.5s; try again then");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit leaves no call for {retry_after:?}; try again then")]
pub struct RateLimited {
    /// How long until the call could have been made, had the caller waited. By then others may have come.
    pub retry_after: Duration,
}

/// One provider's scope. Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use hookkeeper::clock::Clock;
/// use hookkeeper::permits::{Budget, Lane, Profile, RateLimiterFactory};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
/// let factory = RateLimiterFactory::new(clock.clone());
/// let provider = "acme".parse().unwrap();
/// factory.register(&provider, Profile::new(Budget { per_second: 2.0, burst: 1 }));
/// let limiter = factory.limiter(&provider, "workspace-7");
///
/// let deadline = clock.now() + Duration::from_millis(100);
/// let permit = limiter.acquire(Lane::Live, deadline).await.unwrap();
/// // The call is made; what its answer says about limits is noted.
/// permit.observe(200, [("content-type", b"text/plain".as_slice())], clock.now());
///
/// // The next token comes in half a second: too late for this caller, which hears it at once.
/// let limited = limiter.acquire(Lane::Live, deadline).await.unwrap_err();
/// assert_eq!(limited.retry_after, Duration::from_millis(500));
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimiter {
    scope: Arc<Scope>,
}

/// A scope's state, shared by all its limiters and permits.
pub(super) struct Scope {
    pub(super) key: Box<str>,
    shared: Arc<Shared>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) bucket: Bucket,
    shares: Shares,
    /// Permits that are out.
    in_flight: u32,
    pub(super) written: Written,
    /// Made when somebody waits, dropped when nobody does: most scopes have none.
    queue: Option<Box<Queue>>,
}

impl State {
    /// Hands out what is to be had, and returns when there is more, if somebody waits for it.
    fn dispatch(&mut self, now: i64) -> Option<i64> {
        let queue = self.queue.as_mut()?;
        let next = queue.dispatch(&mut self.bucket, &mut self.shares, now);
        self.drop_queue();
        next
    }

    fn drop_queue(&mut self) {
        if self.queue.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.queue = None;
        }
    }

    /// The budget changed: whoever is too late now hears it, and the timer is set anew.
    fn replan(&mut self, now: i64) {
        let Some(queue) = self.queue.as_mut() else { return };
        queue.refuse_late(&self.bucket, self.shares, now);
        queue.dispatch(&mut self.bucket, &mut self.shares, now);
        queue.nudge();
        self.drop_queue();
    }
}

impl Scope {
    pub(super) fn new(key: &str, shared: Arc<Shared>, bucket: Bucket) -> Self {
        let (shares, written) = (Shares::default(), Written::default());
        let state = State { bucket, shares, in_flight: 0, written, queue: None };
        Self { key: key.into(), shared, state: Mutex::new(state) }
    }

    /// Has the scope written in its time, if there is something worth it.
    pub(super) fn note(self: &Arc<Self>, state: &mut State, now: i64) {
        if self.shared.unwritten.is_kept()
            && state.bucket.is_worth_keeping(now)
            && let Some(at) = state.written.wants(now)
        {
            self.shared.unwritten.add(self, at);
        }
    }

    fn now(&self) -> i64 {
        nanos(self.shared.clock.now())
    }
}

impl RateLimiter {
    pub(super) fn new(scope: Arc<Scope>) -> Self {
        Self { scope }
    }

    /// Returns the scope's key, as it is kept.
    pub fn scope(&self) -> &str {
        &self.scope.key
    }

    /// Returns a permit as soon as the budget allows one to this lane, within `deadline`.
    ///
    /// Callers of one lane are served in the order in which they came. Dropping the future gives the place
    /// back, or the token, where it had come to its turn.
    ///
    /// # Errors
    ///
    /// If the turn would come after `deadline`: at once where that is known at once, and otherwise as soon
    /// as a call of a higher lane or what the provider said has pushed it that far. The time it names is
    /// when the turn would have been.
    pub async fn acquire(&self, lane: Lane, deadline: Timestamp) -> Result<Permit, RateLimited> {
        let now = self.scope.now();
        let (id, wake) = {
            let mut state = self.scope.state.lock();
            let state = &mut *state;
            state.bucket.settle(self.scope.shared.profile().rate, now);
            if state.queue.as_ref().is_none_or(|queue| queue.is_empty())
                && state.bucket.ready_at(lane, now) <= now
            {
                state.bucket.take(now);
                let epoch = state.bucket.epoch;
                return Ok(Permit::new(&self.scope, state, epoch, now));
            }
            let queue = state.queue.get_or_insert_default();
            let joined = queue.join(lane, nanos(deadline), &state.bucket, state.shares, now);
            // A live call may have its turn now where others wait for the reserve.
            state.dispatch(now);
            state.drop_queue();
            joined.map_err(|at| limited(at, now))?
        };
        Waiting { scope: &self.scope, id, wake }.outcome().await
    }
}

/// A caller in the queue. Dropped, it leaves it.
struct Waiting<'a> {
    scope: &'a Arc<Scope>,
    id: u64,
    wake: Arc<Wake>,
}

impl Waiting<'_> {
    async fn outcome(self) -> Result<Permit, RateLimited> {
        loop {
            let next = match self.turn() {
                Ok(outcome) => return outcome,
                Err(next) => next,
            };
            let woken = self.wake.notify.notified();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = self.scope.shared.clock.pause_until(timestamp(at)) => {}
                        () = woken => {}
                    }
                }
                None => woken.await,
            }
        }
    }

    /// Looks whether there is an outcome; if not, says until when to hold the timer, where it is this
    /// waiter that holds it.
    fn turn(&self) -> Result<Result<Permit, RateLimited>, Option<i64>> {
        let now = self.scope.now();
        let mut state = self.scope.state.lock();
        let state = &mut *state;
        state.bucket.settle(self.scope.shared.profile().rate, now);
        let next = state.dispatch(now);
        if let Some(outcome) = self.wake.outcome.lock().take() {
            return Ok(match outcome {
                Outcome::Granted { epoch } => Ok(Permit::new(self.scope, state, epoch, now)),
                Outcome::Refused { at } => Err(limited(at, now)),
            });
        }
        let queue = state.queue.as_mut().expect("a waiter without an outcome is in the queue");
        let drives = *queue.driver.get_or_insert(self.id) == self.id;
        Err(next.filter(|_| drives))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let now = self.scope.now();
        let mut state = self.scope.state.lock();
        let state = &mut *state;
        let unused = match self.wake.outcome.lock().take() {
            Some(Outcome::Granted { epoch }) => Some(epoch),
            _ => None,
        };
        if let Some(epoch) = unused {
            state.bucket.give_back(epoch);
        }
        let Some(queue) = state.queue.as_mut() else { return };
        queue.remove(self.id);
        if queue.driver == Some(self.id) {
            queue.driver = None;
        }
        if unused.is_some() || queue.driver.is_none() {
            queue.dispatch(&mut state.bucket, &mut state.shares, now);
            queue.nudge();
        }
        state.drop_queue();
    }
}

/// The right to make one call. Dropped without a word, the call counts as made.
///
/// # Examples
///
/// ```
/// # use hookkeeper::clock::Clock;
/// # use hookkeeper::permits::{Lane, RateLimiterFactory};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
/// # let limiter = RateLimiterFactory::new(clock.clone()).limiter(&"acme".parse().unwrap(), "");
/// let permit = limiter.acquire(Lane::Live, clock.now()).await.unwrap();
/// // Nothing was sent after all.
/// permit.give_back();
/// # }
/// ```
#[must_use = "a permit that is dropped counts as a call that was made"]
pub struct Permit {
    scope: Arc<Scope>,
    epoch: u32,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("scope", &self.scope.key).finish_non_exhaustive()
    }
}

impl Permit {
    fn new(scope: &Arc<Scope>, state: &mut State, epoch: u32, now: i64) -> Self {
        state.in_flight += 1;
        scope.shared.unwritten.used();
        scope.note(state, now);
        Self { scope: scope.clone(), epoch }
    }

    /// Learns from the answer that the call got: status and headers, names in any case.
    ///
    /// Callers that wait and can no longer be served within their deadline hear it now.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hookkeeper::clock::Clock;
    /// # use hookkeeper::permits::{Lane, RateLimiterFactory};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
    /// # let limiter = RateLimiterFactory::new(clock.clone()).limiter(&"acme".parse().unwrap(), "");
    /// let permit = limiter.acquire(Lane::Live, clock.now()).await.unwrap();
    /// permit.observe(429, [("retry-after", b"20".as_slice())], clock.now());
    ///
    /// let limited = limiter.acquire(Lane::Live, clock.now()).await.unwrap_err();
    /// assert_eq!(limited.retry_after, Duration::from_secs(20));
    /// # }
    /// ```
    pub fn observe<'a>(
        self,
        status: u16,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now: Timestamp,
    ) {
        let taught = self.taught(Some(status), headers, now);
        self.correct(&taught, now);
    }

    /// Says what an answer teaches by the provider's rules; without a status, one that was refused for its rate
    /// because its body says so.
    pub(crate) fn taught<'a>(
        &self,
        status: Option<u16>,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now: Timestamp,
    ) -> Correction {
        let rules = &self.scope.shared.profile().headers;
        match status {
            Some(status) => learn(rules, status, headers, now),
            None => learn_refused(rules, headers, now),
        }
    }

    /// Says that the call was refused for its rate where status and headers do not tell, but the body does; for
    /// how long, if it says so.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hookkeeper::clock::Clock;
    /// # use hookkeeper::permits::{Lane, RateLimiterFactory};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
    /// # let limiter = RateLimiterFactory::new(clock.clone()).limiter(&"acme".parse().unwrap(), "");
    /// let permit = limiter.acquire(Lane::Live, clock.now()).await.unwrap();
    /// // Status 400, and in the body: RATELIMITED.
    /// permit.refused(None, clock.now());
    /// assert!(limiter.acquire(Lane::Live, clock.now()).await.is_err());
    /// # }
    /// ```
    pub fn refused(self, wait: Option<Duration>, now: Timestamp) {
        self.correct(&Correction { refused: true, wait, ..Correction::default() }, now);
    }

    /// Returns how long the first refusal in a row that names no time is taken for, where the provider has a rule of
    /// its own.
    pub(crate) fn own_unsaid_wait(&self) -> Option<Duration> {
        let wait = self.scope.shared.profile().headers.unsaid_wait;
        (wait != HeaderRules::common().unsaid_wait).then_some(wait)
    }

    /// Applies what an answer taught.
    pub(crate) fn correct(self, correction: &Correction, now: Timestamp) {
        let (now, profile) = (nanos(now), self.scope.shared.profile());
        let mut state = self.scope.state.lock();
        let others = state.in_flight.saturating_sub(1);
        state.bucket.settle(profile.rate, now);
        if state.bucket.correct(correction, others, profile.rate, profile.headers.unsaid_wait, now) {
            state.replan(now);
            self.scope.note(&mut state, now);
        }
    }

    /// Gives the token back: no call was made.
    pub fn give_back(self) {
        let now = self.scope.now();
        let mut state = self.scope.state.lock();
        state.bucket.give_back(self.epoch);
        state.replan(now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.scope.state.lock().in_flight -= 1;
    }
}

fn limited(at: i64, now: i64) -> RateLimited {
    RateLimited { retry_after: Duration::from_nanos(u64::try_from(at.saturating_sub(now)).unwrap_or(0)) }
}

/// A time as this module counts.
pub(super) fn nanos(at: Timestamp) -> i64 {
    at.as_microsecond().saturating_mul(1_000)
}

/// A time from how this module counts, rounded up to what clocks tell.
pub(super) fn timestamp(at: i64) -> Timestamp {
    let micros = at.div_euclid(1_000) + i64::from(at.rem_euclid(1_000) > 0);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
