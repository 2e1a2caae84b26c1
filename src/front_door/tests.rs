//! The front door with providers and log behind it, in one process: what a panicking actor costs.

use std::sync::atomic::{AtomicBool, Ordering};

use actix::Arbiter;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::{App, test, web};
use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::catalog::ProviderCatalog;
use crate::config::{Dedupe, Trigger, TriggerKind};
use crate::connector::{
    ActivationHandle, ConnectorRegistry, HmacStyle, InboundCtx, ProviderPayloadSchema, SignRequest, Signer,
    TriggerBinding, TriggerSettings, Verdict, verify_hmac_signed,
};
use crate::event::{EventId, ProviderId};
use crate::event_log::record::Record;
use crate::event_log::{MemoryLog, Options};
use crate::provider::{Callbacks, Change, Counters, Deps, Fixed};
use crate::quarantine;
use crate::secrets::{Secret, Vault};

const SECRET: &str = "It's a Secret to Everybody";

struct House {
    providers: Arc<Providers>,
    log: Log,
    vault: Arc<Vault>,
    folder: TempDir,
}

fn trigger(provider: &str, secrets: &[&str]) -> Trigger {
    let literal = |text: &&str| crate::config::SecretRef::Literal((*text).to_owned());
    let secrets: Vec<_> = secrets.iter().map(literal).collect();
    Trigger {
        id: provider.parse().unwrap(),
        provider: provider.parse().unwrap(),
        kind: TriggerKind::Webhook,
        path: format!("/hooks/{provider}"),
        secrets: [("signing_secret".to_owned(), secrets)]
            .into_iter()
            .filter(|(_, s)| !s.is_empty())
            .collect(),
        tolerance: None,
        dedupe_window: Duration::from_secs(3600),
        dedupe: Dedupe::Delivery,
        rate_limit: None,
        settings: Default::default(),
        public_keys: Vec::new(),
    }
}

async fn house(triggers: Vec<Trigger>) -> House {
    let folder = TempDir::new().unwrap();
    let log = Log::open(Options::new(folder.path())).unwrap();
    house_on(folder, log, Duration::from_secs(10), triggers).await
}

async fn house_on(folder: TempDir, log: Log, ack_deadline: Duration, triggers: Vec<Trigger>) -> House {
    let vault = Arc::new(Vault::new(folder.path()));
    let outbound = Arc::new(crate::outbound::Client::new(&Default::default()).unwrap());
    let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
    registry.register(|| Box::new(TwoStyles(ProviderId::new("two-styles").unwrap())));
    let start = |trigger: Trigger| {
        let entry = registry.catalog().get(trigger.provider.as_str()).unwrap().clone();
        let fixed = Fixed {
            path: trigger.path.clone(),
            methods: vec!["POST".to_owned()],
            dedupe_window: trigger.dedupe_window,
            ack: None,
            body_limit: 1_000_000,
            ack_deadline,
            bucket: None,
            credentials: Default::default(),
            entry: entry.clone(),
            last_good: Default::default(),
            gate: Default::default(),
            counters: Counters::default(),
            polling: Default::default(),
        };
        let deps = Deps {
            log: log.clone(),
            clock: Clock::system(),
            entry,
            vault: vault.clone(),
            outbound: outbound.clone(),
            permits: crate::permits::RateLimiterFactory::new(Clock::system()),
            public_url: None,
            secret_news: Default::default(),
            registry: registry.clone(),
            callbacks: Callbacks::on(Arbiter::current()),
            triggers: vec![(Arc::new(trigger), Arc::new(fixed))],
        };
        ProviderHandle::start(deps, &Arbiter::current())
    };
    let providers = Arc::new(Providers::new(triggers.into_iter().map(start).collect()));
    futures_util::future::join_all(providers.iter().map(ProviderHandle::settled)).await;
    House { providers, log, vault, folder }
}

impl House {
    async fn service(
        &self,
    ) -> impl Service<actix_http::Request, Response = ServiceResponse, Error = actix_web::Error> + use<> {
        let quarantine = Quarantine::start(quarantine::Parts {
            data: self.folder.path(),
            vault: self.vault.clone(),
            triggers: Vec::new(),
            has_room: Box::new(|| true),
        });
        let door = Door::new(self.providers.clone(), self.log.clone(), quarantine.unwrap(), Clock::system());
        let door = web::Data::new(door);
        test::init_service(App::new().app_data(door).default_service(web::to(handle))).await
    }

    fn provider(&self, trigger: &str) -> &ProviderHandle {
        self.providers.of_trigger(&trigger.parse().unwrap()).unwrap()
    }

