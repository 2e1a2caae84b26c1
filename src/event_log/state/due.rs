//! The next due runs of one function in memory; the table holds the rest.
//!
//! Two windows, for two kinds of runs: those with a row of their own, and those that exist by a decision alone.

use std::collections::BTreeSet;

use super::keys::DueKey;
use crate::event::Position;

/// Most due runs of one function that are held in memory. Fewer mean more reads of the table under
/// load, more mean more memory for each function with a backlog.
const WINDOW_MAX: usize = 1024;

/// A window over a function's due runs: it holds every one up to its horizon, but for those in flight.
#[derive(Debug)]
pub(super) struct DueWindow {
    runs: BTreeSet<DueKey>,
    /// Nothing once the window holds all there are.
    horizon: Option<DueKey>,
}

impl DueWindow {
    /// A window that knows nothing yet.
    pub(super) fn unknown() -> Self {
        Self { runs: BTreeSet::new(), horizon: Some(DueKey::MIN) }
    }

    /// A run is due that was not before.
    pub(super) fn insert(&mut self, key: DueKey) {
        if self.horizon.is_some_and(|horizon| key > horizon) {
            return;
        }
        self.runs.insert(key);
        if self.runs.len() > WINDOW_MAX {
            self.runs.pop_last();
            self.horizon = self.runs.last().copied();
        }
    }

    pub(super) fn remove(&mut self, key: DueKey) {
        self.runs.remove(&key);
    }

    pub(super) fn first(&self) -> Option<DueKey> {
        self.runs.first().copied()
    }

    pub(super) fn pop(&mut self) -> Option<DueKey> {
        self.runs.pop_first()
    }

    /// Returns behind which key, and up to how many, to read on from the table; nothing while that is not needed.
    pub(super) fn wants(&self) -> Option<(DueKey, usize)> {
        self.horizon.filter(|_| self.runs.is_empty()).map(|horizon| (horizon, WINDOW_MAX))
    }

    /// Takes what was read: `last` is the last key read, nothing if the table's end was reached.
    pub(super) fn refill(&mut self, keys: impl IntoIterator<Item = DueKey>, last: Option<DueKey>) {
        self.runs.extend(keys);
        self.horizon = last;
    }
}

/// A window over a function's due runs that exist by decisions alone: those of the decisions that were read, but
/// for those in flight.
#[derive(Debug)]
pub(super) struct FreshWindow {
    runs: BTreeSet<DueKey>,
    /// Where the last decision stands that was read.
    read: Position,
    /// The table holds decisions behind it.
    is_more: bool,
}

impl FreshWindow {
    /// A window that knows nothing yet.
    pub(super) fn unknown() -> Self {
        Self { runs: BTreeSet::new(), read: Position::ZERO, is_more: true }
    }

    /// A decision was made that starts runs; they are taken in where there is room.
    pub(super) fn decided(&mut self, decision: Position, runs: impl Iterator<Item = DueKey>) {
        if self.is_more || self.runs.len() >= WINDOW_MAX {
            self.is_more = true;
        } else {
            self.refill(Some(decision), runs);
        }
    }

    /// A run is due again: it was taken and handed back.
    pub(super) fn insert(&mut self, key: DueKey) {
        self.runs.insert(key);
    }

    pub(super) fn remove(&mut self, key: DueKey) {
        self.runs.remove(&key);
    }

    pub(super) fn first(&self) -> Option<DueKey> {
        self.runs.first().copied()
    }

    pub(super) fn pop(&mut self) -> Option<DueKey> {
        self.runs.pop_first()
    }

    /// Returns behind which decision to read the next one; nothing while that is not needed.
    pub(super) fn wants(&self) -> Option<Position> {
        (self.is_more && self.runs.is_empty()).then_some(self.read)
    }

    /// Takes what was read: the next decision and its runs, nothing if there is none.
    pub(super) fn refill(&mut self, decision: Option<Position>, runs: impl Iterator<Item = DueKey>) {
        match decision {
            Some(decision) => self.read = decision,
            None => self.is_more = false,
        }
        self.runs.extend(runs);
    }
}
