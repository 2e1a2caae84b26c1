//! What a connector may use of the world.

use std::sync::Arc;

use crate::clock::Clock;
use crate::outbound;

/// What a connector is initialized with. It is cheap to clone, and a connector keeps what it needs.
///
/// Verification and normalization use none of it: they are handed what they need
/// ([`InboundCtx`](super::InboundCtx)).
#[derive(Clone)]
pub struct ConnectorCtx {
    /// Where the connector leaves lines for operators.
    pub event_log: Arc<dyn ConnectorLog>,
    /// The one way out, for calls of the provider's API.
    pub http: Arc<outbound::Client>,
    /// The time.
    pub clock: Clock,
}

/// The part of the event log that is a connector's: lines of the topic `connector.<provider>`.
pub trait ConnectorLog: Send + Sync {
    /// Appends a line: a fixed code such as `token_refreshed`, and a sentence without secrets. It does not
    /// wait; lines beyond a bound per minute are counted and not written one by one.
    fn append(&self, code: &'static str, detail: String);
}
