//! `check`: every problem of a configuration in one run.

use std::io::Write as _;

use clap::Args;

use super::render::{GREEN, note, out};
use super::{ConfigFile, settings};
use crate::config::Scope;

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
    /// Check the text alone: not whether variables are set and files are there
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (source, is_quick_start) = settings::find(&self.config)?;
        // The quick start's secret is made when it is first served.
        let scope = if self.offline || is_quick_start { Scope::Text } else { Scope::Full };
        let settings = settings::load_source(&source, is_quick_start, scope)?;
        settings::warn(&settings.warnings);
        if self.print {
            write!(out(), "{}", settings.config)?;
            return Ok(());
        }
        let (triggers, functions) = (settings.config.triggers.len(), settings.config.functions.len());
        let warnings = match settings.warnings.len() {
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

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
