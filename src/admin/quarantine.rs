//! Releases and purges what is in quarantine. What is taken in goes the way of any delivery: through the
//! trigger's verifier, as of its arrival, and into the log.

use actix_web::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::act::{Act, Done, Nothing, audit, blocking, fields, ok};
use super::query::Query;
use super::view::{FILTERS, held_id};
use super::{AdminState, Problem};
use crate::event_log::Ingested;
use crate::quarantine::{BODY_BYTES_MAX, Claim, Filter, Held, HeldId, Quarantine, ReleaseError};

/// Deliveries that are released at once: enough to share the log's flushes, few enough to hold in memory.
const AT_ONCE: usize = 32;
/// Deliveries that are looked up at once.
const PAGE: usize = 500;
/// Failures of a release by filter that are told one by one.
const FAILURES_MAX: usize = 20;

/// Does what a request about the quarantine asks for.
pub(super) async fn perform(state: &AdminState, act: &Act, parts: &[&str]) -> Result<Done, Problem> {
    match (&act.method, parts) {
        (&Method::POST, ["release"]) => release_all(state, act).await,
        (&Method::POST, [id, "release"]) => release_one(state, act, held_id(id)?).await,
        (&Method::DELETE, []) => purge_all(state, act).await,
        (&Method::DELETE, [id]) => purge_one(state, act, held_id(id)?).await,
        _ => Err(Problem::new(404, "not_found", "there is no such path; see the list at /api/v1")),
    }
}

async fn release_one(state: &AdminState, act: &Act, id: HeldId) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let quarantine = state.view().quarantine.clone();
    let held = blocking(move || Ok(quarantine.get(id)?)).await?;
    let trigger_id = held.trigger_id.clone();
    match release(state, held).await {
        Ok(events) => {
            let detail = format!("{id} became {}", names(&events));
            audit(state, act, Some(trigger_id), "quarantine_released", detail).await?;
            ok(json!({"id": id, "events": events.iter().map(event).collect::<Vec<_>>()}))
        }
        Err(problem) => {
            let detail = format!("{id}: {problem}");
            audit(state, act, Some(trigger_id), "quarantine_not_released", detail).await?;
            Err(problem)
        }
    }
}

/// Takes one delivery in and forgets it. Where it cannot be taken in, it stays.
async fn release(state: &AdminState, held: Held) -> Result<Vec<Ingested>, Problem> {
    if !held.has_body {
        let detail = format!("its body was not kept: it is larger than {BODY_BYTES_MAX} bytes");
        return Err(Problem::conflict("body_not_kept", detail));
    }
    let quarantine = &state.view().quarantine;
    let claim = quarantine.claim(held.id)?;
    let (opener, trigger_id) = (quarantine.clone(), held.trigger_id.clone());
    let raw = blocking(move || Ok(opener.open(&held)?)).await?;
    let events = state.0.runtime.release(&trigger_id, raw).await.map_err(not_released)?;
    done(claim).await?;
    Ok(events)
}

async fn done(claim: Claim) -> Result<(), Problem> {
    blocking(move || {
        claim.done();
        Ok(())
    })
    .await
}

fn not_released(error: ReleaseError) -> Problem {
    let code = match &error {
        ReleaseError::NoTrigger(_) => "no_trigger",
        ReleaseError::NotActive(_) => "not_active",
        ReleaseError::Rejected(_) => "still_rejected",
        ReleaseError::Handshake => "handshake",
        ReleaseError::NoKeys(_) => return Problem::new(503, "key_unavailable", error.to_string()),
        ReleaseError::Panicked => return Problem::new(500, "connector_panicked", error.to_string()),
        ReleaseError::Failed(_) => return Problem::new(500, "connector_failed", error.to_string()),
        ReleaseError::Log(error) => return Problem::new(503, "log_not_ready", error.to_string()),
    };
    Problem::conflict(code, error.to_string())
}

fn event(ingested: &Ingested) -> Value {
    json!({"id": ingested.id(), "duplicate": matches!(ingested, Ingested::Duplicate(_))})
}

