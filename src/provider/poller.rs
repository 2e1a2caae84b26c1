//! Has a connector ask its provider what is new, for one poll trigger: waits for the next time, stores what
//! came, and only then how far it has come.
//!
//! Part of the provider's actor, which runs one for each poll trigger, so that one that hangs holds up no
//! other; in a connector in code, also one that blocks its thread. The cursor is written after the events,
//! never before: a crash in between has the provider asked for them again, and their dedupe keys tell that
//! they are there. Beyond the trigger's dedupe window, a server that was killed just then and stayed down
//! stores them twice.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::{Backoff, Trigger};
use crate::connector::{Connector, PollCtx, Polled, PolledEvent};
use crate::event::{Body, Timestamp};
use crate::event_log::record::{self, Record};
use crate::event_log::{self, INLINE_BODY_BYTES_MAX, IngestError, Log};
use crate::flow::{backoff, with_jitter};

use super::own_events::{OwnEvent, OwnEvents, STORED_AT_ONCE};
use super::published::Published;
use super::{Callbacks, Deps, Fixed, shortened};

/// How long a poll may take; then it is cut off and has failed. Shorter, and slow providers would never be heard
/// out; longer, and one that hangs would go unnoticed. Tests wait for it.
const POLL_TIMEOUT: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(60) };
/// Most polls one after the other while there is more; then others have their turn.
const POLLS_PER_TURN: usize = 10;
/// Pause after such a turn.
const TURN_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure, where `every` is not longer.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest time that is added to the first poll after the start.
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// How a trigger's polls go. It outlives the actor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollStatus {
    /// When the provider was last asked and answered.
    pub last_success_at: Option<Timestamp>,
    /// Why it last could not be asked, and when; gone with the next success.
    pub failure: Option<(String, Timestamp)>,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked next.
    pub next_at: Option<Timestamp>,
}

