//! The log that hookkeeper is compared with: frames appended to one file, one `fdatasync` per append.
//! It recovers nothing and trims nothing; it shows what the device and the rest of the server allow. Uncompressed, it
//! writes as many bytes as the frames hold: what a server that appends what it receives asks of the device.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use hookkeeper::event_log::{Appended, Epoch, Error, EventLog, Partition, Seq};

/// Where a frame's header says how long its records are before compression, little-endian.
const RAW_LENGTH: std::ops::Range<usize> = 12..16;

pub(crate) struct PlainLog {
    file: File,
    compressed: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Offset and length of each frame; frame 1 comes first.
    frames: Vec<(u64, usize)>,
    end: u64,
}

impl PlainLog {
    pub(crate) fn create(path: &Path, compressed: bool) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        Self { file, compressed, inner: Mutex::default() }
    }

    /// Bytes that the frame takes in the file.
    fn room(&self, frame: &[u8]) -> usize {
        let raw = u32::from_le_bytes(frame[RAW_LENGTH].try_into().unwrap()) as usize;
        if self.compressed { frame.len() } else { frame.len().max(raw) }
    }
}

impl EventLog for PlainLog {
    fn acquire(&self, _: Partition) -> Result<(Epoch, Seq), Error> {
        Ok((1, 1))
    }

    fn append(&self, _: Partition, _: Epoch, expected: Seq, frames: &[Bytes]) -> Result<Appended, Error> {
        let mut inner = self.inner.lock().unwrap();
        let mut buffer = Vec::with_capacity(frames.iter().map(|frame| self.room(frame)).sum());
        for frame in frames {
            let end = buffer.len() + self.room(frame);
            buffer.extend_from_slice(frame);
            buffer.resize(end, 0);
        }
        self.file.write_all_at(&buffer, inner.end).unwrap();
        self.file.sync_data().unwrap();
        for frame in frames {
            let at = inner.end;
            inner.frames.push((at, frame.len()));
            inner.end += self.room(frame) as u64;
        }
        Ok(Appended::At(expected))
    }

    fn read(&self, partition: Partition, from: Seq, bytes_max: usize) -> Result<Vec<(Seq, Bytes)>, Error> {
        let (mut seq, mut total, mut found) = (from.max(1), 0, Vec::new());
        while total < bytes_max
            && let Some(frame) = self.get(partition, seq)?
        {
            total += frame.len();
            found.push((seq, frame));
            seq += 1;
        }
        Ok(found)
    }

    fn tail(&self, _: Partition) -> Result<Seq, Error> {
        Ok(self.inner.lock().unwrap().frames.len() as Seq)
    }

    fn get(&self, _: Partition, seq: Seq) -> Result<Option<Bytes>, Error> {
        let at = usize::try_from(seq).unwrap().checked_sub(1);
        let Some((offset, length)) = at.and_then(|at| self.inner.lock().unwrap().frames.get(at).copied())
        else {
            return Ok(None);
        };
        let mut frame = vec![0; length];
        self.file.read_exact_at(&mut frame, offset).unwrap();
        Ok(Some(frame.into()))
    }

    fn trim(&self, _: Partition, _: Seq) -> Result<(), Error> {
        Ok(())
    }

    fn redact(&self, _: Partition, _: Seq, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}
