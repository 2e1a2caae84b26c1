//! `providers`: what the catalogue knows. Needs no server.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;

use super::render::{self, BOLD, Cell, DIM, Table, out};
use super::{ConfigFile, Usage, settings};
use crate::catalog::{ProviderCatalog, ProviderEntry};
use crate::config::{Config, Scope};

/// `providers`.
#[derive(Subcommand)]
pub(super) enum Providers {
    /// List the providers of the catalogue
    List(List),
    /// Show one provider: its scheme, its secrets, what to set up
    Show(Show),
}

/// `providers list`.
#[derive(Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// `providers show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper providers show slack         what to set up, and where
  hookkeeper providers show github --json the catalogue entry, a model for your own [[providers]]")]
pub(super) struct Show {
    /// The provider's id
    provider: String,
    /// Print the whole catalogue entry as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Providers {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Providers::List(command) => command.run(),
            Providers::Show(command) => command.run(),
        }
    }
}

/// Finds a provider, or says which one is nearest.
pub(super) fn entry<'a>(
    catalog: &'a ProviderCatalog,
    id: &str,
) -> anyhow::Result<&'a std::sync::Arc<ProviderEntry>> {
    catalog.get(id).ok_or_else(|| {
        let nearest = catalog.nearest(id).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Usage(format!("there is no provider `{id}`{nearest} (see `hookkeeper providers list`)")).into()
    })
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let catalog = settings::load(&self.config, Scope::Text)?.catalog;
        if self.json {
            return render::json(&json!({"items": catalog.list_providers(), "next_cursor": null}));
        }
        let mut table = Table::new(["ID", "NAME", "SCHEME", "SECRETS", "KINDS"]);
        for provider in catalog.list_providers() {
            let secrets: Vec<_> =
                provider.required_secrets.iter().map(|secret| secret.name.as_str()).collect();
            table.row([
                Cell::styled(BOLD, &provider.id),
                provider.name.as_str().into(),
                word(&provider.family).into(),
                secrets.join(", ").into(),
                provider.kinds.iter().map(word).collect::<Vec<_>>().join(", ").into(),
            ]);
        }
        table.print()
    }
}

/// Returns the word that a value has in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let settings = settings::load(&self.config, Scope::Text)?;
        let entry = entry(&settings.catalog, &self.provider)?;
        if self.json {
            return render::json(&serde_json::to_value(&**entry)?);
        }
        let mut out = out();
        writeln!(out, "{BOLD}{}{BOLD:#} ({})", entry.name, entry.id)?;
        writeln!(out, "  scheme      {}", word(&entry.family))?;
        if let Some(signature) = &entry.signature {
            let also = signature.also.iter().map(|place| format!(", or {place}")).collect::<String>();
            writeln!(out, "  proof in    {}{also}", signature.sig)?;
            writeln!(out, "  it covers   {}", signature.content.as_deref().unwrap_or("{body}"))?;
            if let Some(tolerance) = signature.tolerance_s {
                writeln!(out, "  tolerance   {tolerance} s around now")?;
            }
        }
        writeln!(out, "  kind from   {}", entry.event.kind.join(", else "))?;
        if !entry.event.delivery.is_empty() {
            writeln!(out, "  dedupe by   {}", entry.event.delivery.join(", else "))?;
        }
        if let Some(within) = entry.ack.within_s {
            writeln!(out, "  waits       {within} s for the answer")?;
        }
        if let Some(retries) = &entry.ack.retries {
            writeln!(out, "  retries     {retries}")?;
        }
        for secret in &entry.secrets {
            let learned =
                if secret.learned { " (brought by a handshake while the trigger is armed)" } else { "" };
            writeln!(out, "\n  secret {BOLD}{}{BOLD:#}{learned}\n    {}", secret.name, secret.about)?;
        }
        for setting in &entry.settings {
            let default =
                setting.default.as_ref().map(|text| format!(" (default: {text})")).unwrap_or_default();
            writeln!(out, "\n  setting {BOLD}{}{BOLD:#}{default}\n    {}", setting.name, setting.about)?;
        }
        for handshake in &entry.handshakes {
            let signed = if handshake.signed { "verified first" } else { "unsigned" };
            writeln!(out, "\n  handshake {BOLD}{}{BOLD:#}: {signed}", handshake.name)?;
        }
        if !entry.gotchas.is_empty() {
            writeln!(out, "\n  mind")?;
        }
        for gotcha in &entry.gotchas {
            writeln!(out, "    - {gotcha}")?;
        }
        urls(&mut out, &settings.config, entry)?;
        let samples: Vec<_> = entry.samples.iter().map(|sample| sample.kind.as_str()).collect();
        writeln!(out, "\n  samples for `hookkeeper send {}`: {}", entry.id, samples.join(", "))?;
        writeln!(out, "  {DIM}{}; read in {} on {}{DIM:#}", entry.docs, entry.source, entry.read_on)?;
        Ok(())
    }
}

/// Says which URLs to register, for the triggers that are configured.
fn urls(out: &mut impl std::io::Write, config: &Config, entry: &ProviderEntry) -> anyhow::Result<()> {
    for trigger in config.triggers.iter().filter(|trigger| trigger.provider == entry.id) {
        let url = match &config.server.public_url {
            Some(base) => format!("{base}{}", trigger.path),
            None => format!("{} at your public URL (set server.public_url)", trigger.path),
        };
        writeln!(out, "\n  trigger {BOLD}{}{BOLD:#}: register {url}", trigger.id)?;
    }
    Ok(())
}
