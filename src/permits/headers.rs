//! What the headers about rate limits are called, as data: `headers.toml` beside this file, and what a
//! catalogue entry says otherwise.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

use crate::event::ProviderId;

/// Which headers tell a provider's limits, and how they are read.
///
/// # Examples
///
/// ```
/// use hookkeeper::permits::{HeaderOverrides, HeaderRules};
///
/// // Most providers use the same few names.
/// let acme = "acme".parse().unwrap();
/// assert_eq!(HeaderRules::of(&acme), HeaderRules::common());
///
/// // What an entry says otherwise.
/// let overrides: HeaderOverrides = toml::from_str("wait = ['x-acme-wait']").unwrap();
/// let rules = HeaderRules::of(&acme).overridden(overrides);
/// assert_eq!(rules.wait, ["x-acme-wait"]);
/// assert_eq!(rules.refused, [429]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRules {
    /// Statuses of calls that were refused for their rate.
    pub refused: Vec<u16>,
    /// Statuses that mean so where the answer also names a wait, or says that nothing is left.
    pub refused_if_told: Vec<u16>,
    /// Headers of refusals that say how long to wait: a span or a time. The first one that is there counts.
    pub wait: Vec<String>,
    /// How long the first refusal that names no time is taken for; each further one in a row twice as long.
    pub unsaid_wait: Duration,
    /// Headers that say what is left.
    pub quotas: Vec<QuotaRule>,
}

/// One quota's headers; names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaRule {
    /// How many calls there are from reset to reset.
    pub limit: Option<String>,
    /// How many are left.
    pub remaining: Option<String>,
    /// When there are as many as at first.
    pub reset: Option<String>,
    /// How `reset` is read.
    pub unit: ResetUnit,
    /// Names what is counted, where the provider counts several things under the same names.
    pub bucket: Option<String>,
    /// How long the quota lasts where no header tells, in seconds.
    pub window_s: Option<u32>,
    /// Calls counted and calls allowed in one value, such as `39/40`, of a bucket that drains.
    pub used_of: Option<String>,
}

/// How the time of a reset is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetUnit {
    /// By its magnitude: see [`RESET_EPOCH_SECONDS_MIN`](super::RESET_EPOCH_SECONDS_MIN) and its neighbours.
    #[default]
    Auto,
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMilliseconds,
}

/// What a catalogue entry says otherwise than the built-in rules; each key replaces the rule as a whole.
///
/// # Examples
///
/// ```
/// use hookkeeper::permits::HeaderOverrides;
///
/// let text = "unsaid_wait_s = 30\nquotas = [{ remaining = 'x-left', window_s = 60 }]";
/// let overrides: HeaderOverrides = toml::from_str(text).unwrap();
/// assert_eq!(overrides.unsaid_wait_s, Some(30));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderOverrides {
    /// Where the provider documents it.
    pub source: Option<String>,
    /// See [`HeaderRules::refused`].
    pub refused: Option<Vec<u16>>,
    /// See [`HeaderRules::refused_if_told`].
    pub refused_if_told: Option<Vec<u16>>,
    /// See [`HeaderRules::wait`].
    pub wait: Option<Vec<String>>,
    /// See [`HeaderRules::unsaid_wait`]; in seconds.
    pub unsaid_wait_s: Option<u32>,
    /// See [`HeaderRules::quotas`].
    pub quotas: Option<Vec<QuotaRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    common: HeaderOverrides,
    providers: BTreeMap<ProviderId, HeaderOverrides>,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    toml::from_str(include_str!("headers.toml")).expect("the embedded file is read by a test")
});

impl HeaderRules {
    /// Returns the rules that go for most providers.
    pub fn common() -> Self {
        let nothing = Self {
            refused: Vec::new(),
            refused_if_told: Vec::new(),
            wait: Vec::new(),
            unsaid_wait: Duration::ZERO,
            quotas: Vec::new(),
        };
        nothing.overridden(DOCUMENT.common.clone())
    }

    /// Returns the built-in rules of a provider.
    pub fn of(provider: &ProviderId) -> Self {
        let own = DOCUMENT.providers.get(provider).cloned();
        Self::common().overridden(own.unwrap_or_default())
    }

    /// Returns these rules with what an entry says otherwise.
    pub fn overridden(self, overrides: HeaderOverrides) -> Self {
        let unsaid_wait = overrides.unsaid_wait_s.map(|seconds| Duration::from_secs(seconds.into()));
        Self {
            refused: overrides.refused.unwrap_or(self.refused),
            refused_if_told: overrides.refused_if_told.unwrap_or(self.refused_if_told),
            wait: overrides.wait.unwrap_or(self.wait),
            unsaid_wait: unsaid_wait.unwrap_or(self.unsaid_wait),
            quotas: overrides.quotas.unwrap_or(self.quotas),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_names_its_sources_and_headers_in_lower_case() {
        for (provider, rules) in &DOCUMENT.providers {
            assert!(rules.source.as_ref().is_some_and(|it| it.starts_with("https://")), "{provider}");
            let rules = HeaderRules::of(provider);
            for rule in &rules.quotas {
                assert!(rule.remaining.is_some() || rule.used_of.is_some(), "{provider}: {rule:?}");
                let names = [&rule.limit, &rule.remaining, &rule.reset, &rule.bucket, &rule.used_of];
                for name in names.into_iter().flatten() {
                    assert_eq!(*name, name.to_ascii_lowercase(), "{provider}");
                }
            }
        }
    }
}
