//! Talks to a running server's admin API.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use super::Usage;
use super::render::text;
use crate::admin::Query;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take; longer than the API's longest wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a server may take to say that it lives, where nobody said that there is one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of one admin API.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Returns an HTTP client that follows no redirects.
pub(super) fn http_client(accept_any_certificate: bool) -> anyhow::Result<reqwest::Client> {
    // A second call finds the provider there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("hookkeeper/", env!("CARGO_PKG_VERSION")))
        .tls_danger_accept_invalid_certs(accept_any_certificate)
        .build()?)
}

impl Client {
    /// Returns a client of the API at a base URL such as `http://127.0.0.1:8081`, or as `serve` shows it, with the
    /// path of the API.
    pub(super) fn new(base: &str, token: Option<String>) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix("/api/v1").unwrap_or(base);
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Usage(format!("{base:?} is no admin URL: write http://127.0.0.1:8081")).into());
        }
        Ok(Self { http: http_client(false)?, base: base.to_owned(), token })
    }

    /// Returns the base URL.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Tells whether a server answers.
    pub(super) async fn answers(&self) -> bool {
        let probe = self.http.get(format!("{}/healthz", self.base)).timeout(PROBE_TIMEOUT).send();
        probe.await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str, query: &Query) -> anyhow::Result<Value> {
        let answer = self.ask(Method::GET, path, query, None).await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("{} answered with something else than JSON", self.base))
    }

    /// Reads bytes as they are.
    pub(super) async fn get_bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, path, &Query::default(), None).await
    }

    /// Changes something.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let answer = self.ask(method, path, query, Some(body)).await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("{} answered with something else than JSON", self.base))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Option<&Value>,
    ) -> anyhow::Result<Bytes> {
        let parameters = query.to_url();
        let mark = if parameters.is_empty() { "" } else { "?" };
        let mut request = self.http.request(method, format!("{}/api/v1/{path}{mark}{parameters}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let unreachable = || format!("no server answers at {}", self.base);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let answer = answer.bytes().await.with_context(unreachable)?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refusal(status.as_u16(), &answer))
    }
}

/// Turns problem details into an error.
fn refusal(status: u16, answer: &[u8]) -> anyhow::Error {
    let problem: Value = serde_json::from_slice(answer).unwrap_or_default();
    let detail = match text(&problem, "/detail") {
        "" => format!("the server answered with status {status}"),
        detail => detail.to_owned(),
    };
    match (status, text(&problem, "/code")) {
        (401, _) => Usage(format!("{detail} (set HOOKKEEPER_ADMIN_TOKEN)")).into(),
        (_, "unknown_method") => Usage(format!("{detail} (`hookkeeper call PROVIDER` lists them)")).into(),
        (400 | 422, _) | (_, "no_client") => Usage(detail).into(),
        _ => anyhow::anyhow!(detail),
    }
}
