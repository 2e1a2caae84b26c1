//! Times as providers and receivers write them: numbers, RFC 3339, HTTP dates, `Retry-After`.
//!
//! Input: the unit, a line feed, the time's text.

#![no_main]

use hookkeeper::flow::{RETRY_AFTER_MAX, retry_after};
use hookkeeper::signature::Unit;
use hookkeeper_fuzz::{line, now};
use libfuzzer_sys::fuzz_target;

/// From here on, seconds are taken for milliseconds where both may be meant: in the year 5138.
const SECONDS_MAX: i64 = 100_000_000_000;

fuzz_target!(|data: &[u8]| {
    let (unit, text) = line(data);
    assert!(retry_after(text, now()).is_none_or(|wait| wait <= RETRY_AFTER_MAX));
    let unit = std::str::from_utf8(unit).ok().and_then(|unit| unit.parse::<Unit>().ok());
    let (Some(unit), Ok(text)) = (unit, std::str::from_utf8(text)) else { return };
    let Some(at) = unit.parse(text) else { return };
    unit.distance_ms(at, now());
    if unit == Unit::SecondsOrMilliseconds && at.as_second() >= SECONDS_MAX {
        return;
    }
    let written = unit.write(at);
    let again = unit.parse(&written).unwrap_or_else(|| panic!("{written:?} is not read again"));
    assert_eq!(unit.distance_ms(at, again), 0, "{text:?} is written as {written:?}");
});
