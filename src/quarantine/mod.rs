//! The quarantine: rejected deliveries, kept sealed within fixed bounds, so that a mistake in a secret
//! need not cost an event.
//!
//! The front door hands over what it refused ([`Quarantine::keep`]) and tells whose deliveries verified;
//! neither waits for a disk: a bounded queue leads to one thread of low priority, and what finds it full
//! is counted and dropped. What is kept is decided by `shelf`, a pure policy under which a flood of
//! forgeries evicts itself first. The files lie beside the log, not in it, and are never flushed: forged
//! traffic neither fills the log nor competes with it.
//!
//! Nothing here verifies, writes to the log or knows HTTP. Why a delivery was refused, and what becomes of
//! one that is released, is asked of its trigger as it is when somebody looks.

mod folder;
mod held;
mod known;
mod shelf;
mod writer;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;

pub use held::{Held, HeldId, Nearness, ParseHeldIdError};

use self::folder::{Folder, Found};
use self::held::{Rejected, Request};
use self::known::Known;
use self::shelf::{Admission, Bounds, Room, Shelf};
use self::writer::Job;
use crate::connector::{RawInbound, Rejection};
use crate::event::{ProviderId, RejectReason, Timestamp, TriggerId};
use crate::event_log::IngestError;
use crate::flow::TokenBucket;
use crate::secrets::{SealError, Vault};

/// Largest body that is kept. A delivery with a larger one is kept without it: it can be looked at, but not
/// released. More would let eight requests fill a sender's room; less would lose deliveries that providers do send.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What is kept of one sender on one trigger: a few hours of a busy provider whose secret is wrong. A
/// proxy in front of hookkeeper is one sender.
const SENDER_ROOM: Room = Room { entries: 1_000, bytes: 8 * MIB };
/// What is kept of one trigger: four senders' rooms, so that one sender can never take from another.
const TRIGGER_ROOM: Room = Room { entries: 4_000, bytes: 32 * MIB };
/// What is kept in all: half of the room that the log leaves free on the disk, and a listing that is read at once.
const WHOLE_ROOM: Room = Room { entries: 10_000, bytes: 128 * MIB };
const BOUNDS: Bounds = Bounds { sender: SENDER_ROOM, trigger: TRIGGER_ROOM, whole: WHOLE_ROOM };
const MIB: u64 = 1024 * 1024;

/// Deliveries that wait for the writer. Beyond it they are dropped.
const QUEUE_ENTRIES_MAX: usize = 1_024;
/// Memory of the deliveries that wait, in bytes.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Deliveries of each class per second that are written at all: a flood makes and removes this many files, not
/// as many as it sends. Classes are paced apart, so that forgeries do not use up what near-misses need.
const PACE_PER_SECOND: f64 = 50.0;
/// Deliveries of each class that are written at once.
const PACE_BURST: u32 = 500;
/// Releases under way at once are as many as the admin API allows actions; this many ids are told apart.
const RELEASES_MAX: usize = 1_024;

/// Why the quarantine does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such delivery, or no more.
    #[error("there is no delivery {0} in quarantine: it was released, purged, or gave way to others")]
    NotFound(HeldId),
    /// Somebody else releases it just now.
    #[error("delivery {0} is being released already")]
    Busy(HeldId),
    /// What is kept was sealed under another key, or is damaged.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Nothing of what is kept opens.
    #[error(
        "none of the {0} deliveries in quarantine opens: they were sealed under another master key; give that \
         one with HOOKKEEPER_MASTER_KEY or HOOKKEEPER_MASTER_KEY_FILE"
    )]
    AllSealed(usize),
    /// It was written by a newer program.
    #[error("delivery {0} was kept by a newer hookkeeper: run that one")]
    Newer(HeldId),
    /// The operating system refused something.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

/// Why a kept delivery was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Its trigger is configured no more.
    #[error("the trigger {0} is configured no more: add it again, then release")]
    NoTrigger(TriggerId),
    /// Its trigger cannot verify anything now.
    #[error("the trigger {0} is not active: see `hookkeeper triggers list`")]
    NotActive(TriggerId),
    /// It still does not verify.
    #[error("it still does not verify: {}", .0.hint)]
    Rejected(Rejection),
    /// It asks for an answer, and nobody waits for one now.
    #[error("it is a handshake, whose sender waits no more: start it again at the provider")]
    Handshake,
    /// The connector panicked on it.
    #[error("the connector panicked on it; hookkeeper's log says where")]
    Panicked,
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] IngestError),
}

