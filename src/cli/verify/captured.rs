//! One captured request, read from JSON as it may have been written, and judged.
//!
//! Liberal in form: what can mean one thing only is taken as that. Not in substance: the request itself is
//! verified as the front door would verify it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::admin::parse_time;
use crate::catalog::{PLACEHOLDER, ProviderCatalog, ProviderEntry, SIGNING_SECRET};
use crate::config::{nearest, parse_duration};
use crate::connector::{
    BuildError, FetchedKey, Judging, NormalizeResult, Normalized, RawInbound, Rejection, TriggerSettings,
    Verifier, explain, private_scheme,
};
use crate::event::{Header, RejectReason, SignatureStatus, Timestamp};
use crate::secrets::Secret;
use crate::signature::Unit;

const KEYS: [&str; 14] = [
    "provider",
    "secret",
    "secrets",
    "settings",
    "method",
    "url",
    "public_url",
    "headers",
    "body",
    "body_base64",
    "at",
    "keys",
    "tolerance",
    "armed",
];

/// One request to check.
#[derive(Default)]
pub(super) struct Captured {
    pub(super) provider: String,
    /// The main secret, without its name.
    pub(super) secret: Vec<String>,
    pub(super) secrets: BTreeMap<String, Vec<String>>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) method: Option<String>,
    /// Absolute, or path and query.
    pub(super) url: Option<String>,
    /// What is registered at the provider, where the URL is a path, or another one arrives here.
    pub(super) public_url: Option<String>,
    pub(super) headers: Vec<Header>,
    pub(super) body: Bytes,
    pub(super) at: Option<Timestamp>,
    /// Public keys of the provider, by their names or URLs: PEM, a JWK, a key set, or base64.
    pub(super) keys: BTreeMap<String, Value>,
    pub(super) tolerance: Option<String>,
    pub(super) armed: Option<bool>,
}

/// What is said of a request.
pub(super) struct Judged {
    /// As JSON.
    pub(super) verdict: Value,
    /// Whether the proof covers the body, where there is one that holds.
    pub(super) covers_body: Option<bool>,
}

