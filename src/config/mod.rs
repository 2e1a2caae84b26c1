//! Configuration as meant: defaults applied, sizes and durations parsed, references recognised.
//!
//! `raw` reads what was typed and finds every problem in one run; only the types of this file leave
//! the module. Secrets stay references here: resolving them is `secrets`' job.

mod clients;
mod cron;
mod document;
mod function;
mod knowledge;
mod outbound;
mod print;
mod problem;
mod raw;
mod trigger;
mod units;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::{FunctionId, ProviderId, TriggerId};
use crate::schedule::Schedule;

pub use document::Source;
pub use knowledge::{
    ClientFacts, ClientFault, ClientGiven, ClientPlace, ClientUrl, Knowledge, Proof, ProviderFacts,
    SecretFact, SettingFact,
};
pub use problem::{Problem, Warning};
pub use raw::{Scope, load};
pub use units::{format_duration, format_size, parse_duration, parse_size};

pub use crate::settings::{
    Backoff, Dedupe, Outbound, RefError, STORE_NAME_BYTES_MAX, SecretRef, is_store_name, nearest,
};

/// The commented configuration that `init` writes: every key, with its default or an example.
pub const STARTER: &str = include_str!("default.toml");
/// The configuration that `serve` takes where there is none; [`quick_start`] completes it.
const QUICK_START: &str = include_str!("quick_start.toml");
/// The name under which the quick start shows up in problems.
const QUICK_START_NAME: &str = "the built-in quick start";
/// The file of the quick start's secret, within the data folder.
pub const QUICK_START_SECRET: &str = "quickstart-secret";

/// Returns the configuration of the quick start: trigger `github`, and a function that runs `program print-event`.
pub fn quick_start(program: &std::path::Path) -> Source {
    let program = toml::Value::String(program.to_string_lossy().into_owned()).to_string();
    Source {
        name: QUICK_START_NAME.to_owned(),
        text: QUICK_START.replace("\"{program}\"", &program),
        base: PathBuf::new(),
    }
}

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners and limits.
    pub server: Server,
    /// The event log.
    pub log: Log,
    /// Where secrets are found by name.
    pub secrets: Secrets,
    /// Requests that hookkeeper makes of its own accord.
    pub outbound: Outbound,
    /// Configured activations of providers.
    pub triggers: Vec<Trigger>,
    /// What runs on events.
    pub functions: Vec<Function>,
    /// The user's own `[[providers]]` entries, each as the text of one catalogue entry.
    pub providers: Vec<String>,
    /// Providers whose API is called.
    pub clients: Vec<Client>,
}

/// One `[clients.<provider>]` table.
#[derive(Debug, Clone)]
pub struct Client {
    /// The provider.
    pub provider: ProviderId,
    /// Secrets by the name that the client of the provider's entry gives them; the first of a list is used.
    pub secrets: BTreeMap<String, Vec<SecretRef>>,
    /// Settings of the client by their catalogue name.
    pub settings: BTreeMap<String, String>,
    /// Where the API is, in place of what the entry says.
    pub base_url: Option<String>,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address of the front door.
    pub listen: SocketAddr,
    /// The URL under which providers reach the front door, without a trailing slash.
    pub public_url: Option<String>,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Further names in the Host header that the admin listener answers to.
    pub admin_names: Vec<String>,
    /// Token of the admin listener; required when `admin` is not loopback.
    pub admin_token: Option<SecretRef>,
    /// Certificate and key files, both PEM.
    pub tls: Option<Tls>,
    /// Most bytes of a request body.
    pub body_limit: u64,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
    /// Worker threads of the front door; the default is the number of cores.
    pub workers: usize,
}

impl Server {
    /// Bounds of `body_limit`: below, real deliveries would not fit; above, one body would fill a disk.
    pub const BODY_LIMIT_RANGE: RangeInclusive<u64> = 1_000..=1_000_000_000;
    /// Bounds of `stop_timeout`.
    pub const STOP_TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
    /// Greatest number of workers.
    pub const WORKERS_MAX: u64 = 256;
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            admin_names: Vec::new(),
            admin_token: None,
            tls: None,
            body_limit: 25_000_000,
            stop_timeout: Duration::from_secs(30),
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// `server.tls`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM file of the certificate chain.
    pub cert: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// The data folder.
    pub path: PathBuf,
}

