//! Stored events become new runs.
//!
//! A replay reads events back from the log, asks the subscriptions as they are now, and creates runs of the next
//! generation. It passes no dedupe and no front door, so nothing swallows it; deliveries are signed afresh as those of
//! any run. A replay of many goes through the log in slices, so its memory does not depend on how many they are.
//! Who may ask for it, and how it is shown, is the admin API's business.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::event::{
    Body, EventId, EventState, FunctionId, Position, ProviderId, RunId, RunState, SkipReason, StoredEvent,
    Timestamp, TriggerId,
};
use crate::event_log::record::{Cause, Created, NewRun, Record, Start};
use crate::event_log::{self, EventScan, Log, Run};
use crate::subscription::{EventView, Glob, Subscription, Subscriptions};

/// Most events that one slice replays. More would hold a lock of the state longer, fewer would flush more often.
const SLICE_EVENTS_MAX: usize = 256;
/// Most events that one slice looks at.
const SLICE_SCAN_MAX: usize = 4_096;
/// Most runs in one record: it must fit a frame.
const RUNS_PER_RECORD: usize = 1_024;
/// Most decisions that a progress shows one by one.
pub const EXAMPLES_MAX: usize = 100;

/// A replay that was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such function.
    #[error("there is no function {0}")]
    UnknownFunction(FunctionId),
    /// The log failed. What was started before goes on.
    #[error(transparent)]
    Log(#[from] event_log::Error),
    /// A bug: reading panicked.
    #[error("reading the log panicked")]
    Panicked,
}

/// Which events to replay. All conditions hold together; none means all events.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this trigger.
    pub trigger: Option<TriggerId>,
    /// Of this provider.
    pub provider: Option<ProviderId>,
    /// Of a kind that matches.
    pub kind: Option<Glob>,
    /// In this state; with `function`, as far as that function's runs go.
    pub state: Option<EventState>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// That have a run of this function.
    pub function: Option<FunctionId>,
}

/// Which functions to run.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these; empty means all.
    pub functions: Vec<FunctionId>,
    /// Also where the function's subscription does not want the event. Counts only for functions named.
    pub force: bool,
}

/// What to replay, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Which events.
    pub filter: Filter,
    /// Which functions.
    pub choice: Choice,
    /// Most runs to start per second; none means as fast as they can be recorded.
    pub per_second: Option<f64>,
    /// Decide everything, start nothing.
    pub dry_run: bool,
}

/// What a replay decided on one event and one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The event.
    pub event: EventId,
    /// The function.
    pub function: FunctionId,
    /// The run that it starts, or why it starts none.
    pub outcome: Result<RunId, SkipReason>,
}

/// How far a replay has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that match.
    pub matched: u64,
    /// Runs started; in a dry run, that would be.
    pub started: u64,
    /// Functions that did not want events, by reason.
    pub skipped: BTreeMap<(FunctionId, &'static str), u64>,
    /// The first decisions, at most [`EXAMPLES_MAX`].
    pub examples: Vec<Decision>,
    /// The last record looked at.
    pub at: Position,
    /// The last record that will be looked at.
    pub through: Position,
    /// It came to its end.
    pub is_done: bool,
}

/// Replays events. Cheap to clone; make one for each opened log.
#[derive(Clone)]
pub struct Replayer {
    log: Log,
    clock: Clock,
    subscriptions: Subscriptions,
    /// Held from choosing generations until their runs are folded, so that two replays never choose the same.
    gate: Arc<Mutex<()>>,
}

impl Replayer {
    /// Returns a replayer that asks the given subscriptions.
    pub fn new(log: Log, clock: Clock, subscriptions: Subscriptions) -> Self {
        Self { log, clock, subscriptions, gate: Arc::default() }
    }

    /// Replays one event; nothing if there is no such event. What was decided for each function is returned when
    /// its runs are durable.
    ///
    /// # Errors
    ///
    /// If a named function does not exist, or the log fails.
    pub async fn one(
        &self,
        event: EventId,
        choice: &Choice,
        dry_run: bool,
    ) -> Result<Option<Vec<Decision>>, Error> {
        self.validate(choice)?;
        let _gate = self.gate.lock().await;
        let (replayer, choice) = (self.clone(), choice.clone());
        let planned = blocking(move || match replayer.log.event(event)? {
            Some(event) => Ok(Some(replayer.plan(&event, &choice)?)),
            None => Ok(None),
        });
        let Some(planned) = planned.await? else { return Ok(None) };
        if !dry_run {
            self.start(&planned).await?;
        }
        Ok(Some(planned.into_iter().map(|planned| planned.decision).collect()))
    }

