//! What can be read, as JSON: the same for the admin API and for commands that open a stopped server's folder.
//!
//! [`View::get`] is the whole reading API as one function of path and parameters. It changes nothing,
//! knows no HTTP, and blocks while the store is read.

mod events;
mod overview;
mod quarantine;
mod records;
mod runs;
mod secrets;
mod why;

use std::sync::Arc;

use serde_json::{Value, json};

pub use events::EventFilter;
pub(super) use quarantine::FILTERS;

use super::query::Query;
use super::{Problem, Runtime};
use crate::catalog::ProviderCatalog;
use crate::clock::Clock;
use crate::config::Config;
use crate::event::{EventId, RunId};
use crate::event_log::Log;
use crate::quarantine::{HeldId, Quarantine};
use crate::secrets::Vault;

/// What there is to be read.
#[derive(Clone)]
pub struct View {
    /// The log and its fold.
    pub log: Log,
    /// The time, for parameters such as `since=2h`.
    pub clock: Clock,
    /// Opens secrets, to find out why a delivery was refused.
    pub vault: Arc<Vault>,
    /// What was refused.
    pub quarantine: Quarantine,
    /// The providers.
    pub catalog: ProviderCatalog,
    /// The configuration; a stopped server's folder may be read without one.
    pub config: Option<Arc<Config>>,
    /// What only a running server knows.
    pub runtime: Option<Arc<dyn Runtime>>,
}

impl View {
    /// Answers a reading request: `path` is what follows `/api/v1/`, such as `events/01K…/why`.
    ///
    /// # Errors
    ///
    /// If there is no such path or thing, a parameter makes no sense, or the store cannot be read.
    pub fn get(&self, path: &str, query: &Query) -> Result<Value, Problem> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["events"] => self.events(query),
            ["events", id] => bare(query).and_then(|()| self.event(event_id(id)?)),
            ["events", id, "why"] => bare(query).and_then(|()| self.why_event(event_id(id)?)),
            ["runs"] => self.runs(query),
            ["runs", id] => bare(query).and_then(|()| self.run(&run_id(id)?)),
            ["runs", id, "why"] => bare(query).and_then(|()| self.why_run(&run_id(id)?)),
            ["dead-letters"] => self.dead_letters(query),
            ["dead-letters", id] => bare(query).and_then(|()| self.run(&run_id(id)?)),
            ["quarantine"] => self.quarantined(query),
            ["quarantine", id] => bare(query).and_then(|()| self.held(held_id(id)?)),
            ["providers"] => bare(query).map(|()| self.providers()),
            ["providers", id] => bare(query).and_then(|()| self.provider(id)),
            ["triggers"] => bare(query).and_then(|()| self.triggers()),
            ["triggers", id] => bare(query).and_then(|()| named(self.triggers()?, "trigger", id)),
            ["functions"] => bare(query).and_then(|()| self.functions()),
            ["functions", id] => bare(query).and_then(|()| named(self.functions()?, "function", id)),
            ["secrets"] => bare(query).map(|()| self.secrets()),
            ["secrets", name @ .., "sealed"] if !name.is_empty() => {
                bare(query).and_then(|()| self.sealed(&name.join("/")))
            }
            ["log"] => bare(query).and_then(|()| self.topics()),
            ["log", topic] => self.topic(topic, query),
            ["health"] => bare(query).map(|()| self.health()),
            _ => Err(Problem::new(404, "not_found", "there is no such path; see the list at /api/v1")),
        }
    }
}

/// Every path of the reading API, for the list at `/api/v1`.
pub(super) const PATHS: [&str; 24] = [
    "events",
    "events/{id}",
    "events/{id}/body",
    "events/{id}/why",
    "runs",
    "runs/{id}",
    "runs/{id}/why",
    "dead-letters",
    "dead-letters/{id}",
    "quarantine",
    "quarantine/{id}",
    "replays",
    "replays/{id}",
    "providers",
    "providers/{id}",
    "triggers",
    "triggers/{id}",
    "functions",
    "functions/{id}",
    "secrets",
    "secrets/{name}/sealed",
    "log",
    "log/{topic}",
    "health",
];

fn bare(query: &Query) -> Result<(), Problem> {
    query.only(&[])
}

/// Reads an event's id.
pub(super) fn event_id(text: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|error| Problem::bad("invalid_id", format!("{error}")))
}

/// Reads a run's id.
pub(super) fn run_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|error| Problem::bad("invalid_id", format!("{error}")))
}

/// Reads the id of a delivery in quarantine.
pub(super) fn held_id(text: &str) -> Result<HeldId, Problem> {
    text.parse().map_err(|error| Problem::bad("invalid_id", format!("{error}")))
}

/// Returns a page of a listing.
fn page(items: Vec<Value>, next: Option<impl std::fmt::Display>) -> Value {
    json!({"items": items, "next_cursor": next.map(|next| next.to_string())})
}

/// Returns a listing that is never long.
fn whole(items: Vec<Value>) -> Value {
    page(items, None::<&str>)
}

/// Says that there is no such provider; names the one that the catalogue holds for nearest.
pub(super) fn unknown_provider(catalog: &ProviderCatalog, id: &str) -> Problem {
    match catalog.nearest(id) {
        Some(near) => {
            let detail = format!("there is no provider {}; did you mean `{near}`?", shown(id));
            Problem::new(404, "not_found", detail)
        }
        None => Problem::not_found("provider", shown(id)),
    }
}

/// Returns the item of the given id out of a listing.
fn named(listing: Value, what: &str, id: &str) -> Result<Value, Problem> {
    let Value::Array(items) = listing["items"].clone() else { return Err(Problem::not_found(what, id)) };
    match items.iter().find(|item| item["id"] == id) {
        Some(item) => Ok(item.clone()),
        None => Err(Problem::unknown(what, id, items.iter().filter_map(|item| item["id"].as_str()))),
    }
}

/// Returns a text from outside in a form that is safe in an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}