    async fn rebuilt(&self, trigger: &str, times: u64) {
        while self.provider(trigger).rebuilds() < times || !self.provider(trigger).is_running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stored(&self, answer: &ServiceResponse) -> Arc<crate::event::StoredEvent> {
        let id = answer.headers().get("x-hookkeeper-event-id").expect("an event id").to_str().unwrap();
        self.log.event(id.parse::<EventId>().unwrap()).unwrap().expect("the event is stored")
    }
}

fn signed(provider: &str, secret: &str, delivery: usize) -> actix_http::Request {
    let entry = ProviderCatalog::built_in().get(provider).unwrap().clone();
    let signer = Signer::new(&entry, &TriggerSettings::of_secrets([Secret::new(secret)]));
    let signer = signer.unwrap().unwrap();
    let body = format!("{{\"id\":\"{delivery}\",\"type\":\"page.created\"}}");
    let path = format!("/hooks/{provider}");
    let headers = signer.sign(SignRequest {
        method: "POST",
        url: &path,
        headers: &[],
        body: body.as_bytes(),
        now: Clock::system().now(),
        delivery_id: &delivery.to_string(),
        kind: None,
    });
    let mut request = test::TestRequest::post().uri(&path).set_payload(body);
    for header in headers.unwrap().headers {
        request = request.insert_header(header);
    }
    request.insert_header(("x-github-delivery", delivery.to_string())).to_request()
}

/// Takes what is signed as Notion or else as GitHub does. Of a request to `/hooks/two-styles?silent` it tells the
/// audit nothing.
struct TwoStyles(ProviderId);

#[async_trait]
impl Connector for TwoStyles {
    fn provider_id(&self) -> &ProviderId {
        &self.0
    }
    fn kinds(&self) -> &[crate::catalog::TriggerKind] {
        &[crate::catalog::TriggerKind::Webhook]
    }
    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        Ok(ActivationHandle::new(self.0.clone(), bindings.len()))
    }
    fn normalize_inbound(
        &self,
        raw: &RawInbound,
        ctx: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        let rejection = Rejection::new(RejectReason::InvalidHeader, "of its own");
        if raw.url.ends_with("?silent") {
            return Ok(NormalizeResult::Reject(rejection));
        }
        let window = crate::signature::Window { now: ctx.now, tolerance: None };
        let verdict = |style| {
            verify_hmac_signed(ctx.audit, &self.0, style, raw, &[Secret::new(SECRET)], window).unwrap()
        };
        let styles = [HmacStyle::Notion, HmacStyle::GitHub];
        Ok(match styles.into_iter().map(verdict).find(|it| matches!(it, Verdict::Verified { .. })) {
            None => NormalizeResult::Reject(rejection),
            Some(_) => NormalizeResult::Event(Normalized {
                kind: "order.paid".to_owned(),
                dedupe_key: None,
                occurred_at: None,
                signature_status: SignatureStatus::Verified { covers_body: true },
                secret_index: None,
                part: None,
            }),
        })
    }
    fn payload_schema(&self) -> ProviderPayloadSchema {
        ProviderPayloadSchema::named("TwoStyles")
    }
}

/// Sends a body of so many bytes to [`TwoStyles`]; returns the status and what it answers.
async fn send_two_styles(house: &House, query: &str, body_bytes: usize, proof: &str) -> (u16, String) {
    let service = house.service().await;
    let request = test::TestRequest::post().uri(&format!("/hooks/two-styles{query}"));
    let request = request.insert_header(("x-hub-signature-256", proof)).set_payload("a".repeat(body_bytes));
    let answer = test::call_service(&service, request.to_request()).await;
    let status = answer.status().as_u16();
    (status, String::from_utf8(test::read_body(answer).await.to_vec()).unwrap())
}

#[actix::test]
async fn a_rejection_is_audited_once_with_what_the_connector_told() {
    let house = house(vec![trigger("two-styles", &[])]).await;
    // HMAC-SHA256 of "a" with SECRET.
    let proof = "sha256=70594265e7208d3fa153a6ccf8a9419172f2f5eadb54594e1f3803453f530649";
    let (status, answer) = send_two_styles(&house, "", 1, proof).await;
    assert_eq!(status, 200, "Notion's style is refused and GitHub's is not: {answer}");
    let large = crate::event_log::INLINE_BODY_BYTES_MAX + 1;
    for (query, body_bytes) in [("", 1), ("?silent", 1), ("", large)] {
        let (status, answer) = send_two_styles(&house, query, body_bytes, "sha256=00").await;
        assert_eq!((status, answer.contains("invalid_header")), (401, true), "{answer}");
    }
    let line = |code: &str, detail: &str| (code.to_owned(), detail.to_owned());
    let told = line(
        "invalid_signature",
        "the secret does not yield the signature in header x-hub-signature-256: wrong secret, or the body was changed \
         on the way",
    );
    let silent = line("invalid_header", "of its own");
    assert_eq!(audited(&house, 3).await, [told.clone(), silent, told]);
}

