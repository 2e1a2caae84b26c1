//! Hash functions by name, plain and keyed. MD5 and SHA-1 are here because providers use them; an
//! entry of the catalogue names them, nothing falls back to them.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::Error;

/// A hash function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hash {
    /// MD5 (RFC 1321).
    Md5,
    /// SHA-1 (FIPS 180-4).
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "md5" => Hash::Md5,
            "sha1" => Hash::Sha1,
            "sha256" => Hash::Sha256,
            "sha384" => Hash::Sha384,
            "sha512" => Hash::Sha512,
            _ => {
                let known = "md5, sha1, sha256, sha384, sha512";
                return Err(Error::Word { what: "hash", text: text.to_owned(), known });
            }
        })
    }
}

impl Hash {
    /// Returns the hash of some bytes.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let mut state = Hashing::plain(self);
        state.update(bytes);
        state.finish()
    }

    /// Returns the HMAC of some bytes.
    pub fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut state = Hashing::keyed(self, key);
        state.update(bytes);
        state.finish()
    }
}

/// A hash under way, plain or keyed. A keyed one holds the state after its key block; each request
/// clones it, so that the key is hashed once per trigger and not once per request.
#[derive(Clone)]
pub(super) enum Hashing {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    HmacMd5(Hmac<Md5>),
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
}

impl fmt::Debug for Hashing {
    /// The state follows from the key, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashing([redacted])")
    }
}

/// Does the same with the state of every hash.
macro_rules! each {
    ($state:expr, $hash:ident => $plain:expr, $mac:ident => $keyed:expr) => {
        match $state {
            Hashing::Md5($hash) => $plain,
            Hashing::Sha1($hash) => $plain,
            Hashing::Sha256($hash) => $plain,
            Hashing::Sha384($hash) => $plain,
            Hashing::Sha512($hash) => $plain,
            Hashing::HmacMd5($mac) => $keyed,
            Hashing::HmacSha1($mac) => $keyed,
            Hashing::HmacSha256($mac) => $keyed,
            Hashing::HmacSha384($mac) => $keyed,
            Hashing::HmacSha512($mac) => $keyed,
        }
    };
}

impl Hashing {
    pub(super) fn plain(hash: Hash) -> Self {
        match hash {
            Hash::Md5 => Hashing::Md5(Md5::new()),
            Hash::Sha1 => Hashing::Sha1(Sha1::new()),
            Hash::Sha256 => Hashing::Sha256(Sha256::new()),
            Hash::Sha384 => Hashing::Sha384(Sha384::new()),
            Hash::Sha512 => Hashing::Sha512(Sha512::new()),
        }
    }

    pub(super) fn keyed(hash: Hash, key: &[u8]) -> Self {
        const ANY_LENGTH: &str = "an HMAC takes keys of any length";
        match hash {
            Hash::Md5 => Hashing::HmacMd5(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Hash::Sha1 => Hashing::HmacSha1(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Hash::Sha256 => Hashing::HmacSha256(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Hash::Sha384 => Hashing::HmacSha384(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Hash::Sha512 => Hashing::HmacSha512(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        each!(self, hash => hash.update(bytes), mac => mac.update(bytes));
    }

    pub(super) fn finish(self) -> Vec<u8> {
        each!(self, hash => hash.finalize().to_vec(), mac => mac.finalize().into_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::hex;
    use super::*;

    fn check(hash: &str, digest: &str, hmac: &str) {
        let hash: Hash = hash.parse().unwrap();
        assert_eq!(hex(&hash.digest(b"abc")), digest);
        assert_eq!(hex(&hash.hmac(b"Jefe", b"what do ya want for nothing?")), hmac);
    }

    /// From FIPS 180-4's examples, RFC 1321, RFC 2202 and RFC 4231, test case 2.
    #[test]
    fn published_vectors_hold() {
        check("md5", "900150983cd24fb0d6963f7d28e17f72", "750c783e6ab0b503eaa86e310a5db738");
        check("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        check(
            "sha256",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check(
            "sha384",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7",
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e\
             8e2240ca5e69e2c78b3239ecfab21649",
        );
        check(
            "sha512",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        );
    }
}
