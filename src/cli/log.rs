//! `log`: the log itself, topic by topic.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Reach;
use super::render::{self, BOLD, DIM, note, out, text};
use super::source::{NOTHING, Paging, Source, items};
use crate::admin::Query;

/// `log`.
#[derive(Subcommand)]
pub(super) enum Log {
    /// Read a topic, oldest first; without one, list the topics
    Read(Read),
}

/// `log read`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper log read                            the topics
  hookkeeper log read audit.signature_verify     refused deliveries
  hookkeeper log read audit.admin --json         what operators did")]
pub(super) struct Read {
    /// The topic
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    topic: Option<String>,
    /// Begin after this position
    #[arg(long, value_name = "POSITION", conflicts_with = "cursor")]
    after: Option<String>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    reach: Reach,
}

impl Log {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Log::Read(command) => command.run().await,
        }
    }
}

impl Read {
    async fn run(self) -> anyhow::Result<()> {
        let source = Source::open(&self.reach).await?;
        let Some(topic) = &self.topic else {
            let topics = source.get("log", &Query::default()).await?;
            if self.paging.json {
                return render::json(&topics);
            }
            for item in items(&topics) {
                writeln!(out(), "{}", text(item, "/topic"))?;
            }
            return Ok(());
        };
        let query = Query::of([("after", self.after.clone())]);
        let listing = source.listing(&format!("log/{topic}"), query, &self.paging).await?;
        if self.paging.json {
            return render::json(&listing);
        }
        let mut out = out();
        for item in items(&listing) {
            writeln!(out, "{}", line(item))?;
        }
        if items(&listing).is_empty() {
            note(NOTHING);
        }
        if let Some(cursor) = listing["next_cursor"].as_str() {
            note(format_args!("{DIM}more: --cursor {cursor}{DIM:#}"));
        }
        Ok(())
    }
}

/// Tells a record in a line: position, time, what, and its other fields as they are.
fn line(item: &Value) -> String {
    let at = text(item, "/at").parse().map(render::local).unwrap_or_default();
    let rest: Vec<String> = item
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| {
            let is_shown_elsewhere = matches!(name.as_str(), "position" | "at" | "record" | "topic");
            !is_shown_elsewhere && !value.is_null() && *value != ""
        })
        .map(|(name, value)| match value.as_str() {
            Some(value) => format!("{name}={value}"),
            None => format!("{name}={value}"),
        })
        .collect();
    let (position, record) = (text(item, "/position"), text(item, "/record"));
    let rest = render::one_line(&rest.join(" "), 2_000);
    format!("{DIM}{position:>10}  {at}{DIM:#}  {BOLD}{record}{BOLD:#} {rest}")
}
