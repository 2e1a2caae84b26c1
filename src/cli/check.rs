//! `check`: every problem of a configuration in one run.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::render::{GREEN, YELLOW, note, out};
use super::settings::Settings;
use super::source::local_client;
use super::{ConfigFile, settings};
use crate::admin::Query;
use crate::config::{Scope, SecretRef};
use crate::event_log::{self, Log};
use crate::secrets::{SecretError, Vault};

/// How long a running server is given to say which secrets it keeps.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// `check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper check                        check ./hookkeeper.toml
  hookkeeper check -c other.toml          check another file; `-c -` reads stdin
  hookkeeper check --print                print what is in effect, defaults included")]
pub(super) struct Check {
    /// Print the configuration in effect, defaults included; secrets stay references
    #[arg(long)]
    print: bool,
    /// Check the text alone: not whether variables are set, files are there and stored secrets were set
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (source, is_quick_start) = settings::find(&self.config)?;
        // The quick start's secret is made when it is first served.
        let scope = if self.offline || is_quick_start { Scope::Text } else { Scope::Full };
        let settings = settings::load_source(&source, is_quick_start, scope)?;
        settings::warn(&settings.warnings);
        if self.print {
            write!(out(), "{}", settings.config)?;
            return Ok(());
        }
        let unkept = if scope == Scope::Full { unkept(&settings).await } else { Vec::new() };
        for why in &unkept {
            note(format_args!("{YELLOW}warning{YELLOW:#}: {why}"));
        }
        let (triggers, functions) = (settings.config.triggers.len(), settings.config.functions.len());
        let warnings = match settings.warnings.len() + unkept.len() {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            count => format!(", {count} warnings"),
        };
        note(format_args!(
            "{GREEN}ok{GREEN:#} {}: {triggers} trigger{}, {functions} function{}{warnings}",
            source.name,
            plural(triggers),
            plural(functions),
        ));
        Ok(())
    }
}

/// Tells which stored secrets that the configuration refers to nobody has set, or do not open. Nothing comes of what
/// cannot be looked at: a server that runs and does not answer, or a log that does not open.
async fn unkept(settings: &Settings) -> Vec<SecretError> {
    let mut names = stored_names(settings);
    let not_stored = |names: Vec<String>| names.into_iter().map(SecretError::NotStored).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let data = &settings.config.log.path;
    let Ok(folder) = std::fs::metadata(data) else { return not_stored(names) };
    // What another user made there, the server's could not open any more.
    if folder.uid() != rustix::process::geteuid().as_raw() {
        return Vec::new();
    }
    match Log::open_reader(data) {
        Ok(log) => {
            let (state, vault) = (log.state(), Vault::new(data));
            let sealed = |name: &str| state.sealed(name);
            let found = |name| vault.resolve(&SecretRef::Store(name), &sealed).err();
            names.into_iter().filter_map(found).collect()
        }
        Err(event_log::Error::Locked { .. }) => {
            let listed = match local_client(&settings.config) {
                Ok(client) => {
                    let answer =
                        tokio::time::timeout(ANSWER_WAIT, client.get("secrets", &Query::default())).await;
                    answer.ok().and_then(Result::ok)
                }
                Err(_) => None,
            };
            let Some(listed) = listed else { return Vec::new() };
            let items = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            // Of one that is kept and does not open, the server's listing tells more than this would.
            let says_missing = |item: &Value, missing: &str| item["problem"].as_str() == Some(missing);
            names.retain(|name| {
                let missing = SecretError::NotStored(name.clone()).to_string();
                let reference = format!("store:{name}");
                let mut of_name = items.iter().filter(|item| item["reference"] == reference.as_str());
                of_name.all(|item| says_missing(item, &missing))
            });
            not_stored(names)
        }
        // A folder that was made for the server, which has not started yet.
        Err(event_log::Error::Missing { .. }) => not_stored(names),
        Err(_) => Vec::new(),
    }
}

/// Returns the names of the stored secrets that a configuration refers to, but for those that handshakes bring.
fn stored_names(settings: &Settings) -> Vec<String> {
    let config = &settings.config;
    let of_triggers = config.triggers.iter().flat_map(|trigger| {
        let entry = settings.catalog.get(trigger.provider.as_str());
        let is_learned = move |name: &str| {
            entry.is_some_and(|entry| entry.secrets.iter().any(|spec| spec.learned && spec.name == name))
        };
        let asked = trigger.secrets.iter().filter(move |(name, _)| !is_learned(name));
        asked.flat_map(|(_, list)| list).chain(&trigger.public_keys)
    });
    let of_functions = config.functions.iter().flat_map(|function| &function.signing_secret);
    let of_clients = config.clients.iter().flat_map(|client| client.secrets.values().flatten());
    let all = of_triggers.chain(of_functions).chain(of_clients).chain(&config.server.admin_token);
    let names: BTreeSet<String> = all
        .filter_map(|reference| match reference {
            SecretRef::Store(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    names.into_iter().collect()
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
