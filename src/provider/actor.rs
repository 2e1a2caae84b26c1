//! The actor of one provider.
//!
//! Owns the provider's resolved and learned secrets, and the activation and handshake state of its
//! triggers; publishes one immutable [`TriggerSnapshot`](super::TriggerSnapshot) per trigger, and runs
//! the [`Lifecycle`] of its connector, the [`Ticker`] of its cron triggers, a [`Poller`] for each poll trigger and the
//! [`Keeper`] of its permits. The
//! [`ProviderHandle`](super::ProviderHandle) sends it what changes state; it writes to the log. Its
//! mailbox holds [`MAILBOX`] messages: rejections beyond that are counted, not queued. A rebuild
//! keeps all that the log has (pauses, arming, learned secrets), and the rate buckets and counters,
//! which live in [`Fixed`](super::Fixed).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;

use crate::catalog::ProviderEntry;
use crate::clock::Clock;
use crate::config::Trigger;
use crate::connector::ConnectorRegistry;
use crate::event::{RejectReason, Timestamp, TriggerId};
use crate::event_log::record::{Audit, Record, Sealed, Switch, Switched};
use crate::event_log::{self, Log};
use crate::outbound;
use crate::permits::RateLimiterFactory;
use crate::secrets::{Secret, Vault};
use crate::supervise::Lifeline;

use super::callbacks::Callbacks;
use super::lifecycle::Lifecycle;
use super::permits::Keeper;
use super::poller::Poller;
use super::published::Published;
use super::settings::{TriggerSecret, trigger_secrets};
use super::task::Task;
use super::ticker::Ticker;
use super::timeline;
use super::{AUDIT_PROVIDER, AUDIT_SIGNATURE, Fixed, SecretSlot};

/// Most messages that wait for the actor. Beyond it, rejections are only counted.
const MAILBOX: usize = 256;
/// How long a trigger without a secret is armed from its first start.
const FIRST_ARMING: Duration = Duration::from_secs(60 * 60);
/// How long counted rejections wait until they are written as one line.
const COUNTED_AFTER: Duration = Duration::from_secs(60);
/// How long it takes until successes of secrets are written: a kill loses as much of them.
const SEEN_AFTER: Duration = Duration::from_secs(60);

/// What an actor is built from, again and again.
#[derive(Clone)]
pub struct Deps {
    /// The log that keeps its state.
    pub log: Log,
    /// The time.
    pub clock: Clock,
    /// The provider's catalogue entry.
    pub entry: Arc<ProviderEntry>,
    /// Resolves configured secrets, and seals what handshakes teach.
    pub vault: Arc<Vault>,
    /// Fetches the public keys that the provider publishes.
    pub outbound: Arc<outbound::Client>,
    /// The buckets of calls to providers.
    pub permits: RateLimiterFactory,
    /// The URL under which providers reach the front door.
    pub public_url: Option<String>,
    /// Told whenever a secret verified a delivery for the first time, and that is on the device.
    pub secret_news: Arc<Notify>,
    /// Builds the provider's connector.
    pub registry: ConnectorRegistry,
    /// Where the connector's callbacks run.
    pub callbacks: Callbacks,
    /// The provider's triggers, with what survives the actor.
    pub triggers: Vec<(Arc<Trigger>, Arc<Fixed>)>,
}

impl Deps {
    /// Publishes what the log says of a trigger's switches.
    fn publish(&self, published: &Published, index: usize) {
        let state = self.log.state().trigger(&self.triggers[index].0.id);
        published.update(index, |snapshot| {
            snapshot.is_paused = state.paused;
            snapshot.armed_until = state.armed_until;
        });
    }

    /// Returns where successes of a trigger's secrets are noted.
    pub(super) fn slots(
        &self,
        trigger: &Trigger,
        secrets: &[TriggerSecret],
        before: &[SecretSlot],
    ) -> Vec<SecretSlot> {
        let state = self.log.state();
        let Some(fingerprints) = self.vault.fingerprints(&|name: &str| state.sealed(name)) else {
            return Vec::new();
        };
        timeline::slots(secrets, before, fingerprints, &state.secret_times(&trigger.id))
    }

