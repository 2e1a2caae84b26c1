//! `send`: posts a delivery, signed exactly as the provider signs it.
//!
//! Against a local server it needs neither URL nor secret: both stand in the configuration that the
//! server was started with. A secret is read from where the configuration says; none comes over the
//! network but sealed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, http_client};
use super::render::{self, BOLD, DIM, GREEN, RED, note, number, out, text};
use super::settings::{self, Settings};
use super::source::{addresses, local_client, reachable};
use super::test_key::TestKey;
use super::{ConfigFile, Told, Usage, providers, runs, test_key};
use crate::admin::Query;
use crate::catalog::{ProviderEntry, SIGNING_SECRET, Sample, TriggerKind};
use crate::clock::Clock;
use crate::config::{Scope, SecretRef, Trigger, nearest};
use crate::connector::{
    Rendered, SignRequest, Signer, TriggerSettings, generate_secret, private_scheme, render as render_sample,
};
use crate::event::{Header, Timestamp};
use crate::secrets::{Secret, Vault};
use crate::signature::{PrivateKey, PublicScheme, with_query};

/// How long `send` waits for the runs of its event, to show how they went.
const RUNS_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const RUNS_LOOK: Duration = Duration::from_millis(50);
/// Largest body that is sent.
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

/// What is needed to sign and post.
pub(super) struct Target {
    pub(super) url: reqwest::Url,
    pub(super) signer: Option<Signer>,
    pub(super) entry: Arc<ProviderEntry>,
    /// The local server's admin API, where it is a local server.
    admin: Option<Client>,
    /// The certificate of a local server is its own: it is not held against the address.
    accept_any_certificate: bool,
    /// The public half of the test key that signs, where one does.
    test_key: Option<PathBuf>,
}

/// A request, signed.
pub(super) struct Signed {
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: Bytes,
}

/// How a target is named on the command line; `bench` has the same words.
pub(super) struct Wanted<'a> {
    pub(super) provider: &'a str,
    pub(super) url: Option<&'a str>,
    pub(super) secret: Option<&'a str>,
    pub(super) invalid: bool,
    pub(super) trigger: Option<&'a str>,
    pub(super) config: &'a ConfigFile,
}

impl Target {
    /// Finds URL, secret and settings: as named, else those of the configured trigger.
    pub(super) async fn find(wanted: Wanted<'_>) -> anyhow::Result<Self> {
        let settings = settings::load(wanted.config, Scope::Text)?;
        let entry = Arc::clone(providers::entry(&settings.catalog, wanted.provider)?);
        if !entry.kinds.contains(&TriggerKind::Webhook) {
            let told =
                "nobody sends what a schedule starts: see its next tick with `hookkeeper triggers list`";
            return Err(Usage(format!("`{}` has no webhooks: {told}", entry.id)).into());
        }
        let trigger = find_trigger(&settings, &wanted)?;
        let private = private_scheme(&entry, &BTreeMap::new()).ok().flatten();
        let needs_secret = entry.secrets.iter().any(|spec| spec.name == SIGNING_SECRET) && private.is_none();
        let lacks_secret = needs_secret && wanted.secret.is_none() && !wanted.invalid;
        if trigger.is_none() && (wanted.url.is_none() || lacks_secret) {
            return Err(no_trigger(&settings, &entry, private)?.into());
        }
        let url = match (wanted.url, trigger) {
            (Some(url), _) => {
                url.parse::<reqwest::Url>().map_err(|error| Usage(format!("--url: {error}")))?
            }
            (None, Some(trigger)) => local_url(&settings, trigger)?,
            (None, None) => unreachable!("refused above"),
        };
        let admin = if wanted.url.is_none() { Some(local_client(&settings.config)?) } else { None };
        let scheme = TriggerSettings {
            secrets: secrets(&settings, &entry, trigger, &wanted, admin.as_ref()).await?,
            public_url: match trigger {
                Some(trigger) => {
                    settings.config.server.public_url.as_ref().map(|base| format!("{base}{}", trigger.path))
                }
                None => url.as_str().split(['?', '#']).next().map(str::to_owned),
            },
            settings: trigger.map(|trigger| trigger.settings.clone()).unwrap_or_default(),
            ..TriggerSettings::default()
        };
        let (signer, test_key) = match Signer::new(&entry, &scheme)? {
            Some(signer) => (Some(signer), None),
            None => private_signer(&settings, &entry, scheme, &wanted)?,
        };
        let accept_any_certificate = wanted.url.is_none() && settings.config.server.tls.is_some();
        Ok(Self { url, signer, entry, admin, accept_any_certificate, test_key })
    }

