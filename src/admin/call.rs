//! Calls of providers' APIs: `POST providers/{id}/call`. What was called is audited, what with is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::act::{Act, Done, fields, ok};
use super::view::unknown_provider;
use super::{AdminState, Problem};
use crate::catalog::{PLACEHOLDER, ProviderEntry};
use crate::config::parse_duration;
use crate::connector::{CALL_TIMEOUT, CallOptions, ClientError};
use crate::event::ProviderId;
use crate::event_log::record::{Audit, Record};
use crate::permits::Lane;
use crate::provider::{AUDIT_PROVIDER, shortened};

/// Longest that a call may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Longest idempotency key, in characters.
const KEY_CHARS_MAX: usize = 255;
/// Most characters of a method's name in the audit: it is the caller's own text.
const METHOD_CHARS_MAX: usize = 64;

/// Most calls at once; further ones wait. They may take long, so that they have places apart from other actions'.
const CALLS_MAX: usize = 32;
/// Most calls of one provider at once: one whose API is slow leaves places to others.
const CALLS_EACH_MAX: usize = CALLS_MAX / 2;

/// Places for calls under way: a share for each provider of the catalogue, and the whole.
pub(super) struct Places {
    whole: Arc<Semaphore>,
    shares: Mutex<HashMap<ProviderId, Arc<Semaphore>>>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { whole: Arc::new(Semaphore::new(CALLS_MAX)), shares: Mutex::default() }
    }

    /// Returns where a call of a provider takes a place, in this order.
    pub(super) fn of(&self, provider: Option<&Arc<ProviderEntry>>) -> Vec<Arc<Semaphore>> {
        let share = provider.map(|entry| {
            let mut shares = self.shares.lock();
            let share = shares.entry(entry.id.clone());
            Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(CALLS_EACH_MAX))))
        });
        share.into_iter().chain([Arc::clone(&self.whole)]).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    method: String,
    #[serde(default)]
    args: Value,
    timeout: Option<String>,
    lane: Option<String>,
    idempotency_key: Option<String>,
}

impl Call {
    fn options(&self) -> Result<CallOptions, Problem> {
        let timeout = match &self.timeout {
            None => CALL_TIMEOUT,
            Some(text) => parse_duration(text)
                .filter(|timeout| (Duration::from_millis(1)..=TIMEOUT_MAX).contains(timeout))
                .ok_or_else(|| Problem::bad("invalid_body", "`timeout`: a duration, 1ms to 1m"))?,
        };
        let lane = match self.lane.as_deref() {
            None | Some("live") => Lane::Live,
            Some("replay") => Lane::Replay,
            Some("backfill") => Lane::Backfill,
            Some(_) => return Err(Problem::bad("invalid_body", "`lane`: one of live, replay, backfill")),
        };
        let key = self.idempotency_key.clone();
        if key.as_ref().is_some_and(|key| key.is_empty() || key.chars().count() > KEY_CHARS_MAX) {
            let what = format!("`idempotency_key`: 1 to {KEY_CHARS_MAX} characters");
            return Err(Problem::bad("invalid_body", what));
        }
        Ok(CallOptions { timeout, lane, idempotency_key: key })
    }
}

/// Calls a method of a provider, and audits that it was called.
///
/// # Errors
///
/// If there is no such provider, client or method, the arguments do not suit it, or the call fails.
pub(super) async fn perform(state: &AdminState, act: &Act, id: &str) -> Result<Done, Problem> {
    let call: Call = fields(&act.body)?;
    let options = call.options()?;
    let catalog = &state.view().catalog;
    let entry = catalog.get(id).ok_or_else(|| unknown_provider(catalog, id))?;
    let client = state.0.runtime.client(&entry.id).ok_or_else(|| not_configured(entry))?;
    let began = tokio::time::Instant::now();
    let called = client.call_with(&call.method, call.args, &options).await;
    let method: String = call.method.chars().take(METHOD_CHARS_MAX).collect();
    let outcome = called.as_ref().map_or_else(ClientError::code, |_| "ok");
    let detail = format!("{id} {}: {outcome}, {} ms", method.escape_debug(), began.elapsed().as_millis());
    audit(state, act, detail).await;
    match called {
        Ok(result) => ok(json!({"result": result})),
        Err(error) => Err(problem(&error)),
    }
}

fn not_configured(entry: &ProviderEntry) -> Problem {
    let id = &entry.id;
    let detail = if entry.is_placeholder() {
        format!("{id} is a placeholder: {PLACEHOLDER}")
    } else if entry.is_coded {
        format!(
            "no client of {id}: its connector offers no methods, did not begin, or has no trigger in this server (see \
             `hookkeeper triggers list`)"
        )
    } else if entry.client.is_some() {
        format!(
            "the client of {id} is not configured: add [clients.{id}] (see `hookkeeper providers show {id}`)"
        )
    } else {
        format!("nothing is known of the API of {id}: describe it in a [[providers]] table's [client]")
    };
    Problem::new(404, "no_client", detail)
}

/// Writes the line of the audit. The provider has acted already, so that a log that does not take it is no
/// reason to withhold the result.
async fn audit(state: &AdminState, act: &Act, detail: String) {
    let line = Record::Audit(Audit {
        topic: AUDIT_PROVIDER.to_owned(),
        at: state.view().clock.now(),
        trigger_id: None,
        peer: act.peer,
        code: "client_called".to_owned(),
        detail,
        count: 1,
    });
    if let Err(error) = state.view().log.append_durable(vec![line]).await {
        tracing::error!(%error, "a provider was called, and the log did not take the line that says so");
    }
}

fn problem(error: &ClientError) -> Problem {
    let told = |status| Problem::new(status, error.code(), shortened(error.to_string()));
    match error {
        ClientError::UnknownMethod { .. } => told(404),
        ClientError::InvalidArgs { .. } => told(422),
        ClientError::RateLimited { retry_after } => told(429)
            .with("retry_after_ms", json!(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX))),
        ClientError::Credentials(_) => told(424),
        ClientError::Timeout { .. } => told(504),
        ClientError::Refused { status, .. } => told(502).with("provider_status", json!(status)),
        ClientError::Unreachable(_) | ClientError::Malformed(_) | ClientError::Other(_) => told(502),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_call_is_the_one_that_is_named() {
        let lane = |lane: Value| {
            let call: Call = serde_json::from_value(json!({"method": "post", "lane": lane})).unwrap();
            call.options().map(|options| options.lane).ok()
        };
        assert_eq!(lane(json!(null)), Some(Lane::Live));
        assert_eq!(lane(json!("live")), Some(Lane::Live));
        assert_eq!(lane(json!("replay")), Some(Lane::Replay));
        assert_eq!(lane(json!("backfill")), Some(Lane::Backfill));
        assert_eq!(lane(json!("fast")), None);
    }
}
