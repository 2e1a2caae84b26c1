//! `serve`: runs the server; without a configuration, the built-in quick start.

use std::path::Path;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::render::{BOLD, DIM, note};
use super::{ConfigFile, settings};
use crate::app::{self, ServeOptions, Started};
use crate::catalog::ProviderCatalog;
use crate::clock::Clock;
use crate::config::{Config, QUICK_START_SECRET, Scope, format_duration};
use crate::secrets::{generate, write_private};

/// Environment variable that says what is logged.
const LOG_ENV: &str = "HOOKKEEPER_LOG";
/// What is logged where it says nothing. actix-http would call every malformed request of the internet an error.
const LOG_DEFAULT: &str = "info,actix_server=warn,actix_http=off";

/// `serve`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper serve                        ./hookkeeper.toml, or without one the built-in quick start
  hookkeeper serve -c /etc/hookkeeper/hookkeeper.toml
  HOOKKEEPER_LOG=debug hookkeeper serve   log more; warn logs less

SIGTERM and Ctrl-C stop it gracefully: the door closes first, what is in flight is finished.")]
pub(super) struct Serve {
    /// Form of log lines on stderr
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(flatten)]
    config: ConfigFile,
}

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        start_log(self.log_format);
        let (source, is_quick_start) = settings::find(&self.config)?;
        if is_quick_start {
            let config = settings::load_source(&source, true, Scope::Text)?.config;
            make_quick_start_secret(&config.log.path)?;
        }
        let settings = settings::load_source(&source, is_quick_start, Scope::Serve)?;
        let format = self.log_format;
        match format {
            LogFormat::Text => settings::warn(&settings.warnings),
            LogFormat::Json => settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        }
        let banner = banner(&settings.config, &settings.catalog, is_quick_start);
        app::run(ServeOptions {
            config: settings.config,
            registry: settings.registry,
            clock: Clock::system(),
            store: None,
            started: Box::new(move |started| match format {
                LogFormat::Text => note(banner(started)),
                LogFormat::Json => {
                    tracing::info!(listen = %started.listen, admin = %started.admin, "ready");
                }
            }),
        })
    }
}

fn start_log(format: LogFormat) {
    use std::io::IsTerminal as _;
    let wanted = std::env::var(LOG_ENV).unwrap_or_default();
    let parsed = EnvFilter::try_new(if wanted.is_empty() { LOG_DEFAULT } else { &wanted });
    let problem = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    // A line that is not taken, by a full disk or a pipe that nobody reads, is lost: telling of that on stderr would
    // panic for the same reason.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    if let Some(problem) = problem {
        tracing::warn!(%problem, "{LOG_ENV} is no filter, such as debug or info,hookkeeper=debug: as if it were not set");
    }
}

/// Makes the quick start's secret on its first start; `send` reads the same file.
fn make_quick_start_secret(data: &Path) -> anyhow::Result<()> {
    let path = data.join(QUICK_START_SECRET);
    if path.exists() {
        return Ok(());
    }
    let secret = generate()?;
    match write_private(&path, secret.expose()) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        written => written.with_context(|| format!("cannot write {}", path.display())),
    }
}

/// Returns what to say once the doors are open.
fn banner(
    config: &Config,
    catalog: &ProviderCatalog,
    is_quick_start: bool,
) -> impl FnOnce(&Started) -> String + use<> {
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    let (called, timed): (Vec<_>, Vec<_>) =
        config.triggers.iter().partition(|trigger| !trigger.path.is_empty());
    let polls: Vec<String> = timed
        .iter()
        .filter_map(|trigger| {
            let every = format_duration(trigger.poll()?.every);
            Some(format!("{} every {every} (trigger {})", trigger.provider, trigger.id))
        })
        .collect();
    let paths: Vec<String> = called.iter().map(|trigger| trigger.path.clone()).collect();
    let schedules: Vec<String> = timed
        .iter()
        .filter_map(|trigger| Some(format!("{} (trigger {})", trigger.cron()?.schedule, trigger.id)))
        .collect();
    // Nothing can be sent as a provider whose entry has no sample, such as one in code.
    let has_samples = |id: &str| catalog.get(id).is_some_and(|entry| !entry.samples.is_empty());
    let sent = called.iter().find(|trigger| has_samples(trigger.provider.as_str()));
    let provider = sent.map(|trigger| trigger.provider.to_string());
    let data = config.log.path.display().to_string();
    move |started: &Started| {
        let mut lines = Vec::new();
        let version = env!("CARGO_PKG_VERSION");
        let what = if is_quick_start {
            "the built-in quick start, for there is no hookkeeper.toml"
        } else {
            "ready"
        };
        lines.push(format!("\n{BOLD}hookkeeper {version}{BOLD:#}: {what}\n"));
        for path in &paths {
            lines.push(format!("  deliveries  {scheme}://{}{path}", started.listen));
        }
        for schedule in &schedules {
            lines.push(format!("  ticks       {schedule}"));
        }
        for poll in &polls {
            lines.push(format!("  polls       {poll}"));
        }
        if paths.is_empty() && schedules.is_empty() && polls.is_empty() {
            lines.push(format!("  deliveries  {scheme}://{} (no trigger is configured)", started.listen));
        }
        lines.push(format!("  admin API   http://{}/api/v1", started.admin));
        lines.push(format!("  data        {data}"));
        if is_quick_start {
            lines.push(format!("  secret      {data}/{QUICK_START_SECRET}, made for this folder"));
        }
        if let Some(provider) = &provider {
            lines.push(format!("\n  {DIM}in a second shell, in this folder:{DIM:#}"));
            lines.push(format!(
                "  hookkeeper send {provider}     a signed sample delivery, all the way through"
            ));
            lines.push("  hookkeeper events list     what came in".to_owned());
        }
        if is_quick_start {
            lines.push("  hookkeeper init            a configuration of your own".to_owned());
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::knowledge::BuiltIn;
    use crate::config::Source;
    use crate::connector::ConnectorRegistry;

    #[test]
    fn the_first_steps_send_as_a_provider_that_has_samples() {
        let catalog = ProviderCatalog::with_user_entries(&["id = \"acme\"\n"]).unwrap();
        let text = |providers: &[&str]| {
            let trigger = |id: &&str| format!("[[triggers]]\nid = \"{id}\"\nprovider = \"{id}\"\n");
            let secret = "secrets = { signing_secret = \"literal:hunter2hunter2\" }\n";
            let secret = |id: &&str| if *id == "acme" { "" } else { secret };
            let text: String = providers.iter().map(|id| trigger(id) + secret(id)).collect();
            let source = Source { name: "x".into(), text, base: Default::default() };
            let known = BuiltIn(ConnectorRegistry::new(catalog.clone()));
            let config = crate::config::load(&source, &known, Scope::Text).unwrap().0;
            let nowhere = ([127, 0, 0, 1], 1).into();
            banner(&config, &catalog, false)(&Started { listen: nowhere, admin: nowhere })
        };
        assert!(text(&["acme", "github"]).contains("hookkeeper send github "));
        assert!(!text(&["acme"]).contains("hookkeeper send"), "it would say that there is no sample");
    }
}
