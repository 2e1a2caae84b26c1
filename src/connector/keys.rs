//! The keys that a trigger verifies with: of its secrets, of the entry, of the operator, or fetched from
//! the provider. Fetching itself is somebody else's: here it is said what is wanted, and read what came.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::plan::{BuildError, Form, KeySource, Plan};
use crate::catalog::{KeyDocument, SIGNING_SECRET};
use crate::event::Timestamp;
use crate::secrets::Secret;
use crate::signature::{Context, Filter, Key, KeyError, Named, PublicKey, Template, Values};

/// Most secrets of one list that are tried for a request. A forged request costs one hash of its body
/// for each.
pub const SECRETS_MAX: usize = 8;
/// Most keys of one document that are looked at.
const KEYS_MAX: usize = 64;

/// A public key that a provider published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedKey {
    /// The name that the provider gives it.
    pub id: Option<String>,
    /// The key.
    pub key: PublicKey,
}

impl FetchedKey {
    /// Reads what somebody who has captured a request knows of the provider's keys: the text of a key, a
    /// certificate, a JWK or a key set, under its name or URL.
    pub fn read(name: &str, value: &Value) -> Vec<Self> {
        let named = |key: PublicKey| vec![FetchedKey { id: Some(name.to_owned()), key }];
        match value {
            Value::Object(set) if set.contains_key("keys") => of_jwks(value.to_string().as_bytes()),
            Value::Object(_) => PublicKey::of_jwk(value).map(named).unwrap_or_default(),
            Value::String(text) => match serde_json::from_str::<Value>(text) {
                Ok(value @ Value::Object(_)) => Self::read(name, &value),
                _ => {
                    let bytes = STANDARD.decode(text.trim()).ok();
                    let key = PublicKey::read(text.as_bytes());
                    key.or_else(|| PublicKey::read(&bytes?)).map(named).unwrap_or_default()
                }
            },
            _ => Vec::new(),
        }
    }
}

/// What must be fetched to verify a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// What the answer holds.
    pub from: KeyDocument,
    /// Where: an https URL.
    pub url: String,
    /// Hosts that may be asked; a `*` stands for one or more characters.
    pub hosts: Vec<String>,
    /// Method.
    pub method: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// JSON pointer to the key in the answer, where that is JSON.
    pub pointer: String,
    /// Which of the provider's keys the request names.
    pub key_id: Option<String>,
    /// How long the answer may be kept.
    pub cache: Duration,
    /// The name of a secret that the trigger needs for the request and does not have.
    pub lacks: Option<String>,
}

impl KeyRequest {
    /// Says what to fetch, or nothing if the request lacks a value that the URL is made of.
    pub(super) fn new(source: &KeySource, values: &Values<'_>, key_id: Option<String>) -> Option<Self> {
        let named = Self::named(source, values, key_id)?;
        let context = named.context(values);
        let value = |template: &Template| String::from_utf8(template.fill(&context).ok()?).ok();
        let mut templates = source.headers.iter().map(|(_, value)| value).chain([&source.body]);
        if let Some(name) = templates.find_map(|template| template.lacks_secret(values)) {
            let lacks = Some(name.to_owned());
            return Some(Self { lacks, ..named });
        }
        let headers = source.headers.iter().map(|(name, template)| Some((name.clone(), value(template)?)));
        let headers = headers.collect::<Option<_>>()?;
        let body = source.body.fill(&context).ok()?;
        Some(Self { headers, body, ..named })
    }

    /// Says which key is meant, for whoever has it and need not fetch it.
    pub(super) fn named(source: &KeySource, values: &Values<'_>, key_id: Option<String>) -> Option<Self> {
        let mut named = Self {
            from: source.from,
            url: String::new(),
            hosts: source.hosts.clone(),
            method: source.method.clone(),
            headers: Vec::new(),
            body: Vec::new(),
            pointer: source.pointer.clone(),
            key_id,
            cache: source.cache,
            lacks: None,
        };
        named.url = String::from_utf8(source.url.fill(&named.context(values)).ok()?).ok()?;
        // A request that names a foreign place for the key is not the provider's.
        allowed_host(&named.url, &named.hosts)?;
        Some(named)
    }

