//! What readers and the writer of the quarantine share: the folder, what is known of it, and the bounds.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use bytes::Bytes;
use parking_lot::Mutex;

use super::folder::{Folder, Found};
use super::held::{self, Held, HeldId, Nearness, Rejected, Request};
use super::known::Known;
use super::shelf::{Admission, Bounds, Room, Shelf};
use super::writer::Job;
use super::{BODY_BYTES_MAX, Error, Refused};
use crate::event::{RejectReason, Timestamp, TriggerId};
use crate::flow::TokenBucket;

/// What is kept of one sender on one trigger: a few hours of a busy provider whose secret is wrong. A
/// proxy in front of hookkeeper is one sender.
pub(super) const SENDER_ROOM: Room = Room { entries: 1_000, bytes: 8 * MIB };
/// What is kept of one trigger: four senders' rooms, so that one sender can never take from another.
const TRIGGER_ROOM: Room = Room { entries: 4_000, bytes: 32 * MIB };
/// What is kept in all: half of the room that the log leaves free on the disk, and a listing that is read at once.
const WHOLE_ROOM: Room = Room { entries: 10_000, bytes: 128 * MIB };
const BOUNDS: Bounds = Bounds { sender: SENDER_ROOM, trigger: TRIGGER_ROOM, whole: WHOLE_ROOM };
const MIB: u64 = 1024 * 1024;

/// Memory of the deliveries that wait, in bytes.
pub(super) const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Deliveries of one trigger and class per second that are written at all: a flood makes and removes this many
/// files, not as many as it sends. Classes are paced apart, so that forgeries do not use up what near-misses need.
const PACE_PER_SECOND: f64 = 50.0;
/// Deliveries of one trigger and class that are written at once.
pub(super) const PACE_BURST: u32 = 500;

/// How fast the deliveries of one trigger are written, by class: without a signature's form, of unknown
/// senders, of known ones.
struct Pace([TokenBucket; 3]);

impl Default for Pace {
    fn default() -> Self {
        Self(std::array::from_fn(|_| TokenBucket::new(PACE_PER_SECOND, PACE_BURST)))
    }
}

/// What readers and the writer share.
pub(super) struct Store {
    pub(super) folder: Folder,
    /// Read from the folder when it is first asked for: by the writer when it starts, else by a command.
    shelf: OnceLock<Mutex<Shelf>>,
    pub(super) known: Known,
    /// Somebody new is known, and that is not written yet.
    pub(super) news: AtomicBool,
    paces: HashMap<TriggerId, Pace>,
    other_pace: Pace,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) evicted: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Deliveries that are being released: at most as many as there are.
    pub(super) releasing: Mutex<HashSet<HeldId>>,
}

impl Store {
    pub(super) fn new(folder: Folder, triggers: Vec<TriggerId>) -> Self {
        Self {
            folder,
            shelf: OnceLock::new(),
            paces: triggers.iter().map(|id| (id.clone(), Pace::default())).collect(),
            other_pace: Pace::default(),
            known: Known::new(triggers),
            news: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            releasing: Mutex::default(),
        }
    }

    pub(super) fn shelf(&self) -> &Mutex<Shelf> {
        self.shelf.get_or_init(|| Mutex::new(self.load()))
    }

    /// Remembers whose deliveries verified before the last stop.
    pub(super) fn restore_known(&self) {
        if let Some(stored) = self.folder.read_known() {
            self.known.restore(stored.expose());
        }
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

    pub(super) fn nearness(&self, refused: &Refused<'_>, peer: IpAddr) -> Nearness {
        let reason = refused.rejection.reason;
        Nearness {
            // The form is judged before the proof, and the proof before the clock.
            has_form: matches!(reason, RejectReason::InvalidSignature | RejectReason::TimestampOutOfWindow),
            is_known: self.known.contains(refused.trigger_id, peer),
            has_id: has_id(refused),
        }
    }

    /// Tells whether a delivery's trigger and class are within their pace.
    pub(super) fn may_write(&self, trigger_id: &TriggerId, nearness: Nearness, at: Timestamp) -> bool {
        let class = match nearness {
            Nearness { has_form: false, .. } => 0,
            Nearness { is_known: false, .. } => 1,
            Nearness { .. } => 2,
        };
        let Pace(classes) = self.paces.get(trigger_id).unwrap_or(&self.other_pace);
        classes[class].try_take(at.as_microsecond()).is_ok()
    }

    /// Hands a delivery to the writer; tells whether there was room.
    pub(super) fn queue(&self, queue: &SyncSender<Job>, rejected: Rejected) -> bool {
        let bytes = rejected.request.memory_bytes();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES_MAX;
        let queued = fits && queue.try_send(Job::Keep(Box::new(rejected))).is_ok();
        if !queued {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        queued
    }

    pub(super) fn forget(&self, id: HeldId) -> bool {
        let mut shelf = self.shelf().lock();
        let was_there = shelf.remove(id).is_some();
        self.folder.remove(id);
        was_there
    }

    /// Writes a delivery where the policy wants it, and removes what gave way for it.
    pub(super) fn put(&self, rejected: &Rejected) -> Result<(), Error> {
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

pub(super) fn copy(refused: Refused<'_>, nearness: Nearness, peer: IpAddr) -> Rejected {
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
