//! A function's breaker: stops calling what keeps failing, and finds out when to call again. Pure.
//!
//! Closed, attempts go out as concurrency allows. After repeated failures it opens: runs are parked and spend no
//! attempts. When the pause is over, one run probes; its failure opens the breaker again with a longer pause,
//! its success closes it with a ramp: 1, 2, 4, … attempts at once, up to the function's own limit.
//!
//! It is slow to open on purpose. A function that is new, or called seldom, must fail in plain sight: its first
//! runs go through their retries to the dead letters. Only a row of failures that is long in count, in
//! runs and in time says that the function, and not an event, is the trouble.

use std::time::Duration;

use crate::event::{RunId, Timestamp};
use crate::flow;

/// Failures in a row below which the breaker never opens.
const FAILURES_MIN: u32 = 10;
/// Different runs that they must come from: one run's retries say nothing about the others.
const RUNS_MIN: usize = 3;
/// Time that they must span: a burst of failures within an instant is one failure.
const SPAN_MIN: Duration = Duration::from_secs(2);
/// First pause; doubled each time that a probe fails.
const PAUSE_FIRST: Duration = Duration::from_secs(10);
/// Longest pause. Longer would keep a function waiting that works again.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// What came of an attempt, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The function did its work.
    Success,
    /// It answered, and refused for good: it is there, and the event is the trouble.
    Refused,
    /// It failed in a way that may pass.
    Failure,
}

/// A change that must be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// When open: the time of the next probe.
    pub(super) open_until: Option<Timestamp>,
    /// How often it opened in a row.
    pub(super) opened: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Closed(Row),
    /// Nothing goes out until then; after it, one probe.
    Open {
        until: Timestamp,
    },
    /// Closed again, with so many attempts at once.
    Ramp {
        limit: u32,
        /// Successes still missing to double the limit.
        missing: u32,
    },
}

/// Failures since the last success.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    failures: u32,
    since: Option<Timestamp>,
    /// The first of the runs that failed, each once, no more than need be told apart.
    runs: Vec<RunId>,
}

/// The breaker of one function.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Breaker {
    phase: Phase,
    opened: u32,
    concurrency: u32,
}

impl Breaker {
    /// Returns a breaker as it was recorded, for a function with the given limit of concurrent attempts.
    pub(super) fn new(open_until: Option<Timestamp>, opened: u32, concurrency: u32) -> Self {
        let phase = open_until.map_or(Phase::Closed(Row::default()), |until| Phase::Open { until });
        Self { phase, opened, concurrency: concurrency.max(1) }
    }

    /// Returns how many attempts may be in flight at once, all keys together; none where it is closed and the
    /// function's own limits count alone.
    ///
    /// # Errors
    ///
    /// The time of the next probe, if none may go out.
    pub(super) fn allows(&self, now: Timestamp) -> Result<Option<u32>, Timestamp> {
        match self.phase {
            Phase::Closed(_) => Ok(None),
            Phase::Ramp { limit, .. } => Ok(Some(limit)),
            Phase::Open { until } if now >= until => Ok(Some(1)),
            Phase::Open { until } => Err(until),
        }
    }

    /// Returns the time of the next probe where it is open.
    pub(super) fn open_until(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed(_) | Phase::Ramp { .. } => None,
        }
    }

    /// Takes note of an attempt's outcome; returns what must be recorded.
    ///
    /// Failures of attempts that were in flight when the breaker opened change nothing. `random` is the jitter
    /// of the pause.
    pub(super) fn note(
        &mut self,
        run: &RunId,
        outcome: Outcome,
        now: Timestamp,
        random: u32,
    ) -> Option<Change> {
        match (&mut self.phase, outcome) {
            (Phase::Closed(row), Outcome::Failure) => row.add(run, now).then(|| self.open(now, random)),
            (Phase::Closed(row), Outcome::Success) => {
                *row = Row::default();
                None
            }
            (Phase::Closed(_) | Phase::Ramp { .. }, Outcome::Refused) => None,
            // A probe, or a straggler of the time before: the function answers either way.
            (Phase::Open { .. }, Outcome::Success | Outcome::Refused) => Some(self.close()),
            (Phase::Open { until }, Outcome::Failure) if now >= *until => Some(self.open(now, random)),
            (Phase::Open { .. }, Outcome::Failure) => None,
            (Phase::Ramp { .. }, Outcome::Failure) => Some(self.open(now, random)),
            (Phase::Ramp { limit, missing }, Outcome::Success) => {
                *missing = missing.saturating_sub(1);
                if *missing == 0 {
                    *limit = limit.saturating_mul(2);
                    *missing = *limit;
                    if *limit >= self.concurrency {
                        self.phase = Phase::Closed(Row::default());
                        self.opened = 0;
                    }
                }
                None
            }
        }
    }

    fn open(&mut self, now: Timestamp, random: u32) -> Change {
        self.opened = self.opened.saturating_add(1);
        let doublings = (self.opened - 1).min(16);
        let pause = flow::with_jitter((PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX), random);
        let until = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        self.phase = Phase::Open { until };
        Change { open_until: Some(until), opened: self.opened }
    }

    fn close(&mut self) -> Change {
        if self.concurrency > 1 {
            self.phase = Phase::Ramp { limit: 1, missing: 1 };
        } else {
            self.phase = Phase::Closed(Row::default());
            self.opened = 0;
        }
        // Recorded as wholly closed: after a restart in mid-ramp the failures would open it again soon enough.
        Change { open_until: None, opened: 0 }
    }
}

