//! Keys and values of the table of derived state.
//!
//! The table can always be built anew from the log, so its form has one version number: a store with
//! another one is folded from the start.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{EventId, FunctionId, Position, RunId, RunState, Timestamp, TriggerId};
use crate::event_log::codec::{DecodeError, decode, micros, timestamp};
use crate::event_log::record::Cause;

/// The form of the table.
pub(super) const VERSION: u8 = 2;

/// How far the fold has come, and the sums that it keeps.
pub(super) const MARK: &[u8] = b"m";
const RUN: u8 = b'r';
const DUE: u8 = b'd';
const FRESH: u8 = b'n';
const HELD: u8 = b'h';
const DEAD: u8 = b'x';
const ROUTED: u8 = b't';
const TOPIC: u8 = b'a';
const TRIGGER: u8 = b'p';
const FUNCTION: u8 = b'f';
const SEALED: u8 = b'k';
const BODY: u8 = b'b';
const SCHEDULE: u8 = b's';

/// A run as the fold knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The event's trigger.
    pub trigger_id: TriggerId,
    /// The event's kind.
    pub kind: String,
    /// Why it exists.
    pub cause: Cause,
    /// Its state.
    pub state: RunState,
    /// Why it is in that state: `held`, `breaker`, `paused`, a reason of [`SkipReason`](crate::event_log::record::SkipReason),
    /// of [`Next::Dead`](crate::event_log::record::Next::Dead), `cancelled` or `purged`.
    pub reason: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its next attempt is due, while it is pending.
    pub due_at: Option<Timestamp>,
    /// Attempts made since it was created or last made to start over by an operator.
    pub attempts: u32,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// The latest attempts, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<AttemptSummary>,
}

/// Most attempts that a run's history keeps; the log has them all.
pub const HISTORY_MAX: usize = 32;
/// Most characters of a note that the history keeps.
pub(super) const NOTE_CHARS_MAX: usize = 240;

/// One attempt in a run's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptSummary {
    /// Counted from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// HTTP status or exit code, where there was one.
    pub status: Option<i32>,
    /// What happened, shortened.
    pub note: String,
    /// Where the whole record stands, with the handler's answer.
    pub position: Position,
}

fn with_zero(tag: u8, name: &str, more: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + name.len() + more);
    key.push(tag);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

/// Position, function, 0, generation: what run keys of several kinds end with.
fn push_run(key: &mut Vec<u8>, id: &RunId) {
    key.extend_from_slice(&id.event.position().bits().to_be_bytes());
    key.extend_from_slice(id.function.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&id.generation.to_be_bytes());
}

/// Bytes of a key that ends with a run, beside the function's name.
const RUN_KEY_BYTES: usize = 14;

fn key_of_run(tag: u8, id: &RunId) -> Vec<u8> {
    let mut key = Vec::with_capacity(RUN_KEY_BYTES + id.function.as_str().len());
    key.push(tag);
    push_run(&mut key, id);
    key
}

pub(super) fn run_key(id: &RunId) -> Vec<u8> {
    key_of_run(RUN, id)
}

/// All runs of the event at a position.
pub(super) fn runs_of(event: Position) -> Vec<u8> {
    tagged(RUN, &event.bits().to_be_bytes())
}

/// All runs of the event at a position and one function.
pub(super) fn generations_of(event: Position, function: &FunctionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(RUN_KEY_BYTES + function.as_str().len());
    key.push(RUN);
    key.extend_from_slice(&event.bits().to_be_bytes());
    key.extend_from_slice(function.as_str().as_bytes());
    key.push(0);
    key
}

/// All runs.
pub(super) fn all_runs() -> Vec<u8> {
    vec![RUN]
}

/// All dead runs.
pub(super) fn all_dead() -> Vec<u8> {
    vec![DEAD]
}

pub(super) fn dead_key(id: &RunId) -> Vec<u8> {
    key_of_run(DEAD, id)
}

/// The key of the run that a key of the dead names.
pub(super) fn run_key_of_dead(key: &[u8]) -> Vec<u8> {
    tagged(RUN, &key[1..])
}

/// All held runs of a trigger.
pub(super) fn held_of(trigger: &TriggerId) -> Vec<u8> {
    with_zero(HELD, trigger.as_str(), 0)
}

pub(super) fn held_key(trigger: &TriggerId, id: &RunId) -> Vec<u8> {
    let mut key = with_zero(HELD, trigger.as_str(), RUN_KEY_BYTES + id.function.as_str().len());
    push_run(&mut key, id);
    key
}

/// The key of the run that a key of the held names.
pub(super) fn run_key_of_held(trigger: &TriggerId, key: &[u8]) -> Vec<u8> {
    tagged(RUN, &key[trigger.as_str().len() + 2..])
}

