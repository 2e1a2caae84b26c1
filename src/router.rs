//! Follows the log by cursor and creates the runs that subscriptions ask for.
//!
//! For every event it asks every function's subscription, in a thread of its own, and appends what came of it as
//! `Routed` records: runs to create, and which functions did not want the event and why. A duplicate of an event that
//! nobody wanted, or whose runs are dead, makes those runs anew. Records are appended lazily; the log's room for
//! lazy records is what holds the router back. Its durable cursor is the fold's
//! [`routed_through`](crate::event_log::State::routed_through). Deciding is pure and stands in `subscription`;
//! starting attempts is the dispatchers' business.
//!
//! A panic while one event is judged counts as an error of that one condition. Any other panic is caught around the
//! whole pass, which then goes on from the last record that was appended.

mod stretch;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::watch;

use self::stretch::{Decisions, Stretch};
use crate::clock::Clock;
use crate::event::{
    Body, EventId, EventState, FunctionId, Position, RunId, RunState, SkipReason, StoredEvent,
};
use crate::event_log::codec::EventHead;
use crate::event_log::record::{Cause, Created, NewRun, Record, Start};
use crate::event_log::{Error, Frame, Log, codec};
use crate::subscription::{EventView, Subscription, Subscriptions};
use crate::supervise;

/// How long the router leaves the log alone after each look at it: woken for each of some thousand commits a second,
/// it would take more of a processor by waking than by deciding, and append a record to each.
const PAUSE: Duration = Duration::from_millis(1);
/// Frames without an event after which the cursor is recorded all the same: a restart reads them again.
const FRAMES_UNRECORDED_MAX: u64 = 256;
/// First wait after a failure; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A running router. Start one for each opened log, once; new subscriptions go through the shared list.
pub struct Router {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    clock: Clock,
    subscriptions: Subscriptions,
    /// The last record on which a decision was appended, as bits of its position: where a pass begins.
    cursor: AtomicU64,
    /// The last frame that was looked at.
    looked_at: AtomicU64,
    panics: AtomicU64,
}

impl Router {
    /// Starts the router's thread. It begins where the log's fold says that routing ended.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(log: Log, clock: Clock, subscriptions: Subscriptions) -> io::Result<Self> {
        let cursor = AtomicU64::new(log.state().routed_through().bits());
        let (looked_at, panics) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { log, clock, subscriptions, cursor, looked_at, panics });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("router".to_owned()).spawn(move || {
            supervise::give_way_to_ingest();
            runtime.block_on(keep_following(&of_thread, stopped));
        })?;
        Ok(Self { stop, thread: Some(thread), shared })
    }

    /// Returns how many frames the router has not looked at yet.
    pub fn backlog(&self) -> u64 {
        let tail = *self.shared.log.tail().borrow();
        tail.saturating_sub(self.shared.looked_at.load(Ordering::Relaxed))
    }

    /// Returns how often judging events panicked since the start.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Stops and waits for the thread's end: at most for the judging of one event. What is not routed is routed
    /// after the next start. Blocks.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.end();
    }
}

/// Follows until told to stop, through panics and failures of the store.
async fn keep_following(shared: &Shared, mut stopped: watch::Receiver<bool>) {
    let mut backoff = BACKOFF_FIRST;
    while !*stopped.borrow() {
        let before = shared.cursor();
        let mut follower = Follower::new(shared, stopped.clone());
        let followed = AssertUnwindSafe(follower.follow()).catch_unwind();
        let followed = tokio::select! {
            followed = followed => followed,
            // It may wait for room in a log that gives none.
            _ = stopped.changed() => return,
        };
        match followed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "events are not routed; trying again"),
            Err(_) => {
                shared.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(cursor = %shared.cursor(), "the router panicked; going on");
            }
        }
        if shared.cursor() > before {
            backoff = BACKOFF_FIRST;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
            _ = stopped.changed() => {}
        }
    }
}

impl Shared {
    fn cursor(&self) -> Position {
        Position::from_bits(self.cursor.load(Ordering::Acquire)).expect("only positions are stored")
    }
}

