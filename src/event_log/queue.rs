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
/// Most bytes in one commit, before compression, unless one job alone has more.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of a commit urgent jobs leave to lazy ones that wait, so that a flood of events does not keep those
/// from coming through.
const COMMIT_LAZY_BYTES: usize = COMMIT_BYTES_MAX / 2;
/// How long lazy jobs wait for an urgent one to ride along with.
const LINGER: Duration = Duration::from_millis(2);
/// The queue's room is counted in these.
const UNIT_BYTES: usize = 1024;
/// Least room that one event takes, so that the queue is bounded in events too.
const EVENT_UNITS_MIN: usize = 16;
/// Room for lazy records. They come from inside, and hold up the router and the dispatchers when it is full.
const LAZY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Room for records from inside that somebody waits for: of the admin API, replays and the audit.
const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Least room that one record from inside takes.
const RECORD_ROOM_BYTES_MIN: usize = 1024;

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
    Ingest {
        events: Vec<EventJob>,
        done: oneshot::Sender<Result<Stored, IngestError>>,
        room: Room,
    },
    Append {
        records: Vec<Vec<u8>>,
        done: oneshot::Sender<Result<Position, Error>>,
        /// Given back when the job is done.
        room: OwnedSemaphorePermit,
    },
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

impl Lazy {
    fn bytes(&self) -> usize {
        self.records.iter().map(Vec::len).sum()
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
    append_room: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    urgent: VecDeque<Urgent>,
    lazy: VecDeque<Lazy>,
    /// Bytes of the records in `lazy`.
    lazy_bytes: usize,
    lazy_since: Option<Instant>,
    /// The committer is to come round, though there is nothing to commit.
    nudged: bool,
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
            append_room: Arc::new(Semaphore::new(APPEND_BYTES_MAX)),
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
        self.inner_room(&self.lazy_room, LAZY_BYTES_MAX, records).await
    }

    /// Waits for room for records that somebody waits for.
    pub(super) async fn append_room(&self, records: &[Vec<u8>]) -> Result<OwnedSemaphorePermit, Error> {
        self.inner_room(&self.append_room, APPEND_BYTES_MAX, records).await
    }

