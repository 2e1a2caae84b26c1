//! Signs deliveries to functions in the Standard Webhooks scheme
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::event::Timestamp;
use crate::secrets::Secret;

/// What secrets of the scheme begin with; the reference libraries accept them without it, too.
const PREFIX: &[u8] = b"whsec_";

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The scheme's headers that differ from attempt to attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    /// `webhook-timestamp`: seconds since 1970.
    pub(super) timestamp: String,
    /// `webhook-signature`: one `v1,…` for each secret, the current one first.
    pub(super) signature: String,
}

/// Signs with every secret of a list, side by side, so that the receiver can change over without a gap.
#[derive(Clone)]
pub(super) struct Signer(Vec<Hmac<Sha256>>);

impl Signer {
    /// Takes the secrets, the current one first. `whsec_…` and what is base64 are decoded, as the reference
    /// libraries do; any other text is the key itself.
    pub(super) fn new(secrets: &[Secret]) -> Self {
        Self(secrets.iter().map(|secret| keyed(secret.expose())).collect())
    }

    /// Tells whether there is nothing to sign with.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Signs one message.
    pub(super) fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> Signed {
        let timestamp = now.as_second().to_string();
        let mut signature = String::with_capacity(self.0.len() * 48);
        for mac in &self.0 {
            let mut mac = mac.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            if !signature.is_empty() {
                signature.push(' ');
            }
            signature.push_str("v1,");
            STANDARD.encode_string(mac.finalize().into_bytes(), &mut signature);
        }
        Signed { timestamp, signature }
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    let text = secret.strip_prefix(PREFIX).unwrap_or(secret);
    let decoded = LENIENT.decode(text).map(zeroize::Zeroizing::new);
    let key = decoded.as_ref().map_or(secret, |key| key.as_slice());
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(secrets: &[&str], expected: &str) {
        let secrets: Vec<_> = secrets.iter().map(|&secret| Secret::new(secret)).collect();
        let now = Timestamp::from_second(1_614_265_330).unwrap();
        let signed =
            Signer::new(&secrets).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", now, br#"{"test": 2432232314}"#);
        assert_eq!(signed.timestamp, "1614265330");
        assert_eq!(signed.signature, expected);
    }

    /// The vector of the reference libraries' own tests.
    const PUBLISHED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn agrees_with_the_published_vector() {
        check(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], PUBLISHED);
        check(&["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], PUBLISHED);
    }

    #[test]
    fn several_secrets_sign_side_by_side() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        check(&[secret, secret], &format!("{PUBLISHED} {PUBLISHED}"));
    }

    #[test]
    fn text_that_is_not_base64_is_the_key_itself() {
        let sign = |secret: &str| {
            Signer::new(&[Secret::new(secret)]).sign("id", Timestamp::UNIX_EPOCH, b"").signature
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(b"plain text!").unwrap();
        mac.update(b"id.0.");
        assert_eq!(sign("plain text!"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    }
}
