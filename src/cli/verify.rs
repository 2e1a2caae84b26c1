//! `verify`: checks captured requests offline, and explains a failure.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::render::{self, GREEN, RED, YELLOW, note, out, paint};
use super::send::given_secret;
use super::{ConfigFile, Told, Usage, settings};
use crate::admin::parse_time;
use crate::catalog::{ProviderCatalog, ProviderEntry, SIGNING_SECRET};
use crate::clock::Clock;
use crate::config::{Scope, parse_duration};
use crate::connector::{
    FetchedKey, Judging, NormalizeResult, Normalized, RawInbound, TriggerSettings, Verifier, explain,
};
use crate::event::{Header, SignatureStatus, Timestamp};
use crate::secrets::Secret;

/// Longest line of a JSONL input, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// `verify`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper verify github --secret env:GITHUB_SECRET --header 'X-Hub-Signature-256: sha256=…' --body body.json
  hookkeeper verify stripe --secret whsec_… --header 'Stripe-Signature: t=…,v1=…' --body - --at 2026-11-23T14:00:00Z
  hookkeeper verify --jsonl < requests.jsonl

With --jsonl each line of stdin is {\"provider\", \"secret\" or \"secrets\": {name: value}, \"method\", \"url\",
\"headers\": {…} or [[name, value], …], \"body\" or \"body_base64\", \"at\": unix seconds or RFC 3339}, and each line
of stdout {\"state\", \"reason\", \"hint\", \"kind\", \"dedupe_key\", \"reply\"}. Public keys that the provider would be
asked for are given as \"keys\": {name or URL: PEM, JWK or key set}. A batch has \"events\" beside its first one.")]
pub(super) struct Verify {
    /// The provider
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl")]
    provider: Option<String>,
    /// The secret: env:NAME, file:PATH, or the secret itself; repeat it for further ones
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// A header as sent, `Name: value`; repeat it for each
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// The body as sent; - is stdin
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// The URL as the provider called it, for schemes that sign it
    #[arg(long, value_name = "URL", default_value = "/")]
    url: String,
    /// When it was received: RFC 3339, unix seconds, or 2h for two hours ago [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// A setting of the scheme, `name=value`, such as header=x-signature for hmac
    #[arg(long, value_name = "SETTING")]
    setting: Vec<String>,
    /// Overrides the provider's tolerance
    #[arg(long, value_name = "DURATION")]
    tolerance: Option<String>,
    /// Read one request per line from stdin, write one verdict per line
    #[arg(long)]
    jsonl: bool,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// One request to check, as a line of JSONL gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Captured {
    provider: String,
    secret: Option<String>,
    #[serde(default)]
    secrets: BTreeMap<String, OneOrMany>,
    #[serde(default = "post")]
    method: String,
    #[serde(default = "root")]
    url: String,
    #[serde(default)]
    headers: Headers,
    body: Option<String>,
    body_base64: Option<String>,
    at: Option<At>,
    /// Public keys of the provider, by their names or URLs: PEM, a JWK, a key set, or base64.
    #[serde(default)]
    keys: BTreeMap<String, Value>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    tolerance: Option<String>,
}

fn post() -> String {
    "POST".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Map(BTreeMap<String, OneOrMany>),
    List(Vec<(String, String)>),
}

impl Default for Headers {
    fn default() -> Self {
        Headers::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Seconds(f64),
    Text(String),
}

impl Headers {
    fn into_list(self) -> Vec<Header> {
        let header = |name: &str, value: String| (name.to_ascii_lowercase(), Bytes::from(value));
        match self {
            Headers::List(list) => list.into_iter().map(|(name, value)| header(&name, value)).collect(),
            Headers::Map(map) => {
                let mut all = Vec::new();
                for (name, values) in map {
                    match values {
                        OneOrMany::One(value) => all.push(header(&name, value)),
                        OneOrMany::Many(values) => {
                            all.extend(values.into_iter().map(|value| header(&name, value)))
                        }
                    }
                }
                all
            }
        }
    }
}

impl At {
    fn instant(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            // Microseconds are as fine as instants get here; out of range is no instant.
            At::Seconds(seconds) => Timestamp::from_microsecond((seconds * 1e6) as i64).ok(),
            At::Text(text) => parse_time(text, now),
        }
    }
}

