//! The next civil time that an expression matches: croner's search, over jiff's calendar.
//!
//! Civil time has no zone here, so nothing is skipped and nothing comes twice.

use std::cmp::Ordering;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::SignedDuration;
use jiff::civil::DateTime;

/// The last year that is searched, croner's own bound.
pub(super) const YEAR_MAX: i16 = 4999;

/// Returns the first civil time after another that matches.
pub(super) fn next_civil(cron: &Cron, after: DateTime) -> Option<DateTime> {
    let found = cron.find_next_occurrence(&Civil(after), false).ok()?.0;
    (found.year() <= YEAR_MAX).then_some(found)
}

/// croner has an implementation for an older jiff only.
#[derive(Clone)]
struct Civil(DateTime);

impl CronDateTime for Civil {
    fn to_civil(&self) -> CivilDateTime {
        let it = self.0;
        let date = CivilDate::from_parts_unchecked(it.year().into(), it.month() as u32, it.day() as u32);
        let time = CivilTime::from_parts_unchecked(it.hour() as u32, it.minute() as u32, it.second() as u32);
        CivilDateTime::new(date, time)
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.0.weekday().to_sunday_zero_offset() as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (civil.month() as i8, civil.day() as i8);
        let (hour, minute, second) = (civil.hour() as i8, civil.minute() as i8, civil.second() as i8);
        let found = DateTime::new(year, month, day, hour, minute, second, 0);
        found.map(|found| Resolution::Single(Self(found))).map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