    fn context<'a>(&'a self, values: &'a Values<'a>) -> Context<'a> {
        Context { key_id: self.key_id.as_deref().map(str::as_bytes), ..Context::of(values) }
    }

    /// Reads the keys out of an answer; nothing comes of one that holds none.
    pub fn read(&self, answer: &[u8], now: Timestamp) -> Vec<FetchedKey> {
        let one = |key: Option<PublicKey>| key.map(|key| FetchedKey { id: self.key_id.clone(), key });
        match self.from {
            KeyDocument::X509 => one(PublicKey::of_valid_certificate(answer, now)).into_iter().collect(),
            KeyDocument::Pem => one(PublicKey::read(answer)).into_iter().collect(),
            KeyDocument::Json => one(self.of_json(answer)).into_iter().collect(),
            KeyDocument::Jwks => of_jwks(answer),
        }
    }

    fn of_json(&self, answer: &[u8]) -> Option<PublicKey> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        match answer.pointer(&self.pointer)? {
            Value::String(text) => {
                PublicKey::read(text.as_bytes()).or_else(|| PublicKey::read(&STANDARD.decode(text).ok()?))
            }
            key => PublicKey::of_jwk(key),
        }
    }

    /// Returns the host that is asked.
    pub fn host(&self) -> Option<&str> {
        allowed_host(&self.url, &self.hosts)
    }

    /// Picks the keys that the request may be signed with: of a key set the one that it names, else all.
    pub fn pick(&self, keys: &[FetchedKey]) -> Vec<FetchedKey> {
        // Other documents hold one key, whatever it was called when it was fetched.
        let Some(id) = self.key_id.as_ref().filter(|_| self.from == KeyDocument::Jwks) else {
            return keys.to_vec();
        };
        let named: Vec<_> = keys.iter().filter(|key| key.id.as_ref() == Some(id)).cloned().collect();
        if named.is_empty() { keys.iter().filter(|key| key.id.is_none()).cloned().collect() } else { named }
    }
}

impl KeyRequest {
    /// Picks out of keys that somebody gave by name or URL: what is named as the request names it, or as
    /// the place that it would be fetched from, else all.
    pub fn pick_named(&self, keys: &[FetchedKey]) -> Vec<FetchedKey> {
        let names = |key: &&FetchedKey| {
            key.id.is_some() && (key.id == self.key_id || key.id.as_ref() == Some(&self.url))
        };
        let named: Vec<_> = keys.iter().filter(names).cloned().collect();
        if named.is_empty() { keys.to_vec() } else { named }
    }
}

fn of_jwks(answer: &[u8]) -> Vec<FetchedKey> {
    let set: Value = serde_json::from_slice(answer).unwrap_or_default();
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let key = |key: &Value| {
        let id = key["kid"].as_str().map(str::to_owned);
        Some(FetchedKey { id, key: PublicKey::of_jwk(key)? })
    };
    keys.iter().take(KEYS_MAX).filter_map(key).collect()
}

/// Returns the host of an https URL if it is one that may be asked: a `*` stands for one or more
/// characters of one label. User info and ports are not taken.
pub fn allowed_host<'u>(url: &'u str, hosts: &[String]) -> Option<&'u str> {
    let rest = url.strip_prefix("https://")?;
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
    (host.bytes().all(is_name) && hosts.iter().any(|pattern| matches_host(pattern, host))).then_some(host)
}

fn matches_host(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    let label = |(pattern, label): (&&str, &&str)| match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(label),
        Some((before, after)) => {
            let label = label.to_ascii_lowercase();
            label.len() > before.len() + after.len() && label.starts_with(before) && label.ends_with(after)
        }
    };
    pattern.len() == host.len() && pattern.iter().zip(&host).all(label)
}

/// Tells whether each key of a form stands for one secret of the main list.
pub(super) fn are_secrets(form: &Form, given: Option<&[PublicKey]>) -> bool {
    given.is_none() && form.public_keys.is_empty() && form.keys.is_none()
}

