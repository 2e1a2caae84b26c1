//! The suite: what must hold of every entry, and a report of what does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::connector::shared_checks;
use super::fixture::Fixture;
use super::pair::{DELIVERY_ID, Pair, Refused, unsigned};
use super::vector::{State, Vector};
use crate::catalog::{PLACEHOLDER, ProviderEntry, SIGNING_SECRET, Sample};
use crate::connector::{
    CatalogConnector, Connector, Judging, NormalizeResult, RawInbound, SECRETS_MAX, TriggerSettings,
    Verifier, generate_secret, render, validate_entry,
};
use crate::event::{ProviderId, RejectReason, Timestamp};
use crate::secrets::Secret;

/// Most bytes of a sample that are changed one after the other; of a longer one, as many are chosen evenly.
const CHANGED_BYTES_MAX: usize = 256;
/// Most requests that are changed in all ways; further vectors are only held against what they expect.
const FIXTURES_MAX: usize = 4;
/// Random bytes of the trigger's secrets, and of foreign ones.
const OWN: [u8; 32] = [7; 32];
const FOREIGN: [u8; 32] = [8; 32];

/// What became of the checks of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The provider.
    pub provider: ProviderId,
    /// What was checked, in order.
    pub checks: Vec<Check>,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold.
    pub name: String,
    /// Whether it does.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It is not asked of this entry; why not.
    Skipped(String),
    /// It does not hold; what was seen instead.
    Failed(String),
}

impl Check {
    pub(super) fn of(name: &str, outcome: Result<Outcome, String>) -> Self {
        Self { name: name.to_owned(), outcome: outcome.unwrap_or_else(Outcome::Failed) }
    }
}

impl Report {
    /// Tells whether nothing fails.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Returns the checks that fail.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| matches!(check.outcome, Outcome::Failed(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { name, outcome } in &self.checks {
            match outcome {
                Outcome::Passed => writeln!(f, "{}: {name}: passed", self.provider)?,
                Outcome::Skipped(why) => writeln!(f, "{}: {name}: skipped: {why}", self.provider)?,
                Outcome::Failed(what) => writeln!(f, "{}: {name}: FAILED: {what}", self.provider)?,
            }
        }
        Ok(())
    }
}

/// Checks all that must hold of an entry, and what must become of its vectors.
pub fn run(entry: &Arc<ProviderEntry>, vectors: &[Vector]) -> Report {
    let mut report = Report { provider: entry.id.clone(), checks: Vec::new() };
    if entry.is_placeholder() {
        let nothing = Err(format!("nothing to run: {PLACEHOLDER}"));
        report.checks.push(Check::of("it has a connector", nothing));
        return report;
    }
    let mut add = |name: &str, outcome| report.checks.push(Check::of(name, outcome));
    let compiled = validate_entry(entry).map(|()| Outcome::Passed).map_err(|error| error.to_string());
    let pair = Pair::of(entry, &OWN).map_err(|error| error.to_string());
    add("the entry compiles", compiled.clone());
    match (compiled, pair) {
        (Err(_), _) => return report,
        (Ok(_), Err(what)) => add("secrets of the described form serve", Err(what)),
        (Ok(_), Ok(None)) => add("samples have their kinds", unsigned_samples(entry)),
        (Ok(_), Ok(Some(pair))) => {
            for (name, check) in CHECKS {
                add(name, check(&pair));
            }
        }
    }
    let build = || -> Box<dyn Connector> { Box::new(CatalogConnector::new(entry.clone())) };
    for (name, outcome) in shared_checks(&build, &fixtures(entry, vectors)) {
        add(name, outcome);
    }
    if !vectors.is_empty() {
        add("vectors show a good and a bad request", good_and_bad(entry, vectors));
    }
    for vector in vectors {
        let checked = vector.check(entry).map_err(|what| format!("{what} (source: {})", vector.source));
        add(&format!("vector: {}", vector.what), checked.map(|()| Outcome::Passed));
    }
    report
}

/// Returns requests of a provider: those of vectors, or a sample that was signed where there are none.
fn fixtures(entry: &Arc<ProviderEntry>, vectors: &[Vector]) -> Vec<Fixture> {
    let captured: Vec<Fixture> =
        vectors.iter().take(FIXTURES_MAX).filter_map(|it| Fixture::of(it).ok()).collect();
    if !captured.is_empty() {
        return captured;
    }
    // Where secrets do not serve, another check tells so.
    let Ok(pair) = Pair::of(entry, &OWN) else { return Vec::new() };
    let raw = match &pair {
        Some(pair) => pair.sample_delivery(now()).ok(),
        None => entry.samples.first().map(|sample| unsigned(render(sample, DELIVERY_ID, now()), now())),
    };
    let trigger = pair.map(|pair| pair.trigger().clone()).unwrap_or_default();
    let fixture = |raw| Fixture {
        what: "the first sample".to_owned(),
        trigger,
        raw,
        now: now(),
        armed: false,
        keys: Vec::new(),
    };
    raw.map(fixture).into_iter().collect()
}

type CheckPair = fn(&Pair) -> Result<Outcome, String>;

