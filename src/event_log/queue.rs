//! What waits for the committer: bounded, urgent and lazy.
//!
//! *Urgent* jobs have somebody waiting and are committed at once, together with whatever else waits.
//! *Lazy* ones ride along with the next urgent one, or are committed alone after a short linger, so that
//! a lone sequential sender never waits behind a flush that was not his.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::claims::ClaimKey;
use super::frame::PREFIX_BYTES;
use super::{Error, IngestError, Ingested};
use crate::event::{Position, TriggerId};

/// Most events in one commit. More make those at its beginning wait for those at its end.
const COMMIT_EVENTS_MAX: usize = 1024;
/// Most bytes in one commit, before compression.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long lazy jobs wait for an urgent one to ride along with.
const LINGER: Duration = Duration::from_millis(2);
/// The queue's room is counted in these.
const UNIT_BYTES: usize = 1024;
/// Least room that one event takes, so that the queue is bounded in events too: 4,096 of them at 64 MiB.
const EVENT_UNITS_MIN: usize = 16;
/// Room for lazy records. They come from inside, and hold up the router and the dispatchers when it is full.
const LAZY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Least room that one lazy record takes.
const LAZY_RECORD_BYTES_MIN: usize = 1024;

/// An event to be stored, encoded but for its id.
#[derive(Debug)]
pub(super) struct EventJob {
    pub(super) record: Vec<u8>,
    pub(super) claim: Option<Claim>,
    pub(super) received_at: crate::event::Timestamp,
}

/// A dedupe key to be claimed for a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) key: ClaimKey,
    pub(super) window_ms: u64,
}

/// A job that somebody waits for.
#[derive(Debug)]
pub(super) enum Urgent {
    Ingest { events: Vec<EventJob>, done: oneshot::Sender<Result<Stored, IngestError>>, room: Room },
    Append { records: Vec<Vec<u8>>, done: oneshot::Sender<Result<Position, Error>> },
}

/// What became of a delivery's events.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) ingested: Vec<Ingested>,
    /// The jobs go back to be freed on the thread that made them: freed on the committer's, they would
    /// have it wait for the allocator's lock that the busy worker holds.
    pub(super) _spent: Vec<EventJob>,
}

/// A job that nobody waits for.
#[derive(Debug)]
pub(super) struct Lazy {
    pub(super) records: Vec<Vec<u8>>,
    /// Given back when the job is done.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Room in the queue: the trigger's share and the whole. Given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    _share: OwnedSemaphorePermit,
    _whole: OwnedSemaphorePermit,
}

impl Urgent {
    fn size(&self) -> (usize, usize) {
        match self {
            Urgent::Ingest { events, .. } => {
                (events.len(), events.iter().map(|event| event.record.len()).sum())
            }
            Urgent::Append { records, .. } => (records.len(), records.iter().map(Vec::len).sum()),
        }
    }
}

impl Work {
    /// Returns how many bytes its records take in frames.
    pub(super) fn bytes(&self) -> usize {
        let size = |(records, bytes): (usize, usize)| bytes + records * PREFIX_BYTES;
        let urgent: usize = self.urgent.iter().map(|job| size(job.size())).sum();
        let lazy = self.lazy.iter().flat_map(|job| &job.records);
        urgent + lazy.map(|record| record.len() + PREFIX_BYTES).sum::<usize>()
    }
}

/// The queue before the committer.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    whole: Arc<Semaphore>,
    units: usize,
    shares: Mutex<HashMap<TriggerId, Arc<Semaphore>>>,
    lazy_room: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    urgent: VecDeque<Urgent>,
    lazy: VecDeque<Lazy>,
    lazy_since: Option<Instant>,
    closed: Option<Error>,
}

