//! A connector for the invented provider Acme: copy this crate, and change it into yours.
//!
//! Acme tells how balances change. What makes it code and not a catalogue entry: whether a balance rose or fell
//! is a comparison of two numbers, which data cannot say.
//!
//! - `inbound` verifies a request and says which events it is. It has no effects.
//! - `client` calls Acme's API: with a permit, through hookkeeper's guarded client.
//! - This file puts both behind the contract.

mod client;
mod inbound;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use hookkeeper::connector::{ConnectorLog, InboundCtx, PollCtx, Polled, PolledEvent};
use hookkeeper::event::TriggerId;
use hookkeeper::secrets::Secret;
use hookkeeper::{
    ActivationHandle, Connector, ConnectorClient, ConnectorCtx, ConnectorError, NormalizeResult, ProviderId,
    ProviderPayloadSchema, RawInbound, TriggerBinding, TriggerKind,
};
use serde_json::{Value, json};

pub use client::AcmeClient;

/// The provider's entry, for `[[providers]]` or [`ProviderCatalog`](hookkeeper::ProviderCatalog).
pub const ENTRY: &str = include_str!("../acme.toml");

/// The signing secrets of the triggers that are active.
type Active = BTreeMap<TriggerId, Vec<Secret>>;

/// The connector.
pub struct Acme {
    id: ProviderId,
    active: RwLock<Active>,
    client: Arc<AcmeClient>,
    log: Option<Arc<dyn ConnectorLog>>,
}

impl Default for Acme {
    fn default() -> Self {
        Self::new()
    }
}

impl Acme {
    /// Returns the connector; `init` brings what it needs.
    pub fn new() -> Self {
        Self {
            id: ProviderId::new("acme").expect("it is an id"),
            active: RwLock::default(),
            client: Arc::default(),
            log: None,
        }
    }

    fn note(&self, code: &'static str, detail: String) {
        if let Some(log) = &self.log {
            log.append(code, detail);
        }
    }
}

#[async_trait]
impl Connector for Acme {
    fn provider_id(&self) -> &ProviderId {
        &self.id
    }

    fn kinds(&self) -> &[TriggerKind] {
        &[TriggerKind::Webhook, TriggerKind::Poll]
    }

    async fn init(&mut self, ctx: ConnectorCtx) -> Result<(), ConnectorError> {
        let limiter = ctx.rate_limiter.limiter(&self.id, "api");
        self.client = Arc::new(AcmeClient::new(ctx.http, ctx.clock, limiter));
        self.log = Some(ctx.event_log);
        Ok(())
    }

    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        let mut active = Active::new();
        for TriggerBinding { trigger_id, kind, settings } in bindings {
            let secrets = settings.secrets.get("signing_secret").cloned().unwrap_or_default();
            if *kind == TriggerKind::Webhook && secrets.is_empty() {
                return Err(ConnectorError::other(format!("trigger {trigger_id} has no signing_secret")));
            }
            active.insert(trigger_id.clone(), secrets);
        }
        let token = |binding: &TriggerBinding| binding.settings.secrets.get("api_token")?.first().cloned();
        self.client.set_token(bindings.iter().find_map(token));
        // Nothing is changed before all is known to be good.
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = active;
        self.note("activated", format!("{} triggers", bindings.len()));
        Ok(ActivationHandle::new(self.id.clone(), bindings.len()))
    }

    async fn shutdown(&self, _deadline: Duration) {
        self.client.set_token(None);
    }

    fn normalize_inbound(
        &self,
        raw: &RawInbound,
        ctx: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let inactive = || ConnectorError::Inactive(ctx.trigger_id.clone());
        inbound::judge(&self.id, raw, active.get(ctx.trigger_id).ok_or_else(inactive)?, ctx)
    }

    async fn poll_tick(&self, ctx: PollCtx<'_>) -> Result<Polled, ConnectorError> {
        let page = self.client.call("list_changes", json!({"after": ctx.cursor})).await;
        let page = page.map_err(ConnectorError::other)?;
        let changes = page["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let event = |change: &Value| {
            Some(PolledEvent {
                kind: inbound::kind(change),
                dedupe_key: change["id"].as_str()?.to_owned(),
                occurred_at: inbound::occurred_at(change),
                body: change.to_string().into(),
                content_type: "application/json".to_owned(),
            })
        };
        Ok(Polled {
            events: changes.iter().filter_map(event).collect(),
            cursor: page["cursor"].as_str().map(str::to_owned),
            more: page["more"].as_bool().unwrap_or(false),
        })
    }

    fn payload_schema(&self) -> ProviderPayloadSchema {
        ProviderPayloadSchema::named("AcmeBalanceChange")
    }

    fn client(&self) -> Arc<dyn ConnectorClient> {
        self.client.clone()
    }
}
