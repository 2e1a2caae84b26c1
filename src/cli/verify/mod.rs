//! `verify`: checks captured requests offline, and explains a failure.

mod captured;

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use captured::{Captured, Judged, no_question};
use clap::Args;
use serde_json::Value;

use super::render::{self, GREEN, RED, YELLOW, note, out, paint};
use super::target::given_secret;
use super::{ConfigFile, Told, Usage, settings};
use crate::admin::parse_time;
use crate::catalog::ProviderCatalog;
use crate::clock::Clock;
use crate::config::Scope;
use crate::event::{Header, Timestamp};

/// Longest line of a JSONL input, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// `verify`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper verify github --secret env:GITHUB_SECRET --header 'X-Hub-Signature-256: sha256=…' --body body.json
  hookkeeper verify stripe --secret whsec_… --header 'Stripe-Signature: t=…,v1=…' --body - --at 2026-11-23T14:00:00Z
  hookkeeper verify twilio --secret env:TWILIO_SECRET --url 'https://hooks.example.com/hooks/twilio?a=1' -H … --body form.txt
  hookkeeper verify aws-sns --named topic_arn=arn:aws:sns:… --key https://sns.…/x.pem=cert.pem --body notification.json
  hookkeeper verify --jsonl < requests.jsonl

A secret is env:NAME, file:PATH, or the secret itself. For providers that sign with a private key it is the public \
key, as the provider shows it; keys that hookkeeper would fetch are given with --key.

With --jsonl each line of stdin is {\"provider\", \"secret\" or \"secrets\": {name: value or list}, \"settings\": {…}, \
\"method\", \"url\": absolute or a path, \"public_url\", \"headers\": {name: value or list} or [[name, value], …], \
\"body\" or \"body_base64\", \"at\": unix seconds or RFC 3339, \"tolerance\", \"keys\": {name or URL: PEM, JWK or key set}}, \
and each line of stdout {\"state\", \"reason\", \"hint\", \"kind\", \"dedupe_key\", \"reply\"}; a batch has \"events\" \
beside its first one. Handshakes are told as if the trigger were armed, unless \"armed\" is false. A line that is no \
request is answered with one too, and makes the exit code 2.")]
pub(super) struct Verify {
    /// The provider
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl")]
    provider: Option<String>,
    /// The main secret; repeat it for further ones of its list
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// A further secret of the provider, `name=SECRET`, such as verify_token=…; repeat it for each
    #[arg(long, value_name = "NAME=SECRET")]
    named: Vec<String>,
    /// A public key that the provider publishes, `name=FILE`, named as the request names it or by its URL; or FILE alone
    #[arg(long, value_name = "NAME=FILE")]
    key: Vec<String>,
    /// A header as sent, `Name: value`; repeat it for each
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// The body as sent; - is stdin
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// The URL as the provider called it, for schemes that sign it; or its path and query
    #[arg(long, value_name = "URL", default_value = "/")]
    url: String,
    /// The URL as registered at the provider, where --url is a path, or what arrived was another one
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// When it was received: RFC 3339, unix seconds, or 2h for two hours ago [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// A setting of the scheme, `name=value`, such as header=x-signature for hmac
    #[arg(long, value_name = "NAME=VALUE")]
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

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let catalog = settings::load(&self.config, Scope::Text)?.catalog;
        if self.jsonl {
            return jsonl(&catalog);
        }
        let (json, now) = (self.json, Clock::system().now());
        let judged = self.captured(now)?.judge(&catalog, now).map_err(Usage)?;
        if json {
            render::json(&judged.verdict)?;
        } else {
            tell(&judged)?;
        }
        if judged.verdict["state"] == "rejected" { Err(Told(1).into()) } else { Ok(()) }
    }

    fn captured(self, now: Timestamp) -> anyhow::Result<Captured> {
        let plain =
            |text: &str| given_secret(text).map(|it| String::from_utf8_lossy(it.expose()).into_owned());
        let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, secret) in pairs("--named", &self.named)? {
            secrets.entry(name).or_default().push(plain(&secret)?);
        }
        let mut keys = BTreeMap::new();
        for (number, key) in self.key.iter().enumerate() {
            let (name, text) = key_file(number, key)?;
            keys.insert(name, Value::String(text));
        }
        let at = self.at.as_deref();
        let at = at.map(|text| parse_time(text, now).ok_or(Usage("--at: this is no time".to_owned())));
        Ok(Captured {
            provider: self.provider.unwrap_or_default(),
            secret: self.secret.iter().map(|text| plain(text)).collect::<Result<_, _>>()?,
            secrets,
            settings: pairs("--setting", &self.setting)?.into_iter().collect(),
            method: Some(self.method),
            url: Some(self.url),
            public_url: self.public_url,
            headers: self.header.iter().map(|text| header(text)).collect::<Result<_, _>>()?,
            body: self.body.as_deref().map_or(Ok(Bytes::new()), read_body)?,
            at: at.transpose()?,
            keys,
            tolerance: self.tolerance,
            armed: None,
        })
    }
}

