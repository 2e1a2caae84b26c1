//! The stored form of records: own types with a version, converted to and from the domain's.
//!
//! A record is `tag, version, body`. Only the newest version is written; every past one stays readable.
//! Decoding never panics on garbage. The domain types' serde forms are for JSON and are not used here,
//! so that a renamed field there cannot change what is on disk.

mod audit;
mod cron;
mod event;
mod permits;
mod run;
mod secrets;
mod switch;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::audit::AuditV1;
use self::cron::CronV1;
use self::event::{BatchV1, EventHeadV1, EventV1};
pub(crate) use self::permits::CoolDownV1;
use self::permits::PermitsV1;
use self::run::{AttemptedV1, NewRunV1, RoutedV1, RunIdV1, action_code, action_of, new_runs};
use self::secrets::SecretNewsV1;
pub(crate) use self::secrets::SecretTimesV1;
use self::switch::SwitchV1;
use super::record::{Controlled, Created, Duplicate, Polled, Record, Sealed, Switched};
use crate::event::{Body, EventContent, EventId, Position, StoredEvent, Timestamp, TriggerId};

/// Bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("it ends too early")]
    Short,
    /// A newer program wrote them.
    #[error("version {version} of a {what} is not known to this program")]
    UnknownVersion {
        /// What was to be read.
        what: &'static str,
        /// Its version.
        version: u8,
    },
    /// A newer program wrote them.
    #[error("records of tag {0} are not known to this program")]
    UnknownTag(u8),
    /// They do not have the form.
    #[error("{0}")]
    Invalid(&'static str),
}

impl From<postcard::Error> for DecodeError {
    fn from(_: postcard::Error) -> Self {
        Self::Invalid("its fields do not decode")
    }
}

const VERSION: u8 = 1;

/// An event whose body is in the record.
const EVENT: u8 = 1;
/// An event whose body is in a file.
pub(crate) const EVENT_SPOOLED: u8 = 2;
const DUPLICATE: u8 = 3;
const ROUTED: u8 = 4;
const CREATED: u8 = 5;
const ATTEMPTED: u8 = 6;
const CONTROLLED: u8 = 7;
const SWITCHED: u8 = 8;
const SEALED: u8 = 9;
const AUDIT: u8 = 10;
/// An event that is part of its delivery: in front of the body, in the record, stands which part.
const EVENT_PART: u8 = 11;
/// An event that a schedule started. Its tag tells the fold, which decodes no other events.
const EVENT_TICK: u8 = 12;
const CRON: u8 = 13;
const SECRET: u8 = 14;
const PERMITS: u8 = 16;
const POLLED: u8 = 15;

/// Events carry their id at a fixed place, where the committer sets it: tag, version, id, length of
/// the fields, fields, body.
const ID_AT: usize = 2;
const FIELDS_LENGTH_AT: usize = ID_AT + 16;
const FIELDS_AT: usize = FIELDS_LENGTH_AT + 4;

/// Tells whether an encoded record is an event.
pub(crate) fn is_event(record: &[u8]) -> bool {
    matches!(record.first(), Some(&(EVENT | EVENT_SPOOLED | EVENT_PART | EVENT_TICK)))
}

/// Tells whether an encoded record is an event with a spooled body.
pub(crate) fn is_spooled_event(record: &[u8]) -> bool {
    record.first() == Some(&EVENT_SPOOLED)
}

/// Tells whether an encoded record is an event that a schedule started.
pub(crate) fn is_tick(record: &[u8]) -> bool {
    record.first() == Some(&EVENT_TICK)
}

/// Tells whether an encoded record is a duplicate.
pub(crate) fn is_duplicate(record: &[u8]) -> bool {
    record.first() == Some(&DUPLICATE)
}

/// Returns the topic that an encoded record is read under, if its tag alone tells.
pub(crate) fn topic_of_tag(record: &[u8]) -> Option<&'static str> {
    match *record.first()? {
        EVENT | EVENT_SPOOLED | EVENT_PART | EVENT_TICK | DUPLICATE => Some("events"),
        ROUTED | CREATED | ATTEMPTED | CONTROLLED => Some("runs"),
        SWITCHED => Some("lifecycle"),
        SEALED | SECRET => Some("secrets"),
        CRON => Some("cron"),
        PERMITS => Some("permits"),
        POLLED => Some("poll"),
        _ => None,
    }
}

/// Returns the id in an encoded event.
pub(crate) fn event_id(record: &[u8]) -> Option<EventId> {
    if !is_event(record) {
        return None;
    }
    let id = record.get(ID_AT..FIELDS_LENGTH_AT)?;
    Some(EventId::from_bits(u128::from_be_bytes(id.try_into().expect("sixteen bytes"))))
}

/// Sets the id in an encoded event.
pub(crate) fn set_event_id(record: &mut [u8], id: EventId) {
    record[ID_AT..FIELDS_LENGTH_AT].copy_from_slice(&id.bits().to_be_bytes());
}

