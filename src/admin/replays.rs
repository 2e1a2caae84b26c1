//! Bulk replays under way: what they are for, how far they have come.

use serde_json::Value;

use super::actions::{Act, Done};
use super::{AdminState, Problem};
use crate::event::EventId;

/// Replays under way and lately finished.
#[derive(Default)]
pub(super) struct Replays;

impl Replays {
    pub(super) fn list(&self) -> Value {
        Value::Null
    }

    pub(super) fn get(&self, _: &str) -> Result<Value, Problem> {
        Ok(Value::Null)
    }

    pub(super) fn cancel(&self, _: &str) -> Result<Value, Problem> {
        Ok(Value::Null)
    }
}

pub(super) async fn replay_one(_: &AdminState, _: EventId, _: &Act<'_>) -> Result<Done, Problem> {
    Err(Problem::new(501, "x", ""))
}
pub(super) async fn start(_: &AdminState, _: &Act<'_>) -> Result<Done, Problem> {
    Err(Problem::new(501, "x", ""))
}
pub(super) async fn replay_dead(_: &AdminState, _: &Act<'_>) -> Result<Done, Problem> {
    Err(Problem::new(501, "x", ""))
}
