//! Which senders' deliveries verified before, per trigger: bounded, and asked on the request path.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::held::sender;
use crate::event::TriggerId;

/// Senders of one trigger that are remembered before the older half of them is forgotten. More would take
/// memory for addresses that no provider sends from; fewer would forget those of a provider with many.
const SENDERS_MAX: usize = 512;

/// Senders in the order of their last delivery, roughly: who sent lately is in `new`, and moves there from
/// `old` when he sends again; when `new` is half of all, it becomes `old`, and what was `old` is forgotten.
#[derive(Debug, Default)]
struct Senders {
    new: HashSet<IpAddr>,
    old: HashSet<IpAddr>,
}

impl Senders {
    /// Returns whether the sender was not known at all.
    fn add(&mut self, address: IpAddr) -> bool {
        if self.new.len() >= SENDERS_MAX / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        let is_news = !self.old.remove(&address);
        self.new.insert(address) && is_news
    }
}

/// The senders of all triggers.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<TriggerId, RwLock<Senders>>);

/// The stored form: the senders of each trigger.
#[derive(Serialize, Deserialize)]
struct Stored(Vec<(TriggerId, Vec<IpAddr>)>);

impl Known {
    /// Knows nobody yet, on the given triggers.
    pub(super) fn new(triggers: impl IntoIterator<Item = TriggerId>) -> Self {
        Self(triggers.into_iter().map(|id| (id, RwLock::default())).collect())
    }

    /// Remembers that a delivery of `peer` verified; returns whether that is news.
    pub(super) fn add(&self, trigger_id: &TriggerId, peer: IpAddr) -> bool {
        let Some(senders) = self.0.get(trigger_id) else { return false };
        let address = sender(peer);
        // Nearly always, and then workers do not wait for each other.
        if senders.read().new.contains(&address) {
            return false;
        }
        senders.write().add(address)
    }

    /// Tells whether a delivery of `peer` verified before.
    pub(super) fn contains(&self, trigger_id: &TriggerId, peer: IpAddr) -> bool {
        let address = sender(peer);
        self.0.get(trigger_id).is_some_and(|senders| {
            let senders = senders.read();
            senders.new.contains(&address) || senders.old.contains(&address)
        })
    }

    /// Encodes all for keeping.
    pub(super) fn encode(&self) -> Vec<u8> {
        let all = |senders: &RwLock<Senders>| {
            let senders = senders.read();
            senders.old.iter().chain(&senders.new).copied().collect()
        };
        let stored = Stored(self.0.iter().map(|(id, senders)| (id.clone(), all(senders))).collect());
        postcard::to_allocvec(&stored).expect("plain data encodes into memory")
    }

    /// Adds what [`encode`](Self::encode) wrote, for the triggers that there are; anything else adds nothing.
    pub(super) fn restore(&self, bytes: &[u8]) {
        let Ok(Stored(stored)) = postcard::from_bytes(bytes) else { return };
        for (trigger_id, addresses) in stored {
            for address in addresses.into_iter().take(SENDERS_MAX) {
                self.add(&trigger_id, address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn senders_are_known_per_trigger_and_within_the_bound() {
        let id = |text: &str| text.parse::<TriggerId>().unwrap();
        let known = Known::new([id("a"), id("b")]);
        assert!(known.add(&id("a"), address(1)) && !known.add(&id("a"), address(1)));
        assert!(!known.add(&id("gone"), address(1)));
        assert!(known.contains(&id("a"), address(1)) && !known.contains(&id("b"), address(1)));
        for n in 2..10_000 {
            known.add(&id("a"), address(n));
            known.add(&id("a"), address(1));
        }
        let senders = known.0[&id("a")].read();
        assert!(senders.new.len() + senders.old.len() <= SENDERS_MAX);
        drop(senders);
        assert!(known.contains(&id("a"), address(1)), "who goes on sending is not forgotten");
        assert!(!known.contains(&id("a"), address(2)));
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let id: TriggerId = "a".parse().unwrap();
        let known = Known::new([id.clone()]);
        assert!((0..300).all(|n| known.add(&id, address(n))));
        let other = Known::new([id.clone()]);
        other.restore(&known.encode());
        other.restore(b"junk");
        assert!((0..300).all(|n| other.contains(&id, address(n))));
    }
}