/// Why a poll came to nothing; the provider is asked the same again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Connector(String),
    #[error("the log does not take what came: {0}")]
    Ingest(#[from] IngestError),
    #[error("the log does not take the cursor: {0}")]
    Log(#[from] event_log::Error),
    #[error("the log takes no events")]
    Refused,
}

/// The polls of one trigger.
pub(super) struct Poller {
    events: OwnEvents,
    clock: Clock,
    callbacks: Callbacks,
    published: Arc<Published>,
    index: usize,
    trigger: Arc<Trigger>,
    fixed: Arc<Fixed>,
    every: Duration,
    /// How far the trigger has come; nothing while the log was not asked.
    come: Option<Come>,
}

/// How far a trigger has come, and since when.
#[derive(Debug, Clone, Default)]
struct Come {
    cursor: Option<String>,
    at: Option<Timestamp>,
}

/// What came of a turn.
enum Turn {
    /// There is nothing more now.
    Done,
    /// There is more.
    More,
}

impl Poller {
    /// Returns one for each poll trigger.
    pub(super) fn all(deps: &Deps, published: &Arc<Published>) -> Vec<Self> {
        let is_poll = |(_, (trigger, _)): &(usize, &(Arc<Trigger>, Arc<Fixed>))| trigger.poll().is_some();
        let triggers = deps.triggers.iter().enumerate().filter(is_poll).enumerate();
        let polled = triggers.filter_map(|(number, (index, (trigger, fixed)))| {
            Some(Self {
                events: OwnEvents { log: deps.log.clone(), provider: deps.entry.id.clone() },
                clock: deps.clock.clone(),
                callbacks: deps.callbacks.of_poll(number),
                published: published.clone(),
                index,
                every: trigger.poll()?.every,
                trigger: trigger.clone(),
                fixed: fixed.clone(),
                come: None,
            })
        });
        polled.collect()
    }

    /// Goes on until it is dropped or the log is closed.
    pub(super) async fn run(mut self) {
        let mut next_at = self.first().await;
        loop {
            self.fixed.polling.lock().next_at = Some(next_at);
            self.wait(next_at).await;
            let connector = self.connector().await;
            let pause = match self.turn(&connector).await {
                Ok(turn) => {
                    let mut status = self.fixed.polling.lock();
                    (status.failure, status.failures) = (None, 0);
                    match turn {
                        Turn::Done => with_jitter(self.every, fastrand::u32(..)),
                        Turn::More => TURN_PAUSE,
                    }
                }
                Err(Error::Log(event_log::Error::Closed))
                | Err(Error::Ingest(IngestError::Failing(event_log::Error::Closed))) => return,
                Err(error) => self.failed(&error),
            };
            next_at = self.clock.after(pause);
        }
    }

    /// Returns when to ask for the first time: when it would have been without the restart, or soon. Some
    /// time is added, so that all triggers of a server that starts do not ask together.
    async fn first(&mut self) -> Timestamp {
        let now = self.clock.now();
        let at = self.come().await.ok().and_then(|come| come.at);
        let due = at.and_then(|at| at.checked_add(self.every).ok()).unwrap_or(now);
        let spread = with_jitter(self.every, fastrand::u32(..)) - self.every;
        let wait = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        self.clock.after(wait + spread.min(SPREAD_MAX))
    }

    /// Waits until a time, but no longer than any wait is where the clock was set back.
    async fn wait(&self, until: Timestamp) {
        let longest = with_jitter(self.every.max(PAUSE_MAX), u32::MAX);
        let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
        let lasts = |now: Timestamp| now < until && until.duration_since(now) <= longest;
        while lasts(self.clock.now()) {
            self.clock.sleep_until(until).await;
        }
    }

    /// Returns the connector, as soon as the trigger is activated.
    async fn connector(&self) -> Arc<dyn Connector> {
        let mut looks = self.published.looks();
        loop {
            looks.borrow_and_update();
            if let Some(engine) = &self.published.load(self.index).engine {
                return engine.connector.clone();
            }
            looks.changed().await.expect("the sender is held by this future");
        }
    }

    /// Asks until there is nothing more, a bounded number of times.
    async fn turn(&mut self, connector: &Arc<dyn Connector>) -> Result<Turn, Error> {
        for _ in 0..POLLS_PER_TURN {
            if !self.poll(connector).await? {
                return Ok(Turn::Done);
            }
        }
        Ok(Turn::More)
    }

    /// Asks once and stores what came; tells whether there is more.
    async fn poll(&mut self, connector: &Arc<dyn Connector>) -> Result<bool, Error> {
        if !self.events.takes_events() {
            return Err(Error::Refused);
        }
        let cursor = self.come().await?.cursor;
        let now = self.clock.now();
        let polled = self.ask(connector, now, cursor.clone()).await?;
        let mut events = polled.events.into_iter();
        loop {
            let some: Vec<_> = events.by_ref().take(STORED_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let some = own_events(&self.events.log, some).await?;
            self.events.store((&self.trigger, &self.fixed), now, some).await?;
        }
        let moved = polled.cursor.filter(|moved| cursor.as_ref() != Some(moved));
        // From where it stands the provider would be asked for the same, again and again.
        let more = polled.more && moved.is_some();
        if let Some(moved) = moved {
            let (trigger_id, cursor) = (self.trigger.id.clone(), moved.clone());
            let record = Record::Polled(record::Polled { at: now, trigger_id, cursor });
            self.events.log.append_durable(vec![record]).await?;
            self.come = Some(Come { cursor: Some(moved), at: Some(now) });
        }
        self.fixed.polling.lock().last_success_at = Some(now);
        Ok(more)
    }

    /// Returns how far the trigger has come.
    async fn come(&mut self) -> Result<Come, event_log::Error> {
        if let Some(come) = &self.come {
            return Ok(come.clone());
        }
        // An actor that was here before may have stored what is not folded yet.
        let log = &self.events.log;
        let tail = *log.tail().borrow();
        log.folded(tail).await?;
        let stored = log.state().cursor(&self.trigger.id);
        let come = stored.map(|it| Come { cursor: Some(it.cursor), at: Some(it.at) }).unwrap_or_default();
        Ok(self.come.insert(come).clone())
    }

    async fn ask(
        &self,
        connector: &Arc<dyn Connector>,
        now: Timestamp,
        cursor: Option<String>,
    ) -> Result<Polled, Error> {
        let (connector, trigger_id) = (connector.clone(), self.trigger.id.clone());
        let call = async move {
            let ctx = PollCtx { trigger_id: &trigger_id, now, cursor: cursor.as_deref() };
            connector.poll_tick(ctx).await
        };
        let polled = self.callbacks.call(POLL_TIMEOUT, call).await;
        let polled = polled.map_err(|unfinished| Error::Connector(unfinished.to_string()))?;
        polled.map_err(|error| Error::Connector(error.to_string()))
    }

    /// Notes a failure; returns the pause after it.
    fn failed(&self, error: &Error) -> Duration {
        let reason = shortened(error.to_string());
        tracing::warn!(trigger_id = %self.trigger.id, error = reason, "a poll failed and is made again");
        let mut status = self.fixed.polling.lock();
        status.failure = Some((reason, self.clock.now()));
        status.failures = status.failures.saturating_add(1);
        let pause = backoff(Backoff::Exponential, status.failures).min(PAUSE_MAX);
        with_jitter(pause.max(self.every), fastrand::u32(..))
    }
}

/// Takes events in; bodies that are too large for a record go to files.
async fn own_events(log: &Log, events: Vec<PolledEvent>) -> Result<Vec<OwnEvent>, event_log::Error> {
    let mut own = Vec::with_capacity(events.len());
    for PolledEvent { kind, dedupe_key, occurred_at, body, content_type } in events {
        let body = if body.len() <= INLINE_BODY_BYTES_MAX {
            Body::Inline(body)
        } else {
            let spool = log.spool();
            let kept = tokio::task::spawn_blocking(move || spool.keep(&body)).await;
            Body::Spooled(kept.map_err(|_| event_log::Error::Closed)??)
        };
        own.push(OwnEvent { kind, occurred_at, dedupe_key, content_type, body });
    }
    Ok(own)
}

/// The status of polls, as it stands in [`Fixed`].
pub(crate) type Polling = Mutex<PollStatus>;
