//! The durable log: an event is here before its sender gets a 2xx.
//!
//! One log is the truth. Events, duplicates, the router's decisions, attempts, switches, sealed secrets and
//! audit lines are [records](record) in frames of one ordered log behind the [`EventLog`] trait. The way
//! of an event: [`Log::ingest`] encodes it on the caller's thread and queues it (`queue`), the `committer`
//! gives it an id, claims its dedupe key (`claims`), cuts a frame and appends it durably (`sled_log`),
//! then wakes the caller. Everything else is derived: [`State`] is a fold of the records.
//!
//! This module knows no HTTP, no signatures and no configuration. Nothing here decides what an event
//! starts; the router and the dispatchers do, and tell it in records.

mod cache;
mod check;
mod claims;
pub mod codec;
mod committer;
mod disk;
mod failure;
mod frame;
mod lock;
mod migrations;
mod query;
mod queue;
mod reached;
mod reader;
pub mod record;
mod room;
mod sled_log;
mod sled_recovery;
mod sled_table;
mod spool;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

pub use self::check::Report;
pub use self::frame::{Frame, RECORD_BYTES_MAX, decode_frame};
pub use self::query::{EventScan, Page};
pub use self::sled_log::SledLog;
pub use self::spool::{Spool, SpoolWriter};
pub use self::state::{
    AttemptSummary, Counts, DueRun, FunctionState, HISTORY_MAX, PermitsState, PollCursor, Rotation, Routing,
    Run, RunFilter, SECRETS_KEPT_MAX, ScheduleState, State, Taken, TriggerState,
};
pub use crate::frames::{Appended, Epoch, Error, EventLog, IngestError, MemoryLog, Partition, Seq};

use self::cache::FrameCache;
use self::claims::{Claims, TABLE_CLAIMS, claim_of};
use self::committer::{Committer, Gauges, Random};
use self::disk::Disk;
use self::lock::Lock;
use self::queue::{Claim, EventJob, Lazy, Queue, Urgent};
use self::reader::{PARTITION, Reader};
use self::record::Record;
use self::sled_table::SledTable;
use self::state::Follower;
use self::state::table::{MemoryTable, Table};
use crate::clock::Clock;
use crate::event::{Body, EventContent, EventId, Position, StoredEvent};

/// Largest body that a record holds; larger ones are spooled. More would let a few slow senders hold
/// much memory, and a record must fit a frame; less would cost a file and two flushes for bodies that a
/// frame takes easily.
pub const INLINE_BODY_BYTES_MAX: usize = 256 * 1024;
/// Room in the queue before the committer, by default.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Disk room below which events are refused, by default: enough to finish what is accepted.
const DISK_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// How long after its deadline a delivery waits for the device before it gives up on an answer: longer than a
/// device is busy, and short enough that senders do not pile up before one that hangs.
const DEVICE_GRACE: Duration = Duration::from_secs(10);
/// Folder of spooled bodies in the data folder.
const BODIES_DIR: &str = "bodies";
/// Folder of the files of claims in the data folder.
const CLAIMS_DIR: &str = "claims";
/// How long claims are kept, by default: longer than any window that makes sense.
const CLAIMS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// How to open a log.
#[derive(Clone)]
pub struct Options {
    /// The data folder; made where it is missing.
    pub dir: PathBuf,
    /// Where the time of ids comes from.
    pub clock: Clock,
    /// The log of frames; nothing means sled in the data folder.
    pub store: Option<Arc<dyn EventLog>>,
    /// Free disk room in bytes below which events are refused.
    pub disk_reserve_bytes: u64,
    /// How long claims are kept; the longest dedupe window of any trigger must not be longer.
    pub claims_kept: Duration,
    /// How many claims are held in memory before they are written to a file.
    pub claims_in_memory: usize,
    /// Room in the queue before the committer, in bytes. One trigger gets half of it at most.
    pub queue_bytes_max: usize,
}

