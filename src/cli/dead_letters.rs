//! `dead-letters`: runs that used up their attempts or failed for good.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Reach;
use super::arguments::{Change, Filter as _, One};
use super::render::{self, note, number};
use super::runs::{self, RunFilter};
use super::source::{Paging, Source, post};
use crate::event::RunId;

/// `dead-letters`.
#[derive(Subcommand)]
pub(super) enum DeadLetters {
    /// List dead letters, those of the newest events first
    List(List),
    /// Show one dead letter with its attempts
    Show(One<RunId>),
    /// Start new runs for dead letters
    Replay(Replay),
    /// Forget dead letters
    Purge(Purge),
}

/// `dead-letters list`.
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: RunFilter,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    reach: Reach,
}

/// `dead-letters replay`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper dead-letters replay --function deploy --since 1d
  hookkeeper dead-letters replay 01KAR5M2D40000000000000000-deploy-1")]
pub(super) struct Replay {
    #[command(flatten)]
    change: Change<RunId, RunFilter>,
}

/// `dead-letters purge`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper dead-letters purge --until 30d
  hookkeeper dead-letters purge --all")]
pub(super) struct Purge {
    #[command(flatten)]
    change: Change<RunId, RunFilter>,
}

impl DeadLetters {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            DeadLetters::List(command) => {
                let source = Source::open(&command.reach).await?;
                let listing = source.listing("dead-letters", command.filter.query(), &command.paging).await?;
                runs::print(&listing, &command.paging)
            }
            DeadLetters::Show(run) => runs::show(&run).await,
            DeadLetters::Replay(command) => replay(command.change).await,
            DeadLetters::Purge(command) => command.change.purge("dead-letters", "dead letters").await,
        }
    }
}

async fn replay(change: Change<RunId, RunFilter>) -> anyhow::Result<()> {
    change.chosen.validate()?;
    let client = Source::server(&change.reach).await?;
    let mut body = change.chosen.body();
    if !change.chosen.ids.is_empty() {
        body["runs"] = json!(change.chosen.ids);
    }
    let done = post(&client, "dead-letters/replay", &body).await?;
    if change.json {
        return render::json(&done);
    }
    note(format_args!("{} new runs", number(&done, "/created")));
    Ok(())
}
