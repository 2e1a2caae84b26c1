//! Replays: of one event, of dead letters, and of many events with progress and cancel.
//!
//! What a replay is, `replay` knows; here is who asked, how far it has come, and how many run at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::act::{Act, Done, audit, blocking, fields};
use super::query::Query;
use super::view::shown;
use super::{AdminState, Problem};
use crate::event::{EventId, FunctionId, RunId, RunState, Timestamp};
use crate::replay::{self, Choice, Decision, Filter, Progress, Request};
use crate::subscription::Glob;

/// Most replays of many events that run at once: each reads the whole stretch of its filter.
const RUNNING_MAX: usize = 4;
/// Finished replays that are remembered.
const FINISHED_MAX: usize = 64;
/// Runs of one request that are named one by one, and of one step of a request with a filter.
const RUNS_MAX: usize = 200;

/// Replays of many events, under way and lately finished. They end with the process: what they started goes on.
#[derive(Default)]
pub(super) struct Replays {
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
}

/// One replay of many events.
struct Job {
    id: u64,
    request: Value,
    dry_run: bool,
    started_at: Timestamp,
    cancelled: AtomicBool,
    come: Mutex<Come>,
}

/// How far a job has come.
#[derive(Default)]
struct Come {
    progress: Progress,
    ended: Option<Ended>,
}

/// How a job ended.
struct Ended {
    at: Timestamp,
    state: &'static str,
    error: Option<String>,
}

impl Job {
    fn to_json(&self) -> Value {
        let come = self.come.lock();
        let progress = &come.progress;
        let skipped = progress.skipped.iter().map(
            |((function, reason), count)| json!({"function": function, "reason": reason, "count": count}),
        );
        json!({
            "id": self.id.to_string(),
            "state": come.ended.as_ref().map_or("running", |ended| ended.state),
            "error": come.ended.as_ref().and_then(|ended| ended.error.as_deref()),
            "request": self.request,
            "dry_run": self.dry_run,
            "started_at": self.started_at,
            "finished_at": come.ended.as_ref().map(|ended| ended.at),
            "matched": progress.matched,
            "created": progress.started,
            "skipped": skipped.collect::<Vec<_>>(),
            "examples": progress.examples.iter().map(decision).collect::<Vec<_>>(),
            "frame": progress.at.frame(),
            "frame_last": progress.through.frame(),
        })
    }

    fn is_running(&self) -> bool {
        self.come.lock().ended.is_none()
    }

    fn end(&self, at: Timestamp, state: &'static str, error: Option<String>) {
        self.come.lock().ended.get_or_insert(Ended { at, state, error });
    }
}

impl Replays {
    /// Lists replays, the latest first.
    pub(super) fn list(&self) -> Value {
        let items: Vec<_> = self.jobs.lock().values().rev().map(|job| job.to_json()).collect();
        json!({"items": items, "next_cursor": null})
    }

    /// Returns one replay.
    pub(super) fn get(&self, id: &str) -> Result<Value, Problem> {
        Ok(self.find(id)?.to_json())
    }

    /// Stops a replay after the slice that it is at.
    pub(super) fn cancel(&self, id: &str) -> Result<Value, Problem> {
        let job = self.find(id)?;
        if !job.is_running() {
            return Err(Problem::conflict("wrong_state", "the replay is finished"));
        }
        job.cancelled.store(true, Ordering::Relaxed);
        Ok(job.to_json())
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let found = id.parse().ok().and_then(|id: u64| self.jobs.lock().get(&id).cloned());
        found.ok_or_else(|| Problem::not_found("replay", shown(id)))
    }

