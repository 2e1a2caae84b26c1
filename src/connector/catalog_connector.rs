//! The connector of every provider that its catalogue entry describes completely.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::{
    ActivationHandle, Connector, ConnectorClient, ConnectorError, InboundCtx, Judging, KeyRequest, NoMethods,
    NormalizeResult, ProviderPayloadSchema, RawInbound, TriggerBinding, Verifier,
};
use crate::catalog::{ProviderEntry, TriggerKind};
use crate::event::{ProviderId, TriggerId};

/// Interprets one catalogue entry.
///
/// Holds one [`Verifier`] per active binding; activating again replaces them all at once, and
/// requests that are under way finish with the one that they began with.
pub struct CatalogConnector {
    entry: Arc<ProviderEntry>,
    verifiers: ArcSwap<BTreeMap<TriggerId, Arc<Verifier>>>,
    client: Arc<dyn ConnectorClient>,
}

impl CatalogConnector {
    /// Returns the connector of an entry, with nothing active.
    pub fn new(entry: Arc<ProviderEntry>) -> Self {
        Self { entry, verifiers: ArcSwap::default(), client: Arc::new(NoMethods) }
    }

    /// Gives it what calls the provider's API, such as a [`RestClient`](super::RestClient); without, there are
    /// no methods.
    #[must_use]
    pub fn with_client(mut self, client: Arc<dyn ConnectorClient>) -> Self {
        self.client = client;
        self
    }
}

#[async_trait]
impl Connector for CatalogConnector {
    fn provider_id(&self) -> &ProviderId {
        &self.entry.id
    }

    fn kinds(&self) -> &[TriggerKind] {
        &self.entry.kinds
    }

    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        let verifier = |binding: &TriggerBinding| {
            let verifier = Verifier::new(&self.entry, &binding.settings).map_err(|source| {
                ConnectorError::Binding { trigger_id: binding.trigger_id.clone(), source: Box::new(source) }
            })?;
            Ok((binding.trigger_id.clone(), Arc::new(verifier)))
        };
        let verifiers: BTreeMap<_, _> =
            bindings.iter().map(verifier).collect::<Result<_, ConnectorError>>()?;
        let active = verifiers.len();
        self.verifiers.store(Arc::new(verifiers));
        Ok(ActivationHandle::new(self.entry.id.clone(), active))
    }

    fn wanted_keys(&self, raw: &RawInbound, ctx: InboundCtx<'_>) -> Vec<KeyRequest> {
        let verifiers = self.verifiers.load();
        let wanted = verifiers.get(ctx.trigger_id).and_then(|verifier| verifier.wanted_keys(raw));
        wanted.into_iter().collect()
    }

    fn normalize_inbound(
        &self,
        raw: &RawInbound,
        ctx: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        let verifiers = self.verifiers.load();
        let verifier =
            verifiers.get(ctx.trigger_id).ok_or_else(|| ConnectorError::Inactive(ctx.trigger_id.clone()))?;
        Ok(verifier.normalize_inbound(raw, Judging { now: ctx.now, armed: ctx.armed, keys: ctx.keys }))
    }

    fn payload_schema(&self) -> ProviderPayloadSchema {
        ProviderPayloadSchema::named(&self.entry.event.schema)
    }

    fn client(&self) -> Arc<dyn ConnectorClient> {
        self.client.clone()
    }
}
