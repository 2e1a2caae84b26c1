//! The admin API: the same views over HTTP that the command line shows, and what operators change.
//!
//! `view` reads and `actions` changes; `server` is the edge to actix-web, and `guard` decides who may
//! talk to it at all. Deliveries never come through here, and no secret leaves but by `reveal`, which
//! is audited. Whatever an operator changes is a record of the log first.

mod act;
mod actions;
mod call;
mod guard;
mod problem;
mod quarantine;
mod query;
mod replays;
mod secrets;
mod server;
mod view;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Semaphore;

pub use problem::{MEDIA_TYPE, Problem};
pub use query::{LIMIT_MAX, Query, parse_time};
pub use secrets::KEEP_FOR;
pub(crate) use secrets::{finish, removal, rotated_name, start};
pub use server::configure;
pub use view::{EventFilter, View};

use self::guard::Guard;
use self::replays::Replays;
use crate::catalog::ProviderCatalog;
use crate::clock::Clock;
use crate::config::Config;
use crate::connector::{ConnectorClient, FetchedKey, RawInbound, Verifier};
use crate::event::{Fingerprint, ProviderId, Timestamp, TriggerId};
use crate::event_log::{Ingested, Log};
use crate::provider::{Activation, Change, ChangeError, Failure, PollStatus};
use crate::quarantine::{Quarantine, ReleaseError};
use crate::replay::Replayer;
use crate::secrets::{Secret, Vault};

/// The topic of what operators did.
pub const AUDIT_ADMIN: &str = "audit.admin";

/// What only the running server knows and can do; `app` implements it over the provider actors.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Returns the state of every trigger.
    fn triggers(&self) -> Vec<TriggerStatus>;

    /// Returns the state of every provider that a trigger uses.
    fn providers(&self) -> Vec<ProviderStatus>;

    /// Changes a trigger; returns when the change is on the device and in force.
    ///
    /// # Errors
    ///
    /// If there is no such trigger, the log does not take it, or the provider's actor is not there.
    async fn change_trigger(&self, id: &TriggerId, change: Change) -> Result<(), ChangeError>;

    /// Says that a secret of the store was set or removed: whoever uses it resolves it anew.
    async fn secret_changed(&self, name: &str);

    /// Returns when the secrets of a trigger last verified a delivery, since the start; the log has the rest.
    fn secret_successes(&self, trigger_id: &TriggerId) -> Vec<(Fingerprint, Timestamp)> {
        let _ = trigger_id;
        Vec::new()
    }

    /// Returns the provider's public keys that a request would be verified with, as far as they were fetched
    /// already; nothing for one that wants none.
    fn known_keys(&self, trigger_id: &TriggerId, verifier: &Verifier, raw: &RawInbound) -> Vec<FetchedKey>;

    /// Returns what calls a provider's API, if the configuration has it.
    fn client(&self, provider: &ProviderId) -> Option<Arc<dyn ConnectorClient>>;

    /// Verifies a delivery of the quarantine again, as of its arrival, and takes it in; returns what it
    /// became once that is on the device.
    ///
    /// # Errors
    ///
    /// If it still does not verify, or cannot be taken in.
    async fn release(&self, trigger_id: &TriggerId, raw: RawInbound) -> Result<Vec<Ingested>, ReleaseError>;
}

/// A trigger as its actor publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerStatus {
    /// Its id.
    pub id: TriggerId,
    /// What becomes of its deliveries.
    pub activation: Activation,
    /// Why its last activation failed, if so.
    pub failure: Option<Failure>,
    /// How its polls go, if it is a poll trigger.
    pub polling: PollStatus,
    /// Deliveries stored since the start.
    pub accepted: u64,
    /// Duplicates met since the start.
    pub duplicates: u64,
    /// Deliveries refused since the start.
    pub rejected: u64,
    /// When the last delivery was stored.
    pub last_accepted_at: Option<Timestamp>,
    /// How often its provider's actor was rebuilt.
    pub rebuilds: u64,
}

/// A provider as its actor publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Its id.
    pub id: ProviderId,
    /// How many of its triggers are in which state.
    pub triggers: BTreeMap<&'static str, usize>,
    /// What its connector counts.
    pub metrics: BTreeMap<&'static str, u64>,
    /// How often its actor was rebuilt.
    pub rebuilds: u64,
}

/// What the admin API stands on.
pub struct Parts {
    /// The log.
    pub log: Log,
    /// The time.
    pub clock: Clock,
    /// The providers.
    pub catalog: ProviderCatalog,
    /// The configuration in effect.
    pub config: Arc<Config>,
    /// The running server.
    pub runtime: Arc<dyn Runtime>,
    /// Makes new runs of stored events.
    pub replayer: Replayer,
    /// Seals and opens secrets.
    pub vault: Arc<Vault>,
    /// What was refused.
    pub quarantine: Quarantine,
    /// The token that callers must show, as it is now; must be there unless the listener is on loopback.
    pub token: Option<Arc<ArcSwap<Secret>>>,
    /// The address of the admin listener.
    pub address: SocketAddr,
}

/// The admin API's state. Cheap to clone.
#[derive(Clone)]
pub struct AdminState(Arc<Inner>);

struct Inner {
    view: View,
    config: Arc<Config>,
    runtime: Arc<dyn Runtime>,
    vault: Arc<Vault>,
    guard: Guard,
    replayer: Replayer,
    replays: Replays,
    /// Places for actions under way.
    acting: Arc<Semaphore>,
    /// Places for calls of providers under way.
    calling: call::Places,
}

impl AdminState {
    /// Puts the state together.
    ///
    /// # Panics
    ///
    /// If the listener is not on loopback and there is no token; configuration refuses that.
    pub fn new(parts: Parts) -> Self {
        assert!(
            parts.token.is_some() || parts.address.ip().is_loopback(),
            "an open admin listener has a token"
        );
        Self(Arc::new(Inner {
            guard: Guard::new(parts.token, &parts.config.server.admin_names),
            view: View {
                log: parts.log,
                clock: parts.clock,
                vault: Arc::clone(&parts.vault),
                quarantine: parts.quarantine,
                catalog: parts.catalog,
                config: Some(Arc::clone(&parts.config)),
                runtime: Some(Arc::clone(&parts.runtime)),
            },
            config: parts.config,
            runtime: parts.runtime,
            vault: parts.vault,
            replayer: parts.replayer,
            replays: Replays::default(),
            acting: Arc::new(Semaphore::new(actions::ACTING_MAX)),
            calling: call::Places::new(),
        }))
    }

    /// Returns what can be read.
    pub fn view(&self) -> &View {
        &self.0.view
    }
}
