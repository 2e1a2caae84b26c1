//! The one client of whatever a catalogue entry describes: arguments become a request, a permit is waited
//! for, the answer becomes a value or an error.
//!
//! A call is made once. Only one that may be repeated is sent a second time, and only where the connection
//! failed: a GET, what the entry calls idempotent, and what carries an idempotency key that the provider knows.
//! Whether to call again is the caller's decision.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::args::Args;
use super::auth::{self, Shown};
use super::github_app::{Token, Tokens, app_token};
use super::pages::{Listing, Page, is_below, own_url};
use super::redirect::{self, REDIRECTS_MAX};
use super::request::{Draft, PageParams, draft, page_size, raw};
use super::settings::Plan;
use super::{
    CallOptions, ClientBuildError, ClientError, ClientSecrets, ClientSettings, ConnectorClient, answer,
};
use crate::catalog::{
    ClientAuth, ClientCode, ClientErrors, ClientLimits, ClientMethod, ClientPages, INSTALLATION_ARG,
    PageKind, ProviderEntry,
};
use crate::clock::Clock;
use crate::event::{ProviderId, Timestamp};
use crate::outbound::{self, Answer, HeaderValue};
use crate::permits::{Budget, HeaderRules, Profile, RateLimiterFactory, learn};

/// Most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How much longer than its caller a single request may take.
const TIMEOUT_SLACK: Duration = Duration::from_secs(1);
/// What tokens of an app are counted by at the provider: the app itself.
const APP_SCOPE: &str = "app";

/// What a client needs of the world.
#[derive(Clone)]
pub struct ClientParts {
    /// The one way out.
    pub http: Arc<outbound::Client>,
    /// The credentials.
    pub secrets: Arc<dyn ClientSecrets>,
    /// The permits that every request waits for.
    pub permits: RateLimiterFactory,
    /// The time.
    pub clock: Clock,
}

/// Calls the API that a catalogue entry describes.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use hookkeeper::catalog::ProviderCatalog;
/// use hookkeeper::clock::Clock;
/// use hookkeeper::connector::{
///     CatalogConnector, ClientParts, ClientSecrets, ClientSettings, Connector, ConnectorClient, RestClient,
/// };
/// use hookkeeper::outbound;
/// use hookkeeper::permits::RateLimiterFactory;
/// use hookkeeper::secrets::Secret;
/// use hookkeeper::settings::Outbound;
/// use serde_json::json;
///
/// /// Every secret is the same variable.
/// struct Variable(&'static str);
///
/// #[async_trait]
/// impl ClientSecrets for Variable {
///     async fn secret(&self, _: &str) -> Result<Secret, String> {
///         std::env::var(self.0).map(Secret::new).map_err(|error| error.to_string())
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let catalog = ProviderCatalog::built_in();
/// let entry = catalog.get("slack").expect("it is built in").clone();
/// let clock = Clock::system();
/// let parts = ClientParts {
///     http: Arc::new(outbound::Client::new(&Outbound::default())?),
///     secrets: Arc::new(Variable("SLACK_TOKEN")),
///     permits: RateLimiterFactory::new(clock.clone()),
///     clock,
/// };
/// let settings = ClientSettings { secrets: ["token".to_owned()].into(), ..ClientSettings::default() };
/// let client = Arc::new(RestClient::new(&entry, &settings, parts)?);
/// client.call("post", json!({"channel": "C0123", "text": "Hello"})).await?;
/// // Or as what the connector offers beside its events.
/// let connector = CatalogConnector::new(entry).with_client(client);
/// connector.client().call("user_info", json!({"user": "U0123"})).await?;
/// # Ok(())
/// # }
/// ```
pub struct RestClient {
    provider: ProviderId,
    plan: Plan,
    errors: ClientErrors,
    limits: ClientLimits,
    hosts: Vec<String>,
    idempotency_header: Option<String>,
    parts: ClientParts,
    tokens: Tokens,
}

/// One call under way.
pub(super) struct Call<'a> {
    options: &'a CallOptions,
    deadline: Instant,
    installation: Option<String>,
    /// Whether sending it twice is no harm, also where it is no GET.
    is_repeatable: bool,
}

impl Call<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }
}

