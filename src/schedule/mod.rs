//! When a cron trigger ticks: an expression in a time zone, and what follows from it. Pure: no clock.
//!
//! `expression` reads the text; croner finds the next civil time that matches it. Which instant that is
//! lies here, since civil time and real time part where clocks are set. The rule is Vixie cron's:
//!
//! - A **fixed** schedule names its seconds, minutes and hours. A time that the clock skips ticks once, at
//!   the instant when the gap ends, however many of the schedule's times fall into it; a time that
//!   comes twice ticks at its first coming.
//! - An **interval** schedule has a `*` among its seconds, minutes or hours. It goes on in real time:
//!   it ticks whenever the clock on the wall matches, twice for what comes twice, never in a gap.
//!
//! The module knows no trigger and no log; `config` reads schedules, `provider` waits for their ticks.

mod civil;
mod expression;

use std::collections::VecDeque;
use std::fmt;

use croner::Cron;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil::DateTime};

use self::civil::next_civil;
pub use self::expression::Problem;

/// The time zone where none is named.
pub const UTC: &str = "UTC";
/// Most ticks that [`Schedule::count`] counts.
pub const COUNT_MAX: u64 = 100_000;
/// The first stretch that is searched for latest ticks; doubled until it holds enough of them.
const LATEST_STRETCH: SignedDuration = SignedDuration::from_mins(1);

/// An expression in a time zone.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    zone_name: String,
    cron: Cron,
    zone: TimeZone,
    pace: Pace,
}

/// What a schedule does where the clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Fixed,
    Interval,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

impl fmt::Display for Schedule {
    /// Writes expression and zone, such as `0 3 * * * Europe/Zurich`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone_name)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone_name == other.zone_name
    }
}

impl Schedule {
    /// Reads an expression: five fields, six with seconds in front, or a word such as `@hourly`.
    ///
    /// # Errors
    ///
    /// If it is no expression, or no time ever matches it.
    pub fn parse(expression: &str, zone: Zone) -> Result<Self, Problem> {
        let cron = expression::parse(expression)?;
        let pace = if expression::has_star_in_time(&cron) { Pace::Interval } else { Pace::Fixed };
        let text = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let schedule = Self { text, zone_name: zone.name, cron, zone: zone.zone, pace };
        // The calendar repeats itself every 400 years: what does not come from here on never does.
        match next_civil(&schedule.cron, DateTime::constant(2000, 1, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(schedule),
            None => Err(Problem::never(expression)),
        }
    }

    /// Returns the expression, its fields one blank apart.
    pub fn expression(&self) -> &str {
        &self.text
    }

    /// Returns the time zone's name.
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// Returns the first tick after an instant. Nothing is left after the year 4999.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self.pace {
            Pace::Fixed => self.next_fixed(after),
            Pace::Interval => self.next_in_real_time(after),
        }
    }

    /// Tells whether an instant is one of the ticks.
    pub fn ticks_at(&self, at: Timestamp) -> bool {
        at.checked_sub(SignedDuration::from_nanos(1)).is_ok_and(|before| self.next(before) == Some(at))
    }

    /// Returns the ticks after `after`, up to and including `until`, in order.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next(after), |tick| self.next(*tick))
            .take_while(move |tick| *tick <= until)
    }

    /// Returns the latest ticks after `after`, up to and including `until`, at most `max`, in order.
    pub fn latest(&self, after: Timestamp, until: Timestamp, max: usize) -> VecDeque<Timestamp> {
        let mut stretch = LATEST_STRETCH;
        loop {
            let from = until.checked_sub(stretch).unwrap_or(after).max(after);
            let mut ticks = VecDeque::with_capacity(max);
            for tick in self.between(from, until) {
                if ticks.len() == max {
                    ticks.pop_front();
                }
                ticks.push_back(tick);
            }
            if ticks.len() >= max || from == after {
                return ticks;
            }
            stretch *= 2;
        }
    }

    /// Counts the ticks after `after`, up to and including `until`, but no more than [`COUNT_MAX`].
    pub fn count(&self, after: Timestamp, until: Timestamp) -> u64 {
        self.between(after, until).take(COUNT_MAX as usize).count() as u64
    }

    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        // Later civil times never come earlier, so the first that comes after the instant is the next.
        let mut civil = self.zone.to_datetime(after);
        loop {
            civil = next_civil(&self.cron, civil)?;
            let tick = self.instant_of(civil)?;
            if tick > after {
                return Some(tick);
            }
        }
    }

    /// Returns the instant at which a fixed time ticks.
    fn instant_of(&self, civil: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        let AmbiguousOffset::Gap { .. } = ambiguous.offset() else { return ambiguous.compatible().ok() };
        // A time of the gap, read with the offset before it, lies at its end or later.
        let behind = ambiguous.later().ok()?.checked_add(SignedDuration::from_nanos(1)).ok()?;
        Some(self.zone.preceding(behind).next()?.timestamp())
    }

    fn next_in_real_time(&self, after: Timestamp) -> Option<Timestamp> {
        // Between two transitions civil time runs as real time does.
        let mut civil = self.zone.to_datetime(after);
        let mut since = after;
        loop {
            let offset = self.zone.to_offset(since);
            let tick = next_civil(&self.cron, civil).and_then(|found| offset.to_timestamp(found).ok());
            let Some(transition) = self.zone.following(since).next() else { return tick };
            if let Some(tick) = tick.filter(|tick| *tick < transition.timestamp()) {
                return Some(tick);
            }
            since = transition.timestamp();
            // The transition itself may be a tick.
            civil = self.zone.to_datetime(since).checked_sub(SignedDuration::from_secs(1)).ok()?;
            if civil.year() > civil::YEAR_MAX {
                return None;
            }
        }
    }
}

/// A time zone by its IANA name.
#[derive(Debug, Clone)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Returns UTC.
    pub fn utc() -> Self {
        Self { name: UTC.to_owned(), zone: TimeZone::UTC }
    }

    /// Finds a zone by its name, upper and lower case alike.
    pub fn find(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case(UTC) {
            return Some(Self::utc());
        }
        let zone = TimeZone::get(name).ok()?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Some(Self { name, zone })
    }

    /// Returns the names of all zones.
    pub fn names() -> Vec<String> {
        jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests;
