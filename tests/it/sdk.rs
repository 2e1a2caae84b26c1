//! Interoperability with the providers' own SDKs, both ways: what they sign we verify, what we sign
//! they accept. The scripts and pinned versions are in `tests/sdk`.
//!
//! The SDKs are installed once into the target folder. Where node, python or the registries are not
//! to be had, the tests say so and pass, unless `HOOKKEEPER_REQUIRE_SDKS=1` makes that a failure.

#![allow(clippy::unwrap_used, reason = "a helper of tests may end in a panic")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookkeeper::catalog::{ProviderCatalog, SIGNING_SECRET};
use hookkeeper::connector::{
    Judging, NormalizeResult, Normalized, RawInbound, SignRequest, Signer, TriggerSettings, Verifier,
    generate_secret,
};
use hookkeeper::event::{Header, Timestamp};
use hookkeeper::secrets::Secret;
use jiff::ToSpan;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Where the SDKs are installed.
pub(crate) struct Sdks {
    folder: PathBuf,
}

static SDKS: LazyLock<Result<Sdks, String>> = LazyLock::new(Sdks::install);

/// Returns the SDKs; `None` where they are not to be had, after saying so.
pub(crate) fn sdks() -> Option<&'static Sdks> {
    match &*SDKS {
        Ok(sdks) => Some(sdks),
        Err(why) if std::env::var_os("HOOKKEEPER_REQUIRE_SDKS").is_some_and(|value| value == "1") => {
            panic!("the providers' SDKs are required: {why}")
        }
        Err(why) => {
            // Past the capture of the test harness: a skipped test must be seen.
            let _ = writeln!(std::io::stderr(), "skipped: no test against the providers' SDKs: {why}");
            None
        }
    }
}

/// A body to sign, with what the signature needs beside it.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) body: Vec<u8>,
    pub(crate) id: String,
    pub(crate) at: Timestamp,
}

impl Sdks {
    fn install() -> Result<Self, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
        let files = ["package.json", "package-lock.json", "requirements.txt"];
        let text: String =
            files.iter().map(|file| std::fs::read_to_string(source.join(file)).unwrap()).collect();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = target.join(format!("sdks-{:08x}", crc32fast::hash(text.as_bytes())));
        if !folder.exists() {
            // Beside its place first, so that an installation that broke off is not taken for whole.
            let partial = tempfile::tempdir_in(target).map_err(|error| error.to_string())?;
            for file in files {
                std::fs::copy(source.join(file), partial.path().join(file)).unwrap();
            }
            let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
            run(Command::new("npm").args(npm).current_dir(partial.path()), &[])?;
            let pip =
                ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "python"];
            let pip = [&pip[..], &["-r", "requirements.txt"]].concat();
            run(Command::new("python3").args(pip).current_dir(partial.path()), &[])?;
            if std::fs::rename(partial.path(), &folder).is_err() && !folder.exists() {
                return Err(format!("cannot create {}", folder.display()));
            }
        }
        for script in ["sdk.mjs", "sdk.py"] {
            std::fs::copy(source.join(script), folder.join(script)).map_err(|error| error.to_string())?;
        }
        Ok(Self { folder })
    }

    fn ask<T: DeserializeOwned>(&self, provider: &str, jobs: &[Value]) -> Vec<T> {
        let mut command = if provider == "slack" {
            let mut python = Command::new("python3");
            python.arg("sdk.py").env("PYTHONPATH", self.folder.join("python"));
            python
        } else {
            let mut node = Command::new("node");
            node.arg("sdk.mjs");
            node
        };
        let answers = run(command.current_dir(&self.folder), &serde_json::to_vec(jobs).unwrap()).unwrap();
        serde_json::from_slice(&answers)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answers)))
    }

    /// Returns the example payloads that GitHub's SDK publishes, each with its event's name.
    pub(crate) fn github_examples(&self) -> Vec<(String, Vec<u8>)> {
        let mut answers: Vec<Vec<(String, String)>> = self.ask("github", &[json!({"op": "examples"})]);
        let decode = |(name, body): (String, String)| (name, STANDARD.decode(body).unwrap());
        answers.remove(0).into_iter().map(decode).collect()
    }

    /// Signs deliveries with the provider's own SDK and returns the headers of each.
    pub(crate) fn sign(&self, provider: &str, secret: &str, deliveries: &[Delivery]) -> Vec<Vec<Header>> {
        let jobs: Vec<_> =
            deliveries.iter().map(|delivery| job("sign", provider, secret, delivery, &[])).collect();
        let answers: Vec<Vec<(String, String)>> = self.ask(provider, &jobs);
        answers.into_iter().map(|headers| headers.into_iter().map(|(n, v)| (n, v.into())).collect()).collect()
    }

    /// Verifies deliveries with the provider's own SDK, whose clock shows each delivery's time.
    pub(crate) fn verify(
        &self,
        provider: &str,
        secret: &str,
        deliveries: &[(Delivery, Vec<Header>)],
    ) -> Vec<Result<(), String>> {
        let job = |(delivery, headers): &(Delivery, Vec<Header>)| {
            job("verify", provider, secret, delivery, headers)
        };
        let answers: Vec<Value> = self.ask(provider, &deliveries.iter().map(job).collect::<Vec<_>>());
        let verdict = |answer: Value| if answer == true { Ok(()) } else { Err(answer.to_string()) };
        answers.into_iter().map(verdict).collect()
    }
}