impl RestClient {
    /// Makes the client of an entry, with what the configuration says.
    ///
    /// # Errors
    ///
    /// If the entry has no client, or something that it needs is missing.
    pub fn new(
        entry: &ProviderEntry,
        settings: &ClientSettings,
        parts: ClientParts,
    ) -> Result<Self, ClientBuildError> {
        let plan = Plan::new(entry, settings)?;
        let client = entry.client.clone().ok_or_else(|| ClientBuildError::NoClient(entry.id.to_string()))?;
        if let (Some(per_second), Some(burst)) = (client.limits.per_second, client.limits.burst) {
            parts.permits.register(&entry.id, Profile::new(Budget { per_second, burst }));
        }
        Ok(Self {
            provider: entry.id.clone(),
            plan,
            errors: client.errors,
            limits: client.limits,
            hosts: client.hosts,
            idempotency_header: client.idempotency_header,
            tokens: Tokens::new(parts.clock.clone()),
            parts,
        })
    }

    async fn run(&self, name: &str, args: Value, options: &CallOptions) -> Result<Value, ClientError> {
        let method = self.plan.methods.get(name);
        let method = method.ok_or_else(|| ClientError::unknown_method(name, &self.plan.names))?;
        let args = Args::read(method, args)?;
        let call = Call {
            options,
            deadline: Instant::now() + options.timeout,
            installation: args.installation.clone(),
            is_repeatable: self.is_repeatable(method, options),
        };
        match (&method.code, &method.pages) {
            (Some(ClientCode::SlackUpload), _) => self.slack_upload(&call, method, &args.own).await,
            (_, Some(pages)) => self.listing(&call, method, pages, &args).await,
            (_, None) => self.single(&call, method, &args).await,
        }
    }

    fn is_repeatable(&self, method: &ClientMethod, options: &CallOptions) -> bool {
        let has_key = options.idempotency_key.is_some() && self.idempotency_header.is_some();
        method.idempotent || has_key
    }

    async fn single(
        &self,
        call: &Call<'_>,
        method: &ClientMethod,
        args: &Args,
    ) -> Result<Value, ClientError> {
        let (base, body) = (&self.plan.base, self.plan.body);
        let draft = match method.code {
            Some(ClientCode::Raw) => raw(base, body, &args.own),
            _ => draft(base, body, method, &args.own, &PageParams::default()),
        };
        let draft = draft.map_err(|problem| invalid(method, problem))?;
        let (_, mut value) = self.exchange(call, &draft).await?;
        let found = value.pointer_mut(&method.result).map(Value::take);
        let missing = || ClientError::Malformed(format!("expected a result at {:?}", method.result));
        found.ok_or_else(missing)
    }

    async fn listing(
        &self,
        call: &Call<'_>,
        method: &ClientMethod,
        pages: &ClientPages,
        args: &Args,
    ) -> Result<Value, ClientError> {
        let mut listing = Listing::new(&args.wanted);
        loop {
            let size = page_size(pages, listing.left(&args.wanted), args.wanted.all);
            let params = PageParams { cursor: listing.cursor().map(str::to_owned), size };
            let draft = draft(&self.plan.base, self.plan.body, method, &args.own, &params);
            let mut draft = draft.map_err(|problem| invalid(method, problem))?;
            if let (PageKind::Link, Some(next)) = (pages.by, listing.cursor()) {
                draft.url = self.next_url(next).map_err(|problem| invalid(method, problem))?;
            }
            let (answer, value) = self.exchange(call, &draft).await?;
            let (headers, bytes) = (&answer.headers, answer.body.len());
            let page = Page { value, headers, base: &self.plan.base, bytes };
            if !listing.take(pages, &args.wanted, page)? {
                return Ok(listing.into_value());
            }
        }
    }

    /// Reads a cursor that is a URL; it may come from a caller, so it is no more trusted than one.
    fn next_url(&self, cursor: &str) -> Result<Url, String> {
        let base = &self.plan.base;
        let url = own_url(cursor, base).filter(|url| is_below(url, base));
        url.ok_or_else(|| "`cursor`: it is none that an earlier result ended with".to_owned())
    }

    /// Sends a request as who calls, and reads the answer. Where a token was good no longer, a new one is
    /// fetched, once.
    pub(super) async fn exchange(
        &self,
        call: &Call<'_>,
        draft: &Draft,
    ) -> Result<(Answer, Value), ClientError> {
        let shown = self.show(call).await?;
        let exchanged = self.attempt(call, draft, &shown, &self.scope(&shown, draft)).await;
        let (Err(ClientError::Credentials(_)), Some((installation, token))) =
            (&exchanged, &shown.installation)
        else {
            return exchanged;
        };
        self.tokens.forget(installation, token).await;
        let shown = self.show(call).await?;
        self.attempt(call, draft, &shown, &self.scope(&shown, draft)).await
    }