fn names(events: &[Ingested]) -> String {
    let name = |ingested: &Ingested| match ingested {
        Ingested::Stored(id) => format!("event {id}"),
        Ingested::Duplicate(id) => format!("a duplicate of event {id}"),
    };
    events.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Which deliveries are released.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    trigger: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    all: bool,
}

impl Which {
    fn query(self) -> Query {
        let all = self.all.then(|| "true".to_owned());
        let pairs = [("trigger", self.trigger), ("reason", self.reason), ("since", self.since)];
        Query::of(pairs.into_iter().chain([("until", self.until), ("all", all)]))
    }
}

/// Reads which deliveries a change is about; without a filter, all must be said.
fn filter(state: &AdminState, query: &Query) -> Result<Filter, Problem> {
    query.only(&[FILTERS.as_slice(), &["all"]].concat())?;
    if !query.flag("all")? && !FILTERS.iter().any(|name| query.text(name).is_some()) {
        let detail = "name what is meant (trigger, reason, since, until), or all=true";
        return Err(Problem::bad("missing_filter", detail));
    }
    state.view().held_filter(query)
}

/// What became of a release by filter.
#[derive(Default)]
struct Sum {
    released: usize,
    duplicates: usize,
    failed: usize,
    failures: Vec<Value>,
}

impl Sum {
    fn count(&mut self, id: HeldId, result: Result<Vec<Ingested>, Problem>) {
        match result {
            Ok(events) => {
                self.released += 1;
                let known = events.iter().all(|event| matches!(event, Ingested::Duplicate(_)));
                self.duplicates += usize::from(known);
            }
            Err(problem) => {
                self.failed += 1;
                if self.failures.len() < FAILURES_MAX {
                    self.failures.push(json!({"id": id, "code": problem.code, "detail": problem.detail}));
                }
            }
        }
    }
}

/// Releases what a filter names, oldest first. What comes into quarantine meanwhile waits for another release.
async fn release_all(state: &AdminState, act: &Act) -> Result<Done, Problem> {
    let query = fields::<Which>(&act.body)?.query();
    let filter = filter(state, &query)?;
    let quarantine = state.view().quarantine.clone();
    let mut wanted = blocking(move || all(&quarantine, &filter)).await?;
    wanted.reverse();
    let mut sum = Sum::default();
    let mut wanted = wanted.into_iter();
    loop {
        let some: Vec<Held> = wanted.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        let ids: Vec<HeldId> = some.iter().map(|held| held.id).collect();
        let releases = some.into_iter().map(|held| release(state, held));
        let results = futures_util::future::join_all(releases).await;
        ids.into_iter().zip(results).for_each(|(id, result)| sum.count(id, result));
    }
    let detail = format!("{} released, {} not ({})", sum.released, sum.failed, query.to_url());
    audit(state, act, None, "quarantine_released", detail).await?;
    let Sum { released, duplicates, failed, failures } = sum;
    ok(json!({"released": released, "duplicates": duplicates, "failed": failed, "failures": failures}))
}

/// Returns all that a filter names, newest first. There are at most as many as the quarantine holds.
fn all(quarantine: &Quarantine, filter: &Filter) -> Result<Vec<Held>, Problem> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = quarantine.list(filter, cursor, PAGE)?;
        found.extend(page);
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(found),
        }
    }
}

async fn purge_one(state: &AdminState, act: &Act, id: HeldId) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let quarantine = state.view().quarantine.clone();
    let held = blocking(move || {
        let held = quarantine.get(id)?;
        quarantine.purge(id);
        Ok(held)
    })
    .await?;
    audit(state, act, Some(held.trigger_id), "quarantine_purged", id).await?;
    ok(json!({"purged": 1}))
}

async fn purge_all(state: &AdminState, act: &Act) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let filter = filter(state, &act.query)?;
    let quarantine = state.view().quarantine.clone();
    let purged = blocking(move || Ok(quarantine.purge_all(&filter))).await?;
    let detail = format!("{purged} ({})", act.query.to_url());
    audit(state, act, None, "quarantine_purged", detail).await?;
    ok(json!({"purged": purged}))
}
