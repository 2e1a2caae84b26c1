//! Connectors in code, served by a whole server in this process whose clock is moved: their lifecycle, what
//! their failures cost, and that they disturb no other provider.

mod answers;
mod calls;
mod judging;
mod polls;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::catalog::ProviderCatalog;
use crate::config::{self, Dedupe, SecretRef, Trigger, TriggerKind};
use crate::connector::{
    ActivationHandle, BuildError, Connector, ConnectorClient, ConnectorCtx, ConnectorError, InboundCtx,
    KeyRequest, NormalizeResult, Normalized, PollCtx, Polled, PolledEvent, ProviderPayloadSchema, RawInbound,
    SignRequest, Signer, TriggerBinding, TriggerSettings,
};
use crate::event::{ProviderId, SignatureStatus, Timestamp, TriggerId};
use crate::event_log::record::Record;
use crate::provider::{Activation, TriggerSnapshot};
use crate::secrets::Secret;

const NOW: i64 = 1_800_000_000;
const SECRET: &str = "It's a Secret to Everybody";

/// What a callback does when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Works,
    Fails,
    Panics,
    /// Fails with an error that panics when it is to be told.
    FailsUntold,
    /// Fails with an error that nobody reads to its end.
    FailsAtLength,
    Hangs,
    /// Holds its thread until the test has ended.
    Blocks,
}

/// What all lives of a connector share with the test.
#[derive(Default)]
struct Script {
    /// What the callback of a name does, by the number of its call; beyond the list it works.
    plan: Mutex<BTreeMap<&'static str, Vec<Does>>>,
    calls: Mutex<BTreeMap<&'static str, usize>>,
    /// Secrets of the last activation.
    bindings: Mutex<Vec<TriggerBinding>>,
    blocked: Mutex<()>,
    deadline_ms: AtomicU32,
    /// What the provider has: polls bring some at a time, the cursor being how many came.
    feed: Mutex<Vec<PolledEvent>>,
    /// What each poll was asked with.
    asked: Mutex<Vec<Option<String>>>,
    /// Whether there is a second poll trigger, `orders`, which always has one new event.
    has_orders: bool,
    /// Where the secret of `acme` stands, if in a file.
    secret_file: Option<std::path::PathBuf>,
    /// The connector will not have this trigger.
    refused: Option<&'static str>,
    /// Polls always say that there is more.
    always_more: bool,
}

/// Events that one poll brings.
const FEED_AT_ONCE: usize = 2;

