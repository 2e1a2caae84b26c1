//! From configured functions to running dispatchers.

use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use anyhow::{Context as _, anyhow};

use crate::clock::Clock;
use crate::config::{Function, Handler as HandlerConfig, SecretRef};
use crate::connector::SignRequest;
use crate::dispatch::{self, Dispatch, Dispatcher, Drain};
use crate::event::{FunctionId, StoredEvent, Timestamp};
use crate::event_log::Log;
use crate::function::{self, ExecHandler, Handler, HttpHandler, Resigner, Signing};
use crate::provider::Providers;
use crate::secrets::{SealedStore, Secret, SecretError, Vault};
use crate::supervise::Supervised;

/// All functions' dispatchers, and the thread that they share.
pub(super) struct Functions {
    dispatchers: Vec<Supervised<Dispatcher>>,
    arbiter: Arbiter,
    secrets: Arc<FunctionSecrets>,
}

/// The secrets that sign deliveries to functions, and what leads to them.
#[derive(Default)]
pub(super) struct FunctionSecrets(Vec<(FunctionId, Vec<SecretRef>, Signing)>);

impl FunctionSecrets {
    /// Resolves the secrets anew. Those of a function of which one cannot be had stay as they were.
    pub(super) fn refresh(&self, vault: &Vault, store: &impl SealedStore) {
        for (function_id, references, signing) in &self.0 {
            match resolve(references, vault, store) {
                Ok(secrets) => signing.set(&secrets),
                Err(error) => {
                    tracing::warn!(%function_id, %error, "a secret cannot be had; deliveries are signed as before");
                }
            }
        }
    }
}

/// Resolves what signs a function's deliveries: also what was replaced and is still in force, so that the receiver
/// can change over without a gap.
fn resolve(
    references: &[SecretRef],
    vault: &Vault,
    store: &impl SealedStore,
) -> Result<Vec<Secret>, SecretError> {
    let mut secrets = Vec::new();
    for reference in references {
        secrets.extend(vault.resolve_all(reference, store)?.into_all());
    }
    Ok(secrets)
}

/// What functions are built from.
pub(super) struct Parts<'a> {
    pub(super) functions: &'a [Function],
    pub(super) log: &'a Log,
    pub(super) clock: &'a Clock,
    pub(super) vault: &'a Arc<Vault>,
    pub(super) providers: &'a Arc<Providers>,
}

impl Functions {
    /// Starts a supervised dispatcher for every function.
    pub(super) fn start(parts: &Parts<'_>) -> anyhow::Result<Self> {
        let client = function::Client::new();
        let mut secrets = FunctionSecrets::default();
        let mut build = |function: &Function| {
            let handler = handler(parts, &client, function, &mut secrets);
            let handler = handler.with_context(|| format!("function {}", function.id))?;
            Dispatch::new(parts.log.clone(), parts.clock.clone(), function.clone(), handler)
                .map_err(|error| anyhow!("function {}: {error}", function.id))
        };
        // All are built before any is started, so that a mistake in one starts none.
        let dispatches = parts.functions.iter().map(&mut build).collect::<anyhow::Result<Vec<_>>>()?;
        let arbiter = dispatch::arbiter();
        let start = |dispatch: Dispatch| {
            let name = format!("dispatcher {}", dispatch.function());
            Supervised::start(name, &arbiter.handle(), move |lifeline| dispatch.dispatcher(lifeline))
        };
        let dispatchers = dispatches.into_iter().map(start).collect();
        Ok(Self { dispatchers, arbiter, secrets: Arc::new(secrets) })
    }

    /// Returns what signs deliveries.
    pub(super) fn secrets(&self) -> &Arc<FunctionSecrets> {
        &self.secrets
    }

    /// Starts nothing new, and waits for what is in flight; returns how many attempts were cut off.
    pub(super) async fn stop(self, timeout: Duration) -> usize {
        let drains = self.dispatchers.iter().map(|dispatcher| dispatcher.ask(Drain { timeout }));
        let drained = futures_util::future::join_all(drains).await;
        self.dispatchers.iter().for_each(Supervised::stop);
        self.arbiter.stop();
        // A dispatcher that was just being rebuilt has nothing in flight.
        drained.into_iter().map(Result::unwrap_or_default).sum()
    }
}

fn handler(
    parts: &Parts<'_>,
    client: &function::Client,
    function: &Function,
    signings: &mut FunctionSecrets,
) -> anyhow::Result<Arc<dyn Handler>> {
    match &function.handler {
        HandlerConfig::Http { url } => {
            let sealed = |name: &str| parts.log.state().sealed(name);
            let references = &function.signing_secret;
            let secrets = resolve(references, parts.vault, &sealed).context("signing_secret")?;
            let resigner = function.sign_as_provider.then(|| resigner(parts.providers));
            let http = HttpHandler::new(client.clone(), url, function.format, &secrets, resigner);
            let http = http.map_err(|error| anyhow!(error))?;
            // A function without a secret has none to be changed.
            if !references.is_empty() {
                signings.0.push((function.id.clone(), references.clone(), http.signing()));
            }
            Ok(Arc::new(http))
        }
        HandlerConfig::Exec { command, env } => {
            let guard = std::env::current_exe().context("cannot find hookkeeper's own program")?;
            let exec = ExecHandler::new(command, env, function.format, Some(guard));
            Ok(Arc::new(exec.map_err(|error| anyhow!(error))?))
        }
    }
}

/// Signs as the provider does, with the secret that is current when the attempt is made.
fn resigner(providers: &Arc<Providers>) -> Resigner {
    let providers = providers.clone();
    Arc::new(move |event: &StoredEvent, body: &[u8], now: Timestamp| {
        let content = &event.content;
        let missing = || format!("trigger {} has no secret to sign with now", content.trigger_id);
        let signer = providers.signer(&content.trigger_id).ok_or_else(missing)?;
        let request = SignRequest {
            method: &content.method,
            url: &content.url,
            headers: &content.headers,
            body,
            now,
            delivery_id: content.dedupe_key.as_deref().unwrap_or_default(),
            kind: None,
        };
        signer.sign_anew(request).map_err(|error| error.to_string())
    })
}
