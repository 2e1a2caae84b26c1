//! States of runs and events.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Due, or due at a known time; not started.
    Pending,
    /// An attempt is in flight.
    Running,
    /// Waits for something other than a time of its own schedule: a sleep, an event, the breaker, a paused trigger.
    Waiting,
    /// Finished, with a result.
    Succeeded,
    /// Used up its attempts or failed for good: a dead letter.
    Dead,
    /// Ended by an operator.
    Cancelled,
    /// Never started: a filter, flow control or operator decided.
    Skipped,
}

impl RunState {
    /// Every state, in the order of a run's life.
    pub const ALL: [RunState; 7] = [
        RunState::Pending,
        RunState::Running,
        RunState::Waiting,
        RunState::Succeeded,
        RunState::Dead,
        RunState::Cancelled,
        RunState::Skipped,
    ];

    /// Tells whether nothing more will happen to the run by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, RunState::Pending | RunState::Running | RunState::Waiting)
    }

    /// Returns the state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Pending => "pending",
            RunState::Running => "running",
            RunState::Waiting => "waiting",
            RunState::Succeeded => "succeeded",
            RunState::Dead => "dead",
            RunState::Cancelled => "cancelled",
            RunState::Skipped => "skipped",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for RunState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("unknown run state {text:?}; one of {}", words.join(", "))
        })
    }
}

/// The state of an event, derived from its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// No function asked for it.
    Unrouted,
    /// At least one run is not finished, or the router has not seen it yet.
    Open,
    /// Every run is finished, none is dead.
    Done,
    /// At least one run is dead, and none is open.
    Dead,
}

impl EventState {
    /// Every state.
    pub const ALL: [EventState; 4] =
        [EventState::Unrouted, EventState::Open, EventState::Done, EventState::Dead];

    /// Returns the state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            EventState::Unrouted => "unrouted",
            EventState::Open => "open",
            EventState::Done => "done",
            EventState::Dead => "dead",
        }
    }
}

impl fmt::Display for EventState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for EventState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("unknown event state {text:?}; one of {}", words.join(", "))
        })
    }
}

/// Why a function did not want an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `on` does not name the trigger. Recorded beside the event, not as a run.
    On,
    /// None of its `events` matches the kind. Recorded beside the event, not as a run.
    Events,
    /// Its `when` is false for the event. Becomes a skipped run.
    When,
    /// Its `when` errs on the event. Becomes a skipped run.
    WhenError,
    /// Its `when` would cost more than the limit. Becomes a skipped run.
    WhenCost,
}

impl SkipReason {
    /// Returns the stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::On => "on",
            SkipReason::Events => "events",
            SkipReason::When => "when",
            SkipReason::WhenError => "when_error",
            SkipReason::WhenCost => "when_cost",
        }
    }
}
