//! What operators change. Each action is a record of the log, and beside it a line of `audit.admin`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::act::{Act, Done, Nothing, audit, audit_line, blocking, fields, ok};
use super::query::Query;
use super::view::{event_id, run_id};
use super::{AdminState, Problem, call, quarantine, replays, secrets};
use crate::config::parse_duration;
use crate::event::{FunctionId, RunId, RunState, TriggerId};
use crate::event_log::record::{Controlled, Record, RunAction, Switch, Switched};
use crate::provider::Change;

/// How long a trigger is armed where nothing is said.
const ARM_DEFAULT: &str = "10m";
/// Longest that a trigger may be armed, in seconds.
const ARM_S_MAX: u64 = 24 * 60 * 60;
/// Runs that are purged with one append.
const PURGE_BATCH: usize = 200;
/// Most actions at once; further ones wait.
pub(super) const ACTING_MAX: usize = 64;

/// Returns the methods with which a path changes something; empty for a path that changes nothing.
pub(super) fn methods(parts: &[&str]) -> &'static [&'static str] {
    match parts {
        ["events", _, "replay"]
        | ["runs", _, "cancel" | "retry"]
        | ["dead-letters", "replay"]
        | ["quarantine", "release"]
        | ["quarantine", _, "release"]
        | ["triggers", _, "pause" | "resume" | "arm"]
        | ["functions", _, "pause" | "resume"]
        | ["replays"]
        | ["replays", _, "cancel"]
        | ["providers", _, "call"] => &["POST"],
        ["secrets", .., last] if matches!(*last, "reveal" | "rotate") && parts.len() > 2 => &["POST"],
        ["dead-letters" | "quarantine"] | ["dead-letters" | "quarantine", _] => &["DELETE"],
        ["secrets", .., last] if *last != "sealed" => &["PUT", "DELETE"],
        _ => &[],
    }
}

/// Tells whether a path that changes something cannot be read.
pub(super) fn is_write_only(parts: &[&str]) -> bool {
    let reads = ["replays", "dead-letters", "quarantine"];
    let is_read = matches!(parts, [first] if reads.contains(first))
        || matches!(parts, ["dead-letters" | "quarantine", id] if !matches!(*id, "replay" | "release"));
    !methods(parts).is_empty() && !is_read
}

/// Does what a request asks for, to its end also if the client hangs up meanwhile: what was begun is audited.
///
/// # Errors
///
/// If it makes no sense, the thing is not there or not in a state for it, or the log does not take it.
pub(super) async fn act(state: &AdminState, act: Act) -> Result<Done, Problem> {
    let called = act.path.strip_prefix("providers/").and_then(|rest| rest.strip_suffix("/call"));
    let places = match called {
        Some(provider) => state.0.calling.of(state.view().catalog.get(provider)),
        None => vec![Arc::clone(&state.0.acting)],
    };
    let mut taken = Vec::with_capacity(places.len());
    for places in places {
        taken.push(places.acquire_owned().await.map_err(|error| Problem::internal(&error))?);
    }
    let state = state.clone();
    let task = actix_web::rt::spawn(async move {
        let _taken = taken;
        perform(&state, act).await
    });
    task.await.unwrap_or_else(|error| Err(Problem::internal(&error)))
}

async fn perform(state: &AdminState, act: Act) -> Result<Done, Problem> {
    let parts: Vec<&str> = act.path.split('/').collect();
    if !matches!(parts.as_slice(), ["dead-letters" | "quarantine"]) {
        act.query.only(&[])?;
    }
    match (act.method.as_str(), parts.as_slice()) {
        ("POST", ["events", id, "replay"]) => replays::replay_one(state, event_id(id)?, &act).await,
        ("POST", ["replays"]) => replays::start(state, &act).await,
        ("POST", ["replays", id, "cancel"]) => {
            let cancelled = state.0.replays.cancel(id)?;
            audit(state, &act, None, "replay_cancelled", id).await?;
            ok(cancelled)
        }
        ("POST", ["runs", id, "cancel"]) => control(state, &act, run_id(id)?, RunAction::Cancel).await,
        ("POST", ["runs", id, "retry"]) => control(state, &act, run_id(id)?, RunAction::Retry).await,
        ("POST", ["dead-letters", "replay"]) => replays::replay_dead(state, &act).await,
        ("DELETE", ["dead-letters"]) => purge_all(state, &act).await,
        ("DELETE", ["dead-letters", id]) => control(state, &act, run_id(id)?, RunAction::Purge).await,
        (_, ["quarantine", rest @ ..]) => quarantine::perform(state, &act, rest).await,
        ("POST", ["providers", id, "call"]) => call::perform(state, &act, id).await,
        ("POST", ["triggers", id, action]) => trigger(state, &act, id, action).await,
        ("POST", ["functions", id, action]) => function(state, &act, id, *action == "pause").await,
        ("POST", ["secrets", name @ .., "reveal"]) => secrets::reveal(state, &act, &name.join("/")).await,
        ("POST", ["secrets", name @ .., "rotate"]) => secrets::rotate(state, &act, &name.join("/")).await,
        ("PUT", ["secrets", name @ ..]) => secrets::set(state, &act, &name.join("/")).await,
        ("DELETE", ["secrets", name @ ..]) => secrets::remove(state, &act, &name.join("/")).await,
        _ => Err(Problem::new(404, "not_found", "there is no such path; see the list at /api/v1")),
    }
}

