//! Why a proof does not hold.

use std::fmt;

use crate::event::RejectReason;

/// Why a proof does not hold, told to the operator. Names places and forms; never a secret, never the
/// expected signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Something that the proof needs is absent.
    Missing {
        /// What and where.
        place: String,
        /// What it should look like.
        form: String,
    },
    /// A header of the proof is there twice with different values.
    Conflict {
        /// Which.
        place: String,
    },
    /// The proof does not have the provider's form.
    Malformed {
        /// Where.
        place: String,
        /// What it should look like.
        form: String,
    },
    /// There is no key to verify with.
    NoKey,
    /// The request names no public key of the provider that may be fetched.
    NoPublicKey,
    /// No key yields the signature.
    Mismatch {
        /// Where the signature stood.
        place: String,
        /// How many keys were tried.
        keys: usize,
    },
    /// The signature is good, but made for another request.
    Unbound {
        /// What in it differs from the request.
        place: String,
    },
    /// The signature is good, but does not cover what it must.
    Uncovered {
        /// What is not signed.
        place: String,
    },
    /// The token's signature is good, but it does not state a time that it must.
    Unstated {
        /// The claim.
        claim: String,
    },
    /// The signature is good, but too far from now.
    OutOfWindow {
        /// Signed time minus now, in seconds.
        ahead_s: i64,
        /// The tolerance in seconds.
        tolerance_s: u64,
    },
}

impl Problem {
    /// Returns the code that the sender sees.
    pub fn reason(&self) -> RejectReason {
        match self {
            Problem::Missing { .. } => RejectReason::MissingHeader,
            Problem::Conflict { .. } | Problem::Malformed { .. } | Problem::NoPublicKey => {
                RejectReason::InvalidHeader
            }
            Problem::NoKey
            | Problem::Mismatch { .. }
            | Problem::Unbound { .. }
            | Problem::Uncovered { .. }
            | Problem::Unstated { .. } => RejectReason::InvalidSignature,
            Problem::OutOfWindow { .. } => RejectReason::TimestampOutOfWindow,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { place, form } => write!(f, "{place} is missing; expected {form}"),
            Problem::Conflict { place } => {
                write!(f, "{place} is there more than once, with different values")
            }
            Problem::Malformed { place, form } => write!(f, "{place} has another form; expected {form}"),
            Problem::NoKey => f.write_str("the trigger has no secret yet, so nothing can be verified"),
            Problem::NoPublicKey => {
                f.write_str("the request names no public key of the provider that may be fetched")
            }
            Problem::Mismatch { place, keys } => {
                let secrets =
                    if *keys == 1 { "the secret does not yield" } else { "none of the secrets yields" };
                write!(
                    f,
                    "{secrets} the signature in {place}: wrong secret, or the body was changed on the way"
                )
            }
            Problem::Unbound { place } => {
                write!(f, "the signature is good, but {place} is not what this request, or the trigger, has")
            }
            Problem::Uncovered { place } => {
                write!(f, "the signature is good, but {place} is not among what it says it covers")
            }
            Problem::Unstated { claim } => {
                write!(
                    f,
                    "the signature is good, but the token does not state {claim}, as those of the provider do"
                )
            }
            Problem::OutOfWindow { ahead_s, tolerance_s } => {
                let side = if *ahead_s < 0 { "behind" } else { "ahead of" };
                let by = ahead_s.unsigned_abs();
                write!(f, "the signed time is {by} s {side} our clock; the tolerance is {tolerance_s} s")
            }
        }
    }
}

/// Why a secret does not serve as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, blank, or all NUL: anybody could sign with it.
    #[error("the secret is empty or blank")]
    Blank,
    /// The scheme's key pipe cannot read it.
    #[error("the secret does not have the provider's form")]
    Form,
}
