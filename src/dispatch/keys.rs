//! Concurrency keys of the runs that were taken: read from their events, and from their bodies if need be.
//!
//! That may wait for the disk, so it is done beside the thread that dispatchers share: for each function one batch of
//! runs at a time, and one body of it at a time. Runs keep the order in which they were taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::dispatcher::STORE_PAUSE;
use super::shared::Shared;
use crate::event::{Body, EventId};
use crate::event_log::{DueRun, Error, Log};
use crate::subscription::{EventView, Expression, Key};

/// Runs on their way to their places. Those that are still here when it is dropped are handed back.
pub(super) struct Keying {
    shared: Arc<Shared>,
    runs: Vec<DueRun>,
}

impl Keying {
    pub(super) fn new(shared: Arc<Shared>, runs: Vec<DueRun>) -> Self {
        Self { shared, runs }
    }

    fn hand_back(&mut self) {
        for run in self.runs.drain(..) {
            self.shared.hand_back(&run.id);
        }
    }
}

impl Drop for Keying {
    fn drop(&mut self) {
        self.hand_back();
        self.shared.core.lock().keying = None;
        self.shared.left.notify_waiters();
        self.shared.wake.notify_one();
    }
}

/// Lets runs wait for the places of their keys. Where the store fails, the run and those behind it are handed back,
/// and nothing is taken for a while.
pub(super) async fn find(mut keying: Keying) {
    let shared = Arc::clone(&keying.shared);
    let events: Vec<EventId> = keying.runs.iter().map(|run| run.id.event).collect();
    let reader = Arc::clone(&shared);
    let read = tokio::task::spawn_blocking(move || keys_of(&reader, &events)).await;
    let (keys, failure) =
        read.unwrap_or_else(|error| (Vec::new(), Some(Error::Failing(format!("reading panicked: {error}")))));
    {
        let mut core = shared.core.lock();
        let runs = keying.runs.drain(..keys.len());
        runs.zip(keys).for_each(|(run, key)| core.slots.push(key, run));
    }
    if let Some(error) = failure {
        tracing::warn!(function_id = %shared.function.id, %error, "concurrency keys could not be read; waiting");
        keying.hand_back();
        shared.wake.notify_one();
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

/// Returns the keys of events, up to the first that cannot be read.
fn keys_of(shared: &Shared, events: &[EventId]) -> (Vec<Option<Key>>, Option<Error>) {
    let mut keys = Vec::with_capacity(events.len());
    for event in events {
        match shared.key.as_ref().map_or(Ok(None), |expression| key_of(&shared.log, expression, *event)) {
            Ok(key) => keys.push(key),
            Err(error) => return (keys, Some(error)),
        }
    }
    (keys, None)
}

/// Returns an event's key; none where the event or its body is gone, or the expression errs on it.
fn key_of(log: &Log, expression: &Expression, event: EventId) -> Result<Option<Key>, Error> {
    let Some(event) = log.event(event)? else { return Ok(None) };
    let body = match &event.content.body {
        Body::Spooled(_) if expression.reads_payload() => match log.body(&event) {
            Ok(body) => Some(body),
            Err(Error::Body { .. }) => return Ok(None),
            Err(error) => return Err(error),
        },
        _ => None,
    };
    let view = body.as_ref().map_or_else(|| EventView::of(&event), |body| EventView::with_body(&event, body));
    Ok(catch_unwind(AssertUnwindSafe(|| expression.key(&view))).unwrap_or(None))
}
