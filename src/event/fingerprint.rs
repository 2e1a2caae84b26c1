//! Tells secrets apart without showing them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A keyed fingerprint of a secret: equal for equal secrets of one data folder, and of no use to whoever lacks
/// the key, unlike a hash, which gives guesses away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    /// Bytes of a fingerprint. More would tell no more secrets apart: a trigger has a handful.
    pub const BYTES: usize = 8;

    /// Takes the bytes of a fingerprint.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn bytes(self) -> [u8; Self::BYTES] {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
