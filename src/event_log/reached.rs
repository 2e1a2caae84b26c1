//! How far the log is known to have come: a small file beside sled's, written after every commit.
//!
//! It says which frames were on the device, so that a file which later holds fewer of them is known to be damaged.
//! It is written when they are, without a flush of its own, so it costs a commit next to nothing: after a crash of the
//! process it is exact, after a power cut it may be some commits behind, never ahead. The fold's thread flushes it now
//! and then.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Error;
use crate::frames::Seq;

/// The file's name.
pub(super) const FILE: &str = "reached";
/// How long a change may wait for its flush. A power cut makes it forget that much.
const FLUSH_AFTER: Duration = Duration::from_millis(250);

/// How far the log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The sequence number of sled's snapshot at the last opening: all frames up to `first` are within it.
    pub(super) snapshot: u64,
    pub(super) first: Seq,
    /// All frames up to this one were on the device.
    pub(super) last: Seq,
}

impl Reached {
    /// Reads what a folder's file says; nothing where there is none, or what it holds is damaged itself.
    pub(super) fn read(sled_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(sled_dir.join(FILE)).ok()?;
        let reached = Self::parse(&text);
        if reached.is_none() && !text.is_empty() {
            let folder = sled_dir.display();
            tracing::warn!(%folder, file = FILE, "a file is damaged: it cannot be told whether frames are missing");
        }
        reached
    }

    /// One line of fixed length, well within the sector that a device writes as a whole.
    fn text(self) -> String {
        let text = format!("{:016x} {:020} {:020}", self.snapshot, self.first, self.last);
        format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
    }

    fn parse(text: &str) -> Option<Self> {
        let (fields, crc) = text.trim_end().rsplit_once(' ')?;
        if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(fields.as_bytes()) {
            return None;
        }
        let mut fields = fields.split(' ');
        Some(Self {
            snapshot: u64::from_str_radix(fields.next()?, 16).ok()?,
            first: fields.next()?.parse().ok()?,
            last: fields.next()?.parse().ok()?,
        })
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct ReachedFile {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reached: Reached,
    is_flushed: bool,
    flushed_at: Instant,
    is_failing: bool,
}

impl ReachedFile {
    /// Opens the file, and makes it where there is none; its name is durable when the folder is flushed.
    pub(super) fn open(sled_dir: &Path) -> Result<Self, Error> {
        let path = sled_dir.join(FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("opening", &path))?;
        let reached = Reached { snapshot: 0, first: 0, last: 0 };
        let flushed_at = Instant::now();
        let state = Mutex::new(State { reached, is_flushed: true, flushed_at, is_failing: false });
        Ok(Self { file, path, state })
    }

    /// Puts on the device what is known after an opening.
    pub(super) fn begin(&self, reached: Reached) -> Result<(), Error> {
        self.file.write_all_at(reached.text().as_bytes(), 0).map_err(Error::io("writing", &self.path))?;
        let mut state = self.state.lock();
        (state.reached, state.is_flushed) = (reached, false);
        drop(state);
        self.flush()
    }

    /// Frames up to this one are on the device.
    pub(super) fn advance(&self, last: Seq) {
        let mut state = self.state.lock();
        let reached = Reached { last, ..state.reached };
        self.write(&mut state, reached);
    }

    /// Frames before this one will be dropped: they are not to be missed.
    pub(super) fn drop_before(&self, seq: Seq) -> Result<(), Error> {
        let mut state = self.state.lock();
        let reached = Reached { first: state.reached.first.max(seq.saturating_sub(1)), ..state.reached };
        self.write(&mut state, reached);
        drop(state);
        self.flush()
    }

    /// A mark that cannot be written protects less; it is no reason to refuse events.
    fn write(&self, state: &mut State, reached: Reached) {
        match self.file.write_all_at(reached.text().as_bytes(), 0) {
            Ok(()) => {
                (state.reached, state.is_flushed) = (reached, false);
            }
            Err(error) if !state.is_failing => {
                tracing::warn!(file = %self.path.display(), %error, "it cannot be noted how far the log has come");
                state.is_failing = true;
            }
            Err(_) => {}
        }
    }

    /// Flushes the file if that was long ago.
    pub(super) fn flush_now_and_then(&self) -> Result<(), Error> {
        let is_due = self.state.lock().flushed_at.elapsed() >= FLUSH_AFTER;
        if is_due { self.flush() } else { Ok(()) }
    }

    /// Flushes the file. Commits go on meanwhile.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.flushed_at = Instant::now();
        if std::mem::replace(&mut state.is_flushed, true) {
            return Ok(());
        }
        drop(state);
        self.file.sync_data().map_err(Error::io("flushing", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Reached::read(dir.path()), None);
        let begun = Reached { snapshot: 0xabc, first: 7, last: 7 };
        let file = ReachedFile::open(dir.path()).unwrap();
        assert_eq!(Reached::read(dir.path()), None);
        file.begin(begun).unwrap();
        assert_eq!(Reached::read(dir.path()), Some(begun));
        file.advance(12_345);
        file.drop_before(100).unwrap();
        assert_eq!(Reached::read(dir.path()), Some(Reached { first: 99, last: 12_345, ..begun }));
        let mut text = std::fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..text.len() - 1 {
            text[at] ^= 1;
            std::fs::write(dir.path().join(FILE), &text).unwrap();
            assert_eq!(Reached::read(dir.path()), None, "byte {at}");
            text[at] ^= 1;
        }
    }
}