async fn control(state: &AdminState, act: &Act, id: RunId, action: RunAction) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let view = state.view();
    let (reader, wanted) = (view.clone(), id.clone());
    let run = blocking(move || reader.find_run(&wanted)).await?;
    let (code, allowed) = match action {
        RunAction::Cancel => ("run_cancelled", !run.state.is_final()),
        RunAction::Retry => {
            let again = matches!(run.state, RunState::Dead | RunState::Cancelled);
            ("run_retried", again || matches!(run.state, RunState::Pending | RunState::Waiting))
        }
        RunAction::Purge => ("run_purged", run.state == RunState::Dead),
    };
    if !allowed {
        return Err(Problem::conflict(
            "wrong_state",
            format!("the run is {}: this does not apply to it", run.state),
        ));
    }
    let controlled = Controlled { run: id.clone(), at: view.clock.now(), action };
    let line = audit_line(state, act, Some(run.trigger_id), code, &id);
    view.log.append_durable(vec![Record::Controlled(controlled), line]).await?;
    let (reader, query) = (view.clone(), Query::default());
    ok(blocking(move || reader.get(&format!("runs/{id}"), &query)).await?)
}

async fn purge_all(state: &AdminState, act: &Act) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let filters = ["function", "trigger", "since", "until"];
    act.query.only(&[filters.as_slice(), &["all"]].concat())?;
    if !act.query.flag("all")? && !filters.iter().any(|name| act.query.text(name).is_some()) {
        return Err(Problem::bad(
            "missing_filter",
            "name what to purge (function, trigger, since, until), or all=true",
        ));
    }
    let view = state.view();
    let (mut purged, mut cursor) = (0_usize, None);
    loop {
        let (reader, query, from) = (view.clone(), act.query.clone(), cursor);
        let (letters, next) = blocking(move || reader.dead(&query, from.as_ref(), PURGE_BATCH)).await?;
        let at = view.clock.now();
        let purge = |run: crate::event_log::Run| {
            Record::Controlled(Controlled { run: run.id, at, action: RunAction::Purge })
        };
        let mut records: Vec<_> = letters.into_iter().map(purge).collect();
        if !records.is_empty() {
            purged += records.len();
            let detail = format!("{} ({})", records.len(), act.query.to_url());
            records.push(audit_line(state, act, None, "dead_letters_purged", detail));
            view.log.append_durable(records).await?;
        }
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    ok(json!({"purged": purged}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arm {
    #[serde(rename = "for")]
    duration: Option<String>,
}

async fn trigger(state: &AdminState, act: &Act, id: &str, action: &str) -> Result<Done, Problem> {
    let known = || state.0.config.triggers.iter().map(|trigger| trigger.id.as_str());
    let not_found = || Problem::unknown("trigger", id, known());
    let id: TriggerId = id.parse().map_err(|_| not_found())?;
    let trigger = state.0.config.trigger(&id).ok_or_else(not_found)?;
    let (change, code) = match action {
        "arm" => {
            let asked: Arm = fields(&act.body)?;
            let entry = state.view().catalog.get(trigger.provider.as_str());
            if !entry.is_some_and(|entry| entry.secrets.iter().any(|secret| secret.learned)) {
                let detail = format!(
                    "no handshake of {} brings a secret: there is nothing to arm for",
                    trigger.provider
                );
                return Err(Problem::conflict("nothing_to_learn", detail));
            }
            let duration = asked.duration.as_deref().unwrap_or(ARM_DEFAULT);
            let duration = parse_duration(duration).filter(|it| (1..=ARM_S_MAX).contains(&it.as_secs()));
            let duration =
                duration.ok_or_else(|| Problem::bad("invalid_body", "`for`: a duration, 1s to 1d"))?;
            let until = state.view().clock.now().checked_add(duration);
            let until = until.map_err(|error| Problem::internal(&error))?;
            (Change::Arm(until), "trigger_armed")
        }
        other => {
            fields::<Nothing>(&act.body)?;
            if other == "pause" {
                (Change::Pause, "trigger_paused")
            } else {
                (Change::Resume, "trigger_resumed")
            }
        }
    };
    state.0.runtime.change_trigger(&id, change).await?;
    audit(state, act, Some(id.clone()), code, &id).await?;
    let (reader, query) = (state.view().clone(), Query::default());
    ok(blocking(move || reader.get(&format!("triggers/{id}"), &query)).await?)
}

async fn function(state: &AdminState, act: &Act, id: &str, paused: bool) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let known = || state.0.config.functions.iter().map(|function| function.id.as_str());
    let not_found = || Problem::unknown("function", id, known());
    let id: FunctionId = id.parse().map_err(|_| not_found())?;
    state.0.config.function(&id).ok_or_else(not_found)?;
    let switch = Switch::FunctionPaused(id.clone(), paused);
    let code = if paused { "function_paused" } else { "function_resumed" };
    let switched = Record::Switched(Switched { at: state.view().clock.now(), switch });
    let line = audit_line(state, act, None, code, &id);
    state.view().log.append_durable(vec![switched, line]).await?;
    let (reader, query) = (state.view().clone(), Query::default());
    ok(blocking(move || reader.get(&format!("functions/{id}"), &query)).await?)
}
