//! What a receiver says about when to come again: the `Retry-After` header (RFC 9110, section 10.2.3).

use std::time::Duration;

use jiff::fmt::{rfc2822, strtime};

use crate::event::Timestamp;

/// Longest wait that a receiver may ask for. What asks for more gets this: a wish must not park a run for good.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The two obsolete forms of an HTTP date, which a recipient must accept (RFC 9110, section 5.6.7).
const OBSOLETE_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Reads a `Retry-After` value: seconds, or an HTTP date that is compared with `now`. A date that has passed
/// is no wait; what is neither is nothing. The result is at most [`RETRY_AFTER_MAX`].
pub fn retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits alone fail to parse only by being too large.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = http_date(text)?.duration_since(now);
        Duration::try_from(until).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn http_date(text: &str) -> Option<Timestamp> {
    // A wrong weekday does not make the date less clear.
    if let Ok(date) = rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text) {
        return Some(date);
    }
    OBSOLETE_DATES.into_iter().find_map(|format| {
        let date = strtime::parse(format, text).ok()?.to_datetime().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(date).ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: &str, expected_seconds: Option<u64>) {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after(value.as_bytes(), now), expected_seconds.map(Duration::from_secs), "{value}");
    }

    #[test]
    fn seconds_and_every_form_of_date_are_read() {
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(37));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(37));
        check("Sun Nov  6 08:49:37 1994", Some(37));
    }

    #[test]
    fn a_date_that_has_passed_is_no_wait() {
        check("Sun, 06 Nov 1994 08:48:59 GMT", Some(0));
    }

    #[test]
    fn more_than_the_cap_is_the_cap() {
        check("86401", Some(86_400));
        check("99999999999999999999999999", Some(86_400));
        check("Sun, 06 Nov 2094 08:49:37 GMT", Some(86_400));
    }

    #[test]
    fn what_is_neither_is_nothing() {
        for value in ["", "-1", "soon", "1.5", "12 s", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            check(value, None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(value in prop::collection::vec(any::<u8>(), 0..60), now in 0_i64..4_000_000_000) {
            let _ = retry_after(&value, Timestamp::from_second(now).unwrap());
        }
    }
}
