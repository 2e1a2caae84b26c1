//! The fold: what each record of the log changes. No clock, no thread; the only I/O is the table's.

mod fold;
mod take;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

pub use self::take::{DueRun, Taken};
use super::decided::Decisions;
use super::due::{DueWindow, FreshWindow};
use super::keys::{self, DueKey};
use super::overlay::{Batch, Overlay, after_prefix};
use super::permits::PermitsState;
use super::rows::{self, FunctionState, Mark, PollCursor, Run, ScheduleState, StateCounts, TriggerState};
use super::secrets::{self, SecretStates};
use super::table::Table;
use crate::event::{FunctionId, Position, ProviderId, RunId, RunState, TriggerId};
use crate::event_log::Seq;
use crate::event_log::codec::DecodeError;
use crate::event_log::reader::Reader;
use crate::event_log::record::{NewRun, Start};
use crate::event_log::{Error, record};

/// A function's runs in memory.
struct Function {
    due: DueWindow,
    fresh: FreshWindow,
    in_flight: HashSet<DueRef>,
    counts: StateCounts,
    notify: Option<Arc<Notify>>,
}

/// A run within its function.
type DueRef = (Position, u32);

impl Default for Function {
    fn default() -> Self {
        Self {
            due: DueWindow::unknown(),
            fresh: FreshWindow::unknown(),
            in_flight: HashSet::new(),
            counts: StateCounts::default(),
            notify: None,
        }
    }
}

/// The fold's state.
pub(super) struct Core {
    pub(super) rows: Overlay,
    pub(super) decisions: Decisions,
    table: Arc<dyn Table>,
    pub(super) mark: Mark,
    /// How far the table has come.
    written: Position,
    functions: HashMap<FunctionId, Function>,
    pub(super) function_states: HashMap<FunctionId, FunctionState>,
    pub(super) triggers: HashMap<TriggerId, TriggerState>,
    pub(super) schedules: HashMap<TriggerId, ScheduleState>,
    pub(super) permits: HashMap<ProviderId, PermitsState>,
    pub(super) cursors: HashMap<TriggerId, PollCursor>,
    pub(super) sealed: BTreeMap<String, Bytes>,
    pub(super) secrets: SecretStates,
}

fn row_error(error: DecodeError) -> Error {
    Error::Failing(format!("a row of the derived state is damaged: {error}; run doctor --rebuild"))
}

fn state_index(state: RunState) -> usize {
    RunState::ALL.iter().position(|other| *other == state).expect("ALL has every state")
}

impl Core {
    /// Reads the mark and what is held in memory. A table of another version, or one that is ahead of
    /// the log, is emptied, to be folded from the start.
    pub(super) fn load(table: Arc<dyn Table>, reader: Arc<Reader>, tail: Seq) -> Result<Self, Error> {
        let mut core = Self {
            rows: Overlay::new(Arc::clone(&table)),
            decisions: Decisions::new(reader),
            table,
            mark: Mark::default(),
            written: Position::ZERO,
            functions: HashMap::new(),
            function_states: HashMap::new(),
            triggers: HashMap::new(),
            schedules: HashMap::new(),
            permits: HashMap::new(),
            cursors: HashMap::new(),
            sealed: BTreeMap::new(),
            secrets: SecretStates::default(),
        };
        let stored = core.table.get(keys::MARK)?;
        let mark = stored.as_deref().and_then(rows::decode_mark);
        match mark.filter(|mark| mark.next <= Position::new(tail + 1, 0)) {
            Some(mark) => {
                for (id, counts) in &mark.counts {
                    core.functions.entry(id.clone()).or_default().counts = *counts;
                }
                core.mark = mark;
                core.written = core.mark.next;
                core.load_switches()?;
            }
            None => {
                if stored.is_some() {
                    tracing::warn!("the derived state does not fit the log; folding the log from the start");
                }
                core.reset()?;
            }
        }
        Ok(core)
    }