    fn add(&self, request: Value, dry_run: bool, started_at: Timestamp) -> Result<Arc<Job>, Problem> {
        let mut jobs = self.jobs.lock();
        if jobs.values().filter(|job| job.is_running()).count() >= RUNNING_MAX {
            let detail = format!("{RUNNING_MAX} replays run already: wait for one to end, or cancel it");
            return Err(Problem::conflict("too_many_replays", detail));
        }
        let finished: Vec<u64> = jobs.values().filter(|job| !job.is_running()).map(|job| job.id).collect();
        for id in finished.iter().take((finished.len() + 1).saturating_sub(FINISHED_MAX)) {
            jobs.remove(id);
        }
        let id = jobs.last_key_value().map_or(1, |(id, _)| id + 1);
        let come = Mutex::default();
        let job = Arc::new(Job { id, request, dry_run, started_at, cancelled: AtomicBool::new(false), come });
        jobs.insert(id, Arc::clone(&job));
        Ok(job)
    }
}

fn decision(decision: &Decision) -> Value {
    let (run, skipped) = match &decision.outcome {
        Ok(run) => (Some(run), None),
        Err(reason) => (None, Some(reason.as_str())),
    };
    json!({"event": decision.event, "function": decision.function, "run": run, "skipped": skipped})
}

fn failed(error: replay::Error) -> Problem {
    match error {
        replay::Error::UnknownFunction(id) => Problem::not_found("function", id),
        replay::Error::Log(error) => error.into(),
        error @ replay::Error::Panicked => Problem::internal(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    #[serde(default)]
    functions: Vec<FunctionId>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Replays one event.
pub(super) async fn replay_one(state: &AdminState, id: EventId, act: &Act) -> Result<Done, Problem> {
    let One { functions, force, dry_run } = fields(&act.body)?;
    let choice = choice(functions, force)?;
    let decisions = state.0.replayer.one(id, &choice, dry_run).await.map_err(failed)?;
    let decisions = decisions.ok_or_else(|| Problem::not_found("event", id))?;
    if !dry_run {
        audit(state, act, None, "event_replayed", id).await?;
    }
    let runs: Vec<_> = decisions.iter().filter_map(|it| it.outcome.as_ref().ok()).collect();
    let skipped: Vec<_> = decisions.iter().filter(|it| it.outcome.is_err()).map(decision).collect();
    Ok(Done { status: 200, value: json!({"runs": runs, "skipped": skipped, "dry_run": dry_run}) })
}

fn choice(functions: Vec<FunctionId>, force: bool) -> Result<Choice, Problem> {
    if force && functions.is_empty() {
        return Err(Problem::bad("missing_functions", "`force` is for named functions: add `functions`"));
    }
    Ok(Choice { functions, force })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    #[serde(default)]
    filter: BTreeMap<String, String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    functions: Vec<FunctionId>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
    rate: Option<f64>,
}

/// Starts a replay of all events that match a filter.
pub(super) async fn start(state: &AdminState, act: &Act) -> Result<Done, Problem> {
    let asked: Many = fields(&act.body)?;
    if asked.filter.is_empty() && !asked.all {
        let detail = "name what to replay in `filter` (trigger, provider, kind, state, since, until, function), or set `all`";
        return Err(Problem::bad("missing_filter", detail));
    }
    if asked.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(Problem::bad("invalid_body", "`rate`: runs per second, above 0"));
    }
    let choice = choice(asked.functions, asked.force)?;
    if let Some(unknown) = choice.functions.iter().find(|id| state.0.config.function(id).is_none()) {
        let known = state.0.config.functions.iter().map(|function| function.id.as_str());
        return Err(Problem::unknown("function", unknown.as_str(), known));
    }
    let now = state.view().clock.now();
    let request = Request {
        filter: filter(asked.filter, now)?,
        choice,
        per_second: asked.rate,
        dry_run: asked.dry_run,
    };
    let job = state.0.replays.add(act.body.clone(), request.dry_run, now)?;
    let ends = EndsJob(state.clone(), Arc::clone(&job));
    audit(state, act, None, "replay_started", format_args!("{}: {}", job.id, act.body)).await?;
    actix_web::rt::spawn(drive(request, ends));
    Ok(Done { status: 202, value: job.to_json() })
}

fn filter(fields: BTreeMap<String, String>, now: Timestamp) -> Result<Filter, Problem> {
    let query = Query::of(fields.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))));
    query.only(&["trigger", "provider", "kind", "state", "since", "until", "function"])?;
    Ok(Filter {
        trigger: query.get("trigger")?,
        provider: query.get("provider")?,
        kind: query.text("kind").map(Glob::new),
        state: query.get("state")?,
        since: query.time("since", now)?,
        until: query.time("until", now)?,
        function: query.get("function")?,
    })
}

