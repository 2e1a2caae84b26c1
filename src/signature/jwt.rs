//! JSON Web Tokens (RFC 7519) as proofs. Strict: the entry says which algorithms are accepted, a token
//! with critical extensions is refused, and a public key is never used as the secret of an HMAC.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::hash::{Hash, Hashing};
use super::private_key::PrivateKey;
use super::public_key::{Curve, Message, PublicKey, Scheme};
use super::{Error, KeyError};
use crate::event::Timestamp;

/// How far clocks may differ where a token says from when and until when it holds, in seconds.
pub(super) const LEEWAY_S: i64 = 5;
/// How long tokens hold that are made here, in seconds.
const LIFETIME_S: i64 = 300;

/// An `alg` of a token's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alg {
    name: &'static str,
    with: With,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Shared(Hash),
    Public(Scheme),
}

const ES256: Scheme = Scheme::Ecdsa { curve: Curve::P256, hash: Hash::Sha256, der: false };
const ES512: Scheme = Scheme::Ecdsa { curve: Curve::P521, hash: Hash::Sha512, der: false };

/// Every algorithm that an entry may accept.
const ALGS: [Alg; 12] = [
    Alg { name: "HS256", with: With::Shared(Hash::Sha256) },
    Alg { name: "HS384", with: With::Shared(Hash::Sha384) },
    Alg { name: "HS512", with: With::Shared(Hash::Sha512) },
    Alg { name: "RS256", with: With::Public(Scheme::RsaPkcs1(Hash::Sha256)) },
    Alg { name: "RS384", with: With::Public(Scheme::RsaPkcs1(Hash::Sha384)) },
    Alg { name: "RS512", with: With::Public(Scheme::RsaPkcs1(Hash::Sha512)) },
    Alg { name: "PS256", with: With::Public(Scheme::RsaPss(Hash::Sha256)) },
    Alg { name: "PS384", with: With::Public(Scheme::RsaPss(Hash::Sha384)) },
    Alg { name: "PS512", with: With::Public(Scheme::RsaPss(Hash::Sha512)) },
    Alg { name: "ES256", with: With::Public(ES256) },
    Alg { name: "ES512", with: With::Public(ES512) },
    Alg { name: "EdDSA", with: With::Public(Scheme::Ed25519) },
];

impl FromStr for Alg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ALGS.into_iter().find(|alg| alg.name == text).ok_or_else(|| Error::Word {
            what: "JWT algorithm",
            text: text.to_owned(),
            known: "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES512, EdDSA",
        })
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl Alg {
    /// Returns the scheme of a private key that the algorithm signs with, if it is one of those.
    pub(super) fn public(self) -> Option<Scheme> {
        match self.with {
            With::Shared(_) => None,
            With::Public(scheme) => Some(scheme),
        }
    }
}

/// A claim that states a time, of those that tokens made here have as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeClaim(&'static str);

impl FromStr for TimeClaim {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = ["exp", "nbf", "iat"].into_iter().find(|name| *name == text);
        known.map(Self).ok_or_else(|| Error::Word {
            what: "claim of a time",
            text: text.to_owned(),
            known: "exp, nbf, iat",
        })
    }
}

impl fmt::Display for TimeClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim {}", self.0)
    }
}

/// What verifies tokens.
#[derive(Clone)]
pub(super) enum JwtKey {
    Shared(Zeroizing<Vec<u8>>),
    Public(PublicKey),
}

impl JwtKey {
    /// Prepares a key for the algorithms that an entry accepts. Where one of them verifies with a public
    /// key, that is what the bytes must be: they are never guessed to be something else.
    pub(super) fn new(algs: &[Alg], bytes: &[u8]) -> Result<Self, KeyError> {
        let mut public = algs.iter().filter_map(|alg| alg.public()).peekable();
        if public.peek().is_none() {
            return Ok(JwtKey::Shared(Zeroizing::new(bytes.to_vec())));
        }
        let key = PublicKey::read(bytes).filter(|key| public.any(|scheme| key.fits(scheme)));
        key.map(JwtKey::Public).ok_or(KeyError::Form)
    }

    fn accepts(&self, alg: Alg, input: &[u8], signature: &[u8]) -> bool {
        match (self, alg.with) {
            (JwtKey::Shared(key), With::Shared(hash)) => hash.hmac(key, input).ct_eq(signature).into(),
            (JwtKey::Public(key), With::Public(scheme)) => {
                message(scheme, input).accepted_by(key, scheme, std::iter::once(signature))
            }
            _ => false,
        }
    }
}

fn message(scheme: Scheme, input: &[u8]) -> Message {
    let mut message = Message::new(scheme);
    message.update(input);
    message
}

