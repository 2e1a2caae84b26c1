//! `verify --jsonl` through the binary: every vector of the catalogue as a line, and what comes back.

use std::collections::BTreeMap;

use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::testkit::{At, State, Vector};
use serde_json::{Value, json};

use crate::cli::with_input;
use crate::providers::vectors;

/// Fewest vectors that there are.
const VECTORS_MIN: usize = 1_000;

/// Writes a vector as somebody would who has captured the request.
fn line(provider: &str, vector: &Vector) -> Value {
    let mut secrets: BTreeMap<&str, Value> =
        vector.named.iter().map(|(name, value)| (name.as_str(), json!(value))).collect();
    if !vector.secrets.is_empty() {
        secrets.insert("signing_secret", json!(vector.secrets));
    }
    // Settings may stand among the secrets.
    secrets.extend(vector.settings.iter().map(|(name, value)| (name.as_str(), json!(value))));
    let mut line = json!({
        "provider": provider,
        "secrets": secrets,
        "method": vector.method,
        "headers": vector.headers,
        "at": match vector.at {
            At::Seconds(seconds) => json!(seconds),
            At::Time(time) => json!(time),
        },
        "keys": vector.keys,
        "armed": vector.armed,
    });
    match (&vector.body, &vector.body_base64) {
        (Some(text), _) => line["body"] = json!(text),
        (None, base64) => line["body_base64"] = json!(base64),
    }
    let (path, query) = vector.url.split_at(vector.url.find('?').unwrap_or(vector.url.len()));
    match &vector.public_url {
        // As the provider called it.
        Some(public) if public.ends_with(path) => line["url"] = json!(format!("{public}{query}")),
        public => {
            line["url"] = json!(vector.url);
            line["public_url"] = json!(public);
        }
    }
    line
}

/// Holds a verdict against what the vector expects; says what differs.
fn differs(vector: &Vector, verdict: &Value) -> Option<String> {
    let expected = &vector.expect;
    let mut wrong = Vec::new();
    let mut same = |name: &str, expected: Value| {
        if verdict.pointer(&format!("/{name}")) != Some(&expected) {
            wrong.push(format!("{name} should be {expected}"));
        }
    };
    same("state", json!(expected.state));
    same("reason", json!(expected.reason));
    if expected.kind.is_some() {
        same("kind", json!(expected.kind));
    }
    if expected.dedupe_key.is_some() {
        same("dedupe_key", json!(expected.dedupe_key));
    }
    if let Some(events) = &expected.events {
        same("events", json!(events));
    }
    match (&expected.reply, expected.state) {
        (Some(reply), State::Handshake) => {
            same("reply/status", json!(reply.status));
            same("reply/body", json!(reply.body));
            for (name, value) in &reply.headers {
                same(&format!("reply/headers/{}", name.to_ascii_lowercase()), json!(value));
            }
            if let Some(content_type) = &reply.content_type {
                same("reply/headers/content-type", json!(content_type));
            }
        }
        _ => same("reply", Value::Null),
    }
    (!wrong.is_empty()).then(|| format!("{}: {verdict}", wrong.join(", ")))
}

#[test]
fn every_vector_is_judged_the_same_as_a_line() {
    let catalog = ProviderCatalog::built_in();
    let all: Vec<(String, Vector)> = catalog
        .entries()
        .flat_map(|entry| vectors(entry.id.as_str()).into_iter().map(|vector| (entry.id.to_string(), vector)))
        .collect();
    assert!(all.len() >= VECTORS_MIN, "only {} vectors", all.len());
    let input: String =
        all.iter().map(|(provider, vector)| format!("{}\n", line(provider, vector))).collect();
    let folder = tempfile::TempDir::new().unwrap();
    let output = with_input(folder.path(), &["verify", "--jsonl"], input.as_bytes());
    let told = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(verdicts.len(), all.len(), "one line each");
    let wrong = all.iter().zip(&verdicts).filter_map(|((provider, vector), verdict)| {
        differs(vector, verdict).map(|what| format!("{provider}: {}: {what}", vector.what))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
