//! `dead-letters`: runs that used up their attempts or failed for good.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::render::{self, note, number};
use super::runs::{self, RunFilter};
use super::source::{Paging, Source, post};
use super::{Reach, Usage};
use crate::event::RunId;

/// `dead-letters`.
#[derive(Subcommand)]
pub(super) enum DeadLetters {
    /// List dead letters, those of the newest events first
    List(List),
    /// Show one dead letter with its attempts
    Show(Show),
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

/// `dead-letters show`.
#[derive(Args)]
pub(super) struct Show {
    /// The run's id
    id: RunId,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Which dead letters a change is about.
#[derive(Args)]
pub(super) struct Which {
    /// Ids of runs
    #[arg(value_name = "RUN", conflicts_with_all = ["all", "function", "trigger", "since", "until"])]
    ids: Vec<RunId>,
    #[command(flatten)]
    filter: RunFilter,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    which: Which,
}

/// `dead-letters purge`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper dead-letters purge --until 30d
  hookkeeper dead-letters purge --all")]
pub(super) struct Purge {
    #[command(flatten)]
    which: Which,
}

impl DeadLetters {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            DeadLetters::List(command) => {
                let source = Source::open(&command.reach).await?;
                let listing = source.listing("dead-letters", command.filter.query(), &command.paging).await?;
                runs::print(&listing, &command.paging)
            }
            DeadLetters::Show(command) => runs::show(&command.id, command.json, &command.reach).await,
            DeadLetters::Replay(command) => command.which.replay().await,
            DeadLetters::Purge(command) => command.which.purge().await,
        }
    }
}

impl Which {
    fn check(&self) -> anyhow::Result<()> {
        if self.ids.is_empty() && !self.all && self.filter.is_empty() {
            return Err(Usage("name runs, a filter such as --function, or --all".to_owned()).into());
        }
        Ok(())
    }

    async fn replay(self) -> anyhow::Result<()> {
        self.check()?;
        let client = Source::server(&self.reach).await?;
        let mut body = json!({"all": self.all});
        if !self.ids.is_empty() {
            body["runs"] = json!(self.ids);
        }
        for (name, value) in self.filter.pairs() {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        let done = post(&client, "dead-letters/replay", &body).await?;
        if self.json {
            return render::json(&done);
        }
        note(format_args!("{} new runs", number(&done, "/created")));
        Ok(())
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
            let done = client.change(Method::DELETE, "dead-letters", &query, &json!({})).await?;
            purged += number(&done, "/purged");
        }
        for id in &self.ids {
            client
                .change(Method::DELETE, &format!("dead-letters/{id}"), &Default::default(), &json!({}))
                .await?;
            purged += 1;
        }
        if self.json {
            return render::json(&json!({"purged": purged}));
        }
        note(format_args!("{purged} dead letters purged"));
        Ok(())
    }
}
