//! `doctor`: looks for what is wrong with a stopped server's folder, and mends what can be derived.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::render::{BOLD, GREEN, RED, YELLOW, note, out, paint};
use super::{ConfigFile, Told, settings};
use crate::config::Scope;
use crate::event::{Body, EventId};
use crate::event_log::record::Record;
use crate::event_log::{Log, Options};
use crate::secrets::{MASTER_KEY_FILE, Vault};

/// Damage that is told one by one; the rest is counted.
const TOLD_MAX: u64 = 20;

/// `doctor`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper doctor                       read every frame and body, compare checksums; changes nothing
  hookkeeper doctor --rebuild             fold the whole log anew: runs, due times, switches, secrets

The server must be stopped. Make a copy of the folder before you mend anything.")]
pub(super) struct Doctor {
    /// Fold the whole log anew, and write what was derived from it
    #[arg(long)]
    rebuild: bool,
    /// Data folder [default: the configuration's]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => settings::load(&self.config, Scope::Text)?.config.log.path,
        };
        if !data.is_dir() {
            anyhow::bail!("there is no data folder {}: name it with --data", data.display());
        }
        if self.rebuild {
            return rebuild(&data);
        }
        let log = Log::open_reader(&data)?;
        let mut findings = Findings::default();
        frames(&log, &mut findings)?;
        secrets(&log, &data, &mut findings)?;
        let health = log.health();
        if health.blobs > 0 {
            findings.bad(&format!("{} files under blobs/: the store does not flush them", health.blobs))?;
        }
        let mut out = out();
        if findings.count == 0 {
            let read = format!(
                "{} frames, {} events, {} bodies in files",
                health.frames, findings.events, findings.spooled
            );
            writeln!(out, "{} {read}: every checksum holds", paint(GREEN, "ok"))?;
            return Ok(());
        }
        writeln!(out, "{}", paint(RED, format_args!("{} findings", findings.count)))?;
        Err(Told(1).into())
    }
}

#[derive(Default)]
struct Findings {
    count: u64,
    events: u64,
    spooled: u64,
}

impl Findings {
    fn bad(&mut self, what: &str) -> anyhow::Result<()> {
        self.count += 1;
        match self.count {
            ..=TOLD_MAX => writeln!(out(), "{} {what}", paint(RED, "bad"))?,
            count if count == TOLD_MAX + 1 => writeln!(out(), "… further ones are only counted")?,
            _ => {}
        }
        Ok(())
    }
}

/// Reads every frame and every spooled body. A frame's checksum is compared when it is read.
fn frames(log: &Log, findings: &mut Findings) -> anyhow::Result<()> {
    let last = log.health().frames;
    let mut last_id: Option<EventId> = None;
    for seq in 1..=last {
        let frame = match log.frame(seq) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                findings.bad(&format!("frame {seq} is missing"))?;
                continue;
            }
            Err(error) => {
                findings.bad(&error.to_string())?;
                continue;
            }
        };
        for (position, record) in frame.records() {
            let event = match record {
                Ok(Record::Event(event)) => event,
                Ok(_) => continue,
                Err(error) => {
                    findings.bad(&format!("record {position}: {error}"))?;
                    continue;
                }
            };
            findings.events += 1;
            if last_id.is_some_and(|last| event.id <= last) {
                findings.bad(&format!("event {} is not after the one before it", event.id))?;
            }
            last_id = Some(event.id);
            if let Body::Spooled(_) = event.content.body {
                findings.spooled += 1;
                if let Err(error) = log.body(&event) {
                    findings.bad(&format!("event {}: {error}", event.id))?;
                }
            }
        }
    }
    Ok(())
}

/// Tries whether the master key opens what is kept.
fn secrets(log: &Log, data: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let key = data.join(MASTER_KEY_FILE);
    if let Ok(found) = std::fs::metadata(&key)
        && found.permissions().mode() & 0o077 != 0
    {
        note(format_args!("{} {} is readable by others: chmod 600", paint(YELLOW, "warning"), key.display()));
    }
    let vault = Vault::new(data);
    for name in log.state().sealed_names() {
        let Some(sealed) = log.state().sealed(&name).filter(|sealed| !sealed.is_empty()) else { continue };
        if let Err(error) = vault.unseal(&name, &sealed) {
            findings.bad(&error.to_string())?;
        }
    }
    Ok(())
}

fn rebuild(data: &Path) -> anyhow::Result<()> {
    let log = Log::open(Options::new(data))?;
    let counts = log.rebuild().context("the log could not be folded anew")?;
    let runs: u64 = counts.runs.values().flat_map(|states| states.values()).sum();
    drop(log);
    note(format_args!(
        "{BOLD}folded anew{BOLD:#}: {} events, {} duplicates, {runs} runs",
        counts.events, counts.duplicates
    ));
    Ok(())
}
