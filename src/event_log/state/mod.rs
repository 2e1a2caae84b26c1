//! Derived state: runs, their due times, switches and sealed secrets, folded from the log's records.
//!
//! A thread of its own follows the commits. What it changes is readable at once and reaches the table in
//! batches, each with a mark that says how far the table has come; after a crash the fold goes on from
//! there. A table that is lost or does not fit is folded anew from the log, so nothing here is ever the
//! only copy. What the fold changes is in `core`; here is what others ask of it.

mod core;
mod decided;
mod due;
mod follow;
mod keys;
mod listing;
mod overlay;
mod permits;
mod rows;
mod secrets;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use self::core::{DueRun, Taken};
pub(crate) use self::follow::Follower;
pub use self::permits::PermitsState;
pub use self::rows::{
    AttemptSummary, FunctionState, HISTORY_MAX, PollCursor, Run, ScheduleState, TriggerState,
};
pub use self::secrets::{Rotation, SECRETS_KEPT_MAX};

use self::core::Core;
use self::overlay::after_prefix;
use self::table::Table;
use super::reader::Reader;
use super::record::{Record, SecretTimes, SkipReason};
use super::{Error, Page};
use crate::event::{
    EventId, EventState, FunctionId, Position, ProviderId, RunId, RunState, Timestamp, TriggerId,
};
use crate::frames::Seq;

/// Most rows that one listing looks at before it hands back a cursor.
const LIST_SCAN_MAX: usize = 20_000;

/// How far the fold has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The last frame that is folded.
    pub(crate) frame: Seq,
    /// The fold met an error and goes no further.
    pub(crate) failed: bool,
}

/// The fold of the log. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

pub(crate) struct Shared {
    core: Mutex<Core>,
    table: Arc<dyn Table>,
    reader: Arc<Reader>,
    progress: watch::Sender<Progress>,
    failure: Mutex<Option<Error>>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// In this state.
    pub state: Option<RunState>,
    /// Of this function.
    pub function: Option<FunctionId>,
    /// Of this trigger's events.
    pub trigger: Option<TriggerId>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
}

/// What the router decided on an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// When.
    pub at: Timestamp,
    /// The functions that were asked, in configured order.
    pub functions: Vec<FunctionId>,
    /// Those that did not want it, and why.
    pub skipped: Vec<(FunctionId, SkipReason)>,
    /// Where the decision is recorded.
    pub position: Position,
}

/// Sums over the whole log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events stored.
    pub events: u64,
    /// Duplicates met.
    pub duplicates: u64,
    /// Runs of each function by state; those in flight are running.
    pub runs: BTreeMap<FunctionId, BTreeMap<RunState, u64>>,
}

impl Counts {
    /// Returns all functions' runs in a state.
    pub fn in_state(&self, state: RunState) -> u64 {
        self.runs.values().filter_map(|counts| counts.get(&state)).sum()
    }
}

impl State {
    /// Loads the fold and brings it up to the log's tail.
    pub(crate) fn open(table: Arc<dyn Table>, reader: Arc<Reader>, tail: Seq) -> Result<Self, Error> {
        let core = Mutex::new(Core::load(Arc::clone(&table), Arc::clone(&reader), tail)?);
        let (progress, failure) = (watch::Sender::default(), Mutex::default());
        let state = Self(Arc::new(Shared { core, table, reader, progress, failure }));
        state.0.catch_up()?;
        Ok(state)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Returns a run.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn run(&self, id: &RunId) -> Result<Option<Run>, Error> {
        self.0.core.lock().run(id)
    }

    /// Returns all runs of an event, by function and generation.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn runs_of(&self, event: EventId) -> Result<Vec<Run>, Error> {
        self.0.core.lock().runs_of(event)
    }

