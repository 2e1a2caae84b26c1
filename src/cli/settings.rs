//! Finds and loads the configuration that a command is about.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::knowledge::BuiltIn;
use super::render::{self, BOLD, CYAN, RED, YELLOW, note};
use super::{ConfigFile, Told, Usage};
use crate::catalog::ProviderCatalog;
use crate::config::{self, Config, Problem, Scope, Source, Warning};
use crate::connector::ConnectorRegistry;

/// The file that is looked for where none is named.
pub(super) const DEFAULT_FILE: &str = "hookkeeper.toml";

/// Registers the connectors of the program that the command line is part of.
pub(super) type Register = Box<dyn Fn(&mut ConnectorRegistry) + Send + Sync>;

/// Set once, before the arguments are read; none for hookkeeper's own program.
pub(super) static REGISTER: OnceLock<Register> = OnceLock::new();

/// A configuration, and the catalogue with the user's own providers.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) catalog: ProviderCatalog,
    /// Builds the connectors of the catalogue's providers.
    pub(super) registry: ConnectorRegistry,
    pub(super) warnings: Vec<Warning>,
    /// There is no file: the built-in quick start is meant.
    pub(super) is_quick_start: bool,
}

/// Finds the text of the configuration: the file that was named, else `hookkeeper.toml` in this folder,
/// else the quick start.
pub(super) fn find(file: &ConfigFile) -> anyhow::Result<(Source, bool)> {
    let path = match &file.path {
        Some(path) if path.as_os_str() == "-" => return Ok((from_stdin()?, false)),
        Some(path) => path.clone(),
        None if Path::new(DEFAULT_FILE).exists() => PathBuf::from(DEFAULT_FILE),
        None => {
            let program = std::env::current_exe().unwrap_or_else(|_| "hookkeeper".into());
            return Ok((config::quick_start(&program), true));
        }
    };
    match Source::read(&path) {
        Ok(source) => Ok((source, false)),
        Err(error) => {
            let hint = if error.kind() == std::io::ErrorKind::NotFound {
                "; `hookkeeper init` writes one to start from"
            } else {
                ""
            };
            Err(Usage(format!("cannot read the configuration {}: {error}{hint}", path.display())).into())
        }
    }
}

fn from_stdin() -> anyhow::Result<Source> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Usage(format!("cannot read the configuration on stdin: {error}")))?;
    Ok(Source { name: "<stdin>".to_owned(), text, base: PathBuf::new() })
}

/// Loads the configuration; tells every problem, and ends with exit code 2, if there are any.
pub(super) fn load(file: &ConfigFile, scope: Scope) -> anyhow::Result<Settings> {
    let (source, is_quick_start) = find(file)?;
    load_source(&source, is_quick_start, scope)
}

/// Loads a configuration whose text has been found.
pub(super) fn load_source(source: &Source, is_quick_start: bool, scope: Scope) -> anyhow::Result<Settings> {
    let known = registry(ProviderCatalog::built_in());
    match config::load(source, &BuiltIn(known), scope) {
        Ok((config, warnings)) => {
            let registry = registry(ProviderCatalog::with_user_entries(&config.providers)?);
            let catalog = registry.catalog().clone();
            Ok(Settings { config, catalog, registry, warnings, is_quick_start })
        }
        Err(problems) => {
            problems.iter().for_each(|problem| print(problem, "error"));
            let count = problems.len();
            let s = if count == 1 { "" } else { "s" };
            note(format_args!("{RED}{count} problem{s}{RED:#} in {}", source.name));
            Err(Told(2).into())
        }
    }
}

/// Returns the registry over a catalogue, with all connectors of this program.
pub(super) fn registry(catalog: ProviderCatalog) -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::new(catalog);
    if let Some(register) = REGISTER.get() {
        register(&mut registry);
    }
    registry
}

/// Tells the warnings of a configuration.
pub(super) fn warn(warnings: &[Warning]) {
    warnings.iter().for_each(|warning| print(warning, "warning"));
}

/// Prints a problem to stderr as a compiler would.
fn print(problem: &Problem, level: &str) {
    let style = if level == "error" { RED } else { YELLOW };
    let mut text = format!("{style}{level}{style:#}{BOLD}: {}{BOLD:#}\n", problem.message);
    let margin = problem.line.to_string().len();
    let place = format!("{}:{}:{}", problem.file, problem.line, problem.column);
    text.push_str(&format!("{:margin$}{CYAN}-->{CYAN:#} {place}\n", ""));
    if let Some((line, length)) = &problem.snippet {
        let (indent, marks) = (problem.column - 1, "^".repeat(*length));
        text.push_str(&format!("{:margin$} {CYAN}|{CYAN:#}\n", ""));
        text.push_str(&format!("{CYAN}{} |{CYAN:#} {line}\n", problem.line));
        text.push_str(&format!("{:margin$} {CYAN}|{CYAN:#} {:indent$}{style}{marks}{style:#}\n", "", ""));
    }
    let mut detail = |name: &str, value: &str| {
        text.push_str(&format!("{:margin$} {CYAN}={CYAN:#} {BOLD}{name}{BOLD:#}: {value}\n", ""));
    };
    if !problem.key.is_empty() {
        detail("key", &problem.key);
    }
    if let Some(nearest) = &problem.nearest {
        detail("help", &format!("did you mean `{nearest}`?"));
    }
    if let Some(remedy) = &problem.remedy {
        detail("help", remedy);
    }
    let _ = writeln!(render::err(), "{text}");
}
