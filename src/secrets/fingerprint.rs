//! Makes the fingerprints under which the timeline of a secret is kept.
//!
//! Their key is random and itself sealed under the master key: a hash of the secret would let guesses be tried,
//! and a key derived from the master key would end every timeline when that is changed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{SealError, Secret};
use crate::event::Fingerprint;

/// The name under which the key of fingerprints is kept sealed. No name that users give has a colon.
pub const FINGERPRINT_KEY: &str = "hookkeeper:fingerprints";

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// Makes fingerprints.
pub struct Fingerprints(Secret);

impl Fingerprints {
    /// Makes a new key; it is to be kept sealed as [`FINGERPRINT_KEY`].
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn random() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(|_| SealError::Random)?;
        Ok(Self(Secret::new(bytes.as_slice())))
    }

    /// Takes a key that was kept.
    pub fn of_key(key: Secret) -> Self {
        Self(key)
    }

    /// Returns the key, to be kept.
    pub fn key(&self) -> &Secret {
        &self.0
    }

    /// Returns the fingerprint of a secret.
    pub fn of(&self, secret: &Secret) -> Fingerprint {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        let code = mac.chain_update(secret.expose()).finalize().into_bytes();
        let (bytes, _) = code.split_first_chunk().expect("SHA-256 has more bytes than a fingerprint");
        Fingerprint::from_bytes(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_depend_on_the_key_and_on_the_secret() {
        let (one, other) = (Fingerprints::random().unwrap(), Fingerprints::random().unwrap());
        let again = Fingerprints::of_key(one.key().clone());
        let [a, b] = ["a", "b"].map(Secret::new);
        assert_eq!(one.of(&a), again.of(&a));
        assert!(one.of(&a) != one.of(&b) && one.of(&a) != other.of(&a));
        assert_eq!(one.of(&a).to_string().len(), 2 * Fingerprint::BYTES);
    }
}
