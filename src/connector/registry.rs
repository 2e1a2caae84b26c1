//! Which connector serves which provider.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::bounded::Bounded;
use super::{CatalogConnector, Connector};
use crate::catalog::{ProviderCatalog, ProviderEntry};
use crate::event::ProviderId;

type Factory = Arc<dyn Fn() -> Box<dyn Connector> + Send + Sync>;

/// Builds connectors: the interpreter for whatever the catalogue lists, and others by registration.
///
/// It keeps factories and not connectors, so that a provider's actor can be rebuilt from scratch.
///
/// # Examples
///
/// ```
/// use hookkeeper::connector::CatalogConnector;
/// use hookkeeper::{ConnectorRegistry, ProviderCatalog};
///
/// let catalog = ProviderCatalog::built_in();
/// let github = catalog.get("github").unwrap().clone();
/// let mut registry = ConnectorRegistry::new(catalog);
/// // A connector of your own takes the place of the interpreter; here it is the interpreter again.
/// registry.register(move || Box::new(CatalogConnector::new(github.clone())));
/// assert!(registry.build(&"github".parse().unwrap()).is_some());
/// ```
#[derive(Clone)]
pub struct ConnectorRegistry {
    catalog: ProviderCatalog,
    registered: BTreeMap<ProviderId, Factory>,
}

impl ConnectorRegistry {
    /// Returns a registry of all that the catalogue lists.
    pub fn new(catalog: ProviderCatalog) -> Self {
        Self { catalog, registered: BTreeMap::new() }
    }

    /// Registers the factory of a connector; it takes the place of its provider's interpreter, or fills that of a
    /// placeholder. The catalogue lists the provider from then on, with the connector's kinds and schema, and the
    /// methods of its client where an entry names none; what else its entry says stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use hookkeeper::catalog::ProviderCatalog;
    /// use hookkeeper::connector::{CatalogConnector, ConnectorRegistry};
    ///
    /// let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
    /// let github = registry.catalog().get("github").unwrap().clone();
    /// // A connector of your own stands here.
    /// registry.register(move || Box::new(CatalogConnector::new(github.clone())));
    /// assert!(registry.catalog().get("github").unwrap().is_coded);
    /// ```
    pub fn register(&mut self, factory: impl Fn() -> Box<dyn Connector> + Send + Sync + 'static) {
        let connector = factory();
        let id = connector.provider_id().clone();
        let listed = self.catalog.get(id.as_str()).map(|entry| ProviderEntry::clone(entry));
        let mut entry = listed.unwrap_or_else(|| ProviderEntry::of_code(id.clone()));
        serve(&mut entry, &*connector);
        self.catalog = self.catalog.with(entry);
        self.registered.insert(id, Arc::new(factory));
    }

    /// Describes an entry as it is beside the registered connectors: with its own, if there is one.
    #[cfg(feature = "server")]
    pub(crate) fn described(&self, mut entry: ProviderEntry) -> ProviderEntry {
        if let Some(factory) = self.registered.get(&entry.id) {
            serve(&mut entry, &*factory());
        }
        entry
    }

    /// Builds the connector of a provider, not yet initialized and with nothing active. A placeholder has none.
    pub fn build(&self, provider: &ProviderId) -> Option<Box<dyn Connector>> {
        if let Some(factory) = self.registered.get(provider) {
            return Some(Box::new(Bounded(factory())));
        }
        let entry = self.catalog.get(provider.as_str()).filter(|entry| !entry.is_placeholder())?;
        Some(Box::new(CatalogConnector::new(entry.clone())))
    }

    /// Returns the catalogue behind the registry, and in it the providers of all registered connectors.
    pub fn catalog(&self) -> &ProviderCatalog {
        &self.catalog
    }
}