/// Which of the kept deliveries are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this trigger.
    pub trigger: Option<TriggerId>,
    /// Refused for this reason.
    pub reason: Option<RejectReason>,
    /// Received at this time or later.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
}

impl Filter {
    fn wants(&self, held: &Held) -> bool {
        self.trigger.as_ref().is_none_or(|trigger| *trigger == held.trigger_id)
            && self.reason.is_none_or(|reason| reason == held.reason)
            && self.since.is_none_or(|since| held.received_at >= since)
            && self.until.is_none_or(|until| held.received_at < until)
    }
}

/// How full the quarantine is, and what went by since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Deliveries kept.
    pub entries: usize,
    /// What they take on the disk.
    pub bytes: u64,
    /// Deliveries that gave way to others, or for which no other gave way.
    pub evicted: u64,
    /// Deliveries that were not kept: the queue was full, too many came at once, or the disk had no room.
    pub dropped: u64,
}

/// A rejected delivery, as the front door has it.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The trigger that refused it.
    pub trigger_id: &'a TriggerId,
    /// Its provider.
    pub provider: &'a ProviderId,
    /// Where the provider's deliveries have their id, as its entry says.
    pub id_locations: &'a [String],
    /// Why.
    pub rejection: &'a Rejection,
    /// The request.
    pub raw: &'a RawInbound,
}

/// What the quarantine is built from.
pub struct Parts<'a> {
    /// The data folder.
    pub data: &'a Path,
    /// Seals what is kept.
    pub vault: Arc<Vault>,
    /// The configured triggers.
    pub triggers: Vec<TriggerId>,
    /// Tells whether the disk has room for more than the log needs. Called by the writer's thread.
    pub has_room: Box<dyn Fn() -> bool + Send>,
}

/// The quarantine. Cheap to clone.
#[derive(Clone)]
pub struct Quarantine(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    /// Nothing where a stopped server's folder is read.
    writer: Option<Writer>,
}

struct Writer {
    queue: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What readers and the writer share.
struct Store {
    folder: Folder,
    /// Read from the folder when it is first asked for: by the writer when it starts, else by a command.
    shelf: OnceLock<Mutex<Shelf>>,
    known: Known,
    /// Somebody new is known, and that is not written yet.
    news: AtomicBool,
    paces: [TokenBucket; 3],
    queued_bytes: AtomicUsize,
    evicted: AtomicU64,
    dropped: AtomicU64,
    releasing: Mutex<HashSet<HeldId>>,
}

/// The right to release one delivery; given back when dropped.
pub struct Claim {
    quarantine: Quarantine,
    id: HeldId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.quarantine.store().releasing.lock().remove(&self.id);
    }
}

impl Claim {
    /// Forgets the delivery: the log has it now. Blocks.
    pub fn done(self) {
        self.quarantine.store().forget(self.id);
    }
}

impl Quarantine {
    /// Opens the quarantine of a data folder, and starts its writer.
    ///
    /// # Errors
    ///
    /// If the folder or the thread cannot be made.
    pub fn start(parts: Parts<'_>) -> Result<Self, Error> {
        let folder = Folder::new(parts.data, parts.vault);
        folder.make()?;
        let known = Known::new(parts.triggers);
        if let Some(stored) = folder.read_known() {
            known.restore(stored.expose());
        }
        let store = Arc::new(Store::new(folder, known));
        let (queue, jobs) = sync_channel(QUEUE_ENTRIES_MAX);
        let thread = writer::start(Arc::clone(&store), jobs, parts.has_room).map_err(|source| Error::Io {
            what: "starting the writer of",
            path: parts.data.to_owned(),
            source,
        })?;
        let writer = Some(Writer { queue, thread: Mutex::new(Some(thread)) });
        Ok(Self(Arc::new(Inner { store, writer })))
    }

