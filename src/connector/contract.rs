//! The types that a connector is written against.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::client::{ConnectorClient, NoMethods};
use super::{AuditSink, BuildError, ConnectorCtx, FetchedKey, KeyRequest, NormalizeResult, TriggerSettings};
use crate::catalog::TriggerKind;
use crate::event::{Header, ProviderId, Timestamp, TriggerId};

/// What turns the requests of one provider into events.
///
/// [`CatalogConnector`](super::CatalogConnector) is the connector of every provider whose entry says
/// all; code is for what data cannot say.
///
/// # Examples
///
/// A connector whose requests say in their body what they are, signed as GitHub signs:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
///
/// use async_trait::async_trait;
/// use hookkeeper::connector::{
///     ActivationHandle, Connector, ConnectorError, HmacStyle, InboundCtx, NormalizeResult, Normalized,
///     ProviderPayloadSchema, RawInbound, TriggerBinding, TriggerKind, Verdict, verify_hmac_signed,
/// };
/// use hookkeeper::event::{ProviderId, SignatureStatus, TriggerId};
/// use hookkeeper::secrets::Secret;
/// use hookkeeper::signature::Window;
///
/// struct Acme {
///     id: ProviderId,
///     secrets: Mutex<BTreeMap<TriggerId, Vec<Secret>>>,
/// }
///
/// #[async_trait]
/// impl Connector for Acme {
///     fn provider_id(&self) -> &ProviderId {
///         &self.id
///     }
///
///     fn kinds(&self) -> &[TriggerKind] {
///         &[TriggerKind::Webhook]
///     }
///
///     async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
///         let secrets = |binding: &TriggerBinding| {
///             let secrets = binding.settings.secrets.get("signing_secret").cloned();
///             (binding.trigger_id.clone(), secrets.unwrap_or_default())
///         };
///         *self.secrets.lock().unwrap() = bindings.iter().map(secrets).collect();
///         Ok(ActivationHandle::new(self.id.clone(), bindings.len()))
///     }
///
///     fn normalize_inbound(
///         &self,
///         raw: &RawInbound,
///         ctx: InboundCtx<'_>,
///     ) -> Result<NormalizeResult, ConnectorError> {
///         let secrets = self.secrets.lock().unwrap();
///         let inactive = || ConnectorError::Inactive(ctx.trigger_id.clone());
///         let secrets = secrets.get(ctx.trigger_id).ok_or_else(inactive)?;
///         let window = Window { now: ctx.now, tolerance: None };
///         let verdict = verify_hmac_signed(ctx.audit, &self.id, HmacStyle::GitHub, raw, secrets, window)
///             .map_err(ConnectorError::other)?;
///         let secret_index = match verdict {
///             Verdict::Verified { secret_index, .. } => secret_index,
///             Verdict::Rejected(rejection) => return Ok(NormalizeResult::Reject(rejection)),
///         };
///         // A signed delivery is an event whatever its shape.
///         let body = raw.json_body().unwrap_or_default();
///         Ok(NormalizeResult::Event(Normalized {
///             kind: body["what"].as_str().unwrap_or("unknown").to_owned(),
///             dedupe_key: body["id"].as_str().map(str::to_owned),
///             occurred_at: None,
///             signature_status: SignatureStatus::Verified { covers_body: true },
///             secret_index: Some(secret_index),
///             part: None,
///         }))
///     }
///
///     fn payload_schema(&self) -> ProviderPayloadSchema {
///         ProviderPayloadSchema::named("AcmePayload")
///     }
/// }
/// ```
#[async_trait]
pub trait Connector: Send + Sync {
    /// Returns the provider that the connector is for.
    fn provider_id(&self) -> &ProviderId;

    /// Returns the kinds of triggers that can be activated.
    fn kinds(&self) -> &[TriggerKind];

    /// Is called once, before anything else, with what the connector may use of the world. By default it
    /// needs nothing.
    ///
    /// # Errors
    ///
    /// If the connector cannot work; it is built and called again after a pause.
    async fn init(&mut self, _ctx: ConnectorCtx) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Activates these bindings and no others; called again whenever they change. Where it fails, or is
    /// dropped before its end, what was active stays so.
    ///
    /// # Errors
    ///
    /// If a binding cannot be activated; it is tried again after a pause that grows.
    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError>;

    /// Ends what the connector began, within `deadline`; what is not finished then is dropped. Requests
    /// that are under way have been answered. By default there is nothing to end.
    async fn shutdown(&self, _deadline: Duration) {}

    /// Returns which published keys a request must be judged with; they are handed in with
    /// [`InboundCtx::keys`]. By default none.
    fn wanted_keys(&self, _raw: &RawInbound, _ctx: InboundCtx<'_>) -> Vec<KeyRequest> {
        Vec::new()
    }

