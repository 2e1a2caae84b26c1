//! The stored form of records: own types with a version, converted to and from the domain's.
//!
//! A record is `tag, version, body`. Only the newest version is written; every past one stays readable.
//! Decoding never panics on garbage. The domain types' serde forms are for JSON and are not used here,
//! so that a renamed field there cannot change what is on disk.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::{
    Attempted, Audit, Cause, Controlled, Created, Cron, CronChange, Duplicate, Missed, NewRun, Next, Record,
    Routed, RunAction, Sealed, Skip, SkipReason, Start, Switch, Switched,
};
use crate::event::{
    Batch, Body, EventContent, EventId, FunctionId, Origin, Position, RejectReason, RunId, SignatureStatus,
    SpooledBody, StoredEvent, Timestamp, TriggerId,
};

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
        SEALED => Some("secrets"),
        CRON => Some("cron"),
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

#[derive(Serialize, Deserialize)]
struct EventV1<'a> {
    provider: &'a str,
    trigger: &'a str,
    kind: &'a str,
    received_at: i64,
    occurred_at: Option<i64>,
    dedupe_key: Option<&'a str>,
    trace_id: &'a str,
    origin: u8,
    held: bool,
    method: &'a str,
    url: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a [u8])>,
    spooled: Option<(&'a str, u64, [u8; 32])>,
    schema: &'a str,
    signature: SignatureV1,
}

/// The first fields of [`EventV1`], as they stand there.
#[derive(Deserialize)]
struct EventHeadV1<'a> {
    _provider: &'a str,
    trigger: &'a str,
    kind: &'a str,
    _received_at: i64,
    occurred_at: Option<i64>,
    _dedupe_key: Option<&'a str>,
    _trace_id: &'a str,
    _origin: u8,
    held: bool,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
enum SignatureV1 {
    Verified(bool),
    Unsigned,
    MissingHeader,
    InvalidHeader,
    InvalidSignature,
    TimestampOutOfWindow,
}

impl<'a> EventV1<'a> {
    fn of(it: &'a EventContent) -> Self {
        Self {
            provider: it.provider.as_str(),
            trigger: it.trigger_id.as_str(),
            kind: &it.kind,
            received_at: micros(it.received_at),
            occurred_at: it.occurred_at.map(micros),
            dedupe_key: it.dedupe_key.as_deref(),
            trace_id: &it.trace_id,
            origin: match it.origin {
                Origin::Live => 0,
                Origin::Backfill => 1,
                Origin::Quarantine => 2,
            },
            held: it.held,
            method: &it.method,
            url: &it.url,
            headers: it.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect(),
            spooled: match &it.body {
                Body::Inline(_) => None,
                Body::Spooled(body) => Some((&body.name, body.bytes, body.sha256)),
            },
            schema: &it.schema,
            signature: match it.signature_status {
                SignatureStatus::Verified { covers_body } => SignatureV1::Verified(covers_body),
                SignatureStatus::Unsigned => SignatureV1::Unsigned,
                SignatureStatus::Failed { reason } => match reason {
                    RejectReason::MissingHeader => SignatureV1::MissingHeader,
                    RejectReason::InvalidHeader => SignatureV1::InvalidHeader,
                    RejectReason::InvalidSignature => SignatureV1::InvalidSignature,
                    RejectReason::TimestampOutOfWindow => SignatureV1::TimestampOutOfWindow,
                },
            },
        }
    }

