//! The stored form of what happens to schedules.

use serde::{Deserialize, Serialize};

use super::super::record::{Cron, CronChange, Missed};
use super::{DecodeError, micros, name, timestamp};

#[derive(Serialize, Deserialize)]
pub(super) struct CronV1<'a> {
    at: i64,
    trigger: &'a str,
    #[serde(borrow)]
    change: CronChangeV1<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum CronChangeV1<'a> {
    Began(&'a str),
    /// First, last, count, made up, given up through.
    Missed(i64, i64, u64, u64, Option<i64>),
}

impl<'a> CronV1<'a> {
    pub(super) fn of(it: &'a Cron) -> Self {
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

    pub(super) fn into_domain(self) -> Result<Cron, DecodeError> {
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
