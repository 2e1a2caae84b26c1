//! The direction of modules, as `ARCHITECTURE.md` gives it, and other habits a machine can hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules by rank: a module uses modules of lower ranks (greater numbers) only.
const RANKS: [&[&str]; 11] = [
    &["main"],
    &["cli"],
    &["app"],
    &["front_door", "admin"],
    &["provider", "quarantine", "router", "dispatch"],
    &["supervise", "testkit"],
    &["connector", "function", "replay"],
    &["event_log", "outbound", "permits", "secrets"],
    &["signature", "subscription", "catalog", "flow"],
    &["config", "clock"],
    &["event", "frames", "schedule", "settings"],
];

/// Crates that only some modules may name.
const CONFINED: [(&str, &[&str]); 4] = [
    ("croner", &["schedule"]),
    ("sled", &["event_log"]),
    ("actix_web", &["front_door", "admin", "app"]),
    ("actix", &["front_door", "admin", "app", "provider", "dispatch", "supervise"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

fn module(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The part of a file before its unit tests, which may reach everywhere.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// Returns the modules of this crate that a source names.
fn used(text: &str) -> Vec<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1).map(name).collect::<Vec<String>>()).collect()
}

/// Tells whether a line names a path of a crate.
fn names_crate(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let is_start = |at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    line.match_indices(&path).any(|(at, _)| is_start(at))
}

#[test]
fn the_scanner_sees_what_it_should() {
    for line in ["use sled::Db;", "x: &sled::Db", "Vec<sled::IVec>", "(sled::open", "::new(sled::x"] {
        assert!(names_crate(line, "sled"), "{line}");
    }
    for line in ["use crate::sled_log::X;", "my_sled::x", "unsled::x", "self::sled::x"] {
        assert!(!names_crate(line, "sled"), "{line}");
    }
    assert_eq!(used("use crate::event::Id;\n// crate::no\nlet x = crate::app::run();"), ["event", "app"]);
}

#[test]
fn modules_use_lower_ranks_only() {
    let ranks: BTreeMap<&str, usize> =
        RANKS.iter().enumerate().flat_map(|(rank, names)| names.iter().map(move |n| (*n, rank))).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = module(&path);
        if from == "lib" {
            continue;
        }
        let rank =
            *ranks.get(from.as_str()).unwrap_or_else(|| panic!("module {from} has no rank in tidy.rs"));
        // Grouped, `use crate::{a, b}` would hide from the scanner.
        assert!(!text.contains("crate::{"), "{}: one `use` per module", path.display());
        for to in used(shipped(&text)) {
            let Some(to_rank) = ranks.get(to.as_str()) else { continue };
            if to != from && *to_rank <= rank {
                wrong.push(format!("{}: {from} uses {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the direction of modules:\n{}", wrong.join("\n"));
}

#[test]
fn crates_are_named_where_they_belong() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = module(&path);
        for (name, allowed) in CONFINED {
            let mut code = shipped(&text).lines().filter(|line| !line.trim_start().starts_with("//"));
            if code.any(|line| names_crate(line, name)) && !allowed.contains(&from.as_str()) {
                wrong.push(format!("{}: {from} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "crates outside their modules:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a module doc: {silent:?}");
}

/// A panic costs one request or attempt only where it unwinds, also in what is shipped.
#[test]
fn panics_unwind_in_every_profile() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let profiles = manifest["profile"].as_table().unwrap();
    assert!(profiles.contains_key("dist"));
    for (name, profile) in profiles {
        assert!(profile.get("panic").is_none_or(|panic| panic.as_str() == Some("unwind")), "{name}");
    }
}

#[test]
fn the_image_is_built_of_all_that_the_build_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let dockerfile = read("Dockerfile");
    let copies = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied: Vec<&str> = copies.flat_map(str::split_whitespace).collect();
    let script = manifest["package"]["build"].as_str().unwrap();
    for name in ["Cargo.toml", "Cargo.lock", script, "src", "migrations"] {
        assert!(copied.contains(&name), "the Dockerfile does not copy {name}");
    }
}
