//! How the rest of the program reaches providers: by path for requests, by id for operators.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::ArbiterHandle;
use arc_swap::Guard;

use crate::connector::{ConnectorClient, ConnectorMetrics, Rejection, Signer};
use crate::event::{ProviderId, Timestamp, TriggerId};
use crate::event_log;
use crate::event_log::record::Switch;
use crate::flow::TokenBucket;
use crate::secrets::Secret;
use crate::supervise::{NotRunning, Supervised};

use super::actor::{Counted, Flush, Learn, Noted, Refresh, Rejected, SecretSeen, Set};
use super::callbacks::Callbacks;
use super::calls::Calls;
use super::client::ContainedClient;
use super::permits::Keeper;
use super::published::Published;
use super::timeline::Tell;
use super::turns::Turns;
use super::{Deps, LearnError, ProviderActor, PublishedKeys, TriggerSnapshot, Unavailable};

/// Lines per second that one provider may write of what was not to be had.
const UNAVAILABLE_LINES_PER_SECOND: f64 = 1.0 / 60.0;
/// Such lines at once.
const UNAVAILABLE_LINES_BURST: u32 = 10;
/// Lines per second that one provider may write of deliveries on which its connector failed.
const FAILED_LINES_PER_SECOND: f64 = 1.0;
/// Such lines at once.
const FAILED_LINES_BURST: u32 = 100;
/// Longest detail of such a line.
const FAILED_DETAIL_BYTES_MAX: usize = 1_024;
/// How long an ending actor may take to write what is left to write.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What an operator changes about a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Take deliveries and hold them.
    Pause,
    /// Start what was held, and runs from now on.
    Resume,
    /// Let an unsigned handshake teach the secret until then.
    Arm(Timestamp),
}

/// Why a trigger was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No provider has it.
    #[error("there is no trigger {0}")]
    NoTrigger(TriggerId),
    /// The log did not take the change.
    #[error(transparent)]
    Log(#[from] event_log::Error),
    /// The actor is not there.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
}

/// One provider: its published snapshots, and the actor behind them.
pub struct ProviderHandle {
    id: ProviderId,
    published: Arc<Published>,
    callbacks: Callbacks,
    actor: Supervised<ProviderActor>,
    keys: PublishedKeys,
    calls: Calls,
    keeper: Keeper,
    /// Lines of the audit for what was not to be had.
    unavailable_lines: TokenBucket,
    /// Lines of the audit for deliveries on which the connector failed.
    failed_lines: TokenBucket,
    /// Nothing for the interpreter of catalogue data.
    turns: Option<Turns>,
}

impl ProviderHandle {
    /// Starts the actor of one provider on `arbiter`. Its triggers take deliveries when its connector is
    /// activated, for which [`settled`](Self::settled) waits.
    pub fn start(deps: Deps, arbiter: &ArbiterHandle) -> Self {
        let published = Arc::new(Published::new(&deps));
        let (id, callbacks) = (deps.entry.id.clone(), deps.callbacks.clone());
        let keeper = Keeper::new(&deps);
        keeper.restore();
        let keys = PublishedKeys::new(deps.outbound.clone(), deps.clock.clone());
        let calls = Calls::new(deps.outbound.clone(), deps.clock.clone());
        let unavailable_lines = TokenBucket::new(UNAVAILABLE_LINES_PER_SECOND, UNAVAILABLE_LINES_BURST);
        let failed_lines = TokenBucket::new(FAILED_LINES_PER_SECOND, FAILED_LINES_BURST);
        let turns = deps.entry.is_coded.then(Turns::new);
        let factory = {
            let (published, started_at) = (published.clone(), deps.clock.now());
            move |lifeline| ProviderActor::new(deps.clone(), published.clone(), started_at, lifeline)
        };
        let actor = Supervised::start(format!("provider {id}"), arbiter, factory);
        Self { id, published, callbacks, actor, keys, calls, keeper, unavailable_lines, failed_lines, turns }
    }

    /// Returns the provider's id.
    pub fn id(&self) -> &ProviderId {
        &self.id
    }

    /// Returns the turns at judging deliveries, where the connector is code of which nobody knows how long it takes.
    pub fn turns(&self) -> Option<&Turns> {
        self.turns.as_ref()
    }

    /// Returns the snapshot of the provider's trigger number `index`, as [`Providers::route`] gave it.
    pub fn trigger(&self, index: usize) -> Guard<Arc<TriggerSnapshot>> {
        self.published.load(index)
    }

