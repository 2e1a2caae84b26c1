//! `functions`: what runs on events.

use clap::Subcommand;
use serde_json::{Value, json};

use super::arguments::{All, One, is_in_state};
use super::render::{self, BOLD, Cell, Table, number, text};
use crate::event::FunctionId;

/// `functions`.
#[derive(Subcommand)]
pub(super) enum Functions {
    /// List functions with their state and the sums of their runs
    List(All),
    /// Start nothing new until resumed
    Pause(One<FunctionId>),
    /// Go on with what is due
    Resume(One<FunctionId>),
}

impl Functions {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Functions::List(all) => list(all).await,
            Functions::Pause(function) => {
                function.change("functions", "pause", &json!({}), is_in_state).await
            }
            Functions::Resume(function) => {
                function.change("functions", "resume", &json!({}), is_in_state).await
            }
        }
    }
}

async fn list(all: All) -> anyhow::Result<()> {
    let table = Table::new(["ID", "ON", "HANDLER", "STATE", "PENDING", "RUNNING", "SUCCEEDED", "DEAD"]);
    let row = |function: &Value| {
        let on: Vec<_> = function["on"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        vec![
            Cell::styled(BOLD, text(function, "/id")),
            if on.is_empty() { "all".into() } else { on.join(", ").into() },
            handler(function).into(),
            state(function),
            (number(function, "/runs/pending") + number(function, "/runs/waiting")).into(),
            number(function, "/runs/running").into(),
            number(function, "/runs/succeeded").into(),
            number(function, "/runs/dead").into(),
        ]
    };
    all.print("functions", table, row, "no function is configured").await
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
