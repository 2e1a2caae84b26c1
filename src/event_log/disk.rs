//! How much room the disk has: ingress stops before it is full, so that what is accepted can be finished.
//!
//! Asking the file system can block, so the committer asks, and those who take events read its answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::sled_log::SledLog;

/// How long an answer of the file system counts.
const ASK_AFTER: Duration = Duration::from_millis(250);

/// Tells whether the disk has less room left than a reserve.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    reserve_bytes: u64,
    /// Takes room ahead for what is accepted; nothing for a log that is not on this disk.
    sled: Option<Arc<SledLog>>,
    began: Instant,
    /// Milliseconds after `began`.
    ask_again_at: AtomicU64,
    full: AtomicBool,
}

impl Disk {
    /// Asks the file system for the first time. Blocks.
    pub(super) fn new(dir: PathBuf, reserve_bytes: u64, sled: Option<Arc<SledLog>>) -> Self {
        let (ask_again_at, full) = (AtomicU64::new(0), AtomicBool::new(false));
        let disk = Self { dir, reserve_bytes, sled, began: Instant::now(), ask_again_at, full };
        disk.refresh();
        disk
    }

    /// Tells whether the disk was full when the file system was last asked.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Tells whether the file system should be asked again.
    pub(super) fn is_stale(&self) -> bool {
        self.now_ms() >= self.ask_again_at.load(Ordering::Relaxed)
    }

    /// Asks the file system, unless its last answer still counts. Blocks. A file system that does not answer
    /// counts as one with room: the log itself will fail where it must.
    pub(super) fn refresh(&self) {
        if !self.is_stale() {
            return;
        }
        let is_short = rustix::fs::statvfs(&self.dir)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < self.reserve_bytes);
        let full = is_short || self.sled.as_ref().is_some_and(|sled| !sled.has_room());
        self.ask_again_at.store(self.now_ms() + ASK_AFTER.as_millis() as u64, Ordering::Relaxed);
        if full != self.full.swap(full, Ordering::Relaxed) {
            if full {
                let (folder, reserve_bytes) = (self.dir.display(), self.reserve_bytes);
                tracing::error!(%folder, reserve_bytes, "disk full: events are refused until there is room");
            } else {
                tracing::info!(folder = %self.dir.display(), "disk has room again: events are accepted");
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}