/// Encodes an event; its id is filled in later where it is not known yet.
pub(crate) fn encode_event(id: Option<EventId>, content: &EventContent) -> Vec<u8> {
    let (tag, body): (u8, &[u8]) = match (&content.body, &content.batch) {
        (Body::Inline(bytes), None) if content.tick().is_some() => (EVENT_TICK, bytes),
        (Body::Inline(bytes), None) => (EVENT, bytes),
        (Body::Inline(bytes), Some(_)) => (EVENT_PART, bytes),
        (Body::Spooled(_), _) => (EVENT_SPOOLED, &[]),
    };
    let mut out = Vec::with_capacity(FIELDS_AT + 1024 + content.headers.len() * 48 + body.len());
    out.extend_from_slice(&[tag, VERSION]);
    out.extend_from_slice(&id.map_or(0, EventId::bits).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut out = append(out, &EventV1::of(content));
    let fields = (out.len() - FIELDS_AT) as u32;
    out[FIELDS_LENGTH_AT..FIELDS_AT].copy_from_slice(&fields.to_le_bytes());
    if let (EVENT_PART, Some(batch)) = (tag, &content.batch) {
        out = append(out, &BatchV1::of(batch));
    }
    out.extend_from_slice(body);
    out
}

/// Encodes a record.
pub fn encode_record(record: &Record) -> Vec<u8> {
    match record {
        Record::Event(event) => encode_event(Some(event.id), &event.content),
        Record::Duplicate(it) => encode(DUPLICATE, &(it.first.bits().to_be_bytes(), micros(it.received_at))),
        Record::Routed(it) => encode(ROUTED, &RoutedV1::of(it)),
        Record::Created(it) => {
            let runs: Vec<_> = it.runs.iter().map(NewRunV1::of).collect();
            encode(CREATED, &(micros(it.at), runs))
        }
        Record::Attempted(it) => encode(ATTEMPTED, &AttemptedV1::of(it)),
        Record::Controlled(it) => {
            encode(CONTROLLED, &(RunIdV1::of(&it.run), micros(it.at), action_code(it.action)))
        }
        Record::Switched(it) => encode(SWITCHED, &(micros(it.at), SwitchV1::of(&it.switch))),
        Record::Sealed(it) => encode(SEALED, &(it.name.as_str(), micros(it.at), it.sealed.as_ref())),
        Record::Audit(it) => encode(AUDIT, &AuditV1::of(it)),
        Record::Cron(it) => encode(CRON, &CronV1::of(it)),
        Record::Permits(it) => encode(PERMITS, &PermitsV1::of(it)),
        Record::Secret(it) => encode(SECRET, &SecretNewsV1::of(it)),
        Record::Polled(it) => encode(POLLED, &(micros(it.at), it.trigger_id.as_str(), it.cursor.as_str())),
    }
}

/// Decodes a record.
///
/// # Errors
///
/// If the bytes are not a record of a form that this program knows.
pub fn decode_record(record: &[u8]) -> Result<Record, DecodeError> {
    let (&[tag, version], body) = record.split_first_chunk().ok_or(DecodeError::Short)?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { what: "record", version });
    }
    Ok(match tag {
        EVENT | EVENT_SPOOLED | EVENT_PART | EVENT_TICK => Record::Event(decode_event(record)?),
        DUPLICATE => {
            let (first, received_at) = decode::<([u8; 16], i64)>(body)?;
            let first = EventId::from_bits(u128::from_be_bytes(first));
            Record::Duplicate(Duplicate { first, received_at: timestamp(received_at)? })
        }
        ROUTED => Record::Routed(decode::<RoutedV1>(body)?.into_domain()?),
        CREATED => {
            let (at, runs) = decode::<(i64, Vec<NewRunV1>)>(body)?;
            Record::Created(Created { at: timestamp(at)?, runs: new_runs(runs)? })
        }
        ATTEMPTED => Record::Attempted(decode::<AttemptedV1>(body)?.into_domain()?),
        CONTROLLED => {
            let (run, at, action) = decode::<(RunIdV1, i64, u8)>(body)?;
            let (run, at, action) = (run.into_domain()?, timestamp(at)?, action_of(action)?);
            Record::Controlled(Controlled { run, at, action })
        }
        SWITCHED => {
            let (at, switch) = decode::<(i64, SwitchV1)>(body)?;
            Record::Switched(Switched { at: timestamp(at)?, switch: switch.into_domain()? })
        }
        SEALED => {
            let (name, at, sealed) = decode::<(&str, i64, &[u8])>(body)?;
            let sealed = Bytes::copy_from_slice(sealed);
            Record::Sealed(Sealed { name: name.to_owned(), at: timestamp(at)?, sealed })
        }
        AUDIT => Record::Audit(decode::<AuditV1>(body)?.into_domain()?),
        CRON => Record::Cron(decode::<CronV1>(body)?.into_domain()?),
        PERMITS => Record::Permits(decode::<PermitsV1>(body)?.into_domain()?),
        SECRET => Record::Secret(decode::<SecretNewsV1>(body)?.into_domain()?),
        POLLED => {
            let (at, trigger, cursor) = decode::<(i64, &str, &str)>(body)?;
            let (at, trigger_id) = (timestamp(at)?, name(trigger)?);
            Record::Polled(Polled { at, trigger_id, cursor: cursor.to_owned() })
        }
        _ => return Err(DecodeError::UnknownTag(tag)),
    })
}

