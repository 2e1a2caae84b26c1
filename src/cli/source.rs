//! Where commands read from: a running server's admin API, or a stopped server's folder. Both give the
//! same JSON.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::render::{self, Cell, Table, note};
use super::settings::{self, Settings};
use super::{Reach, Usage};
use crate::admin::{LIMIT_MAX, Problem, Query, View};
use crate::app::RUNTIME_FILE;
use crate::clock::Clock;
use crate::config::{Config, Scope};
use crate::event::EventId;
use crate::event_log::{self, Log};
use crate::quarantine::Quarantine;
use crate::secrets::{FINGERPRINT_KEY, Vault, resolve_without_store};

/// Environment variable with the admin API's token.
pub(super) const TOKEN_ENV: &str = "HOOKKEEPER_ADMIN_TOKEN";

/// Where commands read from.
pub(super) enum Source {
    /// A running server.
    Server(Client),
    /// A stopped server's folder.
    Folder(Box<View>),
}

/// How much of a listing is wanted, and in what form.
#[derive(Args, Clone)]
pub(super) struct Paging {
    /// Most items to list
    #[arg(long, value_name = "COUNT", default_value = "20", help_heading = "Output")]
    limit: NonZeroUsize,
    /// Go on where an earlier listing ended
    #[arg(long, value_name = "CURSOR", help_heading = "Output")]
    cursor: Option<String>,
    /// Print {"items": […], "next_cursor": …}
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
}

impl Source {
    /// Finds where to read from: what was named, else a running server, else the data folder.
    pub(super) async fn open(reach: &Reach) -> anyhow::Result<Self> {
        if let Some(data) = &reach.data {
            return folder(data, own_settings(reach, data));
        }
        if let Some(admin) = &reach.admin {
            return Ok(Self::Server(Client::new(admin, token(None))?));
        }
        let settings = settings::load(&reach.config, Scope::Text)?;
        let client = local_client(&settings.config)?;
        if client.answers().await {
            return Ok(Self::Server(client));
        }
        let data = settings.config.log.path.clone();
        if !data.is_dir() {
            return Err(anyhow::anyhow!(
                "no server answers at {}, and there is no data folder {}; start one with `hookkeeper serve`, \
                 or name one with --admin or --data",
                client.base(),
                data.display()
            ));
        }
        folder(&data, Some(settings))
    }

    /// Finds a running server, for what changes something.
    pub(super) async fn server(reach: &Reach) -> anyhow::Result<Client> {
        if reach.data.is_some() {
            return Err(Usage(
                "this changes a running server: name it with --admin instead of --data".into(),
            )
            .into());
        }
        if let Some(admin) = &reach.admin {
            return Client::new(admin, token(None));
        }
        let settings = settings::load(&reach.config, Scope::Text)?;
        let client = local_client(&settings.config)?;
        if client.answers().await {
            return Ok(client);
        }
        Err(anyhow::anyhow!(
            "no server answers at {}; start one with `hookkeeper serve`, or name one with --admin",
            client.base()
        ))
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str, query: &Query) -> anyhow::Result<Value> {
        match self {
            Source::Server(client) => client.get(path, query).await,
            Source::Folder(view) => view.get(path, query).map_err(problem),
        }
    }

    /// Reads an event's raw body.
    pub(super) async fn body(&self, id: EventId) -> anyhow::Result<Bytes> {
        match self {
            Source::Server(client) => client.get_bytes(&format!("events/{id}/body")).await,
            Source::Folder(view) => Ok(view.body(id).map_err(problem)?.0),
        }
    }

    /// Reads a listing up to the wanted number of items, however many pages that takes.
    pub(super) async fn listing(
        &self,
        path: &str,
        mut query: Query,
        paging: &Paging,
    ) -> anyhow::Result<Value> {
        let mut items = Vec::new();
        if let Some(cursor) = &paging.cursor {
            query.set("cursor", cursor);
        }
        loop {
            let missing = paging.limit.get().saturating_sub(items.len());
            query.set("limit", missing.clamp(1, LIMIT_MAX));
            let mut page = self.get(path, &query).await?;
            if let Value::Array(found) = page["items"].take() {
                items.extend(found);
            }
            let next = page["next_cursor"].take();
            match next.as_str() {
                Some(cursor) if items.len() < paging.limit.get() => query.set("cursor", cursor),
                _ => return Ok(json!({"items": items, "next_cursor": next})),
            }
        }
    }

