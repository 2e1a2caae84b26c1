//! The committer: one thread that gives ids, claims dedupe keys, cuts frames, appends them durably, and
//! only then wakes those who wait.
//!
//! It takes everything that waits at once (group commit) and never lingers while somebody waits. An error
//! of the store is final until the log is opened anew: a flush that failed cannot be repeated, since the
//! system may have dropped what it could not write. A panic, such as the store's own, counts as such an error.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::claims::{ClaimKey, Claims};
use super::codec::encode_record;
use super::disk::Disk;
use super::frame::{Compressor, Frame, FrameBuilder};
use super::queue::{EventJob, Lazy, Queue, Stored, Urgent, Work};
use super::reader::{PARTITION, Reader};
use super::record::{Duplicate, Record};
use super::state::Follower;
use super::{Error, IngestError, Ingested};
use crate::clock::Clock;
use crate::event::{EventId, Position};
use crate::frames::{Appended, Epoch, Seq};

/// How long lazy records wait for room in a full store before they are tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// What the committer tells about itself.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) flushes: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) failure: Mutex<Option<Error>>,
}

/// The committer's own.
pub(super) struct Committer {
    pub(super) queue: Arc<Queue>,
    pub(super) reader: Arc<Reader>,
    pub(super) claims: Claims,
    pub(super) clock: Clock,
    pub(super) epoch: Epoch,
    pub(super) next: Seq,
    /// The greatest time that an id has carried.
    pub(super) time_ms: u64,
    pub(super) tail: watch::Sender<Seq>,
    pub(super) follower: Follower,
    pub(super) gauges: Arc<Gauges>,
    pub(super) disk: Arc<Disk>,
    pub(super) random: Random,
}

/// Who is to be told what, once a commit is durable.
enum Waiter {
    Ingest(oneshot::Sender<Result<Stored, IngestError>>, Stored, super::queue::Room),
    Append(oneshot::Sender<Result<Position, Error>>, Position, OwnedSemaphorePermit),
}

/// A commit in the making.
struct Commit<'a> {
    compressor: &'a mut Compressor,
    first: Seq,
    time_ms: u64,
    builder: FrameBuilder,
    /// Bytes of records that are still to come.
    bytes_left: usize,
    stored: Vec<bytes::Bytes>,
    frames: Vec<Arc<Frame>>,
    claimed: HashMap<ClaimKey, EventId>,
}

impl Commit<'_> {
    /// Returns where the next record of the given size goes.
    fn place(&mut self, record_bytes: usize) -> Position {
        if self.builder.is_full_for(record_bytes) {
            self.cut();
        }
        Position::new(self.first + self.stored.len() as Seq, self.builder.len())
    }

    fn push(&mut self, record: &[u8]) -> Position {
        let position = self.place(record.len());
        self.builder.push(record);
        position
    }

    fn cut(&mut self) {
        if self.builder.len() == 0 {
            return;
        }
        let seq = self.first + self.stored.len() as Seq;
        self.bytes_left = self.bytes_left.saturating_sub(self.builder.bytes());
        let builder = std::mem::replace(&mut self.builder, FrameBuilder::for_bytes(self.bytes_left));
        let (stored, frame) = builder.finish(PARTITION, seq, self.time_ms, self.compressor);
        self.stored.push(stored);
        self.frames.push(Arc::new(frame));
    }
}

