//! The admin API over a log of its own, without the rest of the server.

mod refused;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix_web::body::to_bytes;
use actix_web::http::header::HeaderMap;
use actix_web::http::{ConnectionType, Method};
use actix_web::{App, test as web_test};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use hookkeeper::admin::{self, AdminState, Parts, ProviderStatus, Runtime, TriggerStatus};
use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::clock::Clock;
use hookkeeper::config::{self, Config, Knowledge, ProviderFacts, Scope, SecretFact, Source};
use hookkeeper::connector::{ConnectorClient, FetchedKey, RawInbound, Rejection, Verifier};
use hookkeeper::event::{
    Body, EventContent, EventId, Origin, ProviderId, RejectReason, RunId, SignatureStatus, Timestamp,
    TriggerId,
};
use hookkeeper::event_log::record::{
    Attempted, Cause, NewRun, Next, Record, Routed, Start, Switch, Switched,
};
use hookkeeper::event_log::{self, Ingested, Log, NewEvent, Options};
use hookkeeper::provider::{Activation, Change, ChangeError};
use hookkeeper::quarantine::{self, Quarantine, Refused, ReleaseError};
use hookkeeper::replay::Replayer;
use hookkeeper::secrets::{Secret, Vault};
use hookkeeper::subscription::Subscription;
use hookkeeper::supervise::NotRunning;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = r#"
[server]
admin_names = ["hooks.internal"]
[[triggers]]
id = "github"
provider = "github"
secrets = { signing_secret = "literal:hunter2" }
[[triggers]]
id = "notion"
provider = "notion"
[[functions]]
id = "deploy"
on = ["github"]
handler = { exec = ["true"] }
"#;

struct Facts;

