//! Arguments that several commands have, and what these do alike: list all there is, change one thing, choose
//! some of many.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use clap::Args;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::render::{self, Cell, Table, note, number, text};
use super::source::{Source, post};
use super::{Reach, Usage};
use crate::admin::Query;

/// What things are named by.
pub(super) trait Id:
    FromStr<Err: Error + Send + Sync + 'static> + Display + Serialize + Clone + Send + Sync + 'static
{
}

impl<T> Id for T where
    T: FromStr<Err: Error + Send + Sync + 'static> + Display + Serialize + Clone + Send + Sync + 'static
{
}

/// What chooses among many things.
pub(super) trait Filter: Args {
    /// Returns the admin API's names of what it may ask for, each with what it asks for.
    fn pairs(&self) -> Vec<(&'static str, Option<String>)>;

    /// Returns the filter as parameters of the admin API.
    fn query(&self) -> Query {
        Query::of(self.pairs())
    }

    /// Returns the filter as fields of the admin API.
    fn fields(&self) -> Map<String, Value> {
        let pairs = self.pairs().into_iter();
        pairs.filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
    }
}

/// A listing that is never long.
#[derive(Args)]
pub(super) struct All {
    /// Print {"items": […], "next_cursor": null}
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl All {
    /// Prints the listing of a path; `nothing` stands in place of a table without rows.
    pub(super) async fn print(
        self,
        path: &str,
        table: Table,
        row: impl Fn(&Value) -> Vec<Cell>,
        nothing: &str,
    ) -> anyhow::Result<()> {
        let listing = Source::open(&self.reach).await?.get(path, &Query::default()).await?;
        Source::print(&listing, self.json, table, row, nothing)
    }
}

/// One thing.
#[derive(Args)]
pub(super) struct One<T: Id> {
    /// Its id
    pub(super) id: T,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl<T: Id> One<T> {
    /// Asks a running server to change the thing, and tells what it is then: as JSON, or in the words that
    /// `told` puts behind its id.
    pub(super) async fn change(
        self,
        things: &str,
        action: &str,
        body: &Value,
        told: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        let thing = post(&client, &format!("{things}/{}/{action}", self.id), body).await?;
        if self.json {
            return render::json(&thing);
        }
        note(format_args!("{} {}", self.id, told(&thing)));
        Ok(())
    }
}

/// Tells the state of a thing, to stand behind its id.
pub(super) fn is_in_state(thing: &Value) -> String {
    format!("is {}", text(thing, "/state"))
}

/// Some of many things: by their ids, by a filter, or all.
#[derive(Args)]
pub(super) struct Chosen<T: Id, F: Filter> {
    /// Their ids
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<T>,
    #[command(flatten)]
    pub(super) filter: F,
    /// All of them
    #[arg(long)]
    pub(super) all: bool,
}

impl<T: Id, F: Filter> Chosen<T, F> {
    /// Refuses arguments that choose nothing, or choose in two ways.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let has_filter = self.all || self.filter.query() != Query::default();
        match (self.ids.is_empty(), has_filter) {
            (true, false) => Err(Usage("name ids, a filter such as --trigger, or --all".to_owned()).into()),
            (false, true) => Err(Usage("name ids or a filter, not both".to_owned()).into()),
            _ => Ok(()),
        }
    }

    /// Returns filter and `all` as fields of the admin API.
    pub(super) fn body(&self) -> Value {
        let mut fields = self.filter.fields();
        fields.insert("all".to_owned(), self.all.into());
        fields.into()
    }
}

/// A change of some of many things.
#[derive(Args)]
pub(super) struct Change<T: Id, F: Filter> {
    #[command(flatten)]
    pub(super) chosen: Chosen<T, F>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl<T: Id, F: Filter> Change<T, F> {
    /// Has a running server forget the things at a path; `things` is the word for them.
    pub(super) async fn purge(self, path: &str, things: &str) -> anyhow::Result<()> {
        self.chosen.validate()?;
        let client = Source::server(&self.reach).await?;
        let mut purged = 0;
        if self.chosen.ids.is_empty() {
            let mut query = self.chosen.filter.query();
            if self.chosen.all {
                query.set("all", "true");
            }
            let done = client.change(Method::DELETE, path, &query, &json!({})).await?;
            purged += number(&done, "/purged");
        }
        for id in &self.chosen.ids {
            client.change(Method::DELETE, &format!("{path}/{id}"), &Query::default(), &json!({})).await?;
            purged += 1;
        }
        if self.json {
            return render::json(&json!({"purged": purged}));
        }
        note(format_args!("{purged} {things} purged"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::runs::RunFilter;
    use crate::event::RunId;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        chosen: Chosen<RunId, RunFilter>,
    }

    #[test]
    fn things_are_chosen_in_one_way() {
        let id = "01KAR5M2D40000000000000000-deploy-1";
        let check = |arguments: &[&str]| {
            let command = Command::try_parse_from([&["x"], arguments].concat()).unwrap();
            command.chosen.validate().is_ok()
        };
        for chosen in [&[id][..], &[id, id], &["--all"], &["--trigger", "gh"], &["--all", "--trigger", "gh"]]
        {
            assert!(check(chosen), "{chosen:?}");
        }
        for wrong in [&[][..], &[id, "--all"], &[id, "--trigger", "gh"]] {
            assert!(!check(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_filter_is_told_to_the_server_as_it_was_given() {
        let command = Command::try_parse_from(["x", "--since", "2h", "--function", "deploy"]).unwrap();
        assert_eq!(command.chosen.body(), json!({"all": false, "function": "deploy", "since": "2h"}));
    }
}
