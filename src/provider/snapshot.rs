//! What requests need of a provider actor, published as immutable values.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::catalog::ProviderEntry;
use crate::config::Trigger;
use crate::connector::{Connector, Credentials, Reply, Signer, TriggerBinding, Verifier};
use crate::event::{ProviderId, Timestamp, TriggerId};
use crate::flow::TokenBucket;

use super::audit_gate::AuditGate;
use super::poller::{PollStatus, Polling};
use super::settings::LastGood;
use super::timeline::SecretSlot;

/// What becomes of a trigger's deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Its connector is not ready yet; deliveries get 503, so that the provider sends them again.
    Starting,
    /// Deliveries start runs.
    Active,
    /// Deliveries are taken and held.
    Paused,
    /// The server stops: no delivery comes any more.
    Draining,
    /// The trigger could not be activated, and is tried again; until then deliveries get 503.
    Failed,
}

impl Activation {
    /// Returns the state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Activation::Starting => "starting",
            Activation::Active => "active",
            Activation::Paused => "paused",
            Activation::Draining => "draining",
            Activation::Failed => "failed",
        }
    }
}

/// Why the last activation of a trigger came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, without secrets.
    pub reason: String,
    /// How many attempts in a row failed.
    pub attempts: u32,
    /// When it is tried again.
    pub next_at: Timestamp,
}

/// What judges an active trigger's deliveries.
#[derive(Clone)]
pub struct Engine {
    /// Verifies and normalizes.
    pub connector: Arc<dyn Connector>,
    /// What the connector was activated with.
    pub(super) binding: Arc<TriggerBinding>,
    /// Signs as the provider does, with the current secret, for deliveries that carry its signature anew.
    pub signer: Option<Arc<Signer>>,
}

/// One trigger as the workers see it. Replaced as a whole whenever the actor's state changes.
#[derive(Clone)]
pub struct TriggerSnapshot {
    /// The trigger's id.
    pub trigger_id: TriggerId,
    /// Its provider.
    pub provider: ProviderId,
    /// What judges its deliveries; absent until a first activation succeeds.
    pub engine: Option<Engine>,
    /// Why the last activation failed, if so. One that was active before goes on as it was.
    pub failure: Option<Failure>,
    /// Whether an operator has it paused.
    pub is_paused: bool,
    /// Whether the server stops.
    pub is_draining: bool,
    /// Its secrets, those of the main list in front; empty where no fingerprints can be made of them.
    pub secrets: Vec<SecretSlot>,
    /// Until when an unsigned handshake may teach the trigger its secret.
    pub armed_until: Option<Timestamp>,
    /// What never changes while the process runs.
    pub fixed: Arc<Fixed>,
}

/// The part of a trigger that survives its actor and every publish.
pub struct Fixed {
    /// Path at the front door; empty for a trigger that nobody calls.
    pub path: String,
    /// Methods that the path answers, upper case.
    pub methods: Vec<String>,
    /// How long a dedupe key is remembered.
    pub dedupe_window: Duration,
    /// What the provider demands as the answer to a stored delivery; absent means 200 without a body.
    pub ack: Option<Reply>,
    /// Most bytes of a body.
    pub body_limit: u64,
    /// How long a request may wait before it is answered.
    pub ack_deadline: Duration,
    /// The trigger's own limit, counted after verification.
    pub bucket: Option<TokenBucket>,
    /// Where values stand that are not stored.
    pub credentials: Credentials,
    /// The provider's catalogue entry.
    pub entry: Arc<ProviderEntry>,
    /// What its secrets were when they were last to be had.
    pub last_good: LastGood,
    /// Bounds the audit of rejections.
    pub(crate) gate: AuditGate,
    /// What went by.
    pub counters: Counters,
    /// How its polls go.
    pub(crate) polling: Polling,
}

/// What went by on a trigger since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Deliveries stored.
    pub accepted: AtomicU64,
    /// Deliveries whose event was there already.
    pub duplicates: AtomicU64,
    /// Deliveries refused.
    pub rejected: AtomicU64,
    last_accepted_ms: AtomicI64,
}

impl Counters {
    /// Counts a delivery that was stored.
    pub(crate) fn count_accepted(&self, at: Timestamp) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.last_accepted_ms.fetch_max(at.as_millisecond(), Ordering::Relaxed);
    }

    /// Counts a delivery whose event was there already.
    pub(crate) fn count_duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a delivery that was refused.
    pub(crate) fn count_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when the last delivery was stored.
    pub fn last_accepted_at(&self) -> Option<Timestamp> {
        let ms = self.last_accepted_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| Timestamp::from_millisecond(ms).ok()).flatten()
    }
}

impl Fixed {
    /// Returns how the trigger's polls go.
    pub fn polling(&self) -> PollStatus {
        self.polling.lock().clone()
    }
}

impl TriggerSnapshot {
    /// Returns the snapshot of a trigger whose connector is not there yet.
    pub(super) fn new(trigger: &Trigger, fixed: &Arc<Fixed>) -> Self {
        Self {
            trigger_id: trigger.id.clone(),
            provider: trigger.provider.clone(),
            engine: None,
            failure: None,
            is_paused: false,
            is_draining: false,
            secrets: Vec::new(),
            armed_until: None,
            fixed: fixed.clone(),
        }
    }

    /// Returns what becomes of the trigger's deliveries.
    pub fn activation(&self) -> Activation {
        match (&self.engine, &self.failure) {
            _ if self.is_draining => Activation::Draining,
            (Some(_), _) if self.is_paused => Activation::Paused,
            (Some(_), _) => Activation::Active,
            (None, Some(_)) => Activation::Failed,
            (None, None) => Activation::Starting,
        }
    }

    /// Tells whether a delivery says with which secret of the main list it verified. Of a connector in code it
    /// is taken for granted.
    pub fn tells_secrets(&self) -> bool {
        let Some(engine) = &self.engine else { return false };
        let verifier = || Verifier::new(&self.fixed.entry, &engine.binding.settings);
        self.fixed.entry.is_coded || verifier().is_ok_and(|verifier| verifier.tells_secrets())
    }

    /// Tells whether an unsigned handshake may teach the trigger its secret at `now`.
    pub fn is_armed(&self, now: Timestamp) -> bool {
        self.armed_until.is_some_and(|until| now < until)
    }
}
