//! Brings a provider's connector up and keeps it activated with what the triggers say now.
//!
//! Part of the provider's actor, which has it as a task of its own. It looks at the bindings at the start,
//! whenever a secret changed, and, after a failure, again and again with growing pauses. A changed secret shortens
//! these for nobody else: what failed, and is as it was, is not tried before its time. Each look
//! ends in the snapshots: a trigger is active with what it was activated with last, or says why not.
//! A binding that cannot be activated keeps no other from it, and one that was active stays so.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Backoff, Trigger};
use crate::connector::{Connector, ConnectorCtx, ConnectorError, Signer, TriggerBinding, TriggerKind};
use crate::event::{Timestamp, TriggerId};
use crate::flow::{backoff, with_jitter};
use crate::secrets::Chain;

use super::callbacks::Unfinished;
use super::connector_log::Lines;
use super::published::Published;
use super::settings::{TriggerSecret, settings_with, trigger_secrets};
use super::snapshot::{Engine, Failure};
use super::timeline;
use super::{Deps, Fixed, shortened};

/// How long a connector may take to begin.
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an activation may take.
const ACTIVATE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connector may take to end whose place another one took.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause after a failure.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest pause: what was mended elsewhere is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// The connector of one provider, through one life of its actor.
pub(super) struct Lifecycle {
    deps: Deps,
    published: Arc<Published>,
    connector: Option<Arc<dyn Connector>>,
    /// Those of earlier lives, which serve until the new one does.
    retired: Vec<Arc<dyn Connector>>,
    /// Failures in a row.
    attempts: u32,
    /// When to look again, if something failed.
    retry_at: Option<Timestamp>,
    /// What there was to be activated at the last look, for each trigger.
    seen: Vec<Seen>,
    /// What the connector would not have, for each trigger, and why.
    refused: Vec<Option<(Arc<TriggerBinding>, String)>>,
}

/// What a trigger was to be activated with, and why with nothing newer.
type Seen = (Option<Arc<TriggerBinding>>, Option<String>);

/// What a trigger is to be activated with.
struct Candidate {
    binding: Option<Arc<TriggerBinding>>,
    /// The secrets in it, where it was resolved just now.
    secrets: Option<Vec<TriggerSecret>>,
    failure: Option<String>,
}

/// Why there is nothing to activate a trigger with.
enum Unbound {
    /// A secret is not there, nor known from before: it never was, or was removed from the store.
    NoSecret(String),
    Settings(String),
}

impl Lifecycle {
    pub(super) fn new(deps: Deps, published: Arc<Published>) -> Self {
        let refused = vec![None; deps.triggers.len()];
        let (connector, retired, seen) = (None, Vec::new(), Vec::new());
        Self { deps, published, connector, retired, attempts: 0, retry_at: None, seen, refused }
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        let mut requests = self.published.requests();
        loop {
            let request = *requests.borrow_and_update();
            if self.published.is_pause_ended() {
                self.retry_at = None;
            }
            self.look().await;
            self.published.done(request);
            timeline::write(self.deps.clone(), self.published.clone()).await;
            tokio::select! {
                changed = requests.changed() => changed.expect("the sender is held by this future"),
                () = self.pause(self.retry_at) => self.retry_at = None,
            }
        }
    }

    async fn pause(&self, until: Option<Timestamp>) {
        let Some(until) = until else { return std::future::pending().await };
        let clock = &self.deps.clock;
        // A pause that is longer than any was made by a clock that went back.
        let lasts = |now: Timestamp| {
            let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            !left.is_zero() && left <= with_jitter(PAUSE_MAX, u32::MAX)
        };
        while lasts(clock.now()) {
            clock.sleep_until(until).await;
        }
    }

