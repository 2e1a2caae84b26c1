//! The dispatcher: one actor for each function, which starts the attempts of the runs that are due.
//!
//! It owns the function's alarm; all else that it works with is in `shared` and outlives it. The alarm, a task beside
//! the actor, sends it [`Look`] when the log's state says that something may have become due or a switch changed, when
//! an attempt gave a place back, and at the one time that it is set to: the next due time, or the breaker's next
//! probe. Nothing polls: runs that are parked or far in the future cost no wake-up. There is at most one `Look` in the
//! mailbox and hardly ever a [`Drain`], so its default capacity is plenty. A rebuilt dispatcher hands back what its
//! predecessor had taken and not started.
//!
//! The actor holds no future in its context but a drain: one that did would outlive its last address.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, AsyncContext as _, Context, Handler, Message, ResponseActFuture, WeakAddr, WrapFuture as _,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::attempt::{self, Place};
use super::keys::{self, Keying};
use super::shared::Shared;
use super::slots::IN_FLIGHT_MAX;
use crate::event::Timestamp;
use crate::event_log::{DueRun, Error};
use crate::subscription::Key;

/// Most runs that are taken before others on the thread get their turn: each costs some 10 µs, with a key more.
const TAKE_MAX: usize = 64;
/// Longest time that the alarm is set to. The system's clock may be stepped or the machine sleep meanwhile: due
/// times are looked at again after this.
const ALARM_MAX: Duration = Duration::from_secs(600);
/// How much later than due the alarm rings.
const ALARM_LATE: Duration = Duration::from_millis(1);
/// Pause after the store could not be read.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Takes nothing more, waits for what is in flight, and hands the rest back at the deadline. Answers how many
/// attempts were cut off; their runs are due again at the next start. No dispatcher of the function takes runs then.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct Drain {
    /// How long to wait.
    pub timeout: Duration,
}

/// Asks to start what is due. The alarm sends it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Look;

/// The actor. See the module.
pub struct Dispatcher {
    shared: Arc<Shared>,
    _lifeline: Box<dyn Send>,
    /// What the alarm is set to; its drop ends the alarm.
    alarm: watch::Sender<Option<Instant>>,
}

/// When to look again.
enum Next {
    /// As soon as others had their turn.
    Soon,
    /// Then, unless woken.
    At(Timestamp),
    /// When woken.
    Woken,
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.hand_back_waiting();
        self.shared.log.state().on_due(&self.shared.function.id, Arc::clone(&self.shared.wake));
        // Also where nothing is due: attempts of an earlier life may have left.
        self.shared.wake.notify_one();
        let alarm = alarm(ctx.address().downgrade(), Arc::clone(&self.shared.wake), self.alarm.subscribe());
        tokio::task::spawn_local(alarm);
    }
}

/// Sends [`Look`] whenever woken and at the time set, one at a time, for as long as the actor lives.
async fn alarm(
    dispatcher: WeakAddr<Dispatcher>,
    wake: Arc<Notify>,
    mut set_to: watch::Receiver<Option<Instant>>,
) {
    loop {
        let time = *set_to.borrow_and_update();
        let rings = async {
            match time {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            () = rings => {}
            set = set_to.changed() => match set {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        let Some(dispatcher) = dispatcher.upgrade() else { return };
        if dispatcher.send(Look).await.is_err() {
            return;
        }
    }
}

impl Handler<Look> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Look, _: &mut Self::Context) {
        if self.shared.is_draining.load(Ordering::Relaxed) {
            return;
        }
        self.shared.looks.fetch_add(1, Ordering::Relaxed);
        match self.start_due() {
            Ok(Next::Soon) => self.shared.wake.notify_one(),
            Ok(Next::At(at)) => self.set_alarm(Some(at)),
            Ok(Next::Woken) => self.set_alarm(None),
            Err(error) => {
                tracing::warn!(function_id = %self.shared.function.id, %error, "due runs could not be read");
                let now = self.shared.clock.now();
                self.set_alarm(now.checked_add(STORE_PAUSE).ok());
            }
        }
    }
}

impl Handler<Drain> for Dispatcher {
    type Result = ResponseActFuture<Self, usize>;

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        self.shared.is_draining.store(true, Ordering::Relaxed);
        self.set_alarm(None);
        self.hand_back_waiting();
        // Ended, it hands its runs back.
        self.shared.core.lock().keying.iter().for_each(tokio::task::AbortHandle::abort);
        let shared = Arc::clone(&self.shared);
        let drained = async move {
            let cut_off = match tokio::time::timeout(drain.timeout, all_left(&shared)).await {
                Ok(()) => 0,
                Err(_) => {
                    let core = shared.core.lock();
                    core.in_flight.values().for_each(tokio::task::AbortHandle::abort);
                    core.in_flight.len()
                }
            };
            // Aborted tasks hand their runs back as they are dropped.
            all_left(&shared).await;
            cut_off
        };
        Box::pin(drained.into_actor(self))
    }
}

