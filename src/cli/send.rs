//! `send`: posts a delivery, signed exactly as the provider signs it, and tells what became of it. What it
//! is signed with and where it goes is `target`'s.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, http_client};
use super::render::{self, BOLD, DIM, GREEN, RED, note, number, out, text};
use super::target::{Signed, Target, Wanted, fresh_id, sample};
use super::{ConfigFile, Told, Usage, runs, test_key};
use crate::admin::Query;
use crate::clock::Clock;
use crate::connector::{Rendered, render as render_sample};

/// How long `send` waits for the runs of its event, to show how they went.
const RUNS_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const RUNS_LOOK: Duration = Duration::from_millis(50);
/// Largest body that is sent, in bytes: more than any server takes.
const BODY_BYTES_MAX: u64 = 1_000_000_000;

/// `send`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper send github                             a sample push to the local server
  hookkeeper send github --event pull_request.opened
  hookkeeper send stripe --body event.json --event charge.succeeded
  hookkeeper send slack --invalid                    a bad signature: see it refused
  hookkeeper send github --url https://hooks.example.com/hooks/github --secret env:GITHUB_SECRET")]
pub(super) struct Send {
    /// The provider to act as
    provider: String,
    /// Kind of event: picks the sample, or names the kind of --body [default: the first sample]
    #[arg(long, value_name = "KIND")]
    event: Option<String>,
    /// Send this body instead of a sample; - is stdin
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Send that many, each a delivery of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Where to [default: the local server's trigger of this provider]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Sign with this: env:NAME, file:PATH, or the secret itself [default: the trigger's]
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// Sign with a wrong secret
    #[arg(long)]
    invalid: bool,
    /// Take URL, secret and settings from this trigger [default: the provider's first]
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// The delivery's id: sending it again is a duplicate [default: a fresh one each time]
    #[arg(long, value_name = "ID")]
    delivery: Option<String>,
    /// Print {"items": […], "next_cursor": null}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

fn read_body(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(BODY_BYTES_MAX + 1).read_to_end(&mut body)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BODY_BYTES_MAX + 1).read_to_end(&mut body))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        let most = render::bytes(BODY_BYTES_MAX);
        return Err(Usage(format!("{} is larger than {most}, the most that is sent", path.display())).into());
    }
    Ok(body)
}

/// How a delivery was answered.
struct Answer {
    status: u16,
    event_id: Option<String>,
    is_duplicate: bool,
    body: String,
    took: Duration,
}

impl Answer {
    fn to_json(&self) -> Value {
        json!({
            "status": self.status,
            "event_id": self.event_id,
            "duplicate": self.is_duplicate,
            "answer": self.body,
            "took_us": u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
        })
    }
}

impl Send {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let target = Target::find(Wanted {
            provider: &self.provider,
            url: self.url.as_deref(),
            secret: self.secret.as_deref(),
            invalid: self.invalid,
            trigger: self.trigger.as_deref(),
            config: &self.config,
        })
        .await?;
        let http = http_client(target.accept_any_certificate)?;
        let body = self.body.as_deref().map(read_body).transpose()?;
        let mut answers = Vec::new();
        for _ in 0..self.count {
            let signed = self.delivery(&target, body.as_deref())?;
            let answer = post(&http, &target, signed).await?;
            if !self.json {
                self.tell(&target, &answer)?;
            }
            answers.push(answer);
        }
        if self.json {
            let items: Vec<_> = answers.iter().map(Answer::to_json).collect();
            render::json(&json!({"items": items, "next_cursor": null}))?;
        } else if let (1, Some(admin), Some(id)) = (self.count, &target.admin, answers[0].event_id.as_deref())
        {
            follow(admin, id).await?;
        }
        // A bad signature that is refused is what was wanted.
        let as_wanted = |answer: &Answer| (200..300).contains(&answer.status) != self.invalid;
        if answers.iter().all(as_wanted) { Ok(()) } else { Err(Told(1).into()) }
    }

    fn delivery(&self, target: &Target, body: Option<&[u8]>) -> anyhow::Result<Signed> {
        let (id, now) = (self.delivery.clone().map_or_else(fresh_id, Ok)?, Clock::system().now());
        match body {
            Some(body) => {
                let headers = vec![("content-type".to_owned(), Bytes::from_static(b"application/json"))];
                let (method, query) = ("POST".to_owned(), String::new());
                let rendered = Rendered { method, query, headers, body: body.to_vec() };
                target.sign(rendered, self.event.as_deref(), &id, now)
            }
            None => {
                let sample = sample(&target.entry, self.event.as_deref())?;
                let rendered = render_sample(sample, &id, now);
                target.sign(rendered, Some(&sample.kind), &id, now)
            }
        }
    }

    fn tell(&self, target: &Target, answer: &Answer) -> anyhow::Result<()> {
        let mut out = out();
        let took = render::micros(u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX));
        if self.count == 1 {
            let how = if self.invalid { "with a bad signature" } else { "signed as the provider does" };
            writeln!(out, "sent      to {}, {how}", target.url)?;
        }
        let good = (200..300).contains(&answer.status);
        let style = if good { GREEN } else { RED };
        let status = render::paint(style, answer.status);
        match &answer.event_id {
            Some(id) => {
                let what = if answer.is_duplicate { "a duplicate of" } else { "stored as" };
                writeln!(out, "answered  {status} in {took}: {what} {BOLD}{id}{BOLD:#}")?;
            }
            None => writeln!(out, "answered  {status} in {took}: {}", render::one_line(&answer.body, 300))?,
        }
        drop(out);
        if let (Some(public), 401 | 503) = (&target.test_key, answer.status) {
            note(format_args!(
                "signed with a test key, which a trigger trusts with {}",
                test_key::trusting(&target.entry, public)
            ));
        }
        Ok(())
    }
}

