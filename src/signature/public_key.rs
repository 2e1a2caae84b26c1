//! Public keys and what they verify: Ed25519, ECDSA on P-256 and P-521, RSA. Keys are read in every form that
//! providers hand them out in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, DecodePem as _, Encode as _};

use super::hash::{Hash, Hashing};
use crate::event::Timestamp;

/// Fewest bits of an RSA key that is worth verifying with.
const RSA_BITS_MIN: u32 = 1024;
/// Most bytes of a key's text; the longest certificates of providers have a quarter of it.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// How a signature is made with a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Ed25519 (RFC 8032), verified strictly: no weak keys, no second form of a signature.
    Ed25519,
    /// ECDSA over a hash; the signature is DER, or the two numbers one after the other.
    Ecdsa {
        /// The curve.
        curve: Curve,
        /// The hash.
        hash: Hash,
        /// Whether the signature is DER.
        der: bool,
    },
    /// RSA with PKCS #1 v1.5 padding.
    RsaPkcs1(Hash),
    /// RSA with PSS padding, the salt as long as the hash.
    RsaPss(Hash),
}

/// A curve of NIST (FIPS 186-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// P-256.
    P256,
    /// P-521.
    P521,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// For Ed25519.
    Ed25519(ed25519_dalek::VerifyingKey),
    /// For ECDSA on P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// For ECDSA on P-521.
    P521(Box<p521::ecdsa::VerifyingKey>),
    /// For RSA.
    Rsa(Box<rsa::PublicKey>),
}

