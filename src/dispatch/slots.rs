//! Who may go next: a function's limit of concurrent attempts, for all its runs or for each value of a key. Pure.

use std::collections::{HashMap, VecDeque};

use crate::subscription::Key;

/// Most attempts of one function in flight, however many keys it has: each holds a connection or a process.
pub(super) const IN_FLIGHT_MAX: usize = 1_024;
/// Most due runs of one function that wait for a place of their key. More would let runs further back go first,
/// whose keys are free; fewer would save a little memory.
pub(super) const WAITING_MAX: usize = 4_096;

/// Places for attempts, and the due runs that wait for one.
///
/// Runs of one key go in the order in which they came. Absent keys are one key of their own.
#[derive(Debug)]
pub(super) struct Slots<T> {
    limit: usize,
    in_flight: usize,
    keys: HashMap<Option<Key>, Lane<T>>,
    /// Keys that have a run waiting and a place free, in the order in which they became so.
    ready: VecDeque<Option<Key>>,
    waiting: usize,
}

#[derive(Debug)]
struct Lane<T> {
    in_flight: usize,
    waiting: VecDeque<T>,
    is_ready: bool,
}

impl<T> Slots<T> {
    /// Returns places for `limit` attempts of each key.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: limit.max(1) as usize,
            in_flight: 0,
            keys: HashMap::new(),
            ready: VecDeque::new(),
            waiting: 0,
        }
    }

    /// Returns how many attempts are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns how many more runs may be taken to wait.
    pub(super) fn room(&self) -> usize {
        WAITING_MAX - self.waiting
    }

    /// Lets a run wait for its turn.
    pub(super) fn push(&mut self, key: Option<Key>, run: T) {
        self.waiting += 1;
        let lane = self.keys.entry(key.clone()).or_default();
        lane.waiting.push_back(run);
        self.make_ready(key);
    }

    /// Returns the next run that has a place, and takes it. `most` bounds the attempts in flight beside.
    pub(super) fn pop(&mut self, most: usize) -> Option<(Option<Key>, T)> {
        if self.in_flight >= most.min(IN_FLIGHT_MAX) {
            return None;
        }
        let key = self.ready.pop_front()?;
        let lane = self.keys.get_mut(&key).expect("a ready key has a lane");
        lane.is_ready = false;
        let run = lane.waiting.pop_front().expect("a ready lane has a run waiting");
        lane.in_flight += 1;
        self.waiting -= 1;
        self.in_flight += 1;
        self.make_ready(key.clone());
        Some((key, run))
    }

    /// Gives a place back.
    pub(super) fn free(&mut self, key: Option<Key>) {
        let Some(lane) = self.keys.get_mut(&key) else { return };
        lane.in_flight -= 1;
        self.in_flight -= 1;
        if lane.in_flight == 0 && lane.waiting.is_empty() {
            self.keys.remove(&key);
        } else {
            self.make_ready(key);
        }
    }

    /// Takes out all runs that wait.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.ready.clear();
        self.waiting = 0;
        let drained = self.keys.values_mut().flat_map(|lane| {
            lane.is_ready = false;
            std::mem::take(&mut lane.waiting)
        });
        let drained = drained.collect();
        self.keys.retain(|_, lane| lane.in_flight > 0);
        drained
    }

    fn make_ready(&mut self, key: Option<Key>) {
        let Some(lane) = self.keys.get_mut(&key) else { return };
        if !lane.is_ready && !lane.waiting.is_empty() && lane.in_flight < self.limit {
            lane.is_ready = true;
            self.ready.push_back(key);
        }
    }
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { in_flight: 0, waiting: VecDeque::new(), is_ready: false }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> Option<Key> {
        Some(name.into())
    }

    fn popped(slots: &mut Slots<u32>, most: usize) -> Vec<u32> {
        std::iter::from_fn(|| slots.pop(most).map(|(_, run)| run)).collect()
    }

    #[test]
    fn each_key_has_its_own_limit_and_its_own_order() {
        let mut slots = Slots::new(2);
        for run in 0..5 {
            slots.push(key("a"), run);
        }
        slots.push(key("b"), 10);
        slots.push(None, 20);
        assert_eq!(popped(&mut slots, usize::MAX), [0, 10, 20, 1]);
        assert_eq!(slots.in_flight(), 4);
        slots.free(key("b"));
        assert_eq!(popped(&mut slots, usize::MAX), [] as [u32; 0]);
        slots.free(key("a"));
        assert_eq!(popped(&mut slots, usize::MAX), [2]);
    }

    #[test]
    fn the_breakers_limit_bounds_all_keys_together() {
        let mut slots = Slots::new(4);
        for run in 0..4 {
            slots.push(key(&run.to_string()), run);
        }
        assert_eq!(popped(&mut slots, 1), [0]);
        assert_eq!(popped(&mut slots, 2), [1]);
    }

    #[test]
    fn draining_leaves_those_in_flight() {
        let mut slots = Slots::new(1);
        for run in 0..3 {
            slots.push(None, run);
        }
        assert_eq!(popped(&mut slots, usize::MAX), [0]);
        assert_eq!(slots.drain(), [1, 2]);
        assert_eq!((slots.in_flight(), slots.room()), (1, WAITING_MAX));
        slots.free(None);
        assert_eq!(slots.in_flight(), 0);
        assert!(slots.keys.is_empty());
    }

    proptest! {
        #[test]
        fn no_key_is_over_its_limit_and_no_run_is_lost(
            limit in 1_u32..4,
            steps in prop::collection::vec((0_u8..3, 0_usize..4), 0..300),
        ) {
            let mut slots = Slots::new(limit);
            let mut in_flight: Vec<Vec<u32>> = vec![Vec::new(); 4];
            let (mut pushed, mut finished) = (0, 0);
            for (step, lane) in steps {
                let name = key(&lane.to_string());
                match step {
                    0 => {
                        slots.push(name, pushed);
                        pushed += 1;
                    }
                    1 => {
                        if let Some((key, run)) = slots.pop(usize::MAX) {
                            let lane: usize = key.unwrap().parse().unwrap();
                            in_flight[lane].push(run);
                            prop_assert!(in_flight[lane].len() <= limit as usize);
                        }
                    }
                    _ => {
                        if in_flight[lane].pop().is_some() {
                            slots.free(name);
                            finished += 1;
                        }
                    }
                }
            }
            for (lane, mut runs) in in_flight.into_iter().enumerate() {
                while runs.pop().is_some() {
                    slots.free(key(&lane.to_string()));
                    finished += 1;
                }
            }
            while let Some((key, _)) = slots.pop(usize::MAX) {
                slots.free(key);
                finished += 1;
            }
            prop_assert_eq!(pushed, finished);
            prop_assert!(slots.keys.is_empty() && slots.ready.is_empty());
        }
    }
}
