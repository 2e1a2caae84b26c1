//! Configuration as meant: defaults applied, sizes and durations parsed, references recognised.
//!
//! `raw` reads what was typed and finds every problem in one run; only the types of this file leave
//! the module. Secrets stay references here: resolving them is `secrets`' job.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::{FunctionId, ProviderId, TriggerId};

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners and limits.
    pub server: Server,
    /// The event log.
    pub log: Log,
    /// Configured activations of providers.
    pub triggers: Vec<Trigger>,
    /// What runs on events.
    pub functions: Vec<Function>,
    /// The user's own `[[providers]]` entries, each as the text of one catalogue entry.
    pub providers: Vec<String>,
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

/// How a trigger is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerKind {
    /// The provider calls a path.
    Webhook,
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
    /// Path at the front door, with the leading slash.
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
}

/// What identifies a delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dedupe {
    /// The provider's delivery id, if its entry names one.
    #[default]
    Delivery,
    /// The SHA-256 of the body, where there is no delivery id.
    Body,
}

/// A token bucket's shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Tokens added per second.
    pub per_second: f64,
    /// Most tokens held.
    pub burst: u32,
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

/// How waits grow from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, the last repeating.
    Standard,
    /// 1 s doubled each time, up to 1 h.
    Exponential,
    /// 10 s more each time, up to 1 h.
    Linear,
    /// No wait.
    None,
}

/// `functions.concurrency`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrency {
    /// Most attempts in flight at once, for each value of the key.
    pub limit: u32,
    /// CEL over `event`; absent means one key for all.
    pub key: Option<String>,
}

/// Where a secret is found.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is not part of the secret.
    File(PathBuf),
    /// Kept sealed in the data folder under this name.
    Store(String),
    /// The secret itself: for examples and tests.
    Literal(String),
}

impl std::fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for SecretRef {
    /// Shows the reference; never a literal secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{}", path.display()),
            SecretRef::Store(name) => write!(f, "store:{name}"),
            SecretRef::Literal(_) => f.write_str("literal:[redacted]"),
        }
    }
}
