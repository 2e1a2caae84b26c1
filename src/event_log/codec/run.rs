//! The stored form of what happens to runs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::record::{Attempted, Cause, NewRun, Next, Routed, RunAction, Skip, SkipReason, Start};
use super::{DecodeError, micros, name, position, timestamp};
use crate::event::{EventId, FunctionId, RunId};

#[derive(Serialize, Deserialize)]
pub(super) struct RunIdV1<'a> {
    event: [u8; 16],
    function: &'a str,
    generation: u32,
}

impl<'a> RunIdV1<'a> {
    pub(super) fn of(it: &'a RunId) -> Self {
        let event = it.event.bits().to_be_bytes();
        Self { event, function: it.function.as_str(), generation: it.generation }
    }

    pub(super) fn into_domain(self) -> Result<RunId, DecodeError> {
        self.repeating(None)
    }

    fn repeating(self, last: Option<&FunctionId>) -> Result<RunId, DecodeError> {
        let event = EventId::from_bits(u128::from_be_bytes(self.event));
        Ok(RunId { event, function: repeated(self.function, last)?, generation: self.generation })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct NewRunV1<'a> {
    #[serde(borrow)]
    id: RunIdV1<'a>,
    trigger: &'a str,
    kind: &'a str,
    cause: CauseV1<'a>,
    start: StartV1,
}

/// Why a run exists, in stored form.
#[derive(Serialize, Deserialize)]
pub(super) enum CauseV1<'a> {
    Live,
    Redelivery,
    #[serde(borrow)]
    Replay(Option<RunIdV1<'a>>),
}

#[derive(Serialize, Deserialize)]
pub(super) enum StartV1 {
    Due(i64),
    Held,
    Skipped(u8),
}

/// Runs of one record are mostly of few functions and triggers: an id is made once as long as it repeats.
pub(super) fn new_runs(runs: Vec<NewRunV1<'_>>) -> Result<Vec<NewRun>, DecodeError> {
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
    pub(super) fn of(it: &'a NewRun) -> Self {
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

    pub(super) fn into_domain(self, last: Option<&NewRun>) -> Result<NewRun, DecodeError> {
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
pub(super) struct RoutedV1<'a> {
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
    pub(super) fn of(it: &'a Routed) -> Self {
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

    pub(super) fn into_domain(self) -> Result<Routed, DecodeError> {
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
pub(super) struct AttemptedV1<'a> {
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
pub(super) enum NextV1<'a> {
    Succeeded,
    RetryAt(i64),
    Dead(&'a str),
}

impl<'a> AttemptedV1<'a> {
    pub(super) fn of(it: &'a Attempted) -> Self {
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

    pub(super) fn into_domain(self) -> Result<Attempted, DecodeError> {
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

pub(super) fn action_code(action: RunAction) -> u8 {
    match action {
        RunAction::Cancel => 0,
        RunAction::Retry => 1,
        RunAction::Purge => 2,
    }
}

pub(super) fn action_of(code: u8) -> Result<RunAction, DecodeError> {
    Ok(match code {
        0 => RunAction::Cancel,
        1 => RunAction::Retry,
        2 => RunAction::Purge,
        _ => return Err(DecodeError::Invalid("an action is unknown")),
    })
}