fn job(op: &str, provider: &str, secret: &str, delivery: &Delivery, headers: &[Header]) -> Value {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))).collect();
    json!({
        "op": op, "provider": provider, "secret": secret, "body": STANDARD.encode(&delivery.body),
        "at": delivery.at.as_millisecond(), "id": delivery.id, "headers": headers,
    })
}

fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(|error| format!("{program}: {error}"))?;
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    })
}

/// A secret of the provider's form.
fn secret(provider: &str) -> String {
    let entry = ProviderCatalog::built_in().get(provider).unwrap().clone();
    String::from_utf8(generate_secret(&entry.secrets[0], &[42; 32]).expose().to_vec()).unwrap()
}

fn signer(provider: &str) -> Signer {
    let entry = ProviderCatalog::built_in().get(provider).unwrap().clone();
    Signer::new(&entry, &TriggerSettings::of_secrets([Secret::new(secret(provider))])).unwrap().unwrap()
}

fn sign_request<'a>(delivery: &'a Delivery, headers: &'a [Header]) -> SignRequest<'a> {
    SignRequest {
        method: "POST",
        url: "/hooks/x",
        headers,
        body: &delivery.body,
        now: delivery.at,
        delivery_id: &delivery.id,
        kind: None,
    }
}

fn judge(provider: &str, delivery: &Delivery, headers: Vec<Header>) -> Normalized {
    let secrets = BTreeMap::from([(SIGNING_SECRET.to_owned(), vec![Secret::new(secret(provider))])]);
    let entry = ProviderCatalog::built_in().get(provider).unwrap().clone();
    let verifier = Verifier::new(&entry, &TriggerSettings { secrets, ..TriggerSettings::default() }).unwrap();
    let raw = RawInbound {
        method: "POST".into(),
        url: "/hooks/x".into(),
        headers,
        body: delivery.body.clone().into(),
        received_at: delivery.at,
        peer: None,
    };
    match verifier.normalize_inbound(&raw, Judging::at(delivery.at)) {
        NormalizeResult::Event(event) => event,
        other => panic!("{provider}: {other:?}"),
    }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00.5Z".parse().unwrap()
}

/// Real bodies: every event that GitHub's examples show.
fn deliveries(sdks: &Sdks) -> Vec<(String, Delivery)> {
    let examples = sdks.github_examples();
    assert!(examples.len() > 300, "only {} examples", examples.len());
    let delivery = |(i, (event, body))| (event, Delivery { body, id: format!("msg_{i}"), at: now() });
    examples.into_iter().enumerate().map(delivery).collect()
}

