//! The stored form of what is known of rate limits.

use serde::{Deserialize, Serialize};

use super::super::record::Permits;
use super::{DecodeError, micros, name, timestamp};
use crate::event::{CoolDown, PermitsChange, QuotaLeft, TaughtPace};

#[derive(Serialize, Deserialize)]
pub(super) struct PermitsV1<'a> {
    at: i64,
    provider: &'a str,
    #[serde(borrow)]
    change: ChangeV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum ChangeV1<'a> {
    Opened,
    #[serde(borrow)]
    Learned(Vec<CoolDownV1<'a>>),
    #[serde(borrow)]
    Closed(Vec<CoolDownV1<'a>>),
}

/// One scope's row has this form too.
#[derive(Serialize, Deserialize)]
pub(crate) struct CoolDownV1<'a> {
    scope: &'a str,
    full_at: i64,
    blocked_until: i64,
    /// Name, limit, remaining, until.
    quotas: Vec<(u32, u32, u32, i64)>,
    /// Interval, burst, until.
    pace: Option<(u64, u32, i64)>,
}

impl<'a> PermitsV1<'a> {
    pub(super) fn of(it: &'a Permits) -> Self {
        let scopes = |scopes: &'a [CoolDown]| scopes.iter().map(CoolDownV1::of).collect();
        let change = match &it.change {
            PermitsChange::Opened => ChangeV1::Opened,
            PermitsChange::Learned(it) => ChangeV1::Learned(scopes(it)),
            PermitsChange::Closed(it) => ChangeV1::Closed(scopes(it)),
        };
        Self { at: micros(it.at), provider: it.provider.as_str(), change }
    }

    pub(super) fn into_domain(self) -> Result<Permits, DecodeError> {
        let scopes = |scopes: Vec<CoolDownV1<'_>>| {
            scopes.into_iter().map(CoolDownV1::into_domain).collect::<Result<_, _>>()
        };
        let change = match self.change {
            ChangeV1::Opened => PermitsChange::Opened,
            ChangeV1::Learned(it) => PermitsChange::Learned(scopes(it)?),
            ChangeV1::Closed(it) => PermitsChange::Closed(scopes(it)?),
        };
        Ok(Permits { at: timestamp(self.at)?, provider: name(self.provider)?, change })
    }
}

impl<'a> CoolDownV1<'a> {
    pub(crate) fn of(it: &'a CoolDown) -> Self {
        let quota = |it: &QuotaLeft| (it.name, it.limit, it.remaining, micros(it.until));
        Self {
            scope: &it.scope,
            full_at: micros(it.full_at),
            blocked_until: micros(it.blocked_until),
            quotas: it.quotas.iter().map(quota).collect(),
            pace: it.pace.map(|it| (it.interval_ns, it.burst, micros(it.until))),
        }
    }

    pub(crate) fn into_domain(self) -> Result<CoolDown, DecodeError> {
        let quota = |(name, limit, remaining, until)| {
            Ok(QuotaLeft { name, limit, remaining, until: timestamp(until)? })
        };
        let pace = |(interval_ns, burst, until)| {
            Ok::<_, DecodeError>(TaughtPace { interval_ns, burst, until: timestamp(until)? })
        };
        Ok(CoolDown {
            scope: self.scope.to_owned(),
            full_at: timestamp(self.full_at)?,
            blocked_until: timestamp(self.blocked_until)?,
            quotas: self.quotas.into_iter().map(quota).collect::<Result<_, DecodeError>>()?,
            pace: self.pace.map(pace).transpose()?,
        })
    }
}
