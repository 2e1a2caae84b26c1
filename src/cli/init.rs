//! `init`: writes a commented configuration to start from.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::render::{BOLD, note};
use super::{Usage, settings};
use crate::config::STARTER;

/// `init`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper init                         write ./hookkeeper.toml
  hookkeeper init conf/hookkeeper.toml    write it elsewhere")]
pub(super) struct Init {
    /// Where to write
    #[arg(value_name = "FILE", default_value = settings::DEFAULT_FILE)]
    file: PathBuf,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&self.file);
        match file {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Usage(format!("{shown} is there already, and is not overwritten")).into());
            }
            file => {
                let write = |mut file: std::fs::File| file.write_all(STARTER.as_bytes());
                file.and_then(write).with_context(|| format!("cannot write {shown}"))?;
            }
        }
        note(format_args!(
            "wrote {BOLD}{shown}{BOLD:#}: every key, with its default or an example\n\n\
             next:\n  \
             export GITHUB_SECRET=…   the secret that GitHub signs with\n  \
             hookkeeper check         every problem at once\n  \
             hookkeeper serve         run it"
        ));
        Ok(())
    }
}
