//! `replay`: new runs of stored events, one or many.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::arguments::{Chosen, Filter as _};
use super::client::Client;
use super::events::Filter;
use super::render::{self, BOLD, note, number, text};
use super::source::{Source, post};
use super::{Reach, Told};
use crate::admin::Query;
use crate::event::EventId;

/// How often the progress is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `replay`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper replay 01KAR5M2D40000000000000000                one event, for every function that wants it
  hookkeeper replay 01KAR5M2D40000000000000000 --function deploy
  hookkeeper replay --trigger github --since 2h --dry-run     how many would it be?
  hookkeeper replay --trigger github --since 2h --rate 50

A replay is always a new run, never taken for a duplicate, and signed afresh.")]
pub(super) struct Replay {
    #[command(flatten)]
    chosen: Chosen<EventId, Filter>,
    /// Only for this function; repeat it for several [default: every function that wants the event]
    #[arg(long = "function", value_name = "ID")]
    functions: Vec<String>,
    /// Also where the named functions' subscriptions do not want the event
    #[arg(long, requires = "functions")]
    force: bool,
    /// Count what would be replayed, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Most runs started per second
    #[arg(long, value_name = "RUNS")]
    rate: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Replay {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        self.chosen.validate()?;
        let client = Source::server(&self.reach).await?;
        if self.chosen.ids.is_empty() { self.many(&client).await } else { self.some(&client).await }
    }

    async fn some(&self, client: &Client) -> anyhow::Result<()> {
        let mut runs = Vec::new();
        for id in &self.chosen.ids {
            let body = json!({"functions": self.functions, "force": self.force, "dry_run": self.dry_run});
            let mut done = post(client, &format!("events/{id}/replay"), &body).await?;
            if let Value::Array(found) = done["runs"].take() {
                runs.extend(found);
            }
        }
        if self.json {
            return render::json(&json!({"runs": runs, "dry_run": self.dry_run}));
        }
        let verb = if self.dry_run { "would start" } else { "started" };
        for run in &runs {
            note(format_args!("{verb} {BOLD}{}{BOLD:#}", run.as_str().unwrap_or_default()));
        }
        if runs.is_empty() {
            note("no function wants it: nothing to start");
        }
        Ok(())
    }

    async fn many(&self, client: &Client) -> anyhow::Result<()> {
        let mut body = json!({
            "functions": self.functions,
            "force": self.force,
            "dry_run": self.dry_run,
            "all": self.chosen.all,
            "filter": self.chosen.filter.fields(),
        });
        if let Some(rate) = self.rate {
            body["rate"] = json!(rate);
        }
        let mut replay = post(client, "replays", &body).await?;
        let id = text(&replay, "/id").to_owned();
        let bar = self.bar();
        while text(&replay, "/state") == "running" {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                stop = tokio::signal::ctrl_c() => {
                    stop?;
                    bar.finish_and_clear();
                    let cancelled = post(client, &format!("replays/{id}/cancel"), &json!({})).await?;
                    note(format_args!("cancelled after {} new runs", number(&cancelled, "/created")));
                    return Err(Told(1).into());
                }
            }
            replay = client.get(&format!("replays/{id}"), &Query::default()).await?;
            bar.set_length(number(&replay, "/frame_last"));
            bar.set_position(number(&replay, "/frame"));
            bar.set_message(format!(
                "{} matched, {} runs",
                number(&replay, "/matched"),
                number(&replay, "/created")
            ));
        }
        bar.finish_and_clear();
        if self.json {
            render::json(&replay)?;
        } else {
            let (matched, created) = (number(&replay, "/matched"), number(&replay, "/created"));
            let verb = if self.dry_run { "would start" } else { "started" };
            note(format_args!(
                "{}: {matched} events matched, {verb} {created} runs",
                text(&replay, "/state")
            ));
        }
        match text(&replay, "/state") {
            "failed" => Err(anyhow::anyhow!("the replay failed: {}", text(&replay, "/error"))),
            _ => Ok(()),
        }
    }

    fn bar(&self) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        let template = "{bar:30} {percent}%  {msg}  {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        // indicatif shows nothing where stderr is no terminal.
        ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
    }
}
