//! Taking due runs for attempts, and getting them back.

use std::collections::HashSet;
use std::ops::{Bound, ControlFlow};

use super::super::decided::Decided;
use super::super::keys::{self, DueKey};
use super::super::overlay::after_prefix;
use super::super::rows::{self, Run};
use super::{Core, Known, due_key, fresh_key};
use crate::event::{FunctionId, Position, RunId, TriggerId};
use crate::event_log::Error;

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

/// What [`State::take_due`](crate::event_log::State::take_due) gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Runs that are in flight from now on.
    pub runs: Vec<DueRun>,
    /// When the next one is due that was not taken, in milliseconds since 1970; it may have passed.
    pub next_due_ms: Option<i64>,
}

impl Core {
    /// Takes due runs for attempts.
    pub(in super::super) fn take_due(
        &mut self,
        id: &FunctionId,
        now_ms: i64,
        max: usize,
    ) -> Result<Taken, Error> {
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
            let (from, end) = (keys::fresh_key(id, read), after_prefix(&keys::fresh_of(id)));
            let mut found = None;
            self.rows.scan(Bound::Excluded(&from), Bound::Excluded(&end), false, |key, _| {
                found = keys::decision_of_fresh(key);
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
        let left = self.rows.get(&keys::fresh_key(id, decision))?.as_deref().and_then(rows::decode_fresh);
        if left.is_none_or(|left| left as usize != keys.len()) {
            let (from, through) = decided.span();
            let with_row = self.rows_between(from, through)?;
            keys.retain(|key| !with_row.contains(&key.run_key(id)));
        }
        Ok(keys)
    }

    /// Returns the keys of runs that have a row, of events behind `from` up to `through`.
    pub(super) fn rows_between(&self, from: Position, through: Position) -> Result<HashSet<Vec<u8>>, Error> {
        let (from, end) = (after_prefix(&keys::runs_of(from)), after_prefix(&keys::runs_of(through)));
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
        let (from, end) = (behind.stored(id), after_prefix(&keys::due_of(id)));
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
    pub(in super::super) fn release(&mut self, id: &RunId) -> Result<(), Error> {
        let known = self.known(id)?;
        self.land(id, known.as_ref());
        Ok(())
    }

    /// The run is no longer in flight; where it is due, it can be taken again.
    pub(super) fn land(&mut self, id: &RunId, known: Option<&Known>) {
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
}

fn fresh_keys<'a>(decided: &'a Decided, function: &'a FunctionId) -> impl Iterator<Item = DueKey> + 'a {
    decided.runs().iter().filter(move |run| run.id.function == *function).filter_map(fresh_key)
}
