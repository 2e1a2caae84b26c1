//! The credentials of a client from wherever secrets are kept by name, within its provider's own namespace.

use std::sync::Arc;

use async_trait::async_trait;

use super::ClientSecrets;
use crate::event::ProviderId;
use crate::secrets::{Secret, SecretId, SecretProvider};

/// Gives a client the secrets of its provider's namespace, and no others.
pub struct OwnSecrets {
    provider: ProviderId,
    secrets: Arc<dyn SecretProvider>,
}

impl OwnSecrets {
    /// Returns the secrets of a provider among all that there are.
    pub fn new(provider: ProviderId, secrets: Arc<dyn SecretProvider>) -> Self {
        Self { provider, secrets }
    }
}

#[async_trait]
impl ClientSecrets for OwnSecrets {
    async fn secret(&self, name: &str) -> Result<Secret, String> {
        let id = SecretId::new(self.provider.as_str(), name).map_err(|error| error.to_string())?;
        self.secrets.get(&id).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretError;

    /// Every secret is its own name.
    struct Named;

    #[async_trait]
    impl SecretProvider for Named {
        async fn get(&self, id: &SecretId) -> Result<Secret, SecretError> {
            Ok(Secret::new(id.to_string()))
        }
    }

    #[tokio::test]
    async fn a_client_gets_what_is_in_its_providers_namespace() {
        let own = OwnSecrets::new("slack".parse().unwrap(), Arc::new(Named));
        assert_eq!(own.secret("token").await.unwrap(), Secret::new("slack/token"));
        assert!(own.secret("../github/token").await.is_err());
    }
}
