//! What is fetched from elsewhere and kept: single flight, lifetime, back-off, grace.
//!
//! Senders have a say in what is fetched, so nothing that they send may make hookkeeper hammer a host,
//! fill memory, or forget what honest senders need. [`Slot::judge`] decides and is pure; [`Remote`] keeps
//! the slots, and runs each fetch as a task of its own, which goes on when its first asker has left.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::event::Timestamp;
use crate::flow::TokenBucket;

/// Most things kept. Beyond it the least useful one goes: what could not be fetched first.
const SLOTS_MAX: usize = 256;
/// Most fetches under way; whoever wants one more is asked to come again.
const FLIGHTS_MAX: usize = 16;
/// How long one fetch may take, whoever still waits for it.
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(10);
/// Fetches per second of what never could be fetched yet. A forger names new things at will; honest
/// senders name few.
const UNKNOWN_PER_SECOND: f64 = 1.0;
/// Such fetches at once.
const UNKNOWN_BURST: u32 = 32;
/// First pause after a fetch that failed; doubled with each in a row.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause: what is mended at the other end is seen within it.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// What does not hold what is asked for is fetched again when it is older than this, and not before.
const RENEWED_AFTER: Duration = Duration::from_secs(30);
/// Shortest lifetime, whatever an entry says.
const LIFETIME_MIN: Duration = Duration::from_secs(10);
/// Wait that is asked for where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The name of a thing: a digest of all that its request consists of.
pub(super) type Name = [u8; 32];

/// What could not be had in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unavailable {
    /// When to come again.
    pub retry_after: Duration,
    /// For the operator: what failed. Without secrets.
    pub why: String,
}

/// What is asked for.
pub(super) struct Ask<'a, T> {
    pub(super) name: Name,
    /// How long it may be kept.
    pub(super) lifetime: Duration,
    /// How much longer it serves where it cannot be fetched anew.
    pub(super) grace: Duration,
    /// Whether it holds what is wanted of it.
    pub(super) suits: &'a (dyn Fn(&T) -> bool + Sync),
}

/// What is known of one thing.
struct Slot<T> {
    value: Option<(T, Timestamp)>,
    failed: Option<Failed>,
    flight: Option<watch::Receiver<()>>,
    used_at: Timestamp,
}

struct Failed {
    why: String,
    until: Timestamp,
    pause: Duration,
}

/// What is to be done for somebody who asks.
#[derive(Debug)]
enum Step<T> {
    Serve(T),
    Wait(watch::Receiver<()>),
    Fetch,
    Refuse(Unavailable),
}

impl<T: Clone> Slot<T> {
    fn new(now: Timestamp) -> Self {
        Self { value: None, failed: None, flight: None, used_at: now }
    }

    fn judge(&self, ask: &Ask<'_, T>, now: Timestamp) -> Step<T> {
        if let Some((value, at)) = &self.value {
            let age = since(*at, now);
            let is_fresh = age < ask.lifetime.max(LIFETIME_MIN);
            // What was fetched a moment ago is the answer, also to who wants more of it.
            if is_fresh && (age < RENEWED_AFTER || (ask.suits)(value)) {
                return Step::Serve(value.clone());
            }
        }
        if let Some(flight) = &self.flight {
            return Step::Wait(flight.clone());
        }
        match &self.failed {
            // A pause that is longer than any was made by a clock that went back.
            Some(failed) if now < failed.until && since(now, failed.until) <= BACKOFF_MAX => {
                let retry_after = since(now, failed.until);
                self.in_grace(ask, now).map_or_else(
                    || Step::Refuse(Unavailable { retry_after, why: failed.why.clone() }),
                    Step::Serve,
                )
            }
            _ => Step::Fetch,
        }
    }

    /// Returns what is there although it should be fetched anew, while it may still serve.
    fn in_grace(&self, ask: &Ask<'_, T>, now: Timestamp) -> Option<T> {
        let (value, at) = self.value.as_ref()?;
        let serves = since(*at, now) < ask.lifetime.max(LIFETIME_MIN) + ask.grace && (ask.suits)(value);
        serves.then(|| value.clone())
    }

    fn landed(&mut self, fetched: Result<T, String>, now: Timestamp) {
        self.flight = None;
        match fetched {
            Ok(value) => (self.value, self.failed) = (Some((value, now)), None),
            Err(why) => {
                let last = self.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
                let pause = (last * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
                let until = now.checked_add(pause).unwrap_or(now);
                self.failed = Some(Failed { why, until, pause });
            }
        }
    }
}

/// The time from `earlier` to `later`; none where the clock went back.
fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// Things fetched from elsewhere. Cheap to clone.
pub(super) struct Remote<T>(Arc<Shared<T>>);

impl<T> Clone for Remote<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<T> {
    clock: Clock,
    slots: Mutex<HashMap<Name, Slot<T>>>,
    unknown: TokenBucket,
}

impl<T: Clone + Send + 'static> Remote<T> {
    pub(super) fn new(clock: Clock) -> Self {
        let unknown = TokenBucket::new(UNKNOWN_PER_SECOND, UNKNOWN_BURST);
        Self(Arc::new(Shared { clock, slots: Mutex::default(), unknown }))
    }

