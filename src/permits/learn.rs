//! What an answer teaches about a provider's limits: pure, from status and headers to a [`Correction`].
//!
//! Read are, each as [`HeaderRules`] names it:
//!
//! - `Retry-After` of refusals, a span or a date (RFC 9110, section 10.2.3), and its relatives;
//! - quotas of three headers, limit, remaining and reset, whose reset is a span or a time in seconds or
//!   milliseconds. Where the rule names no unit, its magnitude tells: see [`RESET_EPOCH_SECONDS_MIN`],
//!   [`RESET_EPOCH_MILLISECONDS_MIN`] and [`RESET_SPAN_SECONDS_MAX`];
//! - `RateLimit` and `RateLimit-Policy` in both forms: `limit=100, remaining=50, reset=30` with `100;w=60`
//!   (draft-ietf-httpapi-ratelimit-headers-07), and `"default";r=50;t=30` with `"default";q=100;w=60`
//!   (draft 08 and later), quotas of other units than requests left out;
//! - what a leaking bucket holds: `39/40`.
//!
//! A time since 1970 is compared with the answer's own `Date`, so that clocks may differ. Values may be
//! anything: nothing that is said holds longer than [`TAUGHT_MAX`], and the rate becomes at most
//! [`PACE_RAISE_MAX`] times faster and [`PACE_CUT_MAX`] times slower than the budget.
//!
//! [`RESET_EPOCH_SECONDS_MIN`]: super::RESET_EPOCH_SECONDS_MIN
//! [`RESET_EPOCH_MILLISECONDS_MIN`]: super::RESET_EPOCH_MILLISECONDS_MIN
//! [`RESET_SPAN_SECONDS_MAX`]: super::RESET_SPAN_SECONDS_MAX

use std::time::Duration;

use super::headers::{HeaderRules, QuotaRule};
use super::values;
use crate::event::Timestamp;
use crate::flow::RETRY_AFTER_MAX;

/// Longest time for which anything that an answer says holds: no header stops a provider for longer.
pub const TAUGHT_MAX: Duration = RETRY_AFTER_MAX;
/// How much faster than its budget a provider may be made by what it says.
pub const PACE_RAISE_MAX: u32 = 4;
/// How much slower than its budget a provider may be made by what it says, beside quotas and waits.
pub const PACE_CUT_MAX: u32 = 100;
/// Most headers of an answer that are looked at.
const HEADERS_MAX: usize = 256;
/// Most quotas that one answer may teach.
const QUOTAS_SEEN_MAX: usize = 4;

/// What an answer teaches. All spans count from when it came.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use hookkeeper::permits::{HeaderRules, learn};
///
/// let now = "2026-01-01T00:00:00Z".parse().unwrap();
/// let headers = [("Retry-After", b"30".as_slice()), ("X-RateLimit-Remaining", b"0")];
/// let correction = learn(&HeaderRules::common(), 429, headers, now);
/// assert!(correction.refused);
/// assert_eq!(correction.wait, Some(Duration::from_secs(30)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Correction {
    /// The call was refused for its rate.
    pub refused: bool,
    /// How long nobody should call; only of refusals, and nothing where they name no time.
    pub wait: Option<Duration>,
    /// What is left, and for how long.
    pub quotas: Vec<QuotaSeen>,
    /// How many calls a bucket that drains still takes.
    pub room: Option<u32>,
    /// So many calls in such a time.
    pub pace: Option<Pace>,
}

/// A quota that an answer told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaSeen {
    /// Which one, among those of the provider.
    pub name: u32,
    /// How many calls there are from reset to reset.
    pub limit: Option<u32>,
    /// How many are left.
    pub remaining: u32,
    /// When there are as many as at first.
    pub resets_in: Duration,
}

/// So many calls in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many, at least one.
    pub limit: u32,
    /// In what time, at least a millisecond.
    pub window: Duration,
}

