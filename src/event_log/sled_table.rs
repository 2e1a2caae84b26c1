//! The tree that holds the derived state, in the same sled store as the log.

use std::ops::Bound;
use std::sync::Arc;

use super::Error;
use super::sled_log::{SledLog, failed};
use super::state::table::{Entry, Table};

/// The tree of derived state.
#[derive(Debug)]
pub(crate) struct SledTable {
    tree: sled::Tree,
    log: Arc<SledLog>,
}

impl SledTable {
    pub(crate) fn open(log: Arc<SledLog>) -> Result<Self, Error> {
        let tree = log.db.open_tree("state").map_err(failed)?;
        if log.is_doubtful {
            tracing::warn!(
                "something in the store does not read, though no frame is missing: folding the log anew"
            );
            tree.clear().map_err(failed)?;
        }
        Ok(Self { tree, log })
    }
}

impl Table for SledTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.tree.get(key).map_err(failed)?.map(|value| value.to_vec()))
    }

    fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        newest_first: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + 'a> {
        let found = self.tree.range::<&[u8], _>((from, to));
        let entry = |entry: Result<(sled::IVec, sled::IVec), sled::Error>| {
            entry.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(failed)
        };
        if newest_first { Box::new(found.rev().map(entry)) } else { Box::new(found.map(entry)) }
    }

    fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.tree.apply_batch(batch).map_err(failed)?;
        self.log.reached.flush_now_and_then()
    }

    fn clear(&self) -> Result<(), Error> {
        self.tree.clear().map_err(failed)
    }

    fn sync(&self) -> Result<(), Error> {
        self.log.sync()?;
        self.log.reached.flush()
    }
}