impl Options {
    /// Returns the defaults for a data folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            clock: Clock::system(),
            store: None,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            claims_kept: CLAIMS_KEPT,
            claims_in_memory: TABLE_CLAIMS,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }
}

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event.
    pub content: EventContent,
    /// How long its dedupe key, if it has one, is claimed.
    pub window: Duration,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingested {
    /// It is stored under this id.
    Stored(EventId),
    /// Its dedupe key is held by this event.
    Duplicate(EventId),
}

impl Ingested {
    /// Returns the id of the event that the delivery stands for.
    pub fn id(self) -> EventId {
        match self {
            Ingested::Stored(id) | Ingested::Duplicate(id) => id,
        }
    }
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It takes events.
    Ok,
    /// The disk has less room than the reserve: events are refused, all else goes on.
    Full,
    /// It takes nothing until it is opened again.
    Failing(String),
}

/// The log's condition and gauges.
#[derive(Debug, Clone)]
pub struct Health {
    /// How it is.
    pub condition: Condition,
    /// Flushes to the device since it was opened.
    pub flushes: u64,
    /// Bytes of frames appended since it was opened.
    pub bytes: u64,
    /// The last frame.
    pub frames: u64,
    /// Frames that the fold has not come to.
    pub unfolded: u64,
    /// Room taken in the queue before the committer, in bytes.
    pub queue_bytes: u64,
    /// Files that the store keeps outside of what it flushes; more than none is a danger.
    pub blobs: u64,
}

/// The log. Cheap to clone; the last handle dropped commits what is queued and closes it.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    reader: Arc<Reader>,
    sled: Option<Arc<SledLog>>,
    state: State,
    tail: watch::Receiver<u64>,
    spool: Spool,
    /// Nothing in a log opened for reading.
    writer: Option<Writer>,
}

