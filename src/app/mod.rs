//! Builds and wires everything; the only module that knows all others.
//!
//! The start order is the way of an event backwards, so that nobody finds an open door with nothing
//! behind it; the stop order is the way of an event: door, providers, dispatch, log.

mod clients;
mod functions;
mod keeper;
mod providers;
mod rekey;
mod runtime;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Arbiter, System};
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::admin::{self, AdminState};
use crate::clock::Clock;
use crate::config::Config;
use crate::connector::ConnectorRegistry;
use crate::event_log::{Condition, EventLog, Log, Options};
use crate::front_door::{self, Door};
use crate::outbound;
use crate::permits::RateLimiterFactory;
use crate::provider::{ProviderHandle, Providers};
use crate::quarantine::{self, Quarantine};
use crate::replay::Replayer;
use crate::router::Router;
use crate::secrets::{FINGERPRINT_KEY, Secret, Vault};
use crate::subscription::{Subscription, Subscriptions};

pub use clients::Clients;
use functions::{Functions, Parts};
pub use rekey::{Rekeyed, Step, rekey};
use runtime::ProviderRuntime;

/// Idle connections are kept this long: longer than the proxies' usual minute, so that it is they who close.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections of one worker of the front door; further ones wait to be accepted.
const CONNECTIONS_PER_WORKER_MAX: usize = 10_000;
/// How long the log may take to close, whatever the doors and functions left of the stop timeout.
const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Part of the stop timeout that connectors may take to end: most is for what functions have in flight.
const CONNECTORS_SHARE: f64 = 0.25;
/// Where the running server writes its addresses, within the data folder.
pub const RUNTIME_FILE: &str = "server.json";

/// What `serve` runs with.
pub struct ServeOptions {
    /// The configuration.
    pub config: Config,
    /// The catalogue, the user's own entries included, and the connectors that are code.
    pub registry: ConnectorRegistry,
    /// The time.
    pub clock: Clock,
    /// The log of frames; nothing means sled in the data folder.
    pub store: Option<Arc<dyn EventLog>>,
    /// Told once, when the doors are open.
    pub started: Box<dyn FnOnce(&Started)>,
}

/// Where a running server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The front door.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
}

/// Serves until SIGTERM or SIGINT, then stops gracefully.
///
/// # Errors
///
/// If the log does not open, an address cannot be had, or TLS cannot be set up; and after a second
/// signal. What is not finished within the stop timeout is no error: the log has it.
pub fn run(options: ServeOptions) -> anyhow::Result<()> {
    System::new().block_on(async move {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let running = Running::start(&options).await?;
        (options.started)(&running.started);
        tokio::select! {
            _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        }
        let again = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        tokio::select! {
            stopped = running.stop(options.config.server.stop_timeout) => stopped,
            () = again => anyhow::bail!("stopped at once by a second signal; what was accepted is safe in the log"),
        }
    })
}

/// A running server.
struct Running {
    started: Started,
    log: Log,
    quarantine: Quarantine,
    providers: Arc<Providers>,
    provider_arbiters: Vec<Arbiter>,
    router: Router,
    functions: Functions,
    door: ServerHandle,
    admin_door: ServerHandle,
    runtime_file: PathBuf,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Starts everything; when this returns, the doors are open.
    async fn start(options: &ServeOptions) -> anyhow::Result<Self> {
        let (config, clock) = (&options.config, options.clock.clone());
        let data = &config.log.path;
        let log = Log::open(Options { store: options.store.clone(), ..Options::new(data) })?;
        let vault = Arc::new(
            Vault::new(data)
                .with_dir(config.secrets.dir.clone())
                .with_sealed(log.state().seals_more_than(FINGERPRINT_KEY)),
        );
        keeper::keep_fingerprint_key(&log, &vault, &clock).await;
        let news = Arc::new(Notify::new());
        let outbound = Arc::new(outbound::Client::new(&config.outbound)?);
        let permits = RateLimiterFactory::new(clock.clone());
        let clients = Clients::build(&clients::Parts {
            clients: &config.clients,
            catalog: options.registry.catalog(),
            log: &log,
            clock: &clock,
            vault: &vault,
            http: &outbound,
            permits: &permits,
        })?;
        let mut provider_arbiters = Vec::new();
        let shared = providers::Shared {
            log: &log,
            clock: &clock,
            vault: &vault,
            secret_news: &news,
            outbound: &outbound,
            permits: &permits,
        };
        let providers = providers::start(options, &shared, &mut provider_arbiters).await?;

        let parts = Parts {
            functions: &config.functions,
            log: &log,
            clock: &clock,
            vault: &vault,
            providers: &providers,
        };
        let functions = Functions::start(&parts)?;
        let subscriptions = subscriptions(config)?;
        let replayer = Replayer::new(log.clone(), clock.clone(), subscriptions.clone());
        let router =
            Router::start(log.clone(), clock.clone(), subscriptions).context("cannot start the router")?;

        let quarantine = quarantine(config, &log, &vault)?;
        let door = Arc::new(Door::new(providers.clone(), log.clone(), quarantine.clone(), clock.clone()));
        let sealed = |name: &str| log.state().sealed(name);
        let token = config.server.admin_token.as_ref().map(|reference| {
            let secret = vault.resolve(reference, &sealed).context("server.admin_token")?;
            anyhow::Ok((reference.clone(), Arc::new(ArcSwap::from_pointee(secret))))
        });
        let keeper = keeper::Parts {
            log: log.clone(),
            clock: clock.clone(),
            vault: vault.clone(),
            providers: providers.clone(),
            functions: functions.secrets().clone(),
            token: token.transpose()?,
            news,
        };
        let runtime = ProviderRuntime {
            providers: providers.clone(),
            door: door.clone(),
            keeper: keeper.clone(),
            clients,
        };
        let token = keeper.token.as_ref().map(|(_, token)| token.clone());
        let (admin_server, admin) =
            admin_server(options, &parts, replayer, quarantine.clone(), Arc::new(runtime), token)?;
        let keeper = keeper::start(keeper, keeper::secret_files(config));
        let admin_door = admin_server.handle();
        actix::spawn(admin_server);

        let (front, listen) = front_server(config, door)?;
        let door = front.handle();
        actix::spawn(front);

        let started = Started { listen, admin };
        let runtime_file = data.join(RUNTIME_FILE);
        write_runtime_file(&runtime_file, started)?;
        Ok(Self {
            started,
            log,
            quarantine,
            providers,
            provider_arbiters,
            router,
            functions,
            door,
            admin_door,
            runtime_file,
            keeper,
        })
    }