const CHECKS: [(&str, CheckPair); 5] = [
    ("samples sign, verify and have their kinds", samples),
    ("a foreign secret does not verify", foreign_secret),
    ("a changed byte does not verify", changed_bytes),
    ("the tolerance is exact to the second", tolerance_edges),
    ("every secret of a rotation list verifies", rotation_list),
];

fn skipped(why: &str) -> Result<Outcome, String> {
    Ok(Outcome::Skipped(why.to_owned()))
}

/// The time of every delivery. Nothing depends on it but the text of times.
fn now() -> Timestamp {
    Timestamp::from_second(1_795_435_200).expect("it is a second of the year 2026")
}

fn has_kind(sample: &Sample, kind: &str) -> Result<(), String> {
    match kind == sample.kind {
        true => Ok(()),
        false => Err(format!("a sample becomes {kind:?}, not {:?}", sample.kind)),
    }
}

fn samples(pair: &Pair) -> Result<Outcome, String> {
    if pair.entry().samples.is_empty() {
        return skipped("the entry has no [[samples]]; `send` cannot act as this provider without one");
    }
    for sample in &pair.entry().samples {
        let told = |what: &dyn fmt::Display| format!("sample {}: {what}", sample.kind);
        let rendered = render(sample, DELIVERY_ID, now());
        let raw = pair.sign(rendered, &sample.kind, now()).map_err(|error| told(&error))?;
        let events = pair.judge(&raw, now()).map_err(|refused| told(&refused))?;
        has_kind(sample, events.first().map_or("", |event| &event.kind))?;
    }
    Ok(Outcome::Passed)
}

fn unsigned_samples(entry: &Arc<ProviderEntry>) -> Result<Outcome, String> {
    let verifier = Verifier::new(entry, &TriggerSettings::default()).map_err(|error| error.to_string())?;
    for sample in &entry.samples {
        let raw = unsigned(render(sample, DELIVERY_ID, now()), now());
        match verifier.normalize_inbound(&raw, Judging::at(now())) {
            NormalizeResult::Event(event) => has_kind(sample, &event.kind)?,
            other => return Err(format!("a sample becomes no event: {other:?}")),
        }
    }
    Ok(Outcome::Passed)
}

fn foreign_secret(pair: &Pair) -> Result<Outcome, String> {
    if !pair.is_shared() {
        return skipped("the provider signs with a private key");
    }
    if pair.entry().samples.is_empty() {
        return skipped("no sample");
    }
    let foreign = Pair::of(pair.entry(), &FOREIGN).map_err(|error| error.to_string())?;
    let raw = foreign.ok_or("there is nothing to sign with")?.sample_delivery(now())?;
    match pair.judge(&raw, now()) {
        Err(Refused::Rejected(it)) if it.reason == RejectReason::InvalidSignature => Ok(Outcome::Passed),
        Err(other) => Err(other.to_string()),
        Ok(_) => Err("it verifies".to_owned()),
    }
}

fn changed_bytes(pair: &Pair) -> Result<Outcome, String> {
    if !pair.covers_bytes() {
        return skipped("the proof does not cover the body's bytes as such");
    }
    let Ok(raw) = pair.sample_delivery(now()) else { return skipped("no sample") };
    let length = raw.body.len();
    let step = length.div_ceil(CHANGED_BYTES_MAX).max(1);
    let changed = (0..length).step_by(step).map(|at| {
        let mut body = raw.body.to_vec();
        body[at] ^= 1;
        (format!("with byte {at} changed"), body)
    });
    let longer = ("with a byte more".to_owned(), [&raw.body[..], b" "].concat());
    let shorter = raw.body.split_last().map(|(_, rest)| ("with a byte less".to_owned(), rest.to_vec()));
    for (how, body) in changed.chain([longer]).chain(shorter) {
        if pair.judge(&RawInbound { body: body.into(), ..raw.clone() }, now()).is_ok() {
            return Err(format!("{how} it verifies"));
        }
    }
    Ok(Outcome::Passed)
}

fn tolerance_edges(pair: &Pair) -> Result<Outcome, String> {
    let Some(signature) = &pair.entry().signature else { return skipped("no proof") };
    let Some(tolerance) = signature.tolerance_s else { return skipped("the time is not looked at") };
    if signature.timestamp.as_deref().is_some_and(|at| at.contains("${")) {
        return skipped("whether there is a time is a setting");
    }
    if signature.alg.as_deref() == Some("jwt") {
        return skipped("a token's own times are narrower");
    }
    let Ok(raw) = pair.sample_delivery(now()) else { return skipped("no sample") };
    for (seconds, holds) in [(tolerance, true), (tolerance + 1, false)] {
        let distance = Duration::from_secs(seconds);
        for now in [now() + distance, now() - distance] {
            match pair.judge(&raw, now) {
                Ok(_) if holds => {}
                Err(Refused::Rejected(it)) if !holds && it.reason == RejectReason::TimestampOutOfWindow => {}
                Ok(_) => return Err(format!("{seconds} s off it still verifies")),
                Err(refused) => return Err(format!("{seconds} s off: {refused}")),
            }
        }
    }
    Ok(Outcome::Passed)
}

