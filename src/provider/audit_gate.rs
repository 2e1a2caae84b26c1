//! Bounds what rejections may write to the audit topic, so that forged traffic cannot fill the disk.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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

/// One trigger's gate. Shared by the workers, survives its actor.
#[derive(Debug)]
pub(crate) struct AuditGate {
    lines: TokenBucket,
    counted: [AtomicU32; REASONS.len()],
    /// Somebody was asked to come and take the counters.
    due: AtomicBool,
}

impl Default for AuditGate {
    fn default() -> Self {
        Self {
            lines: TokenBucket::new(LINES_PER_SECOND, LINES_BURST),
            counted: Default::default(),
            due: AtomicBool::new(false),
        }
    }
}

impl AuditGate {
    /// Tells whether a rejection at `now` gets a line of its own.
    pub(crate) fn admits(&self, now: Timestamp) -> bool {
        self.lines.try_take(now.as_microsecond()).is_ok()
    }

    /// Counts a rejection that gets no line; `ask` asks somebody to take the counters, and tells whether
    /// it was heard. It is called unless somebody was asked already.
    pub(crate) fn count(&self, reason: RejectReason, ask: impl FnOnce() -> bool) {
        let index = REASONS.iter().position(|r| *r == reason).expect("REASONS names every reason");
        self.counted[index].fetch_add(1, Ordering::SeqCst);
        if !self.due.swap(true, Ordering::SeqCst) && !ask() {
            self.due.store(false, Ordering::SeqCst);
        }
    }

    /// Takes the counters: how many rejections for which reason had no line.
    pub(crate) fn take_counted(&self) -> Vec<(RejectReason, u32)> {
        // First: what is counted from here on asks anew.
        self.due.store(false, Ordering::SeqCst);
        let taken = self.counted.iter().map(|count| count.swap(0, Ordering::SeqCst));
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
        let (mut lines, mut asked) = (0, 0);
        for _ in 0..1000 {
            if gate.admits(now) {
                lines += 1;
            } else {
                gate.count(RejectReason::InvalidSignature, || {
                    asked += 1;
                    // Nobody hears the first time: the next one asks again.
                    asked > 1
                });
            }
        }
        assert_eq!((lines, asked), (LINES_BURST, 2));
        assert_eq!(gate.take_counted(), [(RejectReason::InvalidSignature, 900)]);
        assert_eq!(gate.take_counted(), []);
        gate.count(RejectReason::MissingHeader, || {
            asked += 1;
            true
        });
        assert_eq!(asked, 3, "after the counters were taken, the next one asks");
    }
}
