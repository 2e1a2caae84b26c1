//! The pages that are made of the catalogue: `PROVIDERS.md`, and the table in the README. They are rewritten by
//! `HOOKKEEPER_BLESS=1 cargo test --test it providers_page`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use hookkeeper::catalog::{Confidence, Family, ProviderCatalog, ProviderEntry, TriggerKind};
use hookkeeper::connector::SchemeFacts;

use crate::providers::vectors;

/// Where the README's table begins and ends.
const MARKS: (&str, &str) =
    ("<!-- made of the catalogue: begin -->\n", "<!-- made of the catalogue: end -->\n");

/// Compares a file with what it should hold, or writes it.
fn check(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("HOOKKEEPER_BLESS").is_some() {
        return std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = "is not what the catalogue says; run HOOKKEEPER_BLESS=1 cargo test --test it providers_page";
    assert!(found == expected, "{file} {stale}");
}

fn count(catalog: &ProviderCatalog, is: impl Fn(&ProviderEntry) -> bool) -> usize {
    catalog.entries().filter(|entry| is(entry)).count()
}

fn covers(entry: &Arc<ProviderEntry>) -> &'static str {
    match SchemeFacts::of_any(entry).unwrap().covers_body {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "**no proof**",
    }
}

fn page(catalog: &ProviderCatalog) -> String {
    let mut page = String::from(
        "# Providers\n\nMade of the catalogue in `src/catalog/providers`; do not edit. \
         `hookkeeper providers show ID` tells all of one.\n\n| facts | meaning | providers |\n| --- | --- | --- |\n",
    );
    for degree in Confidence::ALL {
        let count = count(catalog, |entry| entry.confidence == degree);
        if count > 0 {
            writeln!(page, "| `{}` | {} | {count} |", degree.as_str(), degree.in_words()).unwrap();
        }
    }
    page.push_str(
        "\n*Covers body*: whether the proof shows that the body is what the provider sent. Where it does not, it \
         shows at most who sends.\n\n| id | provider | proof | covers body | facts |\n| --- | --- | --- | --- | --- |\n",
    );
    for entry in catalog.entries() {
        let name = match entry.docs.as_str() {
            "" => entry.name.clone(),
            docs => format!("[{}]({docs})", entry.name),
        };
        let (id, family, facts) = (&entry.id, entry.family.in_words(), entry.confidence.as_str());
        writeln!(page, "| `{id}` | {name} | {family} | {} | {facts} |", covers(entry)).unwrap();
    }
    page.push_str(
        "\n## Clients\n\nWhat can be called of providers' APIs; `hookkeeper call ID` tells the arguments.\n\n\
         | id | methods | facts |\n| --- | --- | --- |\n",
    );
    for entry in catalog.entries() {
        let Some(client) = &entry.client else { continue };
        let methods: Vec<String> = client.method_names().iter().map(|name| format!("`{name}`")).collect();
        writeln!(page, "| `{}` | {} | {} |", entry.id, methods.join(" "), client.confidence.as_str())
            .unwrap();
    }
    page
}

/// The README's table: each kind of proof, and who of those whose facts are confirmed and tested has it.
fn table(catalog: &ProviderCatalog) -> String {
    let is_confirmed = |entry: &ProviderEntry| {
        matches!(entry.confidence, Confidence::SdkSource | Confidence::Docs)
            && !vectors(entry.id.as_str()).is_empty()
    };
    let (all, confirmed) = (catalog.entries().count(), count(catalog, is_confirmed));
    let experimental = count(catalog, |entry| entry.confidence.is_unconfirmed());
    let mut table = format!(
        "hookkeeper knows {all} providers ([all of them](PROVIDERS.md)). These {confirmed} were read at their source and are \
         tested with\ndeliveries that were signed elsewhere; of the others, {experimental} are `experimental`.\n\n\
         | proof | providers |\n| --- | --- |\n"
    );
    for family in Family::ALL {
        let of = catalog.entries().filter(|entry| entry.family == family && is_confirmed(entry));
        let ids: Vec<String> = of.map(|entry| format!("`{}`", entry.id)).collect();
        if !ids.is_empty() {
            writeln!(table, "| {} | {} |", family.in_words(), ids.join(" ")).unwrap();
        }
    }
    let own = catalog
        .entries()
        .filter(|entry| entry.confidence == Confidence::Own && entry.kinds.contains(&TriggerKind::Webhook));
    let own: Vec<String> = own.map(|entry| format!("`{}`", entry.id)).collect();
    writeln!(table, "\nWho is not there is described by a trigger's settings: {}.", own.join(", ")).unwrap();
    table
}

#[test]
fn the_page_of_all_providers_is_what_the_catalogue_says() {
    check("PROVIDERS.md", &page(&ProviderCatalog::built_in()));
}

#[test]
fn the_table_in_the_readme_is_what_the_catalogue_says() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (before, rest) = readme.split_once(MARKS.0).expect("the README has a mark where the table begins");
    let (_, after) = rest.split_once(MARKS.1).expect("the README has a mark where the table ends");
    let table = table(&ProviderCatalog::built_in());
    check("README.md", &format!("{before}{}{table}{}{after}", MARKS.0, MARKS.1));
}