    /// Returns the snapshots of all its triggers.
    pub fn triggers(&self) -> impl Iterator<Item = Arc<TriggerSnapshot>> + '_ {
        self.published.all()
    }

    /// Returns when the first activation has ended, whatever came of it.
    pub async fn settled(&self) {
        self.published.settled().await;
    }

    /// Returns what calls the provider's API, once the connector is there.
    pub fn client(&self) -> Option<Arc<dyn ConnectorClient>> {
        let client = self.published.connector()?.client();
        Some(Arc::new(ContainedClient { client, callbacks: self.callbacks.clone() }))
    }

    /// Returns what its connector counts.
    pub fn metrics(&self) -> &ConnectorMetrics {
        self.published.metrics()
    }

    /// Returns how often the actor was rebuilt.
    pub fn rebuilds(&self) -> u64 {
        self.actor.rebuilds()
    }

    /// Tells whether the actor runs now, and is not being rebuilt.
    pub fn is_running(&self) -> bool {
        self.actor.is_running()
    }

    /// Changes a trigger's state; returns when the change is on the device and in force.
    ///
    /// # Errors
    ///
    /// If the log does not take it, or the actor is not there.
    pub async fn change(&self, trigger_id: &TriggerId, change: Change) -> Result<(), ChangeError> {
        let id = trigger_id.clone();
        let switch = match change {
            Change::Pause => Switch::TriggerPaused(id, true),
            Change::Resume => Switch::TriggerPaused(id, false),
            Change::Arm(until) => Switch::TriggerArmed(id, Some(until)),
        };
        Ok(self.actor.ask(Set(trigger_id.clone(), switch)).await??)
    }

    /// Has the secrets of all triggers resolved anew; returns when what came of it is in force.
    ///
    /// # Errors
    ///
    /// If the actor is not there; its next life resolves them.
    pub async fn refresh(&self) -> Result<(), NotRunning> {
        let request = self.actor.ask(Refresh).await?;
        self.published.in_force(request).await;
        Ok(())
    }

    /// Has the next [`refresh`](Self::refresh) try what failed, whatever pause is left: what the connector itself asks
    /// for has changed.
    pub fn end_pause(&self) {
        self.published.end_pause();
    }

    /// Hands over a secret that an unsigned handshake carried; returns when it is kept.
    ///
    /// # Errors
    ///
    /// If the trigger is not armed, or the secret cannot be kept.
    pub async fn learn(
        &self,
        trigger_id: &TriggerId,
        name: String,
        secret: Secret,
        peer: IpAddr,
    ) -> Result<(), LearnError> {
        let learn = Learn { trigger_id: trigger_id.clone(), name, secret, peer };
        let request = self.actor.ask(learn).await??;
        self.published.in_force(request).await;
        Ok(())
    }

    /// Notes with which secret of the trigger's main list a delivery verified, as its verifier told.
    pub(crate) fn verified_with(&self, snapshot: &TriggerSnapshot, index: Option<usize>, at: Timestamp) {
        let Some(slot) = index.and_then(|index| snapshot.secrets.get(index)) else { return };
        let first = match slot.succeeded(at) {
            Tell::Nothing => return,
            Tell::News => false,
            Tell::First => true,
        };
        if !self.actor.tell(SecretSeen { first }) {
            slot.not_told();
        }
    }

    /// Audits a rejection, within the trigger's bound; `counted` says that it gets no line of its own.
    pub(crate) fn rejected(
        &self,
        snapshot: &TriggerSnapshot,
        rejection: &Rejection,
        peer: IpAddr,
        at: Timestamp,
        counted: bool,
    ) {
        let (gate, reason) = (&snapshot.fixed.gate, rejection.reason);
        let line = || Rejected {
            trigger_id: snapshot.trigger_id.clone(),
            reason,
            hint: rejection.hint.clone(),
            peer,
            at,
        };
        // Without room in the mailbox, or an actor just now, it is counted: the next sum has it.
        if counted || !gate.admits(at) || !self.actor.tell(line()) {
            gate.count(reason, || self.actor.tell(Counted(snapshot.trigger_id.clone())));
        }
    }

    /// Records that a connector failed on a delivery: `code` says how, `detail` why, without secrets.
    /// Lines beyond a bound are not written.
    pub(crate) fn failed(
        &self,
        trigger_id: &TriggerId,
        (peer, at): (IpAddr, Timestamp),
        code: &'static str,
        detail: &str,
    ) {
        if self.failed_lines.try_take(at.as_microsecond()).is_ok() {
            let detail = detail[..detail.floor_char_boundary(FAILED_DETAIL_BYTES_MAX)].to_owned();
            self.actor.tell(Noted { trigger_id: trigger_id.clone(), peer, at, code, detail });
        }
    }

    /// Returns the public keys that the provider publishes.
    pub fn keys(&self) -> &PublishedKeys {
        &self.keys
    }

    /// Records that a delivery could not be judged or answered for want of something from elsewhere, within a
    /// bound: `code` says what.
    pub(crate) fn unavailable(
        &self,
        trigger_id: &TriggerId,
        (peer, at): (IpAddr, Timestamp),
        code: &'static str,
        unavailable: &Unavailable,
    ) {
        if self.unavailable_lines.try_take(at.as_microsecond()).is_ok() {
            let (trigger_id, detail) = (trigger_id.clone(), unavailable.why.clone());
            self.actor.tell(Noted { trigger_id, peer, at, code, detail });
        }
    }

    /// Has a URL called that a signed handshake names, once; returns when it answered. A call that was made
    /// is audited.
    ///
    /// # Errors
    ///
    /// If it is none of these hosts', or did not answer 2xx by `deadline`.
    pub(crate) async fn call(
        &self,
        trigger_id: &TriggerId,
        (peer, at): (IpAddr, Timestamp),
        (url, hosts): (&str, &[String]),
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let (actor, trigger_id) = (self.actor.clone(), trigger_id.clone());
        let called = move |host: &str| {
            let (trigger_id, detail) =
                (trigger_id.clone(), format!("called {host} as the handshake asks for"));
            actor.tell(Noted { trigger_id, peer, at, code: "handshake_called", detail });
        };
        self.calls.make(url, hosts, deadline, called).await
    }

    /// Has the actor panic; tells whether it took the message.
    #[cfg(test)]
    pub(crate) fn crash(&self) -> bool {
        self.actor.tell(super::actor::Crash)
    }

    /// Writes what is known of the provider's rate limits, so that the next start need not assume the worst. For
    /// the end, when nobody calls the provider any more.
    pub async fn close_permits(&self) {
        if let Err(error) = self.keeper.close().await {
            tracing::warn!(provider = %self.id, %error, "rate limits could not be written; the next start assumes the worst");
        }
    }

    /// Writes what is left to write, ends the actor, and gives the connector `limit` to end; the snapshots stay.
    pub async fn stop(&self, limit: Duration) {
        // An actor that is being rebuilt just now leaves the sums of some rejections unwritten.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.actor.ask(Flush)).await;
        self.actor.stop();
        self.published.drain();
        if let Some(connector) = self.published.take_begun() {
            let ending = async move { connector.shutdown(limit).await };
            if let Err(error) = self.callbacks.call(limit, ending).await {
                tracing::warn!(provider = %self.id, %error, "connector did not end well");
            }
        }
        self.published.log().flush().await;
    }
}

