//! `events`: what came in.

use std::io::{IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Reach;
use super::arguments::{self, Filter as _};
use super::render::{self, BOLD, Cell, DIM, Table, number, out, text, time};
use super::source::{NOTHING, Paging, Source, items};
use crate::admin::Query;
use crate::event::{CRON_TICK, EventId};

/// `events`.
#[derive(Subcommand)]
pub(super) enum Events {
    /// List events, newest first
    List(List),
    /// Show one event: what was sent, and what became of it
    Show(Show),
    /// Write an event's raw body to stdout, byte for byte
    Body(Body),
    /// Follow events as they come in
    Tail(Tail),
}

/// Which events.
#[derive(Args, Clone, Default)]
pub(super) struct Filter {
    /// Of this trigger
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Of this provider
    #[arg(long, value_name = "ID")]
    provider: Option<String>,
    /// Of this kind; * matches any run of characters
    #[arg(long, value_name = "GLOB")]
    kind: Option<String>,
    /// In this state: unrouted, open, done or dead
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Received since: RFC 3339, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Which events are shown: a filter, and a search in what was sent.
#[derive(Args, Clone, Default)]
struct Search {
    #[command(flatten)]
    filter: Filter,
    /// With this text in body, headers, URL, kind or dedupe key
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

impl arguments::Filter for Search {
    fn pairs(&self) -> Vec<(&'static str, Option<String>)> {
        let mut pairs = self.filter.pairs();
        pairs.push(("text", self.text.clone()));
        pairs
    }
}

impl arguments::Filter for Filter {
    fn pairs(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("trigger", self.trigger.clone()),
            ("provider", self.provider.clone()),
            ("kind", self.kind.clone()),
            ("state", self.state.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }
}

/// `events list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper events list --since 2h --state dead
  hookkeeper events list --kind 'pull_request.*' --json
  hookkeeper events list --text octocat/hello-world")]
pub(super) struct List {
    #[command(flatten)]
    search: Search,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    reach: Reach,
}

/// `events show`.
#[derive(Args)]
pub(super) struct Show {
    /// The event's id
    id: EventId,
    /// Print JSON: the TriggerEvent, with state and request
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// `events body`.
#[derive(Args)]
pub(super) struct Body {
    /// The event's id
    id: EventId,
    #[command(flatten)]
    reach: Reach,
}

/// `events tail`.
#[derive(Args)]
pub(super) struct Tail {
    #[command(flatten)]
    search: Search,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Events {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Events::List(command) => command.run().await,
            Events::Show(command) => command.run().await,
            Events::Body(command) => command.run().await,
            Events::Tail(command) => command.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let listing = source.listing("events", self.search.query(), &self.paging).await?;
        let table = Table::new(["ID", "RECEIVED", "TRIGGER", "KIND", "STATE", "SIZE"]);
        Source::print(&listing, self.paging.json, table, row, NOTHING)
    }
}

fn row(event: &Value) -> Vec<Cell> {
    let state =
        if event["held"] == true && event["state"] == "open" { "held" } else { text(event, "/state") };
    vec![
        Cell::styled(BOLD, text(event, "/id")),
        time(event, "/received_at").into(),
        text(event, "/trigger_id").into(),
        text(event, "/kind").into(),
        Cell::state(state),
        render::bytes(number(event, "/body_bytes")).into(),
    ]
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let event = source.get(&format!("events/{}", self.id), &Query::default()).await?;
        if self.json {
            return render::json(&event);
        }
        let mut out = out();
        let state = text(&event, "/state");
        writeln!(out, "{BOLD}{}{BOLD:#}  {}", self.id, render::paint(render::state_style(state), state))?;
        let mut line = |name: &str, value: &str| match value {
            "" => Ok(()),
            value => writeln!(out, "  {name:<10}{}", render::one_line(value, 2_000)),
        };
        line(
            "kind",
            &format!(
                "{} of {} on {}",
                text(&event, "/kind"),
                text(&event, "/provider"),
                text(&event, "/trigger_id")
            ),
        )?;
        line("received", &time(&event, "/received_at"))?;
        line("occurred", &time(&event, "/occurred_at"))?;
        let covers = match event["signature_status"]["covers_body"].as_bool() {
            Some(false) => ", but the proof does not cover the body",
            _ => "",
        };
        line("signature", &format!("{}{covers}", text(&event, "/signature_status/state")))?;
        line("dedupe", text(&event, "/dedupe_key"))?;
        line("trace", text(&event, "/trace_id"))?;
        let size = render::bytes(number(&event, "/request/body_bytes"));
        match text(&event, "/request/method") {
            "" => {
                let is_tick = text(&event, "/kind") == CRON_TICK;
                let by = if is_tick { "a schedule started it" } else { "a poll brought it" };
                line("request", &format!("none: {by} ({size})"))?;
            }
            method => line("request", &format!("{method} {} ({size})", text(&event, "/request/url")))?,
        }
        for header in event["request"]["headers"].as_array().into_iter().flatten() {
            let (name, value) = (text(header, "/0"), render::one_line(text(header, "/1"), 2_000));
            writeln!(out, "    {DIM}{}:{DIM:#} {value}", render::one_line(name, 200))?;
        }
        let payload = &event["provider_payload"];
        match payload.get("raw") {
            Some(raw) => writeln!(out, "\n{}", render::tame(&serde_json::to_string_pretty(raw)?))?,
            None => writeln!(out, "\n  body: {DIM}hookkeeper events body {}{DIM:#}", self.id)?,
        }
        Ok(())
    }
}

impl Body {
    async fn run(self) -> anyhow::Result<()> {
        let body = Source::open(&self.reach).await?.body(self.id).await?;
        if std::io::stdout().is_terminal() {
            // What was sent to us must not drive the terminal; pipes and files get every byte.
            return Ok(writeln!(out(), "{}", render::tame(&String::from_utf8_lossy(&body)))?);
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&body)?;
        Ok(stdout.flush()?)
    }
}

impl Tail {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        if let Source::Folder(_) = source {
            anyhow::bail!("no server runs on this folder: nothing will come in");
        }
        // What is there already is not shown: begin behind the newest event, whatever the filter.
        let newest = source.get("events", &Query::of([("limit", Some("1".to_owned()))])).await?;
        let newest = items(&newest).first().and_then(|event| text(event, "/id").parse::<EventId>().ok());
        let mut after = newest.map_or_else(|| "0.0".to_owned(), |id| id.position().to_string());
        render::note(format_args!("{DIM}following; stop with Ctrl-C{DIM:#}"));
        loop {
            let mut query = self.search.query();
            query.set("after", &after);
            query.set("wait", "20s");
            let page = source.get("events", &query).await?;
            for event in items(&page) {
                self.print(event)?;
            }
            if let Some(next) = page["next_cursor"].as_str() {
                next.clone_into(&mut after);
            }
        }
    }

    fn print(&self, event: &Value) -> anyhow::Result<()> {
        let mut out = out();
        if self.json {
            writeln!(out, "{event}")?;
        } else {
            let at = text(event, "/received_at").parse().map(render::local).unwrap_or_default();
            let kind = render::one_line(text(event, "/kind"), 200);
            let (id, trigger) = (text(event, "/id"), text(event, "/trigger_id"));
            writeln!(out, "{DIM}{at}{DIM:#}  {BOLD}{id}{BOLD:#}  {trigger}  {kind}")?;
        }
        Ok(out.flush()?)
    }
}