/// Prepares the keys of a form of the proof: those that the operator gave in place of the provider's,
/// those of the entry, or those of the trigger's secrets. Keys from the network come with each request.
pub(super) fn keys(
    plan: &Plan,
    form: &Form,
    secrets: &[Secret],
    given: Option<&[PublicKey]>,
) -> Result<Vec<Key>, BuildError> {
    if secrets.len() > SECRETS_MAX {
        let name = SIGNING_SECRET.to_owned();
        return Err(BuildError::TooManySecrets { name, count: secrets.len(), max: SECRETS_MAX });
    }
    if are_secrets(form, given) {
        return secrets
            .iter()
            .enumerate()
            .map(|(index, secret)| {
                form.scheme.key(secret.expose()).map_err(|why| {
                    let error = wrong(plan, SIGNING_SECRET, index, why);
                    match other_encoding(form, secret) {
                        Some(encoding) => written_in(error, encoding),
                        None => error,
                    }
                })
            })
            .collect();
    }
    let secret = secrets.first().map(Secret::expose);
    if form.scheme.needs_secret() && secret.is_none() {
        return Ok(Vec::new());
    }
    let public = given.unwrap_or(&form.public_keys);
    Ok(public.iter().filter_map(|key| form.scheme.key_of_public(key, secret)).collect())
}

/// Reads the public keys that an operator gave in place of the provider's.
pub(super) fn given_public_keys(texts: &[String]) -> Result<Option<Vec<PublicKey>>, BuildError> {
    let read = |text: &String| PublicKey::read(text.as_bytes()).ok_or(BuildError::PublicKey);
    let keys: Vec<PublicKey> = texts.iter().map(read).collect::<Result<_, _>>()?;
    Ok((!keys.is_empty()).then_some(keys))
}

/// Collects the current value of each secret, for templates that name it.
pub(super) fn named(secrets: &BTreeMap<String, Vec<Secret>>) -> Named {
    let current = |(name, list): (&String, &Vec<Secret>)| {
        Some((name.clone(), Zeroizing::new(list.first()?.expose().to_vec())))
    };
    secrets.iter().filter_map(current).collect()
}

/// Says which secret of a list is blank.
pub(super) fn blank(plan: &Plan, name: &str, list: &[Secret]) -> BuildError {
    let index = list.iter().position(Secret::is_blank).unwrap_or_default();
    wrong(plan, name, index, KeyError::Blank)
}

/// Tells in which other encoding a secret is a public key that the form takes.
fn other_encoding(form: &Form, secret: &Secret) -> Option<&'static str> {
    let scheme = form.scheme.private_scheme()?;
    let encodings =
        [("hex", Filter::Unhex), ("base64", Filter::Unbase64), ("base64url", Filter::Unbase64Url)];
    let is_key = |(_, filter): &(&str, Filter)| {
        let bytes = Filter::apply_all(std::slice::from_ref(filter), secret.expose().trim_ascii());
        bytes.and_then(|bytes| PublicKey::read(&bytes)).is_some_and(|key| key.fits(scheme))
    };
    encodings.into_iter().find(is_key).map(|(name, _)| name)
}

fn written_in(error: BuildError, encoding: &str) -> BuildError {
    match error {
        BuildError::Secret { name, number, why, about } => {
            let about = format!("{about}; what was given is such a key, but written in {encoding}");
            BuildError::Secret { name, number, why, about }
        }
        other => other,
    }
}

pub(super) fn wrong(plan: &Plan, name: &str, index: usize, why: KeyError) -> BuildError {
    let spec = plan.entry.secrets.iter().find(|spec| spec.name == name);
    BuildError::Secret {
        name: name.to_owned(),
        number: index + 1,
        why,
        about: spec.map_or_else(String::new, |spec| spec.about.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_list_are_asked() {
        let hosts = ["sns.*.amazonaws.com".to_owned(), "*.paypal.com".to_owned()];
        for good in [
            "https://sns.us-east-1.amazonaws.com/x.pem",
            "https://SNS.eu-west-1.amazonaws.com",
            "https://api.paypal.com?x",
        ] {
            assert!(allowed_host(good, &hosts).is_some(), "{good}");
        }
        for bad in [
            "http://api.paypal.com/",
            "https://paypal.com/",
            "https://.paypal.com/",
            "https://a.b.paypal.com/",
            "https://api.paypal.com.evil.example/",
            "https://api.paypal.com:8443/",
            "https://user@api.paypal.com/",
            "https://evil.example\\@api.paypal.com/",
            "https://sns.evil.s3.amazonaws.com/",
            "//api.paypal.com/",
        ] {
            assert!(allowed_host(bad, &hosts).is_none(), "{bad}");
        }
    }
}