impl Script {
    fn new(plan: &[(&'static str, &[Does])]) -> Arc<Self> {
        let plan = plan.iter().map(|(name, does)| (*name, does.to_vec())).collect();
        Arc::new(Self { plan: Mutex::new(plan), ..Self::default() })
    }

    fn calls(&self, name: &'static str) -> usize {
        self.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// Counts a call; says what it does.
    fn next(&self, name: &'static str) -> Does {
        let mut calls = self.calls.lock().unwrap();
        let call = calls.entry(name).or_default();
        *call += 1;
        let plan = self.plan.lock().unwrap();
        plan.get(name).and_then(|does| does.get(*call - 1)).copied().unwrap_or(Does::Works)
    }

    fn act(&self, name: &'static str) -> Result<(), ConnectorError> {
        match self.next(name) {
            Does::Works => Ok(()),
            Does::Fails => Err(ConnectorError::other(format!("{name} is not to be had"))),
            Does::Panics => panic!("on purpose, in {name}"),
            Does::FailsUntold => Err(ConnectorError::other(Untold)),
            Does::FailsAtLength => Err(ConnectorError::other("é".repeat(1_000_000))),
            Does::Blocks => {
                drop(self.blocked.lock());
                Ok(())
            }
            Does::Hangs => unreachable!("{name} does not wait"),
        }
    }

    async fn act_async(&self, name: &'static str) -> Result<(), ConnectorError> {
        match self.next(name) {
            Does::Hangs => std::future::pending().await,
            Does::Blocks => {
                drop(self.blocked.lock());
                Ok(())
            }
            Does::Works => Ok(()),
            Does::Fails => Err(ConnectorError::other(format!("{name} is not to be had"))),
            Does::Panics => panic!("on purpose, in {name}"),
            Does::FailsUntold => Err(ConnectorError::other(Untold)),
            Does::FailsAtLength => Err(ConnectorError::other("é".repeat(1_000_000))),
        }
    }
}

/// An error whose text is not to be had without a panic, which is in the code of who asks for it.
#[derive(Debug)]
struct Untold;

impl std::error::Error for Untold {}

impl std::fmt::Display for Untold {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose, in the text of an error");
    }
}

/// A connector that takes any body whose first line is the trigger's secret; the second is its kind.
struct Scripted {
    id: ProviderId,
    script: Arc<Script>,
}

#[async_trait]
impl Connector for Scripted {
    fn provider_id(&self) -> &ProviderId {
        &self.id
    }

    fn kinds(&self) -> &[crate::connector::TriggerKind] {
        &[crate::connector::TriggerKind::Webhook, crate::connector::TriggerKind::Poll]
    }

    async fn init(&mut self, ctx: ConnectorCtx) -> Result<(), ConnectorError> {
        ctx.event_log.append("begun", "as it should be".to_owned());
        ctx.metrics.counter("begun").add(1);
        self.script.act_async("init").await
    }

    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        self.script.act_async("activate").await?;
        if let Some(refused) = bindings.iter().find(|it| Some(it.trigger_id.as_str()) == self.script.refused)
        {
            let (provider, name) = (self.id.to_string(), "project".to_owned());
            let source = Box::new(BuildError::UnknownSetting { provider, name, known: String::new() });
            return Err(ConnectorError::Binding { trigger_id: refused.trigger_id.clone(), source });
        }
        *self.script.bindings.lock().unwrap() = bindings.to_vec();
        Ok(ActivationHandle::new(self.id.clone(), bindings.len()))
    }

    async fn shutdown(&self, deadline: Duration) {
        self.script.deadline_ms.store(deadline.as_millis() as u32, Ordering::SeqCst);
        let _ = self.script.act_async("shutdown").await;
    }

    fn wanted_keys(&self, _: &RawInbound, _: InboundCtx<'_>) -> Vec<KeyRequest> {
        let _ = self.script.act("wanted_keys");
        Vec::new()
    }

    fn normalize_inbound(
        &self,
        raw: &RawInbound,
        ctx: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        self.script.act("normalize_inbound")?;
        let bindings = self.script.bindings.lock().unwrap();
        let binding = bindings.iter().find(|binding| binding.trigger_id == *ctx.trigger_id);
        let binding = binding.ok_or_else(|| ConnectorError::Inactive(ctx.trigger_id.clone()))?;
        let text = String::from_utf8_lossy(&raw.body);
        let mut lines = text.lines();
        let secret = Secret::new(lines.next().unwrap_or_default());
        assert!(binding.settings.secrets["api_key"].contains(&secret), "the test sends the secret");
        let event = Normalized {
            kind: lines.next().unwrap_or("unknown").to_owned(),
            dedupe_key: lines.next().map(str::to_owned),
            occurred_at: None,
            signature_status: SignatureStatus::Verified { covers_body: false },
            secret_index: Some(0),
            part: None,
        };
        if let Some(answer) = answers::wanted(&event) {
            return Ok(answer);
        }
        let count: usize = lines.next().map_or(1, |count| count.parse().unwrap());
        Ok(if count == 1 {
            NormalizeResult::Event(event)
        } else {
            NormalizeResult::Batch(vec![event; count])
        })
    }

    async fn poll_tick(&self, ctx: PollCtx<'_>) -> Result<Polled, ConnectorError> {
        if ctx.trigger_id.as_str() == "orders" {
            self.script.act_async("poll_orders").await?;
            return Ok(polls::an_order(self.script.calls("poll_orders")));
        }
        self.script.act_async("poll_tick").await?;
        self.script.asked.lock().unwrap().push(ctx.cursor.map(str::to_owned));
        let feed = self.script.feed.lock().unwrap();
        let from: usize = ctx.cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let events: Vec<_> = feed.iter().skip(from).take(FEED_AT_ONCE).cloned().collect();
        let come = from + events.len();
        Ok(Polled {
            more: self.script.always_more || come < feed.len(),
            cursor: Some(come.to_string()),
            events,
        })
    }

    fn payload_schema(&self) -> ProviderPayloadSchema {
        ProviderPayloadSchema::named("AcmePayload")
    }

    fn client(&self) -> Arc<dyn ConnectorClient> {
        Arc::new(calls::ScriptedClient(self.script.clone()))
    }
}

fn trigger(provider: &str, secret: (&str, SecretRef)) -> Trigger {
    Trigger {
        id: provider.parse().unwrap(),
        provider: provider.parse().unwrap(),
        kind: TriggerKind::Webhook,
        path: format!("/hooks/{provider}"),
        secrets: [(secret.0.to_owned(), vec![secret.1])].into(),
        tolerance: None,
        dedupe_window: Duration::from_secs(3600),
        dedupe: Dedupe::Delivery,
        rate_limit: None,
        settings: Default::default(),
        public_keys: Vec::new(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// A server with the connector `acme` in code, and `github` beside it.
struct House {
    running: Running,
    clock: Clock,
    script: Arc<Script>,
    folder: tempfile::TempDir,
}

impl House {
    async fn start(script: Arc<Script>) -> Self {
        Self::with(script, SecretRef::Literal(SECRET.to_owned())).await
    }

    async fn with(script: Arc<Script>, github_secret: SecretRef) -> Self {
        Self::open(tempfile::tempdir().unwrap(), Clock::fixed(now()), script, github_secret).await
    }

    async fn open(
        folder: tempfile::TempDir,
        clock: Clock,
        script: Arc<Script>,
        github_secret: SecretRef,
    ) -> Self {
        let settings = [("project".to_owned(), "7".to_owned())].into();
        let literal = SecretRef::Literal("k3y".to_owned());
        let acme = trigger("acme", ("api_key", script.secret_file.clone().map_or(literal, SecretRef::File)));
        let polls = Trigger {
            id: "tickets".parse().unwrap(),
            kind: TriggerKind::Poll(config::Poll { every: Duration::from_secs(60) }),
            path: String::new(),
            ..trigger("acme", ("api_key", SecretRef::Literal("k3y".to_owned())))
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let orders = Trigger { id: "orders".parse().unwrap(), ..polls.clone() };
        let orders = script.has_orders.then_some(orders);
        let server = config::Server { listen: loopback, admin: loopback, workers: 1, ..Default::default() };
        let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
        let scripted = script.clone();
        registry
            .register(move || Box::new(Scripted { id: "acme".parse().unwrap(), script: scripted.clone() }));
        let options = ServeOptions {
            config: Config {
                server,
                log: config::Log { path: folder.path().join("data") },
                secrets: Default::default(),
                outbound: Default::default(),
                triggers: [
                    Trigger { settings, ..acme },
                    trigger("github", ("signing_secret", github_secret)),
                    polls,
                ]
                .into_iter()
                .chain(orders)
                .collect(),
                functions: Vec::new(),
                clients: Vec::new(),
                providers: Vec::new(),
            },
            registry,
            clock: clock.clone(),
            store: None,
            started: Box::new(|_| ()),
        };
        let running = Running::start(&options).await.unwrap();
        Self { running, clock, script, folder }
    }

    async fn post(&self, path: &str, headers: Vec<(String, String)>, body: String) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut request = client.post(format!("http://{}{path}", self.running.started.listen)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    async fn acme(&self, rest: &str) -> reqwest::Response {
        self.post("/hooks/acme", Vec::new(), format!("k3y\n{rest}")).await
    }

    async fn acme_with(&self, rest: String) -> u16 {
        self.acme(&rest).await.status().as_u16()
    }

    /// Sends a signed delivery of the provider that must not be disturbed.
    async fn github(&self, id: &str) -> u16 {
        let entry = ProviderCatalog::built_in().get("github").unwrap().clone();
        let signer =
            Signer::new(&entry, &TriggerSettings::of_secrets([Secret::new(SECRET)])).unwrap().unwrap();
        let body = "{}".to_owned();
        let signed = signer.sign(SignRequest {
            method: "POST",
            url: "/hooks/github",
            headers: &[],
            body: body.as_bytes(),
            now: self.clock.now(),
            delivery_id: id,
            kind: None,
        });
        self.post("/hooks/github", signed.unwrap().headers, body).await.status().as_u16()
    }

    /// Asks the admin API, which answers 200.
    async fn admin(&self, path: &str) -> serde_json::Value {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let answer = client.get(format!("http://{}{path}", self.running.started.admin)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Keeps a secret of this name, as an operator does.
    async fn keep(&self, name: &str) {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("http://{}/api/v1/secrets/{name}", self.running.started.admin);
        let put = client.put(url).header("content-type", "application/json").body(r#"{"value": "hunter2"}"#);
        let answer = put.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
    }

    /// Returns a trigger as the admin API shows it.
    async fn shown(&self, id: &str) -> serde_json::Value {
        let triggers = self.admin("/api/v1/triggers").await;
        let mut items = triggers["items"].as_array().unwrap().iter();
        items.find(|item| item["id"] == id).unwrap().clone()
    }

    fn snapshot(&self, id: &str) -> Arc<TriggerSnapshot> {
        let id: TriggerId = id.parse().unwrap();
        let mut all = self.running.providers.iter().flat_map(|provider| provider.triggers());
        all.find(|trigger| trigger.trigger_id == id).unwrap()
    }

    /// Waits for a state of `acme`.
    async fn until(&self, what: &str, holds: impl Fn(&TriggerSnapshot) -> bool) -> Arc<TriggerSnapshot> {
        let waiting = async {
            loop {
                let snapshot = self.snapshot("acme");
                if holds(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        found.unwrap_or_else(|_| panic!("{what}: {:?}", self.snapshot("acme").failure))
    }

    async fn holds(&self, what: &str, holds: impl Fn() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{what}"));
    }

    async fn stop(self) {
        self.running.stop(Duration::from_secs(2)).await.unwrap();
    }
}

#[actix::test]
async fn a_provider_that_only_a_connector_knows_is_served() {
    let house = House::start(Script::new(&[])).await;
    assert_eq!(house.snapshot("acme").activation(), Activation::Active);
    let answer = house.acme("order.paid\n7").await;
    assert_eq!(answer.status(), 200);
    let id = answer.headers()["x-hookkeeper-event-id"].to_str().unwrap().parse().unwrap();
    let event = house.running.log.event(id).unwrap().unwrap();
    assert_eq!((event.content.kind.as_str(), event.content.schema.as_str()), ("order.paid", "AcmePayload"));
    assert_eq!(event.content.dedupe_key.as_deref(), Some("7"));
    let sent = vec![("authorization".to_owned(), "Bearer t0k3n".to_owned())];
    let answer = house.post("/hooks/acme", sent, "k3y\norder.paid\n8".to_owned()).await;
    let id = answer.headers()["x-hookkeeper-event-id"].to_str().unwrap().parse().unwrap();
    let stored = house.running.log.event(id).unwrap().unwrap();
    assert!(!format!("{stored:?}").contains("t0k3n"), "credentials are not stored, whatever the settings");
    let again = house.acme("order.paid\n7").await;
    assert_eq!(again.headers()["x-hookkeeper-duplicate"], "true");
    let acme = house.running.providers.of_trigger(&"acme".parse().unwrap()).unwrap();
    assert_eq!(acme.metrics().counts(), [("begun", 1)].into());
    let script = house.script.clone();
    let lines = || house.running.log.read_topic("connector.acme", None, 10).unwrap().items;
    house.holds("the connector's line", || !lines().is_empty()).await;
    let (_, Record::Audit(line)) = lines().remove(0) else { panic!("it is a line of an audit") };
    assert_eq!((line.code.as_str(), line.detail.as_str()), ("begun", "as it should be"));
    house.stop().await;
    assert_eq!(script.calls("shutdown"), 1);
    assert_eq!(script.deadline_ms.load(Ordering::SeqCst), 500, "a quarter of the stop timeout");
}

#[actix::test]
#[allow(
    clippy::await_holding_lock,
    reason = "what it blocks is another thread, for as long as the test lasts"
)]
async fn one_that_hangs_blocks_neither_the_start_nor_others() {
    for (callback, does) in [("init", Does::Hangs), ("activate", Does::Hangs), ("init", Does::Blocks)] {
        let script = Script::new(&[(callback, &[does])]);
        let blocked = script.clone();
        let _blocked = blocked.blocked.lock().unwrap();
        let house = House::start(script).await;
        assert_eq!(house.snapshot("acme").activation(), Activation::Starting, "{callback}");
        let refused = house.acme("a\n1").await;
        assert_eq!(refused.status(), 503, "{callback}");
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(house.github("1").await, 200);
        house.stop().await;
    }
}

#[actix::test]
async fn one_that_fails_is_tried_again_with_growing_pauses() {
    for callback in ["init", "activate"] {
        let house = House::start(Script::new(&[(callback, &[Does::Fails; 3])])).await;
        let mut pauses = Vec::new();
        for attempt in 1..=3 {
            let failed = house
                .until("a failure", |it| it.failure.as_ref().is_some_and(|it| it.attempts == attempt))
                .await;
            let failure = failed.failure.clone().unwrap();
            assert_eq!(failed.activation(), Activation::Failed);
            assert!(failure.reason.contains(&format!("{callback} is not to be had")), "{}", failure.reason);
            assert_eq!(house.acme("a\n1").await.status(), 503);
            assert_eq!(house.github(&attempt.to_string()).await, 200);
            pauses.push(failure.next_at.duration_since(house.clock.now()).as_secs());
            let shown = house.shown("acme").await;
            assert_eq!((&shown["state"], &shown["attempts"]), (&json!("failed"), &json!(attempt)));
            assert_eq!(
                (&shown["reason"], &shown["next_attempt_at"]),
                (&json!(failure.reason), &json!(failure.next_at))
            );
            let failing = json!({"activations": ["acme", "tickets"], "polls": []});
            assert_eq!(house.admin("/readyz").await, json!({"status": "ok", "failing": failing}));
            house.clock.set(failure.next_at);
        }
        house
            .until("an activation", |it| it.activation() == Activation::Active && it.failure.is_none())
            .await;
        assert_eq!(pauses, [1, 2, 4]);
        assert_eq!(house.shown("acme").await["reason"], json!(null));
        assert_eq!(house.admin("/readyz").await, json!({"status": "ok"}));
        assert_eq!(house.acme("a\n1").await.status(), 200);
        house.stop().await;
    }
}

#[actix::test]
async fn a_reason_is_kept_as_far_as_anybody_reads() {
    let plan = [
        ("init", &[Does::FailsAtLength][..]),
        ("activate", &[Does::FailsAtLength]),
        ("poll_tick", &[Does::FailsAtLength]),
    ];
    let house = House::start(Script::new(&plan)).await;
    for attempt in 1..=2 {
        let failed = |it: &TriggerSnapshot| it.failure.as_ref().is_some_and(|it| it.attempts == attempt);
        let failure = house.until("a failure", failed).await.failure.clone().unwrap();
        assert!(failure.reason.ends_with('é') && failure.reason.len() < 1_100, "{}", failure.reason.len());
        house.clock.set(failure.next_at);
    }
    house.until("an activation", |it| it.failure.is_none()).await;
    // The first poll is due, or was made already.
    house.clock.set(house.clock.now() + Duration::from_secs(30));
    let polling = || house.snapshot("tickets").fixed.polling();
    house.holds("a failed poll", || polling().failures == 1).await;
    let (reason, _) = polling().failure.unwrap();
    assert!(reason.ends_with('é') && reason.len() < 1_100, "{}", reason.len());
    house.stop().await;
}

#[actix::test]
async fn a_panic_costs_what_it_was_in_and_nothing_else() {
    let house = House::start(Script::new(&[
        ("init", &[Does::Panics]),
        ("activate", &[Does::Panics]),
        ("wanted_keys", &[Does::Panics]),
        ("normalize_inbound", &[Does::Panics, Does::Fails]),
        ("shutdown", &[Does::Panics]),
    ]))
    .await;
    for callback in ["init", "activate"] {
        let failed = house
            .until(callback, |it| it.failure.as_ref().is_some_and(|it| it.reason.starts_with(callback)))
            .await;
        let failure = failed.failure.clone().unwrap();
        assert_eq!(failure.reason, format!("{callback}: the connector panicked"));
        house.clock.set(failure.next_at);
    }
    house.until("an activation", |it| it.activation() == Activation::Active).await;
    assert_eq!(house.script.calls("init"), 3, "after a panic it is built anew");
    for status in [500, 500, 500, 200] {
        assert_eq!(house.acme("a\n1").await.status(), status);
        assert_eq!(house.github("1").await, 200);
    }
    house.stop().await;
}

#[actix::test]
async fn a_changed_secret_has_only_what_uses_it_activated_before_its_time() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("secret");
    std::fs::write(&path, "old").unwrap();
    let plan = Arc::into_inner(Script::new(&[("init", &[Does::Fails])])).unwrap();
    let script = Script { secret_file: Some(path.clone()), refused: Some("tickets"), ..plan };
    let house = House::start(Arc::new(script)).await;
    let provider = house.running.providers.of_trigger(&"acme".parse().unwrap()).unwrap();
    let calls = || (house.script.calls("init"), house.script.calls("activate"));
    let failure = |id: &str| house.snapshot(id).failure.clone();

    house.holds("a failure", || failure("acme").is_some() && failure("tickets").is_some()).await;
    let failed = failure("acme").unwrap();
    provider.refresh().await.unwrap();
    assert_eq!((calls(), failure("acme")), ((1, 0), Some(failed.clone())), "nothing of it has changed");
    house.keep("github/api").await;
    assert_eq!(calls(), (1, 0), "it is another's");
    house.clock.set(failed.next_at);
    house.until("an activation", |it| it.failure.is_none()).await;
    house.holds("a refusal", || failure("tickets").is_some_and(|it| it.attempts == 2)).await;
    assert_eq!(calls(), (2, 2), "once with the one that is refused, once without");

    let refused = failure("tickets").unwrap();
    std::fs::write(&path, "k3y").unwrap();
    provider.refresh().await.unwrap();
    assert_eq!(house.acme("a\n1").await.status(), 200, "the new secret is in force");
    assert_eq!((calls(), failure("tickets")), ((2, 3), Some(refused.clone())));
    house.clock.set(refused.next_at);
    house.holds("another attempt", || failure("tickets").is_some_and(|it| it.attempts == 3)).await;
    assert_eq!(calls(), (2, 5));
    house.stop().await;
}

#[actix::test]
async fn a_secret_that_the_connector_asks_for_itself_ends_the_pause() {
    let house = House::start(Script::new(&[("init", &[Does::Fails])])).await;
    house.until("a failure", |it| it.failure.is_some()).await;
    house.keep("acme/api").await;
    assert_eq!(house.script.calls("init"), 2);
    house.until("an activation", |it| it.activation() == Activation::Active).await;
    house.stop().await;
}

#[actix::test]
async fn a_panic_outside_of_the_connector_has_its_actor_rebuilt() {
    let script = Script::new(&[("activate", &[Does::FailsUntold]), ("poll_tick", &[Does::FailsUntold])]);
    let house = House::start(script).await;
    let acme = house.running.providers.of_trigger(&"acme".parse().unwrap()).unwrap();
    house.until("an activation", |it| it.activation() == Activation::Active).await;
    assert_eq!((acme.rebuilds(), house.script.calls("init")), (1, 2));
    assert_eq!((house.acme("a\n1").await.status().as_u16(), house.github("1").await), (200, 200));
    house.clock.set(house.next_at("tickets").await);
    house.holds("another life after a poll", || acme.rebuilds() == 2 && acme.is_running()).await;
    house.next_poll().await;
    assert!(house.script.calls("poll_tick") > 1);
    house.stop().await;
}

#[actix::test]
#[allow(
    clippy::await_holding_lock,
    reason = "what it blocks is another thread, for as long as the test lasts"
)]
async fn judging_a_large_body_holds_up_no_other_delivery() {
    let script = Script::new(&[("normalize_inbound", &[Does::Blocks])]);
    let blocked = script.clone();
    let blocked = blocked.blocked.lock().unwrap();
    let house = House::start(script).await;
    let large = house.acme_with(format!("a\n1\n1\n{}", "x".repeat(300_000)));
    let rest = async {
        house.holds("the large body's turn", || house.script.calls("normalize_inbound") == 1).await;
        let others = [house.github("1").await, house.acme("a\n2").await.status().as_u16()];
        drop(blocked);
        others
    };
    // There is one worker, and it is not the one that is blocked.
    let (large, others) = futures_util::future::join(large, rest).await;
    assert_eq!((large, others), (200, [200, 200]));
    house.stop().await;
}

#[actix::test]
async fn garbage_of_a_connector_is_bounded() {
    let house = House::start(Script::new(&[])).await;
    let stored = async |rest: String| {
        let answer = house.acme(&rest).await;
        assert_eq!(answer.status(), 200);
        let ids = answer.headers()["x-hookkeeper-event-id"].to_str().unwrap().to_owned();
        let first = ids.split(',').next().unwrap().parse().unwrap();
        (ids.split(',').count(), house.running.log.event(first).unwrap().unwrap())
    };
    let (count, event) = stored(format!("{}\n{}", "k".repeat(100_000), "d".repeat(100_000))).await;
    assert_eq!((count, event.content.kind.len()), (1, 256));
    assert!(event.content.dedupe_key.as_ref().unwrap().starts_with("sha256:"));
    let (count, event) = stored("many\nx\n10000".to_owned()).await;
    assert_eq!((count, event.content.kind.as_str(), &event.content.dedupe_key), (1, "many", &None));
    house.stop().await;
}

#[actix::test]
async fn a_connector_that_hangs_in_its_shutdown_is_cut_off() {
    let house = House::start(Script::new(&[("shutdown", &[Does::Hangs])])).await;
    let script = house.script.clone();
    let stopped = tokio::time::timeout(Duration::from_secs(20), house.stop()).await;
    assert!(stopped.is_ok());
    assert_eq!(script.calls("shutdown"), 1);
}

#[actix::test]
async fn a_secret_file_that_comes_later_activates_its_trigger() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("secret");
    let house = House::with(Script::new(&[]), SecretRef::File(path.clone())).await;
    let failed = house.snapshot("github");
    assert_eq!(failed.activation(), Activation::Failed);
    assert_eq!(house.github("1").await, 503);
    assert_eq!(house.acme("a\n1").await.status(), 200, "the other one is not disturbed");
    std::fs::write(&path, SECRET).unwrap();
    house.clock.set(failed.failure.clone().unwrap().next_at);
    let waiting = async {
        while house.snapshot("github").activation() != Activation::Active {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    assert_eq!(house.github("1").await, 200);
    house.stop().await;
}
