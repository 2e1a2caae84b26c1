//! Claims: which event holds a dedupe key.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::Error;
use super::codec;
use super::frame::Frame;
use super::reader::damaged;
use crate::event::{EventId, TriggerId};

/// A dedupe key of a trigger, as the first 128 bits of its SHA-256: two keys that collide would lose an
/// event, which at 10 billion claims has odds of one in 10^18.
pub(super) type ClaimKey = u128;

/// Returns the claim of a trigger's dedupe key.
pub(super) fn claim_key(trigger: &str, dedupe_key: &str) -> ClaimKey {
    let mut hash = Sha256::new();
    hash.update(trigger.as_bytes());
    hash.update([0]);
    hash.update(dedupe_key.as_bytes());
    let digest = hash.finalize();
    u128::from_be_bytes(digest[..16].try_into().expect("a SHA-256 has 32 bytes"))
}

/// Returns the claim of a trigger's dedupe key.
pub(super) fn claim_of(trigger: &TriggerId, dedupe_key: &str) -> ClaimKey {
    claim_key(trigger.as_str(), dedupe_key)
}

/// All claims that may still be within a window.
#[derive(Debug, Default)]
pub(super) struct Claims {
    recent: HashMap<ClaimKey, EventId>,
}

impl Claims {
    /// Returns the event that claimed a key last.
    pub(super) fn get(&self, key: ClaimKey) -> Result<Option<EventId>, Error> {
        Ok(self.recent.get(&key).copied())
    }

    pub(super) fn insert(&mut self, key: ClaimKey, id: EventId) {
        self.recent.insert(key, id);
    }

    /// Takes the claims of a frame's events.
    pub(super) fn learn(&mut self, frame: &Frame) -> Result<(), Error> {
        for index in 0..frame.len() {
            let Some(id) = frame.event_id(index) else { continue };
            let bytes = frame.bytes(index).expect("index is below the length");
            if let Some((trigger, key)) = codec::event_claim(bytes).map_err(damaged(frame.seq()))? {
                self.insert(claim_key(trigger, key), id);
            }
        }
        Ok(())
    }
}
