//! How much room the disk has: ingress stops before it is full, so that what is accepted can be finished.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an answer of the file system counts.
const ASK_AFTER: Duration = Duration::from_millis(250);

/// Tells whether the disk has less room left than a reserve.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    reserve_bytes: u64,
    began: Instant,
    /// Milliseconds after `began`.
    ask_again_at: AtomicU64,
    full: AtomicBool,
}

impl Disk {
    pub(super) fn new(dir: PathBuf, reserve_bytes: u64) -> Self {
        let began = Instant::now();
        Self { dir, reserve_bytes, began, ask_again_at: AtomicU64::new(0), full: AtomicBool::new(false) }
    }

    /// Asks the file system, though not more often than every quarter of a second. A file system that
    /// does not answer counts as one with room: the log itself will fail where it must.
    pub(super) fn is_full(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        if now < self.ask_again_at.load(Ordering::Relaxed) {
            return self.full.load(Ordering::Relaxed);
        }
        self.ask_again_at.store(now + ASK_AFTER.as_millis() as u64, Ordering::Relaxed);
        let full = rustix::fs::statvfs(&self.dir)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < self.reserve_bytes);
        if full != self.full.swap(full, Ordering::Relaxed) {
            if full {
                let (folder, reserve_bytes) = (self.dir.display(), self.reserve_bytes);
                tracing::error!(%folder, reserve_bytes, "disk full: events are refused until there is room");
            } else {
                tracing::info!(folder = %self.dir.display(), "disk has room again: events are accepted");
            }
        }
        full
    }
}
