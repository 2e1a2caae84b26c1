//! The log of frames on sled 0.34.
//!
//! Some of sled's habits decide the shape (measured before, with simulated power cuts):
//! `flush()` is no fsync, so every append ends with `sync_data` on a handle of our own; a leaf page over
//! a quarter of a segment becomes a file that is never fsynced, so values are cut into chunks; an opened store
//! whose file is gone is silently an empty one, so a marker file beside it says that it was there; and what lies
//! behind damage is dropped silently, so a file says how far the log had come (`reached`), and sled's way through its
//! own is gone before it may change it (`sled_recovery`).

mod open;

pub(super) use open::MARKER;

use std::fs::{self, File};
use std::path::PathBuf;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Error;
use super::reached::ReachedFile;
use super::room::Room;
use crate::frames::{Appended, Epoch, EventLog, Partition, Seq};

/// Largest value in a tree: a leaf page holds up to 16 of them and must stay under a quarter of a segment.
const CHUNK_BYTES_MAX: usize = 120 * 1024;
/// Folder of sled's files in the data folder.
const SLED_DIR: &str = "log";
const META_EPOCH: &[u8] = b"epoch";

/// A log of frames on sled.
#[derive(Debug)]
pub struct SledLog {
    pub(super) db: sled::Db,
    frames: sled::Tree,
    meta: sled::Tree,
    /// A handle of our own to sled's file: the one whose `sync_data` makes a flush durable.
    file: File,
    flush_failed: Mutex<bool>,
    dir: PathBuf,
    writer: Mutex<Writer>,
    pub(super) reached: ReachedFile,
    room: Room,
    /// Something in the file does not read, though no frame is missing: what is derived may have lost changes.
    pub(super) is_doubtful: bool,
}

#[derive(Debug, Default)]
struct Writer {
    epoch: Epoch,
    next: Seq,
}

pub(super) fn failed(error: sled::Error) -> Error {
    Error::Failing(format!("the store answers: {error}"))
}

fn key(partition: Partition, seq: Seq, chunk: u8) -> [u8; 11] {
    let mut key = [0; 11];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..10].copy_from_slice(&seq.to_be_bytes());
    key[10] = chunk;
    key
}

fn key_seq(key: &[u8]) -> Seq {
    key.get(2..10).map_or(0, |seq| Seq::from_be_bytes(seq.try_into().expect("eight bytes")))
}

impl SledLog {
    /// Puts everything written so far on the device. The system tells one caller of a flush that failed, and may
    /// have dropped what it could not write; so after one that failed none succeeds.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.db.flush().map_err(failed)?;
        let mut flush_failed = self.flush_failed.lock();
        if *flush_failed {
            return Err(Error::Failing(
                "an earlier flush of the device failed; restart hookkeeper once the device is well"
                    .to_owned(),
            ));
        }
        let flushed =
            self.file.sync_data().map_err(Error::io("flushing", &self.dir.join(SLED_DIR).join("db")));
        *flush_failed = flushed.is_err();
        flushed
    }

    /// Takes room ahead on the disk where it gets short; tells whether there is enough.
    pub(super) fn has_room(&self) -> bool {
        self.room.ahead();
        !self.room.is_low()
    }

    /// Returns how many values lie outside sled's own file, where it does not flush them. More than none
    /// means that a power cut could make the store unreadable.
    pub(crate) fn blobs(&self) -> u64 {
        let blobs = fs::read_dir(self.dir.join(SLED_DIR).join("blobs"));
        blobs.map_or(0, |entries| entries.count() as u64)
    }

    fn chunks_of(&self, partition: Partition, seq: Seq, head: &[u8]) -> Result<Bytes, Error> {
        let damaged = |reason: &str| Error::Damaged { frame: seq, reason: reason.to_owned() };
        let (&chunks, first) = head.split_first().ok_or_else(|| damaged("it is empty"))?;
        if chunks == 1 {
            return Ok(Bytes::copy_from_slice(first));
        }
        let mut frame = first.to_vec();
        for chunk in 1..chunks {
            let value = self.frames.get(key(partition, seq, chunk)).map_err(failed)?;
            frame.extend_from_slice(&value.ok_or_else(|| damaged("a part of it is gone"))?);
        }
        Ok(frame.into())
    }

    /// Writes a frame's chunks, the first one last: where it is, all are.
    fn put(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error> {
        let chunks = frame.len().div_ceil(CHUNK_BYTES_MAX).max(1);
        let count = u8::try_from(chunks).map_err(|_| Error::TooLarge {
            bytes: frame.len(),
            max: CHUNK_BYTES_MAX * usize::from(u8::MAX),
        })?;
        let (first, rest) = frame.split_at(frame.len().min(CHUNK_BYTES_MAX));
        for (chunk, bytes) in (1_u8..).zip(rest.chunks(CHUNK_BYTES_MAX)) {
            self.frames.insert(key(partition, seq, chunk), bytes).map_err(failed)?;
        }
        let mut head = Vec::with_capacity(1 + first.len());
        head.push(count);
        head.extend_from_slice(first);
        self.frames.insert(key(partition, seq, 0), head).map_err(failed)?;
        Ok(())
    }
}