/// Ends its job as failed, should whoever holds it end in any other way than by coming to the job's end.
struct EndsJob(AdminState, Arc<Job>);

impl Drop for EndsJob {
    fn drop(&mut self) {
        self.1.end(self.0.view().clock.now(), "failed", Some("it broke off".to_owned()));
    }
}

async fn drive(request: Request, ends: EndsJob) {
    let EndsJob(state, job) = &ends;
    let watched = Arc::clone(job);
    let progress = move |progress: &Progress| {
        watched.come.lock().progress.clone_from(progress);
        if watched.cancelled.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let result = state.0.replayer.many(&request, progress).await;
    let now = state.view().clock.now();
    match result {
        Ok(progress) => {
            let word = if progress.is_done { "done" } else { "cancelled" };
            job.come.lock().progress = progress;
            job.end(now, word, None);
        }
        Err(error) => {
            tracing::warn!(replay = job.id, %error, "replay failed");
            job.end(now, "failed", Some(failed(error).detail));
        }
    }
}

#[derive(Deserialize)]
struct Dead {
    #[serde(default)]
    runs: Vec<RunId>,
    #[serde(default)]
    all: bool,
    #[serde(flatten)]
    filter: BTreeMap<String, String>,
}

/// Starts new runs for dead letters: those named, or those that match a filter.
pub(super) async fn replay_dead(state: &AdminState, act: &Act) -> Result<Done, Problem> {
    // Further fields are the filter: the query refuses those that it does not know.
    let asked: Dead = Dead::deserialize(&act.body).map_err(|_| {
        Problem::bad("invalid_body", "send `runs`, or `all`, or function, trigger, since and until as text")
    })?;
    let query = Query::of(asked.filter.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))));
    query.only(&["function", "trigger", "since", "until"])?;
    if asked.runs.is_empty() && !asked.all && asked.filter.is_empty() {
        return Err(Problem::bad(
            "missing_filter",
            "name `runs`, or function, trigger, since, until, or set `all`",
        ));
    }
    let mut created = Vec::new();
    if asked.runs.is_empty() {
        let mut cursor = None;
        loop {
            let (view, query) = (state.view().clone(), query.clone());
            let (letters, next) = blocking(move || view.dead(&query, cursor.as_ref(), RUNS_MAX)).await?;
            let runs = letters.into_iter().map(|run| run.id).collect();
            created.extend(state.0.replayer.runs(runs).await.map_err(failed)?);
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
    } else {
        if asked.runs.len() > RUNS_MAX {
            return Err(Problem::bad(
                "too_many_runs",
                format!("name at most {RUNS_MAX} runs, or use a filter"),
            ));
        }
        let (view, runs) = (state.view().clone(), asked.runs.clone());
        blocking(move || runs.iter().try_for_each(|id| only_dead(view.find_run(id)?.state, id))).await?;
        created = state.0.replayer.runs(asked.runs).await.map_err(failed)?;
    }
    let started: Vec<_> = created.iter().filter_map(|it| it.outcome.as_ref().ok()).collect();
    audit(state, act, None, "dead_letters_replayed", format_args!("{}: {}", started.len(), act.body)).await?;
    // A long list says nothing more than its number.
    let shown: Vec<_> = started.iter().take(RUNS_MAX).collect();
    Ok(Done { status: 200, value: json!({"created": started.len(), "runs": shown}) })
}

fn only_dead(state: RunState, id: &RunId) -> Result<(), Problem> {
    match state {
        RunState::Dead => Ok(()),
        state => Err(Problem::conflict("wrong_state", format!("run {id} is {state}, no dead letter"))),
    }
}