impl Captured {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// If it is none; the text says why, and repeats no value: it might be a secret.
    pub(super) fn read(line: &[u8], now: Timestamp) -> Result<Self, String> {
        let line: Value = serde_json::from_slice(line).map_err(|error| match error.line() {
            0 | 1 => format!("this is no JSON: column {}", error.column()),
            line => format!("this is no JSON: line {line}, column {}", error.column()),
        })?;
        let Value::Object(mut fields) = line else { return Err("this is no JSON object".to_owned()) };
        // `null` is what is left out.
        fields.retain(|_, value| !value.is_null());
        if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let near = nearest(key, KEYS).map(|near| format!("; did you mean `{near}`?"));
            let key: String = key.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(format!("unknown key `{key}`{}", near.unwrap_or_default()));
        }
        let text = |name: &str| fields.get(name).map(|value| one_text(name, value)).transpose();
        let map = |name: &str| fields.get(name).map_or(Ok(Map::new()), |value| object(name, value));
        let mut secrets = BTreeMap::new();
        for (name, value) in map("secrets")? {
            secrets.insert(name, texts("secrets", &value)?);
        }
        let mut settings = BTreeMap::new();
        for (name, value) in map("settings")? {
            settings.insert(name, one_text("settings", &value)?);
        }
        Ok(Self {
            provider: text("provider")?.ok_or("`provider` is missing")?,
            secret: fields.get("secret").map_or(Ok(Vec::new()), |value| texts("secret", value))?,
            secrets,
            settings,
            method: text("method")?,
            url: text("url")?,
            public_url: text("public_url")?,
            headers: fields.get("headers").map_or(Ok(Vec::new()), headers)?,
            body: body(text("body")?, text("body_base64")?)?,
            at: fields.get("at").map(|at| instant(at, now).ok_or("`at` is no time")).transpose()?,
            keys: fields.get("keys").map_or(Ok(BTreeMap::new()), keys)?,
            tolerance: text("tolerance")?,
            armed: fields
                .get("armed")
                .map(|it| it.as_bool().ok_or("`armed` is true or false"))
                .transpose()?,
        })
    }

    /// Says what the request is.
    ///
    /// # Errors
    ///
    /// If the question itself makes no sense: an unknown provider, a setting that is missing.
    pub(super) fn judge(mut self, catalog: &ProviderCatalog, now: Timestamp) -> Result<Judged, String> {
        let entry = catalog.get(&self.provider).ok_or_else(|| {
            let near = catalog.nearest(&self.provider).map(|near| format!("; did you mean {near}?"));
            format!("there is no such provider{}", near.unwrap_or_default())
        })?;
        if entry.is_placeholder() {
            return Err(format!("{} is a placeholder: {PLACEHOLDER}", self.provider));
        }
        let at = self.at.unwrap_or(now);
        let keys: Vec<FetchedKey> =
            self.keys.iter().flat_map(|(name, value)| FetchedKey::read(name, value)).collect();
        let are_unread = keys.is_empty() && !self.keys.is_empty();
        let armed = self.armed.unwrap_or(true);
        let trigger = self.trigger(entry)?;
        let verifier = match Verifier::new(entry, &trigger) {
            Ok(verifier) => verifier,
            // The request makes sense; nothing can verify with such a secret.
            Err(error @ BuildError::Secret { .. }) => {
                let reason = RejectReason::InvalidSignature;
                let rejection = NormalizeResult::Reject(Rejection::new(reason, error.to_string()));
                return Ok(Judged { covers_body: None, verdict: verdict(rejection) });
            }
            Err(error) => return Err(error.to_string()),
        };
        let raw = RawInbound {
            method: self.method.take().unwrap_or_else(|| "POST".to_owned()).to_ascii_uppercase(),
            url: split_url(self.url.as_deref().unwrap_or("/")).1,
            headers: self.headers,
            body: self.body,
            received_at: at,
            peer: None,
        };
        let wanted = verifier.named_keys(&raw);
        if wanted.is_some() && are_unread {
            return Err("`keys` holds no public key: give PEM, a JWK, a key set, or base64".to_owned());
        }
        let picked = wanted.map(|wanted| wanted.pick_named(&keys)).unwrap_or_default();
        // Whether a trigger is armed is the server's business; here a handshake is told as what it is.
        let mut result = verifier.normalize_inbound(&raw, Judging { now: at, armed, keys: &picked });
        if let NormalizeResult::Reject(rejection) = &mut result
            && let Ok(Some(cause)) = explain(entry, &trigger, &[], &raw, at, &picked)
        {
            rejection.hint = format!("{}; {cause}", rejection.hint);
        }
        Ok(Judged { covers_body: covers_body(&result), verdict: verdict(result) })
    }

    /// Returns the trigger that the request is meant for.
    fn trigger(&mut self, entry: &Arc<ProviderEntry>) -> Result<TriggerSettings, String> {
        let is_secret = |name: &str| entry.secrets.iter().any(|spec| spec.name == name);
        let is_setting = |name: &str| entry.settings.iter().any(|setting| setting.name == name);
        let mut settings = std::mem::take(&mut self.settings);
        let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, values) in std::mem::take(&mut self.secrets) {
            if is_secret(&name) || !is_setting(&name) {
                secrets.entry(renamed(entry, name)).or_default().extend(values);
            } else if let Some(value) = values.into_iter().next() {
                settings.entry(name).or_insert(value);
            }
        }
        let main = std::mem::take(&mut self.secret);
        if !main.is_empty() {
            secrets.entry(renamed(entry, SIGNING_SECRET.to_owned())).or_default().extend(main);
        }
        if !is_secret(SIGNING_SECRET) {
            // There is nothing to verify with it: the provider's public keys do that.
            secrets.remove(SIGNING_SECRET);
        }
        let takes_key = is_secret(SIGNING_SECRET) && matches!(private_scheme(entry, &settings), Ok(Some(_)));
        if takes_key && !secrets.contains_key(SIGNING_SECRET) && !self.keys.is_empty() {
            // The provider's public key is what its trigger has for a secret.
            secrets.insert(SIGNING_SECRET.to_owned(), key_texts(&self.keys));
        }
        let tolerance = self.tolerance.as_deref();
        let tolerance =
            tolerance.map(|text| parse_duration(text).ok_or("`tolerance` is no duration")).transpose()?;
        let registered = self.public_url.take().map(|url| without_query(&url).to_owned());
        let public_url = registered.or_else(|| split_url(self.url.as_deref().unwrap_or("/")).0);
        let secret = |list: Vec<String>| list.into_iter().map(Secret::new).collect();
        let secrets = secrets.into_iter().map(|(name, list)| (name, secret(list))).collect();
        Ok(TriggerSettings { secrets, tolerance, public_url, settings, ..TriggerSettings::default() })
    }
}