/// Returns when no attempt is in flight and no key is being read.
async fn all_left(shared: &Shared) {
    loop {
        let left = shared.left.notified();
        let is_idle = {
            let core = shared.core.lock();
            core.in_flight.is_empty() && core.keying.is_none()
        };
        if is_idle {
            return;
        }
        left.await;
    }
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>, lifeline: impl Send + 'static) -> Self {
        Self { shared, _lifeline: Box::new(lifeline), alarm: watch::Sender::new(None) }
    }

    fn set_alarm(&self, at: Option<Timestamp>) {
        let now = self.shared.clock.now();
        let time = at.map(|at| {
            // Due times are in whole milliseconds: ringing a little early would ring twice.
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default() + ALARM_LATE;
            Instant::now() + wait.min(ALARM_MAX)
        });
        self.alarm.send_if_modified(|set_to| std::mem::replace(set_to, time) != time);
    }

    /// Starts attempts of what is due, as far as there are places.
    fn start_due(&self) -> Result<Next, Error> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let allowed = shared.core.lock().breaker.allows(now);
        let most = match allowed {
            Ok(most) => self.most_in_flight(most),
            Err(until) => {
                self.hand_back_waiting();
                return Ok(Next::At(until));
            }
        };
        if shared.log.state().function(&shared.function.id).paused {
            self.hand_back_waiting();
            return Ok(Next::Woken);
        }
        self.start_waiting(most)?;
        let room = self.room(most);
        // Those whose keys are being read come first; the end of that wakes.
        if room == 0 || shared.core.lock().keying.is_some() {
            return Ok(Next::Woken);
        }
        let taken = shared.log.state().take_due(&shared.function.id, now.as_millisecond(), room)?;
        let is_full = taken.runs.len() == room;
        if shared.key.is_some() && !taken.runs.is_empty() {
            let task = tokio::task::spawn_local(keys::find(Keying::new(Arc::clone(shared), taken.runs)));
            // The task cannot have run yet: it is on this very thread.
            shared.core.lock().keying = Some(task.abort_handle());
            return Ok(Next::Woken);
        }
        for run in taken.runs {
            shared.core.lock().slots.push(None, run);
        }
        self.start_waiting(most)?;
        if is_full && self.room(most) > 0 {
            return Ok(Next::Soon);
        }
        Ok(taken.next_due_ms.map_or(Next::Woken, |due_ms| {
            Timestamp::from_millisecond(due_ms).map_or(Next::Woken, |due| Next::At(due.max(now)))
        }))
    }

    /// Returns how many attempts may be in flight, all keys together.
    fn most_in_flight(&self, breaker: Option<u32>) -> usize {
        let function = self.shared.key.is_none().then_some(self.shared.function.concurrency.limit);
        [breaker, function].into_iter().flatten().map(|limit| limit as usize).min().unwrap_or(IN_FLIGHT_MAX)
    }

    /// Returns how many runs may be taken now. Without a key, no more than can start at once; with one, some
    /// more, as the keys of the first may be busy.
    fn room(&self, most: usize) -> usize {
        let core = self.shared.core.lock();
        let places = most.min(IN_FLIGHT_MAX).saturating_sub(core.slots.in_flight());
        let room = if self.shared.key.is_none() || places == 0 { places } else { core.slots.room() };
        room.min(TAKE_MAX)
    }

    /// Starts runs that wait for a place, as far as there are some.
    fn start_waiting(&self, most: usize) -> Result<(), Error> {
        loop {
            let popped = self.shared.core.lock().slots.pop(most);
            let Some((key, run)) = popped else { return Ok(()) };
            self.start(key, run)?;
        }
    }

    fn start(&self, key: Option<Key>, run: DueRun) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let id = run.id.clone();
        let place = Place { shared, run, key, is_recorded: false };
        // A run may have waited long for its key: it may be cancelled meanwhile.
        if self.shared.key.is_some() {
            let is_open = self.shared.log.state().run(&id)?.is_some_and(|run| !run.state.is_final());
            if !is_open {
                return Ok(());
            }
        }
        let task = tokio::task::spawn_local(attempt::make(place));
        // The task cannot have run yet: it is on this very thread.
        self.shared.core.lock().in_flight.insert(id, task.abort_handle());
        Ok(())
    }

    /// Hands back all runs that were taken and not started.
    fn hand_back_waiting(&self) {
        let waiting = self.shared.core.lock().slots.drain();
        for run in waiting {
            self.shared.hand_back(&run.id);
        }
    }
}