fn decode_event(record: &[u8]) -> Result<StoredEvent, DecodeError> {
    let id = event_id(record).ok_or(DecodeError::Short)?;
    let (fields, body) = event_parts(record)?;
    let (batch, body) = match record.first() {
        Some(&EVENT_PART) => {
            let (batch, body) = postcard::take_from_bytes::<BatchV1<'_>>(body)?;
            (Some(Box::new(batch.into_domain())), body)
        }
        _ => (None, body),
    };
    let content = EventContent { batch, ..fields.into_domain(body)? };
    if is_spooled_event(record) != matches!(content.body, Body::Spooled(_)) {
        return Err(DecodeError::Invalid("its body is not where its tag says"));
    }
    if is_tick(record) && content.tick().is_none() {
        return Err(DecodeError::Invalid("no schedule started it, as its tag says"));
    }
    Ok(StoredEvent { id, content })
}

fn event_parts(record: &[u8]) -> Result<(EventV1<'_>, &[u8]), DecodeError> {
    let length = record.get(FIELDS_LENGTH_AT..FIELDS_AT).ok_or(DecodeError::Short)?;
    let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    let (fields, body) = record[FIELDS_AT..].split_at_checked(length).ok_or(DecodeError::Short)?;
    Ok((decode::<EventV1>(fields)?, body))
}

/// What the claims need of an event: trigger and dedupe key. Cheaper than decoding all of it.
pub(crate) fn event_claim(record: &[u8]) -> Result<Option<(&str, &str)>, DecodeError> {
    let (fields, _) = event_parts(record)?;
    Ok(fields.dedupe_key.map(|key| (fields.trigger, key)))
}

/// What selecting an event's functions needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventHead<'a> {
    pub(crate) id: EventId,
    pub(crate) trigger_id: TriggerId,
    pub(crate) kind: &'a str,
    pub(crate) held: bool,
}

/// Decodes no more of an event than its head: headers and body are most of it.
pub(crate) fn event_head(record: &[u8]) -> Result<EventHead<'_>, DecodeError> {
    let (&[tag, version], _) = record.split_first_chunk().ok_or(DecodeError::Short)?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { what: "record", version });
    }
    let id = event_id(record).ok_or(DecodeError::UnknownTag(tag))?;
    let fields = record.get(FIELDS_AT..).ok_or(DecodeError::Short)?;
    let (head, _) = postcard::take_from_bytes::<EventHeadV1<'_>>(fields)?;
    Ok(EventHead { id, trigger_id: name(head.trigger)?, kind: head.kind, held: head.held })
}

/// Trigger and scheduled time of an event that a schedule started.
pub(crate) fn tick(record: &[u8]) -> Result<(TriggerId, Timestamp), DecodeError> {
    let fields = record.get(FIELDS_AT..).ok_or(DecodeError::Short)?;
    let (head, _) = postcard::take_from_bytes::<EventHeadV1<'_>>(fields)?;
    let at = head.occurred_at.ok_or(DecodeError::Invalid("a tick has no time"))?;
    Ok((name(head.trigger)?, timestamp(at)?))
}

/// The name of an event's spooled body.
pub(crate) fn spooled_name(record: &[u8]) -> Result<Option<&str>, DecodeError> {
    Ok(event_parts(record)?.0.spooled.map(|(name, ..)| name))
}

fn encode<T: Serialize>(tag: u8, body: &T) -> Vec<u8> {
    append(vec![tag, VERSION], body)
}

fn append<T: Serialize>(out: Vec<u8>, body: &T) -> Vec<u8> {
    postcard::to_extend(body, out).expect("stored types serialize, and a Vec takes all")
}

/// Reads all of `bytes` as one value.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(DecodeError::Invalid("something follows its end")),
    }
}

/// A time in stored form: microseconds since 1970.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A time from its stored form.
pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, DecodeError> {
    Timestamp::from_microsecond(micros).map_err(|_| DecodeError::Invalid("a time is out of range"))
}

fn position(bits: u64) -> Result<Position, DecodeError> {
    Position::from_bits(bits).ok_or(DecodeError::Invalid("a position is out of range"))
}

fn name<T: std::str::FromStr>(text: &str) -> Result<T, DecodeError> {
    text.parse().map_err(|_| DecodeError::Invalid("a name has other characters than names have"))
}