struct Writer {
    queue: Arc<Queue>,
    gauges: Arc<Gauges>,
    disk: Arc<Disk>,
    ended: parking_lot::Mutex<Option<oneshot::Receiver<()>>>,
    threads: parking_lot::Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Writer {
    /// Tells whether the disk is full, as the committer last saw it; it looks again where that was long ago.
    fn is_disk_full(&self) -> bool {
        if self.disk.is_stale() {
            self.queue.nudge();
        }
        self.disk.is_full()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(writer) = &self.writer else { return };
        writer.queue.close(Error::Closed);
        for thread in writer.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

impl Log {
    /// Opens the log, and makes it where there is none. Blocks: claims and state are brought up to the tail.
    ///
    /// # Errors
    ///
    /// If another process has the folder, or the store does not open; it is left as it is then.
    pub fn open(options: Options) -> Result<Self, Error> {
        let dir = &options.dir;
        make_data_dir(dir)?;
        let lock = Lock::take(dir)?;
        let (reader, sled, table) = open_store(dir, options.store.clone(), lock, true)?;
        if let Some(blobs) = sled.as_ref().map(|sled| sled.blobs()).filter(|blobs| *blobs > 0) {
            tracing::warn!(blobs, folder = %dir.display(), "the store holds values that it does not flush");
        }
        spool::make_dir(&reader.bodies)?;
        let (epoch, next) = reader.store.acquire(PARTITION)?;
        let state = State::open(table, Arc::clone(&reader), next - 1)?;
        let time_ms = reader.frame(next - 1)?.map_or(0, |last| last.time_ms());
        let now_ms = u64::try_from(options.clock.now_ms()).unwrap_or(0);
        let claims = Claims::open(
            &dir.join(CLAIMS_DIR),
            &reader,
            next - 1,
            options.claims_kept,
            now_ms,
            options.claims_in_memory,
        )?;
        let spool = Spool::new(reader.bodies.clone(), epoch);
        let sweeper = sweep_bodies(spool.clone(), state.clone());
        let (tail_sender, tail) = watch::channel(next - 1);
        let queue = Arc::new(Queue::new(options.queue_bytes_max));
        let gauges = Arc::<Gauges>::default();
        let disk = Arc::new(Disk::new(dir.clone(), options.disk_reserve_bytes, sled.clone()));
        let committer = Committer {
            queue: Arc::clone(&queue),
            reader: Arc::clone(&reader),
            claims,
            clock: options.clock.clone(),
            epoch,
            next,
            time_ms,
            tail: tail_sender,
            follower: Follower::start(Arc::clone(state.shared())),
            gauges: Arc::clone(&gauges),
            disk: Arc::clone(&disk),
            random: Random::new(),
        };
        let (ended_sender, ended) = oneshot::channel();
        let committer = std::thread::Builder::new()
            .name("log-commit".to_owned())
            .spawn(move || committer.run(ended_sender))
            .map_err(Error::io("starting the committer for", dir))?;
        let writer = Some(Writer {
            queue,
            gauges,
            disk,
            ended: parking_lot::Mutex::new(Some(ended)),
            threads: parking_lot::Mutex::new(std::iter::once(committer).chain(sweeper).collect()),
        });
        Ok(Self(Arc::new(Inner { reader, sled, state, tail, spool, writer })))
    }

    /// Opens a stopped server's folder for reading. Blocks: state is brought up to the tail, in memory only.
    ///
    /// # Errors
    ///
    /// If a process has the folder, or there is no store in it, or it does not open.
    pub fn open_reader(dir: &Path) -> Result<Self, Error> {
        let (reader, sled, table) = open_to_read(dir)?;
        let tail = reader.store.tail(PARTITION)?;
        let state = State::open(table, Arc::clone(&reader), tail)?;
        let spool = Spool::new(reader.bodies.clone(), 0);
        let (_, tail) = watch::channel(tail);
        Ok(Self(Arc::new(Inner { reader, sled, state, tail, spool, writer: None })))
    }

    fn writer(&self) -> Result<&Writer, Error> {
        self.0.writer.as_ref().ok_or(Error::Closed)
    }

    /// Stores the events of one delivery and returns when they are on the device: for each one its id,
    /// or that of the event that holds its dedupe key. Waits for room in the queue until `deadline`, and
    /// for the device some seconds longer.
    ///
    /// All events are of one trigger. Spooled bodies of events that are not stored are removed. Dropping the
    /// future after it waited for room does not undo anything.
    ///
    /// # Errors
    ///
    /// `Overloaded` and `Full` mean that nothing was stored; after `Failing` it is unknown.
    pub async fn ingest(
        &self,
        events: Vec<NewEvent>,
        deadline: Instant,
    ) -> Result<Vec<Ingested>, IngestError> {
        let ingested = self.try_ingest(&events, deadline).await;
        let refers = |i: usize| match &ingested {
            Ok(ingested) => matches!(ingested[i], Ingested::Stored(_)),
            Err(IngestError::Overloaded | IngestError::Full) => false,
            // It is unknown what was stored; the next start sweeps what nothing refers to.
            Err(IngestError::Failing(_)) => true,
        };
        let spooled = |event: &NewEvent| match &event.content.body {
            Body::Spooled(body) => Some(body.clone()),
            Body::Inline(_) => None,
        };
        // The events of one delivery share its body.
        let kept: Vec<_> =
            (0..events.len()).filter(|i| refers(*i)).filter_map(|i| spooled(&events[i])).collect();
        for body in events.iter().filter_map(spooled).filter(|body| !kept.contains(body)) {
            self.0.spool.discard(&body);
        }
        ingested
    }

    async fn try_ingest(&self, events: &[NewEvent], deadline: Instant) -> Result<Vec<Ingested>, IngestError> {
        let writer = self.writer()?;
        let Some(trigger) = events.first().map(|event| event.content.trigger_id.clone()) else {
            return Ok(Vec::new());
        };
        if writer.is_disk_full() {
            return Err(IngestError::Full);
        }
        let jobs = events.iter().map(event_job).collect::<Result<Vec<_>, _>>()?;
        let bytes = jobs.iter().map(|job| job.record.len()).sum();
        let room = writer.queue.room(&trigger, jobs.len(), bytes, deadline).await?;
        let (done, stored) = oneshot::channel();
        writer.queue.push(Urgent::Ingest { events: jobs, done, room })?;
        let Ok(stored) = tokio::time::timeout_at((deadline + DEVICE_GRACE).into(), stored).await else {
            return Err(IngestError::Failing(Error::Stalled));
        };
        Ok(stored.map_err(|_| unanswered())??.ingested)
    }

    /// Appends records without waiting for the device: they are committed with the next events, or soon
    /// alone. Waits while there is no room. Records of one caller keep their order.
    ///
    /// # Errors
    ///
    /// If the log is closed or failing, or a record is too large.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let writer = self.writer()?;
        let records = encode_all(&records)?;
        let room = writer.queue.lazy_room(&records).await?;
        writer.queue.push_lazy(Lazy { records, _room: room })
    }

    /// Appends records and returns the position of the last one once they are on the device and folded.
    /// Waits while there is no room.
    ///
    /// # Errors
    ///
    /// If the log is closed or failing, or a record is too large.
    pub async fn append_durable(&self, records: Vec<Record>) -> Result<Position, Error> {
        let writer = self.writer()?;
        let records = encode_all(&records)?;
        let (done, stored) = oneshot::channel();
        let room = writer.queue.append_room(&records).await?;
        writer.queue.push(Urgent::Append { records, done, room })?;
        let position = stored.await.map_err(|_| unanswered())??;
        self.0.state.shared().folded(position.frame()).await?;
        Ok(position)
    }

    /// Returns the number of the last committed frame, and word of every further one.
    pub fn tail(&self) -> watch::Receiver<u64> {
        self.0.tail.clone()
    }

    /// Returns once all records up to a frame are folded.
    ///
    /// # Errors
    ///
    /// If the fold has failed.
    pub async fn folded(&self, frame: u64) -> Result<(), Error> {
        self.0.state.shared().folded(frame).await
    }

    /// Returns a frame.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the frame is damaged.
    pub fn frame(&self, seq: u64) -> Result<Option<Arc<Frame>>, Error> {
        self.0.reader.frame(seq)
    }

    /// Returns the record at a position.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the frame is damaged.
    pub fn record(&self, position: Position) -> Result<Option<Record>, Error> {
        self.0.reader.record(position)
    }

    /// Returns an event.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the event's frame is damaged.
    pub fn event(&self, id: EventId) -> Result<Option<Arc<StoredEvent>>, Error> {
        self.0.reader.event(id)
    }

    /// Returns an event if it is at hand in memory. Does not block.
    ///
    /// # Errors
    ///
    /// If the event's record is damaged.
    pub fn event_at_hand(&self, id: EventId) -> Result<Option<Arc<StoredEvent>>, Error> {
        self.0.reader.cached_event(id)
    }

    /// Returns an event's raw body, byte for byte. Blocks where it was spooled.
    ///
    /// # Errors
    ///
    /// If a spooled body is gone or is not what was written.
    pub fn body(&self, event: &StoredEvent) -> Result<Bytes, Error> {
        self.0.reader.body(event)
    }

    /// Returns where large bodies are written before the event that refers to them is ingested.
    pub fn spool(&self) -> Spool {
        self.0.spool.clone()
    }

    /// Returns the fold of the log.
    pub fn state(&self) -> &State {
        &self.0.state
    }

    /// Tells whether events are refused because the disk is full.
    pub fn is_full(&self) -> bool {
        self.0.writer.as_ref().is_some_and(Writer::is_disk_full)
    }

    /// Returns the log's condition and gauges.
    pub fn health(&self) -> Health {
        let frames = *self.0.tail.borrow();
        let writer = self.0.writer.as_ref();
        let failure = writer.and_then(|writer| writer.gauges.failure.lock().clone());
        let failure = failure.or_else(|| self.0.state.failure());
        let full = self.is_full();
        Health {
            condition: match failure {
                Some(Error::Failing(reason)) => Condition::Failing(reason),
                Some(error) => Condition::Failing(error.to_string()),
                None if full => Condition::Full,
                None => Condition::Ok,
            },
            flushes: writer.map_or(0, |writer| writer.gauges.flushes.load(Ordering::Relaxed)),
            bytes: writer.map_or(0, |writer| writer.gauges.bytes.load(Ordering::Relaxed)),
            frames,
            unfolded: frames.saturating_sub(self.0.state.applied()),
            queue_bytes: writer.map_or(0, |writer| writer.queue.taken_bytes()),
            blobs: self.0.sled.as_ref().map_or(0, |sled| sled.blobs()),
        }
    }

    /// Folds the whole log anew, and returns the sums. For a log that nobody writes to. Blocks.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written, or a frame is damaged.
    pub fn rebuild(&self) -> Result<Counts, Error> {
        self.0.state.shared().rebuild()?;
        Ok(self.0.state.counts())
    }

    /// Takes nothing more, commits what is queued, writes the state, and flushes all of it. Gives up
    /// waiting at the deadline; what was acknowledged is on the device in any case.
    pub async fn close(&self, deadline: Instant) {
        let Some(writer) = &self.0.writer else { return };
        writer.queue.close(Error::Closed);
        let ended = writer.ended.lock().take();
        if let Some(ended) = ended
            && tokio::time::timeout_at(deadline.into(), ended).await.is_err()
        {
            tracing::warn!("the log did not come to its end within the deadline");
        }
    }
}

/// The committer answers whatever it takes, unless it panics.
fn unanswered() -> Error {
    Error::Failing("the committer ended before it answered".to_owned())
}

fn make_data_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    // What is delivered is nobody else's to read.
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir).map_err(Error::io("creating", dir))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::io("flushing", parent))
}

