//! What the admin API asks of the running server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::Clients;
use crate::admin::{ProviderStatus, Runtime, TriggerStatus};
use crate::connector::{ConnectorClient, FetchedKey, RawInbound, Verifier};
use crate::event::{Fingerprint, ProviderId, Timestamp, TriggerId};
use crate::event_log::Ingested;
use crate::front_door::Door;
use crate::provider::{Change, ChangeError, ProviderHandle, Providers, TriggerSnapshot};
use crate::quarantine::ReleaseError;

/// The provider actors and the front door, as the admin API sees them.
pub(super) struct ProviderRuntime {
    pub(super) providers: Arc<Providers>,
    pub(super) door: Arc<Door>,
    pub(super) keeper: super::keeper::Parts,
    pub(super) clients: Clients,
}

#[async_trait]
impl Runtime for ProviderRuntime {
    fn triggers(&self) -> Vec<TriggerStatus> {
        let of_provider =
            |handle| ProviderHandle::triggers(handle).map(move |trigger| status(handle, &trigger));
        self.providers.iter().flat_map(of_provider).collect()
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        let status = |provider: &ProviderHandle| {
            let mut triggers = BTreeMap::new();
            for trigger in provider.triggers() {
                *triggers.entry(trigger.activation().as_str()).or_default() += 1;
            }
            let (id, metrics) = (provider.id().clone(), provider.metrics().counts());
            ProviderStatus { id, triggers, metrics, rebuilds: provider.rebuilds() }
        };
        self.providers.iter().map(status).collect()
    }

    async fn change_trigger(&self, id: &TriggerId, change: Change) -> Result<(), ChangeError> {
        let provider = self.providers.of_trigger(id).ok_or_else(|| ChangeError::NoTrigger(id.clone()))?;
        provider.change(id, change).await
    }

    async fn secret_changed(&self, name: &str) {
        // A connector in code asks for those of its own namespace by itself.
        let is_of =
            |id: &ProviderId| name.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('/'));
        for provider in self.providers.iter().filter(|provider| is_of(provider.id())) {
            provider.end_pause();
        }
        self.keeper.refresh().await;
    }

    fn secret_successes(&self, trigger_id: &TriggerId) -> Vec<(Fingerprint, Timestamp)> {
        let mut triggers = self.providers.iter().flat_map(ProviderHandle::triggers);
        let Some(trigger) = triggers.find(|trigger| trigger.trigger_id == *trigger_id) else {
            return Vec::new();
        };
        let slots = trigger.secrets.iter().filter(|slot| slot.is_main());
        slots.filter_map(|slot| Some((slot.fingerprint, slot.last_success()?))).collect()
    }

    fn known_keys(&self, trigger_id: &TriggerId, verifier: &Verifier, raw: &RawInbound) -> Vec<FetchedKey> {
        let Some(wanted) = verifier.wanted_keys(raw) else { return Vec::new() };
        let provider = self.providers.of_trigger(trigger_id);
        let document = provider.and_then(|provider| provider.keys().known(&wanted));
        document.map(|document| wanted.pick(&document)).unwrap_or_default()
    }

    fn client(&self, provider: &ProviderId) -> Option<Arc<dyn ConnectorClient>> {
        // What the configuration says of a client stands in place of what a connector offers by itself.
        self.clients.get(provider).cloned().or_else(|| {
            let client = self.providers.iter().find(|handle| handle.id() == provider)?.client()?;
            (!client.methods().is_empty()).then_some(client)
        })
    }

    async fn release(&self, trigger_id: &TriggerId, raw: RawInbound) -> Result<Vec<Ingested>, ReleaseError> {
        self.door.release(trigger_id, raw).await
    }
}

fn status(provider: &ProviderHandle, trigger: &TriggerSnapshot) -> TriggerStatus {
    let counters = &trigger.fixed.counters;
    TriggerStatus {
        id: trigger.trigger_id.clone(),
        activation: trigger.activation(),
        failure: trigger.failure.clone(),
        polling: trigger.fixed.polling(),
        accepted: counters.accepted.load(Ordering::Relaxed),
        duplicates: counters.duplicates.load(Ordering::Relaxed),
        rejected: counters.rejected.load(Ordering::Relaxed),
        last_accepted_at: counters.last_accepted_at(),
        rebuilds: provider.rebuilds(),
    }
}