    /// Forgets everything, to be folded from the start.
    pub(super) fn reset(&mut self) -> Result<(), Error> {
        self.rows.clear()?;
        self.decisions.clear();
        self.mark = Mark { next: Position::new(1, 0), ..Mark::default() };
        for function in self.functions.values_mut() {
            let notify = function.notify.take();
            *function = Function { notify, ..Function::default() };
        }
        self.function_states.clear();
        self.triggers.clear();
        self.schedules.clear();
        self.permits.clear();
        self.cursors.clear();
        self.sealed.clear();
        self.secrets = SecretStates::default();
        Ok(())
    }

    fn load_switches(&mut self) -> Result<(), Error> {
        let mut found = Vec::new();
        let prefixes = [
            keys::all_triggers(),
            keys::all_schedules(),
            keys::all_permits(),
            keys::all_permits_scopes(),
            keys::all_cursors(),
            keys::all_functions(),
            keys::all_sealed(),
        ];
        for prefix in prefixes.into_iter().chain(secrets::prefixes()) {
            self.scan_prefix(&prefix, false, |key, value| {
                found.push((key.to_vec(), value.to_vec()));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        for (key, value) in found {
            let Some(name) = keys::name_of_key(&key) else { continue };
            if self.secrets.load(&key, &value).map_err(row_error)? {
                continue;
            }
            if key.starts_with(&keys::all_sealed()) {
                self.sealed.insert(name.to_owned(), rows::decode_sealed(&value));
            } else if key.starts_with(&keys::all_triggers()) {
                let state = rows::decode_trigger(&value).map_err(row_error)?;
                if let Ok(id) = name.parse() {
                    self.triggers.insert(id, state);
                }
            } else if key.starts_with(&keys::all_schedules()) {
                let state = rows::decode_schedule(&value).map_err(row_error)?;
                if let Ok(id) = name.parse() {
                    self.schedules.insert(id, state);
                }
            } else if key.starts_with(&keys::all_permits()) {
                if let Ok(provider) = name.parse() {
                    self.load_permits(provider, value == [1]);
                }
            } else if key.starts_with(&keys::all_permits_scopes()) {
                let cool_down = rows::decode_cool_down(&value).map_err(row_error)?;
                if let Some(provider) = keys::provider_of_scope(name).and_then(|id| id.parse().ok()) {
                    self.load_cool_down(provider, cool_down);
                }
            } else if key.starts_with(&keys::all_cursors()) {
                let cursor = rows::decode_cursor(&value).map_err(row_error)?;
                if let Ok(id) = name.parse() {
                    self.cursors.insert(id, cursor);
                }
            } else if let Ok(id) = name.parse() {
                self.function_states.insert(id, rows::decode_function(&value).map_err(row_error)?);
            }
        }
        Ok(())
    }

    pub(super) fn scan_prefix(
        &self,
        prefix: &[u8],
        newest_first: bool,
        visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let end = after_prefix(prefix);
        self.rows.scan(Bound::Included(prefix), Bound::Excluded(&end), newest_first, visit)
    }

    /// Returns how many keys a batch would write: the mark alone counts too, since opening the log again
    /// starts at the one that is written.
    pub(super) fn changed(&self) -> usize {
        self.rows.changed() + usize::from(self.mark.next != self.written)
    }

    /// Takes all changes as a batch that brings the table to where the fold is.
    pub(super) fn take_batch(&mut self) -> Batch {
        let counts = self.functions.iter().filter(|(_, function)| function.counts != StateCounts::default());
        self.mark.counts = counts.map(|(id, function)| (id.clone(), function.counts)).collect();
        self.mark.counts.sort_by(|a, b| a.0.cmp(&b.0));
        self.rows.put(keys::MARK.to_vec(), rows::encode_mark(&self.mark));
        self.written = self.mark.next;
        self.rows.take_batch()
    }

    pub(super) fn decode_run(key: &[u8], value: &[u8]) -> Result<Run, Error> {
        rows::decode_run(key, value).map_err(row_error)
    }

    fn row_at(&self, key: &[u8]) -> Result<Option<Known>, Error> {
        let Some(value) = self.rows.get(key)? else { return Ok(None) };
        Ok(Some(Known { run: Self::decode_run(key, &value)?, decision: None }))
    }

    /// Returns a run: from its row, or from the decision that started it.
    fn known(&self, id: &RunId) -> Result<Option<Known>, Error> {
        if let Some(known) = self.row_at(&keys::run_key(id))? {
            return Ok(Some(known).filter(|known| known.run.id.event == id.event));
        }
        let run = self.decisions.run(&self.rows, id)?;
        Ok(run.map(|(run, decision)| Known { run, decision: Some(decision) }))
    }

    /// Returns a run as it is: in flight it is running, parked it is waiting.
    pub(super) fn run(&self, id: &RunId) -> Result<Option<Run>, Error> {
        Ok(self.known(id)?.map(|known| self.with_flight(known.run)))
    }

    /// Adds to a run what its row does not hold: that it is in flight, or that its function is paused, or parks
    /// it until the breaker lets a probe out.
    pub(super) fn with_flight(&self, mut run: Run) -> Run {
        if run.state != RunState::Pending {
            return run;
        }
        if self.is_in_flight(&run.id) {
            run.state = RunState::Running;
        } else if let Some(function) = self.function_states.get(&run.id.function) {
            let is_parked =
                function.open_until.is_some_and(|until| run.due_at.is_some_and(|due| due < until));
            let reason = if function.paused { Some(record::PAUSED) } else { None };
            if let Some(reason) = reason.or(is_parked.then_some(record::BREAKER)) {
                run.state = RunState::Waiting;
                run.reason = Some(reason.to_owned());
            }
        }
        run
    }

    fn is_in_flight(&self, id: &RunId) -> bool {
        let flight = (id.event.position(), id.generation);
        self.functions.get(&id.function).is_some_and(|function| function.in_flight.contains(&flight))
    }

    /// Returns runs of each function by state; those in flight count as running.
    pub(super) fn counts(&self) -> BTreeMap<FunctionId, BTreeMap<RunState, u64>> {
        let of = |function: &Function| {
            let mut counts = function.counts;
            let running = (function.in_flight.len() as u64).min(counts[state_index(RunState::Pending)]);
            counts[state_index(RunState::Pending)] -= running;
            counts[state_index(RunState::Running)] = running;
            RunState::ALL.into_iter().zip(counts).collect()
        };
        self.functions.iter().map(|(id, function)| (id.clone(), of(function))).collect()
    }

    /// Registers who is woken when a run of the function may have become due.
    pub(super) fn on_due(&mut self, function: &FunctionId, notify: Arc<Notify>) {
        notify.notify_one();
        self.functions.entry(function.clone()).or_default().notify = Some(notify);
    }

    fn notify(&self, function: &FunctionId) {
        if let Some(notify) = self.functions.get(function).and_then(|function| function.notify.as_ref()) {
            notify.notify_one();
        }
    }
}

/// A run, and where the decision stands by which alone it exists; nothing where it has a row.
struct Known {
    run: Run,
    decision: Option<Position>,
}

/// Returns the key of a run that a decision made due at once.
fn fresh_key(new: &NewRun) -> Option<DueKey> {
    let Start::Due(due) = new.start else { return None };
    let (event, generation) = (new.id.event.position(), new.id.generation);
    Some(DueKey { due_ms: due.as_millisecond(), event, generation })
}

fn due_key(run: &Run) -> Option<DueKey> {
    let due_at = run.due_at.filter(|_| run.state == RunState::Pending)?;
    let (event, generation) = (run.id.event.position(), run.id.generation);
    Some(DueKey { due_ms: due_at.as_millisecond(), event, generation })
}