impl Committer {
    /// Runs until the queue is closed and empty, or the store fails.
    pub(super) fn run(mut self, ended: oneshot::Sender<()>) {
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit_all()));
        if let Err(error) = committed.unwrap_or_else(|panic| Err(Error::of_panic("the committer", &*panic))) {
            tracing::error!(%error, "the log failed: events are refused until it is opened again");
            self.fail(&error);
        }
        // After a panic these may panic too; everybody has been told already.
        let closed = catch_unwind(AssertUnwindSafe(|| {
            self.claims.close();
            self.follower.end();
        }));
        if closed.is_err() {
            tracing::error!("closing the log panicked; the next start makes up for it");
        }
        drop(self);
        let _ = ended.send(());
    }

    /// Takes nothing more.
    fn fail(&self, error: &Error) {
        *self.gauges.failure.lock() = Some(error.clone());
        self.queue.fail(error);
    }

    fn commit_all(&mut self) -> Result<(), Error> {
        let mut compressor = Compressor::new();
        while let Some(work) = self.queue.take() {
            self.commit(work, &mut compressor)?;
            self.disk.refresh();
        }
        Ok(())
    }

    /// Commits what was taken. An error means that the store failed, and all who waited were told.
    fn commit(&mut self, work: Work, compressor: &mut Compressor) -> Result<(), Error> {
        self.time_ms = self.time_ms.max(u64::try_from(self.clock.now_ms()).unwrap_or(0));
        let bytes = work.bytes();
        let mut commit = Commit {
            compressor,
            first: self.next,
            time_ms: self.time_ms,
            builder: FrameBuilder::for_bytes(bytes),
            bytes_left: bytes,
            stored: Vec::new(),
            frames: Vec::new(),
            claimed: HashMap::new(),
        };
        for record in work.lazy.iter().flat_map(|job| &job.records) {
            commit.push(record);
        }
        let mut waiters = Vec::with_capacity(work.urgent.len());
        for job in work.urgent {
            match job {
                Urgent::Append { records, done, room } => {
                    let mut last = Position::ZERO;
                    for record in &records {
                        last = commit.push(record);
                    }
                    waiters.push(Waiter::Append(done, last, room));
                }
                Urgent::Ingest { events, done, room } => {
                    let ingested = events.iter().map(|event| self.place(event, &mut commit));
                    match ingested.collect::<Result<Vec<_>, _>>() {
                        Ok(ingested) => {
                            waiters.push(Waiter::Ingest(done, Stored { ingested, _spent: events }, room));
                        }
                        Err(error) => {
                            let _ = done.send(Err(IngestError::Failing(error.clone())));
                            tell(waiters, &IngestError::Failing(error.clone()));
                            return Err(error);
                        }
                    }
                }
            }
        }
        commit.cut();
        let Commit { stored, frames, claimed, .. } = commit;
        if stored.is_empty() {
            finish(waiters);
            return Ok(());
        }
        match self.reader.store.append(PARTITION, self.epoch, self.next, &stored) {
            Ok(Appended::At(_)) => {
                self.committed(&stored, frames, claimed);
                finish(waiters);
                self.claims.committed(self.next - 1)
            }
            Ok(Appended::Full) => {
                tell(waiters, &IngestError::Full);
                self.wait_for_room(work.lazy)
            }
            other => {
                let error = match other {
                    Err(error) => error,
                    Ok(Appended::Fenced) => {
                        Error::Failing("another writer has taken over the log".to_owned())
                    }
                    Ok(outcome) => Error::Failing(match outcome {
                        Appended::Unknown(reason) => reason,
                        outcome => format!("{outcome:?}"),
                    }),
                };
                // Whoever hears it finds the log as it was told.
                self.fail(&error);
                tell(waiters, &IngestError::Failing(error.clone()));
                Err(error)
            }
        }
    }

    /// Gives an event its place and id, or finds the event that holds its claim.
    fn place(&mut self, event: &EventJob, commit: &mut Commit<'_>) -> Result<Ingested, Error> {
        if let Some(claim) = event.claim {
            let first = match commit.claimed.get(&claim.key) {
                Some(first) => Some(*first),
                None => self.claims.get(claim.key)?,
            };
            let holds = |first: &EventId| self.time_ms.saturating_sub(first.time_ms()) < claim.window_ms;
            if let Some(first) = first.filter(holds) {
                let duplicate = Duplicate { first, received_at: event.received_at };
                commit.push(&encode_record(&Record::Duplicate(duplicate)));
                return Ok(Ingested::Duplicate(first));
            }
        }
        let position = commit.place(event.record.len());
        let id = EventId::new(self.time_ms, position, self.random.next());
        commit.builder.push_event(&event.record, id);
        if let Some(claim) = event.claim {
            commit.claimed.insert(claim.key, id);
        }
        Ok(Ingested::Stored(id))
    }

    fn committed(
        &mut self,
        stored: &[bytes::Bytes],
        frames: Vec<Arc<Frame>>,
        claimed: HashMap<ClaimKey, EventId>,
    ) {
        self.next += stored.len() as Seq;
        for (key, id) in claimed {
            self.claims.insert(key, id);
        }
        for frame in frames {
            self.reader.cache.put(frame);
        }
        let bytes: usize = stored.iter().map(bytes::Bytes::len).sum();
        self.gauges.flushes.fetch_add(1, Ordering::Relaxed);
        self.gauges.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tail.send_replace(self.next - 1);
        self.follower.committed(self.next - 1);
    }

    /// Puts lazy records back, to be tried again. Once the log is closed there is no again: what they say
    /// is made anew by the router and the dispatchers after the next start.
    fn wait_for_room(&self, lazy: Vec<Lazy>) -> Result<(), Error> {
        if !self.queue.put_back(lazy) {
            return Err(Error::Full);
        }
        std::thread::sleep(FULL_PAUSE);
        Ok(())
    }
}

fn finish(waiters: Vec<Waiter>) {
    for waiter in waiters {
        match waiter {
            Waiter::Ingest(done, stored, _room) => {
                let _ = done.send(Ok(stored));
            }
            Waiter::Append(done, position, _room) => {
                let _ = done.send(Ok(position));
            }
        }
    }
}

fn tell(waiters: Vec<Waiter>, error: &IngestError) {
    for waiter in waiters {
        match waiter {
            Waiter::Ingest(done, _, room) => {
                Urgent::Ingest { events: Vec::new(), done, room }.fail(error.clone());
            }
            Waiter::Append(done, _, room) => {
                Urgent::Append { records: Vec::new(), done, room }.fail(error.clone());
            }
        }
    }
}

/// Random bits for ids (splitmix64). They make ids of different stores differ; nobody relies on their secrecy.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        let mut seed = [0; 8];
        // Without system randomness ids are still unique within the store.
        let _ = getrandom::fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 32) as u32
    }
}
