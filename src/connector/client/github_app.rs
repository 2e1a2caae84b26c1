//! Authentication as a GitHub App: a token that the app signs itself buys tokens of its installations.
//!
//! Tokens are kept until shortly before they expire, and each is fetched once however many callers want it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::Signer;
use serde_json::{Value, json};

use super::ClientError;
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::secrets::Secret;

/// How far before the present a token of the app begins: clocks differ.
const CLOCK_SKEW_S: i64 = 60;
/// How long a token of the app is good, in seconds; GitHub takes at most ten minutes from its beginning.
const APP_TOKEN_S: i64 = 9 * 60;
/// A token is fetched anew this long before it expires, so that none expires on its way.
const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);
/// How long a token is used whose end the provider does not say; GitHub's are good for an hour.
const UNSAID_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long nobody asks again after tokens could not be had, so that many callers are not as many failures.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Most installations whose tokens are kept; beyond it, those that nobody waits for are forgotten.
const INSTALLATIONS_MAX: usize = 1_000;

/// Returns the token with which the app shows who it is.
///
/// # Errors
///
/// If the key is no RSA private key in PEM; the text does not repeat it.
pub(super) fn app_token(key: &Secret, app_id: &str, now: Timestamp) -> Result<Secret, String> {
    let begins = now.as_second() - CLOCK_SKEW_S;
    let claims = json!({"iat": begins, "exp": begins + APP_TOKEN_S, "iss": app_id});
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(key, signed.as_bytes())?);
    Ok(Secret::new(format!("{signed}.{signature}")))
}

/// Tells whether GitHub may know an app by this: its number, or its client id.
pub(super) fn is_app_id(text: &str) -> bool {
    let is_client_id = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    match text.strip_prefix("Iv") {
        Some(rest) => !rest.is_empty() && is_client_id(rest),
        None => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Tells whether GitHub may know an installation by this.
pub(super) fn is_installation_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Validates that a secret is a key that an app may sign with.
///
/// # Errors
///
/// If it is no RSA private key in PEM; the text does not repeat it.
pub(super) fn validate_app_key(key: &Secret) -> Result<(), String> {
    signer(key).map(drop)
}

/// Signs with RS256. The key is rustls' provider's to use: it takes the same time whatever the key is.
fn sign(key: &Secret, message: &[u8]) -> Result<Vec<u8>, String> {
    signer(key)?.sign(message).map_err(|_| "the private key does not sign".to_owned())
}

fn signer(key: &Secret) -> Result<Box<dyn Signer>, String> {
    let expected = "the private key is no RSA key in PEM, as GitHub hands it out";
    let text = std::str::from_utf8(key.expose()).map_err(|_| expected)?;
    // Variables often hold the key on one line.
    let text = zeroize::Zeroizing::new(text.replace("\\n", "\n"));
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| expected)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| expected)?;
    Ok(key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or(expected)?)
}

/// A token of an installation, and how long it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) secret: Secret,
    refresh_at: Timestamp,
}

impl Token {
    /// Reads GitHub's answer.
    ///
    /// # Errors
    ///
    /// If it has no token.
    pub(super) fn read(answer: &Value, now: Timestamp) -> Result<Self, String> {
        let token = answer["token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or("the answer to the request for a token has none")?;
        let expires = answer["expires_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let refresh_at = match expires {
            Some(expires) => expires.checked_sub(REFRESH_BEFORE),
            None => now.checked_add(UNSAID_LIFETIME),
        };
        Ok(Self { secret: Secret::new(token), refresh_at: refresh_at.map_err(|error| error.to_string())? })
    }
}

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Good(Token),
    Failed {
        until: Timestamp,
        error: ClientError,
    },
}

type Slot = Arc<tokio::sync::Mutex<State>>;

/// The tokens of an app's installations.
pub(super) struct Tokens {
    clock: Clock,
    slots: Mutex<BTreeMap<String, Slot>>,
}

impl Tokens {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, slots: Mutex::default() }
    }

    fn slot(&self, installation: &str) -> Slot {
        let mut slots = self.slots.lock();
        if slots.len() >= INSTALLATIONS_MAX && !slots.contains_key(installation) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(installation.to_owned()).or_default().clone()
    }

    /// Returns the token of an installation, fetched where there is none that is good. Callers at the same
    /// moment wait for one fetch; where the one that fetches gives up, the next one does.
    ///
    /// # Errors
    ///
    /// As `fetch`; where it failed a moment ago, with the same words.
    pub(super) async fn get(
        &self,
        installation: &str,
        fetch: impl Future<Output = Result<Token, ClientError>>,
    ) -> Result<Token, ClientError> {
        let slot = self.slot(installation);
        let mut state = slot.lock().await;
        let now = self.clock.now();
        match &*state {
            State::Good(token) if now < token.refresh_at => return Ok(token.clone()),
            State::Failed { until, error } if now < *until => {
                if let Some(same) = again(error) {
                    return Err(same);
                }
            }
            _ => {}
        }
        let fetched = fetch.await;
        *state = match &fetched {
            Ok(token) => State::Good(token.clone()),
            Err(error) => match again(error) {
                Some(error) => {
                    let until = self.clock.now().checked_add(FAILURE_KEPT).unwrap_or(now);
                    State::Failed { until, error }
                }
                None => State::Empty,
            },
        };
        fetched
    }

    /// Forgets a token that the provider no longer takes, unless another one took its place meanwhile.
    pub(super) async fn forget(&self, installation: &str, refused: &Secret) {
        let slot = self.slot(installation);
        let mut state = slot.lock().await;
        if matches!(&*state, State::Good(token) if token.secret == *refused) {
            *state = State::Empty;
        }
    }
}