/// A due run within its function: the order in which runs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DueKey {
    pub(super) due_ms: i64,
    pub(super) event: Position,
    pub(super) generation: u32,
}

impl DueKey {
    /// Before every due run.
    pub(super) const MIN: DueKey = DueKey { due_ms: i64::MIN, event: Position::ZERO, generation: 0 };

    pub(super) fn stored(self, function: &FunctionId) -> Vec<u8> {
        let mut key = due_of(function);
        key.extend_from_slice(&((self.due_ms as u64) ^ (1 << 63)).to_be_bytes());
        key.extend_from_slice(&self.event.bits().to_be_bytes());
        key.extend_from_slice(&self.generation.to_be_bytes());
        key
    }

    pub(super) fn of_stored(key: &[u8]) -> Option<Self> {
        let tail = key.get(key.len().checked_sub(20)?..)?;
        let (due, rest) = tail.split_first_chunk::<8>()?;
        let (event, generation) = rest.split_first_chunk::<8>()?;
        Some(Self {
            due_ms: (u64::from_be_bytes(*due) ^ (1 << 63)) as i64,
            event: Position::from_bits(u64::from_be_bytes(*event))?,
            generation: u32::from_be_bytes(generation.try_into().ok()?),
        })
    }

    pub(super) fn run_key(self, function: &FunctionId) -> Vec<u8> {
        let mut key = generations_of(self.event, function);
        key.extend_from_slice(&self.generation.to_be_bytes());
        key
    }
}

/// All due runs of a function.
pub(super) fn due_of(function: &FunctionId) -> Vec<u8> {
    with_zero(DUE, function.as_str(), 20)
}

/// All decisions that started runs of a function which have no row yet.
pub(super) fn fresh_of(function: &FunctionId) -> Vec<u8> {
    with_zero(FRESH, function.as_str(), 8)
}

pub(super) fn fresh_key(function: &FunctionId, decision: Position) -> Vec<u8> {
    let mut key = fresh_of(function);
    key.extend_from_slice(&decision.bits().to_be_bytes());
    key
}

/// The decision that a key of the fresh names.
pub(super) fn decision_of_fresh(key: &[u8]) -> Option<Position> {
    Position::from_bits(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

/// How many due runs of a function that one decision started have no row yet.
pub(super) fn encode_fresh(runs: u32) -> Vec<u8> {
    runs.to_be_bytes().to_vec()
}

pub(super) fn decode_fresh(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// Where the router's decision on events up to `through` is recorded.
pub(super) fn routed_key(through: Position) -> Vec<u8> {
    tagged(ROUTED, &through.bits().to_be_bytes())
}

/// All decisions of the router.
pub(super) fn all_routed() -> Vec<u8> {
    vec![ROUTED]
}

/// Frames that hold lines of a topic.
pub(super) fn frames_of_topic(topic: &str) -> Vec<u8> {
    with_zero(TOPIC, topic, 8)
}

pub(super) fn topic_key(topic: &str, frame: u64) -> Vec<u8> {
    let mut key = frames_of_topic(topic);
    key.extend_from_slice(&frame.to_be_bytes());
    key
}

/// The frame that a key of a topic names.
pub(super) fn frame_of_topic_key(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

/// The topic that a key of a topic names.
pub(super) fn topic_of_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..key.len().checked_sub(9)?)?).ok()
}

/// All frames of all topics.
pub(super) fn all_topics() -> Vec<u8> {
    vec![TOPIC]
}

pub(super) fn trigger_key(id: &TriggerId) -> Vec<u8> {
    tagged(TRIGGER, id.as_str().as_bytes())
}

pub(super) fn function_key(id: &FunctionId) -> Vec<u8> {
    tagged(FUNCTION, id.as_str().as_bytes())
}

pub(super) fn sealed_key(name: &str) -> Vec<u8> {
    tagged(SEALED, name.as_bytes())
}

pub(super) fn body_key(name: &str) -> Vec<u8> {
    tagged(BODY, name.as_bytes())
}

pub(super) fn schedule_key(id: &TriggerId) -> Vec<u8> {
    tagged(SCHEDULE, id.as_str().as_bytes())
}

/// Prefixes of what is kept in memory as a whole: triggers, their schedules, functions, sealed secrets.
pub(super) fn all_triggers() -> Vec<u8> {
    vec![TRIGGER]
}

pub(super) fn all_schedules() -> Vec<u8> {
    vec![SCHEDULE]
}

pub(super) fn all_functions() -> Vec<u8> {
    vec![FUNCTION]
}

pub(super) fn all_sealed() -> Vec<u8> {
    vec![SEALED]
}

/// The name in a key of one letter and a name.
pub(super) fn name_of_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

#[derive(Serialize, Deserialize)]
struct RunRow<'a> {
    event: [u8; 16],
    trigger: &'a str,
    kind: &'a str,
    #[serde(borrow)]
    cause: CauseRow<'a>,
    state: u8,
    reason: Option<&'a str>,
    created_at: i64,
    due_at: Option<i64>,
    attempts: u32,
    finished_at: Option<i64>,
    #[serde(borrow)]
    history: Vec<AttemptRow<'a>>,
}