    /// Activates what the triggers say now. As long as the pause after a failure lasts, only what is new.
    async fn look(&mut self) {
        let mut candidates: Vec<_> = (0..self.deps.triggers.len()).map(|at| self.candidate(at)).collect();
        let seen = candidates.iter().map(|it| (it.binding.clone(), it.failure.clone())).collect();
        let before = std::mem::replace(&mut self.seen, seen);
        if self.retry_at.is_some() && before == self.seen {
            return;
        }
        self.leave_out_refused(&mut candidates);
        let outcome = match self.connector.clone() {
            Some(connector) if self.is_in_force(&candidates) => Ok(connector),
            _ => self.bring_up(&mut candidates).await,
        };
        let failed = outcome.is_err() || candidates.iter().any(|candidate| candidate.failure.is_some());
        self.count(failed);
        for (index, candidate) in candidates.into_iter().enumerate() {
            let reason = outcome.as_ref().err().cloned().or(candidate.failure);
            let engine = outcome.as_ref().ok().map(|connector| self.engine(connector, candidate.binding));
            let secrets = outcome.as_ref().ok().and(candidate.secrets);
            self.publish(index, (engine, secrets), reason.zip(self.retry_at));
        }
        if outcome.is_ok() {
            self.retire();
        }
    }

    /// Leaves out what the connector would not have and is the same still; when the pause is over, nothing.
    fn leave_out_refused(&mut self, candidates: &mut [Candidate]) {
        for (index, candidate) in candidates.iter_mut().enumerate() {
            let refused = self.refused[index].take().filter(|_| self.retry_at.is_some());
            let is_same = |(binding, _): &(_, _)| candidate.binding.as_ref() == Some(binding);
            if let Some((binding, reason)) = refused.filter(is_same).filter(|_| candidate.failure.is_none()) {
                candidate.fall_back(self.last_binding(index), reason.clone());
                self.refused[index] = Some((binding, reason));
            }
        }
    }

    /// Notes whether a look failed. A pause that goes on is neither shortened nor begun anew.
    fn count(&mut self, failed: bool) {
        if !failed {
            (self.attempts, self.retry_at) = (0, None);
        } else if self.retry_at.is_none() {
            self.attempts = self.attempts.saturating_add(1);
            self.retry_at = Some(self.next_at());
        }
    }

    fn next_at(&self) -> Timestamp {
        let pause = backoff(Backoff::Exponential, self.attempts).clamp(PAUSE_FIRST, PAUSE_MAX);
        self.deps.clock.after(with_jitter(pause, fastrand::u32(..)))
    }

    /// Resolves what a trigger says; where that fails, it stays at what it was activated with last. Without a secret that
    /// an operator took away it does not.
    fn candidate(&self, index: usize) -> Candidate {
        let (trigger, fixed) = &self.deps.triggers[index];
        let last = self.last_binding(index);
        match self.binding(trigger, fixed) {
            Ok((binding, secrets)) => {
                let is_same = |last: &Arc<TriggerBinding>| **last == binding;
                let binding = last.filter(is_same).unwrap_or_else(|| Arc::new(binding));
                Candidate { binding: Some(binding), secrets: Some(secrets), failure: None }
            }
            Err(Unbound::NoSecret(error)) => {
                Candidate { binding: None, secrets: Some(Vec::new()), failure: Some(error) }
            }
            Err(Unbound::Settings(error)) => Candidate { binding: last, secrets: None, failure: Some(error) },
        }
    }

    fn last_binding(&self, index: usize) -> Option<Arc<TriggerBinding>> {
        self.published.load(index).engine.as_ref().map(|engine| engine.binding.clone())
    }

    fn binding(
        &self,
        trigger: &Trigger,
        fixed: &Fixed,
    ) -> Result<(TriggerBinding, Vec<TriggerSecret>), Unbound> {
        let Deps { log, entry, vault, public_url, .. } = &self.deps;
        let sealed = |name: &str| log.state().sealed(name);
        let secrets = trigger_secrets(entry, trigger, vault, &sealed, &fixed.last_good);
        for missing in &secrets.unresolved {
            let (reference, why) = (&missing.reference, &missing.why);
            let served_on = missing.has_last_good;
            tracing::warn!(trigger_id = %trigger.id, reference, why, served_on, "a secret cannot be had");
        }
        let secrets = secrets.all().map_err(Unbound::NoSecret)?;
        let settings = settings_with(trigger, &secrets, vault, &sealed, public_url.as_deref());
        let settings = settings.map_err(Unbound::Settings)?;
        let (trigger_id, kind) = (trigger.id.clone(), kind(&trigger.kind));
        Ok((TriggerBinding { trigger_id, kind, settings }, secrets))
    }