    /// Tells whether a trigger has a secret. One that cannot be read is there all the same.
    fn has_secret(&self, trigger: &Trigger, fixed: &Fixed) -> bool {
        let sealed = |name: &str| self.log.state().sealed(name);
        let secrets = trigger_secrets(&self.entry, trigger, &self.vault, &sealed, &fixed.last_good);
        !secrets.found.is_empty() || !secrets.unresolved.is_empty()
    }
}

/// The actor of one provider.
pub struct ProviderActor {
    deps: Deps,
    published: Arc<Published>,
    /// When the process started.
    started_at: Timestamp,
    /// What runs as long as the actor: the connector's lifecycle, and what keeps the permits.
    tasks: Vec<Task>,
    /// Cron triggers that tick, and polls.
    running: Vec<SpawnHandle>,
    /// The timer after which successes of secrets are written.
    seeing: Option<SpawnHandle>,
    _lifeline: Lifeline,
}

impl ProviderActor {
    /// Builds the actor and publishes what the log says of its triggers.
    pub(super) fn new(
        deps: Deps,
        published: Arc<Published>,
        started_at: Timestamp,
        lifeline: Lifeline,
    ) -> Self {
        (0..deps.triggers.len()).for_each(|index| deps.publish(&published, index));
        Self {
            deps,
            published,
            started_at,
            tasks: Vec::new(),
            running: Vec::new(),
            seeing: None,
            _lifeline: lifeline,
        }
    }
}

impl Actor for ProviderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        for index in 0..self.deps.triggers.len() {
            self.arm_first(index, ctx);
            // What was counted under an earlier actor is written too.
            self.write_counted(index, ctx);
        }
        self.write_seen(ctx);
        let lifecycle = Lifecycle::new(self.deps.clone(), self.published.clone());
        let owner = ctx.address().downgrade();
        self.tasks.push(Task::start(owner.clone(), lifecycle.run()));
        self.tasks.push(Task::start(owner, Keeper::new(&self.deps).run()));
        let ticker = Ticker::new(&self.deps, self.started_at);
        self.running.extend(ticker.map(|ticker| ctx.spawn(ticker.run().into_actor(self))));
        for poller in Poller::all(&self.deps, &self.published) {
            self.running.push(ctx.spawn(poller.run().into_actor(self)));
        }
    }
}

/// One of the actor's tasks panicked: the actor ends, so that its supervisor rebuilds it with all of them.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct TaskPanicked;

impl Handler<TaskPanicked> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _: TaskPanicked, ctx: &mut Self::Context) {
        tracing::error!(provider = %self.deps.entry.id, "a task of the provider's actor panicked; the actor is rebuilt");
        ctx.terminate();
    }
}

/// A delivery was refused and gets a line of the audit.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Rejected {
    pub(super) trigger_id: TriggerId,
    pub(super) reason: RejectReason,
    pub(super) hint: String,
    pub(super) peer: IpAddr,
    pub(super) at: Timestamp,
}

impl Handler<Rejected> for ProviderActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Rejected, _: &mut Self::Context) -> Self::Result {
        let line = Audit {
            topic: AUDIT_SIGNATURE.to_owned(),
            at: message.at,
            trigger_id: Some(message.trigger_id),
            peer: Some(message.peer),
            code: message.reason.as_str().to_owned(),
            detail: message.hint,
            count: 1,
        };
        write(self.deps.log.clone(), vec![Record::Audit(line)])
    }
}

/// Rejections were counted without a line; write their sum in a while.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Counted(pub(super) TriggerId);

impl Handler<Counted> for ProviderActor {
    type Result = ();

    fn handle(&mut self, Counted(trigger_id): Counted, ctx: &mut Self::Context) {
        if let Some(index) = self.index(&trigger_id) {
            ctx.run_later(COUNTED_AFTER, move |actor, ctx| actor.write_counted(index, ctx));
        }
    }
}

/// A secret verified a delivery; write that, in a while unless it is the first time.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SecretSeen {
    pub(super) first: bool,
}

impl Handler<SecretSeen> for ProviderActor {
    type Result = ();

    fn handle(&mut self, message: SecretSeen, ctx: &mut Self::Context) {
        if message.first {
            self.write_seen(ctx);
        } else if self.seeing.is_none() {
            self.seeing = Some(ctx.run_later(SEEN_AFTER, |actor, ctx| {
                actor.seeing = None;
                actor.write_seen(ctx);
            }));
        }
    }
}

/// Begin nothing more, and write what was counted now; the answer comes when the log has it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Flush;