/// The name of a secret as the entry has it: where the provider has one secret only, the main one is that.
fn renamed(entry: &ProviderEntry, name: String) -> String {
    match entry.secrets.as_slice() {
        [only] if name == SIGNING_SECRET => only.name.clone(),
        _ => name,
    }
}

/// Returns the text that a value is meant to be.
fn one_text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(format!("`{name}` holds something that is no text")),
    }
}

/// Returns the texts of a value: of one or of a list; an object (a JWK) is its JSON.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => {
            let all: Result<Vec<_>, _> = values.iter().map(|value| texts(name, value)).collect();
            Ok(all?.concat())
        }
        Value::Object(_) => Ok(vec![value.to_string()]),
        value => Ok(vec![one_text(name, value)?]),
    }
}

fn object(name: &str, value: &Value) -> Result<Map<String, Value>, String> {
    value.as_object().cloned().ok_or_else(|| format!("`{name}` is no object"))
}

/// Reads headers: an object of texts or lists of them, or a list of pairs.
fn headers(value: &Value) -> Result<Vec<Header>, String> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &Value| -> Result<(), String> {
        for text in texts("headers", value)? {
            headers.push((name.to_ascii_lowercase(), Bytes::from(text)));
        }
        Ok(())
    };
    match value {
        Value::Object(map) => map.iter().try_for_each(|(name, value)| add(name, value))?,
        Value::Array(list) => list.iter().try_for_each(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(name), value]) => add(name, value),
            _ => Err("`headers` holds something that is no pair of name and value".to_owned()),
        })?,
        _ => return Err("`headers` is neither an object nor a list of pairs".to_owned()),
    }
    Ok(headers)
}

fn body(text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("give `body` or `body_base64`, not both".to_owned()),
        (Some(text), None) => Ok(Bytes::from(text)),
        (None, Some(text)) => match STANDARD.decode(text.trim()) {
            Ok(bytes) => Ok(bytes.into()),
            Err(_) => Err("`body_base64` is not base64".to_owned()),
        },
        (None, None) => Ok(Bytes::new()),
    }
}

/// Reads an instant: unix seconds, or milliseconds where seconds would be past the year 5138, as number or
/// text; RFC 3339; or a distance from now, such as `2h`.
fn instant(at: &Value, now: Timestamp) -> Option<Timestamp> {
    match at {
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Unit::SecondsOrMilliseconds
                .parse(&whole.to_string())
                .or_else(|| Timestamp::from_second(whole).ok()),
            // Microseconds are as fine as instants get here; out of range is no instant.
            None => Timestamp::from_microsecond((number.as_f64()? * 1e6) as i64).ok(),
        },
        Value::String(text) => match text.trim().parse::<serde_json::Number>() {
            Ok(number) => instant(&Value::Number(number), now),
            Err(_) => parse_time(text.trim(), now),
        },
        _ => None,
    }
}

