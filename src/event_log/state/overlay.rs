//! What the fold has changed and not yet written, over the table that holds the rest.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::table::Table;
use crate::event_log::Error;

/// A change of one key. `fresh`: the key is not in the table, so that removing it leaves nothing to write.
#[derive(Debug, Clone)]
struct Change {
    value: Option<Vec<u8>>,
    fresh: bool,
}

type Changes = BTreeMap<Vec<u8>, Change>;

/// A batch on its way to the table.
pub(super) struct Batch(Arc<Changes>);

/// Changes over a table. Reads see the newest layer first: changes, the batch being written, the table.
pub(super) struct Overlay {
    table: Arc<dyn Table>,
    changes: Changes,
    writing: Option<Arc<Changes>>,
}

impl Overlay {
    pub(super) fn new(table: Arc<dyn Table>) -> Self {
        Self { table, changes: Changes::new(), writing: None }
    }

    /// Returns how many keys are changed and not yet handed out as a batch.
    pub(super) fn changed(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let layers = [Some(&self.changes), self.writing.as_deref()];
        match layers.into_iter().flatten().find_map(|layer| layer.get(key)) {
            Some(change) => Ok(change.value.clone()),
            None => self.table.get(key),
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let change = self.changes.entry(key).or_insert(Change { value: None, fresh: false });
        change.value = Some(value);
    }

    /// Puts a key that is not there.
    pub(super) fn put_new(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let fresh = Change { value: None, fresh: true };
        self.changes.entry(key).or_insert(fresh).value = Some(value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        match self.changes.get_mut(key) {
            Some(change) if change.fresh => {
                self.changes.remove(key);
            }
            Some(change) => change.value = None,
            None => {
                self.changes.insert(key.to_vec(), Change { value: None, fresh: false });
            }
        }
    }

    /// Visits entries of a range in order of their keys, or newest (greatest) first, until told to stop.
    pub(super) fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        newest_first: bool,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        if is_empty_range(from, to) {
            return Ok(());
        }
        let mut layers = [layer(Some(&self.changes), from, to, newest_first), {
            layer(self.writing.as_deref(), from, to, newest_first)
        }]
        .map(Iterator::peekable);
        let mut stored = self.table.range(from, to, newest_first).peekable();
        loop {
            let stored_key = match stored.peek() {
                Some(Ok((key, _))) => Some(key.as_slice()),
                Some(Err(error)) => return Err(error.clone()),
                None => None,
            };
            let [changes, writing] = &mut layers;
            let keys = [changes.peek().map(|(key, _)| *key), writing.peek().map(|(key, _)| *key), stored_key];
            let present = keys.into_iter().flatten();
            let Some(key) = (if newest_first { present.max() } else { present.min() }) else { return Ok(()) };
            let key = key.to_vec();
            let first = changes.next_if(|(next, _)| *next == key);
            let second = writing.next_if(|(next, _)| *next == key);
            let third = stored.next_if(|next| next.as_ref().is_ok_and(|(next, _)| *next == key));
            let changed = first.or(second).map(|(_, change)| change.value.as_deref());
            let value = match (changed, &third) {
                (Some(value), _) => value,
                (None, Some(Ok((_, value)))) => Some(value.as_slice()),
                (None, _) => None,
            };
            if let Some(value) = value
                && visit(&key, value)?.is_break()
            {
                return Ok(());
            }
        }
    }

    /// Takes the changes as a batch, which stays visible until [`written`](Self::written).
    pub(super) fn take_batch(&mut self) -> Batch {
        debug_assert!(self.writing.is_none(), "one batch at a time");
        let changes = Arc::new(std::mem::take(&mut self.changes));
        self.writing = Some(Arc::clone(&changes));
        Batch(changes)
    }

    /// Tells whether a batch was taken that is not in the table yet.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// The batch is in the table.
    pub(super) fn written(&mut self) {
        self.writing = None;
    }

    /// Forgets everything, in the table too.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.changes.clear();
        self.writing = None;
        self.table.clear()
    }
}

impl Batch {
    /// Writes the batch.
    pub(super) fn write(&self, table: &dyn Table) -> Result<(), Error> {
        table.write(self.0.iter().map(|(key, change)| (key.clone(), change.value.clone())).collect())
    }
}

fn layer<'a>(
    changes: Option<&'a Changes>,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    newest_first: bool,
) -> Box<dyn Iterator<Item = (&'a [u8], &'a Change)> + 'a> {
    let Some(changes) = changes else { return Box::new(std::iter::empty()) };
    let found = changes.range::<[u8], _>((from, to)).map(|(key, change)| (key.as_slice(), change));
    if newest_first { Box::new(found.rev()) } else { Box::new(found) }
}

/// Ordered maps panic on ranges that end before they begin.
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        _ => false,
    }
}

/// Returns the least key that is greater than every key of the given prefix.
pub(super) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::{Entry, MemoryTable};
    use super::*;

    type Entries = Vec<Entry>;

    #[derive(Debug, Clone)]
    enum Op {
        Put(u8, u8),
        Remove(u8),
        TakeBatch,
        Written,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0_u8..20, any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
            3 => (0_u8..20).prop_map(Op::Remove),
            1 => Just(Op::TakeBatch),
            1 => Just(Op::Written),
        ]
    }

    proptest! {
        #[test]
        fn layers_read_as_one_map(ops in proptest::collection::vec(op(), 0..80)) {
            let table: Arc<dyn Table> = Arc::new(MemoryTable::default());
            let mut overlay = Overlay::new(Arc::clone(&table));
            let mut model = BTreeMap::<Vec<u8>, Vec<u8>>::new();
            let mut batch = None;
            for op in ops {
                match op {
                    Op::Put(key, value) if model.contains_key(&vec![key]) => {
                        overlay.put(vec![key], vec![value]);
                        model.insert(vec![key], vec![value]);
                    }
                    Op::Put(key, value) => {
                        overlay.put_new(vec![key], vec![value]);
                        model.insert(vec![key], vec![value]);
                    }
                    Op::Remove(key) => {
                        overlay.remove(&[key]);
                        model.remove(&vec![key]);
                    }
                    Op::TakeBatch if batch.is_none() => batch = Some(overlay.take_batch()),
                    Op::Written => if let Some(batch) = batch.take() {
                        batch.write(&*table).unwrap();
                        overlay.written();
                    },
                    Op::TakeBatch => {}
                }
                for newest_first in [false, true] {
                    let mut seen: Entries = Vec::new();
                    overlay.scan(Bound::Unbounded, Bound::Unbounded, newest_first, |key, value| {
                        seen.push((key.to_vec(), value.to_vec()));
                        Ok(ControlFlow::Continue(()))
                    }).unwrap();
                    let mut expected: Entries = model.clone().into_iter().collect();
                    if newest_first { expected.reverse(); }
                    prop_assert_eq!(seen, expected);
                }
                for key in 0..20 {
                    prop_assert_eq!(overlay.get(&[key]).unwrap(), model.get(&vec![key]).cloned());
                }
            }
        }
    }

    #[test]
    fn created_and_removed_within_one_batch_costs_no_write() {
        let mut overlay = Overlay::new(Arc::new(MemoryTable::default()));
        overlay.put_new(vec![1], vec![2]);
        overlay.remove(&[1]);
        assert_eq!(overlay.changed(), 0);
    }
}