impl Knowledge for Facts {
    fn provider_ids(&self) -> Vec<String> {
        Vec::new()
    }
    fn provider(&self, id: &str) -> Option<ProviderFacts> {
        let secret = SecretFact { name: "signing_secret".into(), required: true, learned: id == "notion" };
        Some(ProviderFacts { id: id.into(), secrets: vec![secret], ..ProviderFacts::default() })
    }
    fn read_provider(&self, _: &str) -> Result<ProviderFacts, String> {
        Err("none here".into())
    }
    fn compile_cel(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// A server without actors: changes go straight to the log.
struct Bare {
    log: Log,
    changed_secrets: Mutex<Vec<String>>,
    /// Why the next change of a trigger comes to nothing.
    refusal: Mutex<Option<ChangeError>>,
}

#[async_trait]
impl Runtime for Bare {
    fn triggers(&self) -> Vec<TriggerStatus> {
        vec![TriggerStatus {
            id: "github".parse().unwrap(),
            activation: Activation::Active,
            failure: None,
            polling: Default::default(),
            accepted: 3,
            duplicates: 1,
            rejected: 2,
            last_accepted_at: None,
            rebuilds: 0,
        }]
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        let (triggers, metrics) = ([("active", 1)].into(), [("tokens_refreshed", 2)].into());
        vec![ProviderStatus { id: "github".parse().unwrap(), triggers, metrics, rebuilds: 0 }]
    }

    async fn change_trigger(&self, id: &TriggerId, change: Change) -> Result<(), ChangeError> {
        if let Some(refusal) = self.refusal.lock().take() {
            return Err(refusal);
        }
        let switch = match change {
            Change::Pause => Switch::TriggerPaused(id.clone(), true),
            Change::Resume => Switch::TriggerPaused(id.clone(), false),
            Change::Arm(until) => Switch::TriggerArmed(id.clone(), Some(until)),
        };
        let switched = Switched { at: Clock::system().now(), switch };
        Ok(self.log.append_durable(vec![Record::Switched(switched)]).await.map(drop)?)
    }

    async fn secret_changed(&self, name: &str) {
        self.changed_secrets.lock().push(name.to_owned());
    }

    fn known_keys(&self, _: &TriggerId, _: &Verifier, _: &RawInbound) -> Vec<FetchedKey> {
        Vec::new()
    }

    fn client(&self, _: &ProviderId) -> Option<Arc<dyn ConnectorClient>> {
        None
    }

    async fn release(&self, trigger_id: &TriggerId, raw: RawInbound) -> Result<Vec<Ingested>, ReleaseError> {
        assert!(raw.url == "/hooks/github" || raw.url == "/hooks/github?sig=1", "{}", raw.url);
        if raw.body != "good" {
            let (reason, hint) = (RejectReason::InvalidSignature, "wrong secret".to_owned());
            return Err(ReleaseError::Rejected(Rejection::new(reason, hint)));
        }
        let event =
            NewEvent { content: content(trigger_id, "push", &raw.body), window: Duration::from_secs(60) };
        Ok(self.log.ingest(vec![event], Instant::now() + Duration::from_secs(5)).await.unwrap())
    }
}

struct Api {
    state: AdminState,
    quarantine: Quarantine,
    log: Log,
    runtime: Arc<Bare>,
    _folder: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that the answer is problem details with the given status and code.
    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) -> String {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:hookkeeper:problem:{code}"));
        assert!(problem["title"].is_string());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

fn config() -> Arc<Config> {
    let source = Source { name: "test".into(), text: CONFIG.into(), base: Default::default() };
    Arc::new(config::load(&source, &Facts, Scope::Text).unwrap().0)
}

impl Api {
    fn new(token: Option<&str>) -> Self {
        let folder = TempDir::new().unwrap();
        let log = Log::open(Options::new(folder.path())).unwrap();
        let config = config();
        let vault = Arc::new(Vault::new(folder.path()));
        let quarantine = Quarantine::start(quarantine::Parts {
            data: folder.path(),
            vault: vault.clone(),
            triggers: Vec::new(),
            has_room: Box::new(|| true),
        })
        .unwrap();
        let runtime =
            Arc::new(Bare { log: log.clone(), changed_secrets: Mutex::default(), refusal: Mutex::default() });
        let subscriptions = config.functions.iter().map(|function| Subscription::new(function).unwrap());
        let subscriptions = Arc::new(ArcSwap::from_pointee(subscriptions.collect::<Vec<_>>()));
        let state = AdminState::new(Parts {
            log: log.clone(),
            clock: Clock::system(),
            catalog: ProviderCatalog::built_in(),
            config,
            runtime: runtime.clone(),
            replayer: Replayer::new(log.clone(), Clock::system(), subscriptions),
            vault,
            quarantine: quarantine.clone(),
            token: token.map(|token| Arc::new(ArcSwap::from_pointee(Secret::new(token)))),
            address: "127.0.0.1:8081".parse().unwrap(),
        });
        Self { state, quarantine, log, runtime, _folder: folder }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let app = web_test::init_service(App::new().configure(admin::configure(self.state.clone()))).await;
        let mut request =
            web_test::TestRequest::with_uri(path).method(Method::from_bytes(method.as_bytes()).unwrap());
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.insert_header(("host", "127.0.0.1:8081"));
        }
        for header in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.insert_header(*header);
        }
        let response = web_test::call_service(&app, request.set_payload(body.to_owned()).to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("a body")).to_vec();
        Answer { status, headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("/api/v1/{path}"), &[], "").await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send("POST", &format!("/api/v1/{path}"), &json, &body.to_string()).await
    }

    async fn ingest(&self, kind: &str, key: &str, body: &[u8]) -> EventId {
        let mut content = content(&"github".parse().unwrap(), kind, body);
        content.dedupe_key = Some(key.into());
        self.store(content).await
    }

    async fn store(&self, content: EventContent) -> EventId {
        let event = NewEvent { content, window: Duration::from_secs(3600) };
        self.log.ingest(vec![event], Instant::now() + Duration::from_secs(5)).await.unwrap()[0].id()
    }

    /// Routes events to `deploy`, and lets their first attempt end.
    async fn route(&self, events: &[EventId], next: impl Fn(usize) -> Next) -> Vec<RunId> {
        self.route_to("deploy", events, next).await
    }

    async fn route_to(&self, function: &str, events: &[EventId], next: impl Fn(usize) -> Next) -> Vec<RunId> {
        let at = Clock::system().now();
        let run =
            |event: &EventId| RunId { event: *event, function: function.parse().unwrap(), generation: 1 };
        let new = |event| NewRun {
            id: run(event),
            trigger_id: "github".parse().unwrap(),
            kind: "push".into(),
            cause: Cause::Live,
            start: Start::Due(at),
        };
        let mut records = vec![Record::Routed(Routed {
            from: self.log.state().routed_through(),
            through: events.last().unwrap().position(),
            at,
            functions: vec![function.parse().unwrap()],
            runs: events.iter().map(new).collect(),
            skipped: vec![],
        })];
        records.extend(events.iter().enumerate().map(|(i, event)| {
            Record::Attempted(Attempted {
                run: run(event),
                attempt: 1,
                started_at: at,
                duration_us: 1234,
                status: Some(500),
                note: "it said no".into(),
                answer: "all of it".into(),
                next: next(i),
            })
        }));
        self.log.append_durable(records).await.unwrap();
        events.iter().map(run).collect()
    }

    async fn audited(&self, topic: &str) -> Vec<String> {
        let page = self.log.read_topic(topic, None, 100).unwrap();
        let code = |(_, record)| match record {
            Record::Audit(audit) => audit.code,
            other => panic!("{other:?}"),
        };
        page.items.into_iter().map(code).collect()
    }
}

/// An event without a dedupe key.
fn content(trigger_id: &TriggerId, kind: &str, body: &[u8]) -> EventContent {
    EventContent {
        provider: "github".parse().unwrap(),
        trigger_id: trigger_id.clone(),
        kind: kind.into(),
        received_at: Clock::system().now(),
        occurred_at: None,
        dedupe_key: None,
        trace_id: "0".repeat(32),
        origin: Origin::Live,
        held: false,
        method: "POST".into(),
        url: "/hooks/github".into(),
        headers: vec![
            ("content-type".into(), "text/html".into()),
            ("x-github-event".into(), kind.to_owned().into()),
        ],
        body: Body::Inline(body.to_vec().into()),
        batch: None,
        schema: "GitHubEventPayload".into(),
        signature_status: SignatureStatus::Verified { covers_body: true },
    }
}

fn ids(listing: &Value) -> Vec<&str> {
    listing["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

fn dead(_: usize) -> Next {
    Next::Dead("final".into())
}

/// Runs a test on actix's runtime.
fn on_actix(test: impl Future<Output = ()>) {
    actix_web::rt::System::new().block_on(test);
}

#[test]
fn events_are_listed_newest_first_in_pages() {
    on_actix(async {
        let api = Api::new(None);
        let mut all = Vec::new();
        for i in 0..7 {
            all.push(
                api.ingest(if i % 2 == 0 { "push" } else { "issues.opened" }, &i.to_string(), b"{}")
                    .await
                    .to_string(),
            );
        }
        all.reverse();
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("events?limit=3{cursor}")).await.json();
            found.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, all);
        assert_eq!(ids(&api.get("events?kind=issues.*").await.json()).len(), 3);
        assert_eq!(ids(&api.get("events?trigger=other").await.json()).len(), 0);
        assert_eq!(ids(&api.get("events?state=open").await.json()).len(), 7);
        assert_eq!(ids(&api.get("events?since=1h&until=1h").await.json()).len(), 0);
        assert_eq!(ids(&api.get("events?since=1h").await.json()).len(), 7);
        assert_eq!(ids(&api.get("events?text=ISSUES").await.json()).len(), 3);

        // Released from the quarantine a day after it came.
        let mut released = content(&"github".parse().unwrap(), "push", b"{}");
        released.received_at = Clock::system().now() - Duration::from_secs(86_400);
        let released = api.store(released).await.to_string();
        assert_eq!(ids(&api.get("events?until=1h").await.json()), [released]);
    });
}

#[test]
fn who_follows_waits_for_the_next_event() {
    on_actix(async {
        let api = Api::new(None);
        let first = api.ingest("push", "1", b"{}").await;
        let path = format!("events?after={}&wait=20s", first.position());
        let (page, second) = tokio::join!(api.get(&path), async {
            tokio::task::yield_now().await;
            api.ingest("push", "2", b"{}").await
        });
        assert_eq!(ids(&page.json()), [second.to_string()]);
        api.get("events?wait=1s").await.is_problem(400, "invalid_parameter");
    });
}

#[test]
fn an_event_is_shown_with_its_request_and_its_body_as_sent() {
    on_actix(async {
        let api = Api::new(None);
        let body = b"<script>alert(1)</script>\xff\x00";
        let id = api.ingest("push", "k", body).await;
        let event = api.get(&format!("events/{id}")).await.json();
        assert_eq!(event["id"], id.to_string());
        assert_eq!(event["request"]["headers"][1], json!(["x-github-event", "push"]));
        assert_eq!(event["signature_status"], json!({"state": "verified", "covers_body": true}));

        let raw = api.get(&format!("events/{id}/body")).await;
        assert_eq!(raw.body, body);
        assert_eq!(raw.header("content-type"), "text/html");
        assert!(raw.header("content-disposition").starts_with("attachment"));
        assert_eq!(raw.header("x-content-type-options"), "nosniff");

        api.get("events/nonsense").await.is_problem(400, "invalid_id");
        let gone = EventId::new(1, id.position(), 1);
        for path in [format!("events/{gone}"), format!("events/{gone}/body"), format!("events/{gone}/why")] {
            api.get(&path).await.is_problem(404, "not_found");
        }
    });
}

#[test]
fn why_tells_routing_attempts_and_duplicates() {
    on_actix(async {
        let api = Api::new(None);
        let id = api.ingest("push", "k", b"{}").await;
        assert_eq!(api.ingest("push", "k", b"{}").await, id, "a duplicate");
        let runs = api.route(&[id], dead).await;
        let account = api.get(&format!("events/{id}/why")).await.json();
        assert_eq!(account["event"]["state"], "dead");
        assert_eq!(account["dedupe"]["duplicates"], 1);
        assert_eq!(account["verification"]["scheme"], "hmac");
        let run = &account["functions"][0]["runs"][0];
        assert_eq!((&run["state"], &run["reason"]), (&json!("dead"), &json!("final")));
        assert_eq!(run["history"][0]["status"], 500);
        let of_run = api.get(&format!("runs/{}/why", runs[0])).await.json();
        assert_eq!(of_run["run"]["history"][0]["answer"], "all of it");
    });
}

#[test]
fn runs_are_retried_and_cancelled_where_their_state_allows() {
    on_actix(async {
        let api = Api::new(None);
        let mut events = Vec::new();
        for i in 0..3 {
            events.push(api.ingest("push", &i.to_string(), b"{}").await);
        }
        let later = Clock::system().now() + jiff_hours(1);
        let runs = api
            .route(&events, |i| match i {
                0 => Next::Succeeded,
                1 => Next::RetryAt(later),
                _ => dead(2),
            })
            .await;
        api.post(&format!("runs/{}/retry", runs[0]), json!({})).await.is_problem(409, "wrong_state");
        api.post(&format!("runs/{}/cancel", runs[2]), json!({})).await.is_problem(409, "wrong_state");
        assert_eq!(
            api.post(&format!("runs/{}/cancel", runs[1]), json!({})).await.json()["state"],
            "cancelled"
        );
        assert_eq!(api.post(&format!("runs/{}/retry", runs[2]), json!({})).await.json()["state"], "pending");
        assert_eq!(ids(&api.get("runs?state=succeeded").await.json()), [runs[0].to_string()]);
        assert_eq!(api.audited("audit.admin").await, ["run_cancelled", "run_retried"]);
        let gone = runs[0].to_string().replace("-deploy-1", "-deploy-9");
        api.post(&format!("runs/{gone}/cancel"), json!({})).await.is_problem(404, "not_found");
    });
}

#[test]
fn runs_of_a_function_that_was_removed_say_so_and_can_be_cancelled() {
    on_actix(async {
        let api = Api::new(None);
        let now = Clock::system().now();
        let (a, b) = (api.ingest("push", "a", b"{}").await, api.ingest("push", "b", b"{}").await);
        let kept = api.route(&[a], |_| Next::RetryAt(now)).await[0].to_string();
        let removed = api.route_to("removed", &[b], |_| Next::RetryAt(now)).await[0].to_string();
        let pause = Record::Switched(Switched {
            at: now,
            switch: Switch::FunctionPaused("removed".parse().unwrap(), true),
        });

        assert_eq!(ids(&api.get("runs?state=pending").await.json()), [kept]);
        for records in [vec![], vec![pause]] {
            api.log.append_durable(records).await.unwrap();
            let waiting = api.get("runs?state=waiting").await.json();
            assert_eq!(ids(&waiting), [removed.as_str()]);
            let why = &api.get(&format!("events/{b}/why")).await.json()["functions"][0]["runs"][0];
            for run in [&waiting["items"][0], why, &api.get(&format!("runs/{removed}")).await.json()] {
                assert_eq!((&run["state"], &run["reason"]), (&json!("waiting"), &json!("function_removed")));
                assert_eq!(run["due_at"], json!(null));
            }
        }
        assert_eq!(api.post(&format!("runs/{removed}/cancel"), json!({})).await.json()["state"], "cancelled");
        assert_eq!(ids(&api.get("runs?state=waiting").await.json()), [""; 0]);
    });
}

fn jiff_hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

#[test]
fn dead_letters_are_replayed_once_and_purged() {
    on_actix(async {
        let api = Api::new(None);
        let (a, b) = (api.ingest("push", "a", b"{}").await, api.ingest("push", "b", b"{}").await);
        let runs = api.route(&[a, b], dead).await;
        assert_eq!(ids(&api.get("dead-letters").await.json()).len(), 2);
        api.post("dead-letters/replay", json!({})).await.is_problem(400, "missing_filter");
        let done = api.post("dead-letters/replay", json!({"runs": [runs[0]]})).await.json();
        assert_eq!(done["runs"], json!([format!("{a}-deploy-2")]));
        assert_eq!(
            ids(&api.get("dead-letters").await.json()),
            [runs[1].to_string()],
            "a new run stands for it"
        );
        assert_eq!(api.get(&format!("runs/{a}-deploy-2")).await.json()["replay_of"], runs[0].to_string());

        let purge = |path| api.send("DELETE", path, &[], "");
        purge("/api/v1/dead-letters").await.is_problem(400, "missing_filter");
        assert_eq!(purge("/api/v1/dead-letters?function=other").await.json()["purged"], 0);
        assert_eq!(purge("/api/v1/dead-letters?function=deploy").await.json()["purged"], 1);
        assert_eq!(api.audited("audit.admin").await, ["dead_letters_replayed", "dead_letters_purged"]);
        assert_eq!(ids(&api.get("dead-letters").await.json()).len(), 0);
    });
}

#[test]
fn replays_start_new_runs_and_show_how_far_they_are() {
    on_actix(async {
        let api = Api::new(None);
        let (a, b) = (api.ingest("push", "a", b"{}").await, api.ingest("issues.opened", "b", b"{}").await);
        let one = api.post(&format!("events/{a}/replay"), json!({"dry_run": true})).await.json();
        assert_eq!(one["runs"], json!([format!("{a}-deploy-1")]));
        assert_eq!(ids(&api.get("runs").await.json()).len(), 0, "a dry run starts nothing");
        api.post(&format!("events/{a}/replay"), json!({"functions": ["gone"]}))
            .await
            .is_problem(404, "not_found");

        api.post("replays", json!({})).await.is_problem(400, "missing_filter");
        api.post("replays", json!({"filter": {"colour": "red"}})).await.is_problem(400, "unknown_parameter");
        let started = api.post("replays", json!({"filter": {"kind": "issues.*"}})).await;
        assert_eq!(started.status, 202);
        let id = started.json()["id"].as_str().unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(20);
        let replay = loop {
            let replay = api.get(&format!("replays/{id}")).await.json();
            if replay["state"] != "running" {
                break replay;
            }
            assert!(Instant::now() < deadline, "{replay}");
            tokio::task::yield_now().await;
        };
        assert_eq!(
            (&replay["state"], &replay["matched"], &replay["created"]),
            (&json!("done"), &json!(1), &json!(1))
        );
        assert_eq!(ids(&api.get("runs").await.json()), [format!("{b}-deploy-1")]);
        api.post(&format!("replays/{id}/cancel"), json!({})).await.is_problem(409, "wrong_state");
    });
}

#[test]
fn triggers_and_functions_are_paused_armed_and_resumed() {
    on_actix(async {
        let api = Api::new(None);
        assert_eq!(api.get("triggers/github").await.json()["accepted"], 3);
        assert_eq!(api.post("triggers/github/pause", json!({})).await.json()["state"], "paused");
        assert_eq!(api.post("triggers/github/resume", json!({})).await.json()["state"], "active");
        api.post("triggers/github/arm", json!({})).await.is_problem(409, "nothing_to_learn");
        let armed = api.post("triggers/notion/arm", json!({"for": "5m"})).await.json();
        let until: Timestamp = armed["armed_until"].as_str().unwrap().parse().unwrap();
        assert!(until > Clock::system().now());
        api.post("triggers/notion/arm", json!({"for": "forever"})).await.is_problem(400, "invalid_body");
        api.post("triggers/gone/pause", json!({})).await.is_problem(404, "not_found");
        for (refusal, status, code) in [
            (ChangeError::NotRunning(NotRunning), 503, "provider_restarting"),
            (ChangeError::Log(event_log::Error::Full), 503, "disk_full"),
            (ChangeError::NoTrigger("github".parse().unwrap()), 404, "not_found"),
        ] {
            *api.runtime.refusal.lock() = Some(refusal);
            api.post("triggers/github/pause", json!({})).await.is_problem(status, code);
        }
        for (path, near) in [("triggers/notio/pause", "notion"), ("functions/deplo/pause", "deploy")] {
            let detail = api.post(path, json!({})).await.is_problem(404, "not_found");
            assert!(detail.ends_with(&format!("did you mean `{near}`?")), "{detail}");
        }
        for (path, near) in [("triggers/notio", "notion"), ("providers/gihub", "github")] {
            let detail = api.get(path).await.is_problem(404, "not_found");
            assert!(detail.ends_with(&format!("did you mean `{near}`?")), "{detail}");
        }
        for listing in ["events", "runs", "dead-letters", "quarantine", "log/events"] {
            let refused = api.get(&format!("{listing}?cursor=zz")).await;
            let detail = refused.is_problem(400, "invalid_parameter");
            assert!(detail.contains("`next_cursor` of the page before"), "{listing}: {detail}");
        }
        assert_eq!(api.post("functions/deploy/pause", json!({})).await.json()["state"], "paused");
        assert_eq!(api.post("functions/deploy/resume", json!({})).await.json()["state"], "active");
        let codes =
            ["trigger_paused", "trigger_resumed", "trigger_armed", "function_paused", "function_resumed"];
        assert_eq!(api.audited("audit.admin").await, codes);
    });
}

#[test]
fn secrets_leave_only_when_revealed_and_that_is_audited() {
    on_actix(async {
        let api = Api::new(None);
        let json = [("content-type", "application/json")];
        let set =
            api.send("PUT", "/api/v1/secrets/notion/signing_secret", &json, r#"{"value":"hunter2"}"#).await;
        assert_eq!(set.status, 200);
        assert_eq!(*api.runtime.changed_secrets.lock(), ["notion/signing_secret"]);
        let mut answers = Vec::new();
        for path in
            ["secrets", "secrets/notion/signing_secret/sealed", "log/secrets", "log/audit.admin", "triggers"]
        {
            let answer = api.get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            answers.push(String::from_utf8(answer.body).unwrap());
        }
        assert!(answers[0].contains("notion/signing_secret"));
        assert!(!answers.concat().contains("hunter2"), "{answers:?}");
        let revealed = api.post("secrets/notion/signing_secret/reveal", json!({})).await.json();
        assert_eq!(revealed["value"], "hunter2");
        assert_eq!(api.audited("audit.admin").await, ["secret_set", "secret_revealed"]);
        let bad = api.send("PUT", "/api/v1/secrets/x", &json, r#"{"value":"hunter3","x":1}"#).await;
        assert!(!bad.is_problem(400, "invalid_body").contains("hunter3"));
        assert_eq!(api.send("DELETE", "/api/v1/secrets/notion/signing_secret", &[], "").await.status, 200);
        api.post("secrets/notion/signing_secret/reveal", json!({})).await.is_problem(404, "not_found");
    });
}

#[test]
fn whatever_is_wrong_is_told_as_problem_details() {
    on_actix(async {
        let api = Api::new(None);
        let json = ("content-type", "application/json");
        let big = "x".repeat(1_100_000);
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, &str, Headers<'_>, &str, u16, &str); 14] = [
            ("GET", "/nowhere", &[], "", 404, "not_found"),
            ("GET", "/api/v1/nowhere", &[], "", 404, "not_found"),
            ("POST", "/api/v1/nowhere", &[], "", 404, "not_found"),
            ("POST", "/api/v1/events", &[], "", 405, "method_not_allowed"),
            ("GET", "/api/v1/triggers/github/pause", &[], "", 405, "method_not_allowed"),
            ("PATCH", "/api/v1/triggers/github/pause", &[], "", 405, "method_not_allowed"),
            ("GET", "/api/v1/events?triger=x", &[], "", 400, "unknown_parameter"),
            ("GET", "/api/v1/events?limit=501", &[], "", 400, "invalid_parameter"),
            ("GET", "/api/v1/events?state=x", &[], "", 400, "invalid_parameter"),
            ("GET", "/api/v1/events?cursor=x", &[], "", 400, "invalid_parameter"),
            ("POST", "/api/v1/triggers/github/pause", &[], "{}", 415, "unsupported_media_type"),
            ("POST", "/api/v1/triggers/github/pause", &[json], "{", 400, "invalid_json"),
            ("POST", "/api/v1/triggers/github/pause", &[json], r#"{"x":1}"#, 400, "invalid_body"),
            ("POST", "/api/v1/triggers/github/pause", &[json], &big, 413, "body_too_large"),
        ];
        for (method, path, headers, body, status, code) in cases {
            let answer = api.send(method, path, headers, body).await;
            let detail = answer.is_problem(status, code);
            assert!(!detail.is_empty(), "{method} {path}");
        }
        let detail = api.get("events?triger=x").await.is_problem(400, "unknown_parameter");
        assert!(detail.contains("did you mean `trigger`?"), "{detail}");
        let not_allowed = api.send("PATCH", "/api/v1/triggers/github/pause", &[], "").await;
        assert_eq!(not_allowed.header("allow"), "POST");
    });
}

#[test]
fn every_path_of_the_list_is_there() {
    on_actix(async {
        let api = Api::new(None);
        let event = api.ingest("push", "1", b"{}").await;
        let run = &api.route(&[event], dead).await[0];
        let listed = api.send("GET", "/api/v1", &[], "").await.json();
        let paths: Vec<&str> = listed["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for path in ["dead-letters/{id}", "secrets/{name}/sealed", "health"] {
            assert!(paths.contains(&path), "{path}");
        }
        for path in paths {
            let id = match path.split('/').next().unwrap() {
                "events" => event.to_string(),
                "runs" | "dead-letters" => run.to_string(),
                "quarantine" => "q0197c1f4e2a00000".to_owned(),
                "replays" => "1".to_owned(),
                "functions" => "deploy".to_owned(),
                _ => "github".to_owned(),
            };
            let path = path.replace("{id}", &id).replace("{topic}", "events").replace("{name}", "x");
            let answer = api.get(&path).await;
            let detail =
                if answer.status == 404 { answer.is_problem(404, "not_found") } else { String::new() };
            assert!(matches!(answer.status, 200 | 404), "{path} answers {}", answer.status);
            assert!(!detail.contains("no such path"), "{path}");
        }
    });
}

#[test]
fn foreign_names_and_foreign_pages_are_refused() {
    on_actix(async {
        let api = Api::new(None);
        let read = |headers| api.send("GET", "/api/v1/events", headers, "");
        read(&[("host", "evil.example")]).await.is_problem(403, "unknown_host");
        assert_eq!(read(&[("host", "hooks.internal")]).await.status, 200);
        let pause = |headers| api.send("POST", "/api/v1/triggers/github/pause", headers, "");
        pause(&[("origin", "http://evil.example")]).await.is_problem(403, "cross_origin");
        pause(&[("sec-fetch-site", "cross-site")]).await.is_problem(403, "cross_origin");
        assert_eq!(api.get("triggers/github").await.json()["state"], "active");
    });
}

#[test]
fn the_connection_of_a_refused_body_is_closed() {
    on_actix(async {
        let api = Api::new(Some("hunter2"));
        let app = App::new().configure(admin::configure(api.state.clone()));
        let app = web_test::init_service(app).await;
        let closes = async |length: &str, token: &str, body: Vec<u8>| {
            let request = web_test::TestRequest::post()
                .uri("/api/v1/triggers/github/pause")
                .insert_header(("host", "127.0.0.1:8081"))
                .insert_header(("authorization", format!("Bearer {token}")))
                .insert_header(("content-length", length.to_owned()))
                .set_payload(body);
            let response = web_test::call_service(&app, request.to_request()).await;
            let closes = response.response().head().connection_type() == ConnectionType::Close;
            (response.status().as_u16(), closes)
        };
        assert_eq!(closes("2", "wrong", b"{}".to_vec()).await, (401, true));
        assert_eq!(closes("0", "wrong", Vec::new()).await, (401, false));
        assert_eq!(closes("1048577", "hunter2", vec![b' '; 1_048_577]).await, (413, true));
        assert_eq!(closes("0", "hunter2", Vec::new()).await, (200, false));
    });
}

#[test]
fn however_long_a_request_is_its_audit_line_fits_the_log() {
    on_actix(async {
        let api = Api::new(None);
        let kind = "ü".repeat(500_000);
        let started = api.post("replays", json!({"filter": {"kind": kind}, "dry_run": true})).await;
        assert_eq!(started.status, 202);
        assert_eq!(api.audited("audit.admin").await, ["replay_started"]);
    });
}

#[test]
fn a_client_that_hangs_up_does_not_stop_what_it_asked_for() {
    on_actix(async {
        let api = Api::new(None);
        {
            let pause = api.post("triggers/github/pause", json!({}));
            let mut pause = std::pin::pin!(pause);
            // One look takes the request as far as its work; then the client is gone.
            let is_pending = poll_fn(|context| Poll::Ready(pause.as_mut().poll(context).is_pending())).await;
            assert!(is_pending);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while api.audited("audit.admin").await != ["trigger_paused"] {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(api.get("triggers/github").await.json()["state"], "paused");
    });
}

#[test]
fn a_configured_token_is_required_for_all_but_health() {
    on_actix(async {
        let api = Api::new(Some("hunter2"));
        let read = |path, headers| api.send("GET", path, headers, "");
        let refused = read("/api/v1/events", &[]).await;
        refused.is_problem(401, "missing_token");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        read("/api/v1/events", &[("authorization", "Bearer x")]).await.is_problem(401, "invalid_token");
        assert_eq!(read("/api/v1/events", &[("authorization", "Bearer hunter2")]).await.status, 200);
        assert_eq!(read("/healthz", &[]).await.status, 200);
        assert_eq!(read("/readyz", &[]).await.json(), json!({"status": "ok"}));
    });
}

#[test]
fn topics_are_read_by_cursor() {
    on_actix(async {
        let api = Api::new(None);
        for i in 0..5 {
            api.ingest("push", &i.to_string(), b"{}").await;
        }
        let first = api.get("log/events?limit=3").await.json();
        assert_eq!(first["items"].as_array().unwrap().len(), 3);
        assert_eq!(first["items"][0]["record"], "event");
        let next = first["next_cursor"].as_str().unwrap();
        let second = api.get(&format!("log/events?limit=3&cursor={next}")).await.json();
        assert_eq!(second["items"].as_array().unwrap().len(), 2);
        let topics: BTreeMap<String, Value> = api.get("log").await.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["topic"].as_str().unwrap().to_owned(), item.clone()))
            .collect();
        assert!(topics.contains_key("events") && topics.contains_key("runs"));
    });
}
