//! Permits: what every call to a provider's API waits for, so that no rate limit is run into that could
//! have been foreseen.
//!
//! A [`RateLimiterFactory`] keeps a token bucket for each provider and **scope**: whatever the provider counts
//! by, an installation, a workspace, a token, a method; the client chooses. A call
//! [acquires](RateLimiter::acquire) a [`Permit`], and what the provider answers
//! [corrects](Permit::observe) the bucket: what headers mean is in [`learn`], a pure function over data
//! ([`HeaderRules`]).
//!
//! Callers wait in three [lanes](Lane) that share one budget. Who would wait longer than its deadline hears
//! [`RateLimited`] at once; who waits holds no thread, and one timer serves all waiters of a scope.
//!
//! What a provider taught outlives the process: whoever keeps it writes what [`ProviderPermits::changed`]
//! hands out, and hands it back at the start. The module itself knows no log, no HTTP client and, outside of its data, no providers by name.

mod bucket;
mod budget;
mod correct;
mod factory;
mod headers;
mod lane;
mod learn;
mod queue;
mod scope;
mod store;
mod values;

pub use budget::Budget;
pub use factory::{Profile, RateLimiterFactory, SCOPE_BYTES_MAX, SCOPES_MAX};
pub use headers::{HeaderOverrides, HeaderRules, QuotaRule, ResetUnit};
pub use lane::{BACKFILL_SHARE, Lane, REPLAY_SHARE};
pub use learn::{Correction, PACE_CUT_MAX, PACE_RAISE_MAX, Pace, QuotaSeen, TAUGHT_MAX, learn};
pub use queue::WAITERS_MAX;
pub use scope::{Permit, RateLimited, RateLimiter};
pub use store::{Known, ProviderPermits};
pub use values::{RESET_EPOCH_MILLISECONDS_MIN, RESET_EPOCH_SECONDS_MIN, RESET_SPAN_SECONDS_MAX};
