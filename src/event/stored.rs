//! The event as the log keeps it: the request byte for byte, and what was learned from it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{
    EventId, Origin, ProviderId, ProviderPayload, SignatureStatus, Timestamp, TriggerEvent, TriggerId,
};

/// The kind of an event that a schedule started.
pub const CRON_TICK: &str = "cron.tick";

/// A header as sent: lower-case name, value bytes. Credentials' values are replaced before they get here.
pub type Header = (String, Bytes);

/// An event with the id that the committer gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The event's id.
    pub id: EventId,
    /// All else.
    pub content: EventContent,
}

/// What a delivery became, before or without its id.
#[derive(Debug, Clone, PartialEq)]
pub struct EventContent {
    /// The provider that sent it.
    pub provider: ProviderId,
    /// The trigger that it came in on.
    pub trigger_id: TriggerId,
    /// What happened.
    pub kind: String,
    /// When the request was read completely.
    pub received_at: Timestamp,
    /// When it happened, as the provider says.
    pub occurred_at: Option<Timestamp>,
    /// The identity of the delivery within its trigger's dedupe window.
    pub dedupe_key: Option<String>,
    /// W3C trace id, 32 hex digits.
    pub trace_id: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The trigger was paused: runs wait until it is resumed.
    pub held: bool,
    /// The request's method; empty where no request started the event.
    pub method: String,
    /// Path and query as sent.
    pub url: String,
    /// All headers in the order sent, credentials redacted.
    pub headers: Vec<Header>,
    /// The raw body; of one event of a batch, its element of the body.
    pub body: Body,
    /// Which part of its delivery the event is, where that carried several.
    pub batch: Option<Box<Batch>>,
    /// The payload's schema name.
    pub schema: String,
    /// How the signature was judged.
    pub signature_status: SignatureStatus,
}

/// One event's part of a delivery that carried several. Lead, body and tail of all parts, in their order,
/// are the delivery's raw body.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Batch {
    /// Its place among the delivery's events, counted from 0.
    pub index: u32,
    /// How many events the delivery became.
    pub count: u32,
    /// What stands before the element and behind the one before it.
    pub lead: Bytes,
    /// What stands behind the last element.
    pub tail: Bytes,
}

/// A raw body: in the record itself, or in a file beside the log where it is large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In the record.
    Inline(Bytes),
    /// In a file of the log's `bodies` folder, flushed before the record was written.
    Spooled(SpooledBody),
}

impl Body {
    /// Returns the body's length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Spooled(spooled) => spooled.bytes,
        }
    }

    /// Tells whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A body in a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpooledBody {
    /// File name within the `bodies` folder.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

impl StoredEvent {
    /// Returns the event as users see it; `body` is the raw body, read from its file where spooled.
    pub fn to_trigger_event(&self, body: &[u8]) -> TriggerEvent {
        let content = &self.content;
        TriggerEvent {
            id: self.id,
            provider: content.provider.clone(),
            trigger_id: content.trigger_id.clone(),
            kind: content.kind.clone(),
            received_at: content.received_at,
            occurred_at: content.occurred_at,
            dedupe_key: content.dedupe_key.clone(),
            trace_id: content.trace_id.clone(),
            tenant_id: None,
            origin: content.origin,
            headers: joined_headers(&content.headers),
            provider_payload: payload(&content.schema, body),
            signature_status: content.signature_status,
        }
    }
}

fn joined_headers(headers: &[Header]) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value);
        joined
            .entry(name.clone())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    joined
}

fn payload(schema: &str, body: &[u8]) -> ProviderPayload {
    let raw = serde_json::from_slice(body).ok();
    ProviderPayload {
        schema: schema.to_owned(),
        raw_base64: raw.is_none().then(|| STANDARD.encode(body)),
        raw,
    }
}

impl EventContent {
    /// Returns the scheduled time of an event that a schedule started.
    pub fn tick(&self) -> Option<Timestamp> {
        let is_tick = self.method.is_empty() && self.kind == CRON_TICK;
        self.occurred_at.filter(|_| is_tick)
    }

    /// Returns the first header of the given lower-case name, as text.
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| String::from_utf8_lossy(value))
    }
}
