//! The next due runs of one function in memory; the table holds the rest.

use std::collections::BTreeSet;

use super::rows::DueKey;

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