/// Says what an answer teaches. Names of headers may be in any case.
pub fn learn<'a>(
    rules: &HeaderRules,
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    now: Timestamp,
) -> Correction {
    let is_told = |told| told && rules.refused_if_told.contains(&status);
    teach(rules, headers, now, |told| rules.refused.contains(&status) || is_told(told))
}

/// As [`learn`], of an answer that was refused for its rate whatever its status: its body says so.
pub(super) fn learn_refused<'a>(
    rules: &HeaderRules,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    now: Timestamp,
) -> Correction {
    teach(rules, headers, now, |_| true)
}

/// `is_refused` judges by whether the headers name a wait, or say that nothing is left.
fn teach<'a>(
    rules: &HeaderRules,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    now: Timestamp,
    is_refused: impl FnOnce(bool) -> bool,
) -> Correction {
    let answer = Answer::new(headers, now);
    let mut correction = Correction::default();
    // Resets that come without a word on what is left: of refusals, they are the wait.
    let mut bare_reset = None;
    for (index, rule) in (0..).zip(&rules.quotas) {
        answer.quota(rule, index, &mut correction, &mut bare_reset);
    }
    answer.structured(&mut correction, &mut bare_reset);
    correction.quotas.truncate(QUOTAS_SEEN_MAX);

    let told = rules.wait.iter().find_map(|name| values::wait(answer.text(name)?, now)).map(span);
    let used_up = correction.quotas.iter().filter(|quota| quota.remaining == 0);
    let used_up = used_up.map(|quota| quota.resets_in).max();
    correction.refused = is_refused(told.is_some() || used_up.is_some());
    correction.wait = told.or(used_up).or(bare_reset).filter(|_| correction.refused);
    correction
}

/// The headers of an answer.
struct Answer<'a> {
    headers: Vec<(&'a str, &'a [u8])>,
    now: Timestamp,
    /// The present by the sender's clock.
    then: Timestamp,
}

impl<'a> Answer<'a> {
    fn new(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>, now: Timestamp) -> Self {
        let headers: Vec<_> = headers.into_iter().take(HEADERS_MAX).collect();
        let answer = Self { headers, now, then: now };
        let date = answer.text("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Self { then: date.map_or(now, |date| date.timestamp()), ..answer }
    }

    /// Returns the values of all headers of a name, which is in lower case.
    fn texts(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(header, _)| header.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| values::text(value))
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.texts(name).next()
    }