impl Default for Log {
    fn default() -> Self {
        Self { path: PathBuf::from("data") }
    }
}

/// `[secrets]`: where secrets are found that are asked for by name, such as those of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The folder of secret files; absent means `secrets` in the data folder.
    pub dir: Option<PathBuf>,
}

/// How a trigger is set off.
#[derive(Debug, Clone, PartialEq)]
pub enum TriggerKind {
    /// The provider calls a path.
    Webhook,
    /// It ticks.
    Cron(Box<Cron>),
    /// Its provider is asked what is new.
    Poll(Poll),
}

impl TriggerKind {
    /// Returns the kind's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            TriggerKind::Webhook => "webhook",
            TriggerKind::Cron(_) => "cron",
            TriggerKind::Poll(_) => "poll",
        }
    }
}

/// How often a provider is asked what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// The time from one poll to the next, to which some is added so that many triggers do not ask together.
    pub every: Duration,
}

impl Poll {
    /// Default of `every`.
    pub const EVERY: Duration = Duration::from_secs(60);
    /// Bounds of `every`: below, providers' limits are used up; above, events come too late for anything.
    pub const EVERY_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
}

/// When a cron trigger ticks, and what becomes of the ticks that it missed.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    /// `schedule` in `timezone`.
    pub schedule: Schedule,
    /// What becomes of missed ticks.
    pub catchup: Catchup,
}

/// What becomes of ticks that were missed while nobody was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Catchup {
    /// None of them becomes an event.
    #[default]
    Skip,
    /// The last one does.
    Latest,
    /// All do, up to a bound; beyond it the last ones.
    All,
}

impl Catchup {
    /// Every way.
    pub const ALL: [Catchup; 3] = [Catchup::Skip, Catchup::Latest, Catchup::All];

    /// Returns the way's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Catchup::Skip => "skip",
            Catchup::Latest => "latest",
            Catchup::All => "all",
        }
    }
}

/// One `[[triggers]]` table.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Its id.
    pub id: TriggerId,
    /// The provider whose events it takes.
    pub provider: ProviderId,
    /// How it is set off.
    pub kind: TriggerKind,
    /// Path at the front door, with the leading slash; empty for a trigger that nobody calls.
    pub path: String,
    /// Secrets by the name that the provider's entry gives them; of each list the first is current.
    pub secrets: BTreeMap<String, Vec<SecretRef>>,
    /// Overrides the provider's tolerance for timestamped schemes.
    pub tolerance: Option<Duration>,
    /// How long a dedupe key is remembered.
    pub dedupe_window: Duration,
    /// What identifies a delivery.
    pub dedupe: Dedupe,
    /// Token bucket, counted after verification.
    pub rate_limit: Option<RateLimit>,
    /// Settings of the provider's scheme by their catalogue name, such as the header of the generic HMAC provider.
    pub settings: BTreeMap<String, String>,
    /// Public keys that are trusted in place of those that the provider publishes, for tests.
    pub public_keys: Vec<SecretRef>,
}

impl Trigger {
    /// Returns when it ticks, if it is a cron trigger.
    pub fn cron(&self) -> Option<&Cron> {
        match &self.kind {
            TriggerKind::Cron(cron) => Some(cron),
            TriggerKind::Webhook | TriggerKind::Poll(_) => None,
        }
    }

    /// Returns how often its provider is asked, if it is a poll trigger.
    pub fn poll(&self) -> Option<Poll> {
        match &self.kind {
            TriggerKind::Poll(poll) => Some(*poll),
            TriggerKind::Webhook | TriggerKind::Cron(_) => None,
        }
    }

