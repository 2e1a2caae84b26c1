//! Calls of Acme's API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hookkeeper::clock::Clock;
use hookkeeper::outbound::{self, Request};
use hookkeeper::permits::{Lane, RateLimiter};
use hookkeeper::secrets::Secret;
use hookkeeper::{ClientError, ConnectorClient};
use serde_json::Value;

const API: &str = "https://api.acme.example/v1";
const METHODS: [&str; 2] = ["get_account", "list_changes"];
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How long a call may take, the wait for its permit apart.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a call waits for its permit.
const PERMIT_WAIT: Duration = Duration::from_secs(5);

/// Calls Acme's API; without what `init` brings it can do nothing.
#[derive(Default)]
pub struct AcmeClient {
    world: Option<World>,
    token: Mutex<Option<Secret>>,
}

struct World {
    http: Arc<outbound::Client>,
    clock: Clock,
    limiter: RateLimiter,
}

impl AcmeClient {
    pub(crate) fn new(http: Arc<outbound::Client>, clock: Clock, limiter: RateLimiter) -> Self {
        Self { world: Some(World { http, clock, limiter }), token: Mutex::default() }
    }

    pub(crate) fn set_token(&self, token: Option<Secret>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn authorization(&self) -> Result<String, ClientError> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let token =
            token.as_ref().ok_or_else(|| ClientError::Credentials("there is no api_token".to_owned()))?;
        let token = std::str::from_utf8(token.expose());
        let token = token.map_err(|_| ClientError::Credentials("the api_token is no text".to_owned()))?;
        Ok(format!("Bearer {token}"))
    }

    async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let headers = [("authorization".to_owned(), self.authorization()?)];
        let world = self.world.as_ref();
        let World { http, clock, limiter } =
            world.ok_or_else(|| ClientError::Credentials("the connector is not initialized".to_owned()))?;
        let permit = limiter.acquire(Lane::Live, clock.now() + PERMIT_WAIT).await;
        let permit =
            permit.map_err(|limited| ClientError::RateLimited { retry_after: limited.retry_after })?;
        let url = format!("{API}{path}");
        let request = Request {
            method: "GET",
            url: &url,
            headers: &headers,
            body: b"",
            answer_bytes_max: ANSWER_BYTES_MAX,
            timeout: TIMEOUT,
        };
        let answer = http.send(request).await.map_err(|error| ClientError::Unreachable(error.to_string()))?;
        let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        permit.observe(answer.status, headers, clock.now());
        match answer.status {
            200..=299 => serde_json::from_slice(&answer.body)
                .map_err(|error| ClientError::Malformed(format!("it is no JSON: {error}"))),
            status => Err(ClientError::Refused { status, message: format!("GET {path}") }),
        }
    }
}

fn problem(method: &str, problem: &str) -> ClientError {
    ClientError::InvalidArgs { method: method.to_owned(), problem: problem.to_owned() }
}

/// Tells whether a text may stand in a path or query as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

#[async_trait]
impl ConnectorClient for AcmeClient {
    fn methods(&self) -> Vec<String> {
        METHODS.map(str::to_owned).to_vec()
    }

    async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError> {
        match method {
            "get_account" => match args["account"].as_str().filter(|account| is_plain(account)) {
                Some(account) => self.get(&format!("/accounts/{account}")).await,
                None => Err(problem(method, "expected account, of letters, digits, _ and -")),
            },
            "list_changes" => match args["after"].as_str() {
                None => self.get("/changes").await,
                Some(after) if is_plain(after) => self.get(&format!("/changes?after={after}")).await,
                Some(_) => Err(problem(method, "after is a cursor of an earlier answer")),
            },
            _ => Err(ClientError::unknown_method(method, &self.methods())),
        }
    }
}
