//! Sizes and durations as people write them.

use std::time::Duration;

/// Units of time with their length in milliseconds, longest first.
const TIME_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size with their bytes. `KB` is 1,000 bytes, `KiB` 1,024.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Splits `text` into its leading whole number and the rest.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Reads a duration such as `500ms`, `5m`, `72h`, `30d` or `1h30m`; nothing where the text is none.
///
/// A number without a unit is refused, as are parts in the wrong order.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total_ms, mut unit_before) = (text.trim(), 0_u64, u64::MAX);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (_, unit_ms) = *TIME_UNITS.iter().find(|(unit, _)| *unit == &after[..end])?;
        if unit_ms >= unit_before {
            return None;
        }
        total_ms = total_ms.checked_add(number.checked_mul(unit_ms)?)?;
        (rest, unit_before) = (&after[end..], unit_ms);
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    // Weeks are read but not written: "72h" and "30d" are what people expect back.
    for (unit, unit_ms) in &TIME_UNITS[1..] {
        let number = rest_ms / unit_ms;
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a size such as `25MB`, `64KiB` or `512B`; nothing where the text is none.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, rest) = leading_number(text.trim())?;
    let unit = rest.trim_start();
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*bytes)
}

/// Writes a size in the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (name, unit) = unit.unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (text, expected) in [
            ("500ms", ms(500)),
            ("5m", ms(300_000)),
            ("72h", ms(259_200_000)),
            ("30d", ms(2_592_000_000)),
            ("1h30m", ms(5_400_000)),
            ("0s", ms(0)),
            ("5", None),
            ("", None),
            ("m", None),
            ("30m1h", None),
            ("5 m", None),
            ("-5m", None),
            ("99999999999999999999d", None),
            ("18446744073709551615w", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("25MB", Some(25_000_000)),
            ("20GB", Some(20_000_000_000)),
            ("64KiB", Some(65_536)),
            ("64 kb", Some(64_000)),
            ("512B", Some(512)),
            ("25", None),
            ("MB", None),
            ("1.5MB", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(number in 0_u64..1 << 50) {
            let duration = Duration::from_millis(number);
            proptest::prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            proptest::prop_assert_eq!(parse_size(&format_size(number)), Some(number));
        }

        #[test]
        fn no_text_makes_them_panic(text in ".{0,20}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
