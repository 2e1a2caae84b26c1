//! Which rejected deliveries are kept, and which give way: pure.
//!
//! There is room for each sender on each trigger, for each trigger, and for the whole. Where a room is
//! full, the delivery that came least near gives way; of equals, one of the sender who holds most there,
//! its oldest. So whoever floods takes the room of his own, whatever he sends, and forgeries without a
//! signature's form never take that of near-misses.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::held::{Held, HeldId, sender};
use crate::event::TriggerId;

/// How much one room holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of one sender on one trigger.
    pub(super) sender: Room,
    /// Of one trigger.
    pub(super) trigger: Room,
    /// In all.
    pub(super) whole: Room,
}

/// What became of a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is kept, and these gave way.
    Kept(Vec<HeldId>),
    /// All that is kept is worth more.
    Refused,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    entries: usize,
    bytes: u64,
}

/// What of a room is used up.
#[derive(Clone, Copy)]
enum Over {
    Entries,
    Bytes,
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, bytes: u64) {
        self.entries -= 1;
        self.bytes -= bytes;
    }

    fn over(self, room: Room) -> Option<Over> {
        if self.entries > room.entries {
            return Some(Over::Entries);
        }
        (self.bytes > room.bytes).then_some(Over::Bytes)
    }

    fn of(self, over: Over) -> u64 {
        match over {
            Over::Entries => self.entries as u64,
            Over::Bytes => self.bytes,
        }
    }
}

/// Who gives way.
enum Victim {
    Held(HeldId),
    Unreadable(HeldId, u64),
}

type Group = (TriggerId, IpAddr);

/// What is kept, and how much room it takes.
#[derive(Debug)]
pub(super) struct Shelf {
    bounds: Bounds,
    held: BTreeMap<HeldId, Held>,
    senders: HashMap<Group, Usage>,
    triggers: HashMap<TriggerId, Usage>,
    whole: Usage,
    /// Files that do not open under the present key, with their sizes. The right key may come back, so they
    /// stay as long as there is room.
    unreadable: BTreeMap<HeldId, u64>,
    last: Option<HeldId>,
}

impl Shelf {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: BTreeMap::new(),
            senders: HashMap::new(),
            triggers: HashMap::new(),
            whole: Usage::default(),
            unreadable: BTreeMap::new(),
            last: None,
        }
    }

    /// Returns all that is kept, oldest first.
    pub(super) fn held(&self) -> &BTreeMap<HeldId, Held> {
        &self.held
    }

    /// Returns the files that do not open.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = HeldId> + '_ {
        self.unreadable.keys().copied()
    }

    /// Returns the greatest id that was ever here.
    pub(super) fn last(&self) -> Option<HeldId> {
        self.last
    }

    /// Returns the bytes that all takes.
    pub(super) fn bytes(&self) -> u64 {
        self.whole.bytes
    }

    /// Takes a delivery in where it is worth more than what must give way for it.
    pub(super) fn admit(&mut self, new: Held) -> Admission {
        let id = new.id;
        let (mut gone, mut dead) = (Vec::new(), Vec::new());
        self.put(new);
        while let Some(victim) = self.victim(id) {
            match victim {
                Victim::Held(victim) if victim == id => {
                    self.remove(id);
                    gone.into_iter().for_each(|held| self.put(held));
                    dead.into_iter().for_each(|(id, bytes)| self.add_unreadable(id, bytes));
                    return Admission::Refused;
                }
                Victim::Held(victim) => gone.extend(self.remove(victim)),
                Victim::Unreadable(victim, bytes) => {
                    self.remove(victim);
                    dead.push((victim, bytes));
                }
            }
        }
        let gone = gone.into_iter().map(|held| held.id);
        Admission::Kept(gone.chain(dead.into_iter().map(|(id, _)| id)).collect())
    }

    /// Counts a file that does not open.
    pub(super) fn add_unreadable(&mut self, id: HeldId, bytes: u64) {
        self.last = self.last.max(Some(id));
        self.whole.add(bytes);
        self.unreadable.insert(id, bytes);
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, id: HeldId) -> Option<Held> {
        if let Some(bytes) = self.unreadable.remove(&id) {
            self.whole.take(bytes);
        }
        let held = self.held.remove(&id)?;
        self.whole.take(held.file_bytes);
        take(&mut self.senders, &group(&held), held.file_bytes);
        take(&mut self.triggers, &held.trigger_id, held.file_bytes);
        Some(held)
    }

    fn put(&mut self, held: Held) {
        self.last = self.last.max(Some(held.id));
        self.whole.add(held.file_bytes);
        self.senders.entry(group(&held)).or_default().add(held.file_bytes);
        self.triggers.entry(held.trigger_id.clone()).or_default().add(held.file_bytes);
        self.held.insert(held.id, held);
    }

    /// Returns who must give way next so that the newest one has room; nobody once every bound holds.
    fn victim(&self, new: HeldId) -> Option<Victim> {
        let new = &self.held[&new];
        let own = group(new);
        if let Some(over) = self.senders[&own].over(self.bounds.sender) {
            let (trigger_id, address) = &own;
            return self.least(over, |it| it.trigger_id == *trigger_id && sender(it.peer) == *address);
        }
        if let Some(over) = self.triggers[&new.trigger_id].over(self.bounds.trigger) {
            return self.least(over, |held| held.trigger_id == new.trigger_id);
        }
        let over = self.whole.over(self.bounds.whole)?;
        // What cannot be opened goes before what can.
        match self.unreadable.first_key_value() {
            Some((id, bytes)) => Some(Victim::Unreadable(*id, *bytes)),
            None => self.least(over, |_| true),
        }
    }

    /// Finds what is worth least: the least near; of these one of the sender who holds most; of his the oldest.
    fn least(&self, over: Over, in_room: impl Fn(&Held) -> bool) -> Option<Victim> {
        let farthest = self.held.values().filter(|held| in_room(held)).map(|held| held.nearness).min()?;
        let candidates = self.held.values().filter(|held| held.nearness == farthest && in_room(held));
        // Of equals, `max_by_key` takes the last one: from the newest to the oldest, that is the oldest.
        candidates
            .rev()
            .max_by_key(|held| self.senders[&group(held)].of(over))
            .map(|held| Victim::Held(held.id))
    }
}

