//! `secrets`: what hookkeeper keeps sealed.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::client::Client;
use super::render::{self, note, out, text};
use super::source::{Source, items, local_client, post};
use super::{Reach, Usage, settings};
use crate::admin::{AUDIT_ADMIN, Query};
use crate::clock::Clock;
use crate::config::{Scope, is_store_name};
use crate::event_log::record::{Audit, Record, Sealed};
use crate::event_log::{Log, Options};
use crate::secrets::{Secret, Vault};

/// How long closing the log may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a secret is kept.
enum Place {
    /// By a running server.
    Server(Client),
    /// In a stopped server's folder.
    Folder(PathBuf),
}

/// `secrets`.
#[derive(Subcommand)]
pub(super) enum Secrets {
    /// List the names of the secrets that are kept
    List(List),
    /// Keep a secret, read from stdin, for `store:NAME` references
    Set(Set),
    /// Forget a secret
    Remove(Name),
    /// Print a secret that is kept, such as a captured handshake token; this is audited
    Reveal(Name),
}

/// `secrets list`.
#[derive(Args)]
pub(super) struct List {
    /// Print {"items": […], "next_cursor": null}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// `secrets set`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pass github-webhook | hookkeeper secrets set github/signing_secret
  hookkeeper secrets set github/signing_secret < secret.txt

Then refer to it in the configuration: secrets = { signing_secret = \"store:github/signing_secret\" }")]
pub(super) struct Set {
    #[command(flatten)]
    name: Name,
}

/// A secret's name.
#[derive(Args)]
pub(super) struct Name {
    /// The secret's name, such as github/signing_secret
    #[arg(value_parser = store_name)]
    name: String,
    #[command(flatten)]
    reach: Reach,
}

/// Reads a name that `store:` references can have.
fn store_name(text: &str) -> Result<String, &'static str> {
    let remedy = "use letters, digits, `_`, `-`, `.` and `/`, such as github/signing_secret";
    if is_store_name(text) { Ok(text.to_owned()) } else { Err(remedy) }
}

impl Secrets {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Secrets::List(command) => command.run().await,
            Secrets::Set(command) => command.name.set().await,
            Secrets::Remove(command) => command.remove().await,
            Secrets::Reveal(command) => command.reveal().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let listing = Source::open(&self.reach).await?.get("secrets", &Query::default()).await?;
        if self.json {
            return render::json(&listing);
        }
        for item in items(&listing) {
            writeln!(out(), "{}", text(item, "/name"))?;
        }
        if items(&listing).is_empty() {
            note("no secret is kept");
        }
        Ok(())
    }
}

impl Name {
    fn path(&self) -> String {
        let encode = |part| {
            percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        format!("secrets/{}", self.name.split('/').map(encode).collect::<Vec<_>>().join("/"))
    }

    async fn set(self) -> anyhow::Result<()> {
        if std::io::stdin().is_terminal() {
            note("type the secret, then Enter and Ctrl-D (it shows: a pipe or file is better)");
        }
        let mut secret = Zeroizing::new(String::new());
        std::io::stdin().take(1 << 20).read_to_string(&mut secret)?;
        // One trailing newline is the shell's, not the secret's.
        let value = secret.strip_suffix('\n').unwrap_or(&secret);
        let value = value.strip_suffix('\r').unwrap_or(value);
        if value.trim().is_empty() {
            return Err(Usage("stdin holds no secret".to_owned()).into());
        }
        match self.place().await? {
            Place::Server(client) => {
                let body = json!({"value": value});
                client.change(Method::PUT, &self.path(), &Query::default(), &body).await?;
            }
            Place::Folder(data) => self.keep(&data, Some(Secret::new(value)), "secret_set").await?,
        }
        note(format_args!("kept; refer to it as \"store:{}\"", self.name));
        Ok(())
    }

    async fn remove(self) -> anyhow::Result<()> {
        match self.place().await? {
            Place::Server(client) => {
                client.change(Method::DELETE, &self.path(), &Query::default(), &json!({})).await?;
            }
            Place::Folder(data) => self.keep(&data, None, "secret_removed").await?,
        }
        note(format_args!("{} is forgotten", self.name));
        Ok(())
    }

    /// Finds where the secret is kept: by a running server, else in the data folder itself.
    async fn place(&self) -> anyhow::Result<Place> {
        if let Some(data) = &self.reach.data {
            return Ok(Place::Folder(data.clone()));
        }
        if self.reach.admin.is_some() {
            return Ok(Place::Server(Source::server(&self.reach).await?));
        }
        let settings = settings::load(&self.reach.config, Scope::Text)?;
        let client = local_client(&settings.config)?;
        if client.answers().await {
            Ok(Place::Server(client))
        } else {
            Ok(Place::Folder(settings.config.log.path))
        }
    }

    /// Keeps or forgets a secret in a stopped server's folder, so that it is there at the first start.
    async fn keep(&self, data: &Path, secret: Option<Secret>, code: &str) -> anyhow::Result<()> {
        let log = Log::open(Options::new(data))?;
        let sealed = match &secret {
            Some(secret) => Vault::new(data).seal(&self.name, secret)?,
            None if log.state().sealed(&self.name).is_none_or(|sealed| sealed.is_empty()) => {
                anyhow::bail!("there is no secret {}", self.name);
            }
            None => bytes::Bytes::new(),
        };
        let at = Clock::system().now();
        let audit = Audit {
            topic: AUDIT_ADMIN.to_owned(),
            at,
            trigger_id: None,
            peer: None,
            code: code.to_owned(),
            detail: format!("{}, while the server was stopped", self.name),
            count: 1,
        };
        let sealed = Sealed { name: self.name.clone(), at, sealed };
        log.append_durable(vec![Record::Sealed(sealed), Record::Audit(audit)]).await?;
        log.close(Instant::now() + CLOSE_TIMEOUT).await;
        Ok(())
    }

    async fn reveal(self) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        let revealed = post(&client, &format!("{}/reveal", self.path()), &json!({})).await?;
        Ok(writeln!(out(), "{}", text(&revealed, "/value"))?)
    }
}