    /// Says what a request is: verifies it over its raw bytes and normalizes it. It must not wait; what it needs
    /// of the world is in `ctx`. Few run at once for each provider, on threads of their own: one that takes long
    /// holds up its own provider's deliveries, which are answered 503 when their time is over, and no other's.
    ///
    /// # Errors
    ///
    /// If the connector fails. A request that should not be accepted is no failure but
    /// [`NormalizeResult::Reject`].
    fn normalize_inbound(
        &self,
        raw: &RawInbound,
        ctx: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError>;

    /// Asks the provider what is new on a poll trigger since the cursor. The events are stored before the
    /// cursor is: what was not stored is asked for again, so each event needs a dedupe key.
    ///
    /// It may wait, and better does not block: a provider's poll triggers have up to eight threads, which they share in
    /// turn where there are more of them. One that is blocked makes no other polls, nor drives connections that began
    /// on it. A poll that takes over 60 s has failed, though one that blocks goes on, and its thread is lost until it ends.
    ///
    /// # Errors
    ///
    /// If the provider cannot be asked; it is asked again after a pause that grows. By default, always:
    /// a connector without [`TriggerKind::Poll`] is never asked.
    async fn poll_tick(&self, ctx: PollCtx<'_>) -> Result<Polled, ConnectorError> {
        Err(ConnectorError::Inactive(ctx.trigger_id.clone()))
    }

    /// Returns the schema of the payloads.
    fn payload_schema(&self) -> ProviderPayloadSchema;

    /// Returns what calls the provider's API. By default there are no methods. It is asked for its methods before
    /// [`init`](Self::init) too, for the catalogue lists them; where that panics, it lists none.
    ///
    /// Calls have the thread of the other callbacks: they may wait, and better do not block it. One that panics or takes
    /// longer than its caller allows has failed, and disturbs nobody else.
    fn client(&self) -> Arc<dyn ConnectorClient> {
        Arc::new(NoMethods)
    }
}

/// What a poll trigger is asked with.
#[derive(Debug, Clone, Copy)]
pub struct PollCtx<'a> {
    /// The trigger.
    pub trigger_id: &'a TriggerId,
    /// The present.
    pub now: Timestamp,
    /// Where the last answer left off; nothing at the very first time.
    pub cursor: Option<&'a str>,
}

/// What a poll brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Polled {
    /// What is new, oldest first; at most [`POLLED_EVENTS_MAX`].
    pub events: Vec<PolledEvent>,
    /// Where to go on from, up to [`CURSOR_BYTES_MAX`] bytes; nothing leaves the cursor where it was.
    pub cursor: Option<String>,
    /// Whether there is more right now: then the next poll is made at once, if the cursor moved. Where it did not, the
    /// same would be asked again.
    pub more: bool,
}

/// Most events of one poll; a connector that has more says so with [`Polled::more`].
pub const POLLED_EVENTS_MAX: usize = 1_000;
/// Most bytes of a cursor. It is written to the log with each poll that moves it.
pub const CURSOR_BYTES_MAX: usize = 4_096;

/// One event that a poll brought.
#[derive(Debug, Clone, PartialEq)]
pub struct PolledEvent {
    /// What happened, such as `issue.created`.
    pub kind: String,
    /// The identity of what happened: the same whenever it is seen.
    pub dedupe_key: String,
    /// When it happened, as the provider says.
    pub occurred_at: Option<Timestamp>,
    /// The event as the provider wrote it.
    pub body: Bytes,
    /// The body's content type, such as `application/json`.
    pub content_type: String,
}

/// What a request is judged with, beside itself.
///
/// # Examples
///
/// A connector's own test hands in all of it, and sees what would be audited:
///
/// ```
/// use std::cell::RefCell;
///
/// use hookkeeper::connector::{InboundCtx, SignatureRejected};
/// use hookkeeper::event::{Timestamp, TriggerId};
///
/// let trigger_id = TriggerId::new("shop")?;
/// let told = RefCell::new(Vec::new());
/// let audit = |rejected: SignatureRejected| told.borrow_mut().push(rejected.hint);
/// let now = Timestamp::UNIX_EPOCH;
/// let ctx = InboundCtx { trigger_id: &trigger_id, now, armed: false, keys: &[], audit: &audit };
/// // connector.normalize_inbound(&raw, ctx)
/// # drop(ctx);
/// assert!(told.borrow().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct InboundCtx<'a> {
    /// The trigger that it came in on.
    pub trigger_id: &'a TriggerId,
    /// The present.
    pub now: Timestamp,
    /// Whether a handshake may bring a secret now.
    pub armed: bool,
    /// Public keys that the provider published, where the connector asked for some.
    pub keys: &'a [FetchedKey],
    /// Takes what a refusal is audited with, for [`verify_hmac_signed`](super::verify_hmac_signed) and for code
    /// that verifies by itself. A request that is rejected is audited once: with what was told last, or else with
    /// its [`Rejection`](super::Rejection). What was told of one that is accepted after all is forgotten.
    pub audit: &'a dyn AuditSink,
}