/// Waits until the audit of rejections has so many lines; returns what they say.
async fn audited(house: &House, lines: usize) -> Vec<(String, String)> {
    loop {
        let page = house.log.read_topic(crate::connector::AUDIT_TOPIC, None, 100).unwrap();
        if page.items.len() >= lines {
            let line = |(_, record)| match record {
                Record::Audit(line) => (line.code, line.detail),
                other => panic!("{other:?}"),
            };
            return page.items.into_iter().map(line).collect();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[actix::test]
async fn a_panicking_actor_refuses_no_request_of_any_provider() {
    let house = house(vec![trigger("github", &[SECRET]), trigger("notion", &[SECRET])]).await;
    let service = house.service().await;
    let mut crashes = 0;
    for delivery in 0..400 {
        if delivery % 100 == 50 && house.provider("github").crash() {
            crashes += 1;
        }
        for provider in ["github", "notion"] {
            let answer = test::call_service(&service, signed(provider, SECRET, delivery)).await;
            assert_eq!(answer.status(), 200, "{provider}, delivery {delivery}");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(crashes >= 2, "the actor panicked in the middle of the traffic");
    house.rebuilt("github", crashes).await;
    assert_eq!(house.provider("notion").rebuilds(), 0);
}

#[actix::test]
async fn who_finds_the_queue_full_waits_for_most_of_the_ack_deadline_and_is_asked_to_come_again() {
    static IS_STUCK: AtomicBool = AtomicBool::new(true);
    let store = MemoryLog::new();
    let folder = TempDir::new().unwrap();
    let options = Options::new(folder.path());
    // Half of the least queue, which one trigger gets, holds one event.
    let options = Options { store: Some(Arc::new(store.clone())), queue_bytes_max: 0, ..options };
    let ack_deadline = Duration::from_millis(200);
    let log = Log::open(options).unwrap();
    let house = house_on(folder, log, ack_deadline, vec![trigger("github", &[SECRET])]).await;
    let service = house.service().await;
    store.interrupt(Some(|| {
        while IS_STUCK.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }));
    let first = test::call_service(&service, signed("github", SECRET, 1));
    let second = async {
        while house.log.health().queue_bytes == 0 {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        let answer = test::call_service(&service, signed("github", SECRET, 2)).await;
        IS_STUCK.store(false, Ordering::Relaxed);
        (answer, begun.elapsed())
    };
    let (first, (second, waited)) = tokio::join!(first, second);
    assert_eq!(first.status(), 200, "what was taken is answered once it is stored");
    assert_eq!(second.status(), 503);
    assert!(second.headers().contains_key("retry-after"));
    assert_eq!(test::read_body(second).await, "{\"error\":\"overloaded\"}");
    assert!(waited >= ack_deadline.mul_f64(DEADLINE_SHARE), "it waited {waited:?}");
    let again = test::call_service(&service, signed("github", SECRET, 2)).await;
    assert_eq!(again.status(), 200);
}

#[actix::test]
async fn a_pause_survives_the_actor_and_is_lifted_by_its_successor() {
    let house = house(vec![trigger("github", &[SECRET])]).await;
    let service = house.service().await;
    let id = "github".parse().unwrap();
    house.provider("github").change(&id, Change::Pause).await.unwrap();
    assert!(house.provider("github").crash());
    let answer = test::call_service(&service, signed("github", SECRET, 1)).await;
    assert!(house.stored(&answer).await.content.held, "held while the actor is rebuilt");
    house.rebuilt("github", 1).await;
    let answer = test::call_service(&service, signed("github", SECRET, 2)).await;
    assert!(house.stored(&answer).await.content.held, "held by the rebuilt actor");
    house.provider("github").change(&id, Change::Resume).await.unwrap();
    let answer = test::call_service(&service, signed("github", SECRET, 3)).await;
    assert!(!house.stored(&answer).await.content.held);
}

#[actix::test]
async fn a_learned_secret_is_sealed_survives_the_actor_and_is_not_overwritten() {
    let house = house(vec![trigger("notion", &[])]).await;
    let service = house.service().await;
    let teach = |token: &str| {
        let body = format!("{{\"verification_token\":\"{token}\"}}");
        test::TestRequest::post().uri("/hooks/notion").set_payload(body).to_request()
    };
    // The trigger has no secret: it is armed from its start.
    while !house.provider("notion").trigger(0).is_armed(Clock::system().now()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(test::call_service(&service, teach("secret_first")).await.status(), 200);
    assert_eq!(test::call_service(&service, teach("secret_second")).await.status(), 401);
    for crashes in 0..2 {
        let answer = test::call_service(&service, signed("notion", "secret_first", crashes)).await;
        assert_eq!(answer.status(), 200);
        let answer = test::call_service(&service, signed("notion", "secret_second", 90 + crashes)).await;
        assert_eq!(answer.status(), 401);
        assert!(house.provider("notion").crash());
        house.rebuilt("notion", crashes as u64 + 1).await;
    }
    let sealed = house.log.state().sealed("notion/signing_secret").expect("kept in the log");
    assert!(!sealed.windows(12).any(|window| window == b"secret_first"), "kept sealed");
}

#[actix::test]
async fn a_secret_that_an_operator_sets_is_not_overwritten_by_a_handshake() {
    let house = house(vec![trigger("notion", &[])]).await;
    let service = house.service().await;
    let is_armed = || house.provider("notion").trigger(0).is_armed(Clock::system().now());
    while !is_armed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let name = "notion/signing_secret".to_owned();
    let sealed = house.vault.seal(&name, &Secret::new("secret_operator")).unwrap();
    let record = crate::event_log::record::Sealed { name, at: Clock::system().now(), sealed };
    house.log.append_durable(vec![crate::event_log::record::Record::Sealed(record)]).await.unwrap();
    house.provider("notion").refresh().await.unwrap();
    while is_armed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let body = "{\"verification_token\":\"secret_evil\"}";
    let teach = test::TestRequest::post().uri("/hooks/notion").set_payload(body).to_request();
    assert_eq!(test::call_service(&service, teach).await.status(), 401);
    let answer = test::call_service(&service, signed("notion", "secret_operator", 1)).await;
    assert_eq!(answer.status(), 200);
}

#[actix::test]
async fn two_handshakes_at_once_teach_one_secret() {
    let house = house(vec![trigger("notion", &[])]).await;
    let service = house.service().await;
    while !house.provider("notion").trigger(0).is_armed(Clock::system().now()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let teach = |n: u32| {
        let body = format!("{{\"verification_token\":\"secret_{n}\"}}");
        test::call_service(
            &service,
            test::TestRequest::post().uri("/hooks/notion").set_payload(body).to_request(),
        )
    };
    let answers = futures_util::future::join_all((0..8).map(teach)).await;
    let learned = answers.iter().filter(|answer| answer.status() == 200).count();
    assert_eq!(learned, 1);
}

/// Sends Asana's batch, signed as Asana signs; returns the events that the answer names, and the number
/// that it gives.
async fn send_batch(house: &House, body: &str) -> (Vec<Arc<crate::event::StoredEvent>>, Option<String>) {
    let service = house.service().await;
    let entry = ProviderCatalog::built_in().get("asana").unwrap().clone();
    let signer = Signer::new(&entry, &TriggerSettings::of_secrets([Secret::new(SECRET)])).unwrap().unwrap();
    let (url, now) = ("/hooks/asana", Clock::system().now());
    let (body_bytes, delivery_id) = (body.as_bytes(), "");
    let request =
        SignRequest { method: "POST", url, headers: &[], body: body_bytes, now, delivery_id, kind: None };
    let mut sent = test::TestRequest::post().uri(url).set_payload(body.to_owned());
    for header in signer.sign(request).unwrap().headers {
        sent = sent.insert_header(header);
    }
    let answer = test::call_service(&service, sent.to_request()).await;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
    let stored = |id: &str| house.log.event(id.parse::<EventId>().unwrap()).unwrap().unwrap();
    let ids = header("x-hookkeeper-event-id").unwrap();
    (ids.split(',').map(stored).collect(), header("x-hookkeeper-event-count"))
}

#[actix::test]
async fn the_elements_of_a_batch_are_events_that_together_are_the_delivery() {
    let house = house(vec![trigger("asana", &[SECRET])]).await;
    let body = r#"{ "events": [ {"action":"added","resource":{"gid":"1","resource_type":"task"}} ,
        {"action": "removed", "resource": {"gid": "2", "resource_type": "story"}} ] }"#;
    let (events, count) = send_batch(&house, body).await;
    assert_eq!(count, None);
    let kinds: Vec<&str> = events.iter().map(|event| event.content.kind.as_str()).collect();
    assert_eq!(kinds, ["task.added", "story.removed"]);
    let mut whole = Vec::new();
    for event in &events {
        let (batch, own) = (event.content.batch.as_ref().unwrap(), house.log.body(event).unwrap());
        whole.extend([&batch.lead[..], &own, &batch.tail].concat());
        assert!(event.to_trigger_event(&own).provider_payload.raw.unwrap()["action"].is_string());
    }
    assert_eq!(String::from_utf8(whole).unwrap(), body);
}

#[actix::test]
async fn a_large_batch_names_its_first_events_and_their_number() {
    let house = house(vec![trigger("asana", &[SECRET])]).await;
    let element = r#"{"action":"added","resource":{"gid":"1","resource_type":"task"}}"#;
    let body = format!(r#"{{"events":[{}]}}"#, vec![element; 300].join(","));
    let (named, count) = send_batch(&house, &body).await;
    assert_eq!((named.len(), count.as_deref()), (100, Some("300")));
}

/// A signed push whose body arrives in chunks of the given size; without `declared`, nobody says beforehand how
/// long it is.
fn push_in_chunks(body: &Bytes, signed: &[u8], chunk_bytes: usize, declared: bool) -> actix_http::Request {
    let entry = ProviderCatalog::built_in().get("github").unwrap().clone();
    let signer = Signer::new(&entry, &TriggerSettings::of_secrets([Secret::new(SECRET)])).unwrap().unwrap();
    let (url, now) = ("/hooks/github", Clock::system().now());
    let request = SignRequest {
        method: "POST",
        url,
        headers: &[],
        body: signed,
        now,
        delivery_id: "",
        kind: Some("push"),
    };
    let mut sent = test::TestRequest::post().uri(url);
    for header in signer.sign(request).unwrap().headers {
        sent = sent.insert_header(header);
    }
    if declared {
        sent = sent.insert_header((CONTENT_LENGTH, body.len()));
    }
    let chunks: Vec<_> = body.chunks(chunk_bytes).map(|chunk| Ok(body.slice_ref(chunk))).collect();
    let payload: actix_http::BoxedPayloadStream = Box::pin(futures_util::stream::iter(chunks));
    sent.to_request().replace_payload(actix_http::Payload::Stream { payload }).0
}

/// The way of a body through memory and the one through a file must not differ in anything that is seen.
#[test]
fn however_a_body_arrives_it_has_one_verdict_and_is_stored_as_it_is() {
    use proptest::prelude::*;
    let lengths = prop_oneof![
        0..64_usize,
        crate::event_log::INLINE_BODY_BYTES_MAX - 2..crate::event_log::INLINE_BODY_BYTES_MAX + 3,
        0..900_000_usize,
    ];
    let cases = (lengths, prop_oneof![Just(7_usize), Just(65_536), Just(usize::MAX), 1_000..200_000_usize]);
    let cases = (cases, any::<bool>(), proptest::option::of(any::<proptest::sample::Index>()));
    let system = actix::System::new();
    let house = system.block_on(house(vec![trigger("github", &[SECRET])]));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(64));
    let result = runner.run(&cases, |((length, chunk_bytes), declared, changed)| {
        let original: Vec<u8> = (0..length).map(|n| (n * n % 251) as u8).collect();
        let mut arrived = original.clone();
        let changed = changed.filter(|_| length > 0);
        if let Some(at) = &changed {
            arrived[at.index(length)] ^= 0x20;
        }
        let arrived = Bytes::from(arrived);
        // Seven bytes at a time only where that are not too many times.
        let chunk_bytes = chunk_bytes.max(length / 2_000 + 1);
        system.block_on(async {
            let service = house.service().await;
            let request = push_in_chunks(&arrived, &original, chunk_bytes, declared);
            let answer = test::call_service(&service, request).await;
            if changed.is_some() {
                prop_assert_eq!(answer.status(), 401);
                return Ok(());
            }
            prop_assert_eq!(answer.status(), 200);
            let event = house.stored(&answer).await;
            prop_assert_eq!(&event.content.kind, "push");
            let is_large = length > crate::event_log::INLINE_BODY_BYTES_MAX;
            prop_assert_eq!(matches!(event.content.body, Body::Spooled(_)), is_large);
            prop_assert_eq!(house.log.body(&event).unwrap(), arrived);
            Ok(())
        })
    });
    result.unwrap();
}
