//! The normalized event as users, functions and the API see it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EventId, ProviderId, SignatureStatus, Timestamp, TriggerId};

/// What stands in place of a credential's value.
pub const REDACTED: &str = "[redacted]";

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A provider sent it.
    Live,
    /// hookkeeper fetched it from the provider's API to fill a gap.
    Backfill,
    /// An operator released it from the quarantine.
    Quarantine,
}

/// One normalized occurrence.
///
/// This is the JSON that `events show`, the API, CEL expressions and structured deliveries use.
///
/// # Examples
///
/// ```
/// use hookkeeper::TriggerEvent;
///
/// /// Reads what a function gets with `format = "structured"`, or what `events show --json` prints.
/// fn ref_of_push(json: &str) -> Result<Option<String>, serde_json::Error> {
///     let event: TriggerEvent = serde_json::from_str(json)?;
///     Ok(event.provider_payload.raw.and_then(|body| body["ref"].as_str().map(str::to_owned)))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerEvent {
    /// Issued by the committer.
    pub id: EventId,
    /// The provider that sent it.
    pub provider: ProviderId,
    /// The trigger that it came in on.
    pub trigger_id: TriggerId,
    /// What happened, such as `pull_request.opened`.
    pub kind: String,
    /// When the request was read completely.
    pub received_at: Timestamp,
    /// When it happened, as the provider says.
    pub occurred_at: Option<Timestamp>,
    /// The identity of the delivery within its trigger's dedupe window.
    pub dedupe_key: Option<String>,
    /// W3C trace id, 32 hex digits: the sender's, else one of our own.
    pub trace_id: String,
    /// The tenant it belongs to, where there are tenants.
    pub tenant_id: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Lower-case names; several values of one name are joined with `, `; credentials read `[redacted]`.
    pub headers: BTreeMap<String, String>,
    /// What the provider sent.
    pub provider_payload: ProviderPayload,
    /// How its signature was judged.
    pub signature_status: SignatureStatus,
}

/// The body of an event, as JSON where it is JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderPayload {
    /// The payload's schema name, such as `GitHubEventPayload`.
    pub schema: String,
    /// The body as JSON; absent where the body is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<serde_json::Value>,
    /// The body in base64 where it is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<String>,
}