    /// Signs a request as a delivery of its own.
    pub(super) fn sign(
        &self,
        rendered: Rendered,
        kind: Option<&str>,
        delivery_id: &str,
        now: Timestamp,
    ) -> anyhow::Result<Signed> {
        let Rendered { method, query, mut headers, mut body } = rendered;
        let path = match self.url.query() {
            Some(own) => format!("{}?{own}{}", self.url.path(), query.replace('?', "&")),
            None => format!("{}{query}", self.url.path()),
        };
        let request = SignRequest {
            method: &method,
            url: &path,
            headers: &headers,
            body: &body,
            now,
            delivery_id,
            kind,
        };
        let added = self.signer.as_ref().map(|signer| signer.sign(request)).transpose()?.unwrap_or_default();
        headers.retain(|(name, _)| !added.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)));
        headers.extend(added.headers.into_iter().map(|(name, value)| (name, Bytes::from(value))));
        if let Some(with_proof) = added.body {
            body = with_proof;
        }
        Ok(Signed { method, path: with_query(&path, &added.query), headers, body: body.into() })
    }
}

/// Collects the secrets to sign with: the given one, else those of the trigger.
async fn secrets(
    settings: &Settings,
    entry: &Arc<ProviderEntry>,
    trigger: Option<&Trigger>,
    wanted: &Wanted<'_>,
    admin: Option<&Client>,
) -> anyhow::Result<BTreeMap<String, Vec<Secret>>> {
    let mut secrets = BTreeMap::new();
    for spec in &entry.secrets {
        let is_main = spec.name == SIGNING_SECRET;
        let secret = match (wanted.secret, trigger) {
            _ if is_main && wanted.invalid => wrong_secret(entry)?,
            (Some(given), _) if is_main && !is_private_key(given) => Some(given_secret(given)?),
            // A public key signs nothing; it may stand in a file that is made with the first delivery.
            (_, Some(trigger)) if is_main && signs_with_own_key(entry, trigger) => None,
            (_, Some(trigger)) => trigger_secret(settings, trigger, &spec.name, admin).await?,
            (_, None) => None,
        };
        secrets.extend(secret.map(|secret| (spec.name.clone(), vec![secret])));
    }
    Ok(secrets)
}

/// Says what to configure, so that there is a trigger to send to; where the provider signs with a key of
/// its own, with a test key in its place.
fn no_trigger(
    settings: &Settings,
    entry: &Arc<ProviderEntry>,
    private: Option<PublicScheme>,
) -> anyhow::Result<Usage> {
    let id = &entry.id;
    let Some(private) = private else {
        return Ok(Usage(format!(
            "no trigger of `{id}` is configured here: give --url and --secret, or name another configuration with --config"
        )));
    };
    let TestKey { public, .. } = test_key::of_provider(&settings.config.log.path, id, private)?;
    Ok(Usage(format!(
        "no trigger of `{id}` is configured here. {} signs with a key that it alone has; a test key stands for it.\n\
         Add a trigger that trusts it to hookkeeper.toml, start the server anew, and send again:\n\n{}\n",
        entry.name,
        test_key::trigger(entry, &public)
    )))
}

/// Tells whether the provider signs with a private key, and what triggers have as secret is its public key.
fn signs_with_own_key(entry: &Arc<ProviderEntry>, trigger: &Trigger) -> bool {
    test_key::secret_is_public_key(entry)
        && private_scheme(entry, &trigger.settings).is_ok_and(|scheme| scheme.is_some())
}

/// Builds what signs with a private key, where the provider signs with one: the given key, else the
/// data folder's test key, whose public half is named.
fn private_signer(
    settings: &Settings,
    entry: &Arc<ProviderEntry>,
    mut scheme: TriggerSettings,
    wanted: &Wanted<'_>,
) -> anyhow::Result<(Option<Signer>, Option<PathBuf>)> {
    let Some(private) = private_scheme(entry, &scheme.settings)? else { return Ok((None, None)) };
    let (key, public) = match wanted.secret {
        _ if wanted.invalid => (PrivateKey::generate(private), None),
        Some(given) if is_private_key(given) => {
            (test_key::read(&String::from_utf8_lossy(given_secret(given)?.expose()))?, None)
        }
        _ => {
            let made = test_key::of_provider(&settings.config.log.path, &entry.id, private)?;
            (made.key, Some(made.public))
        }
    };
    if test_key::secret_is_public_key(entry) {
        // The secret is the provider's public key: nothing of it is signed.
        scheme.secrets.remove(SIGNING_SECRET);
    }
    Ok((Signer::with_private_key(entry, &scheme, key)?, public))
}

/// Tells whether what is given on the command line is, or leads to, a private key.
fn is_private_key(given: &str) -> bool {
    given_secret(given).is_ok_and(|secret| secret.expose().windows(11).any(|part| part == b"PRIVATE KEY"))
}

