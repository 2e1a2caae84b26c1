//! Calls of the API that a connector in code offers, made where its other callbacks run: one that blocks its
//! thread or panics costs the caller nothing but this call.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::callbacks::{Callbacks, Unfinished};
use crate::connector::{CallOptions, ClientError, ConnectorClient};

/// A connector's client whose calls are bounded and contained.
pub(super) struct ContainedClient {
    pub(super) client: Arc<dyn ConnectorClient>,
    pub(super) callbacks: Callbacks,
}

#[async_trait]
impl ConnectorClient for ContainedClient {
    fn methods(&self) -> Vec<String> {
        self.client.methods()
    }

    async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError> {
        self.call_with(method, args, &CallOptions::default()).await
    }

    async fn call_with(
        &self,
        method: &str,
        args: Value,
        options: &CallOptions,
    ) -> Result<Value, ClientError> {
        let (client, method, made_with) = (self.client.clone(), method.to_owned(), options.clone());
        let call = async move { client.call_with(&method, args, &made_with).await };
        match self.callbacks.call(options.timeout, call).await {
            Ok(called) => called,
            Err(Unfinished::CutOff(limit)) => Err(ClientError::Timeout { limit }),
            Err(panicked @ Unfinished::Panicked) => Err(ClientError::Other(panicked.into())),
        }
    }
}