#[derive(Serialize, Deserialize)]
enum CauseRow<'a> {
    Live,
    Redelivery,
    #[serde(borrow)]
    Replay(Option<([u8; 16], &'a str, u32)>),
}

#[derive(Serialize, Deserialize)]
struct AttemptRow<'a> {
    attempt: u32,
    started_at: i64,
    duration_us: u64,
    status: Option<i32>,
    note: &'a str,
    position: u64,
}

impl<'a> AttemptRow<'a> {
    fn of(it: &'a AttemptSummary) -> Self {
        Self {
            attempt: it.attempt,
            started_at: micros(it.started_at),
            duration_us: it.duration_us,
            status: it.status,
            note: &it.note,
            position: it.position.bits(),
        }
    }
}

/// About what a run's row takes, and again for each attempt in it.
const RUN_ROW_BYTES: usize = 80;

pub(super) fn encode_run(run: &Run) -> Vec<u8> {
    let row = RunRow {
        event: run.id.event.bits().to_be_bytes(),
        trigger: run.trigger_id.as_str(),
        kind: &run.kind,
        cause: match &run.cause {
            Cause::Live => CauseRow::Live,
            Cause::Redelivery => CauseRow::Redelivery,
            Cause::Replay { replay_of } => CauseRow::Replay(
                replay_of
                    .as_ref()
                    .map(|id| (id.event.bits().to_be_bytes(), id.function.as_str(), id.generation)),
            ),
        },
        state: RunState::ALL.iter().position(|state| *state == run.state).expect("ALL has every state") as u8,
        reason: run.reason.as_deref(),
        created_at: micros(run.created_at),
        due_at: run.due_at.map(micros),
        attempts: run.attempts,
        finished_at: run.finished_at.map(micros),
        history: run.history.iter().map(AttemptRow::of).collect(),
    };
    let bytes =
        RUN_ROW_BYTES + row.history.iter().map(|attempt| RUN_ROW_BYTES + attempt.note.len()).sum::<usize>();
    postcard::to_extend(&row, Vec::with_capacity(bytes)).expect("rows serialize")
}

pub(super) fn decode_run(key: &[u8], value: &[u8]) -> Result<Run, DecodeError> {
    let invalid = DecodeError::Invalid("a key of a run is malformed");
    let (name, generation) = key.get(9..).and_then(<[u8]>::split_last_chunk::<4>).ok_or(invalid.clone())?;
    let name =
        name.strip_suffix(&[0]).and_then(|name| std::str::from_utf8(name).ok()).ok_or(invalid.clone())?;
    let row: RunRow<'_> = decode(value)?;
    let event = |bits| EventId::from_bits(u128::from_be_bytes(bits));
    let function = |name: &str| name.parse::<FunctionId>().map_err(|_| invalid.clone());
    let attempt = |row: AttemptRow<'_>| {
        Ok(AttemptSummary {
            attempt: row.attempt,
            started_at: timestamp(row.started_at)?,
            duration_us: row.duration_us,
            status: row.status,
            note: row.note.to_owned(),
            position: Position::from_bits(row.position).ok_or(invalid.clone())?,
        })
    };
    Ok(Run {
        id: RunId {
            event: event(row.event),
            function: function(name)?,
            generation: u32::from_be_bytes(*generation),
        },
        trigger_id: row.trigger.parse().map_err(|_| invalid.clone())?,
        kind: row.kind.to_owned(),
        cause: match row.cause {
            CauseRow::Live => Cause::Live,
            CauseRow::Redelivery => Cause::Redelivery,
            CauseRow::Replay(None) => Cause::Replay { replay_of: None },
            CauseRow::Replay(Some((bits, name, generation))) => {
                let of = RunId { event: event(bits), function: function(name)?, generation };
                Cause::Replay { replay_of: Some(of) }
            }
        },
        state: *RunState::ALL.get(usize::from(row.state)).ok_or(invalid.clone())?,
        reason: row.reason.map(str::to_owned),
        created_at: timestamp(row.created_at)?,
        due_at: row.due_at.map(timestamp).transpose()?,
        attempts: row.attempts,
        finished_at: row.finished_at.map(timestamp).transpose()?,
        history: row.history.into_iter().map(attempt).collect::<Result<_, DecodeError>>()?,
    })
}

/// State of a trigger that operators or handshakes change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerState {
    /// Deliveries are accepted and held.
    pub paused: bool,
    /// A secret is learned from an unsigned handshake until then.
    pub armed_until: Option<Timestamp>,
}

