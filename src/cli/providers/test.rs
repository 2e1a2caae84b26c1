//! `providers test`: the conformance suite on one entry, for whoever writes one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::catalog::{ProviderCatalog, ProviderEntry, ProviderMetadata};
use crate::cli::render::{self, DIM, GREEN, RED, note, paint};
use crate::cli::{ConfigFile, Told, Usage, settings};
use crate::config::{Scope, nearest};
use crate::connector::ConnectorRegistry;
use crate::testkit::{self, Check, Outcome, Report, Subject, Vector};

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
  hookkeeper providers test hmac --setting header=X-Sig --setting encoding=base64

Checked are: the entry compiles; its samples sign, verify and have their kinds; a changed byte or a foreign \
secret does not verify; the tolerance is exact to the second; every secret of a rotation list verifies; each \
vector becomes what it expects. Of a provider that code serves, its connector is checked; a placeholder fails: there \
is nothing to run. For an id, tests/vectors/ID/vectors.toml is taken if it is there.")]
pub(in crate::cli) struct Test {
    /// A provider's id, or a TOML file with one entry
    #[arg(value_name = "ID|FILE")]
    what: String,
    /// Captured requests and what must become of them, as [[vectors]] tables
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Set what the entry leaves to the trigger; may be repeated. A vector's own settings go first
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
    /// Print {"provider", "passed", "checks": [{"name", "state", "detail"}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (registry, entry, beside) = self.entry()?;
        let mut vectors = self.vectors(&beside)?;
        let given = given(&entry, &self.settings)?;
        let entry = with_settings(&entry, &mut vectors, &given);
        let report = report(&registry, &entry, &vectors);
        let open: Vec<_> = entry.settings.iter().filter(|setting| setting.default.is_none()).collect();
        if !report.passed() && !entry.is_coded && !open.is_empty() {
            let names: Vec<_> = open.iter().map(|setting| setting.name.as_str()).collect();
            note(format_args!(
                "a header's name stood for what must be set: {}; give it with --setting KEY=VALUE",
                names.join(", ")
            ));
        }
        if self.json {
            let mut told = serde_json::to_value(&report)?;
            told["passed"] = json!(report.passed());
            render::json(&told)?;
        } else {
            tell(&report)?;
        }
        if report.passed() { Ok(()) } else { Err(Told(1).into()) }
    }

    /// Finds the entry, the registry of its connector, and where its vectors may be.
    fn entry(&self) -> anyhow::Result<(ConnectorRegistry, Arc<ProviderEntry>, PathBuf)> {
        if !self.what.contains('/') && !self.what.ends_with(".toml") {
            let registry = settings::load(&self.config, Scope::Text)?.registry;
            let entry = super::entry(registry.catalog(), &self.what)?.clone();
            return Ok((registry, entry, Path::new("tests/vectors").join(&self.what).join(VECTORS_FILE)));
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
        let registry = settings::registry(catalog);
        let entry = super::entry(registry.catalog(), &id)?.clone();
        Ok((registry, entry, path.with_file_name(VECTORS_FILE)))
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

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as header=X-Signature"),
    }
}

/// Returns the settings by name; each must be the entry's, unless a connector in code decides.
fn given(entry: &ProviderEntry, settings: &[(String, String)]) -> Result<BTreeMap<String, String>, Usage> {
    let known: Vec<&str> = entry.settings.iter().map(|setting| setting.name.as_str()).collect();
    let mut given = BTreeMap::new();
    for (key, value) in settings {
        if !entry.is_coded && !known.contains(&key.as_str()) {
            let near = nearest(key, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            let all = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let near = near.unwrap_or_default();
            return Err(Usage(format!("`{}` has no setting `{key}`{near} (its settings: {all})", entry.id)));
        }
        if given.insert(key.clone(), value.clone()).is_some() {
            return Err(Usage(format!("the setting `{key}` is given twice")));
        }
    }
    Ok(given)
}

/// Has an entry and its vectors take settings where they say nothing themselves.
fn with_settings(
    entry: &Arc<ProviderEntry>,
    vectors: &mut [Vector],
    given: &BTreeMap<String, String>,
) -> Arc<ProviderEntry> {
    for vector in vectors {
        let settings = given.iter().map(|(key, value)| (key.clone(), value.clone()));
        vector.settings = settings.chain(std::mem::take(&mut vector.settings)).collect();
    }
    let mut entry = ProviderEntry::clone(entry);
    for setting in &mut entry.settings {
        if let Some(value) = given.get(&setting.name) {
            setting.default = Some(value.clone());
        }
    }
    Arc::new(entry)
}

/// Runs the suite on what serves the provider: its connector in code, or its entry.
fn report(registry: &ConnectorRegistry, entry: &Arc<ProviderEntry>, vectors: &[Vector]) -> Report {
    if !entry.is_coded {
        return testkit::run(entry, vectors);
    }
    let metadata = ProviderMetadata::of(entry);
    let build = || registry.build(&entry.id).expect("a registered connector is built");
    testkit::run_connector(&Subject { build: &build, metadata: &metadata, vectors })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::CatalogConnector;

    #[test]
    fn of_a_placeholder_there_is_nothing_to_run_and_then_its_connector_is_checked() {
        let interpreted = ProviderCatalog::built_in().get("standard-webhooks").unwrap().clone();
        let text = "id = \"standard-webhooks\"\nconnector = \"code\"\nlike = \"standard-webhooks\"\nevent = { schema = \"Other\" }";
        let mut registry = ConnectorRegistry::new(ProviderCatalog::with_user_entries(&[text]).unwrap());
        let vectors =
            Vector::parse(include_str!("../../../tests/vectors/standard-webhooks/vectors.toml")).unwrap();
        let run = |registry: &ConnectorRegistry| {
            report(registry, registry.catalog().get("standard-webhooks").unwrap(), &vectors)
        };
        let waiting = run(&registry);
        assert!(!waiting.passed() && waiting.to_string().contains("nothing to run"), "{waiting}");
        registry.register(move || Box::new(CatalogConnector::new(interpreted.clone())));
        let checked = run(&registry);
        assert!(checked.passed(), "{checked}");
        assert!(checked.checks.iter().any(|check| check.name == "the catalogue says the same"), "{checked}");
    }
}