    /// Bounds of `tolerance`.
    pub const TOLERANCE_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(86_400);
    /// Default of `dedupe_window`, longer where the provider sends again for longer.
    pub const DEDUPE_WINDOW: Duration = Duration::from_secs(72 * 3600);
    /// Bounds of `dedupe_window`.
    pub const DEDUPE_WINDOW_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(60)..=Duration::from_secs(90 * 86_400);
}

/// A token bucket's shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Tokens added per second.
    pub per_second: f64,
    /// Most tokens held.
    pub burst: u32,
}

impl RateLimit {
    /// Greatest rate.
    pub const PER_SECOND_MAX: f64 = 1e6;
    /// Greatest burst.
    pub const BURST_MAX: u64 = 10_000_000;
}

/// One `[[functions]]` table.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its id.
    pub id: FunctionId,
    /// Triggers whose events it takes; empty means all.
    pub on: Vec<TriggerId>,
    /// Globs over kinds, `*` matching any run of characters; empty means all.
    pub events: Vec<String>,
    /// CEL over `event`.
    pub when: Option<String>,
    /// What is called.
    pub handler: Handler,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// When to try again.
    pub retry: Retry,
    /// How many attempts may be in flight.
    pub concurrency: Concurrency,
    /// Signs deliveries in the Standard Webhooks scheme; all sign side by side.
    pub signing_secret: Vec<SecretRef>,
    /// Mint the provider's own signature anew for each attempt.
    pub sign_as_provider: bool,
    /// What the handler receives.
    pub format: Format,
}

impl Function {
    /// Default of `timeout`.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// Bounds of `timeout`.
    pub const TIMEOUT_RANGE: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(86_400);
}

/// What a function's handler is.
#[derive(Debug, Clone)]
pub enum Handler {
    /// POST to a URL.
    Http {
        /// The URL, http or https.
        url: String,
    },
    /// Run a command.
    Exec {
        /// Program and arguments; never a shell.
        command: Vec<String>,
        /// Names of environment variables passed on beside the fixed ones.
        env: Vec<String>,
    },
}

/// What a handler receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// The raw body, byte for byte, attributes beside it.
    #[default]
    Binary,
    /// One CloudEvents JSON.
    Structured,
}

/// `functions.retry`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Most attempts, the first one counted; at least 1.
    pub attempts: u32,
    /// How waits grow.
    pub backoff: Backoff,
}

impl Retry {
    /// Greatest number of attempts.
    pub const ATTEMPTS_MAX: u64 = 100;
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 8, backoff: Backoff::Standard }
    }
}

/// `functions.concurrency`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrency {
    /// Most attempts in flight at once, for each value of the key.
    pub limit: u32,
    /// CEL over `event`; absent means one key for all.
    pub key: Option<String>,
}

impl Concurrency {
    /// Default of `limit`.
    pub const LIMIT: u32 = 16;
    /// Greatest `limit`.
    pub const LIMIT_MAX: u64 = 1024;
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { limit: Self::LIMIT, key: None }
    }
}

/// Largest configuration that is read, in bytes.
const SOURCE_BYTES_MAX: u64 = 4 << 20;

impl Source {
    /// Reads a configuration file; relative paths in it start at its folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not UTF-8, or is longer than any configuration.
    pub fn read(path: &std::path::Path) -> std::io::Result<Self> {
        use std::io::{Error, Read as _};
        let mut text = String::new();
        let read = std::fs::File::open(path)?.take(SOURCE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > SOURCE_BYTES_MAX {
            return Err(Error::other(format!("it is larger than {SOURCE_BYTES_MAX} bytes")));
        }
        let base = path.parent().map(PathBuf::from).unwrap_or_default();
        Ok(Self { name: path.display().to_string(), text, base })
    }
}

impl Config {
    /// Returns the trigger of the given id.
    pub fn trigger(&self, id: &TriggerId) -> Option<&Trigger> {
        self.triggers.iter().find(|trigger| trigger.id == *id)
    }

    /// Returns the function of the given id.
    pub fn function(&self, id: &FunctionId) -> Option<&Function> {
        self.functions.iter().find(|function| function.id == *id)
    }
}

#[cfg(test)]
mod tests;