/// Returns a failure for the next caller too; nothing of one that concerns its own caller's time, or that the permits
/// tell better.
fn again(error: &ClientError) -> Option<ClientError> {
    match error {
        ClientError::Credentials(why) => Some(ClientError::Credentials(why.clone())),
        ClientError::Unreachable(why) => Some(ClientError::Unreachable(why.clone())),
        ClientError::Refused { status, message } => {
            Some(ClientError::Refused { status: *status, message: message.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::signature::{Hash, PrivateKey, PublicScheme};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn token(name: &str, lives: i64, now: i64) -> Token {
        let answer = json!({"token": name, "expires_at": at(now + lives).to_string()});
        Token::read(&answer, at(now)).unwrap()
    }

    #[test]
    fn the_app_signs_a_short_lived_token() {
        let pem = PrivateKey::generate(PublicScheme::RsaPkcs1(Hash::Sha256)).to_pem();
        for text in [pem.to_string(), pem.trim_end().replace('\n', "\\n")] {
            let jwt = app_token(&Secret::new(text), "12345", at(0)).unwrap();
            let jwt = String::from_utf8(jwt.expose().to_vec()).unwrap();
            let parts: Vec<&str> = jwt.split('.').collect();
            let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
            let now = at(0).as_second();
            assert_eq!(claims, json!({"iat": now - 60, "exp": now + 480, "iss": "12345"}));
            assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 256);
        }
    }

    #[test]
    fn what_is_no_rsa_key_is_refused_without_being_shown() {
        let ed25519 = PrivateKey::generate(PublicScheme::Ed25519).to_pem().to_string();
        for text in ["hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----", &ed25519] {
            let error = app_token(&Secret::new(text), "1", at(0)).unwrap_err();
            assert!(error.contains("RSA key in PEM") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_app_is_known_by_its_number_or_its_client_id() {
        for good in ["12345", "Iv1.8a61f9b3a7aba766", "Iv23liabcDEF"] {
            assert!(is_app_id(good), "{good}");
        }
        for bad in ["", "Iv", "my-app", " 12345", "12345\n", "Iv1/../x"] {
            assert!(!is_app_id(bad), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn fifty_callers_are_one_fetch() {
        let tokens = Arc::new(Tokens::new(Clock::fixed(at(0))));
        let fetches = Arc::new(AtomicUsize::new(0));
        let get = |installation: &'static str| {
            let (tokens, fetches) = (tokens.clone(), fetches.clone());
            let fetch = async move {
                fetches.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(token("t", 3600, 0))
            };
            async move { tokens.get(installation, fetch).await.unwrap() }
        };
        let mut callers = tokio::task::JoinSet::new();
        (0..50).for_each(|_| drop(callers.spawn(get("1"))));
        let found = callers.join_all().await;
        assert!(found.iter().all(|found| found.secret == Secret::new("t")));
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        get("2").await;
        assert_eq!(fetches.load(Ordering::Relaxed), 2, "each installation has its own");
    }

    #[tokio::test]
    async fn a_token_is_fetched_anew_before_it_expires_and_when_it_is_refused() {
        let clock = Clock::fixed(at(0));
        let tokens = Tokens::new(clock.clone());
        let get = async |name: &str, now: i64| {
            clock.set(at(now));
            let found = tokens.get("1", async { Ok(token(name, 3600, now)) }).await.unwrap();
            String::from_utf8(found.secret.expose().to_vec()).unwrap()
        };
        assert_eq!(get("a", 0).await, "a");
        assert_eq!(get("b", 3299).await, "a");
        assert_eq!(get("b", 3300).await, "b");
        tokens.forget("1", &Secret::new("a")).await;
        assert_eq!(get("c", 3301).await, "b", "a late refusal of an old token takes nothing away");
        tokens.forget("1", &Secret::new("b")).await;
        assert_eq!(get("c", 3302).await, "c");
    }

    #[tokio::test]
    async fn a_failure_is_not_repeated_at_once_by_everybody() {
        let clock = Clock::fixed(at(0));
        let tokens = Tokens::new(clock.clone());
        let failing = || async { Err(ClientError::Credentials("no".to_owned())) };
        assert!(tokens.get("1", failing()).await.is_err());
        let good = || async { Ok(token("t", 3600, 0)) };
        assert_eq!(tokens.get("1", good()).await.unwrap_err().to_string(), "credentials: no");
        clock.set(at(6));
        assert!(tokens.get("1", good()).await.is_ok());
        let slow = tokens.get("2", std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
        assert!(tokens.get("2", good()).await.is_ok(), "who gives up leaves it to the next");
    }

    #[tokio::test]
    async fn installations_are_forgotten_beyond_a_bound() {
        let tokens = Tokens::new(Clock::fixed(at(0)));
        for number in 0..INSTALLATIONS_MAX + 5 {
            tokens.get(&number.to_string(), async { Ok(token("t", 3600, 0)) }).await.unwrap();
        }
        assert!(tokens.slots.lock().len() <= INSTALLATIONS_MAX);
    }
}
