//! The connector keeps the contract.

use hookkeeper::testkit::{Subject, Vector, run_connector};
use hookkeeper::{ClientError, Connector, ConnectorRegistry, ProviderCatalog, ProviderId};
use hookkeeper_acme::{Acme, ENTRY};
use serde_json::json;

fn build() -> Box<dyn Connector> {
    Box::new(Acme::new())
}

fn catalog() -> ProviderCatalog {
    ProviderCatalog::with_user_entries(&[ENTRY]).unwrap()
}

#[test]
fn it_passes_the_conformance_kit() {
    let providers = catalog().list_providers();
    let metadata = providers.iter().find(|provider| provider.id.as_str() == "acme").unwrap();
    let vectors = Vector::parse(include_str!("vectors.toml")).unwrap();
    let report = run_connector(&Subject { build: &build, metadata, vectors: &vectors });
    assert!(report.passed(), "{report}");
}

#[test]
fn it_is_built_by_a_registry() {
    let mut registry = ConnectorRegistry::new(catalog());
    registry.register(build);
    let connector = registry.build(&ProviderId::new("acme").unwrap()).unwrap();
    assert_eq!(connector.payload_schema().name(), "AcmeBalanceChange");
}

#[tokio::test]
async fn bad_calls_are_told_before_anything_is_sent() {
    let client = build().client();
    let error = client.call("get_acount", json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no method `get_acount`; did you mean `get_account`?");
    let error = client.call("get_account", json!({"account": "../x"})).await.unwrap_err();
    assert!(matches!(error, ClientError::InvalidArgs { .. }), "{error}");
    let error = client.call("list_changes", json!({})).await.unwrap_err();
    assert!(matches!(error, ClientError::Credentials(_)), "{error}");
}
