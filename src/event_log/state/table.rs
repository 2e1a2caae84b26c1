//! An ordered map on disk that batches change as a whole: what the derived state needs of a store.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;

use crate::event_log::Error;

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// An ordered map. A batch is there as a whole after a crash, or not at all, and batches keep their order.
pub(crate) trait Table: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        newest_first: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + 'a>;
    /// Writes a batch; nothing says when it is on the device.
    fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), Error>;
    fn clear(&self) -> Result<(), Error>;
    /// Puts all that was written on the device.
    fn sync(&self) -> Result<(), Error>;
}

/// A table in memory, for logs that have no store of their own.
#[derive(Debug, Default)]
pub(crate) struct MemoryTable(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Table for MemoryTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        newest_first: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + 'a> {
        let entries = self.0.lock();
        let found = entries.range::<[u8], _>((from, to)).map(|(key, value)| Ok((key.clone(), value.clone())));
        let mut found: Vec<_> = found.collect();
        if newest_first {
            found.reverse();
        }
        Box::new(found.into_iter())
    }

    fn write(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), Error> {
        let mut entries = self.0.lock();
        for (key, value) in changes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), Error> {
        self.0.lock().clear();
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }
}
