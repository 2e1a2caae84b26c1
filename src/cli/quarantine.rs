//! `quarantine`: deliveries that were refused, kept sealed for when a secret or clock was wrong.

use std::io::Write as _;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::render::{self, BOLD, Cell, DIM, GREEN, RED, Table, YELLOW, note, number, out, paint, text, time};
use super::source::{Paging, Source, post};
use super::{Reach, Told, Usage};
use crate::admin::Query;
use crate::quarantine::HeldId;

/// `quarantine`.
#[derive(Subcommand)]
pub(super) enum Quarantine {
    /// List refused deliveries, newest first
    List(List),
    /// Show one refused delivery, and why it probably was refused
    Show(Show),
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

impl Filter {
    /// Returns the filter as parameters of the admin API.
    fn pairs(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("trigger", self.trigger.clone()),
            ("reason", self.reason.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }

    fn query(&self) -> Query {
        Query::of(self.pairs())
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

/// `quarantine show`.
#[derive(Args)]
pub(super) struct Show {
    /// The delivery's id
    id: HeldId,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Which deliveries a change is about.
#[derive(Args)]
pub(super) struct Which {
    /// Ids of deliveries
    #[arg(value_name = "ID", conflicts_with_all = ["all", "trigger", "reason", "since", "until"])]
    ids: Vec<HeldId>,
    #[command(flatten)]
    filter: Filter,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    which: Which,
}

/// `quarantine purge`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper quarantine purge --until 30d
  hookkeeper quarantine purge --all")]
pub(super) struct Purge {
    #[command(flatten)]
    which: Which,
}

impl Quarantine {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Quarantine::List(command) => command.run().await,
            Quarantine::Show(command) => command.run().await,
            Quarantine::Release(command) => command.which.release().await,
            Quarantine::Purge(command) => command.which.purge().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let listing = source.listing("quarantine", self.filter.query(), &self.paging).await?;
        let table = Table::new(["ID", "RECEIVED", "TRIGGER", "FROM", "REASON", "NEAR MISS", "SIZE"]);
        Source::print(&listing, &self.paging, table, |held| {
            vec![
                Cell::styled(BOLD, text(held, "/id")),
                time(held, "/received_at").into(),
                text(held, "/trigger_id").into(),
                text(held, "/peer").into(),
                text(held, "/reason").into(),
                if held["near_miss"] == true { Cell::styled(YELLOW, "yes") } else { "no".into() },
                render::bytes(number(held, "/body_bytes")).into(),
            ]
        })
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let held = source.get(&format!("quarantine/{}", self.id), &Query::default()).await?;
        if self.json {
            return render::json(&held);
        }
        let mut out = out();
        writeln!(out, "{BOLD}{}{BOLD:#}  {}", self.id, paint(RED, text(&held, "/reason")))?;
        let mut line =
            |name: &str, value: &str| writeln!(out, "  {name:<10}{}", render::one_line(value, 2_000));
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

impl Which {
    fn check(&self) -> anyhow::Result<()> {
        if self.ids.is_empty() && !self.all && self.filter.query() == Query::default() {
            return Err(Usage("name deliveries, a filter such as --trigger, or --all".to_owned()).into());
        }
        Ok(())
    }

    async fn release(self) -> anyhow::Result<()> {
        self.check()?;
        let client = Source::server(&self.reach).await?;
        if let [id] = self.ids.as_slice() {
            let done = post(&client, &format!("quarantine/{id}/release"), &json!({})).await?;
            if self.json {
                return render::json(&done);
            }
            for event in done["events"].as_array().into_iter().flatten() {
                let was_there = if event["duplicate"] == true { ", which was there already" } else { "" };
                note(format_args!("{id} became event {}{was_there}", text(event, "/id")));
            }
            return Ok(());
        }
        let done = if self.ids.is_empty() {
            post(&client, "quarantine/release", &self.body()).await?
        } else {
            let mut sum = Sum::default();
            for id in &self.ids {
                sum.count(*id, post(&client, &format!("quarantine/{id}/release"), &json!({})).await);
            }
            sum.to_json()
        };
        if self.json {
            render::json(&done)?;
        } else {
            tell(&done);
        }
        // What stays in quarantine is a failure for a script, as it is for one id.
        if number(&done, "/failed") > 0 { Err(Told(1).into()) } else { Ok(()) }
    }

    fn body(&self) -> Value {
        let mut body = json!({"all": self.all});
        for (name, value) in self.filter.pairs() {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }

    async fn purge(self) -> anyhow::Result<()> {
        self.check()?;
        let client = Source::server(&self.reach).await?;
        let mut purged = 0;
        if self.ids.is_empty() {
            let mut query = self.filter.query();
            if self.all {
                query.set("all", "true");
            }
            let done = client.change(Method::DELETE, "quarantine", &query, &json!({})).await?;
            purged += number(&done, "/purged");
        }
        for id in &self.ids {
            let path = format!("quarantine/{id}");
            client.change(Method::DELETE, &path, &Query::default(), &json!({})).await?;
            purged += 1;
        }
        if self.json {
            return render::json(&json!({"purged": purged}));
        }
        note(format_args!("{purged} deliveries purged"));
        Ok(())
    }
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
