//! The stored form of what became of secrets.

use serde::{Deserialize, Serialize};

use super::{DecodeError, micros, name, timestamp};
use crate::event::Fingerprint;
use crate::event_log::record::{SecretChange, SecretNews, SecretTimes};

#[derive(Serialize, Deserialize)]
pub(super) struct SecretNewsV1<'a> {
    at: i64,
    #[serde(borrow)]
    change: SecretChangeV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum SecretChangeV1<'a> {
    /// Trigger, times of its secrets.
    Seen(&'a str, #[serde(borrow)] Vec<SecretTimesV1<'a>>),
    /// Name, until when the earlier one is kept at least.
    Rotated(&'a str, i64),
    Retired(&'a str),
}

/// As it stands in records and in rows of the derived state.
#[derive(Serialize, Deserialize)]
pub(crate) struct SecretTimesV1<'a> {
    name: &'a str,
    fingerprint: [u8; Fingerprint::BYTES],
    reference: &'a str,
    index: u32,
    added_at: i64,
    first_success: Option<i64>,
    last_success: Option<i64>,
}

impl<'a> SecretTimesV1<'a> {
    pub(crate) fn of(it: &'a SecretTimes) -> Self {
        Self {
            name: &it.name,
            fingerprint: it.fingerprint.bytes(),
            reference: &it.reference,
            index: it.index,
            added_at: micros(it.added_at),
            first_success: it.first_success.map(micros),
            last_success: it.last_success.map(micros),
        }
    }

    pub(crate) fn into_domain(self) -> Result<SecretTimes, DecodeError> {
        Ok(SecretTimes {
            name: self.name.to_owned(),
            fingerprint: Fingerprint::from_bytes(self.fingerprint),
            reference: self.reference.to_owned(),
            index: self.index,
            added_at: timestamp(self.added_at)?,
            first_success: self.first_success.map(timestamp).transpose()?,
            last_success: self.last_success.map(timestamp).transpose()?,
        })
    }
}

impl<'a> SecretNewsV1<'a> {
    pub(super) fn of(it: &'a SecretNews) -> Self {
        let change = match &it.change {
            SecretChange::Seen { trigger_id, secrets } => {
                SecretChangeV1::Seen(trigger_id.as_str(), secrets.iter().map(SecretTimesV1::of).collect())
            }
            SecretChange::Rotated { name, keep_until } => SecretChangeV1::Rotated(name, micros(*keep_until)),
            SecretChange::Retired { name } => SecretChangeV1::Retired(name),
        };
        Self { at: micros(it.at), change }
    }

    pub(super) fn into_domain(self) -> Result<SecretNews, DecodeError> {
        let change = match self.change {
            SecretChangeV1::Seen(trigger, secrets) => SecretChange::Seen {
                trigger_id: name(trigger)?,
                secrets: secrets.into_iter().map(SecretTimesV1::into_domain).collect::<Result<_, _>>()?,
            },
            SecretChangeV1::Rotated(name, keep_until) => {
                SecretChange::Rotated { name: name.to_owned(), keep_until: timestamp(keep_until)? }
            }
            SecretChangeV1::Retired(name) => SecretChange::Retired { name: name.to_owned() },
        };
        Ok(SecretNews { at: timestamp(self.at)?, change })
    }
}