impl Row {
    /// Adds a failure; tells whether the row is long enough to open.
    fn add(&mut self, run: &RunId, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        if self.runs.len() < RUNS_MIN && !self.runs.contains(run) {
            self.runs.push(run.clone());
        }
        let span = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.failures >= FAILURES_MIN && self.runs.len() >= RUNS_MIN && span >= SPAN_MIN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{EventId, Position};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn run(number: u64) -> RunId {
        RunId {
            event: EventId::new(0, Position::new(number, 0), 0),
            function: "f".parse().unwrap(),
            generation: 1,
        }
    }

    /// A breaker of a function with the given limit, open since second 100.
    fn open(concurrency: u32) -> Breaker {
        let mut breaker = Breaker::new(None, 0, concurrency);
        let changes: Vec<_> =
            (0..10).filter_map(|i| breaker.note(&run(i), Outcome::Failure, at(91 + i as i64), 0)).collect();
        assert_eq!(changes, [Change { open_until: Some(at(110)), opened: 1 }]);
        breaker
    }

    #[test]
    fn opens_after_a_row_long_in_count_runs_and_time() {
        let breaker = open(4);
        assert_eq!(breaker.allows(at(109)), Err(at(110)));
        assert_eq!(breaker.allows(at(110)), Ok(Some(1)));
    }

    #[test]
    fn one_runs_retries_never_open_it() {
        let mut breaker = Breaker::new(None, 0, 4);
        for i in 0..100 {
            assert_eq!(breaker.note(&run(i as u64 % 2), Outcome::Failure, at(i), 0), None);
        }
    }

    #[test]
    fn a_burst_within_an_instant_does_not_open_it() {
        let mut breaker = Breaker::new(None, 0, 4);
        for i in 0..1_000 {
            assert_eq!(breaker.note(&run(i), Outcome::Failure, at(0), 0), None);
        }
        assert!(breaker.note(&run(1), Outcome::Failure, at(2), 0).is_some(), "but its going on does");
    }

    #[test]
    fn a_success_in_between_ends_the_row_and_a_refusal_does_not_count() {
        let mut breaker = Breaker::new(None, 0, 4);
        for i in 0..100 {
            let outcome = if i % 9 == 8 { Outcome::Success } else { Outcome::Failure };
            assert_eq!(breaker.note(&run(i as u64), outcome, at(i), 0), None);
        }
        for i in 0..100 {
            assert_eq!(breaker.note(&run(i as u64), Outcome::Refused, at(i), 0), None);
        }
        assert_eq!(breaker.allows(at(200)), Ok(None));
    }

    #[test]
    fn failed_probes_pause_longer_up_to_the_longest() {
        let mut breaker = open(4);
        let mut now = at(110);
        let mut pauses = Vec::new();
        for opened in 2..9 {
            let change = breaker.note(&run(1), Outcome::Failure, now, 0).unwrap();
            assert_eq!(change.opened, opened);
            let until = change.open_until.unwrap();
            pauses.push(until.duration_since(now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn stragglers_that_fail_do_not_lengthen_the_pause() {
        let mut breaker = open(4);
        assert_eq!(breaker.note(&run(50), Outcome::Failure, at(105), 0), None);
        assert_eq!(breaker.allows(at(105)), Err(at(110)));
    }

    #[test]
    fn a_probes_success_ramps_up_by_doubling() {
        let mut breaker = open(6);
        let change = breaker.note(&run(1), Outcome::Success, at(110), 0);
        assert_eq!(change, Some(Change { open_until: None, opened: 0 }));
        let mut limits = vec![breaker.allows(at(110)).unwrap()];
        for i in 0..7 {
            assert_eq!(breaker.note(&run(i), Outcome::Success, at(111), 0), None);
            limits.push(breaker.allows(at(111)).unwrap());
        }
        assert_eq!(limits, [Some(1), Some(2), Some(2), Some(4), Some(4), Some(4), Some(4), None]);
    }

    #[test]
    fn a_failure_in_the_ramp_opens_at_once_and_remembers_how_often() {
        let mut breaker = open(6);
        breaker.note(&run(1), Outcome::Success, at(110), 0);
        let change = breaker.note(&run(2), Outcome::Failure, at(111), 0);
        assert_eq!(change, Some(Change { open_until: Some(at(131)), opened: 2 }));
    }

    #[test]
    fn a_restart_finds_it_as_it_was_recorded() {
        let breaker = Breaker::new(Some(at(10)), 3, 4);
        assert_eq!(breaker.allows(at(9)), Err(at(10)));
        assert_eq!(breaker.allows(at(10)), Ok(Some(1)));
    }

    proptest! {
        #[test]
        fn always_lets_something_out_in_the_end(
            steps in prop::collection::vec((0_u64..5, 0_usize..3, 0_i64..400, any::<u32>()), 0..200),
        ) {
            let mut breaker = Breaker::new(None, 0, 8);
            let mut now = 0;
            for (of, outcome, pause, random) in steps {
                now += pause;
                let outcome = [Outcome::Success, Outcome::Refused, Outcome::Failure][outcome];
                breaker.note(&run(of), outcome, at(now), random);
                match breaker.allows(at(now)) {
                    Ok(limit) => prop_assert!(limit.is_none_or(|limit| (1..8).contains(&limit))),
                    Err(until) => {
                        prop_assert!(until <= at(now) + PAUSE_MAX.mul_f64(1.0 + flow::JITTER_MAX));
                        prop_assert_eq!(breaker.allows(until), Ok(Some(1)));
                    }
                }
            }
        }
    }
}
