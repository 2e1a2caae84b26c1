//! How an event's signature was judged.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a delivery was refused. Senders see the code and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// A header or other part that carries the proof, or that the proof covers, is absent.
    MissingHeader,
    /// The proof is there but not of the provider's form, or is there twice with different values.
    InvalidHeader,
    /// No configured secret yields the proof.
    InvalidSignature,
    /// The proof is good, but its time is farther from now than the tolerance.
    TimestampOutOfWindow,
}

impl RejectReason {
    /// Returns the stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::MissingHeader => "missing_header",
            RejectReason::InvalidHeader => "invalid_header",
            RejectReason::InvalidSignature => "invalid_signature",
            RejectReason::TimestampOutOfWindow => "timestamp_out_of_window",
        }
    }
}

/// Text that is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reasons are missing_header, invalid_header, invalid_signature and timestamp_out_of_window")]
pub struct ParseRejectReasonError;

impl FromStr for RejectReason {
    type Err = ParseRejectReasonError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::MissingHeader, Self::InvalidHeader, Self::InvalidSignature, Self::TimestampOutOfWindow]
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(ParseRejectReasonError)
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How an event's signature was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum SignatureStatus {
    /// The provider's proof holds.
    Verified {
        /// Whether the proof covers the body; proofs that do not are weaker.
        covers_body: bool,
    },
    /// There is nothing to verify: cron, or a provider without signatures.
    Unsigned,
    /// The proof did not hold. Such deliveries become no events; the state exists for the quarantine.
    Failed {
        /// Why.
        reason: RejectReason,
    },
}