    /// Stops in the order of an event's way, within `timeout`.
    async fn stop(self, timeout: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + timeout;
        let _ = std::fs::remove_file(&self.runtime_file);
        self.keeper.abort();
        self.door.stop(true).await;
        let limit = timeout.mul_f64(CONNECTORS_SHARE);
        let stops = self.providers.iter().map(|provider| provider.stop(limit));
        futures_util::future::join_all(stops).await;
        // What is not routed yet is routed after the next start.
        let _ = web::block(move || self.router.stop()).await;
        let cut_off = self.functions.stop(deadline.saturating_duration_since(Instant::now())).await;
        if cut_off > 0 {
            tracing::warn!(
                cut_off,
                "attempts were cut off by the stop timeout; they are made again after the next start"
            );
        }
        self.admin_door.stop(false).await;
        futures_util::future::join_all(self.providers.iter().map(ProviderHandle::close_permits)).await;
        let _ = web::block(move || self.quarantine.stop()).await;
        self.log.close(deadline.max(Instant::now() + LOG_CLOSE_TIMEOUT)).await;
        for arbiter in self.provider_arbiters {
            arbiter.stop();
        }
        Ok(())
    }
}

fn subscriptions(config: &Config) -> anyhow::Result<Subscriptions> {
    let compile = |function| Subscription::new(function).map_err(|error| anyhow!(error));
    let subscriptions = config.functions.iter().map(compile).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Arc::new(ArcSwap::from_pointee(subscriptions)))
}

/// Opens the quarantine. What is refused is not kept while the disk has no more room than the log needs.
fn quarantine(config: &Config, log: &Log, vault: &Arc<Vault>) -> anyhow::Result<Quarantine> {
    let of_log = log.clone();
    let parts = quarantine::Parts {
        data: &config.log.path,
        vault: vault.clone(),
        triggers: config.triggers.iter().map(|trigger| trigger.id.clone()).collect(),
        has_room: Box::new(move || of_log.health().condition == Condition::Ok),
    };
    Quarantine::start(parts).context("cannot open the quarantine")
}

fn front_server(config: &Config, door: Arc<Door>) -> anyhow::Result<(Server, SocketAddr)> {
    let server = &config.server;
    let door = web::Data::from(door);
    let app = move || App::new().app_data(door.clone()).default_service(web::to(front_door::handle));
    let http = HttpServer::new(app)
        .workers(server.workers)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .max_connections(CONNECTIONS_PER_WORKER_MAX)
        // The other half is for what functions have in flight.
        .shutdown_timeout((server.stop_timeout / 2).as_secs().max(1))
        .disable_signals();
    let bound = match &server.tls {
        None => http.bind(server.listen),
        Some(tls) => http.bind_rustls_0_23(server.listen, front_door::load_tls(tls)?),
    };
    let http = bound.with_context(|| format!("cannot listen on {} (server.listen)", server.listen))?;
    let listen = http.addrs().first().copied().context("the front door has no address")?;
    Ok((http.run(), listen))
}

fn admin_server(
    options: &ServeOptions,
    parts: &Parts<'_>,
    replayer: Replayer,
    quarantine: Quarantine,
    runtime: Arc<ProviderRuntime>,
    token: Option<Arc<ArcSwap<Secret>>>,
) -> anyhow::Result<(Server, SocketAddr)> {
    let server = &options.config.server;
    let state = AdminState::new(admin::Parts {
        log: parts.log.clone(),
        clock: parts.clock.clone(),
        catalog: options.registry.catalog().clone(),
        config: Arc::new(options.config.clone()),
        runtime,
        vault: parts.vault.clone(),
        quarantine,
        replayer,
        token,
        address: server.admin,
    });
    let http = HttpServer::new(move || App::new().configure(admin::configure(state.clone())))
        .workers(1)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .disable_signals()
        .bind(server.admin)
        .with_context(|| format!("cannot listen on {} (server.admin)", server.admin))?;
    let address = http.addrs().first().copied().context("the admin listener has no address")?;
    Ok((http.run(), address))
}

/// Writes down where the server listens, so that commands in the same folder find it.
fn write_runtime_file(path: &Path, started: Started) -> anyhow::Result<()> {
    let content = serde_json::json!({
        "listen": started.listen,
        "admin": started.admin,
        "pid": std::process::id(),
    });
    // Written aside and renamed: who looks finds all of it or nothing.
    let aside = path.with_extension("json.new");
    std::fs::write(&aside, content.to_string())
        .and_then(|()| std::fs::rename(&aside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod connector_tests;
#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