    /// Prints a listing: as JSON, or as a table with one row for each item, and `nothing` in place of no rows.
    pub(super) fn print(
        listing: &Value,
        json: bool,
        mut table: Table,
        row: impl Fn(&Value) -> Vec<Cell>,
        nothing: &str,
    ) -> anyhow::Result<()> {
        if json {
            return render::json(listing);
        }
        for item in items(listing) {
            table.row(row(item));
        }
        if table.is_empty() {
            note(nothing);
        }
        table.print()?;
        if let Some(cursor) = listing["next_cursor"].as_str() {
            note(format_args!("{}more: --cursor {cursor}{:#}", render::DIM, render::DIM));
        }
        Ok(())
    }
}

/// Returns the items of a listing.
pub(super) fn items(listing: &Value) -> &[Value] {
    listing["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What is said of a listing that found nothing.
pub(super) const NOTHING: &str = "nothing found";

/// Asks a server to change something, without parameters.
pub(super) async fn post(client: &Client, path: &str, body: &Value) -> anyhow::Result<Value> {
    client.change(Method::POST, path, &Query::default(), body).await
}

/// Turns a refusal into an error, with the exit code for it.
pub(super) fn problem(problem: Problem) -> anyhow::Error {
    if problem.status == 400 { Usage(problem.detail).into() } else { problem.into() }
}

fn folder(data: &Path, settings: Option<Settings>) -> anyhow::Result<Source> {
    let log = Log::open_reader(data).map_err(|error| match error {
        event_log::Error::Locked { .. } => anyhow::anyhow!(
            "{error}; its admin API does not answer where it was looked for: name it with --admin"
        ),
        error => error.into(),
    })?;
    Ok(Source::Folder(Box::new(view(log, data, settings))))
}

/// Returns what there is to be read in a stopped server's folder whose log is open.
pub(super) fn view(log: Log, data: &Path, settings: Option<Settings>) -> View {
    let (config, catalog) = match settings {
        Some(Settings { config, catalog, .. }) => (Some(Arc::new(config)), catalog),
        None => (None, crate::catalog::ProviderCatalog::built_in()),
    };
    let vault = Arc::new(Vault::new(data).with_sealed(log.state().seals_more_than(FINGERPRINT_KEY)));
    let quarantine = Quarantine::reader(data, Arc::clone(&vault));
    View { log, clock: Clock::system(), vault, quarantine, catalog, config, runtime: None }
}

/// Returns the configuration that belongs to a data folder, if it is to be had.
pub(super) fn own_settings(reach: &Reach, data: &Path) -> Option<Settings> {
    let settings = settings::load(&reach.config, Scope::Text).ok();
    settings.filter(|it| reach.config.path.is_some() || same_folder(&it.config.log.path, data))
}

fn same_folder(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Returns the token for the admin API: the environment's, else the configuration's own.
fn token(config: Option<&Config>) -> Option<String> {
    if let Some(token) = std::env::var(TOKEN_ENV).ok().filter(|token| !token.is_empty()) {
        return Some(token);
    }
    let secret = resolve_without_store(config?.server.admin_token.as_ref()?).ok()?;
    String::from_utf8(secret.expose().to_vec()).ok()
}

/// Returns a client of the server that a configuration describes, whether it runs or not.
pub(super) fn local_client(config: &Config) -> anyhow::Result<Client> {
    let address = addresses(config).1;
    Client::new(&format!("http://{}", reachable(address)), token(Some(config)))
}

/// Returns front door and admin addresses: as a running server wrote them down, else as configured.
pub(super) fn addresses(config: &Config) -> (SocketAddr, SocketAddr) {
    let written = std::fs::read(config.log.path.join(RUNTIME_FILE)).ok();
    let written: Value = written.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let address = |name: &str| written[name].as_str().and_then(|text| text.parse().ok());
    (address("listen").unwrap_or(config.server.listen), address("admin").unwrap_or(config.server.admin))
}

/// Returns an address that can be called: a listener on all addresses is called on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
