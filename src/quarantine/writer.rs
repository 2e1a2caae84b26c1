//! The thread that writes the quarantine: the only one that makes files in it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::held::Rejected;
use super::store::Store;
use crate::supervise;

/// How long it takes at least until the known addresses are written again.
const KNOWN_EVERY: Duration = Duration::from_secs(60);
/// How long it takes at least until a failure is told again: a flood on a full disk would tell nothing else.
const FAILURE_EVERY: Duration = Duration::from_secs(60);

/// What the writer is asked for.
pub(super) enum Job {
    /// Keep this delivery.
    Keep(Box<Rejected>),
    /// An address became known: keep that in a while.
    News,
    /// Write what is left and end.
    Stop,
}

pub(super) fn start(
    store: Arc<Store>,
    jobs: Receiver<Job>,
    has_room: Box<dyn Fn() -> bool + Send>,
) -> io::Result<JoinHandle<()>> {
    let writer = Writer { store, has_room, known_at: None, failed_at: None };
    thread::Builder::new().name("quarantine".to_owned()).spawn(move || writer.run(&jobs))
}

struct Writer {
    store: Arc<Store>,
    has_room: Box<dyn Fn() -> bool + Send>,
    known_at: Option<Instant>,
    failed_at: Option<Instant>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        supervise::give_way_to_ingest();
        // It may take a while, and the start waits for nothing that was refused.
        self.store.shelf();
        loop {
            match self.next(jobs) {
                Some(Job::Keep(rejected)) => self.keep(&rejected),
                Some(Job::News) => {}
                Some(Job::Stop) => break,
                None => self.write_known(),
            }
        }
        self.write_known();
    }

    /// Waits for a job; nothing means that it is time to write the known addresses.
    fn next(&self, jobs: &Receiver<Job>) -> Option<Job> {
        if !self.store.news.load(Ordering::Relaxed) {
            return Some(jobs.recv().unwrap_or(Job::Stop));
        }
        let wait = self.known_at.map_or(Duration::ZERO, |at| KNOWN_EVERY.saturating_sub(at.elapsed()));
        match jobs.recv_timeout(wait) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Stop),
        }
    }

    fn keep(&mut self, rejected: &Rejected) {
        self.store.queued_bytes.fetch_sub(rejected.request.memory_bytes(), Ordering::Relaxed);
        if !(self.has_room)() {
            self.store.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Err(error) = self.store.put(rejected) {
            self.store.dropped.fetch_add(1, Ordering::Relaxed);
            self.tell(&error);
        }
    }

    fn tell(&mut self, error: &super::Error) {
        if self.failed_at.is_some_and(|at| at.elapsed() < FAILURE_EVERY) {
            return;
        }
        self.failed_at = Some(Instant::now());
        tracing::warn!(%error, "could not keep a rejected delivery in quarantine");
    }

    fn write_known(&mut self) {
        // First: who becomes known from here on asks anew.
        if !self.store.news.swap(false, Ordering::Relaxed) || !(self.has_room)() {
            return;
        }
        self.known_at = Some(Instant::now());
        if let Err(error) = self.store.folder.write_known(self.store.known.encode()) {
            self.tell(&error);
        }
    }
}