    /// Starts new runs of the events and functions of the given runs, whatever subscriptions say: what an operator
    /// does with dead letters. Runs whose event or function is gone are passed over. Give at most some hundred.
    ///
    /// # Errors
    ///
    /// If the log fails.
    pub async fn runs(&self, runs: Vec<RunId>) -> Result<Vec<Decision>, Error> {
        let _gate = self.gate.lock().await;
        let replayer = self.clone();
        let planned = blocking(move || {
            let known = replayer.subscriptions.load();
            let mut planned = Vec::new();
            for run in runs {
                let is_known = known.iter().any(|subscription| *subscription.function() == run.function);
                if let Some(event) = replayer.log.event(run.event)?.filter(|_| is_known) {
                    planned.push(replayer.planned(&event, run.function, Ok(()))?);
                }
            }
            Ok(planned)
        });
        let planned = planned.await?;
        self.start(&planned).await?;
        Ok(planned.into_iter().map(|planned| planned.decision).collect())
    }

    /// Replays all events that match and are in the log now, oldest first. `progress` is called after each slice
    /// and at the end; it can break off, what was started then goes on.
    ///
    /// # Errors
    ///
    /// If a named function does not exist, or the log fails.
    pub async fn many(
        &self,
        request: &Request,
        mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Progress, Error> {
        self.validate(&request.choice)?;
        let (log, filter) = (self.log.clone(), request.filter.clone());
        let (at, through) = blocking(move || range(&log, &filter)).await?;
        let mut come = Progress { at, through, ..Progress::default() };
        let request = Arc::new(request.clone());
        while !come.is_done {
            let started_before = come.started;
            {
                let _gate = self.gate.lock().await;
                let (replayer, asked, from) = (self.clone(), Arc::clone(&request), come.at);
                let slice = blocking(move || replayer.slice(&asked, from, through)).await?;
                if !request.dry_run {
                    self.start(&slice.planned).await?;
                }
                come.add(slice);
            }
            if progress(&come).is_break() {
                return Ok(come);
            }
            if let Some(per_second) = request.per_second.filter(|rate| *rate > 0.0 && !request.dry_run) {
                let pause = (come.started - started_before) as f64 / per_second;
                tokio::time::sleep(Duration::try_from_secs_f64(pause).unwrap_or_default()).await;
            }
        }
        Ok(come)
    }

    fn validate(&self, choice: &Choice) -> Result<(), Error> {
        let known = self.subscriptions.load();
        let is_known = |id: &FunctionId| known.iter().any(|subscription| subscription.function() == id);
        match choice.functions.iter().find(|id| !is_known(id)) {
            Some(unknown) => Err(Error::UnknownFunction(unknown.clone())),
            None => Ok(()),
        }
    }

    /// Reads the next events that match and decides on them.
    fn slice(&self, request: &Request, from: Position, through: Position) -> Result<Slice, event_log::Error> {
        // A slow replay starts its runs evenly, not in bursts.
        let limit = request.per_second.map_or(SLICE_EVENTS_MAX, |rate| {
            if rate.is_finite() { (rate as usize).clamp(1, SLICE_EVENTS_MAX) } else { SLICE_EVENTS_MAX }
        });
        let scan = EventScan { limit, scan_max: SLICE_SCAN_MAX };
        let filter = &request.filter;
        let page = self.log.events_after(Some(from), scan, |event| filter.matches(event))?;
        let mut slice = Slice { matched: 0, planned: Vec::new(), at: page.next };
        for event in page.items {
            if event.id.position() > through {
                slice.at = None;
                break;
            }
            if self.is_in_state(filter, event.id)? {
                slice.matched += 1;
                slice.planned.extend(self.plan(&event, &request.choice)?);
            }
        }
        slice.at = slice.at.filter(|at| *at < through);
        Ok(slice)
    }

    /// Tells whether an event's runs are as the filter wants them.
    fn is_in_state(&self, filter: &Filter, event: EventId) -> Result<bool, event_log::Error> {
        let Some(function) = &filter.function else {
            return match filter.state {
                Some(wanted) => Ok(self.log.state().event_state(event)? == wanted),
                None => Ok(true),
            };
        };
        let runs = self.log.state().runs_of(event)?;
        let latest =
            runs.iter().filter(|run| run.id.function == *function).max_by_key(|run| run.id.generation);
        Ok(latest.is_some_and(|run| filter.state.is_none_or(|wanted| state_of(run) == wanted)))
    }

    /// Decides which functions an event starts, in configured order.
    fn plan(&self, event: &StoredEvent, choice: &Choice) -> Result<Vec<Planned>, event_log::Error> {
        let subscriptions = self.subscriptions.load();
        let is_named = |subscription: &&Subscription| {
            choice.functions.is_empty() || choice.functions.contains(subscription.function())
        };
        let asked: Vec<_> = subscriptions.iter().filter(is_named).collect();
        let body = match &event.content.body {
            Body::Spooled(_) if asked.iter().any(|subscription| subscription.reads_payload()) => {
                match self.log.body(event) {
                    Ok(body) => Some(body),
                    Err(event_log::Error::Body { .. }) => None,
                    Err(error) => return Err(error),
                }
            }
            _ => None,
        };
        let view =
            body.as_ref().map_or_else(|| EventView::of(event), |body| EventView::with_body(event, body));
        let is_forced = choice.force && !choice.functions.is_empty();
        let wants = |subscription: &Subscription| {
            let asked = catch_unwind(AssertUnwindSafe(|| subscription.wants(&view)));
            asked.unwrap_or(Err(SkipReason::WhenError))
        };
        let plan = |subscription: &Subscription| {
            let wanted = if is_forced { Ok(()) } else { wants(subscription) };
            self.planned(event, subscription.function().clone(), wanted)
        };
        asked.into_iter().map(plan).collect()
    }

    fn planned(
        &self,
        event: &StoredEvent,
        function: FunctionId,
        wanted: Result<(), SkipReason>,
    ) -> Result<Planned, event_log::Error> {
        let outcome = match wanted {
            Ok(()) => {
                let generation = self.log.state().next_generation(event.id, &function)?;
                Ok(RunId { event: event.id, function: function.clone(), generation })
            }
            Err(reason) => Err(reason),
        };
        Ok(Planned {
            decision: Decision { event: event.id, function, outcome },
            trigger_id: event.content.trigger_id.clone(),
            kind: event.content.kind.clone(),
        })
    }

    /// Creates the planned runs and returns when they are durable and folded.
    async fn start(&self, planned: &[Planned]) -> Result<(), Error> {
        let at = self.clock.now();
        let runs: Vec<_> = planned.iter().filter_map(|planned| planned.run(at)).collect();
        if runs.is_empty() {
            return Ok(());
        }
        let created = runs.chunks(RUNS_PER_RECORD).map(|runs| Created { at, runs: runs.to_vec() });
        self.log.append_durable(created.map(Record::Created).collect()).await?;
        Ok(())
    }
}

/// A decision, and what its run needs to be created.
struct Planned {
    decision: Decision,
    trigger_id: TriggerId,
    kind: String,
}

impl Planned {
    fn run(&self, at: Timestamp) -> Option<NewRun> {
        let id = self.decision.outcome.as_ref().ok()?.clone();
        let replay_of = (id.generation > 1).then(|| RunId { generation: id.generation - 1, ..id.clone() });
        Some(NewRun {
            id,
            trigger_id: self.trigger_id.clone(),
            kind: self.kind.clone(),
            cause: Cause::Replay { replay_of },
            // Whoever replays wants it to run, also while the trigger is paused.
            start: Start::Due(at),
        })
    }
}

/// Some events of the log, decided on.
struct Slice {
    matched: u64,
    planned: Vec<Planned>,
    /// Where to go on; nothing at the end.
    at: Option<Position>,
}

impl Progress {
    fn add(&mut self, slice: Slice) {
        self.matched += slice.matched;
        for Planned { decision, .. } in slice.planned {
            match &decision.outcome {
                Ok(_) => self.started += 1,
                Err(reason) => {
                    *self.skipped.entry((decision.function.clone(), reason.as_str())).or_default() += 1;
                }
            }
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(decision);
            }
        }
        self.is_done = slice.at.is_none();
        self.at = slice.at.unwrap_or(self.through);
    }
}

