//! The fold: what each record of the log changes. No clock, no thread; the only I/O is the table's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::decided::{Decided, Decisions};
use super::due::{DueWindow, FreshWindow};
use super::overlay::{Batch, Overlay, after_prefix};
use super::rows::{
    self, AttemptSummary, DueKey, FunctionState, Mark, Run, ScheduleState, StateCounts, TriggerState,
};
use super::table::Table;
use crate::event::{FunctionId, Position, RunId, RunState, Timestamp, TriggerId};
use crate::event_log::codec::{self, DecodeError};
use crate::event_log::frame::Frame;
use crate::event_log::reader::{Reader, damaged};
use crate::event_log::record::{
    Attempted, Controlled, Cron, CronChange, NewRun, Next, Record, Routed, RunAction, Start, Switch, Switched,
};
use crate::event_log::store::Seq;
use crate::event_log::{Error, record};

/// How many held runs are made due in one batch: a trigger may hold more than memory should.
const RELEASE_RUNS: usize = 512;

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
    pub(super) sealed: BTreeMap<String, Bytes>,
}

/// A due run, taken for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// The run.
    pub id: RunId,
    /// The number of the attempt to make.
    pub attempt: u32,
    /// The event's trigger.
    pub trigger_id: TriggerId,
    /// The event's kind.
    pub kind: String,
    /// When it was due, in milliseconds since 1970.
    pub due_ms: i64,
}

