//! Recently read or written frames, so that those who follow the log need not decompress them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::frame::Frame;
use crate::frames::Seq;

/// Most memory that cached frames take.
const CACHE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A cache of frames, the least recently used leaving first.
#[derive(Debug, Default)]
pub(crate) struct FrameCache(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    frames: HashMap<Seq, (Arc<Frame>, u64)>,
    by_use: BTreeMap<u64, Seq>,
    uses: u64,
    bytes: usize,
}

impl FrameCache {
    pub(crate) fn get(&self, seq: Seq) -> Option<Arc<Frame>> {
        let mut content = self.0.lock();
        let Content { frames, by_use, uses, .. } = &mut *content;
        let (frame, used) = frames.get_mut(&seq)?;
        by_use.remove(used);
        *uses += 1;
        *used = *uses;
        by_use.insert(*used, seq);
        Some(Arc::clone(frame))
    }

    pub(crate) fn put(&self, frame: Arc<Frame>) {
        let mut content = self.0.lock();
        content.remove(frame.seq());
        content.uses += 1;
        let used = content.uses;
        content.bytes += frame.memory_bytes();
        content.by_use.insert(used, frame.seq());
        content.frames.insert(frame.seq(), (frame, used));
        while content.bytes > CACHE_BYTES_MAX {
            let Some((_, oldest)) = content.by_use.first_key_value() else { break };
            let oldest = *oldest;
            content.remove(oldest);
        }
    }
}

impl Content {
    fn remove(&mut self, seq: Seq) {
        if let Some((frame, used)) = self.frames.remove(&seq) {
            self.by_use.remove(&used);
            self.bytes -= frame.memory_bytes();
        }
    }
}