/// One pass over the log, from the cursor to the tail and on.
struct Follower<'a> {
    shared: &'a Shared,
    stopped: watch::Receiver<bool>,
    /// Whom the current stretch asks.
    asked: Arc<Vec<Subscription>>,
}

impl<'a> Follower<'a> {
    fn new(shared: &'a Shared, stopped: watch::Receiver<bool>) -> Self {
        Self { shared, stopped, asked: shared.subscriptions.load_full() }
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let mut tail = self.shared.log.tail();
        let mut stretch = self.begin();
        loop {
            let last = *tail.borrow_and_update();
            while stretch.next_frame() <= last {
                self.read_frame(&mut stretch).await?;
                if *self.stopped.borrow() {
                    return Ok(());
                }
            }
            if stretch.has_events() || stretch.frames() >= FRAMES_UNRECORDED_MAX {
                self.append(&mut stretch, Vec::new()).await?;
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                changed = tail.changed() => if changed.is_err() { return Ok(()) },
                _ = self.stopped.changed() => return Ok(()),
            }
        }
    }

    /// Begins a stretch at the cursor.
    fn begin(&self) -> Stretch {
        Stretch::new(self.shared.cursor(), self.functions())
    }

    fn functions(&self) -> Vec<FunctionId> {
        self.asked.iter().map(|subscription| subscription.function().clone()).collect()
    }

    /// Looks at what is left of the stretch's next frame. A stretch that is full goes out on the way.
    async fn read_frame(&mut self, stretch: &mut Stretch) -> Result<(), Error> {
        let seq = stretch.next_frame();
        let first = stretch.next_index();
        if let Some(frame) = self.shared.log.frame(seq)? {
            for index in first..frame.len() {
                let mut created = None;
                if let Some(event) = frame.event_head(index).map_err(damaged(seq))? {
                    self.ask_anew(stretch).await?;
                    let decisions = match self.select(&event) {
                        Some(decisions) => decisions,
                        None => self.decide_on_record(&frame, index)?,
                    };
                    stretch.add(&event, decisions, self.shared.clock.now());
                } else if frame.bytes(index).is_some_and(codec::is_duplicate) {
                    self.ask_anew(stretch).await?;
                    if let Some(Record::Duplicate(duplicate)) = frame.record(index).map_err(damaged(seq))? {
                        created = self.redeliver(duplicate.first)?;
                    }
                }
                stretch.looked_at(frame.position(index));
                if created.is_some() || stretch.is_full() {
                    self.append(stretch, created.into_iter().map(Record::Created).collect()).await?;
                }
            }
        }
        stretch.skip_frame(seq);
        self.shared.looked_at.store(seq, Ordering::Relaxed);
        Ok(())
    }

    /// Appends records, then the stretch, and begins the next.
    async fn append(&self, stretch: &mut Stretch, mut records: Vec<Record>) -> Result<(), Error> {
        let through = stretch.through();
        let decided = std::mem::replace(stretch, Stretch::new(through, self.functions()));
        records.push(Record::Routed(decided.finish(self.shared.clock.now())));
        self.shared.log.append(records).await?;
        self.shared.cursor.store(through.bits(), Ordering::Release);
        Ok(())
    }

    /// Takes over subscriptions that were replaced.
    async fn ask_anew(&mut self, stretch: &mut Stretch) -> Result<(), Error> {
        let current = self.shared.subscriptions.load();
        if Arc::ptr_eq(&current, &self.asked) {
            return Ok(());
        }
        if stretch.has_events() {
            self.append(stretch, Vec::new()).await?;
        }
        self.asked = Arc::clone(&current);
        stretch.ask(self.functions());
        Ok(())
    }

    /// Decides on an event by its head; nothing where a condition has to be asked.
    fn select(&self, event: &EventHead<'_>) -> Option<Decisions> {
        let select = |subscription: &Subscription| {
            let selected = subscription.selects(&event.trigger_id, event.kind);
            (selected.is_err() || !subscription.is_conditional()).then_some(selected)
        };
        self.asked.iter().map(select).collect()
    }