/// A token taken apart; nothing about it is verified yet.
pub(super) struct Token<'t> {
    input: &'t [u8],
    alg: String,
    /// Which of the provider's keys signed it.
    pub(super) key_id: Option<String>,
    pub(super) claims: Value,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes a token apart, or returns nothing if it is not one in compact form.
    pub(super) fn parse(text: &'t [u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let json = |part: &[u8]| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let input = &text[..header.len() + 1 + claims.len()];
        let (header, claims) = (json(header)?, json(claims)?);
        if header.contains_key("crit") || header.contains_key("b64") {
            return None;
        }
        // A time that is no number would be no limit.
        if ["nbf", "exp"].iter().any(|name| claims.get(*name).is_some_and(|time| !time.is_number())) {
            return None;
        }
        Some(Self {
            input,
            alg: header.get("alg")?.as_str()?.to_owned(),
            key_id: header.get("kid").and_then(Value::as_str).map(str::to_owned),
            claims: Value::Object(claims),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Returns the algorithm that the token says it is signed with, if it is one that has a name here.
    pub(super) fn algorithm(&self) -> Option<Alg> {
        self.alg.parse().ok()
    }

    /// Tells whether the token says that it is of one of the accepted algorithms.
    pub(super) fn is_of_any(&self, algs: &[Alg]) -> bool {
        algs.iter().any(|alg| alg.name == self.alg)
    }

    /// Tells whether the token is signed by a key, with one of the accepted algorithms.
    pub(super) fn is_signed_by(&self, key: &JwtKey, algs: &[Alg]) -> bool {
        let alg = algs.iter().find(|alg| alg.name == self.alg);
        alg.is_some_and(|alg| key.accepts(*alg, self.input, &self.signature))
    }

    /// Tells whether the token states a time.
    pub(super) fn states(&self, time: TimeClaim) -> bool {
        self.claims[time.0].is_number()
    }

    /// Returns how far `now` is outside of the time in which the token holds, in seconds: negative if
    /// it ended before, 0 within.
    pub(super) fn seconds_off(&self, now: Timestamp) -> i64 {
        let now = now.as_second();
        let at = |name: &str| self.claims[name].as_f64().map(|at| at as i64);
        match (at("nbf"), at("exp")) {
            (Some(from), _) if now.saturating_add(LEEWAY_S) < from => from.saturating_sub(now),
            (_, Some(until)) if now.saturating_sub(LEEWAY_S) >= until => until.saturating_sub(now),
            _ => 0,
        }
    }
}

/// What signs tokens.
pub(super) enum TokenSigner<'k> {
    Shared(&'k [u8]),
    Private(&'k PrivateKey),
}

/// Makes a token of claims, with the times that providers give theirs. Nothing comes of a key that
/// fits none of the algorithms.
pub(super) fn sign(
    algs: &[Alg],
    key: &TokenSigner<'_>,
    claims: Map<String, Value>,
    now: Timestamp,
) -> Option<String> {
    let fits = |alg: &&Alg| match (key, alg.with) {
        (TokenSigner::Shared(_), With::Shared(_)) => true,
        (TokenSigner::Private(key), With::Public(scheme)) => key.public().fits(scheme),
        _ => false,
    };
    let alg = algs.iter().find(fits)?;
    let mut all = Map::from_iter([
        ("iat".to_owned(), json!(now.as_second())),
        ("nbf".to_owned(), json!(now.as_second())),
        ("exp".to_owned(), json!(now.as_second().saturating_add(LIFETIME_S))),
    ]);
    all.extend(claims);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({"alg": alg.name, "typ": "JWT"}));
    let input = format!("{header}.{}", part(&Value::Object(all)));
    let signature = match (key, alg.with) {
        (TokenSigner::Shared(key), With::Shared(hash)) => {
            let mut state = Hashing::keyed(hash, key);
            state.update(input.as_bytes());
            state.finish()
        }
        (TokenSigner::Private(key), With::Public(scheme)) => {
            key.sign(scheme, message(scheme, input.as_bytes()))?
        }
        _ => return None,
    };
    Some(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn algs(names: &[&str]) -> Vec<Alg> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    /// Found by the fuzz target `token`.
    #[test]
    fn times_beyond_all_numbers_are_outside_of_the_window() {
        for (claims, is_past) in [(r#"{"exp":-1e70}"#, true), (r#"{"nbf":1e70}"#, false)] {
            let text = format!(
                "{}.{}.AA",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
                URL_SAFE_NO_PAD.encode(claims)
            );
            let token = Token::parse(text.as_bytes()).unwrap();
            for now in [now(), Timestamp::MIN, Timestamp::MAX] {
                let off = token.seconds_off(now);
                assert_eq!((off < 0, off > 0), (is_past, !is_past), "{claims} at {now}");
            }
        }
    }

    /// RFC 7515, appendix A.1.
    const PUBLISHED: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                             eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                             dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const PUBLISHED_KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

    #[test]
    fn the_published_token_verifies_in_its_time() {
        let algs = algs(&["HS256"]);
        let key = JwtKey::new(&algs, &URL_SAFE_NO_PAD.decode(PUBLISHED_KEY).unwrap()).unwrap();
        let token = Token::parse(PUBLISHED.as_bytes()).unwrap();
        assert!(token.is_signed_by(&key, &algs));
        assert_eq!(token.claims["iss"], "joe");
        let at = |second| token.seconds_off(Timestamp::from_second(second).unwrap());
        assert_eq!(at(1_300_819_380 + LEEWAY_S - 1), 0);
        assert_eq!(at(1_300_819_380 + LEEWAY_S), -LEEWAY_S);
        let changed = PUBLISHED.replace("dBjft", "dBjfs");
        assert!(!Token::parse(changed.as_bytes()).unwrap().is_signed_by(&key, &algs));
    }

    #[test]
    fn every_algorithm_signs_and_verifies() {
        for alg in ALGS {
            let (algs, claims) = ([alg], Map::from_iter([("a".to_owned(), json!("b"))]));
            let (text, key) = match alg.public() {
                None => (
                    sign(&algs, &TokenSigner::Shared(b"secret"), claims, now()),
                    JwtKey::new(&algs, b"secret").unwrap(),
                ),
                Some(scheme) => {
                    let private = PrivateKey::generate(scheme);
                    let public = JwtKey::new(&algs, private.public_pem().as_bytes()).unwrap();
                    (sign(&algs, &TokenSigner::Private(&private), claims, now()), public)
                }
            };
            let text = text.unwrap();
            let token = Token::parse(text.as_bytes()).unwrap();
            assert!(token.is_signed_by(&key, &algs), "{}", alg.name);
            assert_eq!(token.seconds_off(now()), 0);
            let others: Vec<Alg> = ALGS.into_iter().filter(|other| other.name != alg.name).collect();
            assert!(!token.is_signed_by(&key, &others), "{}", alg.name);
        }
    }

    #[test]
    fn a_public_key_is_never_the_secret_of_an_hmac() {
        let private = PrivateKey::generate(Scheme::Ed25519);
        let pem = private.public_pem();
        let both = algs(&["HS256", "EdDSA"]);
        let forged = sign(&both, &TokenSigner::Shared(pem.as_bytes()), Map::new(), now()).unwrap();
        let key = JwtKey::new(&both, pem.as_bytes()).unwrap();
        assert!(!Token::parse(forged.as_bytes()).unwrap().is_signed_by(&key, &both));
    }

    #[test]
    fn a_key_is_what_the_algorithms_take() {
        // These 32 bytes are a secret, and a point of Ed25519 as well.
        let secret = [3; 32];
        assert!(PublicKey::read(&secret).is_some());
        assert!(matches!(JwtKey::new(&algs(&["HS256"]), &secret), Ok(JwtKey::Shared(_))));
        assert!(matches!(JwtKey::new(&algs(&["EdDSA"]), &secret), Ok(JwtKey::Public(_))));
        for other in ["ES256", "RS256"] {
            assert!(JwtKey::new(&algs(&[other]), &secret).is_err(), "{other}");
        }
    }

    #[test]
    fn an_entry_does_not_take_both_shared_secrets_and_public_keys() {
        use crate::signature::{Fields, Scheme, Text};
        let scheme = |algs: &[&'static str]| {
            let text =
                Text { sig: vec!["header:x"], alg: Some("jwt"), algs: algs.to_vec(), ..Text::default() };
            Scheme::new(&text, &mut Fields::default())
        };
        assert!(scheme(&["HS256", "HS512"]).is_ok());
        assert!(scheme(&["RS256", "EdDSA"]).is_ok());
        assert!(scheme(&["HS256", "RS256"]).is_err());
    }

    #[test]
    fn only_times_of_tokens_can_be_demanded() {
        use crate::signature::{Fields, Scheme, Text};
        let demands = |alg, must_claim: &[&'static str]| {
            let (sig, algs, must_claim) = (vec!["header:x"], vec!["HS256"], must_claim.to_vec());
            let text = Text { sig, alg: Some(alg), algs, must_claim, ..Text::default() };
            Scheme::new(&text, &mut Fields::default()).is_ok()
        };
        assert!(demands("jwt", &["exp", "nbf", "iat"]));
        assert!(!demands("jwt", &["jti"]), "no token that is signed here would have it");
        assert!(!demands("hmac-sha256", &["exp"]));
    }

    #[test]
    fn what_is_no_plain_token_is_refused() {
        let with = |header: &str| format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        assert!(Token::parse(with(r#"{"alg":"HS256"}"#).as_bytes()).is_some());
        for bad in [
            "",
            "a.b",
            "e30.e30.e30.e30",
            "e30.e30.",
            &with(r#"{"alg":"HS256","crit":["x"]}"#),
            &with(r#"{"alg":"HS256","b64":false}"#),
            &with("[]"),
            &format!(
                "{}.{}.AAAA",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
                URL_SAFE_NO_PAD.encode(r#"{"exp":"9"}"#)
            ),
            &format!(
                "{}.{}.AAAA",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
                URL_SAFE_NO_PAD.encode(r#"{"nbf":null}"#)
            ),
            &format!("{}=.e30.AAAA", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)),
        ] {
            assert!(Token::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let none = with(r#"{"alg":"none"}"#);
        let (algs, token) = (algs(&["HS256"]), Token::parse(none.as_bytes()).unwrap());
        assert!(!token.is_signed_by(&JwtKey::new(&algs, b"k").unwrap(), &algs));
    }
}
