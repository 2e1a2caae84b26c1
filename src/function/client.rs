//! The HTTP client of functions: connections are kept for the next attempt, redirects not followed, proxies of the
//! environment not used. What a request says and what an answer means stands in `http`.

use std::time::Duration;

use ::http::{HeaderValue, Request, Response, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt as _;

/// Longest time to establish a connection. An attempt's own timeout may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept for the next attempt: shorter than most servers close theirs, so that a
/// request seldom meets a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Most idle connections kept for one receiver.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// The client that all http functions share. Cheap to clone; build it once, where the dispatchers are built.
#[derive(Clone)]
pub struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// An answer whose body is still to be read.
pub(super) type Answered = Response<hyper::body::Incoming>;

impl Client {
    /// Builds the client. A machine without root certificates gets one that reaches `http` only.
    pub fn new() -> Self {
        // A provider that is installed already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = ClientConfig::with_platform_verifier().unwrap_or_else(|error| {
            tracing::warn!(%error, "no root certificates: functions are reached over http only");
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        });
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self(client)
    }

    /// Sends a request and returns once the answer's head is there.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answered, Error> {
        self.0.request(request).await
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a function's requests go, read from its URL once.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) uri: Uri,
    /// Basic authentication, where the URL names a user.
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// If it is none, or neither http nor https.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let mut url: reqwest::Url = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("expected a URL that begins with http:// or https:// and names a host".to_owned());
        }
        let authorization = authorization(&url);
        url.set_fragment(None);
        // It has a host, so it can have a user, and none.
        let _ = (url.set_username(""), url.set_password(None));
        let uri = url.as_str().parse().map_err(|error| format!("not a URL: {error}"))?;
        Ok(Self { uri, authorization })
    }
}

fn authorization(url: &reqwest::Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = percent_decode_str(url.username()).collect::<Vec<u8>>();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, uri: &str, authorization: Option<&str>) {
        let target = Target::parse(url).unwrap();
        assert_eq!(target.uri.to_string(), uri);
        let expected = authorization.map(|pair| format!("Basic {}", STANDARD.encode(pair)));
        assert_eq!(target.authorization.as_ref().map(|value| value.to_str().unwrap()), expected.as_deref());
    }

    #[test]
    fn a_user_in_the_url_becomes_basic_authentication_and_leaves_the_url() {
        check("http://example.com/a?b=c#d", "http://example.com/a?b=c", None);
        check("https://us%3Aer:p%40ss@example.com:8443", "https://example.com:8443/", Some("us:er:p@ss"));
        check("http://user@127.0.0.1:1/", "http://127.0.0.1:1/", Some("user:"));
        check("http://bücher.example/ä b", "http://xn--bcher-kva.example/%C3%A4%20b", None);
    }
}
