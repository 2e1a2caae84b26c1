//! The one way out: every request that hookkeeper makes of its own accord goes through this client.
//!
//! https only, to public addresses unless the configuration allows others, without redirects and without
//! a proxy, with a time limit and a size limit while the answer streams. Functions are not called through
//! it: their addresses are the operator's own. What the answers mean, and how often somebody asks, is the
//! caller's business.

mod address;
mod resolver;
pub(crate) mod tls;

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderName;
pub use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, Url};
use tokio::sync::Semaphore;
use url::Host;

use crate::settings::Outbound;

use resolver::{Resolver, Unusable};

/// Most requests in flight at once; further ones wait, within their time limit.
const IN_FLIGHT_MAX: usize = 64;
/// Longest time to establish a connection. A request's own limit may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: its address was judged when it was made, so not for long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How an authority of one's own comes to be trusted by this client.
const TRUST: &str = "name the authority's certificate in outbound.ca";
/// Largest file of certificates that is read, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 4 << 20;

/// A request to the outside. Shows nothing but its method: everything else may hold secrets.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// An https URL without user info.
    pub url: &'a str,
    /// Headers.
    pub headers: &'a [(String, String)],
    /// Body.
    pub body: &'a [u8],
    /// Most bytes of the answer's body.
    pub answer_bytes_max: usize,
    /// How long all of it may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer. Names the host; never path, query, headers or body, which may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none that may be called.
    #[error("expected an https URL with a host and without user and password")]
    Url,
    /// Method or headers are none.
    #[error("the request to {host} cannot be written: method or headers hold what HTTP does not carry")]
    Request {
        /// The host.
        host: String,
    },
    /// The host must not be called, or its name has no address.
    #[error("{host} is not called: {why}")]
    Unusable {
        /// The host.
        host: String,
        /// Why not.
        why: String,
    },
    /// It took too long.
    #[error("{host} did not answer within {} ms", .limit.as_millis())]
    Timeout {
        /// The host.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection failed: refused, broken off, or with a certificate that does not hold.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What failed.
        why: String,
    },
    /// The answer is longer than it may be.
    #[error("{host} sent more than {bytes_max} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit.
        bytes_max: usize,
    },
    /// The answer leads elsewhere.
    #[error("{host} answered with a redirect, which is not followed")]
    Redirect {
        /// The host.
        host: String,
    },
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of further certificates cannot be used.
    #[error("cannot use the certificates of {path} (outbound.ca): {why}")]
    Certificates {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS for outbound requests")]
    Tls(#[from] reqwest::Error),
}

/// The guarded client. Share one: it bounds what is in flight.
pub struct Client {
    http: reqwest::Client,
    /// The same judge as the client's resolver, for addresses that stand in a URL and are not resolved.
    judge: Resolver,
    in_flight: Semaphore,
}

impl Client {
    /// Builds the client.
    ///
    /// # Errors
    ///
    /// If the configured certificates cannot be read, or TLS cannot be set up. A machine without root
    /// certificates gets a client that reaches nobody, and says so in its log.
    pub fn new(settings: &Outbound) -> Result<Self, SetupError> {
        // A provider that is installed already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = certificates(settings)?;
        let builder = || {
            reqwest::Client::builder()
                .https_only(true)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .dns_resolver(std::sync::Arc::new(Resolver::new(settings)))
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .user_agent(concat!("hookkeeper/", env!("CARGO_PKG_VERSION")))
        };
        let http = builder().tls_certs_merge(certificates.clone()).build().or_else(|error| {
            tracing::warn!(%error, "no root certificates: outbound requests reach only who shows one of outbound.ca");
            builder().tls_certs_only(certificates).build()
        })?;
        Ok(Self { http, judge: Resolver::new(settings), in_flight: Semaphore::new(IN_FLIGHT_MAX) })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// If the host may not be called, cannot be reached or does not answer in time, or if the answer is a
    /// redirect or too large. Any other status is an answer.
    pub async fn send(&self, request: Request<'_>) -> Result<Answer, Error> {
        self.sent(request, false).await
    }

    /// As [`send`](Self::send), but a redirect is an answer too, which its caller follows or not.
    ///
    /// # Errors
    ///
    /// As for `send`, but for redirects.
    pub async fn send_redirected(&self, request: Request<'_>) -> Result<Answer, Error> {
        self.sent(request, true).await
    }

    async fn sent(&self, request: Request<'_>, takes_redirects: bool) -> Result<Answer, Error> {
        let (url, host) = read_url(request.url)?;
        if let Some(address) = literal(&url) {
            self.judge.judge(address).map_err(|why| unusable(&host, &why))?;
        }
        let limit = request.timeout;
        let exchange = async {
            let _permit = self.in_flight.acquire().await;
            self.exchange(url, &host, request, takes_redirects).await
        };
        let exchanged = tokio::time::timeout(limit, exchange).await;
        exchanged.unwrap_or_else(|_| Err(Error::Timeout { host: host.clone(), limit }))
    }

    async fn exchange(
        &self,
        url: Url,
        host: &str,
        request: Request<'_>,
        takes_redirects: bool,
    ) -> Result<Answer, Error> {
        let (method, headers) = head(&request).ok_or_else(|| Error::Request { host: host.to_owned() })?;
        let sending = self.http.request(method, url).headers(headers).body(request.body.to_vec());
        let mut answer = sending.send().await.map_err(|error| failed(host, error))?;
        if answer.status().is_redirection() && !takes_redirects {
            return Err(Error::Redirect { host: host.to_owned() });
        }
        let bytes_max = request.answer_bytes_max;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(host, error))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(Error::TooLarge { host: host.to_owned(), bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(answer.headers_mut());
        Ok(Answer { status: answer.status().as_u16(), headers, body: body.freeze() })
    }
}

fn certificates(settings: &Outbound) -> Result<Vec<Certificate>, SetupError> {
    use std::io::Read as _;
    let Some(path) = &settings.ca else { return Ok(Vec::new()) };
    let wrong = |why: &dyn std::fmt::Display| SetupError::Certificates {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let mut pem = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(CERTIFICATES_BYTES_MAX + 1).read_to_end(&mut pem));
    read.map_err(|error| wrong(&error))?;
    if pem.len() as u64 > CERTIFICATES_BYTES_MAX {
        return Err(wrong(&format_args!("it is larger than {CERTIFICATES_BYTES_MAX} bytes")));
    }
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"there is none in it; expected PEM")) } else { Ok(found) }
}