fn group(held: &Held) -> Group {
    (held.trigger_id.clone(), sender(held.peer))
}

fn take<K: std::hash::Hash + Eq>(usages: &mut HashMap<K, Usage>, key: &K, bytes: u64) {
    let usage = usages.get_mut(key).expect("what is held is counted");
    usage.take(bytes);
    if usage.entries == 0 {
        usages.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::held::Nearness;
    use super::*;
    use crate::event::{RejectReason, Timestamp};

    const BOUNDS: Bounds = Bounds {
        sender: Room { entries: 4, bytes: 40 },
        trigger: Room { entries: 12, bytes: 100 },
        whole: Room { entries: 20, bytes: 180 },
    };

    fn held(shelf: &Shelf, trigger: u8, address: u8, nearness: u8, bytes: u64) -> Held {
        let received_at = Timestamp::from_second(1_700_000_000).unwrap();
        Held {
            id: HeldId::after(shelf.last(), received_at),
            trigger_id: format!("t{trigger}").parse().unwrap(),
            provider: "github".parse().unwrap(),
            received_at,
            peer: IpAddr::from([192, 0, 2, address]),
            reason: RejectReason::InvalidSignature,
            hint: String::new(),
            nearness: Nearness::from_bits(nearness),
            body_bytes: 0,
            has_body: true,
            file_bytes: bytes,
        }
    }

    /// Admits one, and returns its id if it was kept.
    fn admit(shelf: &mut Shelf, trigger: u8, address: u8, nearness: u8, bytes: u64) -> Option<HeldId> {
        let new = held(shelf, trigger, address, nearness, bytes);
        let id = new.id;
        matches!(shelf.admit(new), Admission::Kept(_)).then_some(id)
    }

    fn check_bounds(shelf: &Shelf) {
        let mut senders: HashMap<Group, Usage> = HashMap::new();
        let mut triggers: HashMap<TriggerId, Usage> = HashMap::new();
        let mut whole = Usage::default();
        for held in shelf.held.values() {
            senders.entry(group(held)).or_default().add(held.file_bytes);
            triggers.entry(held.trigger_id.clone()).or_default().add(held.file_bytes);
            whole.add(held.file_bytes);
        }
        shelf.unreadable.values().for_each(|bytes| whole.add(*bytes));
        assert_eq!((&senders, &triggers, whole), (&shelf.senders, &shelf.triggers, shelf.whole));
        assert!(senders.values().all(|usage| usage.over(shelf.bounds.sender).is_none()));
        assert!(triggers.values().all(|usage| usage.over(shelf.bounds.trigger).is_none()));
        assert!(whole.over(shelf.bounds.whole).is_none());
    }

    type Step = (u8, u8, u8, u64);

    fn steps(
        nearness: std::ops::Range<u8>,
        addresses: std::ops::Range<u8>,
    ) -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec((0_u8..3, addresses, nearness, 1_u64..50), 0..200)
    }

    proptest! {
        #[test]
        fn every_bound_holds_after_any_sequence(steps in steps(0..8, 0..6), unreadable in 0_u8..10) {
            let mut shelf = Shelf::new(BOUNDS);
            for n in 0..unreadable {
                let id = held(&shelf, 0, n, 0, 1).id;
                shelf.add_unreadable(id, 5);
            }
            for (trigger, address, nearness, bytes) in steps {
                let before: Vec<_> = shelf.held.keys().copied().collect();
                if admit(&mut shelf, trigger, address, nearness, bytes).is_none() {
                    prop_assert_eq!(before, shelf.held.keys().copied().collect::<Vec<_>>());
                }
                check_bounds(&shelf);
            }
        }

        #[test]
        fn near_misses_outlive_any_flood_of_what_came_less_near(
            near in steps(4..8, 0..3), flood in steps(0..4, 0..200)
        ) {
            let mut shelf = Shelf::new(BOUNDS);
            for (trigger, address, nearness, bytes) in near {
                admit(&mut shelf, trigger, address, nearness, bytes);
            }
            let kept: Vec<_> = shelf.held.keys().copied().collect();
            for (trigger, address, nearness, bytes) in flood {
                admit(&mut shelf, trigger, address, nearness, bytes);
            }
            prop_assert!(kept.iter().all(|id| shelf.held.contains_key(id)));
        }

        #[test]
        fn a_flood_of_equal_form_evicts_itself_and_not_the_one_of_another_sender(
            flood in proptest::collection::vec(1_u8..11, 0..300)
        ) {
            let mut shelf = Shelf::new(BOUNDS);
            let honest = admit(&mut shelf, 0, 0, 5, 1).unwrap();
            for address in flood {
                admit(&mut shelf, 0, address, 5, 1);
            }
            prop_assert!(shelf.held.contains_key(&honest));
        }

        #[test]
        fn one_sender_takes_nothing_from_another_whatever_he_sends(
            others in steps(0..8, 1..3), flood in steps(0..8, 9..10)
        ) {
            // Rooms as they are in truth: one sender's is a small part of the trigger's, and that of the whole.
            let room = |times: usize| Room { entries: 4 * times, bytes: 40 * times as u64 };
            let bounds = Bounds { sender: room(1), trigger: room(3), whole: room(9) };
            let mut shelf = Shelf::new(bounds);
            for (trigger, address, nearness, bytes) in others {
                admit(&mut shelf, trigger, address, nearness, bytes);
            }
            let kept: Vec<_> = shelf.held.keys().copied().collect();
            for (trigger, address, nearness, bytes) in flood {
                admit(&mut shelf, trigger, address, nearness, bytes);
            }
            prop_assert!(kept.iter().all(|id| shelf.held.contains_key(id)));
        }
    }

    #[test]
    fn of_one_senders_equals_the_oldest_gives_way() {
        let mut shelf = Shelf::new(BOUNDS);
        let ids: Vec<_> = (0..5).map(|_| admit(&mut shelf, 0, 0, 4, 1).unwrap()).collect();
        assert_eq!(shelf.held.keys().copied().collect::<Vec<_>>(), ids[1..]);
    }

    #[test]
    fn what_came_less_near_than_all_is_refused_and_evicts_nothing() {
        let mut shelf = Shelf::new(BOUNDS);
        (0..4).for_each(|_| assert!(admit(&mut shelf, 0, 0, 5, 1).is_some()));
        assert_eq!(admit(&mut shelf, 0, 0, 3, 1), None);
        assert_eq!(admit(&mut shelf, 0, 0, 7, 41), None, "larger than the whole room of its sender");
        assert_eq!(shelf.held.len(), 4);
    }

    #[test]
    fn what_does_not_open_gives_way_first() {
        let mut shelf = Shelf::new(BOUNDS);
        let dead = held(&shelf, 0, 0, 0, 1).id;
        shelf.add_unreadable(dead, 1);
        for n in 0..19 {
            admit(&mut shelf, n / 7, n, 0, 1).unwrap();
        }
        assert_eq!(shelf.unreadable().count(), 1);
        let new = held(&shelf, 2, 99, 0, 1);
        assert_eq!(shelf.admit(new), Admission::Kept(vec![dead]));
    }
}