    fn named(&self, name: &Option<String>) -> Option<&'a str> {
        self.text(name.as_ref()?)
    }

    /// Reads one quota's headers.
    fn quota(&self, rule: &QuotaRule, index: u32, found: &mut Correction, bare_reset: &mut Option<Duration>) {
        if let Some((room, _)) = self.named(&rule.used_of).and_then(values::used_of) {
            found.room = Some(found.room.map_or(room, |before| before.min(room)));
        }
        let limit = self.named(&rule.limit);
        if let Some(pace) = limit.and_then(|text| policies(text).min_by_key(|policy| policy.pace.window)) {
            found.teach(pace.pace);
        }
        let reset =
            self.named(&rule.reset).and_then(|text| values::reset(text, rule.unit, self.now, self.then));
        let window = rule.window_s.map(f64::from);
        let (limit, reset) = (limit.and_then(values::count), reset.or(window).map(span));
        if let (Some(limit), Some(window)) = (limit, window) {
            found.teach_if_any(limit, window);
        }
        match (self.named(&rule.remaining).and_then(values::count), reset) {
            (Some(remaining), Some(resets_in)) => {
                let name = name(index, self.named(&rule.bucket).unwrap_or_default());
                found.quotas.push(QuotaSeen { name, limit, remaining, resets_in });
            }
            (Some(room), None) => found.room = Some(found.room.map_or(room, |before| before.min(room))),
            (None, Some(resets_in)) if rule.reset.is_some() => {
                *bare_reset = (*bare_reset).max(Some(resets_in))
            }
            (None, _) => {}
        }
    }

    /// Reads `RateLimit` and `RateLimit-Policy`.
    fn structured(&self, found: &mut Correction, bare_reset: &mut Option<Duration>) {
        let policies: Vec<_> = self.texts("ratelimit-policy").flat_map(policies).collect();
        if let Some(policy) = policies.iter().min_by_key(|policy| policy.pace.window) {
            found.teach(policy.pace);
        }
        let limit_of = |name: &str| {
            let policy = policies.iter().find(|policy| policy.name == name);
            policy.map(|policy| policy.pace)
        };
        for text in self.texts("ratelimit") {
            self.dictionary(text, found, bare_reset);
            for item in values::items(text) {
                let Some(remaining) = item.count("r") else { continue };
                let policy = limit_of(item.name);
                let resets_in = item.seconds("t").map(span).or(policy.map(|policy| policy.window));
                match resets_in {
                    Some(resets_in) => found.quotas.push(QuotaSeen {
                        name: name(u32::MAX, item.name),
                        limit: policy.map(|policy| policy.limit),
                        remaining,
                        resets_in,
                    }),
                    None => found.room = Some(found.room.map_or(remaining, |before| before.min(remaining))),
                }
            }
        }
    }

    /// Reads the older form of `RateLimit`.
    fn dictionary(&self, text: &str, found: &mut Correction, bare_reset: &mut Option<Duration>) {
        let value = |key: &str| {
            values::items(text).find_map(|item| {
                let (name, value) = item.name.split_once('=')?;
                (name.trim() == key).then_some(value)
            })
        };
        let resets_in = value("reset").and_then(values::number).map(span);
        match (value("remaining").and_then(values::count), resets_in) {
            (Some(remaining), Some(resets_in)) => {
                let limit = value("limit").and_then(values::count);
                found.quotas.push(QuotaSeen { name: name(u32::MAX, ""), limit, remaining, resets_in });
            }
            (None, Some(resets_in)) => *bare_reset = (*bare_reset).max(Some(resets_in)),
            _ => {}
        }
    }
}

impl Correction {
    /// Of several paces, the one of the shortest time counts: the others are quotas.
    fn teach(&mut self, pace: Pace) {
        if self.pace.is_none_or(|before| pace.window < before.window) {
            self.pace = Some(pace);
        }
    }

    fn teach_if_any(&mut self, limit: u32, window: f64) {
        if let Some(pace) = pace(limit, window) {
            self.teach(pace);
        }
    }
}

/// A policy of calls, by its name.
struct Policy<'a> {
    name: &'a str,
    pace: Pace,
}

/// Reads `100;w=60`, `"default";q=100;w=60` and `100, 100;window=60`.
fn policies(text: &str) -> impl Iterator<Item = Policy<'_>> {
    values::items(text).filter_map(|item| {
        let counts_requests = item.parameter("qu").is_none_or(|unit| unit == "requests");
        let limit = item.count("q").or_else(|| values::count(item.name))?;
        let window = item.seconds("w").or_else(|| item.seconds("window"))?;
        let pace = pace(limit, window).filter(|_| counts_requests)?;
        Some(Policy { name: item.name, pace })
    })
}

fn pace(limit: u32, window: f64) -> Option<Pace> {
    let window = span(window);
    (limit > 0 && window >= Duration::from_millis(1)).then_some(Pace { limit, window })
}

/// A span of so many seconds, none of which is negative or too long.
fn span(seconds: f64) -> Duration {
    if seconds.is_nan() {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(TAUGHT_MAX, |span| span.min(TAUGHT_MAX))
}

/// Tells the quotas of a provider apart, by rule and bucket (FNV-1a). Two that fell together would count as one
/// that is reset.
fn name(rule: u32, bucket: &str) -> u32 {
    let bytes = rule.to_le_bytes().into_iter().chain(bucket.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
