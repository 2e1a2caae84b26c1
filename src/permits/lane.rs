//! Which of the callers that wait comes next.

/// A waiting replay gets at least one of this many permits, whoever else waits. Smaller slows live calls
/// down, larger lets a replay stand still while live traffic uses up the budget.
pub const REPLAY_SHARE: u8 = 10;
/// A waiting backfill gets at least one of this many permits, whoever else waits. With [`REPLAY_SHARE`] this
/// leaves live calls 85 % of the budget at the least.
pub const BACKFILL_SHARE: u8 = 20;

/// On whose behalf a call is made; all lanes share one budget.
///
/// Live calls go first, then replays, then backfills. So that nothing stands still for good, a lane that
/// waits is let through once in [`REPLAY_SHARE`] or [`BACKFILL_SHARE`] permits; where both come due at once,
/// the other one follows with the next permit.
///
/// # Examples
///
/// ```
/// use hookkeeper::permits::Lane;
///
/// assert!(Lane::Live < Lane::Replay && Lane::Replay < Lane::Backfill);
/// assert_eq!(Lane::default(), Lane::Live);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// For an event that has just come in.
    #[default]
    Live,
    /// For an event that is replayed.
    Replay,
    /// For what is fetched after the fact.
    Backfill,
}

impl Lane {
    /// All lanes, the first one first.
    pub const ALL: [Lane; 3] = [Lane::Live, Lane::Replay, Lane::Backfill];

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// How many permits went past each lane while it waited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shares([u8; 3]);

impl Shares {
    /// Picks the lane that comes next among those that `can` be served.
    pub(super) fn pick(&self, can: impl Fn(Lane) -> bool) -> Option<Lane> {
        let overdue = |lane: &Lane| self.0[lane.index()] + 1 >= share(*lane);
        // The smallest share first: it comes up least often.
        let mut lower = [Lane::Backfill, Lane::Replay].into_iter();
        let due = lower.find(|lane| overdue(lane) && can(*lane));
        due.or_else(|| Lane::ALL.into_iter().find(|lane| can(*lane)))
    }

    /// Notes that `lane` got a permit while others `wait`.
    pub(super) fn granted(&mut self, lane: Lane, waits: impl Fn(Lane) -> bool) {
        for other in Lane::ALL {
            let passed = &mut self.0[other.index()];
            *passed = if other != lane && waits(other) { passed.saturating_add(1) } else { 0 };
        }
    }
}

fn share(lane: Lane) -> u8 {
    match lane {
        Lane::Live => 1,
        Lane::Replay => REPLAY_SHARE,
        Lane::Backfill => BACKFILL_SHARE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grants `permits` while the given lanes wait without end, and counts them by lane.
    fn granted(waiting: &[Lane], permits: usize) -> [usize; 3] {
        let (mut shares, mut counts) = (Shares::default(), [0; 3]);
        for _ in 0..permits {
            let lane = shares.pick(|lane| waiting.contains(&lane)).unwrap();
            shares.granted(lane, |lane| waiting.contains(&lane));
            counts[lane.index()] += 1;
        }
        counts
    }

    #[test]
    fn lower_lanes_get_their_share_and_no_more() {
        use Lane::{Backfill, Live, Replay};
        assert_eq!(granted(&[Live, Replay, Backfill], 200), [171, 19, 10]);
        assert_eq!(granted(&[Live, Replay], 100), [90, 10, 0]);
        assert_eq!(granted(&[Live, Backfill], 100), [95, 0, 5]);
        assert_eq!(granted(&[Replay, Backfill], 100), [0, 95, 5]);
        assert_eq!(granted(&[Backfill], 7), [0, 0, 7]);
    }

    #[test]
    fn a_live_call_that_waits_alone_is_next() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            shares.granted(Lane::Backfill, |lane| lane == Lane::Backfill);
        }
        assert_eq!(shares.pick(|_| true), Some(Lane::Live));
    }

    #[test]
    fn a_lane_that_cannot_be_served_is_passed_over() {
        let mut shares = Shares::default();
        for _ in 0..50 {
            shares.granted(Lane::Live, |_| true);
        }
        assert_eq!(shares.pick(|lane| lane != Lane::Backfill), Some(Lane::Replay));
        assert_eq!(shares.pick(|lane| lane == Lane::Live), Some(Lane::Live));
        assert_eq!(shares.pick(|_| false), None);
    }
}
