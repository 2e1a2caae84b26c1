//! The stored form of switches.

use serde::{Deserialize, Serialize};

use super::super::record::Switch;
use super::{DecodeError, micros, name, timestamp};

#[derive(Serialize, Deserialize)]
pub(super) enum SwitchV1<'a> {
    TriggerPaused(&'a str, bool),
    TriggerArmed(&'a str, Option<i64>),
    FunctionPaused(&'a str, bool),
    Breaker(&'a str, Option<i64>, u32),
}

impl<'a> SwitchV1<'a> {
    pub(super) fn of(it: &'a Switch) -> Self {
        match it {
            Switch::TriggerPaused(id, paused) => Self::TriggerPaused(id.as_str(), *paused),
            Switch::TriggerArmed(id, until) => Self::TriggerArmed(id.as_str(), until.map(micros)),
            Switch::FunctionPaused(id, paused) => Self::FunctionPaused(id.as_str(), *paused),
            Switch::Breaker { function, open_until, opened } => {
                Self::Breaker(function.as_str(), open_until.map(micros), *opened)
            }
        }
    }

    pub(super) fn into_domain(self) -> Result<Switch, DecodeError> {
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
