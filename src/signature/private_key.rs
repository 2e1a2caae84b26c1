//! Private keys, to sign as a provider does where a test key pair stands for the provider's own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::Pss;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::hash::Hash;
use super::public_key::{Curve, Message, PublicKey, Scheme, pkcs1};

/// Bits of RSA keys that are made here.
const RSA_BITS: usize = 2048;

/// A private key.
#[derive(Clone)]
pub enum PrivateKey {
    /// For Ed25519.
    Ed25519(Box<ed25519_dalek::SigningKey>),
    /// For ECDSA on P-256.
    P256(Box<p256::ecdsa::SigningKey>),
    /// For ECDSA on P-521.
    P521(Box<p521::ecdsa::SigningKey>),
    /// For RSA.
    Rsa(Box<rsa::PrivateKey>),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

impl PrivateKey {
    /// Makes a key for a scheme from the system's random numbers.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers to give.
    pub fn generate(scheme: Scheme) -> Self {
        let mut random = UnwrapErr(SysRng);
        match scheme {
            Scheme::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *seed).expect("the system has random numbers");
                PrivateKey::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
            }
            Scheme::Ecdsa { curve, .. } => {
                use p256::elliptic_curve::Generate as _;
                match curve {
                    Curve::P256 => {
                        PrivateKey::P256(Box::new(p256::ecdsa::SigningKey::generate_from_rng(&mut random)))
                    }
                    Curve::P521 => {
                        PrivateKey::P521(Box::new(p521::ecdsa::SigningKey::generate_from_rng(&mut random)))
                    }
                }
            }
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) => {
                let key = rsa::PrivateKey::new(&mut random, RSA_BITS);
                PrivateKey::Rsa(Box::new(key.expect("there are primes of this size")))
            }
        }
    }

    /// Reads a key of PKCS #8 in PEM.
    pub fn of_pem(text: &str) -> Option<Self> {
        let ed25519 =
            ed25519_dalek::SigningKey::from_pkcs8_pem(text).map(|key| PrivateKey::Ed25519(Box::new(key)));
        let p256 =
            || p256::ecdsa::SigningKey::from_pkcs8_pem(text).map(|key| PrivateKey::P256(Box::new(key)));
        let p521 =
            || p521::ecdsa::SigningKey::from_pkcs8_pem(text).map(|key| PrivateKey::P521(Box::new(key)));
        let rsa = || rsa::PrivateKey::from_pkcs8_pem(text).map(|key| PrivateKey::Rsa(Box::new(key)));
        ed25519.ok().or_else(|| p256().ok()).or_else(|| p521().ok()).or_else(|| rsa().ok())
    }

    /// Writes the key as PKCS #8 in PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let pem = match self {
            PrivateKey::Ed25519(key) => key.to_pkcs8_pem(LineEnding::LF),
            PrivateKey::P256(key) => key.to_pkcs8_pem(LineEnding::LF),
            PrivateKey::P521(key) => key.to_pkcs8_pem(LineEnding::LF),
            PrivateKey::Rsa(key) => key.to_pkcs8_pem(LineEnding::LF),
        };
        pem.expect("a key of a known kind has a PKCS #8 form")
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey {
        match self {
            PrivateKey::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
            PrivateKey::P256(key) => PublicKey::P256(*key.verifying_key()),
            PrivateKey::P521(key) => PublicKey::P521(Box::new(*key.verifying_key())),
            PrivateKey::Rsa(key) => PublicKey::Rsa(Box::new(key.to_public_key())),
        }
    }

    /// Writes the public key as PEM, which every entry takes for its public key.
    pub fn public_pem(&self) -> String {
        let der = match self {
            PrivateKey::Ed25519(key) => key.verifying_key().to_public_key_der(),
            PrivateKey::P256(key) => key.verifying_key().to_public_key_der(),
            PrivateKey::P521(key) => key.verifying_key().to_public_key_der(),
            PrivateKey::Rsa(key) => key.to_public_key().to_public_key_der(),
        };
        let der = der.expect("a key of a known kind has an SPKI form");
        let text = STANDARD.encode(der.as_bytes());
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Signs a message; nothing comes of a key of another kind than the scheme's.
    pub(super) fn sign(&self, scheme: Scheme, message: Message) -> Option<Vec<u8>> {
        let message = message.finish();
        Some(match (self, scheme) {
            (PrivateKey::Ed25519(key), Scheme::Ed25519) => key.sign(&message).to_bytes().to_vec(),
            (PrivateKey::P521(key), Scheme::Ecdsa { curve: Curve::P521, der, .. }) => {
                let signature: p521::ecdsa::Signature = key.sign_prehash(&message).ok()?;
                if der { signature.to_der().as_bytes().to_vec() } else { signature.to_bytes().to_vec() }
            }
            (PrivateKey::P256(key), Scheme::Ecdsa { curve: Curve::P256, der, .. }) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(&message).ok()?;
                if der { signature.to_der().as_bytes().to_vec() } else { signature.to_bytes().to_vec() }
            }
            (PrivateKey::Rsa(key), Scheme::RsaPkcs1(hash)) => key.sign(pkcs1(hash), &message).ok()?,
            (PrivateKey::Rsa(key), Scheme::RsaPss(hash)) => {
                let mut random = UnwrapErr(SysRng);
                match hash {
                    Hash::Sha384 => key.sign_with_rng(&mut random, Pss::<Sha384>::new(), &message),
                    Hash::Sha512 => key.sign_with_rng(&mut random, Pss::<Sha512>::new(), &message),
                    _ => key.sign_with_rng(&mut random, Pss::<Sha256>::new(), &message),
                }
                .ok()?
            }
            _ => return None,
        })
    }
}