    fn into_domain(self, body: &[u8]) -> Result<EventContent, DecodeError> {
        let failed = |reason| SignatureStatus::Failed { reason };
        let header = |(name, value): (&str, &[u8])| (name.to_owned(), Bytes::copy_from_slice(value));
        Ok(EventContent {
            provider: name(self.provider)?,
            trigger_id: name(self.trigger)?,
            kind: self.kind.to_owned(),
            received_at: timestamp(self.received_at)?,
            occurred_at: self.occurred_at.map(timestamp).transpose()?,
            dedupe_key: self.dedupe_key.map(str::to_owned),
            trace_id: self.trace_id.to_owned(),
            origin: match self.origin {
                0 => Origin::Live,
                1 => Origin::Backfill,
                2 => Origin::Quarantine,
                _ => return Err(DecodeError::Invalid("its origin is unknown")),
            },
            held: self.held,
            method: self.method.to_owned(),
            url: self.url.to_owned(),
            headers: self.headers.into_iter().map(header).collect(),
            body: match self.spooled {
                None => Body::Inline(Bytes::copy_from_slice(body)),
                Some((name, bytes, sha256)) => {
                    Body::Spooled(SpooledBody { name: name.to_owned(), bytes, sha256 })
                }
            },
            batch: None,
            schema: self.schema.to_owned(),
            signature_status: match self.signature {
                SignatureV1::Verified(covers_body) => SignatureStatus::Verified { covers_body },
                SignatureV1::Unsigned => SignatureStatus::Unsigned,
                SignatureV1::MissingHeader => failed(RejectReason::MissingHeader),
                SignatureV1::InvalidHeader => failed(RejectReason::InvalidHeader),
                SignatureV1::InvalidSignature => failed(RejectReason::InvalidSignature),
                SignatureV1::TimestampOutOfWindow => failed(RejectReason::TimestampOutOfWindow),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
struct BatchV1<'a> {
    index: u32,
    count: u32,
    lead: &'a [u8],
    tail: &'a [u8],
}

impl<'a> BatchV1<'a> {
    fn of(it: &'a Batch) -> Self {
        Self { index: it.index, count: it.count, lead: &it.lead, tail: &it.tail }
    }

    fn into_domain(self) -> Batch {
        Batch {
            index: self.index,
            count: self.count,
            lead: Bytes::copy_from_slice(self.lead),
            tail: Bytes::copy_from_slice(self.tail),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct RunIdV1<'a> {
    event: [u8; 16],
    function: &'a str,
    generation: u32,
}

impl<'a> RunIdV1<'a> {
    fn of(it: &'a RunId) -> Self {
        let event = it.event.bits().to_be_bytes();
        Self { event, function: it.function.as_str(), generation: it.generation }
    }

    fn into_domain(self) -> Result<RunId, DecodeError> {
        self.repeating(None)
    }

    fn repeating(self, last: Option<&FunctionId>) -> Result<RunId, DecodeError> {
        let event = EventId::from_bits(u128::from_be_bytes(self.event));
        Ok(RunId { event, function: repeated(self.function, last)?, generation: self.generation })
    }
}

#[derive(Serialize, Deserialize)]
struct NewRunV1<'a> {
    #[serde(borrow)]
    id: RunIdV1<'a>,
    trigger: &'a str,
    kind: &'a str,
    cause: CauseV1<'a>,
    start: StartV1,
}

/// Why a run exists, in stored form.
#[derive(Serialize, Deserialize)]
enum CauseV1<'a> {
    Live,
    Redelivery,
    #[serde(borrow)]
    Replay(Option<RunIdV1<'a>>),
}

#[derive(Serialize, Deserialize)]
enum StartV1 {
    Due(i64),
    Held,
    Skipped(u8),
}

/// Runs of one record are mostly of few functions and triggers: an id is made once as long as it repeats.
fn new_runs(runs: Vec<NewRunV1<'_>>) -> Result<Vec<NewRun>, DecodeError> {
    let mut decoded: Vec<NewRun> = Vec::with_capacity(runs.len());
    for run in runs {
        let run = run.into_domain(decoded.last())?;
        decoded.push(run);
    }
    Ok(decoded)
}

/// Returns an id of the given text: `last`, where it has that text.
fn repeated<T>(text: &str, last: Option<&T>) -> Result<T, DecodeError>
where
    T: Clone + std::borrow::Borrow<str> + std::str::FromStr,
{
    match last {
        Some(last) if last.borrow() == text => Ok(last.clone()),
        _ => name(text),
    }
}

impl<'a> NewRunV1<'a> {
    fn of(it: &'a NewRun) -> Self {
        Self {
            id: RunIdV1::of(&it.id),
            trigger: it.trigger_id.as_str(),
            kind: &it.kind,
            cause: match &it.cause {
                Cause::Live => CauseV1::Live,
                Cause::Redelivery => CauseV1::Redelivery,
                Cause::Replay { replay_of } => CauseV1::Replay(replay_of.as_ref().map(RunIdV1::of)),
            },
            start: match it.start {
                Start::Due(at) => StartV1::Due(micros(at)),
                Start::Held => StartV1::Held,
                Start::Skipped(reason) => StartV1::Skipped(skip_code(reason)),
            },
        }
    }

    fn into_domain(self, last: Option<&NewRun>) -> Result<NewRun, DecodeError> {
        Ok(NewRun {
            id: self.id.repeating(last.map(|run| &run.id.function))?,
            trigger_id: repeated(self.trigger, last.map(|run| &run.trigger_id))?,
            kind: self.kind.to_owned(),
            cause: match self.cause {
                CauseV1::Live => Cause::Live,
                CauseV1::Redelivery => Cause::Redelivery,
                CauseV1::Replay(of) => Cause::Replay { replay_of: of.map(RunIdV1::into_domain).transpose()? },
            },
            start: match self.start {
                StartV1::Due(at) => Start::Due(timestamp(at)?),
                StartV1::Held => Start::Held,
                StartV1::Skipped(code) => Start::Skipped(skip_of(code)?),
            },
        })
    }
}

fn skip_code(reason: SkipReason) -> u8 {
    match reason {
        SkipReason::On => 0,
        SkipReason::Events => 1,
        SkipReason::When => 2,
        SkipReason::WhenError => 3,
        SkipReason::WhenCost => 4,
    }
}

fn skip_of(code: u8) -> Result<SkipReason, DecodeError> {
    Ok(match code {
        0 => SkipReason::On,
        1 => SkipReason::Events,
        2 => SkipReason::When,
        3 => SkipReason::WhenError,
        4 => SkipReason::WhenCost,
        _ => return Err(DecodeError::Invalid("a reason is unknown")),
    })
}

#[derive(Serialize, Deserialize)]
struct RoutedV1<'a> {
    from: u64,
    through: u64,
    at: i64,
    #[serde(borrow)]
    functions: Vec<&'a str>,
    #[serde(borrow)]
    runs: Vec<NewRunV1<'a>>,
    /// Event, function, reason.
    skipped: Vec<(u64, u32, u8)>,
}

impl<'a> RoutedV1<'a> {
    fn of(it: &'a Routed) -> Self {
        let skip = |skip: &Skip| (skip.event.bits(), skip.function, skip_code(skip.reason));
        Self {
            from: it.from.bits(),
            through: it.through.bits(),
            at: micros(it.at),
            functions: it.functions.iter().map(FunctionId::as_str).collect(),
            runs: it.runs.iter().map(NewRunV1::of).collect(),
            skipped: it.skipped.iter().map(skip).collect(),
        }
    }

    fn into_domain(self) -> Result<Routed, DecodeError> {
        let skip = |(event, function, reason)| {
            Ok(Skip { event: position(event)?, function, reason: skip_of(reason)? })
        };
        Ok(Routed {
            from: position(self.from)?,
            through: position(self.through)?,
            at: timestamp(self.at)?,
            functions: self.functions.into_iter().map(name).collect::<Result<_, _>>()?,
            runs: new_runs(self.runs)?,
            skipped: self.skipped.into_iter().map(skip).collect::<Result<_, DecodeError>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct AttemptedV1<'a> {
    #[serde(borrow)]
    run: RunIdV1<'a>,
    attempt: u32,
    started_at: i64,
    duration_us: u64,
    status: Option<i32>,
    note: &'a str,
    answer: &'a [u8],
    next: NextV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum NextV1<'a> {
    Succeeded,
    RetryAt(i64),
    Dead(&'a str),
}

impl<'a> AttemptedV1<'a> {
    fn of(it: &'a Attempted) -> Self {
        Self {
            run: RunIdV1::of(&it.run),
            attempt: it.attempt,
            started_at: micros(it.started_at),
            duration_us: it.duration_us,
            status: it.status,
            note: &it.note,
            answer: &it.answer,
            next: match &it.next {
                Next::Succeeded => NextV1::Succeeded,
                Next::RetryAt(at) => NextV1::RetryAt(micros(*at)),
                Next::Dead(reason) => NextV1::Dead(reason),
            },
        }
    }

    fn into_domain(self) -> Result<Attempted, DecodeError> {
        Ok(Attempted {
            run: self.run.into_domain()?,
            attempt: self.attempt,
            started_at: timestamp(self.started_at)?,
            duration_us: self.duration_us,
            status: self.status,
            note: self.note.to_owned(),
            answer: Bytes::copy_from_slice(self.answer),
            next: match self.next {
                NextV1::Succeeded => Next::Succeeded,
                NextV1::RetryAt(at) => Next::RetryAt(timestamp(at)?),
                NextV1::Dead(reason) => Next::Dead(reason.to_owned()),
            },
        })
    }
}

fn action_code(action: RunAction) -> u8 {
    match action {
        RunAction::Cancel => 0,
        RunAction::Retry => 1,
        RunAction::Purge => 2,
    }
}

fn action_of(code: u8) -> Result<RunAction, DecodeError> {
    Ok(match code {
        0 => RunAction::Cancel,
        1 => RunAction::Retry,
        2 => RunAction::Purge,
        _ => return Err(DecodeError::Invalid("an action is unknown")),
    })
}

#[derive(Serialize, Deserialize)]
enum SwitchV1<'a> {
    TriggerPaused(&'a str, bool),
    TriggerArmed(&'a str, Option<i64>),
    FunctionPaused(&'a str, bool),
    Breaker(&'a str, Option<i64>, u32),
}

impl<'a> SwitchV1<'a> {
    fn of(it: &'a Switch) -> Self {
        match it {
            Switch::TriggerPaused(id, paused) => Self::TriggerPaused(id.as_str(), *paused),
            Switch::TriggerArmed(id, until) => Self::TriggerArmed(id.as_str(), until.map(micros)),
            Switch::FunctionPaused(id, paused) => Self::FunctionPaused(id.as_str(), *paused),
            Switch::Breaker { function, open_until, opened } => {
                Self::Breaker(function.as_str(), open_until.map(micros), *opened)
            }
        }
    }

    fn into_domain(self) -> Result<Switch, DecodeError> {
        Ok(match self {
            Self::TriggerPaused(id, paused) => Switch::TriggerPaused(name(id)?, paused),
            Self::TriggerArmed(id, until) => {
                Switch::TriggerArmed(name(id)?, until.map(timestamp).transpose()?)
            }
            Self::FunctionPaused(id, paused) => Switch::FunctionPaused(name(id)?, paused),
            Self::Breaker(id, until, opened) => {
                let open_until = until.map(timestamp).transpose()?;
                Switch::Breaker { function: name(id)?, open_until, opened }
            }
        })
    }
}

#[derive(Serialize, Deserialize)]
struct AuditV1<'a> {
    topic: &'a str,
    at: i64,
    trigger: Option<&'a str>,
    peer: Option<PeerV1>,
    code: &'a str,
    detail: &'a str,
    count: u32,
}

#[derive(Serialize, Deserialize)]
enum PeerV1 {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl<'a> AuditV1<'a> {
    fn of(it: &'a Audit) -> Self {
        Self {
            topic: &it.topic,
            at: micros(it.at),
            trigger: it.trigger_id.as_ref().map(|id| id.as_str()),
            peer: it.peer.map(|peer| match peer {
                std::net::IpAddr::V4(ip) => PeerV1::V4(ip.octets()),
                std::net::IpAddr::V6(ip) => PeerV1::V6(ip.octets()),
            }),
            code: &it.code,
            detail: &it.detail,
            count: it.count,
        }
    }

    fn into_domain(self) -> Result<Audit, DecodeError> {
        Ok(Audit {
            topic: self.topic.to_owned(),
            at: timestamp(self.at)?,
            trigger_id: self.trigger.map(name).transpose()?,
            peer: self.peer.map(|peer| match peer {
                PeerV1::V4(octets) => octets.into(),
                PeerV1::V6(octets) => octets.into(),
            }),
            code: self.code.to_owned(),
            detail: self.detail.to_owned(),
            count: self.count,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct CronV1<'a> {
    at: i64,
    trigger: &'a str,
    #[serde(borrow)]
    change: CronChangeV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum CronChangeV1<'a> {
    Began(&'a str),
    /// First, last, count, made up, given up through.
    Missed(i64, i64, u64, u64, Option<i64>),
}

impl<'a> CronV1<'a> {
    fn of(it: &'a Cron) -> Self {
        let change = match &it.change {
            CronChange::Began { schedule } => CronChangeV1::Began(schedule),
            CronChange::Missed(it) => CronChangeV1::Missed(
                micros(it.first),
                micros(it.last),
                it.count,
                it.made_up,
                it.given_up_through.map(micros),
            ),
        };
        Self { at: micros(it.at), trigger: it.trigger_id.as_str(), change }
    }

    fn into_domain(self) -> Result<Cron, DecodeError> {
        let change = match self.change {
            CronChangeV1::Began(schedule) => CronChange::Began { schedule: schedule.to_owned() },
            CronChangeV1::Missed(first, last, count, made_up, through) => CronChange::Missed(Missed {
                first: timestamp(first)?,
                last: timestamp(last)?,
                count,
                made_up,
                given_up_through: through.map(timestamp).transpose()?,
            }),
        };
        Ok(Cron { at: timestamp(self.at)?, trigger_id: name(self.trigger)?, change })
    }
}
