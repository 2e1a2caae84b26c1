//! What every action has: the request, what comes of it, its body's fields, and its line in `audit.admin`.

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::web;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::query::Query;
use super::{AUDIT_ADMIN, AdminState, Problem};
use crate::event::TriggerId;
use crate::event_log::record::{Audit, Record};

/// Most bytes of an audit line's detail: what a request brought may be as large as a record.
const DETAIL_BYTES_MAX: usize = 4 * 1024;

/// A request to change something.
pub(super) struct Act {
    pub(super) method: Method,
    /// What follows `/api/v1/`.
    pub(super) path: String,
    pub(super) query: Query,
    pub(super) body: Value,
    pub(super) peer: Option<IpAddr>,
}

/// What was done.
pub(super) struct Done {
    pub(super) status: u16,
    pub(super) value: Value,
}

pub(super) fn ok(value: Value) -> Result<Done, Problem> {
    Ok(Done { status: 200, value })
}

/// Reads the body's fields; unknown ones are refused.
pub(super) fn fields<T: DeserializeOwned>(body: &Value) -> Result<T, Problem> {
    T::deserialize(body).map_err(|error| Problem::bad("invalid_body", error.to_string()))
}

/// The body of an action that takes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Returns the line of `audit.admin` for an action.
pub(super) fn audit_line(
    state: &AdminState,
    act: &Act,
    trigger_id: Option<TriggerId>,
    code: &str,
    detail: impl std::fmt::Display,
) -> Record {
    let mut detail = detail.to_string();
    detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
    Record::Audit(Audit {
        topic: AUDIT_ADMIN.to_owned(),
        at: state.view().clock.now(),
        trigger_id,
        peer: act.peer,
        code: code.to_owned(),
        detail,
        count: 1,
    })
}

/// Writes a line of `audit.admin`, and sees it on the device.
pub(super) async fn audit(
    state: &AdminState,
    act: &Act,
    trigger_id: Option<TriggerId>,
    code: &str,
    detail: impl std::fmt::Display,
) -> Result<(), Problem> {
    let line = audit_line(state, act, trigger_id, code, detail);
    Ok(state.view().log.append_durable(vec![line]).await.map(drop)?)
}

/// Runs what reads the store on a thread where blocking is fine.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    web::block(work).await.unwrap_or_else(|error| Err(Problem::internal(&error)))
}