impl PublicKey {
    /// Reads a key: PEM (SPKI, PKCS #1, certificate), a JWK, DER, 32 raw bytes of Ed25519, or a point of
    /// P-256 or P-521.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > TEXT_BYTES_MAX {
            return None;
        }
        match std::str::from_utf8(bytes).map(str::trim) {
            Ok(text) if text.starts_with("-----BEGIN ") => Self::of_pem(text),
            Ok(text) if text.starts_with('{') => Self::of_jwk(&serde_json::from_str(text).ok()?),
            _ => Self::of_bytes(bytes),
        }
    }

    /// Tells whether the text says itself what key it is, so that no pipe has to take it apart.
    pub(super) fn is_self_describing(bytes: &[u8]) -> bool {
        let text = bytes.trim_ascii_start();
        text.starts_with(b"-----BEGIN ") || text.starts_with(b"{")
    }

    fn of_pem(text: &str) -> Option<Self> {
        // Environment variables often hold line ends as two characters.
        let text = text.replace("\\n", "\n");
        let text = if text.contains('\n') { text } else { in_lines(&text)? };
        if text.starts_with("-----BEGIN CERTIFICATE-----") {
            return Self::of_certificate(&Certificate::from_pem(text.as_bytes()).ok()?);
        }
        let rsa =
            rsa::PublicKey::from_public_key_pem(&text).or_else(|_| rsa::PublicKey::from_pkcs1_pem(&text));
        if let Ok(key) = rsa {
            return Self::of_rsa(key);
        }
        let p256 = p256::ecdsa::VerifyingKey::from_public_key_pem(&text).map(PublicKey::P256);
        let p521 = || p521::ecdsa::VerifyingKey::from_public_key_pem(&text).map(Self::of_p521);
        p256.ok().or_else(|| p521().ok()).or_else(|| {
            ed25519_dalek::VerifyingKey::from_public_key_pem(&text).ok().and_then(Self::of_ed25519)
        })
    }

    /// Reads a JSON Web Key (RFC 7517).
    pub fn of_jwk(key: &Value) -> Option<Self> {
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?.trim_end_matches('=')).ok();
        match (key["kty"].as_str()?, key["crv"].as_str()) {
            ("OKP", Some("Ed25519")) => Self::of_bytes(&bytes("x")?),
            ("EC", Some("P-256")) => Self::of_bytes(&point(&bytes("x")?, &bytes("y")?, 32)?),
            // Some write the numbers of P-521 without their leading zero.
            ("EC", Some("P-521")) => Self::of_bytes(&point(&bytes("x")?, &bytes("y")?, 66)?),
            ("RSA", _) => {
                let number = |name| Some(BoxedUint::from_be_slice_vartime(&bytes(name)?));
                Self::of_rsa(rsa::PublicKey::new(number("n")?, number("e")?).ok()?)
            }
            _ => None,
        }
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(key) = <[u8; 32]>::try_from(bytes) {
            return Self::of_ed25519(ed25519_dalek::VerifyingKey::from_bytes(&key).ok()?);
        }
        if let (33 | 65, Ok(key)) = (bytes.len(), p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes)) {
            return Some(PublicKey::P256(key));
        }
        if let (67 | 133, Ok(key)) = (bytes.len(), p521::ecdsa::VerifyingKey::from_sec1_bytes(bytes)) {
            return Some(Self::of_p521(key));
        }
        Self::of_spki(bytes).or_else(|| Self::of_certificate(&Certificate::from_der(bytes).ok()?))
    }

    fn of_spki(der: &[u8]) -> Option<Self> {
        if let Ok(key) = rsa::PublicKey::from_public_key_der(der) {
            return Self::of_rsa(key);
        }
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Some(PublicKey::P256(key));
        }
        if let Ok(key) = p521::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Some(Self::of_p521(key));
        }
        Self::of_ed25519(ed25519_dalek::VerifyingKey::from_public_key_der(der).ok()?)
    }

    /// Takes a key of which there is no second one that makes the same signatures.
    fn of_ed25519(key: ed25519_dalek::VerifyingKey) -> Option<Self> {
        (!key.is_weak()).then_some(PublicKey::Ed25519(key))
    }

    fn of_p521(key: p521::ecdsa::VerifyingKey) -> Self {
        PublicKey::P521(Box::new(key))
    }

    fn of_rsa(key: rsa::PublicKey) -> Option<Self> {
        (key.n().bit_width() >= RSA_BITS_MIN).then(|| PublicKey::Rsa(Box::new(key)))
    }

    fn of_certificate(certificate: &Certificate) -> Option<Self> {
        Self::of_spki(&certificate.tbs_certificate().subject_public_key_info().to_der().ok()?)
    }

    /// Reads the key of a certificate, PEM or DER, that is valid at `now`. Who issued it is not looked
    /// at: it is as trustworthy as the place that it comes from.
    pub fn of_valid_certificate(bytes: &[u8], now: Timestamp) -> Option<Self> {
        if bytes.len() > TEXT_BYTES_MAX {
            return None;
        }
        let pem = bytes.trim_ascii_start().starts_with(b"-----BEGIN ");
        // Where a chain is given, its first certificate is the signer's.
        let first = if pem { first_pem(bytes)? } else { bytes };
        let certificate =
            if pem { Certificate::from_pem(first).ok()? } else { Certificate::from_der(first).ok()? };
        let validity = certificate.tbs_certificate().validity();
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        let now = u64::try_from(now.as_second()).ok()?;
        let is_valid = (seconds(&validity.not_before)..=seconds(&validity.not_after)).contains(&now);
        is_valid.then(|| Self::of_certificate(&certificate))?
    }

    /// Tells whether the key is of the kind that a scheme needs.
    pub fn fits(&self, scheme: Scheme) -> bool {
        matches!(
            (self, scheme),
            (PublicKey::Ed25519(_), Scheme::Ed25519)
                | (PublicKey::P256(_), Scheme::Ecdsa { curve: Curve::P256, .. })
                | (PublicKey::P521(_), Scheme::Ecdsa { curve: Curve::P521, .. })
                | (PublicKey::Rsa(_), Scheme::RsaPkcs1(_) | Scheme::RsaPss(_))
        )
    }

    /// Tells whether a signature of a message, or of the hash that the scheme begins with, is good.
    fn accepts(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        match (self, scheme) {
            (PublicKey::Ed25519(key), Scheme::Ed25519) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            (PublicKey::P521(key), Scheme::Ecdsa { curve: Curve::P521, der, .. }) => {
                let signature = if der {
                    p521::ecdsa::Signature::from_der(signature)
                } else {
                    p521::ecdsa::Signature::from_slice(signature)
                };
                signature.is_ok_and(|signature| key.verify_prehash(message, &signature).is_ok())
            }
            (PublicKey::P256(key), Scheme::Ecdsa { curve: Curve::P256, der, .. }) => {
                let signature = if der {
                    p256::ecdsa::Signature::from_der(signature)
                } else {
                    p256::ecdsa::Signature::from_slice(signature)
                };
                signature.is_ok_and(|signature| key.verify_prehash(message, &signature).is_ok())
            }
            (PublicKey::Rsa(key), Scheme::RsaPkcs1(hash)) => {
                key.verify(pkcs1(hash), message, signature).is_ok()
            }
            (PublicKey::Rsa(key), Scheme::RsaPss(hash)) => match hash {
                Hash::Sha384 => key.verify(Pss::<Sha384>::new(), message, signature).is_ok(),
                Hash::Sha512 => key.verify(Pss::<Sha512>::new(), message, signature).is_ok(),
                _ => key.verify(Pss::<Sha256>::new(), message, signature).is_ok(),
            },
            _ => false,
        }
    }
}

