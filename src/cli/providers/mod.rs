//! `providers`: what the catalogue knows. Needs no server; where one runs, the listing as JSON has its states and counts.

mod client;
mod page;
mod show;
mod test;

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::render::{self, BOLD, Cell, DIM, Table, YELLOW, note};
use super::source::local_client;
use super::{ConfigFile, Usage, settings};
use crate::admin::Query;
use crate::catalog::{Confidence, Family, ProviderCatalog, ProviderEntry, ProviderMetadata, RuntimeKind};
use crate::config::{Config, Scope, nearest};
use crate::connector::SchemeFacts;

/// `providers`.
#[derive(Subcommand)]
pub(super) enum Providers {
    /// List the providers of the catalogue
    List(List),
    /// Show one provider: its scheme, its secrets, what to set up
    Show(show::Show),
    /// Check an entry, built in or your own, and its vectors
    Test(test::Test),
}

/// `providers list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper providers list mail                     whose id, name or documentation has `mail` in it
  hookkeeper providers list --family ed25519
  hookkeeper providers list --confidence experimental --json")]
pub(super) struct List {
    /// Only those with this text in id, name or documentation
    text: Option<String>,
    /// Only those with this kind of proof: hmac, hmac-timestamped, token, jwt, none, …
    #[arg(long, value_name = "FAMILY")]
    family: Option<String>,
    /// Only those whose facts are known this well: sdk-source, docs, secondary, experimental or own
    #[arg(long, value_name = "WORD")]
    confidence: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Providers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Providers::List(command) => command.run().await,
            Providers::Show(command) => command.run(),
            Providers::Test(command) => command.run(),
        }
    }
}

/// Finds a provider, or says which one is nearest.
pub(super) fn entry<'a>(catalog: &'a ProviderCatalog, id: &str) -> anyhow::Result<&'a Arc<ProviderEntry>> {
    catalog.get(id).ok_or_else(|| {
        let nearest = catalog.nearest(id).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Usage(format!("there is no provider `{id}`{nearest} (see `hookkeeper providers list`)")).into()
    })
}

/// What a running server adds to a provider of its own catalogue.
const RUNNING: [&str; 4] = ["triggers", "states", "metrics", "rebuilds"];

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let family = wanted("--family", self.family.as_deref(), &Family::ALL, |it| it.as_str())?;
        let degree = wanted("--confidence", self.confidence.as_deref(), &Confidence::ALL, |it| it.as_str())?;
        let settings = settings::load(&self.config, Scope::Text)?;
        let catalog = &settings.catalog;
        let text = self.text.as_deref().unwrap_or_default().to_lowercase();
        let is_listed = |entry: &&Arc<ProviderEntry>| {
            family.is_none_or(|family| entry.family == family)
                && degree.is_none_or(|degree| entry.confidence == degree)
                && [entry.id.as_str(), &entry.name, &entry.docs]
                    .iter()
                    .any(|place| place.to_lowercase().contains(&text))
        };
        let listed: Vec<_> = catalog.entries().filter(is_listed).collect();
        if self.json {
            let running = running(&settings.config).await;
            let item = |entry: &&Arc<ProviderEntry>| {
                let mut item = json!(ProviderMetadata::of(entry));
                let known = running.iter().find(|known| known["id"] == item["id"]);
                for key in RUNNING {
                    if let Some(value) = known.and_then(|known| known.get(key)) {
                        item[key] = value.clone();
                    }
                }
                item
            };
            let items: Vec<_> = listed.iter().map(item).collect();
            return render::json(&json!({"items": items, "next_cursor": null}));
        }
        if listed.is_empty() {
            note("no provider is like that; one of your own is a [[providers]] table, see the README");
            return Ok(());
        }
        let mut table = Table::new(["ID", "NAME", "SCHEME", "COVERS BODY", "FACTS", "RUNTIME", "SECRETS"]);
        listed.into_iter().for_each(|entry| table.row(row(entry)));
        table.print()
    }
}

/// Returns the providers as a running server knows them; nothing where none answers.
async fn running(config: &Config) -> Vec<Value> {
    let Ok(client) = local_client(config) else { return Vec::new() };
    if !client.answers().await {
        return Vec::new();
    }
    let listing = client.get("providers", &Query::default()).await.unwrap_or_default();
    listing["items"].as_array().cloned().unwrap_or_default()
}

fn row(entry: &Arc<ProviderEntry>) -> Vec<Cell> {
    let runtime = entry.runtime();
    let covers = match SchemeFacts::of_any(entry).ok().and_then(|facts| facts.covers_body) {
        // What proves its deliveries is its connector's own affair.
        _ if runtime != RuntimeKind::Builtin => Cell::styled(DIM, "in code"),
        Some(true) => Cell::from("yes"),
        Some(false) => Cell::styled(YELLOW, "no"),
        None => Cell::styled(YELLOW, "no proof"),
    };
    let facts = entry.confidence.as_str();
    let secrets: Vec<_> = entry.secrets.iter().map(|secret| secret.name.as_str()).collect();
    vec![
        Cell::styled(BOLD, &entry.id),
        entry.name.as_str().into(),
        entry.family.as_str().into(),
        covers,
        if entry.confidence.is_unconfirmed() {
            Cell::styled(YELLOW, facts)
        } else {
            Cell::styled(DIM, facts)
        },
        match runtime {
            RuntimeKind::Placeholder => Cell::styled(YELLOW, runtime.as_str()),
            _ => Cell::styled(DIM, runtime.as_str()),
        },
        secrets.join(", ").into(),
    ]
}

/// Reads a word of a fixed list, or says which there are.
fn wanted<T: Copy>(
    flag: &str,
    text: Option<&str>,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> anyhow::Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    if let Some(found) = all.iter().find(|one| word(**one) == text) {
        return Ok(Some(*found));
    }
    let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
    let near = nearest(text, words.iter().copied()).map(|near| format!("did you mean {near}? "));
    Err(Usage(format!("{flag}: {}known are {}", near.unwrap_or_default(), words.join(", "))).into())
}
