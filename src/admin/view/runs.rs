//! Runs and dead letters.

use serde_json::{Map, Value, json};

use super::{View, page};
use crate::admin::Problem;
use crate::admin::query::Query;
use crate::config::Config;
use crate::event::{RunId, RunState};
use crate::event_log::record::{Cause, Record};
use crate::event_log::{AttemptSummary, Error, Page, Run, RunFilter};

/// The reason of a run whose function is in the configuration no more. It goes on once the function is there again.
const FUNCTION_REMOVED: &str = "function_removed";
/// Most runs that a page of waiting ones looks at.
const WAITING_SCAN_MAX: usize = 20_000;
/// Runs that are read at once meanwhile.
const WAITING_PAGE: usize = 1_000;

impl View {
    /// Lists runs, those of the newest events first.
    pub(super) fn runs(&self, query: &Query) -> Result<Value, Problem> {
        query.only(&["state", "function", "trigger", "since", "until", "limit", "cursor"])?;
        let filter = RunFilter { state: query.get("state")?, ..self.run_filter(query)? };
        let runs = self.runs_shown(&filter, query.cursor()?, query.limit()?)?;
        Ok(page(runs.items.iter().map(|run| self.run_item(run)).collect(), runs.next))
    }

    /// Returns a page of runs that are shown in the state that the filter names.
    fn runs_shown(
        &self,
        filter: &RunFilter,
        cursor: Option<RunId>,
        limit: usize,
    ) -> Result<Page<Run, RunId>, Error> {
        let state = self.log.state();
        if filter.state != Some(RunState::Waiting) {
            let mut page = state.runs(filter, cursor.as_ref(), limit)?;
            page.items.retain(|run| filter.state.is_none_or(|wanted| self.standing(run).0 == wanted));
            return Ok(page);
        }
        // Some that are shown as waiting are pending in the log.
        let filter = RunFilter { state: None, ..filter.clone() };
        let mut shown = Page { items: Vec::new(), next: cursor };
        let mut looked_at = 0;
        loop {
            let page = state.runs(&filter, shown.next.as_ref(), WAITING_PAGE)?;
            looked_at += page.items.len();
            // A short page says that the log's own bound was met.
            let goes_on = page.items.len() == WAITING_PAGE && looked_at < WAITING_SCAN_MAX;
            for run in page.items {
                if self.standing(&run).0 == RunState::Waiting {
                    shown.next = Some(run.id.clone());
                    shown.items.push(run);
                    if shown.items.len() == limit {
                        return Ok(shown);
                    }
                }
            }
            shown.next = page.next;
            if shown.next.is_none() || !goes_on {
                return Ok(shown);
            }
        }
    }

    /// Returns the state and reason that a run is shown with: nobody attempts a run whose function is configured
    /// no more, whatever its schedule says.
    fn standing<'a>(&self, run: &'a Run) -> (RunState, Option<&'a str>) {
        let is_removed = |config: &Config| config.function(&run.id.function).is_none();
        let is_open = matches!(run.state, RunState::Pending | RunState::Waiting);
        if is_open && run.due_at.is_some() && self.config.as_deref().is_some_and(is_removed) {
            return (RunState::Waiting, Some(FUNCTION_REMOVED));
        }
        (run.state, run.reason.as_deref())
    }

    fn run_filter(&self, query: &Query) -> Result<RunFilter, Problem> {
        let now = self.clock.now();
        Ok(RunFilter {
            state: None,
            function: query.get("function")?,
            trigger: query.get("trigger")?,
            since: query.time("since", now)?,
            until: query.time("until", now)?,
        })
    }

    /// Lists dead runs that no newer run of the same event and function stands for.
    pub(super) fn dead_letters(&self, query: &Query) -> Result<Value, Problem> {
        query.only(&["function", "trigger", "since", "until", "limit", "cursor"])?;
        let cursor = query.cursor::<RunId>()?;
        let (letters, next) = self.dead(query, cursor.as_ref(), query.limit()?)?;
        Ok(page(letters.iter().map(|run| self.run_item(run)).collect(), next))
    }

    /// Returns a page of dead letters.
    pub(in crate::admin) fn dead(
        &self,
        query: &Query,
        cursor: Option<&RunId>,
        limit: usize,
    ) -> Result<(Vec<Run>, Option<RunId>), Problem> {
        let filter = RunFilter { state: Some(RunState::Dead), ..self.run_filter(query)? };
        let runs = self.log.state().runs(&filter, cursor, limit)?;
        let mut letters = Vec::new();
        for run in runs.items {
            if self.log.state().next_generation(run.id.event, &run.id.function)? == run.id.generation + 1 {
                letters.push(run);
            }
        }
        Ok((letters, runs.next))
    }

    /// Finds a run.
    pub(in crate::admin) fn find_run(&self, id: &RunId) -> Result<Run, Problem> {
        self.log.state().run(id)?.ok_or_else(|| Problem::not_found("run", id))
    }

    /// Returns one run with all that its attempts answered.
    pub(super) fn run(&self, id: &RunId) -> Result<Value, Problem> {
        let run = self.find_run(id)?;
        let mut shown = self.run_item(&run);
        let attempts: Result<Vec<_>, Error> =
            run.history.iter().map(|it| self.attempt_with_answer(it)).collect();
        let attempts = attempts?;
        if run.state == RunState::Succeeded
            && let Some(answer) = attempts.last().and_then(|attempt| attempt.get("answer"))
        {
            shown["result"] = answer.clone();
        }
        shown["history"] = json!(attempts);
        Ok(shown)
    }

    /// Returns a run as listings show it.
    pub(super) fn run_item(&self, run: &Run) -> Value {
        let (cause, replay_of) = match &run.cause {
            Cause::Live => ("live", None),
            Cause::Redelivery => ("redelivery", None),
            Cause::Replay { replay_of } => ("replay", replay_of.as_ref()),
        };
        let (state, reason) = self.standing(run);
        json!({
            "id": run.id,
            "event_id": run.id.event,
            "function": run.id.function,
            "generation": run.id.generation,
            "trigger_id": run.trigger_id,
            "kind": run.kind,
            "cause": cause,
            "replay_of": replay_of,
            "state": state,
            "reason": reason,
            "created_at": run.created_at,
            "due_at": run.due_at.filter(|_| reason != Some(FUNCTION_REMOVED)),
            "attempts": run.attempts,
            "finished_at": run.finished_at,
            "history": run.history.iter().map(attempt).collect::<Vec<_>>(),
        })
    }

    fn attempt_with_answer(&self, summary: &AttemptSummary) -> Result<Value, Error> {
        let mut shown = attempt(summary);
        if let Some(Record::Attempted(attempted)) = self.log.record(summary.position)? {
            shown["note"] = json!(attempted.note);
            shown["answer"] = json!(String::from_utf8_lossy(&attempted.answer));
        }
        Ok(shown)
    }
}

fn attempt(summary: &AttemptSummary) -> Value {
    let mut shown = Map::new();
    shown.insert("attempt".to_owned(), json!(summary.attempt));
    shown.insert("started_at".to_owned(), json!(summary.started_at));
    shown.insert("duration_us".to_owned(), json!(summary.duration_us));
    shown.insert("status".to_owned(), json!(summary.status));
    shown.insert("note".to_owned(), json!(summary.note));
    Value::Object(shown)
}
