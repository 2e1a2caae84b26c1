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

#[test]
fn one_request_is_checked_with_further_secrets_keys_and_urls() {
    let folder = tempfile::TempDir::new().unwrap();
    for (provider, what) in [("twilio", "published form"), ("aws-sns", ""), ("meta", "")] {
        let is_meant = |vector: &Vector| match (provider, vector.expect.state) {
            ("meta", State::Handshake) => true,
            ("meta", _) => false,
            (_, State::Verified) => what.is_empty() || vector.what == what,
            _ => false,
        };
        let vector = vectors(provider).into_iter().find(is_meant).unwrap();
        let mut args: Vec<String> = vec!["verify".into(), provider.into(), "--json".into()];
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        vector.secrets.iter().for_each(|secret| flag("--secret", secret.clone()));
        vector.named.iter().for_each(|(name, secret)| flag("--named", format!("{name}={secret}")));
        for (number, (name, key)) in vector.keys.iter().enumerate() {
            let file = folder.path().join(format!("{provider}{number}.pem"));
            std::fs::write(&file, key.as_str().unwrap()).unwrap();
            flag("--key", format!("{name}={}", file.display()));
        }
        vector.headers.iter().for_each(|(name, value)| flag("--header", format!("{name}: {value}")));
        vector.public_url.iter().for_each(|url| flag("--public-url", url.clone()));
        let body = folder.path().join(format!("{provider}.body"));
        std::fs::write(&body, vector.request().unwrap().body).unwrap();
        flag("--body", body.display().to_string());
        flag("--url", vector.url.clone());
        flag("--method", vector.method.clone());
        let request = vector.request().unwrap();
        flag("--at", request.received_at.to_string());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = with_input(folder.path(), &args, b"");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}"));
        assert_eq!(differs(&vector, &verdict), None, "{provider}: {told}");
        assert_eq!(output.status.code(), Some(0), "{told}");
    }
}

#[test]
fn lines_that_are_no_request_are_answered_and_make_it_wrong_usage() {
    let folder = tempfile::TempDir::new().unwrap();
    let input =
        "nonsense\n\n{\"provider\": \"gihub\"}\n[]\n{\"provider\": \"docker-hub\", \"body\": \"{}\"}\n";
    let output = with_input(folder.path(), &["verify", "--jsonl"], input.as_bytes());
    let told = String::from_utf8(output.stdout).unwrap();
    let states: Vec<(Value, bool)> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|verdict| (verdict["state"].clone(), verdict["hint"].is_string()))
        .collect();
    let rejected = (json!("rejected"), true);
    assert_eq!(states, [rejected.clone(), rejected.clone(), rejected, (json!("unsigned"), false)]);
    assert_eq!(output.status.code(), Some(2));
}