/// What [`State::take_due`](super::State::take_due) gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Runs that are in flight from now on.
    pub runs: Vec<DueRun>,
    /// When the next one is due that was not taken, in milliseconds since 1970; it may have passed.
    pub next_due_ms: Option<i64>,
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
            sealed: BTreeMap::new(),
        };
        let stored = core.table.get(rows::MARK)?;
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
        self.sealed.clear();
        Ok(())
    }

    fn load_switches(&mut self) -> Result<(), Error> {
        let mut found = Vec::new();
        let prefixes =
            [rows::all_triggers(), rows::all_schedules(), rows::all_functions(), rows::all_sealed()];
        for prefix in prefixes {
            self.scan_prefix(&prefix, false, |key, value| {
                found.push((key.to_vec(), value.to_vec()));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        for (key, value) in found {
            let Some(name) = rows::name_of_key(&key) else { continue };
            if key.starts_with(&rows::all_sealed()) {
                self.sealed.insert(name.to_owned(), rows::decode_sealed(&value));
            } else if key.starts_with(&rows::all_triggers()) {
                let state = rows::decode_trigger(&value).map_err(row_error)?;
                if let Ok(id) = name.parse() {
                    self.triggers.insert(id, state);
                }
            } else if key.starts_with(&rows::all_schedules()) {
                let state = rows::decode_schedule(&value).map_err(row_error)?;
                if let Ok(id) = name.parse() {
                    self.schedules.insert(id, state);
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
        self.rows.put(rows::MARK.to_vec(), rows::encode_mark(&self.mark));
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
        if let Some(known) = self.row_at(&rows::run_key(id))? {
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

    /// Takes due runs for attempts.
    pub(super) fn take_due(&mut self, id: &FunctionId, now_ms: i64, max: usize) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        if self.function_states.get(id).is_some_and(|state| state.paused) {
            return Ok(taken);
        }
        loop {
            self.refill(id)?;
            self.refill_fresh(id)?;
            let function = self.functions.entry(id.clone()).or_default();
            let (due, fresh) = (function.due.first(), function.fresh.first());
            let Some(key) = due.into_iter().chain(fresh).min() else { return Ok(taken) };
            if key.due_ms > now_ms || taken.runs.len() >= max {
                taken.next_due_ms = Some(key.due_ms);
                return Ok(taken);
            }
            let run = if fresh == Some(key) {
                function.fresh.pop();
                self.fresh_run(id, key)?
            } else {
                function.due.pop();
                self.row_at(&key.run_key(id))?.map(|known| known.run)
            };
            let Some(run) = run.filter(|run| due_key(run) == Some(key)) else { continue };
            let flight = (key.event, key.generation);
            self.functions.entry(id.clone()).or_default().in_flight.insert(flight);
            taken.runs.push(DueRun {
                attempt: run.attempts + 1,
                id: run.id,
                trigger_id: run.trigger_id,
                kind: run.kind,
                due_ms: key.due_ms,
            });
        }
    }

    /// Returns a run of the window of those that exist by a decision alone.
    fn fresh_run(&self, id: &FunctionId, key: DueKey) -> Result<Option<Run>, Error> {
        let Some(decided) = self.decisions.on(&self.rows, key.event)? else { return Ok(None) };
        Ok(decided.run(key.event, id).map(|run| decided.begin(run)))
    }

    /// Reads the next decisions that started runs of a function, until there is one whose runs can be taken.
    fn refill_fresh(&mut self, id: &FunctionId) -> Result<(), Error> {
        while let Some(read) = self.functions.entry(id.clone()).or_default().fresh.wants() {
            let (from, end) = (rows::fresh_key(id, read), after_prefix(&rows::fresh_of(id)));
            let mut found = None;
            self.rows.scan(Bound::Excluded(&from), Bound::Excluded(&end), false, |key, _| {
                found = rows::decision_of_fresh(key);
                Ok(ControlFlow::Break(()))
            })?;
            let runs = found.map_or(Ok(Vec::new()), |decision| self.fresh_runs(id, decision))?;
            let function = self.functions.entry(id.clone()).or_default();
            let in_flight = &function.in_flight;
            let can_be_taken = |key: &DueKey| !in_flight.contains(&(key.event, key.generation));
            function.fresh.refill(found, runs.into_iter().filter(can_be_taken));
        }
        Ok(())
    }

    /// Returns the due runs of a function that a decision started and that have no row yet.
    fn fresh_runs(&self, id: &FunctionId, decision: Position) -> Result<Vec<DueKey>, Error> {
        let decided = self.decisions.at(decision)?;
        let mut keys = fresh_keys(&decided, id).collect::<Vec<_>>();
        let left = self.rows.get(&rows::fresh_key(id, decision))?.as_deref().and_then(rows::decode_fresh);
        if left.is_none_or(|left| left as usize != keys.len()) {
            let (from, through) = decided.span();
            let with_row = self.rows_between(from, through)?;
            keys.retain(|key| !with_row.contains(&key.run_key(id)));
        }
        Ok(keys)
    }

    /// Returns the keys of runs that have a row, of events behind `from` up to `through`.
    fn rows_between(&self, from: Position, through: Position) -> Result<HashSet<Vec<u8>>, Error> {
        let (from, end) = (after_prefix(&rows::runs_of(from)), after_prefix(&rows::runs_of(through)));
        let mut keys = HashSet::new();
        self.rows.scan(Bound::Included(&from), Bound::Excluded(&end), false, |key, _| {
            keys.insert(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(keys)
    }

    fn refill(&mut self, id: &FunctionId) -> Result<(), Error> {
        let function = self.functions.entry(id.clone()).or_default();
        let Some((behind, max)) = function.due.wants() else { return Ok(()) };
        let (from, end) = (behind.stored(id), after_prefix(&rows::due_of(id)));
        let mut keys = Vec::new();
        self.rows.scan(Bound::Excluded(&from), Bound::Excluded(&end), false, |key, _| {
            keys.extend(DueKey::of_stored(key));
            Ok(if keys.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let last = if keys.len() < max { None } else { keys.last().copied() };
        let function = self.functions.entry(id.clone()).or_default();
        keys.retain(|key| !function.in_flight.contains(&(key.event, key.generation)));
        function.due.refill(keys, last);
        // A stretch of runs that are all in flight: read on.
        if function.due.wants().is_some() { self.refill(id) } else { Ok(()) }
    }

    /// Hands a run back without an attempt.
    pub(super) fn release(&mut self, id: &RunId) -> Result<(), Error> {
        let known = self.known(id)?;
        self.land(id, known.as_ref());
        Ok(())
    }

    /// The run is no longer in flight; where it is due, it can be taken again.
    fn land(&mut self, id: &RunId, known: Option<&Known>) {
        let function = self.functions.entry(id.function.clone()).or_default();
        if !function.in_flight.remove(&(id.event.position(), id.generation)) {
            return;
        }
        let Some(known) = known else { return };
        if let Some(key) = due_key(&known.run) {
            match known.decision {
                Some(_) => function.fresh.insert(key),
                None => function.due.insert(key),
            }
            self.notify(&id.function);
        }
    }

    /// Folds a frame's records from the mark on.
    pub(super) fn apply(&mut self, frame: &Frame) -> Result<(), Error> {
        debug_assert_eq!(frame.seq(), self.mark.next.frame(), "frames are folded in order");
        for index in self.mark.next.index()..frame.len() {
            let position = frame.position(index);
            let bytes = frame.bytes(index).expect("index is below the length");
            self.mark.next = position;
            self.apply_bytes(position, bytes).map_err(|error| match error {
                Fault::Decode(error) => damaged(frame.seq())(error),
                Fault::Store(error) => error,
            })?;
        }
        self.mark.next = Position::new(frame.seq() + 1, 0);
        Ok(())
    }

    fn apply_bytes(&mut self, position: Position, bytes: &[u8]) -> Result<(), Fault> {
        if codec::is_event(bytes) {
            self.mark.events += 1;
            if codec::is_tick(bytes) {
                let (trigger_id, tick) = codec::tick(bytes)?;
                self.ticked(&trigger_id, tick);
            }
            if let Some(name) =
                codec::is_spooled_event(bytes).then(|| codec::spooled_name(bytes)).transpose()?.flatten()
            {
                self.rows.put(rows::body_key(name), rows::encode_position(position));
            }
            return Ok(());
        }
        if codec::is_duplicate(bytes) {
            self.mark.duplicates += 1;
            return Ok(());
        }
        match codec::decode_record(bytes)? {
            Record::Event(_) | Record::Duplicate(_) => {}
            Record::Routed(routed) => self.routed(position, routed)?,
            Record::Created(created) => {
                for run in created.runs {
                    self.create(run, created.at)?;
                }
            }
            Record::Attempted(attempted) => self.attempted(position, attempted)?,
            Record::Controlled(controlled) => self.controlled(controlled)?,
            Record::Switched(switched) => {
                self.index_topic("lifecycle", position);
                self.switched(switched)?;
            }
            Record::Sealed(sealed) => {
                self.index_topic("secrets", position);
                let key = rows::sealed_key(&sealed.name);
                if sealed.sealed.is_empty() {
                    self.rows.remove(&key);
                    self.sealed.remove(&sealed.name);
                } else {
                    self.rows.put(key, sealed.sealed.to_vec());
                    self.sealed.insert(sealed.name, sealed.sealed);
                }
            }
            Record::Audit(audit) => self.index_topic(&audit.topic, position),
            Record::Cron(cron) => {
                self.index_topic("cron", position);
                self.scheduled(cron);
            }
        }
        Ok(())
    }

    fn index_topic(&mut self, topic: &str, position: Position) {
        self.rows.put(rows::topic_key(topic, position.frame()), Vec::new());
    }

    fn routed(&mut self, position: Position, routed: Routed) -> Result<(), Error> {
        if routed.from != self.mark.routed_through || routed.through <= routed.from {
            return Ok(());
        }
        let (through, at) = (routed.through, routed.at);
        let (decided, others) = Decided::split(position, routed);
        for run in others {
            self.create(run, at)?;
        }
        self.decided(&Arc::new(decided))?;
        self.rows.put_new(rows::routed_key(through), rows::encode_position(position));
        self.mark.routed_through = through;
        Ok(())
    }

    /// Counts the runs that a decision started and that have no row, and makes the due ones known.
    fn decided(&mut self, decided: &Arc<Decided>) -> Result<(), Error> {
        let (from, through) = decided.span();
        // Replays may have made runs of events that the router had not come to.
        let with_row = self.rows_between(from, through)?;
        let mut due: BTreeMap<&FunctionId, Vec<DueKey>> = BTreeMap::new();
        for new in decided.runs() {
            if !with_row.is_empty() && with_row.contains(&rows::run_key(&new.id)) {
                continue;
            }
            if !self.functions.contains_key(&new.id.function) {
                self.functions.insert(new.id.function.clone(), Function::default());
            }
            let function = self.functions.get_mut(&new.id.function).expect("it was just put there");
            let key = fresh_key(new);
            let state = if key.is_some() { RunState::Pending } else { RunState::Skipped };
            function.counts[state_index(state)] += 1;
            due.entry(&new.id.function).or_default().extend(key);
        }
        self.decisions.keep(decided);
        for (id, keys) in due {
            if keys.is_empty() {
                continue;
            }
            self.rows.put_new(rows::fresh_key(id, decided.position), rows::encode_fresh(keys.len() as u32));
            let function = self.functions.get_mut(id).expect("its runs were counted");
            function.fresh.decided(decided.position, keys.into_iter());
            self.notify(id);
        }
        Ok(())
    }

    /// A due run that existed by a decision alone gets its row.
    fn leave_fresh(&mut self, run: &Run, decision: Position) -> Result<(), Error> {
        let Some(key) = due_key(run) else { return Ok(()) };
        let function = &run.id.function;
        self.functions.entry(function.clone()).or_default().fresh.remove(key);
        let key = rows::fresh_key(function, decision);
        match self.rows.get(&key)?.as_deref().and_then(rows::decode_fresh) {
            Some(left) if left > 1 => self.rows.put(key, rows::encode_fresh(left - 1)),
            _ => self.rows.remove(&key),
        }
        Ok(())
    }

    fn create(&mut self, new: NewRun, at: Timestamp) -> Result<(), Error> {
        if self.known(&new.id)?.is_some() {
            return Ok(());
        }
        let paused = self.triggers.get(&new.trigger_id).is_some_and(|trigger| trigger.paused);
        let (state, reason, due_at) = match new.start {
            Start::Due(due) => (RunState::Pending, None, Some(due)),
            Start::Held if paused => (RunState::Waiting, Some(record::HELD.to_owned()), None),
            // The trigger was resumed before the router came to the event.
            Start::Held => (RunState::Pending, None, Some(at)),
            Start::Skipped(reason) => (RunState::Skipped, Some(reason.as_str().to_owned()), None),
        };
        let run = Run {
            id: new.id,
            trigger_id: new.trigger_id,
            kind: new.kind,
            cause: new.cause,
            state,
            reason,
            created_at: at,
            due_at,
            attempts: 0,
            finished_at: state.is_final().then_some(at),
            history: Vec::new(),
        };
        self.set_run(None, run)
    }

    fn attempted(&mut self, position: Position, it: Attempted) -> Result<(), Error> {
        let Some(before) = self.known(&it.run)? else { return Ok(()) };
        let same = |last: &AttemptSummary| last.attempt == it.attempt && last.started_at == it.started_at;
        if before.run.history.last().is_some_and(same) {
            return Ok(());
        }
        let mut run = before.run.clone();
        if run.history.len() >= rows::HISTORY_MAX {
            run.history.remove(0);
        }
        run.history.push(AttemptSummary {
            attempt: it.attempt,
            started_at: it.started_at,
            duration_us: it.duration_us,
            status: it.status,
            note: it.note.chars().take(rows::NOTE_CHARS_MAX).collect(),
            position,
        });
        if run.state == RunState::Pending {
            run.attempts = it.attempt;
            let ended_at = ended_at(it.started_at, it.duration_us);
            match it.next {
                Next::Succeeded => finish(&mut run, RunState::Succeeded, None, ended_at),
                Next::Dead(reason) => finish(&mut run, RunState::Dead, Some(reason), ended_at),
                Next::RetryAt(at) => run.due_at = Some(at),
            }
        }
        let after = Known { run: run.clone(), decision: None };
        self.set_run(Some(&before), run)?;
        self.land(&it.run, Some(&after));
        Ok(())
    }

    fn controlled(&mut self, it: Controlled) -> Result<(), Error> {
        let Some(before) = self.known(&it.run)? else { return Ok(()) };
        let mut run = before.run.clone();
        match it.action {
            RunAction::Cancel if !run.state.is_final() => {
                finish(&mut run, RunState::Cancelled, Some(record::CANCELLED.to_owned()), it.at);
            }
            RunAction::Purge if run.state == RunState::Dead => {
                finish(&mut run, RunState::Cancelled, Some(record::PURGED.to_owned()), it.at);
            }
            RunAction::Retry if run.state != RunState::Succeeded => {
                run.state = RunState::Pending;
                run.reason = None;
                run.due_at = Some(it.at);
                run.attempts = 0;
                run.finished_at = None;
            }
            RunAction::Cancel | RunAction::Purge | RunAction::Retry => return Ok(()),
        }
        self.set_run(Some(&before), run)
    }

    fn switched(&mut self, it: Switched) -> Result<(), Error> {
        match it.switch {
            Switch::TriggerPaused(id, paused) => {
                if !paused {
                    self.resume(&id, it.at)?;
                }
                self.triggers.entry(id.clone()).or_default().paused = paused;
                self.put_trigger(&id);
            }
            Switch::TriggerArmed(id, until) => {
                self.triggers.entry(id.clone()).or_default().armed_until = until;
                self.put_trigger(&id);
            }
            Switch::FunctionPaused(id, paused) => {
                self.function_states.entry(id.clone()).or_default().paused = paused;
                self.put_function(&id);
            }
            Switch::Breaker { function: id, open_until, opened } => {
                let state = self.function_states.entry(id.clone()).or_default();
                (state.open_until, state.opened) = (open_until, opened);
                self.put_function(&id);
            }
        }
        Ok(())
    }

    fn ticked(&mut self, id: &TriggerId, tick: Timestamp) {
        let state = self.schedules.entry(id.clone()).or_default();
        state.through = state.through.max(tick);
        state.last_tick = state.last_tick.max(Some(tick));
        self.put_schedule(id);
    }

    fn scheduled(&mut self, it: Cron) {
        let state = self.schedules.entry(it.trigger_id.clone()).or_default();
        match it.change {
            CronChange::Began { schedule } => (state.schedule, state.through) = (schedule, it.at),
            CronChange::Missed(missed) => {
                state.missed += missed.count.saturating_sub(missed.made_up);
                state.through = missed.given_up_through.map_or(state.through, |it| it.max(state.through));
            }
        }
        self.put_schedule(&it.trigger_id);
    }

    fn put_schedule(&mut self, id: &TriggerId) {
        let value = rows::encode_schedule(&self.schedules[id]);
        self.rows.put(rows::schedule_key(id), value);
    }

    fn put_trigger(&mut self, id: &TriggerId) {
        let value = rows::encode_trigger(&self.triggers[id]);
        self.rows.put(rows::trigger_key(id), value);
    }

    fn put_function(&mut self, id: &FunctionId) {
        let value = rows::encode_function(&self.function_states[id]);
        self.rows.put(rows::function_key(id), value);
        self.notify(id);
    }

    /// Makes a trigger's held runs due. However many they are, no batch holds more than a stretch of
    /// them: the mark stays before this record, and folding the record again goes on with the rest.
    fn resume(&mut self, id: &TriggerId, at: Timestamp) -> Result<(), Error> {
        loop {
            let mut held = Vec::new();
            self.scan_prefix(&rows::held_of(id), false, |key, _| {
                held.push(rows::run_key_of_held(id, key));
                let more = held.len() < RELEASE_RUNS;
                Ok(if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            for key in &held {
                let Some(before) = self.row_at(key)? else { continue };
                let due_at = Some(at);
                let run = Run { state: RunState::Pending, reason: None, due_at, ..before.run.clone() };
                self.set_run(Some(&before), run)?;
            }
            if held.len() < RELEASE_RUNS {
                return Ok(());
            }
            self.flush_now()?;
        }
    }

    /// Writes what has changed so far, unless a batch is on its way already.
    fn flush_now(&mut self) -> Result<(), Error> {
        if self.rows.is_writing() {
            return Ok(());
        }
        let batch = self.take_batch();
        batch.write(&*self.table)?;
        self.rows.written();
        Ok(())
    }

    /// Puts a run's row, and brings indexes, sums and the windows in step with it.
    fn set_run(&mut self, before: Option<&Known>, run: Run) -> Result<(), Error> {
        let row_before = before.filter(|known| known.decision.is_none()).map(|known| &known.run);
        if let Some(Known { run, decision: Some(decision) }) = before {
            self.leave_fresh(run, *decision)?;
        }
        let (old, new) = (row_before.and_then(due_key), due_key(&run));
        let in_flight = self.is_in_flight(&run.id);
        let function_id = &run.id.function;
        let function = self.functions.entry(function_id.clone()).or_default();
        if let Some(before) = before {
            let count = &mut function.counts[state_index(before.run.state)];
            *count = count.saturating_sub(1);
        }
        function.counts[state_index(run.state)] += 1;
        if old != new {
            if let Some(key) = old {
                function.due.remove(key);
                self.rows.remove(&key.stored(function_id));
            }
            if let Some(key) = new {
                self.rows.put_new(key.stored(function_id), Vec::new());
                if !in_flight {
                    function.due.insert(key);
                    self.notify(function_id);
                }
            }
        }
        let key_of_held = |run: &Run| rows::held_key(&run.trigger_id, &run.id);
        let key_of_dead = |run: &Run| rows::dead_key(&run.id);
        self.set_index(row_before, &run, |run| run.state == RunState::Waiting, key_of_held);
        self.set_index(row_before, &run, |run| run.state == RunState::Dead, key_of_dead);
        let (key, value) = (rows::run_key(&run.id), rows::encode_run(&run));
        match row_before {
            None => self.rows.put_new(key, value),
            Some(_) => self.rows.put(key, value),
        }
        Ok(())
    }

    fn set_index(
        &mut self,
        before: Option<&Run>,
        run: &Run,
        belongs: impl Fn(&Run) -> bool,
        key: impl Fn(&Run) -> Vec<u8>,
    ) {
        match (before.is_some_and(&belongs), belongs(run)) {
            (false, true) => self.rows.put_new(key(run), Vec::new()),
            (true, false) => self.rows.remove(&key(run)),
            _ => {}
        }
    }
}

/// Why a record could not be folded.
enum Fault {
    Decode(DecodeError),
    Store(Error),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
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

fn fresh_keys<'a>(decided: &'a Decided, function: &'a FunctionId) -> impl Iterator<Item = DueKey> + 'a {
    decided.runs().iter().filter(move |run| run.id.function == *function).filter_map(fresh_key)
}

fn due_key(run: &Run) -> Option<DueKey> {
    let due_at = run.due_at.filter(|_| run.state == RunState::Pending)?;
    let (event, generation) = (run.id.event.position(), run.id.generation);
    Some(DueKey { due_ms: due_at.as_millisecond(), event, generation })
}

fn finish(run: &mut Run, state: RunState, reason: Option<String>, at: Timestamp) {
    run.state = state;
    run.reason = reason;
    run.due_at = None;
    run.finished_at = Some(at);
}

fn ended_at(started_at: Timestamp, duration_us: u64) -> Timestamp {
    let micros = started_at.as_microsecond().saturating_add_unsigned(duration_us);
    Timestamp::from_microsecond(micros).unwrap_or(started_at)
}