    /// Returns what is asked for, from memory or by `fetch`, of which one at a time runs for each name.
    pub(super) async fn get<F>(
        &self,
        ask: &Ask<'_, T>,
        deadline: Instant,
        fetch: impl Fn() -> F,
    ) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        loop {
            let mut flight = match self.step(ask, &fetch)? {
                Ok(value) => return Ok(value),
                Err(flight) => flight,
            };
            // An error means that the flight ended, which is what is waited for.
            if tokio::time::timeout_at(deadline.into(), flight.changed()).await.is_err() {
                return self.last_resort(ask);
            }
        }
    }

    /// Returns what is there, whatever its age.
    pub(super) fn peek(&self, name: &Name) -> Option<T> {
        self.0.slots.lock().get(name)?.value.as_ref().map(|(value, _)| value.clone())
    }

    /// Returns the value, or the flight that may bring it; starts one where that is needed.
    fn step<F>(
        &self,
        ask: &Ask<'_, T>,
        fetch: &impl Fn() -> F,
    ) -> Result<Result<T, watch::Receiver<()>>, Unavailable>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let now = self.0.clock.now();
        let mut slots = self.0.slots.lock();
        let known = slots.get_mut(&ask.name);
        let step = known.map_or(Step::Fetch, |slot| {
            slot.used_at = now;
            slot.judge(ask, now)
        });
        match step {
            Step::Serve(value) => Ok(Ok(value)),
            Step::Wait(flight) => Ok(Err(flight)),
            Step::Refuse(unavailable) => Err(unavailable),
            Step::Fetch => {
                self.admit(&mut slots, ask, now)?;
                let (done, flight) = watch::channel(());
                let slot = slots.entry(ask.name).or_insert_with(|| Slot::new(now));
                slot.flight = Some(flight.clone());
                let landing = Landing { remote: self.clone(), name: ask.name, fetched: None, _done: done };
                tokio::spawn(landing.fly(fetch()));
                Ok(Err(flight))
            }
        }
    }

    /// Decides whether one more fetch may start, and makes room for its slot.
    fn admit(
        &self,
        slots: &mut HashMap<Name, Slot<T>>,
        ask: &Ask<'_, T>,
        now: Timestamp,
    ) -> Result<(), Unavailable> {
        let busy = |retry_after| Unavailable {
            retry_after,
            why: "too many fetches of what nobody knows yet: some senders name ever new keys".to_owned(),
        };
        if slots.values().filter(|slot| slot.flight.is_some()).count() >= FLIGHTS_MAX {
            return Err(busy(RETRY_AFTER));
        }
        if slots.get(&ask.name).is_none_or(|slot| slot.value.is_none()) {
            self.0.unknown.try_take(now.as_microsecond()).map_err(busy)?;
        }
        if slots.len() >= SLOTS_MAX && !slots.contains_key(&ask.name) {
            let resting = slots.iter().filter(|(_, slot)| slot.flight.is_none());
            let least = resting.min_by_key(|(_, slot)| (slot.value.is_some(), slot.used_at));
            if let Some(name) = least.map(|(name, _)| *name) {
                slots.remove(&name);
            }
        }
        Ok(())
    }

    fn last_resort(&self, ask: &Ask<'_, T>) -> Result<T, Unavailable> {
        let slots = self.0.slots.lock();
        let kept = slots.get(&ask.name).and_then(|slot| slot.in_grace(ask, self.0.clock.now()));
        kept.ok_or_else(|| Unavailable {
            retry_after: RETRY_AFTER,
            why: "the other end did not answer in time".to_owned(),
        })
    }
}

/// A fetch under way. However it ends, its slot says so, and who waits is woken.
struct Landing<T: Clone> {
    remote: Remote<T>,
    name: Name,
    fetched: Option<Result<T, String>>,
    /// Dropped after the slot knows what came of it.
    _done: watch::Sender<()>,
}

impl<T: Clone> Landing<T> {
    async fn fly(mut self, fetch: impl Future<Output = Result<T, String>>) {
        let limit = format!("no answer within {} s", FLIGHT_TIMEOUT.as_secs());
        let fetched = tokio::time::timeout(FLIGHT_TIMEOUT, fetch).await;
        self.fetched = Some(fetched.unwrap_or(Err(limit)));
    }
}

impl<T: Clone> Drop for Landing<T> {
    fn drop(&mut self) {
        // Nothing came of a fetch that panicked, or whose worker ended.
        let fetched = self.fetched.take().unwrap_or_else(|| Err("the fetch was cut off".to_owned()));
        let shared = &self.remote.0;
        if let Some(slot) = shared.slots.lock().get_mut(&self.name) {
            slot.landed(fetched, shared.clock.now());
        }
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
