//! `quarantine`: deliveries that were refused, kept sealed for when a secret or clock was wrong.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::arguments::{self, Change, Filter as _, One};
use super::render::{self, BOLD, Cell, DIM, GREEN, RED, Table, YELLOW, note, number, out, paint, text, time};
use super::source::{NOTHING, Paging, Source, post};
use super::{Reach, Told};
use crate::admin::Query;
use crate::quarantine::HeldId;

/// `quarantine`.
#[derive(Subcommand)]
pub(super) enum Quarantine {
    /// List refused deliveries, newest first
    List(List),
    /// Show one refused delivery, and why it probably was refused
    Show(One<HeldId>),
    /// Verify refused deliveries again, as of their arrival, and take them in
    Release(Release),
    /// Forget refused deliveries
    Purge(Purge),
}

/// Which refused deliveries.
#[derive(Args, Clone)]
pub(super) struct Filter {
    /// Of this trigger
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// For this reason: missing_header, invalid_header, invalid_signature or timestamp_out_of_window
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Received since: RFC 3339, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl arguments::Filter for Filter {
    fn pairs(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("trigger", self.trigger.clone()),
            ("reason", self.reason.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }
}

/// `quarantine list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper quarantine list --trigger github
  hookkeeper quarantine list --reason invalid_signature --since 1d --json")]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    reach: Reach,
}

/// `quarantine release`.
#[derive(Args)]
#[command(after_help = "\
Mend the cause first: `quarantine show ID` tells the likely one. What still does not verify stays.

Examples:
  hookkeeper quarantine release q0197c1f4e2a00000
  hookkeeper quarantine release --trigger github --since 1d")]
pub(super) struct Release {
    #[command(flatten)]
    change: Change<HeldId, Filter>,
}

/// `quarantine purge`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper quarantine purge --until 30d
  hookkeeper quarantine purge --all")]
pub(super) struct Purge {
    #[command(flatten)]
    change: Change<HeldId, Filter>,
}

impl Quarantine {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Quarantine::List(command) => command.run().await,
            Quarantine::Show(held) => show(&held).await,
            Quarantine::Release(command) => release(command.change).await,
            Quarantine::Purge(command) => command.change.purge("quarantine", "deliveries").await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let listing = source.listing("quarantine", self.filter.query(), &self.paging).await?;
        let table = Table::new(["ID", "RECEIVED", "TRIGGER", "FROM", "REASON", "NEAR MISS", "SIZE"]);
        let row = |held: &Value| {
            vec![
                Cell::styled(BOLD, text(held, "/id")),
                time(held, "/received_at").into(),
                text(held, "/trigger_id").into(),
                text(held, "/peer").into(),
                text(held, "/reason").into(),
                if held["near_miss"] == true { Cell::styled(YELLOW, "yes") } else { "no".into() },
                render::bytes(number(held, "/body_bytes")).into(),
            ]
        };
        Source::print(&listing, self.paging.json, table, row, NOTHING)
    }
}

async fn show(One { id, json, reach }: &One<HeldId>) -> anyhow::Result<()> {
    let source = Source::open(reach).await?;
    let held = source.get(&format!("quarantine/{id}"), &Query::default()).await?;
    if *json {
        return render::json(&held);
    }
    let mut out = out();
    writeln!(out, "{BOLD}{id}{BOLD:#}  {}", paint(RED, text(&held, "/reason")))?;
    let mut line = |name: &str, value: &str| writeln!(out, "  {name:<10}{}", render::one_line(value, 2_000));
    line("trigger", &format!("{} ({})", text(&held, "/trigger_id"), text(&held, "/provider")))?;
    line("received", &format!("{} from {}", time(&held, "/received_at"), text(&held, "/peer")))?;
    line("refused", text(&held, "/hint"))?;
    line("signs", &signs(&held))?;
    line("now", &outlook(&held))?;
    let size = render::bytes(number(&held, "/body_bytes"));
    let (method, url) = (text(&held, "/request/method"), text(&held, "/request/url"));
    line("request", &format!("{method} {url} ({size})"))?;
    for header in held["request"]["headers"].as_array().into_iter().flatten() {
        let (name, value) = (text(header, "/0"), render::one_line(text(header, "/1"), 2_000));
        writeln!(out, "    {DIM}{}:{DIM:#} {value}", render::one_line(name, 200))?;
    }
    Ok(())
}

/// Tells what speaks for a delivery.
fn signs(held: &Value) -> String {
    let signs = [
        ("near_miss", "a signature of the provider's form"),
        ("known_address", "an address whose deliveries verified"),
        ("has_delivery_id", "a delivery id"),
    ];
    let there: Vec<_> = signs.iter().filter(|(name, _)| held[*name] == true).map(|(_, sign)| *sign).collect();
    if there.is_empty() { "none of a delivery's".to_owned() } else { there.join(", ") }
}

/// Tells whether a release would take a delivery in, and why probably not.
fn outlook(held: &Value) -> String {
    match text(held, "/cause/text") {
        _ if held["verifies_now"] == true => {
            paint(GREEN, format_args!("it verifies: hookkeeper quarantine release {}", text(held, "/id")))
        }
        "" => "it does not verify, and nothing that commonly goes wrong explains it".to_owned(),
        cause => format!("it does not verify; likely cause: {cause}"),
    }
}

async fn release(change: Change<HeldId, Filter>) -> anyhow::Result<()> {
    change.chosen.validate()?;
    let client = Source::server(&change.reach).await?;
    if let [id] = change.chosen.ids.as_slice() {
        let done = post(&client, &format!("quarantine/{id}/release"), &json!({})).await?;
        if change.json {
            return render::json(&done);
        }
        for event in done["events"].as_array().into_iter().flatten() {
            let was_there = if event["duplicate"] == true { ", which was there already" } else { "" };
            note(format_args!("{id} became event {}{was_there}", text(event, "/id")));
        }
        return Ok(());
    }
    let done = if change.chosen.ids.is_empty() {
        post(&client, "quarantine/release", &change.chosen.body()).await?
    } else {
        let mut sum = Sum::default();
        for id in &change.chosen.ids {
            sum.count(*id, post(&client, &format!("quarantine/{id}/release"), &json!({})).await);
        }
        sum.to_json()
    };
    if change.json {
        render::json(&done)?;
    } else {
        tell(&done);
    }
    // What stays in quarantine is a failure for a script, as it is for one id.
    if number(&done, "/failed") > 0 { Err(Told(1).into()) } else { Ok(()) }
}

/// What became of several releases, as the admin API tells it of a filter's.
#[derive(Default)]
struct Sum {
    released: u64,
    duplicates: u64,
    failures: Vec<Value>,
}

impl Sum {
    fn count(&mut self, id: HeldId, result: anyhow::Result<Value>) {
        match result {
            Ok(done) => {
                self.released += 1;
                let events = done["events"].as_array().map(Vec::as_slice).unwrap_or_default();
                self.duplicates += u64::from(events.iter().all(|event| event["duplicate"] == true));
            }
            Err(error) => self.failures.push(json!({"id": id, "detail": error.to_string()})),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "released": self.released,
            "duplicates": self.duplicates,
            "failed": self.failures.len(),
            "failures": self.failures,
        })
    }
}

fn tell(done: &Value) {
    for failure in done["failures"].as_array().into_iter().flatten() {
        note(format_args!("{}: {}", text(failure, "/id"), text(failure, "/detail")));
    }
    let (released, duplicates, failed) =
        (number(done, "/released"), number(done, "/duplicates"), number(done, "/failed"));
    note(format_args!("{released} released ({duplicates} were there already), {failed} stay in quarantine"));
}
