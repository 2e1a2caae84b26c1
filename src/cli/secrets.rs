//! `secrets`: what hookkeeper keeps sealed.

use std::io::{IsTerminal as _, Read as _, Write as _};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::render::{self, note, out, text};
use super::source::{Source, items, post};
use super::{Reach, Usage};
use crate::admin::Query;

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
    name: String,
    #[command(flatten)]
    reach: Reach,
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
        let client = Source::server(&self.reach).await?;
        client.change(Method::PUT, &self.path(), &Query::default(), &json!({"value": value})).await?;
        note(format_args!("kept; refer to it as \"store:{}\"", self.name));
        Ok(())
    }

    async fn remove(self) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        client.change(Method::DELETE, &self.path(), &Query::default(), &json!({})).await?;
        note(format_args!("{} is forgotten", self.name));
        Ok(())
    }

    async fn reveal(self) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        let revealed = post(&client, &format!("{}/reveal", self.path()), &json!({})).await?;
        Ok(writeln!(out(), "{}", text(&revealed, "/value"))?)
    }
}