/// Reads a URL that may be called, and its host for messages.
fn read_url(text: &str) -> Result<(Url, String), Error> {
    let url: Url = text.parse().map_err(|_| Error::Url)?;
    let is_plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
    let host = url.host_str().filter(|host| is_plain && !host.is_empty()).ok_or(Error::Url)?.to_owned();
    Ok((url, host))
}

/// Returns the address of a host that is one, however it is written: the parser reads `0x7f.1` and
/// `2130706433` as the addresses that they are.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Judges the address of a URL's host as far as no name has to be looked up: one that stands in the URL, or that
/// the settings pin a name to.
///
/// # Errors
///
/// If it must not be called; the text says why, and which setting allows it.
pub fn judge_url(url: &str, settings: &Outbound) -> Result<(), String> {
    let (url, host) = read_url(url).map_err(|error| error.to_string())?;
    let pinned = || Some(settings.hosts.get(&host.to_ascii_lowercase())?.ip());
    match literal(&url).or_else(pinned) {
        Some(address) => Resolver::new(settings).judge(address).map_err(|why| why.to_string()),
        None => Ok(()),
    }
}

fn head(request: &Request<'_>) -> Option<(Method, HeaderMap)> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        headers.append(name.parse::<HeaderName>().ok()?, value);
    }
    Some((request.method.parse().ok()?, headers))
}

fn unusable(host: &str, why: &Unusable) -> Error {
    Error::Unusable { host: host.to_owned(), why: why.to_string() }
}

/// Says what failed, without the URL.
fn failed(host: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        if let Some(why) = cause.downcast_ref::<Unusable>() {
            return unusable(host, why);
        }
        if let Some(why) = tls::refusal(cause, TRUST) {
            return Error::Unreachable { host: host.to_owned(), why: why.into_owned() };
        }
        causes.push(cause.to_string());
        next = cause.source();
    }
    if error.is_timeout() {
        return Error::Timeout { host: host.to_owned(), limit: CONNECT_TIMEOUT };
    }
    Error::Unreachable { host: host.to_owned(), why: causes.pop().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_urls_are_read() {
        for good in ["https://keys.example.com", "https://keys.example.com:8443/x?y#z", "https://1.1.1.1/"] {
            assert!(read_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://keys.example.com/",
            "ftp://keys.example.com/",
            "file:///etc/passwd",
            "https://user@keys.example.com/",
            "https://:password@keys.example.com/",
            "https://",
            "keys.example.com",
            "//keys.example.com/",
            "data:text/plain,x",
        ] {
            assert!(matches!(read_url(bad), Err(Error::Url)), "{bad}");
        }
    }

    #[test]
    fn a_file_of_certificates_is_taken_whole_or_not_at_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(CERTIFICATES_BYTES_MAX + 1).unwrap();
        let ca = Some(file.path().to_owned());
        let error = Client::new(&crate::settings::Outbound { ca, ..crate::settings::Outbound::default() })
            .err()
            .unwrap();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    #[test]
    fn a_request_shows_nothing_that_may_be_secret() {
        let headers = [("authorization".to_owned(), "Bearer hunter2".to_owned())];
        let request = Request {
            method: "POST",
            url: "https://api.example.com/bothunter2/x",
            headers: &headers,
            body: b"hunter2",
            answer_bytes_max: 10,
            timeout: Duration::from_secs(5),
        };
        assert_eq!(format!("{request:?}"), "Request { method: \"POST\", .. }");
        assert!(!format!("{:?}", head(&request).unwrap()).contains("hunter2"));
    }

    #[tokio::test]
    async fn addresses_in_urls_are_judged_however_they_are_written() {
        let client = Client::new(&Outbound::default()).unwrap();
        for (url, address) in [
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://2130706433/", "127.0.0.1"),
            ("https://0x7f000001/", "127.0.0.1"),
            ("https://0177.0.0.1/", "127.0.0.1"),
            ("https://127.1/", "127.0.0.1"),
            ("https://0/", "0.0.0.0"),
            ("https://169.254.169.254/latest/meta-data/", "169.254.169.254"),
            ("https://[::1]/", "::1"),
            ("https://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1"),
            ("https://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1"),
            ("https://①②⑦.0.0.1/", "127.0.0.1"),
        ] {
            let request = Request {
                method: "GET",
                url,
                headers: &[],
                body: &[],
                answer_bytes_max: 10,
                timeout: Duration::from_secs(5),
            };
            let error = client.send(request).await.unwrap_err();
            let Error::Unusable { why, .. } = &error else { panic!("{url}: {error}") };
            assert!(why.contains(&format!("its address {address} is ")), "{url}: {why}");
        }
    }
}
