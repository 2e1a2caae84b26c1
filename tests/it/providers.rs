//! The catalogue against the conformance kit: every entry, and every vector in `tests/vectors`.

use std::path::Path;
use std::sync::Arc;

use hookkeeper::catalog::{Confidence, ProviderCatalog, ProviderEntry};
use hookkeeper::testkit::{self, Outcome, Vector};

/// Fewest providers whose facts were read at their source and that have vectors.
const CONFIRMED_MIN: usize = 80;
/// Fewest providers with a window, of which the edges are checked.
const WINDOWS_MIN: usize = 60;
/// Fewest providers of whose samples every byte matters.
const COVERED_MIN: usize = 200;

/// Returns the vectors of a provider; of most there are none.
pub(crate) fn vectors(id: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(id).join("vectors.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Vec::new() };
    Vector::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All providers are checked, so that one fault does not hide the others.
#[test]
fn every_entry_passes_the_conformance_suite_with_its_vectors() {
    let catalog = ProviderCatalog::built_in();
    let reports: Vec<_> =
        catalog.entries().map(|entry| testkit::run(entry, &vectors(entry.id.as_str()))).collect();
    let failing: Vec<String> =
        reports.iter().filter(|report| !report.passed()).map(ToString::to_string).collect();
    assert!(failing.is_empty(), "{} providers fail:\n{}", failing.len(), failing.join("\n"));

    let passed = |name: &str| {
        let passes = |report: &&testkit::Report| {
            report.checks.iter().any(|check| check.name == name && check.outcome == Outcome::Passed)
        };
        reports.iter().filter(passes).count()
    };
    let windows = passed("the tolerance is exact to the second");
    assert!(windows >= WINDOWS_MIN, "the window of only {windows} providers was checked");
    let covered = passed("a changed byte does not verify");
    assert!(covered >= COVERED_MIN, "the bytes of only {covered} providers were changed");
    let named = ["samples sign, verify and have their kinds", "samples have their kinds"].map(passed);
    assert_eq!(named.iter().sum::<usize>(), reports.len(), "every entry has samples, and they are taken");
}

#[test]
fn what_is_confirmed_at_its_source_has_vectors() {
    let catalog = ProviderCatalog::built_in();
    let confirmed = |entry: &&Arc<ProviderEntry>| {
        matches!(entry.confidence, Confidence::SdkSource | Confidence::Docs)
            && !vectors(entry.id.as_str()).is_empty()
    };
    let count = catalog.entries().filter(confirmed).count();
    assert!(count >= CONFIRMED_MIN, "only {count} providers are confirmed and have vectors");
}