impl Handler<Flush> for ProviderActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) -> Self::Result {
        // A tick that is cut off is stored or stays due; what permits know is written at the end.
        for running in self.running.drain(..) {
            ctx.cancel_future(running);
        }
        self.tasks.clear();
        let counted = (0..self.deps.triggers.len()).flat_map(|index| self.counted_lines(index));
        let lines = counted.chain(timeline::news(self.published.all(), self.deps.clock.now())).collect();
        write(self.deps.log.clone(), lines)
    }
}

/// Something happened to a delivery that the audit of the provider has a line for.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Noted {
    pub(super) trigger_id: TriggerId,
    pub(super) peer: IpAddr,
    pub(super) at: Timestamp,
    pub(super) code: &'static str,
    pub(super) detail: String,
}

impl Handler<Noted> for ProviderActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Noted, _: &mut Self::Context) -> Self::Result {
        let line = Audit {
            topic: AUDIT_PROVIDER.to_owned(),
            at: message.at,
            trigger_id: Some(message.trigger_id),
            peer: Some(message.peer),
            code: message.code.to_owned(),
            detail: message.detail,
            count: 1,
        };
        write(self.deps.log.clone(), vec![Record::Audit(line)])
    }
}

/// Changes a trigger's durable switches; the answer comes when the change is on the device.
#[derive(Message)]
#[rtype(result = "Result<(), event_log::Error>")]
pub(super) struct Set(pub(super) TriggerId, pub(super) Switch);

impl Handler<Set> for ProviderActor {
    // One change at a time: a later one must not be published before an earlier one.
    type Result = AtomicResponse<Self, Result<(), event_log::Error>>;

    fn handle(&mut self, Set(trigger_id, switch): Set, _: &mut Self::Context) -> Self::Result {
        let (log, at) = (self.deps.log.clone(), self.deps.clock.now());
        let record = Record::Switched(Switched { at, switch });
        let durable = async move { log.append_durable(vec![record]).await.map(drop) };
        let index = self.index(&trigger_id);
        AtomicResponse::new(Box::pin(durable.into_actor(self).map(move |result, actor, _| {
            if let Some(index) = index {
                actor.deps.publish(&actor.published, index);
            }
            result
        })))
    }
}

/// A secret of the store changed: look at the bindings anew; the answer is the request's number.
#[derive(Message)]
#[rtype(result = "u64")]
pub(super) struct Refresh;

impl Handler<Refresh> for ProviderActor {
    type Result = u64;

    fn handle(&mut self, _: Refresh, ctx: &mut Self::Context) -> u64 {
        let now = self.deps.clock.now();
        for (trigger, fixed) in &self.deps.triggers {
            // An operator who sets the secret waits for no handshake that would bring another.
            let armed =
                self.deps.log.state().trigger(&trigger.id).armed_until.is_some_and(|until| now < until);
            if armed && self.deps.has_secret(trigger, fixed) {
                ctx.notify(Set(trigger.id.clone(), Switch::TriggerArmed(trigger.id.clone(), Some(now))));
            }
        }
        self.published.request()
    }
}

/// Why a secret was not learned.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The trigger is not armed.
    #[error("the trigger is not armed")]
    NotArmed,
    /// It could not be sealed.
    #[error("the secret could not be sealed")]
    Seal,
    /// It could not be stored.
    #[error("the secret could not be stored")]
    Log(#[from] event_log::Error),
    /// The actor is not there.
    #[error(transparent)]
    NotRunning(#[from] crate::supervise::NotRunning),
}

/// An unsigned handshake carried a secret; the answer is the number of the request to take it up.
#[derive(Message)]
#[rtype(result = "Result<u64, LearnError>")]
pub(super) struct Learn {
    pub(super) trigger_id: TriggerId,
    pub(super) name: String,
    pub(super) secret: Secret,
    pub(super) peer: IpAddr,
}

impl Handler<Learn> for ProviderActor {
    // One at a time: of two handshakes at once, the first one wins.
    type Result = AtomicResponse<Self, Result<u64, LearnError>>;

    fn handle(&mut self, message: Learn, _: &mut Self::Context) -> Self::Result {
        let records = self.learned(&message);
        let log = self.deps.log.clone();
        let durable = async move { Ok(log.append_durable(records?).await.map(drop)?) };
        let index = self.index(&message.trigger_id);
        AtomicResponse::new(Box::pin(durable.into_actor(self).map(move |result, actor, _| {
            if let Some(index) = index {
                actor.deps.publish(&actor.published, index);
            }
            result.map(|()| actor.published.request())
        })))
    }
}

/// Panics, for tests of what that costs.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Crash;

#[cfg(test)]
impl Handler<Crash> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("on purpose");
    }
}