/// What the committer takes at once.
pub(super) struct Work {
    pub(super) urgent: Vec<Urgent>,
    pub(super) lazy: Vec<Lazy>,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        let units = (bytes_max / UNIT_BYTES).clamp(2 * EVENT_UNITS_MIN, Semaphore::MAX_PERMITS);
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            whole: Arc::new(Semaphore::new(units)),
            units,
            shares: Mutex::default(),
            lazy_room: Arc::new(Semaphore::new(LAZY_BYTES_MAX)),
        }
    }

    /// Waits for room for a trigger's events: first in its share, half of the queue, then in the whole.
    ///
    /// # Errors
    ///
    /// `Overloaded` if there is none at the deadline.
    pub(super) async fn room(
        &self,
        trigger: &TriggerId,
        events: usize,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Room, IngestError> {
        let share_units = self.units / 2;
        let units = bytes.div_ceil(UNIT_BYTES).max(events * EVENT_UNITS_MIN).min(share_units) as u32;
        let share = {
            let mut shares = self.shares.lock();
            match shares.get(trigger) {
                Some(share) => Arc::clone(share),
                None => {
                    let share = Arc::new(Semaphore::new(share_units));
                    shares.insert(trigger.clone(), Arc::clone(&share));
                    share
                }
            }
        };
        let share = acquire(share, units, deadline).await?;
        let whole = acquire(Arc::clone(&self.whole), units, deadline).await?;
        Ok(Room { _share: share, _whole: whole })
    }

    /// Waits for room for lazy records.
    pub(super) async fn lazy_room(&self, records: &[Vec<u8>]) -> Result<OwnedSemaphorePermit, Error> {
        let bytes: usize = records.iter().map(|record| record.len().max(LAZY_RECORD_BYTES_MIN)).sum();
        let permits = bytes.min(LAZY_BYTES_MAX) as u32;
        let acquired = Arc::clone(&self.lazy_room).acquire_many_owned(permits).await;
        acquired.map_err(|_| self.waiting.lock().closed.clone().unwrap_or(Error::Closed))
    }

    pub(super) fn push(&self, job: Urgent) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if let Some(error) = &waiting.closed {
            return Err(error.clone());
        }
        waiting.urgent.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn push_lazy(&self, job: Lazy) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if let Some(error) = &waiting.closed {
            return Err(error.clone());
        }
        waiting.lazy.push_back(job);
        let first = waiting.lazy_since.is_none();
        if first {
            waiting.lazy_since = Some(Instant::now());
        }
        drop(waiting);
        if first {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for work and takes it; nothing once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.urgent.is_empty() {
                break;
            }
            match waiting.lazy_since {
                Some(since) if waiting.closed.is_some() || since.elapsed() >= LINGER => break,
                Some(since) => {
                    self.changed.wait_until(&mut waiting, since + LINGER);
                }
                None if waiting.closed.is_some() => return None,
                None => self.changed.wait(&mut waiting),
            }
        }
        let (mut records, mut bytes) = (0, 0);
        let mut fits = |(job_records, job_bytes): (usize, usize)| {
            let first = records == 0;
            records += job_records;
            bytes += job_bytes;
            first || (records <= COMMIT_EVENTS_MAX && bytes <= COMMIT_BYTES_MAX)
        };
        let mut urgent = Vec::new();
        while waiting.urgent.front().is_some_and(|job| fits(job.size())) {
            urgent.extend(waiting.urgent.pop_front());
        }
        let mut bytes = 0;
        let mut lazy = Vec::new();
        while bytes <= COMMIT_BYTES_MAX
            && let Some(job) = waiting.lazy.pop_front()
        {
            bytes += job.records.iter().map(Vec::len).sum::<usize>();
            lazy.push(job);
        }
        if waiting.lazy.is_empty() {
            waiting.lazy_since = None;
        }
        Some(Work { urgent, lazy })
    }

    /// Puts lazy jobs back that could not be committed for want of room; not into a closed queue.
    pub(super) fn put_back(&self, lazy: Vec<Lazy>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed.is_some() {
            return false;
        }
        for job in lazy.into_iter().rev() {
            waiting.lazy.push_front(job);
        }
        if !waiting.lazy.is_empty() {
            waiting.lazy_since = Some(Instant::now());
        }
        true
    }

    /// Takes nothing more: what comes gets `error`, what waits is still committed.
    pub(super) fn close(&self, error: Error) {
        let mut waiting = self.waiting.lock();
        waiting.closed.get_or_insert(error);
        drop(waiting);
        self.changed.notify_one();
        self.lazy_room.close();
    }

    /// Fails all that waits and all that comes.
    pub(super) fn fail(&self, error: &Error) {
        let mut waiting = self.waiting.lock();
        waiting.closed = Some(error.clone());
        waiting.lazy.clear();
        waiting.lazy_since = None;
        let urgent = std::mem::take(&mut waiting.urgent);
        drop(waiting);
        self.lazy_room.close();
        for job in urgent {
            job.fail(IngestError::Failing(error.clone()));
        }
    }

    /// Returns how many bytes of the queue's room are taken; small events count for more than their size.
    pub(super) fn taken_bytes(&self) -> u64 {
        ((self.units - self.whole.available_permits().min(self.units)) * UNIT_BYTES) as u64
    }
}

impl Urgent {
    /// Tells whoever waits that the job was not done.
    pub(super) fn fail(self, error: IngestError) {
        match self {
            Urgent::Ingest { done, .. } => {
                let _ = done.send(Err(error));
            }
            Urgent::Append { done, .. } => {
                let _ = done.send(Err(match error {
                    IngestError::Failing(error) => error,
                    IngestError::Full | IngestError::Overloaded => Error::Full,
                }));
            }
        }
    }
}

async fn acquire(
    semaphore: Arc<Semaphore>,
    units: u32,
    deadline: Instant,
) -> Result<OwnedSemaphorePermit, IngestError> {
    if let Ok(permit) = Arc::clone(&semaphore).try_acquire_many_owned(units) {
        return Ok(permit);
    }
    let acquired = semaphore.acquire_many_owned(units);
    match tokio::time::timeout_at(deadline.into(), acquired).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(IngestError::Overloaded),
    }
}
