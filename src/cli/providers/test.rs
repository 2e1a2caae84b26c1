//! `providers test`: the conformance suite on one entry, for whoever writes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::catalog::{ProviderCatalog, ProviderEntry};
use crate::cli::render::{self, DIM, GREEN, RED, note, paint};
use crate::cli::{ConfigFile, Told, Usage, settings};
use crate::config::Scope;
use crate::testkit::{self, Check, Outcome, Report, Vector};

/// Largest entry or file of vectors, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The file of vectors that is taken where none is named.
const VECTORS_FILE: &str = "vectors.toml";

/// `providers test`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper providers test github                       a built-in entry, or one of your [[providers]]
  hookkeeper providers test acme.toml                    a file with one entry, and vectors.toml beside it
  hookkeeper providers test acme --vectors captured.toml

Checked are: the entry compiles; its samples sign, verify and have their kinds; a changed byte or a foreign
secret does not verify; the tolerance is exact to the second; every secret of a rotation list verifies; each
vector becomes what it expects. For an id, tests/vectors/ID/vectors.toml is taken if it is there.")]
pub(in crate::cli) struct Test {
    /// A provider's id, or a TOML file with one entry
    #[arg(value_name = "ID|FILE")]
    what: String,
    /// Captured requests and what must become of them, as [[vectors]] tables
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Print {"provider", "passed", "checks": [{"name", "state", "detail"}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (entry, beside) = self.entry()?;
        let vectors = self.vectors(&beside)?;
        let report = testkit::run(&entry, &vectors);
        if self.json {
            let mut told = serde_json::to_value(&report)?;
            told["passed"] = json!(report.passed());
            render::json(&told)?;
        } else {
            tell(&report)?;
        }
        if report.passed() { Ok(()) } else { Err(Told(1).into()) }
    }

    /// Finds the entry, and where its vectors may be.
    fn entry(&self) -> anyhow::Result<(Arc<ProviderEntry>, PathBuf)> {
        if !self.what.contains('/') && !self.what.ends_with(".toml") {
            let catalog = settings::load(&self.config, Scope::Text)?.catalog;
            let entry = super::entry(&catalog, &self.what)?;
            return Ok((entry.clone(), Path::new("tests/vectors").join(&self.what).join(VECTORS_FILE)));
        }
        let path = Path::new(&self.what);
        let text = read(path)?;
        let id = toml::from_str::<toml::Table>(&text)
            .with_context(|| format!("{} is no TOML", path.display()))?
            .get("id")
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("{} has no `id`", path.display()))?;
        let catalog =
            ProviderCatalog::with_user_entries(&[text]).with_context(|| format!("in {}", path.display()))?;
        let entry = super::entry(&catalog, &id)?.clone();
        Ok((entry, path.with_file_name(VECTORS_FILE)))
    }

    fn vectors(&self, beside: &Path) -> anyhow::Result<Vec<Vector>> {
        let path = match &self.vectors {
            Some(path) => path.as_path(),
            None if beside.is_file() => beside,
            None => return Ok(Vec::new()),
        };
        Vector::parse(&read(path)?).with_context(|| format!("in {}", path.display()))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let length = std::fs::metadata(path)
        .map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(
            Usage(format!("{} is larger than {}", path.display(), render::bytes(FILE_BYTES_MAX))).into()
        );
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn tell(report: &Report) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = render::out();
    for Check { name, outcome } in &report.checks {
        let name = render::one_line(name, 200);
        match outcome {
            Outcome::Passed => writeln!(out, "{}      {name}", paint(GREEN, "ok"))?,
            Outcome::Skipped(why) => writeln!(out, "{DIM}skipped {name}: {why}{DIM:#}")?,
            Outcome::Failed(what) => {
                writeln!(out, "{}  {name}\n        {}", paint(RED, "FAILED"), render::one_line(what, 1_000))?;
            }
        }
    }
    let failed = report.failures().count();
    match failed {
        0 => note(format_args!("{}: all holds", report.provider)),
        count => note(format_args!("{}: {RED}{count} failed{RED:#}", report.provider)),
    }
    Ok(())
}
