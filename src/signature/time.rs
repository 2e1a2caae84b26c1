//! Timestamps as providers write them.

use std::str::FromStr;

use jiff::fmt::rfc2822;

use super::Error;
use crate::event::Timestamp;

/// How a provider writes a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// Seconds since 1970, digits only.
    #[default]
    Seconds,
    /// Milliseconds since 1970, digits only.
    Milliseconds,
    /// Microseconds since 1970, digits only.
    Microseconds,
    /// Seconds or milliseconds since 1970, digits only: what would be past the year 5138 as seconds is
    /// milliseconds.
    SecondsOrMilliseconds,
    /// RFC 3339, such as `2026-11-23T14:00:00Z`.
    Rfc3339,
    /// RFC 9110, section 5.6.7, such as `Mon, 23 Nov 2026 14:00:00 GMT`.
    HttpDate,
}

/// From this number on, a time that may be in either unit is in milliseconds.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "s" => Ok(Unit::Seconds),
            "ms" => Ok(Unit::Milliseconds),
            "us" => Ok(Unit::Microseconds),
            "s-or-ms" => Ok(Unit::SecondsOrMilliseconds),
            "rfc3339" => Ok(Unit::Rfc3339),
            "http-date" => Ok(Unit::HttpDate),
            _ => {
                let known = "s, ms, us, s-or-ms, rfc3339, http-date";
                Err(Error::Word { what: "unit", text: text.to_owned(), known })
            }
        }
    }
}

impl Unit {
    /// Reads a time. Numbers are digits and nothing else: no sign, no blank, no fraction.
    pub fn parse(self, text: &str) -> Option<Timestamp> {
        match self {
            Unit::Seconds => Timestamp::from_second(digits(text)?).ok(),
            Unit::Milliseconds => Timestamp::from_millisecond(digits(text)?).ok(),
            Unit::Microseconds => Timestamp::from_microsecond(digits(text)?).ok(),
            Unit::SecondsOrMilliseconds => match digits(text)? {
                number @ ..MILLISECONDS_FROM => Timestamp::from_second(number).ok(),
                number => Timestamp::from_millisecond(number).ok(),
            },
            Unit::Rfc3339 => text.parse().ok(),
            Unit::HttpDate => rfc2822::DateTimeParser::new().parse_timestamp(text).ok(),
        }
    }

    /// Writes a time.
    pub fn write(self, at: Timestamp) -> String {
        match self {
            Unit::Seconds | Unit::SecondsOrMilliseconds => at.as_second().to_string(),
            Unit::Milliseconds => at.as_millisecond().to_string(),
            Unit::Microseconds => at.as_microsecond().to_string(),
            Unit::Rfc3339 => at.to_string(),
            Unit::HttpDate => {
                let printed = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
                printed.expect("a timestamp is of a year that the format has")
            }
        }
    }

    /// Returns how far apart two times are, in milliseconds; whole seconds are compared where the
    /// provider writes whole seconds, so that the edge of a window is the same as in its SDK.
    pub fn distance_ms(self, a: Timestamp, b: Timestamp) -> u64 {
        match self {
            Unit::Seconds | Unit::SecondsOrMilliseconds | Unit::HttpDate => {
                a.as_second().abs_diff(b.as_second()).saturating_mul(1000)
            }
            Unit::Milliseconds | Unit::Microseconds | Unit::Rfc3339 => {
                a.as_millisecond().abs_diff(b.as_millisecond())
            }
        }
    }

    /// Says what a time looks like, for hints.
    pub fn form(self) -> &'static str {
        match self {
            Unit::Seconds => "unix seconds",
            Unit::Milliseconds => "unix milliseconds",
            Unit::Microseconds => "unix microseconds",
            Unit::SecondsOrMilliseconds => "unix seconds or milliseconds",
            Unit::Rfc3339 => "an RFC 3339 time",
            Unit::HttpDate => "an HTTP date",
        }
    }
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!(Unit::Seconds.parse("1614265330"), Timestamp::from_second(1_614_265_330).ok());
        assert_eq!(Unit::Milliseconds.parse("1500"), Timestamp::from_millisecond(1500).ok());
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "١",
            "99999999999999999999",
            "9223372036854775807",
        ] {
            assert_eq!(Unit::Seconds.parse(bad), None, "{bad}");
            assert_eq!(Unit::Milliseconds.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        let at = Timestamp::from_millisecond(1_614_265_330_123).unwrap();
        assert_eq!(Unit::Seconds.write(at), "1614265330");
        assert_eq!(Unit::Milliseconds.parse(&Unit::Milliseconds.write(at)), Some(at));
        assert_eq!(Unit::Rfc3339.parse(&Unit::Rfc3339.write(at)), Some(at));
    }

    #[test]
    fn distance_counts_whole_seconds_where_the_provider_does() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        assert_eq!(Unit::Seconds.distance_ms(at(300_999), at(0)), 300_000);
        assert_eq!(Unit::Milliseconds.distance_ms(at(60_001), at(0)), 60_001);
        assert_eq!(Unit::Seconds.distance_ms(at(0), at(300_999)), 300_000);
    }
}
