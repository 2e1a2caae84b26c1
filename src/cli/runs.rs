//! `runs`: what functions did with events.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Reach;
use super::arguments::{Filter, One, is_in_state};
use super::render::{self, BOLD, Cell, DIM, Table, number, out, text, time};
use super::source::{NOTHING, Paging, Source};
use crate::admin::Query;
use crate::event::RunId;

/// `runs`.
#[derive(Subcommand)]
pub(super) enum Runs {
    /// List runs, those of the newest events first
    List(List),
    /// Show one run with its attempts and result
    Show(One<RunId>),
    /// End a run that is not finished
    Cancel(One<RunId>),
    /// Make a run due now, with its attempts counted anew
    Retry(One<RunId>),
}

/// `runs list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper runs list --state pending
  hookkeeper runs list --function deploy --since 1d --json")]
pub(super) struct List {
    /// In this state: pending, running, waiting, succeeded, dead, cancelled or skipped
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    #[command(flatten)]
    filter: RunFilter,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    reach: Reach,
}

/// Which runs.
#[derive(Args, Clone)]
pub(super) struct RunFilter {
    /// Of this function
    #[arg(long, value_name = "ID")]
    function: Option<String>,
    /// Of this trigger's events
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Created since: RFC 3339, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Created before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter for RunFilter {
    fn pairs(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("function", self.function.clone()),
            ("trigger", self.trigger.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }
}

impl Runs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Runs::List(command) => command.run().await,
            Runs::Show(run) => show(&run).await,
            Runs::Cancel(run) => run.change("runs", "cancel", &json!({}), is_in_state).await,
            Runs::Retry(run) => run.change("runs", "retry", &json!({}), is_in_state).await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let mut query = self.filter.query();
        if let Some(state) = &self.state {
            query.set("state", state);
        }
        let listing = source.listing("runs", query, &self.paging).await?;
        print(&listing, &self.paging)
    }
}

/// Prints a listing of runs.
pub(super) fn print(listing: &Value, paging: &Paging) -> anyhow::Result<()> {
    let table = Table::new(["ID", "CREATED", "KIND", "STATE", "ATTEMPTS", "WHY OR WHEN"]);
    let row = |run: &Value| {
        vec![
            Cell::styled(BOLD, text(run, "/id")),
            time(run, "/created_at").into(),
            text(run, "/kind").into(),
            Cell::state(text(run, "/state")),
            number(run, "/attempts").into(),
            outlook(run).into(),
        ]
    };
    Source::print(listing, paging.json, table, row, NOTHING)
}

/// Says why a run is in its state, or when it goes on.
pub(super) fn outlook(run: &Value) -> String {
    let due =
        || text(run, "/due_at").parse().map(|at| format!("due {}", render::when(at))).unwrap_or_default();
    match (text(run, "/state"), text(run, "/reason")) {
        ("pending", "") => due(),
        ("pending", reason) => format!("{reason}, {}", due()),
        (_, reason) => reason.to_owned(),
    }
}

/// Shows one run.
pub(super) async fn show(One { id, json, reach }: &One<RunId>) -> anyhow::Result<()> {
    let source = Source::open(reach).await?;
    let run = source.get(&format!("runs/{id}"), &Query::default()).await?;
    if *json {
        return render::json(&run);
    }
    let mut out = out();
    let state = text(&run, "/state");
    writeln!(out, "{BOLD}{id}{BOLD:#}  {}", render::paint(render::state_style(state), state))?;
    writeln!(
        out,
        "  {:<10}{} for {}",
        "function",
        text(&run, "/function"),
        render::one_line(text(&run, "/kind"), 200)
    )?;
    let cause = match text(&run, "/replay_of") {
        "" => text(&run, "/cause").to_owned(),
        of => format!("{} of {of}", text(&run, "/cause")),
    };
    writeln!(out, "  {:<10}{} ({cause})", "created", time(&run, "/created_at"))?;
    let outlook = outlook(&run);
    if !outlook.is_empty() {
        writeln!(out, "  {:<10}{outlook}", "why")?;
    }
    for attempt in run["history"].as_array().into_iter().flatten() {
        writeln!(out, "  {}", attempt_line(attempt))?;
        let answer = text(attempt, "/answer");
        if !answer.is_empty() {
            for line in render::tame(answer).lines() {
                writeln!(out, "    {DIM}|{DIM:#} {line}")?;
            }
        }
    }
    Ok(())
}

/// Tells one attempt in a line.
pub(super) fn attempt_line(attempt: &Value) -> String {
    let at = text(attempt, "/started_at").parse().map(render::local).unwrap_or_default();
    let status = attempt["status"].as_i64().map(|status| format!("  status {status}")).unwrap_or_default();
    let note = match text(attempt, "/note") {
        "" => String::new(),
        note => format!("  {}", render::one_line(note, 300)),
    };
    let took = render::micros(number(attempt, "/duration_us"));
    format!("attempt {:<3} {at}  {took}{status}{note}", number(attempt, "/attempt"))
}