    async fn show(&self, call: &Call<'_>) -> Result<Shown, ClientError> {
        let auth = self.plan.auth.as_ref();
        let Some(ClientAuth::GithubApp { secret, app_id, installation_id }) = auth else {
            return auth::show(auth, &*self.parts.secrets).await;
        };
        let installation = call.installation.as_ref().unwrap_or(installation_id);
        if installation.is_empty() {
            let what = format!(
                "the app's installation is not known: give the argument {INSTALLATION_ARG}, or set it in \
                 [clients.{}]",
                self.provider
            );
            return Err(ClientError::Credentials(what));
        }
        let token =
            self.tokens.get(installation, self.fetch_token(call, secret, app_id, installation)).await?;
        let mut shown = Shown::token(&token.secret)?;
        shown.installation = Some((installation.clone(), token.secret));
        Ok(shown)
    }

    async fn fetch_token(
        &self,
        call: &Call<'_>,
        secret: &str,
        app_id: &str,
        installation: &str,
    ) -> Result<Token, ClientError> {
        let key = self.parts.secrets.secret(secret).await.map_err(ClientError::Credentials)?;
        let now = self.parts.clock.now();
        let jwt = app_token(&key, app_id, now).map_err(ClientError::Credentials)?;
        let path = format!("/app/installations/{}/access_tokens", super::encode::segment(installation));
        let args = serde_json::json!({"path": path, "method": "POST"});
        let args = args.as_object().cloned().unwrap_or_default();
        let draft = raw(&self.plan.base, self.plan.body, &args).map_err(ClientError::Credentials)?;
        match self.attempt(call, &draft, &Shown::token(&jwt)?, APP_SCOPE).await {
            Ok((_, answer)) => Token::read(&answer, now).map_err(ClientError::Credentials),
            // What may pass by itself is no fault of the credentials: the caller may come again.
            Err(ClientError::Refused { status: status @ 500.., message }) => {
                let message = format!("no token for installation {installation}: {message}");
                Err(ClientError::Refused { status, message })
            }
            Err(error) if error.retry_after().is_some() => Err(error),
            Err(error) => {
                let what = format!("no token for installation {installation}: {error}");
                Err(ClientError::Credentials(what))
            }
        }
    }

    /// Returns what the provider counts a request by.
    fn scope(&self, shown: &Shown, draft: &Draft) -> String {
        match &shown.installation {
            Some((installation, _)) => format!("installation/{installation}"),
            None if self.limits.per_path => format!("{}{}", self.limits.scope, draft.path(&self.plan.base)),
            None => self.limits.scope.clone(),
        }
    }

    /// Sends a request, and again where the API says that it belongs elsewhere within it.
    async fn attempt(
        &self,
        call: &Call<'_>,
        draft: &Draft,
        shown: &Shown,
        scope: &str,
    ) -> Result<(Answer, Value), ClientError> {
        let mut draft = Cow::Borrowed(draft);
        for _ in 0..=REDIRECTS_MAX {
            let (answer, read) = self.ask(call, &draft, shown, scope).await?;
            match redirect::target(&answer, &draft, &self.plan.base)? {
                // The URL named may have the credentials in it already.
                Some(_) if shown.is_in_url() => return Err(redirect::refused(&answer, &self.plan.base)),
                Some(url) => draft.to_mut().url = url,
                None => return read.map(|value| (answer, value)).map_err(|error| shown.redacted(error)),
            }
        }
        Err(ClientError::Malformed(format!("it redirects more than {REDIRECTS_MAX} times")))
    }

    /// Sends a request once, within a permit, and reads the answer.
    async fn ask(
        &self,
        call: &Call<'_>,
        draft: &Draft,
        shown: &Shown,
        scope: &str,
    ) -> Result<(Answer, Result<Value, ClientError>), ClientError> {
        let url = shown.url(&self.plan.base, &draft.url)?;
        let headers = self.headers(call, draft, shown)?;
        let limiter = self.parts.permits.limiter(&self.provider, scope);
        let deadline = self.parts.clock.now().checked_add(call.left()).unwrap_or(Timestamp::MAX);
        let permit = limiter.acquire(call.options.lane, deadline).await;
        let permit =
            permit.map_err(|limited| ClientError::RateLimited { retry_after: limited.retry_after })?;
        let answer = match self.send(call, &draft.verb, url.as_str(), &headers, &draft.body).await {
            Ok(answer) => answer,
            Err(error @ outbound::Error::Unusable { .. }) => {
                permit.give_back();
                return Err(failed(error));
            }
            Err(error) => return Err(failed(error)),
        };
        let now = self.parts.clock.now();
        let mut read =
            answer::read(&self.errors, &answer, |status| permit.taught(status, headers_of(&answer), now));
        read.settle(|| permit.own_unsaid_wait());
        permit.correct(&read.taught, now);
        Ok((answer, read.result))
    }