    /// Returns the generation that the next run of an event and function has, counted from 1.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn next_generation(&self, event: EventId, function: &FunctionId) -> Result<u32, Error> {
        let runs = self.runs_of(event)?;
        Ok(runs.iter().rfind(|run| run.id.function == *function).map_or(0, |run| run.id.generation) + 1)
    }

    /// Returns an event's state. The event must exist.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn event_state(&self, event: EventId) -> Result<EventState, Error> {
        // In this order: the fold may create the runs between the two.
        let routed = self.routed_through() >= event.position();
        Ok(event_state(routed, &self.runs_of(event)?))
    }

    /// Returns what the router decided on an event; nothing while it has not come to it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn routing(&self, event: EventId) -> Result<Option<Routing>, Error> {
        let (from, end) = (keys::routed_key(event.position()), after_prefix(&keys::all_routed()));
        let mut found = None;
        self.0.core.lock().rows.scan(Bound::Included(&from), Bound::Excluded(&end), false, |_, value| {
            found = rows::decode_position(value);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(position) = found else { return Ok(None) };
        let Some(Record::Routed(routed)) = self.0.reader.record(position)? else { return Ok(None) };
        let of_event = routed.skipped.iter().filter(|skip| skip.event == event.position());
        let skipped = of_event.filter_map(|skip| {
            let function = routed.functions.get(skip.function as usize)?;
            Some((function.clone(), skip.reason))
        });
        let skipped = skipped.collect();
        Ok(Some(Routing { at: routed.at, functions: routed.functions, skipped, position }))
    }

    /// Lists runs, those of the newest events first. A page may hold fewer than `limit` runs and still
    /// have a cursor, since a listing looks at a bounded number of rows.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn runs(
        &self,
        filter: &RunFilter,
        cursor: Option<&RunId>,
        limit: usize,
    ) -> Result<Page<Run, RunId>, Error> {
        let core = self.0.core.lock();
        let mut page = Page { items: Vec::new(), next: None };
        let mut looked_at = 0;
        core.visit_runs(filter.state == Some(RunState::Dead), cursor, |run| {
            let run = core.with_flight(run);
            looked_at += 1;
            let id = run.id.clone();
            if filter.wants(&run) {
                page.items.push(run);
            }
            if page.items.len() < limit && looked_at < LIST_SCAN_MAX {
                return Ok(ControlFlow::Continue(()));
            }
            page.next = Some(id);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(page)
    }

    /// Returns how far the router has come: its decisions on all records up to there are folded.
    pub fn routed_through(&self) -> Position {
        self.0.core.lock().mark.routed_through
    }

    /// Returns how many frames are folded.
    pub fn applied(&self) -> u64 {
        self.0.progress.borrow().frame
    }

    /// Takes up to `max` due runs of a function, in the order of their due times, and marks them in
    /// flight: each ends with an `Attempted` record, or with [`release`](Self::release). A paused
    /// function gives nothing and keeps its runs.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn take_due(&self, function: &FunctionId, now_ms: i64, max: usize) -> Result<Taken, Error> {
        self.0.core.lock().take_due(function, now_ms, max)
    }

    /// Hands a run back without an attempt: it is due as before.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn release(&self, run: &RunId) -> Result<(), Error> {
        self.0.core.lock().release(run)
    }

    /// Registers who is woken when a run of the function may have become due, or its switch or breaker
    /// changed. Woken once at once; one for each function, the last one counts.
    pub fn on_due(&self, function: &FunctionId, notify: Arc<Notify>) {
        self.0.core.lock().on_due(function, notify);
    }

    /// Returns a trigger's state.
    pub fn trigger(&self, id: &TriggerId) -> TriggerState {
        self.0.core.lock().triggers.get(id).cloned().unwrap_or_default()
    }

    /// Returns how far a trigger's schedule has come; nothing where it never began.
    pub fn schedule(&self, id: &TriggerId) -> Option<ScheduleState> {
        self.0.core.lock().schedules.get(id).cloned()
    }

    /// Returns what is known of a provider's rate limits.
    pub fn permits(&self, id: &ProviderId) -> PermitsState {
        self.0.core.lock().permits.get(id).cloned().unwrap_or_default()
    }

    /// Returns how far a poll trigger has come; nothing where it has no cursor yet.
    pub fn cursor(&self, id: &TriggerId) -> Option<PollCursor> {
        self.0.core.lock().cursors.get(id).cloned()
    }

    /// Returns a function's state.
    pub fn function(&self, id: &FunctionId) -> FunctionState {
        self.0.core.lock().function_states.get(id).cloned().unwrap_or_default()
    }

    /// Returns the sums over the whole log.
    pub fn counts(&self) -> Counts {
        let core = self.0.core.lock();
        Counts { events: core.mark.events, duplicates: core.mark.duplicates, runs: core.counts() }
    }

    /// Returns a sealed secret's ciphertext.
    pub fn sealed(&self, name: &str) -> Option<Bytes> {
        self.0.core.lock().sealed.get(name).cloned()
    }

    /// Returns when the secrets of a trigger verified, those that it had first in front.
    pub fn secret_times(&self, id: &TriggerId) -> Vec<SecretTimes> {
        self.0.core.lock().secrets.times.get(id).cloned().unwrap_or_default()
    }

    /// Returns the kept secrets that are being replaced, by name.
    pub fn rotations(&self) -> BTreeMap<String, Rotation> {
        self.0.core.lock().secrets.rotations.clone()
    }

    /// Tells whether a secret of another name is sealed.
    pub fn seals_more_than(&self, name: &str) -> bool {
        let core = self.0.core.lock();
        core.sealed.iter().any(|(other, sealed)| other != name && !sealed.is_empty())
    }

    /// Returns the names of all sealed secrets.
    pub fn sealed_names(&self) -> Vec<String> {
        self.0.core.lock().sealed.keys().cloned().collect()
    }

    /// Returns frames that hold lines of a topic, from `from` on, in order.
    pub(crate) fn frames_of_topic(&self, topic: &str, from: Seq, max: usize) -> Result<Vec<Seq>, Error> {
        let (from, end) = (keys::topic_key(topic, from), after_prefix(&keys::frames_of_topic(topic)));
        let mut frames = Vec::new();
        self.0.core.lock().rows.scan(Bound::Included(&from), Bound::Excluded(&end), false, |key, _| {
            frames.extend(keys::frame_of_topic_key(key));
            Ok(if frames.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(frames)
    }

    /// Returns the indexed topics that have lines.
    pub(crate) fn topics(&self) -> Result<Vec<String>, Error> {
        let core = self.0.core.lock();
        let (mut from, end) = (keys::all_topics(), after_prefix(&keys::all_topics()));
        let mut topics = Vec::new();
        loop {
            let mut found: Option<String> = None;
            core.rows.scan(Bound::Included(&from), Bound::Excluded(&end), false, |key, _| {
                found = keys::topic_of_key(key).map(str::to_owned);
                Ok(ControlFlow::Break(()))
            })?;
            let Some(topic) = found else { return Ok(topics) };
            from = after_prefix(&keys::frames_of_topic(&topic));
            topics.push(topic);
        }
    }

    /// Tells whether a durable event refers to a spooled body.
    pub(crate) fn refers_to_body(&self, name: &str) -> Result<bool, Error> {
        Ok(self.0.core.lock().rows.get(&keys::body_key(name))?.is_some())
    }

    /// Why the fold goes no further, if so.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.0.failure.lock().clone()
    }
}

impl RunFilter {
    fn wants(&self, run: &Run) -> bool {
        self.state.is_none_or(|state| run.state == state)
            && self.function.as_ref().is_none_or(|function| run.id.function == *function)
            && self.trigger.as_ref().is_none_or(|trigger| run.trigger_id == *trigger)
            && self.since.is_none_or(|since| run.created_at >= since)
            && self.until.is_none_or(|until| run.created_at < until)
    }
}

/// Derives an event's state from its runs. Runs that a subscription's `when` refused do not count as asked for.
fn event_state(routed: bool, runs: &[Run]) -> EventState {
    let mut latest: BTreeMap<&FunctionId, &Run> = BTreeMap::new();
    for run in runs {
        let slot = latest.entry(&run.id.function).or_insert(run);
        if run.id.generation >= slot.id.generation {
            *slot = run;
        }
    }
    if !routed || runs.iter().any(|run| !run.state.is_final()) {
        EventState::Open
    } else if runs.iter().all(|run| run.state == RunState::Skipped) {
        EventState::Unrouted
    } else if latest.values().any(|run| run.state == RunState::Dead) {
        EventState::Dead
    } else {
        EventState::Done
    }
}

/// A mark of the table that claims to have come to `next`.
#[cfg(test)]
pub(crate) fn mark_at(next: Position) -> Vec<u8> {
    rows::encode_mark(&rows::Mark { next, ..rows::Mark::default() })
}