impl Filter {
    /// Tells whether an event matches as far as can be said without its runs.
    fn matches(&self, event: &StoredEvent) -> bool {
        let content = &event.content;
        self.trigger.as_ref().is_none_or(|trigger| content.trigger_id == *trigger)
            && self.provider.as_ref().is_none_or(|provider| content.provider == *provider)
            && self.kind.as_ref().is_none_or(|kind| kind.matches(&content.kind))
            && self.since.is_none_or(|since| content.received_at >= since)
            && self.until.is_none_or(|until| content.received_at < until)
    }
}

/// Returns the state of an event as far as one run goes.
fn state_of(run: &Run) -> EventState {
    match run.state {
        RunState::Pending | RunState::Running | RunState::Waiting => EventState::Open,
        RunState::Succeeded | RunState::Cancelled => EventState::Done,
        RunState::Dead => EventState::Dead,
        RunState::Skipped => EventState::Unrouted,
    }
}

/// Returns the stretch of the log in which all events of the filter's time range stand: after the first position, up
/// to the second. Frames grow in time, so its begin is found by halving. Its end is the log's: what was released
/// from the quarantine was received long before it got its id.
fn range(log: &Log, filter: &Filter) -> Result<(Position, Position), event_log::Error> {
    let tail = *log.tail().borrow();
    let last_of = |seq: u64| Position::new(seq, Position::RECORDS_PER_FRAME_MAX - 1);
    let from = match filter.since {
        Some(since) => first_frame_since(log, tail, since)? - 1,
        None => 0,
    };
    Ok((if from == 0 { Position::ZERO } else { last_of(from) }, last_of(tail)))
}

/// Returns the first frame whose ids reach the time, or the one after the last.
fn first_frame_since(log: &Log, tail: u64, time: Timestamp) -> Result<u64, event_log::Error> {
    let time_ms = u64::try_from(time.as_millisecond()).unwrap_or(0);
    let (mut low, mut high) = (1, tail + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        // A frame that is gone is older than those that are there.
        let is_before = log.frame(middle)?.is_none_or(|frame| frame.time_ms() < time_ms);
        if is_before { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, event_log::Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(read).await.map_err(|_| Error::Panicked)?.map_err(Error::Log)
}

#[cfg(test)]
mod tests;
