//! Values of the table of derived state, and what they hold.
//!
//! The table can always be built anew from the log, so its form has one version number: a store with
//! another one is folded from the start.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{CoolDown, EventId, FunctionId, Position, RunId, RunState, Timestamp, TriggerId};
use crate::event_log::codec::{CoolDownV1, DecodeError, decode, micros, timestamp};
use crate::event_log::record::Cause;

/// The form of the table.
pub(super) const VERSION: u8 = 2;

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

/// How far a poll trigger has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollCursor {
    /// Where to go on from, in the connector's own words.
    pub cursor: String,
    /// When the poll was made that brought it.
    pub at: Timestamp,
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

pub(super) fn encode_cool_down(it: &CoolDown) -> Vec<u8> {
    postcard::to_stdvec(&CoolDownV1::of(it)).expect("rows serialize")
}

pub(super) fn decode_cool_down(value: &[u8]) -> Result<CoolDown, DecodeError> {
    decode::<CoolDownV1<'_>>(value)?.into_domain()
}

pub(super) fn encode_cursor(it: &PollCursor) -> Vec<u8> {
    postcard::to_stdvec(&(it.cursor.as_str(), micros(it.at))).expect("rows serialize")
}

pub(super) fn decode_cursor(value: &[u8]) -> Result<PollCursor, DecodeError> {
    let (cursor, at) = decode::<(&str, i64)>(value)?;
    Ok(PollCursor { cursor: cursor.to_owned(), at: timestamp(at)? })
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

/// How many due runs of a function that one decision started have no row yet.
pub(super) fn encode_fresh(runs: u32) -> Vec<u8> {
    runs.to_be_bytes().to_vec()
}

pub(super) fn decode_fresh(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
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