    async fn inner_room(
        &self,
        room: &Arc<Semaphore>,
        bytes_max: usize,
        records: &[Vec<u8>],
    ) -> Result<OwnedSemaphorePermit, Error> {
        let bytes: usize = records.iter().map(|record| record.len().max(RECORD_ROOM_BYTES_MIN)).sum();
        let permits = bytes.min(bytes_max) as u32;
        let acquired = Arc::clone(room).acquire_many_owned(permits).await;
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
        waiting.lazy_bytes += job.bytes();
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

    /// Has the committer come round with empty hands.
    pub(super) fn nudge(&self) {
        self.waiting.lock().nudged = true;
        self.changed.notify_one();
    }

    /// Waits for work and takes it, none after a [`nudge`](Self::nudge); nothing once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.urgent.is_empty() || waiting.nudged {
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
        waiting.nudged = false;
        let left_to_lazy = waiting.lazy_bytes.min(COMMIT_LAZY_BYTES);
        let (mut urgent, mut records, mut bytes) = (Vec::new(), 0, 0);
        while let Some((job_records, job_bytes)) = waiting.urgent.front().map(Urgent::size) {
            (records, bytes) = (records + job_records, bytes + job_bytes);
            let fits = records <= COMMIT_EVENTS_MAX && bytes + left_to_lazy <= COMMIT_BYTES_MAX;
            if !fits && !urgent.is_empty() {
                bytes -= job_bytes;
                break;
            }
            urgent.extend(waiting.urgent.pop_front());
        }
        let mut lazy = Vec::new();
        while let Some(job_bytes) = waiting.lazy.front().map(Lazy::bytes) {
            bytes += job_bytes;
            if bytes > COMMIT_BYTES_MAX && !(urgent.is_empty() && lazy.is_empty()) {
                break;
            }
            lazy.extend(waiting.lazy.pop_front());
            waiting.lazy_bytes -= job_bytes;
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
            waiting.lazy_bytes += job.bytes();
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
        self.close_rooms();
    }

    /// Fails all that waits and all that comes.
    pub(super) fn fail(&self, error: &Error) {
        let mut waiting = self.waiting.lock();
        waiting.closed = Some(error.clone());
        waiting.lazy.clear();
        waiting.lazy_bytes = 0;
        waiting.lazy_since = None;
        let urgent = std::mem::take(&mut waiting.urgent);
        drop(waiting);
        self.close_rooms();
        for job in urgent {
            job.fail(IngestError::Failing(error.clone()));
        }
    }

    /// Those who wait for room get the error that the queue was closed with.
    fn close_rooms(&self) {
        self.lazy_room.close();
        self.append_room.close();
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MIB: usize = 1024 * 1024;

    async fn push(queue: &Queue, urgent: bool, bytes: usize) {
        let records = vec![vec![0; bytes]];
        if urgent {
            let room = queue.append_room(&records).await.unwrap();
            queue.push(Urgent::Append { records, done: oneshot::channel().0, room }).unwrap();
        } else {
            let room = queue.lazy_room(&records).await.unwrap();
            queue.push_lazy(Lazy { records, _room: room }).unwrap();
        }
    }

    async fn check(urgent: &[usize], lazy: &[usize], expected: &[(usize, usize)]) {
        let queue = Queue::new(MIB);
        for (is_urgent, jobs) in [(true, urgent), (false, lazy)] {
            for bytes in jobs {
                push(&queue, is_urgent, *bytes).await;
            }
        }
        queue.close(Error::Closed);
        let taken = std::iter::from_fn(|| queue.take()).map(|work| (work.urgent.len(), work.lazy.len()));
        assert_eq!(taken.collect::<Vec<_>>(), expected, "of {urgent:?} and {lazy:?}");
    }

    #[tokio::test]
    async fn one_commit_holds_urgent_and_lazy_jobs_up_to_its_limit() {
        check(&[], &[], &[]).await;
        check(&[MIB; 6], &[], &[(4, 0), (2, 0)]).await;
        check(&[], &[MIB; 6], &[(0, 4), (0, 2)]).await;
        check(&[MIB; 6], &[MIB; 3], &[(2, 2), (3, 1), (1, 0)]).await;
        check(&[MIB; 6], &[100; 2], &[(3, 2), (3, 0)]).await;
        check(&[5 * MIB, MIB], &[MIB], &[(1, 0), (1, 1)]).await;
        check(&[], &[5 * MIB, MIB], &[(0, 1), (0, 1)]).await;
    }

    #[tokio::test]
    async fn record_that_somebody_waits_for_waits_for_room_until_others_are_done() {
        let queue = Queue::new(MIB);
        push(&queue, true, APPEND_BYTES_MAX - 100).await;
        let late = [vec![0; 100]];
        let mut room = std::pin::pin!(queue.append_room(&late));
        assert!(room.as_mut().now_or_never().is_none());
        drop(queue.take());
        assert!(room.await.is_ok());
        push(&queue, true, APPEND_BYTES_MAX).await;
        let mut room = std::pin::pin!(queue.append_room(&late));
        assert!(room.as_mut().now_or_never().is_none());
        queue.fail(&Error::Failing("the device is gone".to_owned()));
        assert!(matches!(room.await, Err(Error::Failing(_))), "nobody waits for a log that failed");
    }

    #[test]
    fn nudged_committer_comes_round_with_empty_hands() {
        let queue = Queue::new(MIB);
        queue.nudge();
        assert!(queue.take().is_some_and(|work| work.urgent.is_empty() && work.lazy.is_empty()));
        queue.close(Error::Closed);
        assert!(queue.take().is_none());
    }

    #[tokio::test]
    async fn room_that_does_not_come_before_the_deadline_is_overload() {
        let queue = Queue::new(64 * 1024);
        let (noisy, quiet): (TriggerId, TriggerId) = ("noisy".parse().unwrap(), "quiet".parse().unwrap());
        let soon = || Instant::now() + Duration::from_millis(20);
        let _taken = [
            queue.room(&noisy, 1, 100, soon()).await.unwrap(),
            queue.room(&noisy, 1, 100, soon()).await.unwrap(),
        ];
        assert!(matches!(queue.room(&noisy, 1, 100, soon()).await, Err(IngestError::Overloaded)));
        assert!(queue.room(&quiet, 1, 100, soon()).await.is_ok(), "one trigger gets half of the room");
    }
}
