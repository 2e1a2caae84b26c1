//! What a function's dispatcher works with and what outlives it: places, breaker, the runs it has taken.
//!
//! A dispatcher that panicked is rebuilt on this; attempts in flight go on meanwhile and hand their places back
//! here, so that none is lost and none is made twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::breaker::{Breaker, Outcome};
use super::dispatcher::Dispatcher;
use super::slots::Slots;
use crate::clock::Clock;
use crate::config;
use crate::event::{FunctionId, RunId, Timestamp};
use crate::event_log::record::{Record, Switch, Switched};
use crate::event_log::{DueRun, Log};
use crate::function::Handler;
use crate::subscription::{Expression, Key, Subscription};

/// Most events of one function that are read from the store at once. More would have many threads wait for the
/// same frame.
const READS_MAX: usize = 4;
/// Memory for spooled bodies of one function's attempts, in bytes. A larger body goes alone.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What that memory is counted in.
const BODY_BYTES_PER_PERMIT: u64 = 64 * 1024;
const BODY_PERMITS: u32 = (BODY_BYTES_MAX / BODY_BYTES_PER_PERMIT) as u32;

/// One function's dispatch, across the lives of its actor. Cheap to clone.
///
/// Build one for each function when the log is open; build its [`Dispatcher`]s with
/// [`dispatcher`](Self::dispatcher), never two at a time.
#[derive(Clone)]
pub struct Dispatch(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) log: Log,
    pub(super) clock: Clock,
    pub(super) function: config::Function,
    pub(super) key: Option<Expression>,
    pub(super) handler: Arc<dyn Handler>,
    /// Wakes the actor: something may be due, a switch changed, or a place was given back.
    pub(super) wake: Arc<Notify>,
    /// Told whenever an attempt ended.
    pub(super) left: Notify,
    pub(super) core: Mutex<Core>,
    pub(super) reads: Semaphore,
    pub(super) body_room: Arc<Semaphore>,
    pub(super) attempts: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) looks: AtomicU64,
    pub(super) is_draining: AtomicBool,
}

/// What changes with each attempt.
pub(super) struct Core {
    pub(super) slots: Slots<DueRun>,
    pub(super) breaker: Breaker,
    /// Attempts in flight; each can be ended.
    pub(super) in_flight: HashMap<RunId, AbortHandle>,
    /// The task that reads the keys of the runs taken last, if there is one.
    pub(super) keying: Option<AbortHandle>,
}

/// How a function's dispatch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Attempts in flight.
    pub in_flight: usize,
    /// Attempts made since the start.
    pub attempts: u64,
    /// Attempts that panicked since the start.
    pub panics: u64,
    /// How often the dispatcher was woken to look for due runs since the start.
    pub looks: u64,
    /// When the breaker is open: the time of the next probe.
    pub open_until: Option<Timestamp>,
}

impl Dispatch {
    /// Prepares a function's dispatch with the handler of its attempts. Its breaker is as it was recorded.
    ///
    /// # Errors
    ///
    /// If the concurrency key is no expression; the text says where and why.
    pub fn new(
        log: Log,
        clock: Clock,
        function: config::Function,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, String> {
        let key = function.concurrency.key.as_deref().map(Subscription::compile).transpose()?;
        let state = log.state().function(&function.id);
        let core = Core {
            slots: Slots::new(function.concurrency.limit),
            breaker: Breaker::new(state.open_until, state.opened, function.concurrency.limit),
            in_flight: HashMap::new(),
            keying: None,
        };
        Ok(Self(Arc::new(Shared {
            log,
            clock,
            function,
            key,
            handler,
            wake: Arc::default(),
            left: Notify::new(),
            core: Mutex::new(core),
            reads: Semaphore::new(READS_MAX),
            body_room: Arc::new(Semaphore::new(BODY_PERMITS as usize)),
            attempts: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
        })))
    }

    /// Returns the function's id.
    pub fn function(&self) -> &FunctionId {
        &self.0.function.id
    }

    /// Builds the actor, for its first life or for one after a panic. `lifeline` is dropped with the actor.
    pub fn dispatcher(&self, lifeline: impl Send + 'static) -> Dispatcher {
        Dispatcher::new(Arc::clone(&self.0), lifeline)
    }

    /// Returns how the function's dispatch is.
    pub fn snapshot(&self) -> Snapshot {
        let core = self.0.core.lock();
        Snapshot {
            in_flight: core.in_flight.len(),
            attempts: self.0.attempts.load(Ordering::Relaxed),
            panics: self.0.panics.load(Ordering::Relaxed),
            looks: self.0.looks.load(Ordering::Relaxed),
            open_until: core.breaker.open_until(),
        }
    }
}

impl Shared {
    /// An attempt ended: its place is free again, and its run is handed back where nothing was recorded.
    pub(super) fn leave(&self, run: &RunId, key: Option<Key>, hand_back: bool) {
        {
            let mut core = self.core.lock();
            core.in_flight.remove(run);
            core.slots.free(key);
        }
        if hand_back {
            self.hand_back(run);
        }
        self.left.notify_waiters();
        self.wake.notify_one();
    }

    /// Makes a taken run due again, as if it had never been taken.
    pub(super) fn hand_back(&self, run: &RunId) {
        if let Err(error) = self.log.state().release(run) {
            tracing::warn!(run_id = %run, %error, "a run could not be handed back; it waits for a restart");
        }
    }

    /// Tells the breaker of an attempt; returns what must be recorded.
    pub(super) fn note_outcome(
        &self,
        run: &RunId,
        outcome: Outcome,
        now: Timestamp,
        random: u32,
    ) -> Option<Record> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let change = self.core.lock().breaker.note(run, outcome, now, random)?;
        let function = &self.function.id;
        match change.open_until {
            Some(until) => {
                tracing::warn!(function_id = %function, %until, opened = change.opened, "the breaker opened");
            }
            None => tracing::info!(function_id = %function, "the breaker closed"),
        }
        let switch = Switch::Breaker {
            function: function.clone(),
            open_until: change.open_until,
            opened: change.opened,
        };
        Some(Record::Switched(Switched { at: now, switch }))
    }

    /// Waits for room for a spooled body of so many bytes: each is read into memory as a whole.
    pub(super) async fn room_for_body(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let permits = bytes.div_ceil(BODY_BYTES_PER_PERMIT).min(u64::from(BODY_PERMITS)) as u32;
        Arc::clone(&self.body_room).acquire_many_owned(permits).await.ok()
    }
}