async fn post(http: &reqwest::Client, target: &Target, signed: Signed) -> anyhow::Result<Answer> {
    let url = target.url.join(&signed.path)?;
    let mut request = http.request(signed.method.parse()?, url).body(signed.body);
    for (name, value) in &signed.headers {
        request = request.header(name, value.as_ref());
    }
    let began = Instant::now();
    let help = if target.admin.is_some() { "; is `hookkeeper serve` running?" } else { "" };
    let answer = request.send().await.with_context(|| format!("nobody answers at {}{help}", target.url))?;
    let header =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, event_id) = (answer.status().as_u16(), header("x-hookkeeper-event-id"));
    let is_duplicate = header("x-hookkeeper-duplicate").is_some_and(|value| value == "true");
    let body = answer.bytes().await.with_context(|| format!("the answer of {} broke off", target.url))?;
    let took = began.elapsed();
    Ok(Answer { status, event_id, is_duplicate, body: String::from_utf8_lossy(&body).into_owned(), took })
}

/// Waits a moment for the event's runs, and tells how they went.
async fn follow(admin: &Client, ids: &str) -> anyhow::Result<()> {
    let id = ids.split(',').next().unwrap_or(ids).trim();
    let deadline = Instant::now() + RUNS_WAIT;
    let account = loop {
        // Without an admin API, the answer alone has to do.
        let Ok(account) = admin.get(&format!("events/{id}/why"), &Query::default()).await else {
            return Ok(());
        };
        if is_settled(&account) || Instant::now() >= deadline {
            break account;
        }
        tokio::time::sleep(RUNS_LOOK).await;
    };
    let mut out = out();
    for function in account["functions"].as_array().into_iter().flatten() {
        for run in function["runs"].as_array().into_iter().flatten() {
            let state = text(run, "/state");
            let state = render::paint(render::state_style(state), state);
            let attempts = number(run, "/attempts");
            let s = if attempts == 1 { "" } else { "s" };
            let id = text(function, "/id");
            let more = match runs::outlook(run) {
                why if why.is_empty() => result(admin, run).await,
                why => format!(": {why}"),
            };
            writeln!(out, "function  {id} {state} after {attempts} attempt{s}{more}")?;
        }
    }
    let functions = account["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if functions.is_empty() {
        writeln!(out, "function  none is configured")?;
    } else if text(&account, "/event/state") == "unrouted" {
        writeln!(out, "function  none wants it")?;
    }
    drop(out);
    note(format_args!("{DIM}the whole account: hookkeeper why {id}{DIM:#}"));
    Ok(())
}

/// Tells whether nothing more will happen soon: all runs are finished, held, or wait for their next attempt.
fn is_settled(account: &Value) -> bool {
    let functions = account["functions"].as_array().into_iter().flatten();
    let mut runs = functions.flat_map(|function| function["runs"].as_array().into_iter().flatten());
    text(account, "/event/state") != "open"
        || !account["routed_at"].is_null()
            && runs.all(|run| match text(run, "/state") {
                "pending" => number(run, "/attempts") > 0,
                state => state != "running",
            })
}

/// Returns the first line of a run's result.
async fn result(admin: &Client, run: &Value) -> String {
    let path = format!("runs/{}", text(run, "/id"));
    let Ok(run) = admin.get(&path, &Query::default()).await else { return String::new() };
    match text(&run, "/result").lines().next() {
        Some(line) => format!(": {}", render::one_line(line, 120)),
        None => String::new(),
    }
}