impl ProviderActor {
    fn index(&self, trigger_id: &TriggerId) -> Option<usize> {
        self.deps.triggers.iter().position(|(trigger, _)| trigger.id == *trigger_id)
    }

    /// Returns the records that keep a learned secret, and end the arming.
    fn learned(&self, message: &Learn) -> Result<Vec<Record>, LearnError> {
        let now = self.deps.clock.now();
        let state = self.deps.log.state().trigger(&message.trigger_id);
        if state.armed_until.is_none_or(|until| now >= until) {
            return Err(LearnError::NotArmed);
        }
        let name = sealed_name(&message.trigger_id, &message.name);
        let sealed = self.deps.vault.seal(&name, &message.secret).map_err(|error| {
            tracing::error!(trigger_id = %message.trigger_id, %error, "could not seal a learned secret");
            LearnError::Seal
        })?;
        // Armed until now, not never: a trigger that was armed once is not armed by itself again.
        let switch = Switch::TriggerArmed(message.trigger_id.clone(), Some(now));
        let line = Audit {
            topic: AUDIT_PROVIDER.to_owned(),
            at: now,
            trigger_id: Some(message.trigger_id.clone()),
            peer: Some(message.peer),
            code: "secret_learned".to_owned(),
            detail: format!("{} was learned from a handshake and is kept sealed as {name}", message.name),
            count: 1,
        };
        Ok(vec![
            Record::Sealed(Sealed { name, at: now, sealed }),
            Record::Switched(Switched { at: now, switch }),
            Record::Audit(line),
        ])
    }

    /// Arms a trigger that has no secret and was never armed.
    fn arm_first(&self, index: usize, ctx: &mut Context<Self>) {
        let (trigger, fixed) = &self.deps.triggers[index];
        let learns = self.deps.entry.secrets.iter().any(|spec| spec.learned);
        let state = self.deps.log.state().trigger(&trigger.id);
        let has_secret = self.deps.has_secret(trigger, fixed);
        if !learns || has_secret || state.armed_until.is_some() {
            return;
        }
        let now = self.deps.clock.now();
        let until = now.checked_add(FIRST_ARMING).unwrap_or(now);
        tracing::info!(trigger_id = %trigger.id, %until, "trigger has no secret and is armed for its first hour");
        ctx.notify(Set(trigger.id.clone(), Switch::TriggerArmed(trigger.id.clone(), Some(until))));
    }

    /// Writes what is new of the secrets' use, and tells who waits for it.
    fn write_seen(&self, ctx: &mut Context<Self>) {
        let writing = timeline::write(self.deps.clone(), self.published.clone());
        ctx.spawn(writing.into_actor(self));
    }

    fn write_counted(&self, index: usize, ctx: &mut Context<Self>) {
        let lines = self.counted_lines(index);
        if !lines.is_empty() {
            ctx.spawn(write(self.deps.log.clone(), lines).into_actor(self));
        }
    }

    /// Takes a trigger's counted rejections, a line for each reason.
    fn counted_lines(&self, index: usize) -> Vec<Record> {
        let (trigger, fixed) = &self.deps.triggers[index];
        let at = self.deps.clock.now();
        let line = |(reason, count): (RejectReason, u32)| {
            Record::Audit(Audit {
                topic: AUDIT_SIGNATURE.to_owned(),
                at,
                trigger_id: Some(trigger.id.clone()),
                peer: None,
                code: reason.as_str().to_owned(),
                detail: "further rejections of this kind, not listed one by one".to_owned(),
                count,
            })
        };
        fixed.gate.take_counted().into_iter().map(line).collect()
    }
}

/// Returns the name under which a trigger's learned secret is kept.
pub fn sealed_name(trigger_id: &TriggerId, secret: &str) -> String {
    format!("{trigger_id}/{secret}")
}

fn write(log: Log, records: Vec<Record>) -> ResponseFuture<()> {
    Box::pin(async move {
        if let Err(error) = log.append(records).await {
            tracing::warn!(%error, "could not write an audit line");
        }
    })
}
