//! The connector contract: what turns a provider's requests into events, and the one interpreter of
//! catalogue entries that is the connector of almost every provider.
//!
//! Verification and normalization are pure: bytes, secrets and the time are handed in. Neither the
//! network nor the store is known here.

mod contract;
mod plan;
mod sample;
mod signer;
mod verifier;

pub use contract::{NormalizeResult, Normalized, RawInbound, Rejection, Reply};
pub use plan::BuildError;
pub use sample::{Rendered, generate_secret, render};
pub use signer::{SignError, SignRequest, Signer};
pub use verifier::{
    DEDUPE_KEY_BYTES_MAX, KIND_BYTES_MAX, SECRETS_MAX, TriggerSettings, UNKNOWN_KIND, Verifier,
};
