//! Bounds what rejections may write to the audit topic, so that forged traffic cannot fill the disk.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::event::{RejectReason, Timestamp};
use crate::flow::TokenBucket;

/// Lines per second and trigger that rejections may write one by one.
const LINES_PER_SECOND: f64 = 1.0;
/// Lines that a trigger may write at once; what a person sends while setting up stays visible one by one.
const LINES_BURST: u32 = 100;

/// Every reason, in the order of the gate's counters.
const REASONS: [RejectReason; 4] = [
    RejectReason::MissingHeader,
    RejectReason::InvalidHeader,
    RejectReason::InvalidSignature,
    RejectReason::TimestampOutOfWindow,
];

/// What the gate decided about one rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It gets a line of its own.
    Line,
    /// It is counted only.
    Counted {
        /// It is the first since the counters were taken: somebody must come and take them.
        first: bool,
    },
}

/// One trigger's gate. Shared by the workers, survives its actor.
#[derive(Debug)]
pub(crate) struct AuditGate {
    lines: TokenBucket,
    counted: [AtomicU32; REASONS.len()],
}

impl Default for AuditGate {
    fn default() -> Self {
        Self { lines: TokenBucket::new(LINES_PER_SECOND, LINES_BURST), counted: Default::default() }
    }
}

impl AuditGate {
    /// Decides whether a rejection at `now` gets a line, and counts it if not.
    pub(crate) fn admit(&self, reason: RejectReason, now: Timestamp) -> Admission {
        if self.lines.try_take(now.as_microsecond()).is_ok() {
            return Admission::Line;
        }
        self.count(reason)
    }

    /// Counts a rejection that gets no line.
    pub(crate) fn count(&self, reason: RejectReason) -> Admission {
        let index = REASONS.iter().position(|r| *r == reason).expect("REASONS names every reason");
        let before: u32 = self.counted.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        self.counted[index].fetch_add(1, Ordering::Relaxed);
        Admission::Counted { first: before == 0 }
    }

    /// Takes the counters: how many rejections for which reason had no line.
    pub(crate) fn take_counted(&self) -> Vec<(RejectReason, u32)> {
        let taken = self.counted.iter().map(|count| count.swap(0, Ordering::Relaxed));
        REASONS.into_iter().zip(taken).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_burst_of_lines_and_a_count() {
        let gate = AuditGate::default();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let admissions: Vec<_> = (0..1000).map(|_| gate.admit(RejectReason::InvalidSignature, now)).collect();
        let lines = admissions.iter().filter(|a| **a == Admission::Line).count();
        assert_eq!(lines, LINES_BURST as usize);
        assert_eq!(admissions[lines], Admission::Counted { first: true });
        assert_eq!(admissions[lines + 1], Admission::Counted { first: false });
        assert_eq!(gate.take_counted(), [(RejectReason::InvalidSignature, 900)]);
        assert_eq!(gate.take_counted(), []);
    }
}