    /// Returns the quarantine of a stopped server's folder, for reading.
    pub fn reader(data: &Path, vault: Arc<Vault>) -> Self {
        let store = Arc::new(Store::new(Folder::new(data, vault), Known::default()));
        Self(Arc::new(Inner { store, writer: None }))
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    /// Remembers that a delivery of `peer` verified.
    pub fn verified(&self, trigger_id: &TriggerId, peer: IpAddr) {
        let store = self.store();
        if store.known.add(trigger_id, peer)
            && !store.news.swap(true, Ordering::Relaxed)
            && let Some(writer) = &self.0.writer
        {
            // A full queue wakes the writer as well.
            let _ = writer.queue.try_send(Job::News);
        }
    }

    /// Keeps a rejected delivery, if it is near enough and there is room. Never waits.
    pub fn keep(&self, refused: Refused<'_>) {
        let Some(writer) = &self.0.writer else { return };
        let store = self.store();
        let peer = refused.raw.peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let nearness = store.nearness(&refused, peer);
        let queued = store.may_write(nearness, refused.raw.received_at).then(|| {
            let rejected = copy(refused, nearness, peer);
            store.queue(&writer.queue, rejected)
        });
        if queued != Some(true) {
            store.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lists what is kept, newest first, older than `before`; returns the last id of the page where more
    /// follows. Blocks.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or nothing of it opens.
    pub fn list(
        &self,
        filter: &Filter,
        before: Option<HeldId>,
        limit: usize,
    ) -> Result<(Vec<Held>, Option<HeldId>), Error> {
        let shelf = self.store().shelf().lock();
        let unreadable = shelf.unreadable().count();
        if shelf.held().is_empty() && unreadable > 0 {
            return Err(Error::AllSealed(unreadable));
        }
        let older = shelf.held().values().rev().filter(|held| before.is_none_or(|before| held.id < before));
        let mut found: Vec<Held> =
            older.filter(|held| filter.wants(held)).take(limit.saturating_add(1)).cloned().collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|held| held.id);
        Ok((found, next))
    }

    /// Returns one kept delivery. Blocks.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn get(&self, id: HeldId) -> Result<Held, Error> {
        self.store().shelf().lock().held().get(&id).cloned().ok_or(Error::NotFound(id))
    }

    /// Opens a kept delivery's request, with all that is secret in it. The body is empty where it was not
    /// kept. Blocks.
    ///
    /// # Errors
    ///
    /// If it is not there, or does not open.
    pub fn open(&self, held: &Held) -> Result<RawInbound, Error> {
        let Request { method, url, headers, body } = self.store().folder.request(held.id)?;
        let body = body.unwrap_or_else(Bytes::new);
        Ok(RawInbound { method, url, headers, body, received_at: held.received_at, peer: Some(held.peer) })
    }

    /// Takes the right to release a delivery, so that nobody else does at the same time.
    ///
    /// # Errors
    ///
    /// If somebody has it.
    pub fn claim(&self, id: HeldId) -> Result<Claim, Error> {
        let mut releasing = self.store().releasing.lock();
        if releasing.len() >= RELEASES_MAX || !releasing.insert(id) {
            return Err(Error::Busy(id));
        }
        Ok(Claim { quarantine: self.clone(), id })
    }

    /// Forgets one delivery; tells whether it was there. Blocks.
    pub fn purge(&self, id: HeldId) -> bool {
        self.store().forget(id)
    }

    /// Forgets what a filter names, and for one that names all also what does not open; returns how many. Blocks.
    pub fn purge_all(&self, filter: &Filter) -> usize {
        let mut shelf = self.store().shelf().lock();
        let mut ids: Vec<_> =
            shelf.held().values().filter(|held| filter.wants(held)).map(|held| held.id).collect();
        if *filter == Filter::default() {
            ids.extend(shelf.unreadable());
        }
        for id in &ids {
            shelf.remove(*id);
            self.store().folder.remove(*id);
        }
        ids.len()
    }

    /// Returns how full it is. Blocks while the folder is read for the first time.
    pub fn gauges(&self) -> Gauges {
        let store = self.store();
        let shelf = store.shelf().lock();
        Gauges {
            entries: shelf.held().len(),
            bytes: shelf.bytes(),
            evicted: store.evicted.load(Ordering::Relaxed),
            dropped: store.dropped.load(Ordering::Relaxed),
        }
    }

    /// Writes what waits and ends the writer. Blocks. What is handed over from here on is dropped.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Inner {
    fn stop(&self) {
        let Some(writer) = &self.writer else { return };
        let Some(thread) = writer.thread.lock().take() else { return };
        // A writer that panicked has hung up; there is nothing left to write then.
        let _ = writer.queue.send(Job::Stop);
        let _ = thread.join();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Store {
    fn new(folder: Folder, known: Known) -> Self {
        Self {
            folder,
            shelf: OnceLock::new(),
            known,
            news: AtomicBool::new(false),
            paces: std::array::from_fn(|_| TokenBucket::new(PACE_PER_SECOND, PACE_BURST)),
            queued_bytes: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            releasing: Mutex::default(),
        }
    }

    fn shelf(&self) -> &Mutex<Shelf> {
        self.shelf.get_or_init(|| Mutex::new(self.load()))
    }

    /// Reads the folder. A folder that cannot be read keeps nothing until the next start.
    fn load(&self) -> Shelf {
        let mut shelf = Shelf::new(BOUNDS);
        let found = self.folder.scan().unwrap_or_else(|error| {
            tracing::error!(%error, "could not read the quarantine");
            Vec::new()
        });
        let unreadable = found.iter().filter(|found| matches!(found, Found::Unreadable(..))).count();
        if unreadable > 0 {
            tracing::warn!(
                unreadable,
                "deliveries in quarantine do not open: damaged, or sealed under another key"
            );
        }
        for found in found {
            match found {
                Found::Unreadable(id, bytes) => shelf.add_unreadable(id, bytes),
                // What no longer fits under smaller bounds stays a file, and is found again.
                Found::Held(held) => drop(shelf.admit(*held)),
            }
        }
        shelf
    }

    fn nearness(&self, refused: &Refused<'_>, peer: IpAddr) -> Nearness {
        let reason = refused.rejection.reason;
        Nearness {
            // The form is judged before the proof, and the proof before the clock.
            has_form: matches!(reason, RejectReason::InvalidSignature | RejectReason::TimestampOutOfWindow),
            is_known: self.known.contains(refused.trigger_id, peer),
            has_id: has_id(refused),
        }
    }

    /// Tells whether the class of a delivery is within its pace.
    fn may_write(&self, nearness: Nearness, at: Timestamp) -> bool {
        let class = match nearness {
            Nearness { has_form: false, .. } => 0,
            Nearness { is_known: false, .. } => 1,
            Nearness { .. } => 2,
        };
        self.paces[class].try_take(at.as_microsecond()).is_ok()
    }

    /// Hands a delivery to the writer; tells whether there was room.
    fn queue(&self, queue: &SyncSender<Job>, rejected: Rejected) -> bool {
        let bytes = rejected.request.memory_bytes();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES_MAX;
        let queued = fits && queue.try_send(Job::Keep(Box::new(rejected))).is_ok();
        if !queued {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        queued
    }

    fn forget(&self, id: HeldId) -> bool {
        let mut shelf = self.shelf().lock();
        let was_there = shelf.remove(id).is_some();
        self.folder.remove(id);
        was_there
    }

    /// Writes a delivery where the policy wants it, and removes what gave way for it.
    fn put(&self, rejected: &Rejected) -> Result<(), Error> {
        let mut shelf = self.shelf().lock();
        let id = HeldId::after(shelf.last(), rejected.received_at);
        let sealed = self.folder.seal(id, rejected)?;
        let evicted = match shelf.admit(held(id, rejected, sealed.bytes())) {
            Admission::Refused => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Admission::Kept(evicted) => evicted,
        };
        // First, so that the folder never takes more than it may.
        evicted.iter().for_each(|gone| self.folder.remove(*gone));
        self.evicted.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        self.folder.write(id, &sealed).inspect_err(|_| drop(shelf.remove(id)))
    }
}

fn held(id: HeldId, rejected: &Rejected, file_bytes: u64) -> Held {
    Held {
        id,
        trigger_id: rejected.trigger_id.clone(),
        provider: rejected.provider.clone(),
        received_at: rejected.received_at,
        peer: rejected.peer,
        reason: rejected.reason,
        hint: rejected.hint.clone(),
        nearness: rejected.nearness,
        body_bytes: rejected.body_bytes,
        has_body: rejected.request.body.is_some(),
        file_bytes,
    }
}

fn copy(refused: Refused<'_>, nearness: Nearness, peer: IpAddr) -> Rejected {
    let Refused { trigger_id, provider, rejection, raw, .. } = refused;
    Rejected {
        trigger_id: trigger_id.clone(),
        provider: provider.clone(),
        reason: rejection.reason,
        hint: held::short_hint(&rejection.hint),
        nearness,
        peer,
        received_at: raw.received_at,
        body_bytes: raw.body.len() as u64,
        request: Request::copy(raw, BODY_BYTES_MAX),
    }
}

/// Tells whether a request has a header with a delivery's id. Ids within a body are not looked for: a body that
/// may be forged is not parsed.
fn has_id(refused: &Refused<'_>) -> bool {
    let names = refused.id_locations.iter().filter_map(|location| location.strip_prefix("header:"));
    let mut headers = names.flat_map(|name| {
        let is_it = move |header: &&(String, Bytes)| header.0.eq_ignore_ascii_case(name);
        refused.raw.headers.iter().filter(is_it)
    });
    headers.any(|(_, value)| !value.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests;
