//! What the log's records say, as domain types. `codec` gives them their stored form.
//!
//! The state of every run, trigger and function is a fold of these records and of nothing else.

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::event::SkipReason;
use crate::event::{
    EventId, Fingerprint, FunctionId, PermitsChange, Position, ProviderId, RunId, StoredEvent, Timestamp,
    TriggerId,
};

/// Why a run waits whose trigger is paused.
pub const HELD: &str = "held";
/// Why a run waits that its function's breaker parks.
pub const BREAKER: &str = "breaker";
/// Why a run waits whose function is paused.
pub const PAUSED: &str = "paused";
/// Why a run ended that an operator cancelled.
pub const CANCELLED: &str = "cancelled";
/// Why a run ended that was a dead letter and was purged.
pub const PURGED: &str = "purged";

/// One record of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An accepted event. Topic `events`.
    Event(StoredEvent),
    /// A delivery whose dedupe key was already claimed. Topic `events`.
    Duplicate(Duplicate),
    /// The router's decision on a stretch of events. Topic `runs`.
    Routed(Routed),
    /// Runs created outside the router's pass: replays and redeliveries. Topic `runs`.
    Created(Created),
    /// An attempt came to its end. Topic `runs`.
    Attempted(Attempted),
    /// An operator acted on a run. Topic `runs`.
    Controlled(Controlled),
    /// A trigger, function or breaker changed its state. Topic `lifecycle`.
    Switched(Switched),
    /// A secret that hookkeeper keeps, sealed. Topic `secrets`.
    Sealed(Sealed),
    /// A line of an audit topic.
    Audit(Audit),
    /// A schedule began, or its ticks were missed. Topic `cron`.
    Cron(Cron),
    /// Calls of a provider began or ended, or taught its rate limits. Topic `permits`.
    Permits(Permits),
    /// When secrets verified, and which replaces which. Topic `secrets`.
    Secret(SecretNews),
    /// All that a poll brought is stored, and the next one goes on from there. Topic `poll`.
    Polled(Polled),
}

/// A delivery whose dedupe key was already claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The event that holds the claim.
    pub first: EventId,
    /// When the duplicate was received.
    pub received_at: Timestamp,
}

/// The router's decision on all events after `from` up to and including `through`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// The cursor before; a record whose `from` is not the fold's cursor changes nothing.
    pub from: Position,
    /// The cursor after.
    pub through: Position,
    /// When.
    pub at: Timestamp,
    /// The functions that were asked, in configured order; `skipped` names them by index.
    pub functions: Vec<FunctionId>,
    /// Runs to create.
    pub runs: Vec<NewRun>,
    /// Which functions did not want which event, and why.
    pub skipped: Vec<Skip>,
}

/// A run as it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// The event's trigger.
    pub trigger_id: TriggerId,
    /// The event's kind.
    pub kind: String,
    /// Why the run exists.
    pub cause: Cause,
    /// How it begins.
    pub start: Start,
}

/// Why a run exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A new event.
    Live,
    /// The provider sent an event again whose runs were dead, or that no function had asked for.
    Redelivery,
    /// An operator replayed the event; the id names the run that it repeats, where there was one.
    Replay {
        /// The latest earlier run of this event and function.
        replay_of: Option<RunId>,
    },
}

/// How a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Pending, due at this time.
    Due(Timestamp),
    /// Waiting until its trigger is resumed.
    Held,
    /// Never: it is recorded as skipped.
    Skipped(SkipReason),
}

/// One function that did not want one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Position of the event.
    pub event: Position,
    /// Index into [`Routed::functions`].
    pub function: u32,
    /// Why.
    pub reason: SkipReason,
}

/// Runs created outside the router's pass. A run that exists already is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// When.
    pub at: Timestamp,
    /// The runs.
    pub runs: Vec<NewRun>,
}

/// An attempt came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// The run.
    pub run: RunId,
    /// Counted from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// HTTP status or exit code, where there was one.
    pub status: Option<i32>,
    /// What happened, for people: an error, or the tail of stderr. Bounded by the dispatcher.
    pub note: String,
    /// What the handler answered. Bounded by the dispatcher.
    pub answer: Bytes,
    /// What follows.
    pub next: Next,
}

/// What follows an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// The run succeeded; the answer is its result.
    Succeeded,
    /// Another attempt is due at this time.
    RetryAt(Timestamp),
    /// The run is a dead letter, with the reason's code: `attempts_exhausted`, `final`, `body_missing`.
    Dead(String),
}

/// An operator acted on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controlled {
    /// The run.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: RunAction,
}

