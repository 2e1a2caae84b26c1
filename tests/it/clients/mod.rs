//! Clients of providers' APIs, against hosts on loopback that answer as the providers do.

mod bounds;
mod github;
mod more;
mod others;
mod served;
mod slack;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::clock::Clock;
use hookkeeper::config::Outbound;
use hookkeeper::connector::{
    CallOptions, ClientError, ClientParts, ClientSecrets, ClientSettings, ConnectorClient, RestClient,
};
use hookkeeper::event::Timestamp;
use hookkeeper::outbound::Client;
use hookkeeper::permits::{Budget, Profile, RateLimiterFactory};
use hookkeeper::secrets::Secret;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::TlsHost;

/// The token of every client here.
const TOKEN: &str = "tok-hunter22";

/// Secrets by name.
struct Fixed(BTreeMap<String, Secret>);

#[async_trait]
impl ClientSecrets for Fixed {
    async fn secret(&self, name: &str) -> Result<Secret, String> {
        self.0.get(name).cloned().ok_or_else(|| format!("the secret {name} is not there"))
    }
}

/// The client of a provider whose API is served by a host.
struct Api {
    host: TlsHost,
    client: Arc<RestClient>,
    clock: Clock,
}

/// How a client is set up.
struct Setup<'a> {
    provider: &'a str,
    entry: Option<&'a str>,
    /// The host's name, and others that it serves.
    names: &'a [&'a str],
    base_url: Option<&'a str>,
    secrets: &'a [(&'a str, &'a str)],
    settings: &'a [(&'a str, &'a str)],
    allowed: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            provider: "acme",
            entry: None,
            names: &["api.acme.example"],
            base_url: None,
            secrets: &[("token", TOKEN)],
            settings: &[],
            allowed: &["127.0.0.1/32"],
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

impl Api {
    fn new(setup: &Setup<'_>) -> Self {
        let (host, folder) = (TlsHost::start(setup.names), TempDir::new().unwrap());
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &host.ca).unwrap();
        let outbound = Outbound {
            allow_private: setup.allowed.iter().map(|network| network.parse().unwrap()).collect(),
            hosts: setup.names.iter().map(|name| ((*name).to_owned(), host.address)).collect(),
            ca: Some(ca),
        };
        let clock = Clock::fixed(at(0));
        let secrets = setup.secrets.iter().map(|(name, text)| ((*name).to_owned(), Secret::new(*text)));
        let secrets: BTreeMap<String, Secret> = secrets.collect();
        let catalog = match setup.entry {
            Some(entry) => ProviderCatalog::with_user_entries(&[entry]).unwrap(),
            None => ProviderCatalog::built_in(),
        };
        let settings = ClientSettings {
            base_url: setup.base_url.map(str::to_owned),
            settings: setup.settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            secrets: secrets.keys().cloned().collect(),
        };
        let parts = ClientParts {
            http: Arc::new(Client::new(&outbound).unwrap()),
            secrets: Arc::new(Fixed(secrets)),
            permits: RateLimiterFactory::new(clock.clone()),
            clock: clock.clone(),
        };
        // The clock stands still, and no token comes back.
        let budget = Budget { per_second: 1000.0, burst: 1000 };
        parts.permits.register(&setup.provider.parse().unwrap(), Profile::new(budget));
        let client = RestClient::new(catalog.get(setup.provider).unwrap(), &settings, parts).unwrap();
        Self { host, client: Arc::new(client), clock }
    }

    async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError> {
        self.client.call_with(method, args, &options()).await
    }

    /// Calls, which must fail, and returns how; the token is not told.
    async fn failure(&self, method: &str, args: Value) -> ClientError {
        let error = self.call(method, args).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
        error
    }
}

fn options() -> CallOptions {
    let mut options = CallOptions::default();
    options.timeout = Duration::from_secs(20);
    options
}