/// Says what a request is.
///
/// # Errors
///
/// If the question itself makes no sense: an unknown provider, a secret of the wrong form.
fn judge(catalog: &ProviderCatalog, captured: Captured, now: Timestamp) -> Result<Value, String> {
    let entry = catalog.get(&captured.provider).ok_or_else(|| {
        let near = catalog.nearest(&captured.provider).map(|near| format!("; did you mean {near}?"));
        format!("there is no such provider{}", near.unwrap_or_default())
    })?;
    let keys = public_keys(&captured.keys)?;
    let at =
        captured.at.as_ref().map(|at| at.instant(now).ok_or("`at` is no time")).transpose()?.unwrap_or(now);
    let body = match (captured.body, captured.body_base64) {
        (Some(_), Some(_)) => return Err("give `body` or `body_base64`, not both".to_owned()),
        (Some(text), None) => Bytes::from(text),
        (None, Some(text)) => STANDARD.decode(text).map_err(|_| "`body_base64` is not base64")?.into(),
        (None, None) => Bytes::new(),
    };
    let mut secrets: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
    for (name, values) in captured.secrets {
        let values = match values {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        };
        secrets.entry(name).or_default().extend(values.into_iter().map(Secret::new));
    }
    if let Some(secret) = captured.secret {
        secrets.entry(main_secret(entry)).or_default().push(Secret::new(secret));
    }
    let tolerance = captured.tolerance.as_deref();
    let tolerance =
        tolerance.map(|text| parse_duration(text).ok_or("`tolerance` is no duration")).transpose()?;
    let (public_url, url) = split_url(&captured.url);
    let settings =
        TriggerSettings { secrets, tolerance, public_url, settings: captured.settings, ..Default::default() };
    let verifier = Verifier::new(entry, &settings).map_err(|error| error.to_string())?;
    let raw = RawInbound {
        method: captured.method.to_ascii_uppercase(),
        url,
        headers: captured.headers.into_list(),
        body,
        received_at: at,
        peer: None,
    };
    // Whether a trigger is armed is the server's business; here a handshake is told as what it is.
    let picked = verifier.wanted_keys(&raw).map(|wanted| wanted.pick_named(&keys)).unwrap_or_default();
    let mut result = verifier.normalize_inbound(&raw, Judging { now: at, armed: true, keys: &picked });
    if let NormalizeResult::Reject(rejection) = &mut result
        && let Ok(Some(cause)) = explain(entry, &settings, &[], &raw, at)
    {
        rejection.hint = format!("{}; {cause}", rejection.hint);
    }
    Ok(verdict(result))
}

/// The secret that `secret` stands for: the main one, or the only one that the provider has.
fn main_secret(entry: &ProviderEntry) -> String {
    match entry.secrets.as_slice() {
        [only] => only.name.clone(),
        _ => SIGNING_SECRET.to_owned(),
    }
}

/// Reads the provider's public keys that came with a request.
fn public_keys(given: &BTreeMap<String, Value>) -> Result<Vec<FetchedKey>, String> {
    let mut keys = Vec::new();
    for (name, value) in given {
        let read = FetchedKey::read(name, value);
        if read.is_empty() {
            return Err(format!("`keys`: {name} is no public key: give PEM, a JWK, a key set, or base64"));
        }
        keys.extend(read);
    }
    Ok(keys)
}

/// Splits a URL into what is registered at the provider, all but its query, and path with query. A path alone says
/// nothing of what is registered.
fn split_url(url: &str) -> (Option<String>, String) {
    let Some(after_scheme) = url.find("://").map(|at| at + 3) else { return (None, url.to_owned()) };
    let path = url[after_scheme..].find(['/', '?']).map_or(url.len(), |at| after_scheme + at);
    let rest = match &url[path..] {
        "" => "/".to_owned(),
        rest if rest.starts_with('?') => format!("/{rest}"),
        rest => rest.to_owned(),
    };
    let registered = url.split('?').next().unwrap_or(url);
    (Some(registered.to_owned()), rest)
}

