//! What a connector may use of the world.

use std::sync::Arc;

use super::ConnectorMetrics;
use crate::clock::Clock;
use crate::outbound;
use crate::permits::RateLimiterFactory;
use crate::secrets::SecretProvider;

/// What a connector is initialized with. It is cheap to clone, and a connector keeps what it needs.
///
/// Verification and normalization use none of it: they are handed what they need
/// ([`InboundCtx`](super::InboundCtx)).
///
/// # Examples
///
/// ```
/// use hookkeeper::ConnectorCtx;
/// use hookkeeper::secrets::{Secret, SecretError, SecretId};
///
/// /// Looks a credential up: `HOOKKEEPER_SECRET_…` in the environment, a file, or the store.
/// async fn token(ctx: &ConnectorCtx) -> Result<Secret, SecretError> {
///     let id = SecretId::new("acme", "api_token").expect("both parts are names");
///     let token = ctx.secrets.get(&id).await?;
///     ctx.event_log.append("token_read", format!("{id} was read at {}", ctx.clock.now()));
///     Ok(token)
/// }
/// ```
#[derive(Clone)]
pub struct ConnectorCtx {
    /// Where the connector leaves lines for operators.
    pub event_log: Arc<dyn ConnectorLog>,
    /// Credentials by name, each under the namespace of its provider. Those that verify deliveries come with the
    /// bindings instead.
    pub secrets: Arc<dyn SecretProvider>,
    /// Permits, which every call of the provider's API waits for; all connectors and clients share its buckets.
    pub rate_limiter: RateLimiterFactory,
    /// Counters, shown where operators look at the provider.
    pub metrics: ConnectorMetrics,
    /// The one way out, for calls of the provider's API.
    pub http: Arc<outbound::Client>,
    /// The time.
    pub clock: Clock,
}

/// The part of the event log that is a connector's: lines of the topic `connector.<provider>`.
///
/// # Examples
///
/// ```
/// use std::sync::Mutex;
///
/// use hookkeeper::connector::ConnectorLog;
///
/// /// Keeps the lines, for a test.
/// #[derive(Default)]
/// struct Kept(Mutex<Vec<String>>);
///
/// impl ConnectorLog for Kept {
///     fn append(&self, code: &'static str, detail: String) {
///         self.0.lock().unwrap().push(format!("{code}: {detail}"));
///     }
/// }
///
/// let log = Kept::default();
/// log.append("token_refreshed", "the next one is due in an hour".to_owned());
/// assert_eq!(log.0.lock().unwrap().len(), 1);
/// ```
pub trait ConnectorLog: Send + Sync {
    /// Appends a line: a fixed code such as `token_refreshed`, and a sentence without secrets. It does not
    /// wait; lines beyond a bound per minute are counted and not written one by one.
    fn append(&self, code: &'static str, detail: String);
}