/// Puts the line ends into a PEM text that was written without them.
fn in_lines(text: &str) -> Option<String> {
    let (label, rest) = text.strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let (base64, _) = rest.split_once("-----END ")?;
    let base64: Vec<char> = base64.chars().filter(|c| !c.is_whitespace()).collect();
    let lines: Vec<String> = base64.chunks(64).map(|line| line.iter().collect()).collect();
    Some(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")))
}

/// Writes a point of a curve whose numbers have so many bytes.
fn point(x: &[u8], y: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let padded = |number: &[u8]| {
        // All of P-256 must be there; of P-521 the first byte is 0 or 1.
        let missing =
            bytes.checked_sub(number.len()).filter(|missing| *missing <= usize::from(bytes > 32))?;
        Some([&vec![0; missing][..], number].concat())
    };
    Some([&[4][..], &padded(x)?, &padded(y)?].concat())
}

/// The padding of PKCS #1 v1.5 for a hash.
pub(super) fn pkcs1(hash: Hash) -> Pkcs1v15Sign {
    match hash {
        Hash::Md5 | Hash::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
        Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
        Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
        Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
    }
}

/// Returns the first block of a PEM text.
fn first_pem(text: &[u8]) -> Option<&[u8]> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let end = text.find(END)? + END.len();
    Some(&text.as_bytes()[..end])
}

/// Content under way to be checked against signatures. Only Ed25519 needs it as a whole.
pub(super) enum Message {
    Hashing(Box<Hashing>),
    Whole(Vec<u8>),
}

impl Message {
    pub(super) fn new(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Ed25519 => Message::Whole(Vec::new()),
            Scheme::Ecdsa { hash, .. } | Scheme::RsaPkcs1(hash) | Scheme::RsaPss(hash) => {
                Message::Hashing(Box::new(Hashing::plain(hash)))
            }
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Message::Hashing(state) => state.update(bytes),
            Message::Whole(message) => message.extend_from_slice(bytes),
        }
    }

    /// Returns what is signed: the hash, or the whole message.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Message::Hashing(state) => state.finish(),
            Message::Whole(message) => message,
        }
    }

    /// Tells whether any of the signatures is the key's.
    pub(super) fn accepted_by(
        self,
        key: &PublicKey,
        scheme: Scheme,
        mut signatures: impl Iterator<Item = impl AsRef<[u8]>>,
    ) -> bool {
        let message = self.finish();
        signatures.any(|signature| key.accepts(scheme, &message, signature.as_ref()))
    }
}
