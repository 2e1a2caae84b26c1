//! `triggers`: configured activations of providers.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::arguments::{All, One, is_in_state};
use super::render::{self, BOLD, Cell, Table, number, text, time};
use crate::event::TriggerId;

/// `triggers`.
#[derive(Subcommand)]
pub(super) enum Triggers {
    /// List triggers with their state
    List(All),
    /// Take deliveries, but hold them: no run starts until the trigger is resumed
    Pause(One<TriggerId>),
    /// Start what was held, and runs from now on
    Resume(One<TriggerId>),
    /// Let a handshake teach the trigger its secret
    Arm(Arm),
}

/// `triggers arm`.
#[derive(Args)]
#[command(after_help = "\
Providers such as Notion send their secret in an unsigned handshake. It is taken only while the trigger is \
armed; the first one wins. See it with `hookkeeper secrets reveal <trigger>/signing_secret`.")]
pub(super) struct Arm {
    #[command(flatten)]
    trigger: One<TriggerId>,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    duration: String,
}

impl Triggers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Triggers::List(all) => list(all).await,
            Triggers::Pause(trigger) => trigger.change("triggers", "pause", &json!({}), told).await,
            Triggers::Resume(trigger) => trigger.change("triggers", "resume", &json!({}), told).await,
            Triggers::Arm(Arm { trigger, duration }) => {
                trigger.change("triggers", "arm", &json!({"for": duration}), told).await
            }
        }
    }
}

async fn list(all: All) -> anyhow::Result<()> {
    let table =
        Table::new(["ID", "PROVIDER", "WHEN", "STATE", "ACCEPTED", "DUPLICATE", "REFUSED", "LAST", "NEXT"]);
    let row = |trigger: &Value| {
        vec![
            Cell::styled(BOLD, text(trigger, "/id")),
            text(trigger, "/provider").into(),
            when(trigger).into(),
            state(trigger),
            count(trigger, "accepted"),
            count(trigger, "duplicates"),
            count(trigger, "rejected"),
            last(trigger).into(),
            next(trigger).into(),
        ]
    };
    all.print("triggers", table, row, "no trigger is configured").await
}

/// Returns what sets a trigger off: its path, its schedule, or how often its provider is asked.
fn when(trigger: &Value) -> String {
    match text(trigger, "/path") {
        "" if !trigger["poll"].is_null() => format!("every {}", text(trigger, "/poll/every")),
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

/// Returns when it ticks, is polled, or is to be activated next.
fn next(trigger: &Value) -> String {
    ["/next_attempt_at", "/cron/next_tick", "/poll/next_at"]
        .into_iter()
        .map(|place| time(trigger, place))
        .find(|at| !at.is_empty())
        .unwrap_or_default()
}

/// Returns a count since the server's start; a stopped one has none.
fn count(trigger: &Value, name: &str) -> Cell {
    trigger[name].as_u64().map_or_else(|| "-".into(), Cell::from)
}

fn state(trigger: &Value) -> Cell {
    let state = text(trigger, "/state");
    match (state, text(trigger, "/reason")) {
        ("failed", reason) => Cell::styled(render::RED, format_args!("failed: {reason}")),
        ("active" | "paused", reason) if !reason.is_empty() => {
            Cell::styled(render::YELLOW, format_args!("{state} as before: {reason}"))
        }
        ("active" | "paused", _) if !text(trigger, "/poll/last_error").is_empty() => {
            Cell::styled(render::RED, failing(trigger, state))
        }
        ("active", _) if !trigger["armed_until"].is_null() => Cell::state("armed"),
        (state, _) => Cell::state(state),
    }
}

/// Tells how a trigger's polls fail. Those of a paused one go on.
fn failing(trigger: &Value, state: &str) -> String {
    let paused = if state == "paused" { "paused, " } else { "" };
    let (reason, at) = (text(trigger, "/poll/last_error"), time(trigger, "/poll/last_error_at"));
    match number(trigger, "/poll/failures") {
        0 | 1 => format!("{paused}failing: {reason} ({at})"),
        count => format!("{paused}failing: {reason} ({count} in a row, the last {at})"),
    }
}

/// Tells what a change made of a trigger, to stand behind its id.
fn told(trigger: &Value) -> String {
    match time(trigger, "/armed_until").as_str() {
        "" => is_in_state(trigger),
        until => format!("is armed until {until}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_that_fail_are_told_with_reason_and_time() {
        let check = |state: &str, failures: u64, expected: [&str; 2]| {
            let poll = json!({"last_error": "503 from acme", "last_error_at": "2026-11-23T14:00:00Z", "failures": failures});
            let told = failing(&json!({"poll": poll}), state);
            assert!(told.starts_with(expected[0]) && told.contains(expected[1]), "{told}");
            assert!(told.contains("2026-11-2"), "{told}");
        };
        check("active", 1, ["failing: 503 from acme (", ""]);
        check("active", 3, ["failing: 503 from acme (", "3 in a row, the last "]);
        check("paused", 1, ["paused, failing: ", ""]);
    }
}