    fn decide_on_record(&self, frame: &Frame, index: usize) -> Result<Decisions, Error> {
        match frame.record(index).map_err(damaged(frame.seq()))? {
            Some(Record::Event(event)) => self.decide(&event),
            _ => unreachable!("a record with an event's head is an event"),
        }
    }

    /// Asks every subscription whether it wants the event.
    fn decide(&self, event: &StoredEvent) -> Result<Decisions, Error> {
        let body = self.spooled_body(event)?;
        let view =
            body.as_ref().map_or_else(|| EventView::of(event), |body| EventView::with_body(event, body));
        let wants = |subscription: &Subscription| {
            catch_unwind(AssertUnwindSafe(|| subscription.wants(&view))).unwrap_or_else(|_| {
                self.shared.panics.fetch_add(1, Ordering::Relaxed);
                let (event_id, function_id) = (event.id, subscription.function());
                tracing::error!(%event_id, %function_id, "judging an event panicked");
                Err(SkipReason::WhenError)
            })
        };
        Ok(self.asked.iter().map(wants).collect())
    }

    /// Reads a spooled body where a condition needs it. One that is gone counts as absent.
    fn spooled_body(&self, event: &StoredEvent) -> Result<Option<Bytes>, Error> {
        let is_read = |subscription: &Subscription| {
            let content = &event.content;
            subscription.reads_payload() && subscription.selects(&content.trigger_id, &content.kind).is_ok()
        };
        if matches!(event.content.body, Body::Inline(_)) || !self.asked.iter().any(is_read) {
            return Ok(None);
        }
        match self.shared.log.body(event) {
            Ok(body) => Ok(Some(body)),
            Err(Error::Body { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes runs anew for a duplicate of an event that nobody wanted, or whose runs are dead.
    fn redeliver(&self, first: EventId) -> Result<Option<Created>, Error> {
        let log = &self.shared.log;
        let state = log.state();
        // The live decision is under way: there is nothing to make anew yet.
        if first.position() > state.routed_through() {
            return Ok(None);
        }
        let functions = match state.event_state(first)? {
            EventState::Open | EventState::Done => return Ok(None),
            EventState::Unrouted => {
                let Some(event) = log.event(first)? else { return Ok(None) };
                let decisions = self.decide(&event)?;
                let wanting = self.asked.iter().zip(decisions).filter(|(_, wants)| wants.is_ok());
                wanting.map(|(subscription, _)| subscription.function().clone()).collect()
            }
            EventState::Dead => self.dead_functions(first)?,
        };
        if functions.is_empty() {
            return Ok(None);
        }
        let Some(event) = log.event(first)? else { return Ok(None) };
        let at = self.shared.clock.now();
        let is_paused = state.trigger(&event.content.trigger_id).paused;
        let mut runs = Vec::with_capacity(functions.len());
        for function in functions {
            let generation = state.next_generation(first, &function)?;
            runs.push(NewRun {
                id: RunId { event: first, function, generation },
                trigger_id: event.content.trigger_id.clone(),
                kind: event.content.kind.clone(),
                cause: Cause::Redelivery,
                start: if is_paused { Start::Held } else { Start::Due(at) },
            });
        }
        Ok(Some(Created { at, runs }))
    }

    /// Returns the functions whose latest run of the event is dead and that still exist.
    fn dead_functions(&self, event: EventId) -> Result<Vec<FunctionId>, Error> {
        // By function and generation: the last of each function is its latest.
        let runs = self.shared.log.state().runs_of(event)?;
        let latest = runs.chunk_by(|a, b| a.id.function == b.id.function).filter_map(|runs| runs.last());
        let dead = latest.filter(|run| run.state == RunState::Dead).map(|run| run.id.function.clone());
        Ok(dead.filter(|id| self.asked.iter().any(|known| known.function() == id)).collect())
    }
}

fn damaged(frame: u64) -> impl Fn(codec::DecodeError) -> Error {
    move |error| Error::Damaged { frame, reason: error.to_string() }
}

#[cfg(test)]
mod tests;
