//! Calls of the API that a connector offers.

use serde_json::Value;

use super::*;
use crate::connector::ClientError;

/// Has one method, which acts as the script says.
pub(super) struct ScriptedClient(pub(super) Arc<Script>);

#[async_trait]
impl ConnectorClient for ScriptedClient {
    fn methods(&self) -> Vec<String> {
        self.0.act("methods").expect("it does not fail");
        vec!["act".to_owned()]
    }

    async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError> {
        match method {
            "act" => self
                .0
                .act_async("call")
                .await
                .map(|()| args)
                .map_err(|error| ClientError::Other(error.into())),
            _ => Err(ClientError::unknown_method(method, &self.methods())),
        }
    }
}

impl House {
    /// Calls a method as an operator does; returns the status and the answer.
    async fn call(&self, body: Value) -> (u16, Value) {
        self.call_of("acme", body).await
    }

    async fn call_of(&self, provider: &str, body: Value) -> (u16, Value) {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("http://{}/api/v1/providers/{provider}/call", self.running.started.admin);
        let post = client.post(url).header("content-type", "application/json").body(body.to_string());
        let answer = post.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }
}

#[actix::test]
async fn a_call_that_fails_says_why_and_costs_nothing_else() {
    let house = House::start(Script::new(&[(
        "call",
        &[Does::Works, Does::Fails, Does::Panics, Does::FailsAtLength, Does::Hangs],
    )]))
    .await;
    let call = async |timeout: &str| {
        house.call(json!({"method": "act", "args": {"a": 1}, "timeout": timeout})).await
    };
    assert_eq!(call("1m").await, (200, json!({"result": {"a": 1}})));
    for (timeout, status, code, told) in [
        ("1m", 502, "failed", "call is not to be had"),
        ("1m", 502, "failed", "the connector panicked"),
        ("1m", 502, "failed", "éé"),
        ("50ms", 504, "timeout", "no answer within 50 ms"),
    ] {
        let (answered, problem) = call(timeout).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(told) && detail.len() <= 1_024, "{detail}");
    }
    let (status, problem) = house.call(json!({"method": "akt"})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_method")));
    assert_eq!(call("1m").await.0, 200);
    house.stop().await;
}

#[actix::test]
#[allow(
    clippy::await_holding_lock,
    reason = "what it blocks is another thread, for as long as the test lasts"
)]
async fn a_call_that_blocks_its_thread_is_cut_off_and_holds_up_nobody() {
    let script = Script::new(&[("call", &[Does::Blocks])]);
    let blocked = script.clone();
    let _blocked = blocked.blocked.lock().unwrap();
    let house = House::start(script).await;
    let (status, problem) = house.call(json!({"method": "act", "timeout": "50ms"})).await;
    assert_eq!((status, &problem["code"]), (504, &json!("timeout")));
    assert_eq!(house.admin("/readyz").await, json!({"status": "ok"}));
    assert_eq!((house.acme("a\n1").await.status().as_u16(), house.github("1").await), (200, 200));
    house.stop().await;
}

#[actix::test]
async fn calls_of_a_slow_api_leave_places_to_others() {
    let script = Script::new(&[("call", &[Does::Hangs; 40])]);
    let house = House::start(script.clone()).await;
    let (status, problem) = {
        let slow = futures_util::future::join_all((0..40).map(|_| house.call(json!({"method": "act"}))));
        let other = async {
            house.holds("its calls", || script.calls("call") >= 16).await;
            house.call_of("github", json!({"method": "request"})).await
        };
        tokio::select! {
            other = other => other,
            slow = slow => panic!("they hang: {slow:?}"),
        }
    };
    assert_eq!((status, &problem["code"]), (404, &json!("no_client")), "it is answered while they wait");
    assert_eq!(script.calls("call"), 16, "as many as one may make");
    house.stop().await;
}

#[actix::test]
async fn a_connector_that_did_not_begin_has_no_client_and_says_where_to_look() {
    let house = House::start(Script::new(&[("init", &[Does::Fails])])).await;
    house.until("a failure", |it| it.failure.is_some()).await;
    let (status, problem) = house.call(json!({"method": "act"})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_client")));
    assert!(problem["detail"].as_str().unwrap().contains("triggers list"), "{problem}");
    house.stop().await;
}

#[actix::test]
async fn the_catalogue_lists_the_methods_of_a_registered_connector() {
    let script = Script::new(&[]);
    let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
    registry.register(move || Box::new(Scripted { id: "acme".parse().unwrap(), script: script.clone() }));
    assert_eq!(registry.catalog().get("acme").unwrap().outbound, ["act"]);
    let script = Script::new(&[("methods", &[Does::Panics])]);
    registry.register(move || Box::new(Scripted { id: "emca".parse().unwrap(), script: script.clone() }));
    assert!(registry.catalog().get("emca").unwrap().outbound.is_empty(), "it is registered all the same");
}