fn header(text: &str) -> anyhow::Result<Header> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| Usage("--header: write `Name: value`".to_owned()))?;
    Ok((name.trim().to_ascii_lowercase(), Bytes::copy_from_slice(value.trim().as_bytes())))
}

fn pairs(flag: &str, texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Usage(format!("{flag}: write name=value")).into())
    };
    texts.iter().map(pair).collect()
}

/// Reads a key's file. What stands before the last equals sign is its name: URLs may have such signs, too.
fn key_file(number: usize, text: &str) -> anyhow::Result<(String, String)> {
    let (name, path) = match text.rsplit_once('=') {
        Some((name, path)) => (name.to_owned(), path),
        None => (format!("key {number}"), text),
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the key {path}"))?;
    Ok((name, text))
}

fn read_body(path: &Path) -> anyhow::Result<Bytes> {
    let mut body = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body)?;
    } else {
        body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(body.into())
}

fn tell(judged: &Judged) -> anyhow::Result<()> {
    let mut out = out();
    let verdict = &judged.verdict;
    let text = |name: &str| verdict[name].as_str().unwrap_or_default();
    match text("state") {
        "rejected" => {
            writeln!(out, "{}: {}", paint(RED, "rejected"), text("reason"))?;
            writeln!(out, "  {}", render::one_line(text("hint"), 1_000))?;
        }
        "handshake" => {
            let reply = &verdict["reply"];
            writeln!(out, "{}: the answer is status {}", paint(YELLOW, "handshake"), reply["status"])?;
            for (name, value) in reply["headers"].as_object().into_iter().flatten() {
                let value = render::one_line(value.as_str().unwrap_or_default(), 1_000);
                writeln!(out, "  {}: {value}", render::one_line(name, 200))?;
            }
            writeln!(out, "  {}", render::one_line(reply["body"].as_str().unwrap_or_default(), 1_000))?;
        }
        state => {
            let events = verdict["events"].as_array();
            let count = events.map(|events| format!(", the first of {} events", events.len()));
            let kind = render::one_line(text("kind"), 300);
            writeln!(out, "{}: {kind}{}", paint(GREEN, state), count.unwrap_or_default())?;
            if judged.covers_body == Some(false) {
                writeln!(out, "  {}", paint(YELLOW, "the proof does not cover the body"))?;
            }
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
        let now = Clock::system().now();
        let judged = Captured::read(&line, now).and_then(|captured| captured.judge(catalog, now));
        let verdict = judged.map(|judged| judged.verdict).unwrap_or_else(|problem| {
            wrong += 1;
            note(format_args!("line {number}: {problem}"));
            no_question(&problem)
        });
        writeln!(out, "{verdict}")?;
        // Whoever writes line by line and waits for each answer gets it.
        out.flush()?;
    }
    if wrong > 0 { Err(Told(2).into()) } else { Ok(()) }
}
