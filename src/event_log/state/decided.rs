//! Runs that exist by the router's decision alone: no row of the table tells of them.
//!
//! Under load most runs wait for a while and then succeed at once. Rows for their beginning would cost more than
//! all else that the fold does, so a run gets its row with the first thing that happens to it. Until then it is
//! as the `Routed` record says, which is found by the event's position and kept decoded while it is in use.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::keys;
use super::overlay::{Overlay, after_prefix};
use super::rows::{self, Run};
use crate::event::{FunctionId, Position, RunId, RunState, Timestamp};
use crate::event_log::Error;
use crate::event_log::reader::Reader;
use crate::event_log::record::{NewRun, Record, Routed, Start};

/// Most decisions that are kept decoded. Fewer mean that functions which are differently far behind have
/// theirs decoded again and again; each takes some 100 KB.
const RECENT_MAX: usize = 16;

/// One decision: the runs that it started, as far as they have no row from the beginning.
#[derive(Debug)]
pub(super) struct Decided {
    /// Where its record stands.
    pub(super) position: Position,
    from: Position,
    through: Position,
    at: Timestamp,
    /// By event and function.
    runs: Vec<NewRun>,
}

impl Decided {
    /// Takes the runs that need no row out of a record, and returns those that do.
    pub(super) fn split(position: Position, routed: Routed) -> (Self, Vec<NewRun>) {
        let Routed { from, through, at, runs, .. } = routed;
        let needs_no_row = |run: &NewRun| {
            let event = run.id.event.position();
            run.id.generation == 1 && from < event && event <= through && run.start != Start::Held
        };
        let (mut runs, others): (Vec<_>, Vec<_>) = runs.into_iter().partition(needs_no_row);
        runs.sort_by(|a, b| order(a).cmp(&order(b)));
        (Self { position, from, through, at, runs }, others)
    }

    /// Returns all runs, by event and function.
    pub(super) fn runs(&self) -> &[NewRun] {
        &self.runs
    }

    /// Returns the events' span: behind the first, up to the second.
    pub(super) fn span(&self) -> (Position, Position) {
        (self.from, self.through)
    }

    /// Returns the runs of one event.
    pub(super) fn of_event(&self, event: Position) -> &[NewRun] {
        let first = self.runs.partition_point(|run| run.id.event.position() < event);
        let count = self.runs[first..].iter().take_while(|run| run.id.event.position() == event).count();
        &self.runs[first..first + count]
    }

    /// Returns the run of an event and a function.
    pub(super) fn run(&self, event: Position, function: &FunctionId) -> Option<&NewRun> {
        self.of_event(event).iter().find(|run| run.id.function == *function)
    }

    /// Returns a run as it begins.
    pub(super) fn begin(&self, new: &NewRun) -> Run {
        let (state, reason, due_at) = match new.start {
            Start::Due(due) => (RunState::Pending, None, Some(due)),
            Start::Skipped(reason) => (RunState::Skipped, Some(reason.as_str().to_owned()), None),
            Start::Held => unreachable!("held runs have rows"),
        };
        Run {
            id: new.id.clone(),
            trigger_id: new.trigger_id.clone(),
            kind: new.kind.clone(),
            cause: new.cause.clone(),
            state,
            reason,
            created_at: self.at,
            due_at,
            attempts: 0,
            finished_at: state.is_final().then_some(self.at),
            history: Vec::new(),
        }
    }
}

fn order(run: &NewRun) -> (Position, &str) {
    (run.id.event.position(), run.id.function.as_str())
}

/// All decisions of the log; those used last are kept decoded.
pub(super) struct Decisions {
    reader: Arc<Reader>,
    /// The one used last comes first.
    recent: RefCell<VecDeque<Arc<Decided>>>,
}

impl Decisions {
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Self { reader, recent: RefCell::default() }
    }

    /// Keeps a decision that was just folded: its runs are taken next.
    pub(super) fn keep(&self, decided: &Arc<Decided>) {
        let mut recent = self.recent.borrow_mut();
        recent.push_front(Arc::clone(decided));
        recent.truncate(RECENT_MAX);
    }

    pub(super) fn clear(&mut self) {
        self.recent.get_mut().clear();
    }

    fn recent(&self, is_it: impl Fn(&Decided) -> bool) -> Option<Arc<Decided>> {
        let mut recent = self.recent.borrow_mut();
        let at = recent.iter().position(|decided| is_it(decided))?;
        let decided = recent.remove(at)?;
        recent.push_front(Arc::clone(&decided));
        Some(decided)
    }

    /// Returns the decision on the event at a position; nothing while the router has not come to it.
    pub(super) fn on(&self, rows: &Overlay, event: Position) -> Result<Option<Arc<Decided>>, Error> {
        if let Some(decided) = self.recent(|decided| decided.from < event && event <= decided.through) {
            return Ok(Some(decided));
        }
        let (from, end) = (keys::routed_key(event), after_prefix(&keys::all_routed()));
        let mut found = None;
        rows.scan(Bound::Included(&from), Bound::Excluded(&end), false, |_, value| {
            found = rows::decode_position(value);
            Ok(ControlFlow::Break(()))
        })?;
        found.map(|position| self.at(position)).transpose()
    }

    /// Returns the decision whose record stands at a position.
    pub(super) fn at(&self, position: Position) -> Result<Arc<Decided>, Error> {
        if let Some(decided) = self.recent(|decided| decided.position == position) {
            return Ok(decided);
        }
        let Some(Record::Routed(routed)) = self.reader.record(position)? else {
            let reason = format!("there is no decision at {position}, where one was; run doctor --rebuild");
            return Err(Error::Failing(reason));
        };
        let decided = Arc::new(Decided::split(position, routed).0);
        self.keep(&decided);
        Ok(decided)
    }

    /// Returns a run that exists by a decision alone, if it has no row, with where the decision stands.
    pub(super) fn run(&self, rows: &Overlay, id: &RunId) -> Result<Option<(Run, Position)>, Error> {
        if id.generation != 1 {
            return Ok(None);
        }
        let Some(decided) = self.on(rows, id.event.position())? else { return Ok(None) };
        let run = decided.run(id.event.position(), &id.function).filter(|run| run.id == *id);
        Ok(run.map(|run| (decided.begin(run), decided.position)))
    }
}
