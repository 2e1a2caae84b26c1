//! What is known of a scope's rate limits, as it is stored: between the log, which keeps it, and the permits,
//! which go by it.

use super::Timestamp;

/// What happened to the permits of a provider, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermitsChange {
    /// Permits are given out from now on. Unless they are closed, nobody knows how many were.
    Opened,
    /// What is known of these scopes now.
    Learned(Vec<CoolDown>),
    /// Nothing is given out any more; of these scopes, and those learned since the opening, all is known.
    Closed(Vec<CoolDown>),
}

/// What is known of one scope. Whatever lies in the past says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoolDown {
    /// The scope's key.
    pub scope: String,
    /// When its bucket is full, as far as its budget goes.
    pub full_at: Timestamp,
    /// Until when nobody may call.
    pub blocked_until: Timestamp,
    /// How many calls are left.
    pub quotas: Vec<QuotaLeft>,
    /// The pace that the provider taught, where it did.
    pub pace: Option<TaughtPace>,
}

/// How many calls are left until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLeft {
    /// Which one of the provider's.
    pub name: u32,
    /// How many there are from reset to reset; 0 where that is not known.
    pub limit: u32,
    /// How many are left.
    pub remaining: u32,
    /// When there are as many as at first.
    pub until: Timestamp,
}

/// A pace that a provider taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaughtPace {
    /// Time between two calls, in nanoseconds.
    pub interval_ns: u64,
    /// Calls at once.
    pub burst: u32,
    /// Until when it holds.
    pub until: Timestamp,
}

impl CoolDown {
    /// Tells whether all of it lies in the past.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.full_at <= now
            && self.blocked_until <= now
            && self.quotas.iter().all(|quota| quota.until <= now)
            && self.pace.is_none_or(|pace| pace.until <= now)
    }
}
