//! Room on the disk for what sled writes next, taken before it is needed.
//!
//! A write of sled's that finds the disk full fails the store until it is opened again. So blocks are allocated beyond
//! the end of its file ahead of time, and nothing is appended that they do not cover: who fills the disk, and
//! however fast, the log answers that it is full, and goes on when there is room again. What was accepted is
//! finished meanwhile with the room that was taken. On file systems that cannot allocate ahead, nothing is refused here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::Error;

/// How much is kept ahead. More is taken from others for nothing; less would have to be renewed more often under load.
pub(super) const AHEAD_BYTES: u64 = 32 * 1024 * 1024;
/// When less is left, it is renewed.
const RENEW_BYTES: u64 = AHEAD_BYTES / 4 * 3;
/// What an append may take besides its own bytes: the rest of a segment that is padded, and a further one.
const SEGMENTS_BYTES: u64 = 16 * 1024 * 1024;
/// How often an appended byte is written: once itself, and again with the page that it is on.
const WRITTEN_TIMES: u64 = 2;

/// Room for sled's file.
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    path: PathBuf,
    taken: Mutex<Taken>,
    is_low: AtomicBool,
}

#[derive(Debug, Default)]
struct Taken {
    /// Blocks are allocated up to there, unless the file became shorter.
    up_to: u64,
    length: u64,
    cannot: bool,
}

impl Room {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::options().write(true).open(path).map_err(Error::io("opening", path))?;
        Ok(Self { file, path: path.to_owned(), taken: Mutex::default(), is_low: AtomicBool::new(false) })
    }

    /// Tells whether there was no room to take when it was last tried.
    pub(super) fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Tells whether there is room for an append of so many bytes. Takes more where that gets short.
    pub(super) fn covers(&self, bytes: u64) -> bool {
        self.ahead() >= SEGMENTS_BYTES + bytes * WRITTEN_TIMES
    }

    /// Takes room where it is short; returns how much there is beyond the file's end.
    pub(super) fn ahead(&self) -> u64 {
        let mut taken = self.taken.lock();
        // A file that cannot be asked about will tell when it is written.
        let Some(length) = self.file.metadata().ok().map(|meta| meta.len()).filter(|_| !taken.cannot) else {
            return u64::MAX;
        };
        if length < taken.length {
            // sled cut free segments off, and with them what was taken behind them.
            taken.up_to = length;
        }
        taken.length = length;
        let ahead = taken.up_to.saturating_sub(length);
        if ahead >= RENEW_BYTES {
            return ahead;
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, length, AHEAD_BYTES) {
            Ok(()) => {
                taken.up_to = length + AHEAD_BYTES;
                self.is_low.store(false, Ordering::Relaxed);
                AHEAD_BYTES
            }
            Err(Errno::NOSPC | Errno::DQUOT) => {
                self.is_low.store(true, Ordering::Relaxed);
                ahead
            }
            Err(error) => {
                let file = self.path.display();
                tracing::info!(%file, %error, "no room can be taken ahead: a disk that runs full fails the log");
                taken.cannot = true;
                u64::MAX
            }
        }
    }
}
