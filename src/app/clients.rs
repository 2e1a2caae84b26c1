//! From `[clients.<provider>]` to clients that call.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;

use crate::catalog::ProviderCatalog;
use crate::clock::Clock;
use crate::config::{Client, SecretRef};
use crate::connector::{ClientParts, ClientSecrets, ClientSettings, ConnectorClient, RestClient};
use crate::event::ProviderId;
use crate::event_log::Log;
use crate::outbound;
use crate::permits::RateLimiterFactory;
use crate::secrets::{Secret, Vault};

/// The clients of all providers that the configuration has some for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clients(Arc<BTreeMap<ProviderId, Arc<dyn ConnectorClient>>>);

/// What clients are built from.
pub(super) struct Parts<'a> {
    pub(super) clients: &'a [Client],
    pub(super) catalog: &'a ProviderCatalog,
    pub(super) log: &'a Log,
    pub(super) clock: &'a Clock,
    pub(super) vault: &'a Arc<Vault>,
    pub(super) http: &'a Arc<outbound::Client>,
    pub(super) permits: &'a RateLimiterFactory,
}

impl Clients {
    /// Builds the clients. Secrets are looked up when they are used: one that is changed counts at once.
    pub(super) fn build(parts: &Parts<'_>) -> anyhow::Result<Self> {
        let build = |config: &Client| {
            let id = &config.provider;
            let entry = parts.catalog.get(id.as_str());
            let entry = entry.with_context(|| format!("provider {id} is not in the catalogue"))?;
            let settings = ClientSettings {
                base_url: config.base_url.clone(),
                settings: config.settings.clone(),
                secrets: config.secrets.keys().cloned().collect(),
            };
            let secrets = Configured {
                references: config.secrets.clone(),
                vault: parts.vault.clone(),
                log: parts.log.clone(),
            };
            let needs = ClientParts {
                http: parts.http.clone(),
                secrets: Arc::new(secrets),
                permits: parts.permits.clone(),
                clock: parts.clock.clone(),
            };
            let client = RestClient::new(entry, &settings, needs).with_context(|| format!("clients.{id}"))?;
            Ok((id.clone(), Arc::new(client) as Arc<dyn ConnectorClient>))
        };
        Ok(Self(Arc::new(parts.clients.iter().map(build).collect::<anyhow::Result<_>>()?)))
    }

    /// Returns the client of a provider, if the configuration has one.
    pub fn get(&self, provider: &ProviderId) -> Option<&Arc<dyn ConnectorClient>> {
        self.0.get(provider)
    }
}

/// The secrets of one client, as configured.
struct Configured {
    references: BTreeMap<String, Vec<SecretRef>>,
    vault: Arc<Vault>,
    log: Log,
}

#[async_trait]
impl ClientSecrets for Configured {
    async fn secret(&self, name: &str) -> Result<Secret, String> {
        let reference = self.references.get(name).and_then(|list| list.first());
        let reference = reference.cloned().ok_or_else(|| format!("the secret {name} is not configured"))?;
        let (vault, log) = (self.vault.clone(), self.log.clone());
        // A file blocks.
        let look = move || vault.resolve(&reference, &|name: &str| log.state().sealed(name));
        let found = tokio::task::spawn_blocking(look).await.map_err(|_| "the look-up panicked".to_owned())?;
        found.map_err(|error| format!("{error:#}"))
    }
}