fn find_trigger<'a>(settings: &'a Settings, wanted: &Wanted<'_>) -> anyhow::Result<Option<&'a Trigger>> {
    let triggers = &settings.config.triggers;
    let Some(id) = wanted.trigger else {
        return Ok(triggers.iter().find(|trigger| trigger.provider.as_str() == wanted.provider));
    };
    let found = triggers.iter().find(|trigger| trigger.id.as_str() == id);
    match found {
        Some(trigger) if trigger.provider.as_str() != wanted.provider => {
            Err(Usage(format!("trigger `{id}` is of provider `{}`", trigger.provider)).into())
        }
        Some(trigger) => Ok(Some(trigger)),
        None => {
            let near = nearest(id, triggers.iter().map(|trigger| trigger.id.as_str()));
            let help = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(Usage(format!("there is no trigger `{id}`{help}")).into())
        }
    }
}

fn local_url(settings: &Settings, trigger: &Trigger) -> anyhow::Result<reqwest::Url> {
    let scheme = if settings.config.server.tls.is_some() { "https" } else { "http" };
    let front = reachable(addresses(&settings.config).0);
    Ok(format!("{scheme}://{front}{}", trigger.path).parse()?)
}

fn wrong_secret(entry: &ProviderEntry) -> anyhow::Result<Option<Secret>> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let spec = entry.secrets.iter().find(|spec| spec.name == SIGNING_SECRET);
    Ok(spec.map(|spec| generate_secret(spec, &random)))
}

/// Reads a secret given on the command line: a reference, or the secret itself.
pub(super) fn given_secret(text: &str) -> anyhow::Result<Secret> {
    match SecretRef::parse(text, Path::new("")) {
        Ok(SecretRef::Store(name)) => Err(Usage(format!(
            "store:{name} is opened by the server alone: leave out --secret, or give the secret"
        ))
        .into()),
        Ok(reference) => Ok(crate::secrets::resolve_without_store(&reference)?),
        Err(_) => Ok(Secret::new(text)),
    }
}

/// Finds the current secret of a configured trigger. What is kept sealed comes sealed from the server,
/// and is opened with the master key of the data folder.
async fn trigger_secret(
    settings: &Settings,
    trigger: &Trigger,
    name: &str,
    admin: Option<&Client>,
) -> anyhow::Result<Option<Secret>> {
    let configured = trigger.secrets.get(name).and_then(|list| list.first());
    let learned = SecretRef::Store(format!("{}/{name}", trigger.id));
    let reference = configured.unwrap_or(&learned);
    let SecretRef::Store(name) = reference else {
        let found = crate::secrets::resolve_without_store(reference);
        return found.map(Some).with_context(|| {
            if settings.is_quick_start {
                "the quick start's secret is made by its first start: run `hookkeeper serve` in this folder"
                    .to_owned()
            } else {
                format!("trigger `{}` has no secret to sign with", trigger.id)
            }
        });
    };
    let Some(admin) = admin else {
        return Err(Usage(format!(
            "the secret of trigger `{}` is kept by its server: give --secret",
            trigger.id
        ))
        .into());
    };
    let kept = admin.get(&format!("secrets/{name}/sealed"), &Query::default()).await?;
    let sealed = STANDARD.decode(text(&kept, "/sealed_base64"))?;
    Ok(Some(Vault::new(&settings.config.log.path).unseal(name, &sealed)?))
}

/// Returns a delivery id that no other one has: 128 random bits in the form of a UUID.
pub(super) fn fresh_id() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// Finds the sample of a kind, or says which there are.
pub(super) fn sample<'a>(entry: &'a ProviderEntry, kind: Option<&str>) -> anyhow::Result<&'a Sample> {
    let kinds: Vec<&str> = entry.samples.iter().map(|sample| sample.kind.as_str()).collect();
    let Some(kind) = kind else {
        let first = entry.samples.first();
        return first.ok_or_else(|| Usage(format!("{} has no samples: give --body", entry.id)).into());
    };
    entry.samples.iter().find(|sample| sample.kind == kind).ok_or_else(|| {
        let help = match nearest(kind, kinds.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", kinds.join(", ")),
        };
        Usage(format!("{} has no sample of kind `{kind}`; {help} (or give --body)", entry.id)).into()
    })
}

fn read_body(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(BODY_BYTES_MAX).read_to_end(&mut body)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BODY_BYTES_MAX).read_to_end(&mut body))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    #[test]
    fn fresh_ids_are_uuids_of_version_4() {
        let id = fresh_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, fresh_id().unwrap());
    }

    #[test]
    fn unknown_samples_name_the_nearest() {
        let catalog = ProviderCatalog::built_in();
        let entry = catalog.get("github").unwrap();
        assert_eq!(sample(entry, None).unwrap().kind, entry.samples[0].kind);
        assert!(
            sample(entry, Some("pull_request.open")).unwrap_err().to_string().contains("pull_request.opened")
        );
    }
}
