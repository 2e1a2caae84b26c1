//! `triggers`: configured activations of providers.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Reach;
use super::render::{self, BOLD, Cell, Table, note, text, time};
use super::source::{Source, items, post};
use crate::admin::Query;
use crate::event::TriggerId;

/// `triggers`.
#[derive(Subcommand)]
pub(super) enum Triggers {
    /// List triggers with their state
    List(List),
    /// Take deliveries, but hold them: no run starts until the trigger is resumed
    Pause(Change),
    /// Start what was held, and runs from now on
    Resume(Change),
    /// Let a handshake teach the trigger its secret
    Arm(Arm),
}

/// A listing that is never long.
#[derive(Args)]
pub(super) struct List {
    /// Print {"items": […], "next_cursor": null}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// A change of one trigger.
#[derive(Args)]
pub(super) struct Change {
    /// The trigger's id
    id: TriggerId,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// `triggers arm`.
#[derive(Args)]
#[command(after_help = "\
Providers such as Notion send their secret in an unsigned handshake. It is taken only while the trigger is
armed; the first one wins. See it with `hookkeeper secrets reveal <trigger>/signing_secret`.")]
pub(super) struct Arm {
    #[command(flatten)]
    change: Change,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    duration: String,
}

impl Triggers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Triggers::List(command) => command.run().await,
            Triggers::Pause(command) => command.run("pause", json!({})).await,
            Triggers::Resume(command) => command.run("resume", json!({})).await,
            Triggers::Arm(command) => command.change.run("arm", json!({"for": command.duration})).await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let listing = Source::open(&self.reach).await?.get("triggers", &Query::default()).await?;
        if self.json {
            return render::json(&listing);
        }
        let mut table = Table::new([
            "ID",
            "PROVIDER",
            "WHEN",
            "STATE",
            "ACCEPTED",
            "DUPLICATE",
            "REFUSED",
            "LAST",
            "NEXT",
        ]);
        for trigger in items(&listing) {
            table.row([
                Cell::styled(BOLD, text(trigger, "/id")),
                text(trigger, "/provider").into(),
                when(trigger).into(),
                state(trigger),
                count(trigger, "accepted"),
                count(trigger, "duplicates"),
                count(trigger, "rejected"),
                last(trigger).into(),
                time(trigger, "/cron/next_tick").into(),
            ]);
        }
        if table.is_empty() {
            note("no trigger is configured");
        }
        table.print()
    }
}

/// Returns what sets a trigger off: its path, or its schedule.
fn when(trigger: &Value) -> String {
    match text(trigger, "/path") {
        "" => format!("{} {}", text(trigger, "/cron/schedule"), text(trigger, "/cron/timezone")),
        path => path.to_owned(),
    }
}

/// Returns when it was last set off; of a schedule this is known beyond the server's start.
fn last(trigger: &Value) -> String {
    match time(trigger, "/cron/last_tick") {
        tick if tick.is_empty() => time(trigger, "/last_accepted_at"),
        tick => tick,
    }
}

/// Returns a count since the server's start; a stopped one has none.
fn count(trigger: &Value, name: &str) -> Cell {
    trigger[name].as_u64().map_or_else(|| "-".into(), Cell::from)
}

fn state(trigger: &Value) -> Cell {
    let state = text(trigger, "/state");
    match (state, text(trigger, "/reason")) {
        ("failed", reason) => Cell::styled(render::RED, format_args!("failed: {reason}")),
        ("active", _) if !trigger["armed_until"].is_null() => Cell::state("armed"),
        (state, _) => Cell::state(state),
    }
}

impl Change {
    async fn run(self, action: &str, body: Value) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        let trigger = post(&client, &format!("triggers/{}/{action}", self.id), &body).await?;
        if self.json {
            return render::json(&trigger);
        }
        match time(&trigger, "/armed_until").as_str() {
            "" => note(format_args!("{} is {}", self.id, text(&trigger, "/state"))),
            until => note(format_args!("{} is armed until {until}", self.id)),
        }
        Ok(())
    }
}
