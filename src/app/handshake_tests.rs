//! The handshakes of the vectors, sent over HTTP to a whole server whose clock stands at their time.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::*;
use crate::catalog::ProviderCatalog;
use crate::config::{self, Dedupe, SecretRef, Trigger, TriggerKind};
use crate::event::Timestamp;

/// A vector, as far as it matters here; `tests/it/providers.rs` reads all of it.
#[derive(Deserialize)]
struct Vector {
    provider: Option<String>,
    what: String,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    named: BTreeMap<String, String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    method: Option<String>,
    url: Option<String>,
    public_url: Option<String>,
    #[serde(default)]
    keys: BTreeMap<String, serde_json::Value>,
    headers: Vec<(String, String)>,
    body: Option<String>,
    body_base64: Option<String>,
    at: serde_json::Value,
    #[serde(default)]
    armed: bool,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    state: String,
    reply: Option<Expected>,
    learn: Option<Learn>,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    content_type: Option<String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Learn {
    name: String,
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

fn read(path: &Path) -> Vec<Vector> {
    let text = std::fs::read_to_string(path).unwrap();
    toml::from_str::<Vectors>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).vectors
}

/// Returns all handshakes, each with its provider's id.
fn handshakes() -> Vec<(String, Vector)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut found = Vec::new();
    for vector in read(&folder.join("handshakes.toml")) {
        found.push((vector.provider.clone().expect("names its provider"), vector));
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let id = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.extend(read(&path.join("vectors.toml")).into_iter().map(|vector| (id.clone(), vector)));
        }
    }
    found.retain(|(_, vector)| vector.expect.state == "handshake");
    found
}

impl Vector {
    fn at(&self) -> Timestamp {
        match &self.at {
            serde_json::Value::Number(seconds) => Timestamp::from_second(seconds.as_i64().unwrap()).unwrap(),
            time => time.as_str().unwrap().parse().unwrap(),
        }
    }

    fn url(&self) -> &str {
        self.url.as_deref().unwrap_or("/hooks/x")
    }

    fn path(&self) -> &str {
        self.url().split('?').next().unwrap()
    }

    fn trigger(&self, provider: &str) -> Trigger {
        let literal = |text: &String| SecretRef::Literal(text.clone());
        let mut secrets: BTreeMap<_, _> =
            self.named.iter().map(|(name, text)| (name.clone(), vec![literal(text)])).collect();
        if !self.secrets.is_empty() {
            secrets.insert("signing_secret".to_owned(), self.secrets.iter().map(literal).collect());
        }
        Trigger {
            id: "x".parse().unwrap(),
            provider: provider.parse().unwrap(),
            kind: TriggerKind::Webhook,
            path: self.path().to_owned(),
            secrets,
            tolerance: None,
            dedupe_window: Duration::from_secs(3600),
            dedupe: Dedupe::Delivery,
            rate_limit: None,
            settings: self.settings.clone(),
            public_keys: self.keys.values().map(|key| literal(&key.as_str().unwrap().to_owned())).collect(),
        }
    }

    fn options(&self, provider: &str, data: &Path) -> ServeOptions {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let public_url =
            self.public_url.as_ref().map(|url| url.strip_suffix(self.path()).unwrap().to_owned());
        let server = config::Server {
            listen: loopback,
            admin: loopback,
            workers: 1,
            public_url,
            ..Default::default()
        };
        ServeOptions {
            config: Config {
                secrets: Default::default(),
                server,
                log: config::Log { path: data.to_owned() },
                outbound: Default::default(),
                triggers: vec![self.trigger(provider)],
                functions: Vec::new(),
                providers: Vec::new(),
                clients: Vec::new(),
            },
            registry: ConnectorRegistry::new(ProviderCatalog::built_in()),
            clock: Clock::fixed(self.at()),
            store: None,
            started: Box::new(|_| ()),
        }
    }

    async fn send(&self, to: SocketAddr) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let body = match (&self.body, &self.body_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).unwrap(),
            _ => panic!("one of body and body_base64"),
        };
        let method = self.method.as_deref().unwrap_or("POST").parse().unwrap();
        let mut request = client.request(method, format!("http://{to}{}", self.url())).body(body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    /// Sends the handshake to a server of its own; says what is not as it should be.
    async fn check(&self, provider: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start(&self.options(provider, folder.path()))
            .await
            .map_err(|error| format!("{error:#}"))?;
        let is_armed = || running.providers.iter().next().unwrap().trigger(0).is_armed(self.at());
        while self.armed && !is_armed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answer = self.send(running.started.listen).await;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.unwrap();
        let is_kept = self.expect.learn.as_ref().is_none_or(|learn| {
            let state = running.log.state();
            state.sealed(&format!("x/{}", learn.name)).is_some()
        });
        running.stop(Duration::from_secs(5)).await.unwrap();
        let expected = self.expect.reply.as_ref().ok_or("no reply is expected")?;
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        if (status, &body) != (expected.status, &expected.body) {
            return Err(format!("{status} {body:?}, not {} {:?}", expected.status, expected.body));
        }
        if header("content-type") != expected.content_type {
            return Err(format!("content type {:?}", header("content-type")));
        }
        if let Some((name, value)) =
            expected.headers.iter().find(|(name, value)| header(name).as_ref() != Some(value))
        {
            return Err(format!("header {name} is {:?}, not {value:?}", header(name)));
        }
        is_kept.then_some(()).ok_or_else(|| "the secret is not kept".to_owned())
    }
}

#[actix::test]
async fn every_handshake_of_the_vectors_is_answered_over_http() {
    let mut failures = Vec::new();
    let mut answered = BTreeSet::new();
    for (provider, vector) in handshakes() {
        answered.insert(provider.clone());
        // Its answer waits for a call to Amazon: tests/it/keys.rs has that.
        if provider == "aws-sns" {
            continue;
        }
        if let Err(why) = vector.check(&provider).await {
            failures.push(format!("{provider}: {}: {why}", vector.what));
        }
    }
    assert!(failures.is_empty(), "{} handshakes fail:\n{}", failures.len(), failures.join("\n"));
    let catalog = ProviderCatalog::built_in();
    let silent: Vec<_> = catalog
        .entries()
        .filter(|entry| !entry.handshakes.is_empty() && !answered.contains(entry.id.as_str()))
        .map(|entry| entry.id.to_string())
        .collect();
    assert!(silent.is_empty(), "handshakes without a vector: {silent:?}");
}
