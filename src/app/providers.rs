//! From configured triggers to running provider actors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use anyhow::Context as _;
use tokio::sync::Notify;

use super::ServeOptions;
use crate::catalog::{PLACEHOLDER, ProviderEntry};
use crate::clock::Clock;
use crate::config::{SecretRef, Trigger};
use crate::connector::{Credentials, Reply};
use crate::event::ProviderId;
use crate::event_log::Log;
use crate::flow::TokenBucket;
use crate::outbound;
use crate::permits::RateLimiterFactory;
use crate::provider::{Activation, Callbacks, Deps, Fixed, ProviderHandle, Providers, TriggerSnapshot};
use crate::secrets::Vault;

/// How long a provider waits for an answer where its entry does not say.
const ACK_DEADLINE: Duration = Duration::from_secs(10);
/// How long the start waits for connectors: deliveries to one that takes longer get 503 until it is there.
const SETTLE_WAIT: Duration = Duration::from_secs(2);

/// Most threads for the polls of one connector in code: one for each trigger up to that, and with more triggers they
/// share them. A poll that blocks its thread holds up only those that share it.
const POLL_THREADS_MAX: usize = 8;

/// What all provider actors share.
pub(super) struct Shared<'a> {
    pub(super) log: &'a Log,
    pub(super) clock: &'a Clock,
    pub(super) vault: &'a Arc<Vault>,
    /// Told when a secret verified for the first time.
    pub(super) secret_news: &'a Arc<Notify>,
    pub(super) outbound: &'a Arc<outbound::Client>,
    pub(super) permits: &'a RateLimiterFactory,
}

/// Starts the actor of every provider that a trigger or client uses: it also keeps what permits know. Their threads go into `arbiters`: one for all
/// actors, and for each connector in code, which might block them, one for its callbacks and some for its polls.
pub(super) async fn start(
    options: &ServeOptions,
    shared: &Shared<'_>,
    arbiters: &mut Vec<Arbiter>,
) -> anyhow::Result<Arc<Providers>> {
    let config = &options.config;
    let mut by_provider: BTreeMap<&ProviderId, Vec<&Trigger>> = BTreeMap::new();
    for trigger in &config.triggers {
        by_provider.entry(&trigger.provider).or_default().push(trigger);
    }
    for client in &config.clients {
        by_provider.entry(&client.provider).or_default();
    }
    let common = Arbiter::new();
    let actors = common.handle();
    arbiters.push(common);
    let mut handles = Vec::new();
    for (id, triggers) in by_provider {
        let entry = options.registry.catalog().get(id.as_str());
        let entry = entry.with_context(|| format!("provider {id} is not in the catalogue"))?;
        anyhow::ensure!(!entry.is_placeholder(), "provider {id} is a placeholder: {PLACEHOLDER}");
        let with_fixed = |trigger: &Trigger| {
            (Arc::new(trigger.clone()), Arc::new(fixed(config.server.body_limit, trigger, entry)))
        };
        let callbacks = if entry.is_coded {
            let polls = triggers.iter().filter(|trigger| trigger.poll().is_some()).count();
            let mut own = || {
                let own = Arbiter::new();
                let handle = own.handle();
                arbiters.push(own);
                handle
            };
            Callbacks::on(own()).with_polls_on((0..polls.min(POLL_THREADS_MAX)).map(|_| own()).collect())
        } else {
            Callbacks::on(actors.clone())
        };
        let deps = Deps {
            log: shared.log.clone(),
            clock: shared.clock.clone(),
            entry: entry.clone(),
            vault: shared.vault.clone(),
            secret_news: shared.secret_news.clone(),
            outbound: shared.outbound.clone(),
            permits: shared.permits.clone(),
            public_url: config.server.public_url.clone(),
            registry: options.registry.clone(),
            callbacks,
            triggers: triggers.into_iter().map(with_fixed).collect(),
        };
        handles.push(ProviderHandle::start(deps, &actors));
    }
    let settled = futures_util::future::join_all(handles.iter().map(ProviderHandle::settled));
    if tokio::time::timeout(SETTLE_WAIT, settled).await.is_err() {
        tracing::warn!("the doors open although not all connectors are ready; their triggers answer 503");
    }
    let providers = Providers::new(handles);
    // A mistake that only a changed configuration mends is told now, not to the provider with every delivery.
    for trigger in providers.iter().flat_map(ProviderHandle::triggers) {
        if let Some(reason) = mistake(&config.triggers, &trigger) {
            anyhow::bail!("trigger {}: {reason}", trigger.trigger_id);
        }
    }
    Ok(Arc::new(providers))
}

/// Returns why a trigger is not active, unless that may mend by itself: files and the store change while the
/// server runs, and what a connector in code waits for is its own affair.
fn mistake<'a>(triggers: &[Trigger], snapshot: &'a TriggerSnapshot) -> Option<&'a str> {
    let failure = snapshot.failure.as_ref().filter(|_| snapshot.activation() == Activation::Failed)?;
    let changes = |secret: &SecretRef| matches!(secret, SecretRef::File(_) | SecretRef::Store(_));
    let trigger = triggers.iter().find(|trigger| trigger.id == snapshot.trigger_id);
    let may_change = trigger
        .is_some_and(|trigger| trigger.secrets.values().flatten().chain(&trigger.public_keys).any(changes));
    (!may_change && !snapshot.fixed.entry.is_coded).then_some(failure.reason.as_str())
}

fn fixed(body_limit: u64, trigger: &Trigger, entry: &Arc<ProviderEntry>) -> Fixed {
    let mut methods = vec!["POST".to_owned()];
    methods.extend(entry.handshakes.iter().flat_map(|handshake| handshake.methods.iter().cloned()));
    methods.sort();
    methods.dedup();
    Fixed {
        path: trigger.path.clone(),
        methods,
        dedupe_window: trigger.dedupe_window,
        ack: ack(entry),
        body_limit: entry.body_limit_bytes.unwrap_or(u64::MAX).min(body_limit),
        ack_deadline: entry.ack.within_s.map_or(ACK_DEADLINE, Duration::from_secs),
        bucket: trigger.rate_limit.map(|limit| TokenBucket::new(limit.per_second, limit.burst)),
        // An entry that does not compile is told when its trigger is activated; one of a connector in code may
        // have settings that only the connector knows.
        credentials: Credentials::of(entry, &trigger.settings).unwrap_or_else(|_| Credentials::named(entry)),
        entry: entry.clone(),
        last_good: Default::default(),
        gate: Default::default(),
        counters: Default::default(),
        polling: Default::default(),
    }
}

/// Returns what the provider wants to hear, where that is not 200 without a body.
fn ack(entry: &ProviderEntry) -> Option<Reply> {
    let ack = &entry.ack;
    if ack.status == 200 && ack.body.is_empty() {
        return None;
    }
    let content_type = ack.content_type.iter().map(|value| ("content-type".to_owned(), value.clone()));
    Some(Reply { status: ack.status, headers: content_type.collect(), body: ack.body.clone().into() })
}
