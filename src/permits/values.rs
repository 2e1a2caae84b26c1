//! Reads the values of headers about rate limits. Whatever is not clearly what it should be is nothing.

use jiff::SignedDuration;

use super::ResetUnit;
use crate::event::Timestamp;
use crate::flow::retry_after;

/// From here on, a reset without a unit is a time in seconds since 1970: September 2001. As a span it would
/// be thirty years.
pub const RESET_EPOCH_SECONDS_MIN: f64 = 1e9;
/// From here on, a reset without a unit is a time in milliseconds since 1970: March 1973. As seconds it would
/// be the year 5138.
pub const RESET_EPOCH_MILLISECONDS_MIN: f64 = 1e11;
/// Beyond it, a reset without a unit that is no time is a span in milliseconds: a day in seconds. Quotas of more
/// than a day are rare, spans in milliseconds are not, and what is read too short is refused once and learned again.
pub const RESET_SPAN_SECONDS_MAX: f64 = 86_400.0;
/// Longest value that is looked at, in bytes.
const VALUE_BYTES_MAX: usize = 1_024;
/// Most members of a list that are looked at.
const ITEMS_MAX: usize = 16;
/// Most parameters of a member that are looked at.
const PARAMETERS_MAX: usize = 8;

/// Returns a value as text.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
    std::str::from_utf8(value).ok().map(str::trim)
}

/// Reads a number that is not negative: digits, and a fraction. Huge ones are infinite.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(fraction)).then(|| text.parse().ok()).flatten()
}

/// Reads how many: the first member's number. Huge ones are the most there can be, fractions are dropped.
pub(super) fn count(text: &str) -> Option<u32> {
    let first = text.split([',', ';']).next()?;
    Some(number(first)? as u32)
}

/// Reads how many seconds from `now` a quota is reset, as the unit says. `then` is the present by the
/// sender's own clock.
pub(super) fn reset(text: &str, unit: ResetUnit, now: Timestamp, then: Timestamp) -> Option<f64> {
    let since_1970 = then.as_microsecond() as f64 / 1e6;
    let Some(number) = number(text) else { return time(text, now) };
    let seconds = match unit {
        ResetUnit::Seconds => number,
        ResetUnit::Milliseconds => number / 1e3,
        ResetUnit::EpochSeconds => number - since_1970,
        ResetUnit::EpochMilliseconds => number / 1e3 - since_1970,
        ResetUnit::Auto if number >= RESET_EPOCH_MILLISECONDS_MIN => number / 1e3 - since_1970,
        ResetUnit::Auto if number >= RESET_EPOCH_SECONDS_MIN => number - since_1970,
        ResetUnit::Auto if number > RESET_SPAN_SECONDS_MAX => number / 1e3,
        ResetUnit::Auto => number,
    };
    Some(seconds.max(0.0))
}

/// Reads how many seconds to wait: a span, with a fraction too, or a time.
pub(super) fn wait(text: &str, now: Timestamp) -> Option<f64> {
    number(text).or_else(|| time(text, now))
}

/// Reads a time or a span that is no bare number: an HTTP date, a date and time as of RFC 3339, or `1m30s`.
fn time(text: &str, now: Timestamp) -> Option<f64> {
    if let Some(wait) = retry_after(text.as_bytes(), now) {
        return Some(wait.as_secs_f64());
    }
    let until = text.parse::<Timestamp>().map(|at| at.duration_since(now));
    let span = until.or_else(|_| text.parse::<SignedDuration>()).ok()?;
    Some(span.as_secs_f64().max(0.0))
}

/// Reads calls counted and calls allowed: `39/40`. Returns those left, and those allowed.
pub(super) fn used_of(text: &str) -> Option<(u32, u32)> {
    let (used, limit) = text.split_once('/')?;
    let (used, limit) = (count(used)?, count(limit)?);
    Some((limit.saturating_sub(used), limit))
}

/// A member of a list or dictionary, as structured fields write them (RFC 9651): its name or value, and
/// its parameters.
pub(super) struct Item<'a> {
    pub(super) name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Item<'a> {
    /// Returns a parameter's value, without quotes.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Returns how many, as a parameter says.
    pub(super) fn count(&self, parameter: &str) -> Option<u32> {
        self.parameter(parameter).and_then(count)
    }

    /// Returns how many seconds, as a parameter says.
    pub(super) fn seconds(&self, parameter: &str) -> Option<f64> {
        self.parameter(parameter).and_then(number)
    }
}

/// Reads the members of a list.
pub(super) fn items(text: &str) -> impl Iterator<Item = Item<'_>> {
    split(text, ',').take(ITEMS_MAX).map(|member| {
        let mut parts = split(member, ';');
        let name = unquoted(parts.next().unwrap_or_default());
        let parameters = parts.take(PARAMETERS_MAX).filter_map(|part| part.split_once('='));
        let parameters = parameters.map(|(key, value)| (key.trim(), unquoted(value)));
        Item { name, parameters: parameters.collect() }
    })
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"')
}

/// Splits at a separator outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}
