//! The connector contract: what turns a provider's requests into events, and the one interpreter of
//! catalogue entries that is the connector of almost every provider.
//!
//! Verification and normalization are pure: bytes, secrets and the time are handed in. Neither the
//! network nor the store is known here, but for `client`, which calls providers' APIs.

mod batch;
mod bounded;
mod catalog_connector;
mod client;
mod contract;
mod credentials;
mod ctx;
mod explain;
mod facts;
mod hmac_signed;
mod keys;
mod metrics;
mod outcome;
mod plan;
mod registry;
mod sample;
mod signer;
mod verifier;

pub use batch::BatchPart;
pub use catalog_connector::CatalogConnector;
pub use client::{
    CALL_TIMEOUT, CallOptions, ClientBase, ClientBuildError, ClientError, ClientParts, ClientSecrets,
    ClientSettings, ConnectorClient, NoMethods, OwnSecrets, RestClient, validate_client,
    validate_client_secret,
};
pub use contract::{
    ActivationHandle, CURSOR_BYTES_MAX, Connector, ConnectorError, InboundCtx, POLLED_EVENTS_MAX, PollCtx,
    Polled, PolledEvent, ProviderPayloadSchema, RawInbound, TriggerBinding,
};
pub use credentials::Credentials;
pub use ctx::{ConnectorCtx, ConnectorLog};
pub use explain::{Cause, explain};
pub use facts::{SchemeFacts, validate_entry};
pub use hmac_signed::{AUDIT_TOPIC, AuditSink, HmacStyle, SignatureRejected, Verdict, verify_hmac_signed};
pub use keys::{FetchedKey, KeyRequest, SECRETS_MAX, allowed_host};
pub use metrics::{COUNTERS_MAX, ConnectorMetrics, Counter, OTHER_COUNTERS};
pub use outcome::{NormalizeResult, Normalized, Rejection, Reply};
pub use plan::BuildError;
pub use registry::ConnectorRegistry;
pub use sample::{Rendered, generate_secret, render};
pub use signer::{SignError, SignRequest, Signer, private_scheme};
pub use verifier::{DEDUPE_KEY_BYTES_MAX, Judging, KIND_BYTES_MAX, TriggerSettings, UNKNOWN_KIND, Verifier};

pub use crate::catalog::TriggerKind;
