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
mod reseal;
mod shelf;
mod store;
mod writer;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;

pub use held::{Held, HeldId, Nearness, ParseHeldIdError};
pub use reseal::{Resealed, reseal};

use self::folder::Folder;
use self::held::Request;
use self::store::Store;
use self::writer::Job;
use crate::connector::{RawInbound, Rejection};
use crate::event::{ProviderId, RejectReason, Timestamp, TriggerId};
use crate::event_log::IngestError;
use crate::secrets::{SealError, Vault};

/// Largest body that is kept. A delivery with a larger one is kept without it: it can be looked at, but not
/// released. More would let eight requests fill a sender's room; less would lose deliveries that providers do send.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Deliveries that wait for the writer. Beyond it they are dropped.
const QUEUE_ENTRIES_MAX: usize = 1_024;

/// Why the quarantine does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such delivery, or no more.
    #[error("there is no delivery {0} in quarantine: it was released, purged, or gave way to others")]
    NotFound(HeldId),
    /// It is there, and what is told of it does not open.
    #[error(
        "delivery {0} is in quarantine and does not open: it was sealed under another master key, or is damaged; \
         give the key with HOOKKEEPER_MASTER_KEY or HOOKKEEPER_MASTER_KEY_FILE"
    )]
    Sealed(HeldId),
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
    /// The public keys that it is verified with are not to be had now.
    #[error("the provider's public keys are not to be had now: {0}; release it later")]
    NoKeys(String),
    /// It asks for an answer, and nobody waits for one now.
    #[error("it is a handshake, whose sender waits no more: start it again at the provider")]
    Handshake,
    /// The connector panicked on it.
    #[error("the connector panicked on it; hookkeeper's log says where")]
    Panicked,
    /// The connector failed on it.
    #[error("the connector failed on it: {0}")]
    Failed(String),
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
    /// Files that do not open: damaged, or sealed under another key.
    pub unreadable: usize,
    /// What all take on the disk.
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
        let store = Arc::new(Store::new(folder, parts.triggers));
        store.restore_known();
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
        let store = Arc::new(Store::new(Folder::new(data, vault), Vec::new()));
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
        let in_pace = store.may_write(refused.trigger_id, nearness, refused.raw.received_at);
        if !in_pace || !store.queue(&writer.queue, store::copy(refused, nearness, peer)) {
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
    /// If it is not there, or does not open.
    pub fn get(&self, id: HeldId) -> Result<Held, Error> {
        let shelf = self.store().shelf().lock();
        shelf.held().get(&id).cloned().ok_or_else(|| {
            match shelf.unreadable().any(|unreadable| unreadable == id) {
                true => Error::Sealed(id),
                false => Error::NotFound(id),
            }
        })
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
        if !releasing.insert(id) {
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
            unreadable: shelf.unreadable().count(),
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

#[cfg(test)]
mod tests;