/// Opens a stopped server's store.
fn open_to_read(dir: &Path) -> Result<Opened, Error> {
    // Before anything is made there: it may be somebody else's folder.
    if !dir.join(sled_log::MARKER).exists() {
        return Err(Error::Missing { dir: dir.to_owned() });
    }
    open_store(dir, None, Lock::take(dir)?, false)
}

type Opened = (Arc<Reader>, Option<Arc<SledLog>>, Arc<dyn Table>);

fn open_store(
    dir: &Path,
    given: Option<Arc<dyn EventLog>>,
    lock: Lock,
    create: bool,
) -> Result<Opened, Error> {
    let bodies = dir.join(BODIES_DIR);
    let (cache, reading) = (FrameCache::default(), parking_lot::Mutex::default());
    if let Some(store) = given {
        let reader = Reader { store, cache, reading, bodies, _lock: lock };
        return Ok((Arc::new(reader), None, Arc::new(MemoryTable::default())));
    }
    let sled = Arc::new(SledLog::open(dir, create)?);
    let table = Arc::new(SledTable::open(Arc::clone(&sled))?);
    let store: Arc<dyn EventLog> = sled.clone();
    Ok((Arc::new(Reader { store, cache, reading, bodies, _lock: lock }), Some(sled), table))
}

/// Removes what crashed writers left in the folder of bodies, in a thread: listing it may take long.
fn sweep_bodies(spool: Spool, state: State) -> Option<std::thread::JoinHandle<()>> {
    let sweep = move || match spool.sweep(&state) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed spooled bodies that no event refers to"),
        Err(error) => tracing::warn!(%error, "spooled bodies left by a crash were not removed"),
    };
    std::thread::Builder::new().name("log-sweep".to_owned()).spawn(sweep).ok()
}

fn event_job(event: &NewEvent) -> Result<EventJob, Error> {
    let content = &event.content;
    let record = sized(codec::encode_event(None, content))?;
    let claim = content.dedupe_key.as_ref().map(|key| Claim {
        key: claim_of(&content.trigger_id, key),
        window_ms: u64::try_from(event.window.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(EventJob { record, claim, received_at: content.received_at })
}

fn encode_all(records: &[Record]) -> Result<Vec<Vec<u8>>, Error> {
    records.iter().map(|record| sized(codec::encode_record(record))).collect()
}

fn sized(record: Vec<u8>) -> Result<Vec<u8>, Error> {
    if record.len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge { bytes: record.len(), max: RECORD_BYTES_MAX });
    }
    Ok(record)
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod full_disk_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
