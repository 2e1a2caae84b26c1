//! What probably went wrong, as a value and in words.

use std::fmt;

use crate::signature::{Encoding, Unit};

/// What probably went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The proof stands in another header.
    OtherHeader {
        /// The header's lower-case name.
        name: String,
        /// Whether the proof in it holds; otherwise it only has the right form.
        holds: bool,
    },
    /// Another secret yields the signature.
    OtherSecret {
        /// What it was introduced as.
        name: String,
    },
    /// The secret yields the signature once it is read in another way.
    SecretForm {
        /// Its place in the list, counted from 1.
        number: usize,
        /// How it must be read.
        how: &'static str,
    },
    /// The proof is good, but its text is not written as the provider writes it.
    ProofForm {
        /// What makes it so.
        how: String,
    },
    /// The signature is good, but written in another encoding.
    SignatureForm {
        /// In which.
        encoding: Encoding,
    },
    /// Another URL was signed than the one that is taken for signed here.
    Url {
        /// Which: with scheme and host, or the path alone where the scheme signs no more.
        signed: String,
    },
    /// The body was changed on the way.
    Body {
        /// What gives back the bytes that were signed.
        how: &'static str,
    },
    /// The token is signed with an algorithm that is not the provider's.
    TokenAlgorithm {
        /// Which.
        alg: String,
        /// Those of the provider.
        accepted: String,
    },
    /// The signature is good, but a signed value is not what it must be.
    Unbound {
        /// Where it stands.
        place: String,
        /// What it must be.
        expected: String,
    },
    /// The signature holds; its time is written in another unit.
    TimeUnit {
        /// In which.
        unit: Unit,
    },
    /// The signature holds; clocks differ, or the request is old.
    Clock {
        /// Signed time minus ours, in seconds.
        ahead_s: i64,
    },
}

impl Cause {
    /// Returns a stable code for the kind of cause.
    pub fn code(&self) -> &'static str {
        match self {
            Cause::OtherHeader { .. } => "other_header",
            Cause::OtherSecret { .. } => "other_secret",
            Cause::SecretForm { .. } => "secret_form",
            Cause::SignatureForm { .. } => "signature_form",
            Cause::ProofForm { .. } => "proof_form",
            Cause::TokenAlgorithm { .. } => "token_algorithm",
            Cause::Unbound { .. } => "other_value",
            Cause::TimeUnit { .. } => "time_unit",
            Cause::Url { .. } => "other_url",
            Cause::Body { .. } => "body_changed",
            Cause::Clock { .. } => "clock",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::OtherHeader { name, holds: true } => {
                write!(f, "the signature is good, but stands in header {name}: something renames headers")
            }
            Cause::OtherHeader { name, holds: false } => {
                write!(f, "header {name} has the form of the signature; is this the right provider")
            }
            Cause::OtherSecret { name } => write!(f, "the secret {name} yields the signature"),
            Cause::SecretForm { number, how } => {
                write!(f, "secret number {number} yields the signature once it is {how}")
            }
            Cause::SignatureForm { encoding } => {
                write!(f, "the signature is good, but written in {encoding}")
            }
            Cause::ProofForm { how } => {
                write!(
                    f,
                    "the proof is good {how}: the sender, or something on the way, writes it differently"
                )
            }
            Cause::TokenAlgorithm { alg, accepted } => {
                write!(f, "the token is signed with {alg}; the provider's are {accepted}")
            }
            Cause::Unbound { place, expected } => {
                write!(f, "the signature is good, but {place} is not {expected}")
            }
            Cause::TimeUnit { unit } => {
                write!(f, "the signature holds; its time is written as {}", unit.form())
            }
            Cause::Url { signed } => {
                write!(
                    f,
                    "the signature is good for the URL {signed}: is server.public_url what is registered"
                )
            }
            Cause::Body { how } => {
                write!(f, "the body was changed on the way: with {how} the signature holds")
            }
            Cause::Clock { ahead_s } => {
                let side = if *ahead_s < 0 { "behind" } else { "ahead of" };
                let by = ahead_s.unsigned_abs();
                write!(f, "the signature holds; its time is {by} s {side} our clock")
            }
        }
    }
}
