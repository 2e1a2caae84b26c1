//! The connector contract: what turns a provider's requests into events.
//!
//! Verification and normalization are pure: bytes, secrets and the time are handed in. Neither the
//! network nor the store is known here.

mod contract;

pub use contract::{NormalizeResult, Normalized, RawInbound, Rejection, Reply};
