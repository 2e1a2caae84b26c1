//! Reading the log: frames by number, records by position, events by id, bodies from their files.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Error;
use super::cache::FrameCache;
use super::codec::DecodeError;
use super::frame::{Frame, decode_frame};
use super::lock::Lock;
use super::record::Record;
use crate::event::{Body, EventId, Position, SpooledBody, StoredEvent};
use crate::frames::{EventLog, Partition, Seq};

/// The only partition there is today.
pub(crate) const PARTITION: Partition = 0;
/// How much a scan reads from the store at once.
const SCAN_BYTES: usize = 1024 * 1024;

/// Reads what is committed.
pub(crate) struct Reader {
    pub(crate) store: Arc<dyn EventLog>,
    pub(crate) cache: FrameCache,
    /// Held while a frame is read that is not in the cache: many ask for the same one at once.
    pub(crate) reading: Mutex<()>,
    pub(crate) bodies: PathBuf,
    /// Given back only when nobody reads any more.
    pub(crate) _lock: Lock,
}

fn event_of(frame: &Frame, id: EventId) -> Result<Option<Arc<StoredEvent>>, Error> {
    let position = id.position();
    if frame.event_id(position.index()) != Some(id) {
        return Ok(None);
    }
    match frame.record(position.index()).map_err(damaged(position.frame()))? {
        Some(Record::Event(event)) => Ok(Some(Arc::new(event))),
        _ => Ok(None),
    }
}

pub(crate) fn damaged(frame: Seq) -> impl Fn(DecodeError) -> Error {
    move |error| Error::Damaged { frame, reason: error.to_string() }
}

impl Reader {
    /// Returns a frame, from the cache where it is there.
    pub(crate) fn frame(&self, seq: Seq) -> Result<Option<Arc<Frame>>, Error> {
        if let Some(frame) = self.cache.get(seq) {
            return Ok(Some(frame));
        }
        let _reading = self.reading.lock();
        if let Some(frame) = self.cache.get(seq) {
            return Ok(Some(frame));
        }
        let Some(stored) = self.store.get(PARTITION, seq)? else { return Ok(None) };
        let frame = Arc::new(decode_frame(PARTITION, seq, &stored).map_err(damaged(seq))?);
        self.cache.put(Arc::clone(&frame));
        Ok(Some(frame))
    }

    /// Visits all frames from `from` on in order, without filling the cache, until told to stop.
    pub(crate) fn scan(
        &self,
        from: Seq,
        mut visit: impl FnMut(Frame) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut next = from;
        loop {
            let frames = self.store.read(PARTITION, next, SCAN_BYTES)?;
            let Some((last, _)) = frames.last() else { return Ok(()) };
            next = last + 1;
            for (seq, stored) in frames {
                if !visit(decode_frame(PARTITION, seq, &stored).map_err(damaged(seq))?)? {
                    return Ok(());
                }
            }
        }
    }

    /// Returns the record at a position.
    pub(crate) fn record(&self, position: Position) -> Result<Option<Record>, Error> {
        let Some(frame) = self.frame(position.frame())? else { return Ok(None) };
        frame.record(position.index()).map_err(damaged(position.frame()))
    }

    /// Returns the event of an id.
    pub(crate) fn event(&self, id: EventId) -> Result<Option<Arc<StoredEvent>>, Error> {
        let Some(frame) = self.frame(id.position().frame())? else { return Ok(None) };
        event_of(&frame, id)
    }

    /// Returns the event of an id if that can be told without asking the store.
    pub(crate) fn cached_event(&self, id: EventId) -> Result<Option<Arc<StoredEvent>>, Error> {
        let Some(frame) = self.cache.get(id.position().frame()) else { return Ok(None) };
        event_of(&frame, id)
    }

    /// Returns an event's raw body.
    pub(crate) fn body(&self, event: &StoredEvent) -> Result<Bytes, Error> {
        match &event.content.body {
            Body::Inline(bytes) => Ok(bytes.clone()),
            Body::Spooled(body) => self.spooled(body),
        }
    }

    fn spooled(&self, body: &SpooledBody) -> Result<Bytes, Error> {
        let failed = |reason: String| Error::Body { name: body.name.clone(), reason };
        let file = File::open(self.bodies.join(&body.name)).map_err(|error| failed(error.to_string()))?;
        // One byte more than expected is enough to see that the file is too long.
        let mut bytes = Vec::with_capacity(usize::try_from(body.bytes).unwrap_or(0).min(SCAN_BYTES));
        file.take(body.bytes + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 != body.bytes {
            return Err(failed(format!("it has not the {} bytes that were written", body.bytes)));
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != body.sha256 {
            return Err(failed("its SHA-256 is not that of what was written".to_owned()));
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
impl Reader {
    /// A reader of an empty log in memory.
    pub(crate) fn for_test(dir: &std::path::Path) -> Self {
        Self {
            store: Arc::new(super::MemoryLog::new()),
            cache: FrameCache::default(),
            reading: Mutex::default(),
            bodies: dir.to_owned(),
            _lock: Lock::take(dir).expect("the folder is the test's own"),
        }
    }
}