/// How far a trigger's schedule has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleState {
    /// Expression and time zone as they last began.
    pub schedule: String,
    /// All ticks up to here are events, or given up.
    pub through: Timestamp,
    /// The last tick that became an event.
    pub last_tick: Option<Timestamp>,
    /// How many ticks were given up.
    pub missed: u64,
}

/// State of a function that operators or its breaker change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionState {
    /// Nothing new is started.
    pub paused: bool,
    /// Where the breaker is open: the time of its next probe.
    pub open_until: Option<Timestamp>,
    /// How often the breaker opened in a row.
    pub opened: u32,
}

pub(super) fn encode_trigger(it: &TriggerState) -> Vec<u8> {
    postcard::to_stdvec(&(it.paused, it.armed_until.map(micros))).expect("rows serialize")
}

pub(super) fn decode_trigger(value: &[u8]) -> Result<TriggerState, DecodeError> {
    let (paused, armed_until) = decode::<(bool, Option<i64>)>(value)?;
    Ok(TriggerState { paused, armed_until: armed_until.map(timestamp).transpose()? })
}

pub(super) fn encode_schedule(it: &ScheduleState) -> Vec<u8> {
    let row = (it.schedule.as_str(), micros(it.through), it.last_tick.map(micros), it.missed);
    postcard::to_stdvec(&row).expect("rows serialize")
}

pub(super) fn decode_schedule(value: &[u8]) -> Result<ScheduleState, DecodeError> {
    let (schedule, through, last_tick, missed) = decode::<(&str, i64, Option<i64>, u64)>(value)?;
    let (through, last_tick) = (timestamp(through)?, last_tick.map(timestamp).transpose()?);
    Ok(ScheduleState { schedule: schedule.to_owned(), through, last_tick, missed })
}

pub(super) fn encode_function(it: &FunctionState) -> Vec<u8> {
    postcard::to_stdvec(&(it.paused, it.open_until.map(micros), it.opened)).expect("rows serialize")
}

pub(super) fn decode_function(value: &[u8]) -> Result<FunctionState, DecodeError> {
    let (paused, open_until, opened) = decode::<(bool, Option<i64>, u32)>(value)?;
    Ok(FunctionState { paused, open_until: open_until.map(timestamp).transpose()?, opened })
}

/// Runs of one function by state, in the order of [`RunState::ALL`].
pub(super) type StateCounts = [u64; RunState::ALL.len()];

/// How far the fold has come, and the sums that it keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first record that is not folded yet.
    pub(super) next: Position,
    pub(super) routed_through: Position,
    pub(super) events: u64,
    pub(super) duplicates: u64,
    pub(super) counts: Vec<(FunctionId, StateCounts)>,
}

#[derive(Serialize, Deserialize)]
struct MarkRow {
    next: u64,
    routed_through: u64,
    events: u64,
    duplicates: u64,
    counts: Vec<(String, StateCounts)>,
}

/// Version, checksum, row.
pub(super) fn encode_mark(mark: &Mark) -> Vec<u8> {
    let row = MarkRow {
        next: mark.next.bits(),
        routed_through: mark.routed_through.bits(),
        events: mark.events,
        duplicates: mark.duplicates,
        counts: mark.counts.iter().map(|(id, counts)| (id.as_str().to_owned(), *counts)).collect(),
    };
    let row = postcard::to_stdvec(&row).expect("rows serialize");
    let mut value = vec![VERSION];
    value.extend_from_slice(&crc32fast::hash(&row).to_le_bytes());
    value.extend_from_slice(&row);
    value
}

/// Returns nothing for a mark of another version or with another checksum: the table is built anew then.
pub(super) fn decode_mark(value: &[u8]) -> Option<Mark> {
    let (&version, rest) = value.split_first()?;
    let (crc, row) = rest.split_first_chunk::<4>()?;
    if version != VERSION || crc32fast::hash(row) != u32::from_le_bytes(*crc) {
        return None;
    }
    let row: MarkRow = decode(row).ok()?;
    let counts = row.counts.into_iter().map(|(id, counts)| Some((id.parse().ok()?, counts)));
    Some(Mark {
        next: Position::from_bits(row.next)?,
        routed_through: Position::from_bits(row.routed_through)?,
        events: row.events,
        duplicates: row.duplicates,
        counts: counts.collect::<Option<_>>()?,
    })
}

pub(super) fn encode_position(position: Position) -> Vec<u8> {
    position.bits().to_be_bytes().to_vec()
}

pub(super) fn decode_position(value: &[u8]) -> Option<Position> {
    Position::from_bits(u64::from_be_bytes(value.try_into().ok()?))
}

/// A sealed secret's value in the table is its ciphertext as it is.
pub(super) fn decode_sealed(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}