    /// Tells whether this very connector is active with all of these.
    fn is_in_force(&self, candidates: &[Candidate]) -> bool {
        candidates.iter().enumerate().all(|(index, candidate)| {
            let snapshot = self.published.load(index);
            let active = snapshot.engine.as_ref().zip(self.connector.as_ref());
            snapshot.failure.is_none()
                && candidate.failure.is_none()
                && active.zip(candidate.binding.as_ref()).is_some_and(|((engine, connector), binding)| {
                    Arc::ptr_eq(&engine.connector, connector) && Arc::ptr_eq(&engine.binding, binding)
                })
        })
    }

    async fn bring_up(&mut self, candidates: &mut [Candidate]) -> Result<Arc<dyn Connector>, String> {
        let connector = match &self.connector {
            Some(connector) => connector.clone(),
            None => self.begin().await?,
        };
        self.activate(&connector, candidates).await?;
        Ok(connector)
    }

    /// Builds and initializes the connector.
    async fn begin(&mut self) -> Result<Arc<dyn Connector>, String> {
        let Deps { registry, callbacks, entry, .. } = &self.deps;
        let (registry, id, ctx) = (registry.clone(), entry.id.clone(), self.ctx());
        let begun = callbacks.call(INIT_TIMEOUT, async move {
            let unknown = || ConnectorError::other(format!("provider {id} has no connector"));
            let mut connector = registry.build(&id).ok_or_else(unknown)?;
            connector.init(ctx).await?;
            Ok::<Arc<dyn Connector>, ConnectorError>(connector.into())
        });
        let failed = |error: &dyn std::fmt::Display| format!("init: {error}");
        let connector = begun.await.map_err(|error| failed(&error))?;
        let connector = connector.map_err(|error| failed(&described(&error)))?;
        self.retired.extend(self.published.begin(connector.clone()));
        self.connector = Some(connector.clone());
        Ok(connector)
    }

    fn ctx(&self) -> ConnectorCtx {
        let log = self.deps.log.clone();
        let store = Arc::new(move |name: &str| log.state().sealed(name));
        ConnectorCtx {
            event_log: Arc::new(Lines(self.published.log().clone())),
            secrets: Arc::new(Chain::standard(self.deps.vault.clone(), store)),
            rate_limiter: self.deps.permits.clone(),
            metrics: self.published.metrics().clone(),
            http: self.deps.outbound.clone(),
            clock: self.deps.clock.clone(),
        }
    }

    /// Activates all candidates that there are; one that the connector will not have falls back to what it was
    /// active with before, and then is left out.
    async fn activate(
        &mut self,
        connector: &Arc<dyn Connector>,
        candidates: &mut [Candidate],
    ) -> Result<(), String> {
        loop {
            let bindings: Vec<TriggerBinding> =
                candidates.iter().filter_map(|it| it.binding.as_deref().cloned()).collect();
            let (wanted, activated) = (bindings.len(), connector.clone());
            let call = async move { activated.activate(&bindings).await };
            match self.deps.callbacks.call(ACTIVATE_TIMEOUT, call).await {
                Ok(Ok(handle)) => {
                    let active = handle.active_bindings();
                    if active != wanted {
                        let provider = &self.deps.entry.id;
                        tracing::warn!(%provider, active, wanted, "connector activated not all bindings");
                    }
                    return Ok(());
                }
                Ok(Err(ConnectorError::Binding { trigger_id, source })) => {
                    let index = self.index(&trigger_id).filter(|index| candidates[*index].binding.is_some());
                    let error = ConnectorError::Binding { trigger_id, source };
                    let Some(index) = index else { return Err(described(&error)) };
                    let (reason, refused) = (described(&error), candidates[index].binding.clone());
                    self.refused[index] = refused.map(|binding| (binding, reason.clone()));
                    candidates[index].fall_back(self.last_binding(index), reason);
                }
                Ok(Err(error)) => return Err(described(&error)),
                Err(unfinished) => {
                    if unfinished == Unfinished::Panicked {
                        // What it left behind is not to be trusted.
                        self.connector = None;
                    }
                    return Err(format!("activate: {unfinished}"));
                }
            }
        }
    }