/// What an operator does to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAction {
    /// End it; a final run stays as it is.
    Cancel,
    /// Make it due now with its attempts counted from 0; a succeeded run stays as it is.
    Retry,
    /// Forget a dead letter: the run counts as cancelled.
    Purge,
}

/// Something changed its state. The last record on a subject counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// When.
    pub at: Timestamp,
    /// What changed, and to what.
    pub switch: Switch,
}

/// What changed, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// A trigger is paused or resumed; resuming makes its held runs due.
    TriggerPaused(TriggerId, bool),
    /// A trigger learns a secret from an unsigned handshake until then.
    TriggerArmed(TriggerId, Option<Timestamp>),
    /// A function is paused or resumed.
    FunctionPaused(FunctionId, bool),
    /// A function's breaker: the time of its next probe where it is open, and failures in a row.
    Breaker {
        /// The function.
        function: FunctionId,
        /// When open: the time of the next probe.
        open_until: Option<Timestamp>,
        /// How often it opened in a row.
        opened: u32,
    },
}

/// What happened to a trigger's schedule, beside its ticks: those are events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    /// When.
    pub at: Timestamp,
    /// The trigger.
    pub trigger_id: TriggerId,
    /// What.
    pub change: CronChange,
}

/// What happened to a trigger's schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CronChange {
    /// It is in force from then on: ticks before are not missed, there were none.
    Began {
        /// Expression and time zone.
        schedule: String,
    },
    /// Nobody was there for some ticks.
    Missed(Missed),
}

/// Ticks that were missed: all of one time that nobody was there, or that the clock leapt over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The first one.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many; counting stops at [`COUNT_MAX`](crate::schedule::COUNT_MAX).
    pub count: u64,
    /// How many of them, the last ones, are made up for: they become events after this record.
    pub made_up: u64,
    /// Up to here they are given up; nothing where all are made up for.
    pub given_up_through: Option<Timestamp>,
}

/// What is known of a provider's rate limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permits {
    /// When.
    pub at: Timestamp,
    /// The provider.
    pub provider: ProviderId,
    /// What.
    pub change: PermitsChange,
}

/// How far a poll trigger has come. The last record of a trigger counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polled {
    /// When its provider was asked.
    pub at: Timestamp,
    /// The trigger.
    pub trigger_id: TriggerId,
    /// Where to go on from, in the connector's own words.
    pub cursor: String,
}

/// A secret that hookkeeper keeps. The last record of a name counts; an empty one removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Name, such as `notion/signing_secret`.
    pub name: String,
    /// When it was set.
    pub at: Timestamp,
    /// Ciphertext with its nonce; `secrets` made it.
    pub sealed: Bytes,
}

/// What became of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretNews {
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: SecretChange,
}

/// What became of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretChange {
    /// Secrets of a trigger were first met, or verified deliveries. What is known of them is added to, never
    /// replaced.
    Seen {
        /// The trigger.
        trigger_id: TriggerId,
        /// Its secrets, as far as there is news of them.
        secrets: Vec<SecretTimes>,
    },
    /// Another secret took the place of a kept one, which stays in force beside it.
    Rotated {
        /// The name under which they are kept.
        name: String,
        /// Until when the earlier one stays, whether the new one was seen or not.
        keep_until: Timestamp,
    },
    /// The secret that was replaced is in force no more.
    Retired {
        /// The name under which its successor is kept.
        name: String,
    },
}

/// When a secret of a trigger verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretTimes {
    /// Its name in the provider's entry.
    pub name: String,
    /// Which secret it is.
    pub fingerprint: Fingerprint,
    /// The reference that led to it last, such as `env:NAME`.
    pub reference: String,
    /// Where it stood last in the trigger's list, 0 being the current one.
    pub index: u32,
    /// When hookkeeper first had it.
    pub added_at: Timestamp,
    /// When a delivery first verified with it.
    pub first_success: Option<Timestamp>,
    /// When the last one did, up to a minute ago.
    pub last_success: Option<Timestamp>,
}

/// A line of an audit topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The topic, such as `audit.signature_verify`.
    pub topic: String,
    /// When.
    pub at: Timestamp,
    /// The trigger concerned.
    pub trigger_id: Option<TriggerId>,
    /// The sender's address, where there was a request.
    pub peer: Option<IpAddr>,
    /// What happened: a code such as `invalid_signature` or `trigger_paused`.
    pub code: String,
    /// Further text: never a secret, never a body.
    pub detail: String,
    /// How many occurrences this line stands for.
    pub count: u32,
}