impl EventLog for SledLog {
    fn acquire(&self, partition: Partition) -> Result<(Epoch, Seq), Error> {
        let mut writer = self.writer.lock();
        let stored = self.meta.get(META_EPOCH).map_err(failed)?;
        let last = stored.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok()).map_or(0, Epoch::from_be_bytes);
        writer.epoch = last + 1;
        self.meta.insert(META_EPOCH, &writer.epoch.to_be_bytes()).map_err(failed)?;
        writer.next = self.tail(partition)? + 1;
        // Parts of a frame whose first part did not make it before a crash.
        let leftover = key(partition, writer.next, 0)..key(partition, Seq::MAX, u8::MAX);
        for entry in self.frames.range(leftover) {
            self.frames.remove(entry.map_err(failed)?.0).map_err(failed)?;
        }
        self.sync()?;
        Ok((writer.epoch, writer.next))
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        expected: Seq,
        frames: &[Bytes],
    ) -> Result<Appended, Error> {
        let mut writer = self.writer.lock();
        if epoch != writer.epoch {
            return Ok(Appended::Fenced);
        }
        if expected != writer.next {
            let next = writer.next;
            return Err(Error::Failing(format!("frame {expected} was to be appended where {next} follows")));
        }
        if !self.room.covers(frames.iter().map(|frame| frame.len() as u64).sum()) {
            return Ok(Appended::Full);
        }
        let written = || -> Result<(), Error> {
            for (seq, frame) in (expected..).zip(frames) {
                self.put(partition, seq, frame)?;
            }
            self.sync()
        };
        match written() {
            Ok(()) => {
                writer.next += frames.len() as Seq;
                self.reached.advance(writer.next - 1);
                Ok(Appended::At(expected))
            }
            // A failed flush cannot be repeated: the system may have dropped what it could not write.
            Err(error) => {
                writer.epoch = 0;
                Ok(Appended::Unknown(match error {
                    Error::Failing(reason) => reason,
                    error => error.to_string(),
                }))
            }
        }
    }

    fn read(&self, partition: Partition, from: Seq, bytes_max: usize) -> Result<Vec<(Seq, Bytes)>, Error> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        for entry in self.frames.range(key(partition, from, 0)..=key(partition, Seq::MAX, u8::MAX)) {
            let (entry_key, value) = entry.map_err(failed)?;
            if entry_key.last() != Some(&0) {
                continue;
            }
            let seq = key_seq(&entry_key);
            let frame = self.chunks_of(partition, seq, &value)?;
            bytes += frame.len();
            if bytes > bytes_max && !frames.is_empty() {
                break;
            }
            frames.push((seq, frame));
        }
        Ok(frames)
    }

    fn tail(&self, partition: Partition) -> Result<Seq, Error> {
        let all = key(partition, 0, 0)..=key(partition, Seq::MAX, u8::MAX);
        for entry in self.frames.range(all).rev() {
            let (entry_key, _) = entry.map_err(failed)?;
            if entry_key.last() == Some(&0) {
                return Ok(key_seq(&entry_key));
            }
        }
        Ok(0)
    }

    fn get(&self, partition: Partition, seq: Seq) -> Result<Option<Bytes>, Error> {
        let head = self.frames.get(key(partition, seq, 0)).map_err(failed)?;
        head.map(|head| self.chunks_of(partition, seq, &head)).transpose()
    }

    fn trim(&self, partition: Partition, before: Seq) -> Result<(), Error> {
        let before = before.min(self.tail(partition)?);
        self.reached.drop_before(before)?;
        for entry in self.frames.range(key(partition, 0, 0)..key(partition, before, 0)) {
            self.frames.remove(entry.map_err(failed)?.0).map_err(failed)?;
        }
        self.sync()
    }

    fn redact(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error> {
        if self.frames.get(key(partition, seq, 0)).map_err(failed)?.is_none() {
            return Err(Error::Damaged { frame: seq, reason: "it is not there".to_owned() });
        }
        self.put(partition, seq, frame)?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Compressor, FrameBuilder};
    use super::*;

    #[test]
    fn frames_longer_than_a_chunk_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let frame_of = |seq, bytes: usize| {
            let mut builder = FrameBuilder::default();
            // Bytes that do not compress.
            builder.push(&(0..bytes).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
            builder.finish(0, seq, 0, &mut Compressor::new()).0
        };
        let frame = frame_of(1, CHUNK_BYTES_MAX * 3 + 17);
        let log = SledLog::open(dir.path(), true).unwrap();
        let (epoch, next) = log.acquire(0).unwrap();
        assert_eq!(next, 1);
        let frames = [frame.clone(), frame_of(2, 5)];
        assert_eq!(log.append(0, epoch, 1, &frames).unwrap(), Appended::At(1));
        drop(log);
        let log = SledLog::open(dir.path(), false).unwrap();
        assert_eq!(log.get(0, 1).unwrap().unwrap(), frame);
        assert_eq!(log.tail(0).unwrap(), 2);
        assert_eq!(log.read(0, 1, 10).unwrap().len(), 1);
        assert_eq!(log.read(0, 1, usize::MAX).unwrap().len(), 2);
        assert_eq!(log.append(0, epoch, 3, &[frame]).unwrap(), Appended::Fenced, "an old writer is fenced");
        assert_eq!(log.blobs(), 0);
    }

    #[test]
    fn flush_that_failed_once_is_not_believed_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SledLog::open(dir.path(), true).unwrap();
        let (epoch, next) = log.acquire(0).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        // A pipe has nothing that could be flushed.
        let device = std::mem::replace(&mut log.file, std::os::fd::OwnedFd::from(reader).into());
        assert!(log.sync().is_err());
        log.file = device;
        assert!(log.sync().is_err(), "whoever asks next is not told of it by the system");
        let frame = Bytes::from_static(b"a frame");
        assert!(matches!(log.append(0, epoch, next, &[frame]).unwrap(), Appended::Unknown(_)));
    }
}
