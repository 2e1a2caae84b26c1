//! A stretch of the log as the router decides on it, until it becomes one record. Pure.

use crate::event::{FunctionId, Position, RunId, SkipReason, Timestamp};
use crate::event_log::codec::EventHead;
use crate::event_log::record::{Cause, NewRun, Routed, Skip, Start};

/// Size at which a stretch becomes a record, in bytes, generously counted. A record must fit a frame, and the
/// dispatchers start only when it is durable.
const BYTES_FULL: usize = 256 * 1024;
/// Events at which a stretch becomes a record, whatever they take.
const EVENTS_FULL: usize = 512;
/// What a run or a skip takes in a record beside its texts.
const RUN_BYTES: usize = 64;
const SKIP_BYTES: usize = 12;

/// What became of an event: for each of the functions asked, in their order, whether it wants it.
pub(super) type Decisions = Vec<Result<(), SkipReason>>;

/// Decisions on the records after one position up to another.
#[derive(Debug)]
pub(super) struct Stretch {
    from: Position,
    through: Position,
    /// The first frame that was not looked at completely.
    next: Position,
    functions: Vec<FunctionId>,
    events: usize,
    runs: Vec<NewRun>,
    skipped: Vec<Skip>,
    bytes: usize,
}

impl Stretch {
    /// Begins after `from`, asking the given functions.
    pub(super) fn new(from: Position, functions: Vec<FunctionId>) -> Self {
        let next = if from.index() + 1 < Position::RECORDS_PER_FRAME_MAX {
            Position::new(from.frame(), from.index() + 1)
        } else {
            Position::new(from.frame() + 1, 0)
        };
        // Position zero is before every record, frame 0 does not exist.
        let next = if from == Position::ZERO { Position::new(1, 0) } else { next };
        Self {
            from,
            through: from,
            next,
            functions,
            events: 0,
            runs: Vec::new(),
            skipped: Vec::new(),
            bytes: 0,
        }
    }

    /// Returns the number of the frame to look at next.
    pub(super) fn next_frame(&self) -> u64 {
        self.next.frame()
    }

    /// Returns the index in that frame to go on with.
    pub(super) fn next_index(&self) -> usize {
        self.next.index()
    }

    /// The rest of a frame holds nothing.
    pub(super) fn skip_frame(&mut self, seq: u64) {
        self.next = self.next.max(Position::new(seq + 1, 0));
    }

    /// A record was looked at.
    pub(super) fn looked_at(&mut self, position: Position) {
        self.through = position;
    }

    /// Returns the last record looked at.
    pub(super) fn through(&self) -> Position {
        self.through
    }

    /// Returns how many frames the stretch goes over.
    pub(super) fn frames(&self) -> u64 {
        self.through.frame() - self.from.frame()
    }

    /// Tells whether there is a decision in it.
    pub(super) fn has_events(&self) -> bool {
        self.events > 0
    }

    /// Tells whether it should become a record now.
    pub(super) fn is_full(&self) -> bool {
        self.events >= EVENTS_FULL || self.bytes >= BYTES_FULL
    }

    /// Asks other functions from here on. Decisions in it name those asked before, so there must be none.
    pub(super) fn ask(&mut self, functions: Vec<FunctionId>) {
        debug_assert!(!self.has_events(), "decisions name functions by index");
        self.functions = functions;
    }

    /// Adds the decisions on an event, one for each of the functions asked, in their order.
    pub(super) fn add(&mut self, event: &EventHead<'_>, decisions: Decisions, now: Timestamp) {
        debug_assert_eq!(decisions.len(), self.functions.len(), "one decision for each function");
        for (index, decision) in decisions.into_iter().enumerate() {
            let start = match decision {
                Ok(()) if event.held => Start::Held,
                Ok(()) => Start::Due(now),
                Err(reason @ (SkipReason::On | SkipReason::Events)) => {
                    let function = index as u32;
                    self.skipped.push(Skip { event: event.id.position(), function, reason });
                    self.bytes += SKIP_BYTES;
                    continue;
                }
                Err(reason @ (SkipReason::When | SkipReason::WhenError | SkipReason::WhenCost)) => {
                    Start::Skipped(reason)
                }
            };
            let function = self.functions[index].clone();
            self.bytes +=
                RUN_BYTES + function.as_str().len() + event.trigger_id.as_str().len() + event.kind.len();
            self.runs.push(NewRun {
                id: RunId { event: event.id, function, generation: 1 },
                trigger_id: event.trigger_id.clone(),
                kind: event.kind.to_owned(),
                cause: Cause::Live,
                start,
            });
        }
        self.events += 1;
    }

    /// Returns the record.
    pub(super) fn finish(self, at: Timestamp) -> Routed {
        Routed {
            from: self.from,
            through: self.through,
            at,
            functions: self.functions,
            runs: self.runs,
            skipped: self.skipped,
        }
    }
}