fn verdict(result: NormalizeResult) -> Value {
    let told = |state: &str, kind: Option<&str>, dedupe_key: Option<&str>| json!({"state": state, "reason": null, "hint": null, "kind": kind, "dedupe_key": dedupe_key, "reply": null});
    match result {
        NormalizeResult::Event(event) => of_event(&event, told),
        NormalizeResult::Batch(events) => {
            let mut verdict = match events.first() {
                Some(event) => of_event(event, told),
                None => told("verified", None, None),
            };
            let event = |event: &Normalized| json!({"kind": event.kind, "dedupe_key": event.dedupe_key});
            verdict["events"] = events.iter().map(event).collect();
            verdict
        }
        NormalizeResult::Immediate { reply, .. } => {
            let mut verdict = told("handshake", None, None);
            let headers: BTreeMap<_, _> = reply.headers.into_iter().collect();
            verdict["reply"] = json!({"status": reply.status, "headers": headers, "body": String::from_utf8_lossy(&reply.body)});
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

fn of_event(event: &Normalized, told: impl Fn(&str, Option<&str>, Option<&str>) -> Value) -> Value {
    let state = match event.signature_status {
        SignatureStatus::Verified { .. } => "verified",
        SignatureStatus::Unsigned => "unsigned",
        SignatureStatus::Failed { .. } => "rejected",
    };
    told(state, Some(&event.kind), event.dedupe_key.as_deref())
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let catalog = settings::load(&self.config, Scope::Text)?.catalog;
        if self.jsonl {
            return jsonl(&catalog);
        }
        let json = self.json;
        let captured = self.captured()?;
        let verdict = judge(&catalog, captured, Clock::system().now()).map_err(Usage)?;
        if json {
            render::json(&verdict)?;
        } else {
            tell(&verdict)?;
        }
        if verdict["state"] == "rejected" { Err(Told(1).into()) } else { Ok(()) }
    }

    fn captured(self) -> anyhow::Result<Captured> {
        let mut headers = Vec::new();
        for header in &self.header {
            let split = header.split_once(':');
            let (name, value) = split.ok_or_else(|| Usage("--header: write `Name: value`".to_owned()))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let mut settings = BTreeMap::new();
        for setting in &self.setting {
            let split = setting.split_once('=');
            let (name, value) = split.ok_or_else(|| Usage("--setting: write name=value".to_owned()))?;
            settings.insert(name.to_owned(), value.to_owned());
        }
        let mut body = Vec::new();
        match &self.body {
            Some(path) if path.as_os_str() == "-" => drop(std::io::stdin().read_to_end(&mut body)?),
            Some(path) => {
                body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            None => {}
        }
        let secrets: Result<Vec<_>, _> = self.secret.iter().map(|text| given_secret(text)).collect();
        let secrets =
            secrets?.iter().map(|secret| String::from_utf8_lossy(secret.expose()).into_owned()).collect();
        Ok(Captured {
            provider: self.provider.unwrap_or_default(),
            secret: None,
            secrets: BTreeMap::from([(SIGNING_SECRET.to_owned(), OneOrMany::Many(secrets))]),
            method: self.method,
            url: self.url,
            headers: Headers::List(headers),
            body: None,
            body_base64: Some(STANDARD.encode(body)),
            at: self.at.map(At::Text),
            keys: BTreeMap::new(),
            settings,
            tolerance: self.tolerance,
        })
    }
}

fn tell(verdict: &Value) -> anyhow::Result<()> {
    let mut out = out();
    let text = |name: &str| verdict[name].as_str().unwrap_or_default();
    match text("state") {
        "rejected" => {
            writeln!(out, "{}: {}", paint(RED, "rejected"), text("reason"))?;
            writeln!(out, "  {}", render::one_line(text("hint"), 1_000))?;
        }
        "handshake" => {
            let reply = &verdict["reply"];
            writeln!(out, "{}: the answer is status {}", paint(YELLOW, "handshake"), reply["status"])?;
            writeln!(out, "  {}", render::one_line(reply["body"].as_str().unwrap_or_default(), 1_000))?;
        }
        state => {
            writeln!(out, "{}: {}", paint(GREEN, state), render::one_line(text("kind"), 300))?;
            match text("dedupe_key") {
                "" => writeln!(out, "  no dedupe key")?,
                key => writeln!(out, "  dedupe key {}", render::one_line(key, 300))?,
            }
        }
    }
    Ok(())
}

/// Answers each line of stdin with one line. A line that is no request is a line of its own kind, and
/// makes the exit code 2 at the end.
fn jsonl(catalog: &ProviderCatalog) -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut wrong = 0_u64;
    for number in 1_u64.. {
        let mut line = Vec::new();
        if stdin.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // Serde's own text might repeat a secret.
        let captured = serde_json::from_slice::<Captured>(&line)
            .map_err(|error| format!("line {number} is no request: column {}", error.column()));
        let judged = captured.and_then(|captured| judge(catalog, captured, Clock::system().now()));
        let verdict = judged.unwrap_or_else(|problem| {
            wrong += 1;
            note(format_args!("line {number}: {problem}"));
            json!({"state": "rejected", "reason": null, "hint": problem, "kind": null, "dedupe_key": null, "reply": null})
        });
        writeln!(out, "{verdict}")?;
        // Whoever writes line by line and waits for each answer gets it.
        out.flush()?;
    }
    if wrong > 0 { Err(Told(2).into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: Value) -> Result<Value, String> {
        let captured = serde_json::from_value(line).map_err(|error| error.to_string())?;
        judge(&ProviderCatalog::built_in(), captured, "2026-11-23T14:00:00Z".parse().unwrap())
    }

    const HELLO: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn githubs_published_example_is_verified_in_every_form() {
        for (secret, headers) in [
            (
                json!({"secret": "It's a Secret to Everybody"}),
                json!({"X-Hub-Signature-256": HELLO, "X-GitHub-Event": "push"}),
            ),
            (
                json!({"secrets": {"signing_secret": "It's a Secret to Everybody"}}),
                json!([["X-Hub-Signature-256", HELLO], ["X-GitHub-Event", "push"]]),
            ),
        ] {
            let mut line = secret;
            line["provider"] = json!("github");
            line["headers"] = headers;
            line["body_base64"] = json!(STANDARD.encode("Hello, World!"));
            let verdict = judged(line).unwrap();
            assert_eq!(
                (&verdict["state"], &verdict["kind"]),
                (&json!("verified"), &json!("push")),
                "{verdict}"
            );
            assert!(verdict["reason"].is_null() && verdict["reply"].is_null());
        }
    }

    #[test]
    fn a_rejection_says_why() {
        let verdict =
            judged(json!({"provider": "github", "secret": "x", "headers": {}, "body": ""})).unwrap();
        assert_eq!((&verdict["state"], &verdict["reason"]), (&json!("rejected"), &json!("missing_header")));
        assert!(verdict["hint"].is_string());
    }

    #[test]
    fn a_rejection_tells_the_likely_cause() {
        let line = json!({"provider": "github", "secret": "It's a Secret to Everybody\n", "body": "Hello, World!",
                          "headers": {"X-Hub-Signature-256": HELLO, "X-GitHub-Event": "push"}});
        let verdict = judged(line).unwrap();
        let hint = verdict["hint"].as_str().unwrap();
        assert!(
            hint.ends_with(
                "; secret number 1 yields the signature once it is trimmed: a blank or line end belongs to it"
            ),
            "{hint}"
        );
    }

    #[test]
    fn questions_that_make_no_sense_are_told() {
        for (line, part) in [
            (json!({"provider": "gihub"}), "did you mean github"),
            (json!({"provider": "github", "body": "", "body_base64": ""}), "not both"),
            (json!({"provider": "github", "at": "yesterday"}), "`at`"),
            (json!({"provider": "github", "colour": 1}), "colour"),
        ] {
            let problem = judged(line).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn urls_are_split_into_what_is_registered_and_what_arrives() {
        for (url, base, rest) in [
            ("/hooks/x?a=1", None, "/hooks/x?a=1"),
            ("https://a.example/hooks?x", Some("https://a.example/hooks"), "/hooks?x"),
            ("https://a.example", Some("https://a.example"), "/"),
            ("https://a.example?x", Some("https://a.example"), "/?x"),
        ] {
            assert_eq!(split_url(url), (base.map(str::to_owned), rest.to_owned()), "{url}");
        }
    }
}
