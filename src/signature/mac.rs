//! Keyed hashes. A [`Key`] holds the state of an HMAC after its key block; each request clones it,
//! so that the key is hashed once per trigger and not once per request.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use super::Error;

/// Bytes of the longest tag.
pub(super) const TAG_BYTES_MAX: usize = 64;

/// How a tag is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "hmac-sha256" => Ok(Algorithm::HmacSha256),
            "hmac-sha384" => Ok(Algorithm::HmacSha384),
            "hmac-sha512" => Ok(Algorithm::HmacSha512),
            _ => Err(Error::Word {
                what: "algorithm",
                text: text.to_owned(),
                known: "hmac-sha256, hmac-sha384, hmac-sha512",
            }),
        }
    }
}

/// A key, ready to compute. Also the state of a computation under way.
#[derive(Clone)]
pub enum Key {
    /// For HMAC with SHA-256.
    Sha256(Hmac<Sha256>),
    /// For HMAC with SHA-384.
    Sha384(Hmac<Sha384>),
    /// For HMAC with SHA-512.
    Sha512(Hmac<Sha512>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    /// Prepares a key of the given bytes.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Self {
        const ANY_LENGTH: &str = "an HMAC takes keys of any length";
        match algorithm {
            Algorithm::HmacSha256 => Key::Sha256(Hmac::new_from_slice(bytes).expect(ANY_LENGTH)),
            Algorithm::HmacSha384 => Key::Sha384(Hmac::new_from_slice(bytes).expect(ANY_LENGTH)),
            Algorithm::HmacSha512 => Key::Sha512(Hmac::new_from_slice(bytes).expect(ANY_LENGTH)),
        }
    }

    /// Takes in further bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Key::Sha256(mac) => mac.update(bytes),
            Key::Sha384(mac) => mac.update(bytes),
            Key::Sha512(mac) => mac.update(bytes),
        }
    }

    /// Computes the tag of what was taken in.
    pub fn finish(self) -> Tag {
        match self {
            Key::Sha256(mac) => Tag::new(&mac.finalize().into_bytes()),
            Key::Sha384(mac) => Tag::new(&mac.finalize().into_bytes()),
            Key::Sha512(mac) => Tag::new(&mac.finalize().into_bytes()),
        }
    }
}

/// A computed tag.
pub struct Tag {
    bytes: [u8; TAG_BYTES_MAX],
    len: usize,
}

impl Tag {
    fn new(tag: &[u8]) -> Self {
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes[..tag.len()].copy_from_slice(tag);
        Self { bytes, len: tag.len() }
    }

    /// Returns the tag's bytes, for signing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Compares in a time that depends on the lengths alone.
    pub fn matches(&self, candidate: &[u8]) -> subtle::Choice {
        self.as_bytes().ct_eq(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::encoding::hex;

    fn check(algorithm: Algorithm, expected: &str) {
        // RFC 4231, test case 2.
        let mut key = Key::new(algorithm, b"Jefe");
        key.update(b"what do ya want ");
        key.update(b"for nothing?");
        assert_eq!(hex(key.finish().as_bytes()), expected);
    }

    #[test]
    fn tags_agree_with_rfc_4231() {
        check(Algorithm::HmacSha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        check(
            Algorithm::HmacSha384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
        );
        check(
            Algorithm::HmacSha512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        );
    }

    #[test]
    fn a_prefix_of_the_tag_does_not_match() {
        let tag = Key::new(Algorithm::HmacSha256, b"k").finish();
        assert!(bool::from(tag.matches(tag.as_bytes())));
        assert!(!bool::from(tag.matches(&tag.as_bytes()[..31])));
        assert!(!bool::from(tag.matches(b"")));
    }
}
