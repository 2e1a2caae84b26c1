//! Listings of runs: rows of the table, and runs that exist by decisions alone, as one sequence.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::core::Core;
use super::decided::Decided;
use super::keys;
use super::overlay::after_prefix;
use super::rows::{self, Run};
use crate::event::{EventId, RunId};
use crate::event_log::Error;

impl Core {
    /// Returns all runs of an event, by function and generation.
    pub(super) fn runs_of(&self, event: EventId) -> Result<Vec<Run>, Error> {
        let mut runs = Vec::new();
        self.scan_prefix(&keys::runs_of(event.position()), false, |key, value| {
            runs.push(Self::decode_run(key, value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(decided) = self.decisions.on(&self.rows, event.position())? {
            let without_row = decided.of_event(event.position()).iter();
            let without_row = without_row.filter(|new| runs.iter().all(|run| run.id != new.id));
            let without_row: Vec<_> = without_row.map(|new| decided.begin(new)).collect();
            runs.extend(without_row);
            runs.sort_by(|a, b| {
                (a.id.function.as_str(), a.id.generation).cmp(&(b.id.function.as_str(), b.id.generation))
            });
        }
        runs.retain(|run| run.id.event == event);
        Ok(runs.into_iter().map(|run| self.with_flight(run)).collect())
    }

    /// Visits runs, those of the newest events first, from behind the cursor on, until told to stop: all of them,
    /// or the dead ones.
    pub(super) fn visit_runs(
        &self,
        dead: bool,
        cursor: Option<&RunId>,
        visit: impl FnMut(Run) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        if dead { self.visit_dead(cursor, visit) } else { self.visit_all(cursor, visit) }
    }

    fn visit_dead(
        &self,
        cursor: Option<&RunId>,
        mut visit: impl FnMut(Run) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let prefix = keys::all_dead();
        let end = cursor.map_or_else(|| after_prefix(&prefix), keys::dead_key);
        self.rows.scan(Bound::Included(&prefix), Bound::Excluded(&end), true, |key, _| {
            let key = keys::run_key_of_dead(key);
            let missing = || Error::Failing("a dead run has no row; run doctor --rebuild".to_owned());
            let value = self.rows.get(&key)?.ok_or_else(missing)?;
            visit(Self::decode_run(&key, &value)?)
        })
    }

    fn visit_all(
        &self,
        cursor: Option<&RunId>,
        mut visit: impl FnMut(Run) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let prefix = keys::all_runs();
        let end = cursor.map_or_else(|| after_prefix(&prefix), keys::run_key);
        let mut decided = NewestFirst::before(self, cursor)?;
        let mut next = decided.next(&end)?;
        let mut is_ended = false;
        self.rows.scan(Bound::Included(&prefix), Bound::Excluded(&end), true, |key, value| {
            while let Some((_, run)) = next.take_if(|(of_next, _)| of_next.as_slice() > key) {
                next = decided.next(&end)?;
                if visit(run)?.is_break() {
                    is_ended = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            if next.as_ref().is_some_and(|(of_next, _)| of_next == key) {
                next = decided.next(&end)?;
            }
            let flow = visit(Self::decode_run(key, value)?)?;
            is_ended = flow.is_break();
            Ok(flow)
        })?;
        while !is_ended && let Some((_, run)) = next.take() {
            is_ended = visit(run)?.is_break();
            next = decided.next(&end)?;
        }
        Ok(())
    }
}

/// Runs of decisions, those of the newest events first; whether they have a row is not looked at.
struct NewestFirst<'a> {
    core: &'a Core,
    decided: Option<Arc<Decided>>,
    /// How many of its runs are still to come.
    left: usize,
    /// The decisions before this key are still to come.
    end: Vec<u8>,
}

impl<'a> NewestFirst<'a> {
    fn before(core: &'a Core, cursor: Option<&RunId>) -> Result<Self, Error> {
        let mut end = after_prefix(&keys::all_routed());
        if let Some(cursor) = cursor {
            let from = keys::routed_key(cursor.event.position());
            core.rows.scan(Bound::Included(&from), Bound::Excluded(&end.clone()), false, |key, _| {
                end = key.to_vec();
                end.push(0);
                Ok(ControlFlow::Break(()))
            })?;
        }
        Ok(Self { core, decided: None, left: 0, end })
    }

    /// Returns the next run whose key is less than `end`, with that key.
    fn next(&mut self, end: &[u8]) -> Result<Option<(Vec<u8>, Run)>, Error> {
        loop {
            while let Some(decided) = self.decided.as_ref().filter(|_| self.left > 0) {
                self.left -= 1;
                let new = &decided.runs()[self.left];
                let key = keys::run_key(&new.id);
                if key.as_slice() < end {
                    return Ok(Some((key, decided.begin(new))));
                }
            }
            let first = keys::all_routed();
            let mut found = None;
            let before = std::mem::take(&mut self.end);
            self.core.rows.scan(Bound::Included(&first), Bound::Excluded(&before), true, |key, value| {
                found = rows::decode_position(value).map(|position| (key.to_vec(), position));
                Ok(ControlFlow::Break(()))
            })?;
            let Some((key, position)) = found else { return Ok(None) };
            self.end = key;
            let decided = self.core.decisions.at(position)?;
            self.left = decided.runs().len();
            self.decided = Some(decided);
        }
    }
}