fn rotation_list(pair: &Pair) -> Result<Outcome, String> {
    let spec = pair.entry().secrets.iter().find(|spec| spec.name == SIGNING_SECRET);
    let own = pair.trigger().secrets.get(SIGNING_SECRET).and_then(|list| list.first());
    let (true, Some(spec), Some(own)) = (pair.is_shared(), spec, own) else {
        return skipped("no secret is shared with the provider");
    };
    let Ok(raw) = pair.sample_delivery(now()) else { return skipped("no sample") };
    for index in 0..SECRETS_MAX {
        let other = |i: usize| generate_secret(spec, &[100 + i as u8; 32]);
        let mut list: Vec<Secret> = (0..SECRETS_MAX).map(other).collect();
        list[index] = own.clone();
        let mut secrets: BTreeMap<_, _> = pair.trigger().secrets.clone();
        secrets.insert(SIGNING_SECRET.to_owned(), list);
        let trigger = TriggerSettings { secrets, ..pair.trigger().clone() };
        let rotated = pair.with_trigger(trigger).map_err(|error| error.to_string())?;
        let events = rotated.judge(&raw, now()).map_err(|refused| format!("place {index}: {refused}"))?;
        let told = events.first().and_then(|event| event.secret_index);
        if told != Some(index) {
            return Err(format!("the secret in place {index} is told as {told:?}"));
        }
    }
    Ok(Outcome::Passed)
}

fn good_and_bad(entry: &ProviderEntry, vectors: &[Vector]) -> Result<Outcome, String> {
    if entry.signature.is_none() {
        return skipped("the provider sends no proof");
    }
    let has = |state| vectors.iter().any(|vector| vector.expect.state == state);
    match has(State::Verified) && has(State::Rejected) {
        true => Ok(Outcome::Passed),
        false => Err("at least one must be verified, and one rejected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    const VECTOR: &str = "[[vectors]]\nwhat = \"unsigned\"\nsource = \"ours\"\nsecrets = [\"s\"]\nheaders = []\n\
                          body = \"\"\nat = 1\nexpect = { state = \"rejected\", reason = \"missing_header\" }\n";

    /// Runs the suite on an entry made of `text`; holds what fails against a list.
    fn check(text: &str, vectors: &str, failing: &[&str]) {
        let catalog = ProviderCatalog::with_user_entries(&[format!("id = \"acme\"\n{text}")]).unwrap();
        let vectors = if vectors.is_empty() { Vec::new() } else { Vector::parse(vectors).unwrap() };
        let report = run(catalog.get("acme").unwrap(), &vectors);
        let failed: Vec<&str> = report.failures().map(|check| check.name.as_str()).collect();
        assert_eq!(failed, failing, "{report}");
        assert_eq!(report.passed(), failing.is_empty());
    }

    const SAMPLE: &str =
        "[event]\nkind = [\"{json:/type}\"]\n[[samples]]\nkind = \"a\"\nbody = '{\"type\":\"a\"}'\n";

    #[test]
    fn what_does_not_hold_of_an_entry_is_told() {
        let signature = "[signature]\nsig = \"header:X-Sig\"\n";
        check(&format!("{signature}{SAMPLE}"), "", &[]);
        check(SAMPLE, "", &[]);
        check(
            &format!("{signature}{}", SAMPLE.replace("kind = \"a\"", "kind = \"b\"")),
            "",
            &["samples sign, verify and have their kinds"],
        );
        check(&SAMPLE.replace("kind = \"a\"", "kind = \"b\""), "", &["samples have their kinds"]);
        check("[signature]\nsig = \"heder:X-Sig\"", "", &["the entry compiles"]);
        check("[signature]\nsig = \"header:X-Sig\"\nkey = \"unbase64\"", "", &[]);
        let prefixed = "[signature]\nsig = \"header:X-Sig\"\nkey = \"unhex\"\n[[secrets]]\nname = \"signing_secret\"\n\
                        namespace = \"acme\"\nabout = \"\"\nprefix = \"x_\"\n";
        check(prefixed, "", &["secrets of the described form serve"]);
    }

    #[test]
    fn vectors_are_part_of_the_suite() {
        let signature = "[signature]\nsig = \"header:X-Sig\"\n";
        check(signature, VECTOR, &["vectors show a good and a bad request"]);
        let wrong = VECTOR.replace("missing_header", "invalid_header");
        check(signature, &wrong, &["vectors show a good and a bad request", "vector: unsigned"]);
    }

    #[test]
    fn a_report_is_a_list_of_states() {
        let catalog = ProviderCatalog::built_in();
        let report = serde_json::to_value(run(catalog.get("aws-sns").unwrap(), &[])).unwrap();
        assert_eq!(report["provider"], "aws-sns");
        assert_eq!(report["checks"][0], serde_json::json!({"name": "the entry compiles", "state": "passed"}));
        assert_eq!(report["checks"][2]["state"], "skipped");
        assert_eq!(report["checks"][2]["detail"], "the provider signs with a private key");
    }
}
