//! A log of frames in memory, for tests: what it holds is gone with the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Error;
use super::store::{Appended, Epoch, EventLog, Partition, Seq};

/// A log in memory. Clones share their content, so that a test can "restart" on it.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    frames: BTreeMap<(Partition, Seq), Bytes>,
    epoch: Epoch,
    refusal: Option<Appended>,
    interruption: Option<fn()>,
}

impl Content {
    fn tail(&self, partition: Partition) -> Seq {
        self.frames.range((partition, 0)..=(partition, Seq::MAX)).next_back().map_or(0, |((_, seq), _)| *seq)
    }
}

impl MemoryLog {
    /// Returns an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers every later append with `refusal`, or appends again if it is nothing.
    pub fn refuse(&self, refusal: Option<Appended>) {
        self.0.lock().refusal = refusal;
    }

    /// Calls `interruption` at the begin of every later append and get: it may panic, or take its time.
    pub fn interrupt(&self, interruption: Option<fn()>) {
        self.0.lock().interruption = interruption;
    }

    fn begin(&self) {
        let interruption = self.0.lock().interruption;
        if let Some(interruption) = interruption {
            interruption();
        }
    }

    /// Loses every frame after `last`, as a device that lied about a flush does.
    pub fn truncate(&self, partition: Partition, last: Seq) {
        self.0.lock().frames.retain(|(p, seq), _| *p != partition || *seq <= last);
    }
}

impl EventLog for MemoryLog {
    fn acquire(&self, partition: Partition) -> Result<(Epoch, Seq), Error> {
        let mut content = self.0.lock();
        content.epoch += 1;
        Ok((content.epoch, content.tail(partition) + 1))
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        expected: Seq,
        frames: &[Bytes],
    ) -> Result<Appended, Error> {
        self.begin();
        let mut content = self.0.lock();
        if let Some(refusal) = &content.refusal {
            return Ok(refusal.clone());
        }
        if epoch != content.epoch {
            return Ok(Appended::Fenced);
        }
        let next = content.tail(partition) + 1;
        if expected != next {
            return Err(Error::Failing(format!("frame {expected} was to be appended where {next} follows")));
        }
        for (seq, frame) in (expected..).zip(frames) {
            content.frames.insert((partition, seq), frame.clone());
        }
        Ok(Appended::At(expected))
    }

    fn read(&self, partition: Partition, from: Seq, bytes_max: usize) -> Result<Vec<(Seq, Bytes)>, Error> {
        let content = self.0.lock();
        let mut bytes = 0;
        let found = content.frames.range((partition, from)..=(partition, Seq::MAX));
        let fitting = found.enumerate().take_while(|(i, (_, frame))| {
            bytes += frame.len();
            *i == 0 || bytes <= bytes_max
        });
        Ok(fitting.map(|(_, ((_, seq), frame))| (*seq, frame.clone())).collect())
    }

    fn tail(&self, partition: Partition) -> Result<Seq, Error> {
        Ok(self.0.lock().tail(partition))
    }

    fn get(&self, partition: Partition, seq: Seq) -> Result<Option<Bytes>, Error> {
        self.begin();
        Ok(self.0.lock().frames.get(&(partition, seq)).cloned())
    }

    fn trim(&self, partition: Partition, before: Seq) -> Result<(), Error> {
        let mut content = self.0.lock();
        let before = before.min(content.tail(partition));
        content.frames.retain(|(p, seq), _| *p != partition || *seq >= before);
        Ok(())
    }

    fn redact(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error> {
        match self.0.lock().frames.get_mut(&(partition, seq)) {
            Some(slot) => {
                *slot = Bytes::copy_from_slice(frame);
                Ok(())
            }
            None => Err(Error::Damaged { frame: seq, reason: "it is not there".to_owned() }),
        }
    }
}