#[test]
fn what_the_sdks_sign_is_verified() {
    let Some(sdks) = sdks() else { return };
    let deliveries = deliveries(sdks);
    let bodies: Vec<_> = deliveries.iter().map(|(_, delivery)| delivery.clone()).collect();
    for provider in ["github", "stripe", "slack", "notion", "standard-webhooks"] {
        let signed = sdks.sign(provider, &secret(provider), &bodies);
        for ((event, delivery), mut headers) in deliveries.iter().zip(signed) {
            headers.push(("x-github-event".into(), event.clone().into()));
            let normalized = judge(provider, delivery, headers);
            if provider == "github" {
                let body: Value = serde_json::from_slice(&delivery.body).unwrap();
                let action = body["action"].as_str().map(|action| format!(".{action}"));
                assert_eq!(normalized.kind, format!("{event}{}", action.unwrap_or_default()));
            }
        }
    }
}

#[test]
fn what_we_sign_the_sdks_accept() {
    let Some(sdks) = sdks() else { return };
    let mut deliveries: Vec<_> = deliveries(sdks).into_iter().map(|(_, delivery)| delivery).collect();
    for provider in ["github", "stripe", "slack", "notion", "standard-webhooks", "linear"] {
        if provider == "linear" {
            // Its SDK wants the signed time inside the body.
            let timed = format!(r#"{{"webhookTimestamp":{},"#, now().as_millisecond());
            for delivery in &mut deliveries {
                delivery.body = [timed.as_bytes(), &delivery.body[1..]].concat();
            }
        }
        let signer = signer(provider);
        let sign = |delivery: &Delivery| {
            let headers = signer.sign(sign_request(delivery, &[])).unwrap();
            (
                delivery.clone(),
                headers.headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
            )
        };
        let signed: Vec<_> = deliveries.iter().map(sign).collect();
        for (verdict, delivery) in
            sdks.verify(provider, &secret(provider), &signed).into_iter().zip(&deliveries)
        {
            assert_eq!(verdict, Ok(()), "{provider}: {}", String::from_utf8_lossy(&delivery.body));
        }
        let changed = |(delivery, headers): &(Delivery, Vec<Header>)| {
            (Delivery { body: [&delivery.body[..], b" "].concat(), ..delivery.clone() }, headers.clone())
        };
        let verdicts = sdks.verify(provider, &secret(provider), &[changed(&signed[0])]);
        assert!(
            verdicts[0].is_err(),
            "{provider}: the SDK must refuse a changed body, or this test shows nothing"
        );
    }
}

#[test]
fn a_delivery_signed_anew_an_hour_later_is_accepted() {
    let Some(sdks) = sdks() else { return };
    for provider in ["stripe", "slack", "standard-webhooks"] {
        let signer = signer(provider);
        assert!(signer.renews_timestamp());
        let (_, original) = deliveries(sdks).remove(0);
        let headers = sdks.sign(provider, &secret(provider), std::slice::from_ref(&original)).remove(0);
        let later = Delivery { at: now() + 1.hour(), ..original };
        let renewed = signer.sign_anew(sign_request(&later, &headers)).unwrap();
        let mut merged: Vec<Header> = headers.clone();
        merged.retain(|(name, _)| !renewed.iter().any(|(new, _)| new == name));
        merged.extend(renewed.into_iter().map(|(name, value)| (name, value.into())));
        let kept = |headers: &[Header]| headers.iter().find(|(name, _)| name == "webhook-id").cloned();
        assert_eq!(kept(&merged), kept(&headers), "the event keeps its id");
        let verdicts = sdks.verify(provider, &secret(provider), &[(later.clone(), headers), (later, merged)]);
        assert!(verdicts[0].is_err(), "{provider}: the original is too old by now");
        assert_eq!(verdicts[1], Ok(()), "{provider}");
    }
    let linear = signer("linear");
    assert!(!linear.renews_timestamp(), "its time stands in the body, which is not changed");
}
