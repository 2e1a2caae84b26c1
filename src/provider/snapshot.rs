//! What requests need of a provider actor, published as immutable values.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::connector::{Credentials, Reply, Signer, Verifier};
use crate::event::{ProviderId, Timestamp, TriggerId};
use crate::flow::TokenBucket;

use super::audit_gate::AuditGate;
use super::settings::LastGood;
use super::timeline::SecretSlot;

/// Whether a trigger takes deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// Deliveries start runs.
    Active,
    /// Deliveries are taken and held.
    Paused,
    /// The trigger could not be activated; deliveries get 503, so that the provider sends them again.
    Failed(String),
}

/// One trigger as the workers see it. Replaced as a whole whenever the actor's state changes.
pub struct TriggerSnapshot {
    /// The trigger's id.
    pub trigger_id: TriggerId,
    /// Its provider.
    pub provider: ProviderId,
    /// Whether it takes deliveries.
    pub activation: Activation,
    /// Verifies and normalizes; absent while activation failed.
    pub verifier: Option<Arc<Verifier>>,
    /// Signs as the provider does, with the current secret, for deliveries that carry its signature anew.
    pub signer: Option<Arc<Signer>>,
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
    /// The payload's schema name.
    pub schema: String,
    /// What its secrets were when they were last to be had.
    pub last_good: LastGood,
    /// Bounds the audit of rejections.
    pub(crate) gate: AuditGate,
    /// What went by.
    pub counters: Counters,
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

impl TriggerSnapshot {
    /// Tells whether an unsigned handshake may teach the trigger its secret at `now`.
    pub fn is_armed(&self, now: Timestamp) -> bool {
        self.armed_until.is_some_and(|until| now < until)
    }
}