/// All providers, and the way from a path to a trigger.
#[derive(Default)]
pub struct Providers {
    handles: Vec<ProviderHandle>,
    /// Path → index of the handle, index of the trigger in it.
    routes: HashMap<String, (usize, usize)>,
}

impl Providers {
    /// Puts the routes of `handles` together. Paths are unique: configuration sees to it.
    pub fn new(handles: Vec<ProviderHandle>) -> Self {
        let mut routes = HashMap::new();
        for (at, handle) in handles.iter().enumerate() {
            let called = handle.triggers().enumerate().filter(|(_, trigger)| !trigger.fixed.path.is_empty());
            for (index, trigger) in called {
                routes.insert(trigger.fixed.path.clone(), (at, index));
            }
        }
        Self { handles, routes }
    }

    /// Finds the trigger of a path.
    pub fn route(&self, path: &str) -> Option<(&ProviderHandle, usize)> {
        let (at, index) = self.routes.get(path)?;
        Some((&self.handles[*at], *index))
    }

    /// Finds the provider that has the given trigger.
    pub fn of_trigger(&self, trigger_id: &TriggerId) -> Option<&ProviderHandle> {
        self.handles.iter().find(|handle| handle.triggers().any(|trigger| trigger.trigger_id == *trigger_id))
    }

    /// Returns what signs as the provider of a trigger does, with the trigger's current secret.
    pub fn signer(&self, trigger_id: &TriggerId) -> Option<Arc<Signer>> {
        let mut triggers = self.handles.iter().flat_map(ProviderHandle::triggers);
        triggers.find(|trigger| trigger.trigger_id == *trigger_id)?.engine.as_ref()?.signer.clone()
    }

    /// Returns all providers.
    pub fn iter(&self) -> impl Iterator<Item = &ProviderHandle> {
        self.handles.iter()
    }
}
