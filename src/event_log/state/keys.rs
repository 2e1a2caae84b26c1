//! Keys of the table of derived state. One letter says of what kind a row is; what is read in order stands in
//! that order behind it, numbers as big-endian bytes.

use crate::event::{FunctionId, Position, ProviderId, RunId, TriggerId};

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
const PERMITS: u8 = b'l';
const PERMITS_SCOPE: u8 = b'q';
/// When the secrets of a trigger verified.
pub(super) const SECRET_TIMES: u8 = b'i';
/// A secret that is being replaced.
pub(super) const ROTATION: u8 = b'o';
const CURSOR: u8 = b'c';

fn with_zero(tag: u8, name: &str, more: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + name.len() + more);
    key.push(tag);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

pub(super) fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
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

pub(super) fn cursor_key(id: &TriggerId) -> Vec<u8> {
    tagged(CURSOR, id.as_str().as_bytes())
}

/// Prefixes of what is kept in memory as a whole: triggers, their schedules and cursors, functions, sealed secrets.
pub(super) fn all_triggers() -> Vec<u8> {
    vec![TRIGGER]
}

pub(super) fn permits_key(id: &ProviderId) -> Vec<u8> {
    tagged(PERMITS, id.as_str().as_bytes())
}

pub(super) fn permits_scope_key(id: &ProviderId, scope: &str) -> Vec<u8> {
    let mut key = with_zero(PERMITS_SCOPE, id.as_str(), scope.len());
    key.extend_from_slice(scope.as_bytes());
    key
}

/// The provider in the name of one of its scopes' keys.
pub(super) fn provider_of_scope(name: &str) -> Option<&str> {
    name.split_once('\0').map(|(provider, _)| provider)
}

pub(super) fn all_permits() -> Vec<u8> {
    vec![PERMITS]
}

pub(super) fn all_permits_scopes() -> Vec<u8> {
    vec![PERMITS_SCOPE]
}

pub(super) fn all_schedules() -> Vec<u8> {
    vec![SCHEDULE]
}

pub(super) fn all_cursors() -> Vec<u8> {
    vec![CURSOR]
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
