//! Who waits in a scope, and when each comes to its turn.
//!
//! [`Queue::plan`] plays the grants ahead of time on a copy of the bucket: it tells a newcomer when its turn
//! would be, and finds those who can no longer be served within their deadline.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::bucket::Bucket;
use super::lane::{Lane, Shares};

/// Most callers that wait in each lane of a scope. Further ones hear when their turn would be, whatever their
/// deadline; more would wait longer for a place than most calls are worth.
pub const WAITERS_MAX: usize = 256;

/// What became of a caller that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has a token, taken in this epoch of the bucket.
    Granted { epoch: u32 },
    /// Its turn would come too late, at this time.
    Refused { at: i64 },
}

/// A caller that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) deadline: i64,
    pub(super) wake: Arc<Wake>,
}

/// How a waiter hears of its turn.
#[derive(Debug, Default)]
pub(super) struct Wake {
    pub(super) outcome: parking_lot::Mutex<Option<Outcome>>,
    pub(super) notify: Notify,
}

impl Wake {
    fn tell(&self, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.notify.notify_one();
    }
}

/// The callers that wait in one scope.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: [VecDeque<Waiter>; 3],
    /// Which waiter holds the timer for all of them.
    pub(super) driver: Option<u64>,
    next_id: u64,
}

/// A turn that was planned: whose, and when.
struct Turn {
    id: u64,
    at: i64,
    in_time: bool,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    pub(super) fn waits(&self, lane: Lane) -> bool {
        !self.lanes[lane.index()].is_empty()
    }

    /// Puts a caller at the end of its lane.
    ///
    /// # Errors
    ///
    /// When its turn would come, if that is too late or the lane is full. Whoever waits already and is now too
    /// late hears it here too.
    pub(super) fn join(
        &mut self,
        lane: Lane,
        deadline: i64,
        bucket: &Bucket,
        shares: Shares,
        now: i64,
    ) -> Result<(u64, Arc<Wake>), i64> {
        let (id, wake) = (self.next_id, Arc::<Wake>::default());
        self.next_id += 1;
        let is_full = self.lanes[lane.index()].len() >= WAITERS_MAX;
        // Whose turn is now is in time, whatever its deadline.
        let deadline = if is_full { i64::MIN } else { deadline.max(now) };
        self.lanes[lane.index()].push_back(Waiter { id, deadline, wake: wake.clone() });
        self.refuse_late(bucket, shares, now);
        match *wake.outcome.lock() {
            Some(Outcome::Refused { at }) => Err(at),
            _ => Ok((id, wake.clone())),
        }
    }

    /// Tells all whose turn would come too late that it does, and forgets them.
    pub(super) fn refuse_late(&mut self, bucket: &Bucket, shares: Shares, now: i64) {
        let late = self.plan(*bucket, shares, now).into_iter().filter(|turn| !turn.in_time);
        for turn in late.collect::<Vec<_>>() {
            if let Some(waiter) = self.remove(turn.id) {
                waiter.wake.tell(Outcome::Refused { at: turn.at });
            }
        }
    }

    /// Plays all turns in order. One that comes too late costs those behind it nothing.
    fn plan(&self, mut bucket: Bucket, mut shares: Shares, now: i64) -> Vec<Turn> {
        let mut next = [0; 3];
        let mut turns = Vec::with_capacity(self.lanes.iter().map(VecDeque::len).sum());
        let mut at = now;
        while let Some((lane, ready)) =
            next_turn(&bucket, shares, at, |lane| next[lane.index()] < self.lanes[lane.index()].len())
        {
            at = ready;
            let waiter = &self.lanes[lane.index()][next[lane.index()]];
            next[lane.index()] += 1;
            let in_time = at <= waiter.deadline;
            if in_time {
                bucket.take(at);
                shares.granted(lane, |lane| next[lane.index()] < self.lanes[lane.index()].len());
            }
            turns.push(Turn { id: waiter.id, at, in_time });
        }
        turns
    }

    /// Hands out what is to be had now, and returns when there is more, if somebody waits for it.
    pub(super) fn dispatch(&mut self, bucket: &mut Bucket, shares: &mut Shares, now: i64) -> Option<i64> {
        while let Some((lane, at)) = next_turn(bucket, *shares, now, |lane| self.waits(lane)) {
            if at > now {
                return Some(at);
            }
            let waiter = self.lanes[lane.index()].pop_front().expect("the lane is not empty");
            bucket.take(now);
            shares.granted(lane, |lane| self.waits(lane));
            waiter.wake.tell(Outcome::Granted { epoch: bucket.epoch });
        }
        None
    }

    /// Takes a waiter out; returns nothing for one that has its outcome.
    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        self.lanes.iter_mut().find_map(|lane| {
            let at = lane.iter().position(|waiter| waiter.id == id)?;
            lane.remove(at)
        })
    }

    /// Wakes the waiter that holds the timer; where there is none, another takes it up.
    pub(super) fn nudge(&self) {
        let waiters = || self.lanes.iter().flatten();
        let driver = self.driver.and_then(|id| waiters().find(|waiter| waiter.id == id));
        if let Some(waiter) = driver.or_else(|| waiters().next()) {
            waiter.wake.notify.notify_one();
        }
    }
}

/// Returns the lane that comes next among those that wait, and when.
fn next_turn(bucket: &Bucket, shares: Shares, now: i64, waits: impl Fn(Lane) -> bool) -> Option<(Lane, i64)> {
    let ready = Lane::ALL.map(|lane| waits(lane).then(|| bucket.ready_at(lane, now)));
    let at = ready.iter().flatten().min().copied()?;
    let lane = shares.pick(|lane| ready[lane.index()].is_some_and(|ready| ready <= at))?;
    Some((lane, at))
}