    fn headers(
        &self,
        call: &Call<'_>,
        draft: &Draft,
        shown: &Shown,
    ) -> Result<Vec<(String, String)>, ClientError> {
        let mut headers = self.plan.headers.clone();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            headers.push(("accept".to_owned(), "application/json".to_owned()));
        }
        headers.extend(draft.headers.iter().cloned());
        headers.extend(shown.headers());
        if let (Some(name), Some(key)) = (&self.idempotency_header, &call.options.idempotency_key)
            && draft.verb != "GET"
        {
            if HeaderValue::from_str(key).is_err() {
                let problem = "the idempotency key holds what a header cannot carry".to_owned();
                return Err(ClientError::InvalidArgs { method: draft.verb.clone(), problem });
            }
            headers.push((name.clone(), key.clone()));
        }
        Ok(headers)
    }

    async fn send(
        &self,
        call: &Call<'_>,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, outbound::Error> {
        let request = || {
            // The caller's own limit ends it earlier, and says how long that was.
            let (answer_bytes_max, timeout) = (ANSWER_BYTES_MAX, call.left() + TIMEOUT_SLACK);
            outbound::Request { method, url, headers, body, answer_bytes_max, timeout }
        };
        match self.parts.http.send_redirected(request()).await {
            Err(outbound::Error::Unreachable { .. }) if call.is_repeatable || method == "GET" => {
                self.parts.http.send_redirected(request()).await
            }
            sent => sent,
        }
    }

    /// Sends bytes to a URL that the API handed out, without saying who calls.
    pub(super) async fn put_there(
        &self,
        call: &Call<'_>,
        url: &str,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        let url: Url = url
            .parse()
            .map_err(|_| ClientError::Malformed("the answer holds no URL where one belongs".to_owned()))?;
        let host = url.host_str().unwrap_or_default();
        if own_url(url.as_str(), &self.plan.base).is_none() && !self.hosts.iter().any(|known| known == host) {
            return Err(ClientError::Malformed(
                "the answer leads to a host that is none of the API's".to_owned(),
            ));
        }
        let headers = [("content-type".to_owned(), "application/octet-stream".to_owned())];
        let answer = self.send(call, "POST", url.as_str(), &headers, bytes).await.map_err(failed)?;
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        if (300..400).contains(&answer.status) {
            return Err(redirect::refused(&answer, &url));
        }
        // Nothing is learned of it: the host counts nothing by the scope of the call.
        let (rules, now) = (HeaderRules::of(&self.provider), self.parts.clock.now());
        let taught =
            |status: Option<u16>| learn(&rules, status.unwrap_or(answer.status), headers_of(&answer), now);
        let refused = answer::read(&ClientErrors::default(), &answer, taught).result.err();
        let unsaid = || ClientError::Refused { status: answer.status, message: String::new() };
        Err(refused.unwrap_or_else(unsaid))
    }

    /// Returns the base URL.
    pub(super) fn base(&self) -> &Url {
        &self.plan.base
    }

    /// Returns how bodies are written.
    pub(super) fn body_kind(&self) -> crate::catalog::BodyKind {
        self.plan.body
    }
}

fn headers_of(answer: &Answer) -> impl Iterator<Item = (&str, &[u8])> {
    answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

pub(super) fn invalid(method: &ClientMethod, problem: String) -> ClientError {
    ClientError::InvalidArgs { method: method.name.clone(), problem }
}

/// Says why there is no answer.
fn failed(error: outbound::Error) -> ClientError {
    match error {
        outbound::Error::Timeout { limit, .. } => ClientError::Timeout { limit },
        outbound::Error::TooLarge { .. } | outbound::Error::Redirect { .. } => {
            ClientError::Malformed(error.to_string())
        }
        outbound::Error::Unusable { .. } | outbound::Error::Unreachable { .. } => {
            ClientError::Unreachable(error.to_string())
        }
        outbound::Error::Url | outbound::Error::Request { .. } => ClientError::Other(Box::new(error)),
    }
}

#[async_trait]
impl ConnectorClient for RestClient {
    fn methods(&self) -> Vec<String> {
        self.plan.names.clone()
    }

    async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError> {
        self.call_with(method, args, &CallOptions::default()).await
    }

    async fn call_with(
        &self,
        method: &str,
        args: Value,
        options: &CallOptions,
    ) -> Result<Value, ClientError> {
        let called = tokio::time::timeout(options.timeout, self.run(method, args, options)).await;
        called.unwrap_or(Err(ClientError::Timeout { limit: options.timeout }))
    }
}
