//! hookkeeper: a durable webhook runtime in one binary.
//!
//! Read from top to bottom, the modules tell the way of one event: from the front door to the function.
//!
//! The feature `server`, which is on by default, is the server with its command line and admin
//! API. Without it the crate is what connectors are written against: the contract, the catalogue and
//! its interpreter, the signatures, the guarded client, and the suite that a connector must pass.

#[cfg(feature = "server")]
pub mod app;

#[cfg(feature = "server")]
pub mod cli;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod front_door;

#[cfg(feature = "server")]
pub mod provider;

#[cfg(feature = "server")]
pub mod quarantine;

#[cfg(feature = "server")]
pub mod dispatch;
#[cfg(feature = "server")]
pub mod router;
#[cfg(feature = "server")]
pub mod supervise;

pub mod testkit;

pub mod connector;
#[cfg(feature = "server")]
pub mod function;
#[cfg(feature = "server")]
pub mod replay;

#[cfg(feature = "server")]
pub mod event_log;
#[cfg(not(feature = "server"))]
pub use frames as event_log;
pub mod outbound;
pub mod permits;
pub mod secrets;

pub mod catalog;
pub mod flow;
pub mod signature;
#[cfg(feature = "server")]
pub mod subscription;

pub mod clock;
#[cfg(feature = "server")]
pub mod config;
pub mod event;
pub mod frames;
#[cfg(feature = "server")]
pub mod schedule;
pub mod settings;

// The authoring contract, together.
pub use catalog::{ProviderCatalog, ProviderMetadata};
pub use connector::{
    ActivationHandle, ClientError, Connector, ConnectorClient, ConnectorCtx, ConnectorError,
    ConnectorRegistry, NormalizeResult, ProviderPayloadSchema, RawInbound, TriggerBinding, TriggerKind,
    verify_hmac_signed,
};
pub use event::{ProviderId, TriggerEvent};
pub use frames::EventLog;
pub use permits::RateLimiterFactory;
pub use secrets::SecretProvider;
