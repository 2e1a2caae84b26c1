//! `functions`: what runs on events.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Reach;
use super::render::{self, BOLD, Cell, Table, note, number, text};
use super::source::{Source, items, post};
use crate::admin::Query;
use crate::event::FunctionId;

/// `functions`.
#[derive(Subcommand)]
pub(super) enum Functions {
    /// List functions with their state and the sums of their runs
    List(List),
    /// Start nothing new until resumed
    Pause(Change),
    /// Go on with what is due
    Resume(Change),
}

/// `functions list`.
#[derive(Args)]
pub(super) struct List {
    /// Print {"items": […], "next_cursor": null}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// A change of one function.
#[derive(Args)]
pub(super) struct Change {
    /// The function's id
    id: FunctionId,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Functions {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Functions::List(command) => command.run().await,
            Functions::Pause(command) => command.run("pause").await,
            Functions::Resume(command) => command.run("resume").await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let listing = Source::open(&self.reach).await?.get("functions", &Query::default()).await?;
        if self.json {
            return render::json(&listing);
        }
        let mut table =
            Table::new(["ID", "ON", "HANDLER", "STATE", "PENDING", "RUNNING", "SUCCEEDED", "DEAD"]);
        for function in items(&listing) {
            let on: Vec<_> =
                function["on"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            table.row([
                Cell::styled(BOLD, text(function, "/id")),
                if on.is_empty() { "all".into() } else { on.join(", ").into() },
                handler(function).into(),
                state(function),
                (number(function, "/runs/pending") + number(function, "/runs/waiting")).into(),
                number(function, "/runs/running").into(),
                number(function, "/runs/succeeded").into(),
                number(function, "/runs/dead").into(),
            ]);
        }
        if table.is_empty() {
            note("no function is configured");
        }
        table.print()
    }
}

fn handler(function: &Value) -> String {
    let handler = &function["handler"];
    match handler["exec"].as_array() {
        Some(command) => command.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => text(handler, "/http").to_owned(),
    }
}

fn state(function: &Value) -> Cell {
    match text(function, "/state") {
        "broken" => {
            let until = text(function, "/breaker/open_until").parse().map(render::local).unwrap_or_default();
            Cell::styled(render::RED, format_args!("broken, next probe {until}"))
        }
        state => Cell::state(state),
    }
}

impl Change {
    async fn run(self, action: &str) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        let function = post(&client, &format!("functions/{}/{action}", self.id), &json!({})).await?;
        if self.json {
            return render::json(&function);
        }
        note(format_args!("{} is {}", self.id, text(&function, "/state")));
        Ok(())
    }
}