/// Has an entry say that it is served by a connector in code.
fn serve(entry: &mut ProviderEntry, connector: &dyn Connector) {
    entry.is_coded = true;
    entry.kinds = connector.kinds().to_vec();
    connector.payload_schema().name().clone_into(&mut entry.event.schema);
    if entry.outbound.is_empty() {
        // One that can say nothing of itself yet serves all the same.
        let methods = catch_unwind(AssertUnwindSafe(|| connector.client().methods()));
        entry.outbound = methods.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::catalog::{ProviderMetadata, RuntimeKind, TriggerKind};
    use crate::connector::{
        ActivationHandle, ConnectorError, InboundCtx, NormalizeResult, ProviderPayloadSchema, RawInbound,
        TriggerBinding, TriggerSettings,
    };
    use crate::event::{RejectReason, Timestamp, TriggerId};

    struct Mine(ProviderId);

    #[async_trait]
    impl Connector for Mine {
        fn provider_id(&self) -> &ProviderId {
            &self.0
        }
        fn kinds(&self) -> &[TriggerKind] {
            &[TriggerKind::Webhook]
        }
        async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
            Ok(ActivationHandle::new(self.0.clone(), bindings.len()))
        }
        fn normalize_inbound(
            &self,
            _: &RawInbound,
            ctx: InboundCtx<'_>,
        ) -> Result<NormalizeResult, ConnectorError> {
            Err(ConnectorError::Inactive(ctx.trigger_id.clone()))
        }
        fn payload_schema(&self) -> ProviderPayloadSchema {
            ProviderPayloadSchema::named("Mine")
        }
    }

    fn provider(id: &str) -> ProviderId {
        ProviderId::new(id).unwrap()
    }

    #[test]
    fn a_registered_connector_takes_the_interpreters_place() {
        let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
        let schema = |registry: &ConnectorRegistry, id: &str| {
            registry.build(&provider(id)).map(|connector| connector.payload_schema().name().to_owned())
        };
        assert_eq!(schema(&registry, "github").as_deref(), Some("GitHubEventPayload"));
        assert_eq!(schema(&registry, "acme"), None);
        registry.register(|| Box::new(Mine(provider("github"))));
        registry.register(|| Box::new(Mine(provider("acme"))));
        assert_eq!(schema(&registry, "github").as_deref(), Some("Mine"));
        assert_eq!(schema(&registry, "acme").as_deref(), Some("Mine"));
        for (id, is_coded) in [("github", true), ("acme", true), ("stripe", false)] {
            assert_eq!(registry.catalog().get(id).unwrap().is_coded, is_coded, "{id}");
        }
        let github = registry.catalog().get("github").unwrap();
        assert_eq!(github.event.schema, "Mine");
        assert_eq!(github.secrets.len(), 1, "what else the catalogue says stays");
    }

    #[test]
    fn a_placeholder_has_no_connector_until_one_is_registered() {
        let entry = "id = \"acme\"\nconnector = \"code\"\ndocs = \"https://acme.example\"\nlike = \"stripe\"";
        let like = "id = \"emca\"\nlike = \"acme\"";
        let mut registry =
            ConnectorRegistry::new(ProviderCatalog::with_user_entries(&[entry, like]).unwrap());
        let metadata = |registry: &ConnectorRegistry, id: &str| {
            ProviderMetadata::of(registry.catalog().get(id).unwrap())
        };
        for id in ["acme", "emca"] {
            assert_eq!(metadata(&registry, id).runtime, RuntimeKind::Placeholder, "{id}");
            assert!(registry.build(&provider(id)).is_none(), "its data must not be interpreted: {id}");
        }
        let before = metadata(&registry, "acme");
        registry.register(|| Box::new(Mine(provider("acme"))));
        assert_eq!(registry.build(&provider("acme")).unwrap().payload_schema().name(), "Mine");
        let (runtime, payload_schema) = (RuntimeKind::Registered, "Mine".to_owned());
        let expected = ProviderMetadata { runtime, payload_schema, ..before };
        assert_eq!(metadata(&registry, "acme"), expected, "what else the entry says stays");
        assert_eq!(metadata(&registry, "emca").runtime, RuntimeKind::Placeholder);
    }

    #[tokio::test]
    async fn the_interpreter_judges_active_triggers_only() {
        let registry = ConnectorRegistry::new(ProviderCatalog::built_in());
        let connector = registry.build(&provider("github")).unwrap();
        let trigger = |id: &str| TriggerId::new(id).unwrap();
        let binding = TriggerBinding {
            trigger_id: trigger("a"),
            kind: TriggerKind::Webhook,
            settings: TriggerSettings::default(),
        };
        let handle = connector.activate(std::slice::from_ref(&binding)).await.unwrap();
        assert_eq!((handle.provider_id(), handle.active_bindings()), (&provider("github"), 1));

        let raw = RawInbound {
            method: "POST".into(),
            url: "/".into(),
            headers: Vec::new(),
            body: "".into(),
            received_at: Timestamp::UNIX_EPOCH,
            peer: None,
        };
        let judge = |id: &TriggerId| {
            connector.normalize_inbound(
                &raw,
                InboundCtx { trigger_id: id, now: raw.received_at, armed: false, keys: &[], audit: &|_| () },
            )
        };
        let Ok(NormalizeResult::Reject(rejection)) = judge(&trigger("a")) else {
            panic!("nothing was signed")
        };
        assert_eq!(rejection.reason, RejectReason::MissingHeader);
        assert!(matches!(judge(&trigger("b")), Err(ConnectorError::Inactive(_))));
    }

    #[tokio::test]
    async fn a_binding_that_cannot_be_activated_is_named() {
        let connector = CatalogConnector::new(ProviderCatalog::built_in().get("hmac").unwrap().clone());
        let binding = TriggerBinding {
            trigger_id: TriggerId::new("billing").unwrap(),
            kind: TriggerKind::Webhook,
            settings: TriggerSettings::default(),
        };
        let error = connector.activate(&[binding]).await.unwrap_err().to_string();
        assert!(error.contains("billing"), "{error}");
    }
}