/// Reads `keys`: an object of keys by name or URL, or one key or key set without a name.
fn keys(value: &Value) -> Result<BTreeMap<String, Value>, String> {
    let unnamed = |value: &Value| BTreeMap::from([(String::new(), value.clone())]);
    match value {
        Value::Object(map) if map.contains_key("kty") => Ok(unnamed(value)),
        Value::Object(map) if map.get("keys").is_some_and(Value::is_array) => Ok(unnamed(value)),
        Value::Object(map) => Ok(map.clone().into_iter().collect()),
        Value::Array(_) => Ok(unnamed(&json!({ "keys": value }))),
        Value::String(_) => Ok(unnamed(value)),
        _ => Err("`keys` is no object of keys by name".to_owned()),
    }
}

/// Returns keys as the texts that a trigger would have for them.
fn key_texts(given: &BTreeMap<String, Value>) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let each = |value: &Value| match value["keys"].as_array() {
        Some(set) => set.iter().map(text).collect(),
        None => vec![text(value)],
    };
    given.values().flat_map(each).collect()
}

fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// Splits a URL into what is registered at the provider, all but its query, and path with query. A path alone says
/// nothing of what is registered.
fn split_url(url: &str) -> (Option<String>, String) {
    let Some(after_scheme) = url.find("://").map(|at| at + 3).filter(|_| !url.starts_with('/')) else {
        return (None, url.to_owned());
    };
    let path = url[after_scheme..].find(['/', '?']).map_or(url.len(), |at| after_scheme + at);
    let rest = match &url[path..] {
        "" => "/".to_owned(),
        rest if rest.starts_with('?') => format!("/{rest}"),
        rest => rest.to_owned(),
    };
    (Some(without_query(url).to_owned()), rest)
}

fn covers_body(result: &NormalizeResult) -> Option<bool> {
    let event = match result {
        NormalizeResult::Event(event) => event,
        NormalizeResult::Batch(events) => events.first()?,
        _ => return None,
    };
    match event.signature_status {
        SignatureStatus::Verified { covers_body } => Some(covers_body),
        _ => None,
    }
}

fn told(state: &str, kind: Option<&str>, dedupe_key: Option<&str>) -> Value {
    json!({"state": state, "reason": null, "hint": null, "kind": kind, "dedupe_key": dedupe_key, "reply": null})
}

/// Says of a question that makes no sense that it is none.
pub(super) fn no_question(problem: &str) -> Value {
    let mut verdict = told("rejected", None, None);
    verdict["hint"] = json!(problem);
    verdict
}

fn verdict(result: NormalizeResult) -> Value {
    match result {
        NormalizeResult::Event(event) => of_event(&event),
        NormalizeResult::Batch(events) => {
            let mut verdict = events.first().map_or_else(|| told("verified", None, None), of_event);
            let event = |event: &Normalized| json!({"kind": event.kind, "dedupe_key": event.dedupe_key});
            verdict["events"] = events.iter().map(event).collect();
            verdict
        }
        NormalizeResult::Immediate { reply, .. } => {
            let mut verdict = told("handshake", None, None);
            let headers: BTreeMap<_, _> = reply.headers.into_iter().collect();
            let body = String::from_utf8_lossy(&reply.body);
            verdict["reply"] = json!({"status": reply.status, "headers": headers, "body": body});
            verdict
        }
        NormalizeResult::Reject(rejection) => {
            let mut verdict = told("rejected", None, None);
            verdict["reason"] = json!(rejection.reason);
            verdict["hint"] = json!(rejection.hint);
            verdict
        }
    }
}

fn of_event(event: &Normalized) -> Value {
    let state = match event.signature_status {
        SignatureStatus::Verified { .. } => "verified",
        SignatureStatus::Unsigned => "unsigned",
        SignatureStatus::Failed { .. } => "rejected",
    };
    told(state, Some(&event.kind), event.dedupe_key.as_deref())
}

#[cfg(test)]
mod tests;
