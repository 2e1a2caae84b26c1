//! One attempt of one run, as a task of its own: read the event, call the handler, record what came of it.
//!
//! Whatever happens here costs this attempt and nothing else: a panic of the handler is an answer like any
//! other, a timeout drops the call, and a dropped task hands its run back.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::outcome::{self, BODY_MISSING};
use super::shared::Shared;
use crate::event::{Body, EventId, StoredEvent, Timestamp};
use crate::event_log::record::{Attempted, Next, Record};
use crate::event_log::{DueRun, Error};
use crate::function::{Answer, Invocation, RESULT_BYTES_MAX, Verdict};
use crate::subscription::Key;

/// Most bytes of a note that are recorded.
const NOTE_BYTES_MAX: usize = 8 * 1024;
/// First wait after the log could not be read; doubled each time.
const READ_BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest such wait.
const READ_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A run's place among those in flight. Dropped without a record, it hands the run back.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) run: DueRun,
    pub(super) key: Option<Key>,
    pub(super) is_recorded: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.leave(&self.run.id, self.key.take(), !self.is_recorded);
    }
}

/// What the attempt needs of its event, or why it is not to be had.
enum Loaded {
    /// The event, its body, and the room that the body takes.
    Event(Arc<StoredEvent>, Bytes, Option<OwnedSemaphorePermit>),
    Missing(String),
}

/// Makes the attempt and records it. Returns early only by being dropped.
pub(super) async fn make(mut place: Place) {
    let shared = Arc::clone(&place.shared);
    let run = &place.run;
    let loaded = AssertUnwindSafe(load(&shared, run)).catch_unwind().await;
    let started_at = shared.clock.now();
    let timer = Instant::now();
    let (answer, is_missing) = match loaded {
        Ok(Loaded::Event(event, body, _room)) => (call(&shared, run, event, body, started_at).await, false),
        Ok(Loaded::Missing(note)) => (failed(Verdict::Fail, note), true),
        Err(panic) => (panicked(&shared, run, panic.as_ref()), false),
    };
    let duration = timer.elapsed();
    let ended_at = shared.clock.now();
    let random = fastrand::u32(..);
    let next = if is_missing {
        Next::Dead(BODY_MISSING.to_owned())
    } else {
        outcome::next(&shared.function.retry, run.attempt, &answer, ended_at, random)
    };
    let breaker = outcome::for_breaker(&answer.verdict);
    let record = Attempted {
        run: run.id.clone(),
        attempt: run.attempt,
        started_at,
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        status: answer.status,
        note: bounded(answer.note),
        answer: answer.answer.slice(..answer.answer.len().min(RESULT_BYTES_MAX)),
        next,
    };
    let mut records = vec![Record::Attempted(record)];
    if !is_missing {
        records.extend(shared.note_outcome(&run.id, breaker, ended_at, random));
    }
    if let Err(error) = shared.log.append(records).await {
        // The log takes nothing more until it is opened again. The run stays in flight until then, so that it is
        // not called over and over without a trace.
        tracing::error!(run_id = %run.id, attempt = run.attempt, %error, "an attempt could not be recorded");
        std::future::pending::<()>().await;
    }
    place.is_recorded = true;
}

/// Reads the event and its body. Waits out failures of the store: they are not the run's.
async fn load(shared: &Arc<Shared>, run: &DueRun) -> Loaded {
    let mut backoff = READ_BACKOFF_FIRST;
    loop {
        let event = read(shared, run.id.event).await;
        match event {
            Ok(Some(event)) => return load_body(shared, event).await,
            Ok(None) => return Loaded::Missing("the event is no longer in the log".to_owned()),
            Err(error) => {
                tracing::warn!(run_id = %run.id, %error, "an event could not be read; waiting");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(READ_BACKOFF_MAX);
            }
        }
    }
}

/// Reads an event. Runs are taken in the order of their events, and events come by the frame: most are at hand
/// once the first of theirs was read.
async fn read(shared: &Arc<Shared>, id: EventId) -> Result<Option<Arc<StoredEvent>>, Error> {
    if let Some(event) = shared.log.event_at_hand(id)? {
        return Ok(Some(event));
    }
    let _turn = shared.reads.acquire().await;
    if let Some(event) = shared.log.event_at_hand(id)? {
        return Ok(Some(event));
    }
    let log = shared.log.clone();
    blocking(move || log.event(id)).await
}

async fn load_body(shared: &Arc<Shared>, event: Arc<StoredEvent>) -> Loaded {
    let spooled = match &event.content.body {
        Body::Inline(body) => {
            let body = body.clone();
            return Loaded::Event(event, body, None);
        }
        Body::Spooled(spooled) => spooled,
    };
    let room = shared.room_for_body(spooled.bytes).await;
    let (log, of) = (shared.log.clone(), Arc::clone(&event));
    match blocking(move || log.body(&of)).await {
        Ok(body) => Loaded::Event(event, body, room),
        Err(error) => Loaded::Missing(error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let joined = tokio::task::spawn_blocking(read).await;
    joined.unwrap_or_else(|error| Err(Error::Failing(format!("reading panicked: {error}"))))
}

/// Calls the handler within the function's timeout; a panic is an answer.
async fn call(shared: &Shared, run: &DueRun, event: Arc<StoredEvent>, body: Bytes, now: Timestamp) -> Answer {
    let timeout = shared.function.timeout;
    let invocation = Invocation { run: run.id.clone(), attempt: run.attempt, event, body, now, timeout };
    let call = AssertUnwindSafe(async { shared.handler.call(invocation).await }).catch_unwind();
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => panicked(shared, run, panic.as_ref()),
        Err(_) => failed(Verdict::Retry { after: None }, format!("timed out after {timeout:?}")),
    }
}

fn panicked(shared: &Shared, run: &DueRun, panic: &(dyn Any + Send)) -> Answer {
    let message = panic_message(panic);
    tracing::error!(run_id = %run.id, attempt = run.attempt, message, "an attempt panicked");
    shared.panics.fetch_add(1, Ordering::Relaxed);
    failed(Verdict::Retry { after: None }, format!("the handler panicked: {message}"))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn failed(verdict: Verdict, note: String) -> Answer {
    Answer { verdict, status: None, note, answer: Bytes::new() }
}

fn bounded(mut note: String) -> String {
    note.truncate(note.floor_char_boundary(NOTE_BYTES_MAX));
    note
}