/// A trigger as code sees it: one configured activation of a provider.
///
/// # Examples
///
/// ```
/// use hookkeeper::connector::TriggerSettings;
/// use hookkeeper::secrets::Secret;
/// use hookkeeper::{TriggerBinding, TriggerKind};
///
/// let secrets = [("signing_secret".to_owned(), vec![Secret::new("current"), Secret::new("previous")])];
/// let binding = TriggerBinding {
///     trigger_id: "shop".parse().unwrap(),
///     kind: TriggerKind::Webhook,
///     settings: TriggerSettings { secrets: secrets.into(), ..TriggerSettings::default() },
/// };
/// assert!(!format!("{binding:?}").contains("current"), "secrets show nothing");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerBinding {
    /// The trigger.
    pub trigger_id: TriggerId,
    /// How it is set off.
    pub kind: TriggerKind,
    /// Its secrets, resolved, and what it overrides.
    pub settings: TriggerSettings,
}

/// What is active after an activation.
///
/// # Examples
///
/// ```
/// use hookkeeper::ActivationHandle;
///
/// let handle = ActivationHandle::new("github".parse().unwrap(), 2);
/// assert_eq!((handle.provider_id().as_str(), handle.active_bindings()), ("github", 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationHandle {
    provider_id: ProviderId,
    active_bindings: usize,
}

impl ActivationHandle {
    /// Says that this many bindings of a provider are active.
    pub fn new(provider_id: ProviderId, active_bindings: usize) -> Self {
        Self { provider_id, active_bindings }
    }

    /// Returns the provider.
    pub fn provider_id(&self) -> &ProviderId {
        &self.provider_id
    }

    /// Returns the number of active bindings.
    pub fn active_bindings(&self) -> usize {
        self.active_bindings
    }
}

/// The schema of a provider's payloads, by name.
///
/// # Examples
///
/// ```
/// use hookkeeper::ProviderPayloadSchema;
///
/// assert_eq!(ProviderPayloadSchema::named("AcmePayload").name(), "AcmePayload");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderPayloadSchema(String);

impl ProviderPayloadSchema {
    /// Returns the schema of the given name, such as `GitHubEventPayload`.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the schema's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Why a connector could not do what it was asked for.
///
/// # Examples
///
/// ```
/// use hookkeeper::ConnectorError;
///
/// let error = ConnectorError::other("the acme account is closed");
/// assert_eq!(error.to_string(), "the acme account is closed");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// A binding cannot be activated.
    #[error("trigger {trigger_id} cannot be activated")]
    Binding {
        /// Which.
        trigger_id: TriggerId,
        /// Why not.
        source: Box<BuildError>,
    },
    /// A request came in on a trigger that is not active.
    #[error("trigger {0} is not active")]
    Inactive(TriggerId),
    /// The body is not what the connector can read at all.
    #[error("body is not JSON")]
    Body(#[from] serde_json::Error),
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl ConnectorError {
    /// Wraps an error of the connector's own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

/// One request as it came in, its body as raw bytes.
///
/// # Examples
///
/// ```
/// use hookkeeper::RawInbound;
///
/// let raw = RawInbound {
///     method: "POST".to_owned(),
///     url: "/hooks/acme?v=2".to_owned(),
///     headers: vec![("x-acme-event".to_owned(), "order.paid".into())],
///     body: r#"{"order": 7}"#.into(),
///     received_at: "2026-11-27T08:00:00Z".parse().unwrap(),
///     peer: None,
/// };
/// assert_eq!(raw.json_body()?["order"], 7);
/// assert_eq!(raw.header_values("x-acme-event").next(), Some(b"order.paid".as_slice()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RawInbound {
    /// The request's method, upper case.
    pub method: String,
    /// Path and query as sent.
    pub url: String,
    /// Headers in the order sent, names in lower case.
    pub headers: Vec<Header>,
    /// The body, never decompressed.
    pub body: Bytes,
    /// When the body was read completely.
    pub received_at: Timestamp,
    /// The sender's address.
    pub peer: Option<IpAddr>,
}

impl RawInbound {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// If the body is not JSON.
    pub fn json_body(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Returns the values of all headers of the given lower-case name.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(header, _)| header == name).map(|(_, value)| value.as_ref())
    }
}
