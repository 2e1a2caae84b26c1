//! A key ready to verify with, and a check under way with it.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::hash::Hashing;
use super::jwt::{Alg, JwtKey};
use super::public_key::{Message, PublicKey};
use super::{Algorithm, KeyError};

/// A key, ready to verify with.
#[derive(Clone)]
pub struct Key {
    pub(super) material: Material,
    /// The secret itself, where what is signed includes it.
    pub(super) secret: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Clone)]
pub(super) enum Material {
    /// The state of an HMAC after its key block.
    Mac(Hashing),
    /// The secret is part of the content, and there is no key beside it.
    None,
    Public(PublicKey),
    Jwt(JwtKey),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    /// Prepares a key of the given bytes.
    pub(super) fn new(algorithm: Algorithm, algs: &[Alg], bytes: &[u8]) -> Result<Self, KeyError> {
        let material = match algorithm {
            Algorithm::Hmac(hash) => Material::Mac(Hashing::keyed(hash, bytes)),
            Algorithm::Digest(_) | Algorithm::Token => Material::None,
            Algorithm::Public(scheme) => {
                let key = PublicKey::read(bytes).filter(|key| key.fits(scheme));
                Material::Public(key.ok_or(KeyError::Form)?)
            }
            Algorithm::Jwt => Material::Jwt(JwtKey::new(algs, bytes)?),
        };
        Ok(Self { material, secret: None })
    }

    /// Takes a public key, if the algorithm is one that verifies with it.
    pub(super) fn of_public(algorithm: Algorithm, algs: &[Alg], key: &PublicKey) -> Option<Self> {
        let material = match algorithm {
            Algorithm::Public(scheme) if key.fits(scheme) => Material::Public(key.clone()),
            Algorithm::Jwt if algs.iter().filter_map(|alg| alg.public()).any(|scheme| key.fits(scheme)) => {
                Material::Jwt(JwtKey::Public(key.clone()))
            }
            _ => return None,
        };
        Some(Self { material, secret: None })
    }
}

/// A computation under way, to be held against signatures.
#[allow(clippy::large_enum_variant, reason = "one stands on the stack for one computation")]
pub(super) enum Check<'k> {
    Tag(Hashing),
    Token(Zeroizing<Vec<u8>>),
    Public(Message, &'k PublicKey, super::public_key::Scheme),
}

impl<'k> Check<'k> {
    /// Begins a computation; a token of its own kind is not computed.
    pub(super) fn new(algorithm: Algorithm, key: &'k Key) -> Option<Self> {
        Some(match (algorithm, &key.material) {
            (Algorithm::Hmac(_), Material::Mac(state)) => Check::Tag(state.clone()),
            (Algorithm::Digest(hash), _) => Check::Tag(Hashing::plain(hash)),
            (Algorithm::Token, _) => Check::Token(Zeroizing::new(Vec::new())),
            (Algorithm::Public(scheme), Material::Public(key)) => {
                Check::Public(Message::new(scheme), key, scheme)
            }
            _ => return None,
        })
    }

    /// Takes in further bytes of the content.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Check::Tag(state) => state.update(bytes),
            Check::Token(text) => text.extend_from_slice(bytes),
            Check::Public(message, ..) => message.update(bytes),
        }
    }

    /// Tells whether any of the signatures is good. What is secret is compared in a time that does not
    /// depend on where the first difference is.
    pub(super) fn accepts<'s>(self, signatures: impl Iterator<Item = &'s [u8]>) -> bool {
        match self {
            Check::Tag(state) => any_equal(&state.finish(), signatures),
            // Hashed first, so that not even the token's length shows.
            Check::Token(token) => {
                let expected = Sha256::digest(&*token);
                let given: Vec<_> = signatures.map(Sha256::digest).collect();
                any_equal(&expected, given.iter().map(|hash| &hash[..]))
            }
            Check::Public(message, key, scheme) => message.accepted_by(key, scheme, signatures),
        }
    }

    /// Returns what was computed, to be sent as the proof; a public key computes none.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        match self {
            Check::Tag(state) => Some(state.finish()),
            Check::Token(token) => Some(token.to_vec()),
            Check::Public(..) => None,
        }
    }
}

fn any_equal<'s>(expected: &[u8], given: impl Iterator<Item = &'s [u8]>) -> bool {
    given.fold(Choice::from(0), |any, signature| any | expected.ct_eq(signature)).into()
}
