//! What a proof is: the algorithms by their names in the catalogue.

use std::str::FromStr;

use super::hash::Hash;
use super::{Encoding, Error, public_key};

/// How a proof follows from the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Keyed hash of the content.
    Hmac(Hash),
    /// Plain hash of a content that includes the secret.
    Digest(Hash),
    /// The content itself, which is the secret: whoever sees one request can send another.
    Token,
    /// Signature by the provider's private key.
    Public(public_key::Scheme),
    /// A JSON Web Token (RFC 7519), bound to the request by its claims.
    Jwt,
}

impl Default for Algorithm {
    fn default() -> Self {
        Algorithm::Hmac(Hash::Sha256)
    }
}

impl Algorithm {
    /// Most bytes of one proof.
    pub(super) fn proof_bytes_max(self) -> usize {
        match self {
            Algorithm::Hmac(_) | Algorithm::Digest(_) => 64,
            // A key of 8192 bits signs with 1024 bytes.
            Algorithm::Public(_) => 1024,
            Algorithm::Token => 4 * 1024,
            // Where the whole body is the token, it carries the event.
            Algorithm::Jwt => 1024 * 1024,
        }
    }

    /// How proofs are written where an entry does not say.
    pub(super) fn encoding(self) -> Encoding {
        match self {
            Algorithm::Token | Algorithm::Jwt => Encoding::Text,
            _ => Encoding::Hex,
        }
    }

    /// Returns the scheme of a private key that the algorithm signs with, if it is one of those.
    pub fn public(self) -> Option<public_key::Scheme> {
        match self {
            Algorithm::Public(scheme) => Some(scheme),
            _ => None,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        use public_key::Curve;
        use public_key::Scheme::{Ecdsa, Ed25519, RsaPkcs1, RsaPss};
        let unknown = || Error::Word {
            what: "algorithm",
            text: text.to_owned(),
            known: "hmac-HASH, HASH, token, jwt, ed25519, ecdsa-CURVE-HASH, ecdsa-CURVE-HASH-raw (CURVE: p256, \
                    p521), rsa-pkcs1-HASH, rsa-pss-HASH",
        };
        let hash = |name: &str| name.parse().map_err(|_| unknown());
        if let Some(name) = text.strip_prefix("hmac-") {
            return hash(name).map(Algorithm::Hmac);
        }
        if let Some(name) = text.strip_prefix("rsa-pkcs1-") {
            return Ok(Algorithm::Public(RsaPkcs1(hash(name)?)));
        }
        if let Some(name) = text.strip_prefix("rsa-pss-") {
            return Ok(Algorithm::Public(RsaPss(hash(name)?)));
        }
        for (prefix, curve) in [("ecdsa-p256-", Curve::P256), ("ecdsa-p521-", Curve::P521)] {
            if let Some(name) = text.strip_prefix(prefix) {
                let (name, der) = name.strip_suffix("-raw").map_or((name, true), |name| (name, false));
                return Ok(Algorithm::Public(Ecdsa { curve, hash: hash(name)?, der }));
            }
        }
        match text {
            "token" => Ok(Algorithm::Token),
            "jwt" => Ok(Algorithm::Jwt),
            "ed25519" => Ok(Algorithm::Public(Ed25519)),
            name => hash(name).map(Algorithm::Digest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_have_names() {
        use public_key::{Curve, Scheme};
        let ecdsa = |curve, hash, der| Algorithm::Public(Scheme::Ecdsa { curve, hash, der });
        for (text, expected) in [
            ("hmac-sha1", Algorithm::Hmac(Hash::Sha1)),
            ("sha256", Algorithm::Digest(Hash::Sha256)),
            ("ecdsa-p256-sha1", ecdsa(Curve::P256, Hash::Sha1, true)),
            ("ecdsa-p256-sha256-raw", ecdsa(Curve::P256, Hash::Sha256, false)),
            ("ecdsa-p521-sha512-raw", ecdsa(Curve::P521, Hash::Sha512, false)),
            ("rsa-pkcs1-sha256", Algorithm::Public(Scheme::RsaPkcs1(Hash::Sha256))),
            ("rsa-pss-sha512", Algorithm::Public(Scheme::RsaPss(Hash::Sha512))),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for bad in ["", "hmac", "hmac-", "hmac-sha3", "rsa-pkcs1", "none", "ecdsa-p256"] {
            assert!(bad.parse::<Algorithm>().is_err(), "{bad}");
        }
    }
}