    fn index(&self, trigger_id: &TriggerId) -> Option<usize> {
        self.deps.triggers.iter().position(|(trigger, _)| trigger.id == *trigger_id)
    }

    fn engine(&self, connector: &Arc<dyn Connector>, binding: Option<Arc<TriggerBinding>>) -> Option<Engine> {
        let binding = binding?;
        let signer = Signer::new(&self.deps.entry, &binding.settings).unwrap_or_else(|error| {
            // The entry of a connector in code need not know how it signs.
            if !self.deps.entry.is_coded {
                tracing::warn!(trigger_id = %binding.trigger_id, %error, "nothing can be signed as the provider does");
            }
            None
        });
        Some(Engine { connector: connector.clone(), binding, signer: signer.map(Arc::new) })
    }

    /// Publishes what came of a look at a trigger; without an engine it stays at what it has.
    fn publish(
        &self,
        index: usize,
        (engine, secrets): (Option<Option<Engine>>, Option<Vec<TriggerSecret>>),
        failure: Option<(String, Timestamp)>,
    ) {
        let trigger = &self.deps.triggers[index].0;
        let before = self.published.load(index);
        let slots = secrets.map(|secrets| self.deps.slots(trigger, &secrets, &before.secrets));
        let attempts = self.attempts;
        let failure = failure.map(|(reason, next_at)| Failure { reason, attempts, next_at });
        if let Some(Failure { reason, next_at, .. }) = failure.as_ref().filter(|_| before.failure != failure)
        {
            let trigger_id = &self.deps.triggers[index].0.id;
            tracing::error!(%trigger_id, reason, attempts, %next_at, "trigger could not be activated");
        }
        self.published.update(index, |snapshot| {
            snapshot.engine = engine.unwrap_or_else(|| snapshot.engine.take());
            snapshot.failure = failure;
            snapshot.secrets = slots.unwrap_or_else(|| std::mem::take(&mut snapshot.secrets));
        });
    }

    /// Has the connectors of earlier lives end.
    fn retire(&mut self) {
        for connector in self.retired.drain(..) {
            let callbacks = self.deps.callbacks.clone();
            actix::spawn(async move {
                let ending = async move { connector.shutdown(RETIRE_TIMEOUT).await };
                if let Err(error) = callbacks.call(RETIRE_TIMEOUT, ending).await {
                    tracing::warn!(%error, "a connector whose place another took did not end well");
                }
            });
        }
    }
}

impl Candidate {
    fn fall_back(&mut self, last: Option<Arc<TriggerBinding>>, reason: String) {
        let is_last =
            self.binding.as_ref().zip(last.as_ref()).is_some_and(|(now, last)| Arc::ptr_eq(now, last));
        self.binding = last.filter(|_| !is_last);
        self.secrets = None;
        self.failure.get_or_insert(reason);
    }
}

/// Returns an error's text with that of what caused it.
fn described(error: &ConnectorError) -> String {
    shortened(match error {
        ConnectorError::Binding { source, .. } => source.to_string(),
        error => error.to_string(),
    })
}

fn kind(kind: &config::TriggerKind) -> TriggerKind {
    match kind {
        config::TriggerKind::Webhook => TriggerKind::Webhook,
        config::TriggerKind::Cron(_) => TriggerKind::Cron,
        config::TriggerKind::Poll(_) => TriggerKind::Poll,
    }
}
