//! Functions behind a URL: POST of the raw body, byte for byte, or of one CloudEvents JSON.
//!
//! The attempt's headers are made by [`headers`], which is pure; the rest of the file sends and reads.
//! Answers are read no further than is kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};

use super::client::{Answered, Client, Target};
use super::standard_webhooks::Signer;
use super::{Answer, Handler, Invocation, RESULT_BYTES_MAX, Verdict, cloud_event};
use crate::config::Format;
use crate::event::{Header, REDACTED, StoredEvent, Timestamp};
use crate::flow;
use crate::outbound::tls;
use crate::secrets::Secret;

/// Most bytes of a failed attempt's answer that are kept.
const FAILURE_BYTES_MAX: usize = 4 * 1024;
/// Most bytes of a note.
const NOTE_BYTES_MAX: usize = 512;
/// How an authority of one's own comes to be trusted by the functions' client.
const TRUST: &str = "add the authority's certificate to those that the system trusts, or to the file that the \
                     variable SSL_CERT_FILE names";
/// The answer header with which a receiver refuses for good.
const NO_RETRY: &str = "x-hookkeeper-no-retry";
/// Every header of this prefix is ours; a sender's own are not passed on.
const OWN_PREFIX: &str = "x-hookkeeper-";
/// Prefix under which the original request's `ce-*` and `webhook-*` headers stand where ours replace them.
const ORIGINAL_PREFIX: &str = "x-original-";

/// Headers that concern one connection (RFC 9110, section 7.6.1), the request's own framing, or what
/// hookkeeper itself negotiates: they are not passed on.
const NOT_FORWARDED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
];

/// Mints the provider's own signature anew over the given body: headers that replace the original ones.
///
/// An error's text is for the operator and holds no secret.
pub type Resigner =
    Arc<dyn Fn(&StoredEvent, &[u8], Timestamp) -> Result<Vec<(String, String)>, String> + Send + Sync>;

/// The secrets that sign a function's deliveries, all side by side; may be changed at any time. Cheap to clone.
#[derive(Clone)]
pub struct Signing(Arc<ArcSwap<Signer>>);

impl Signing {
    fn new(secrets: &[Secret]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Signer::new(secrets))))
    }

    /// Signs with these secrets from the next attempt on.
    pub fn set(&self, secrets: &[Secret]) {
        self.0.store(Arc::new(Signer::new(secrets)));
    }
}

/// The handler of one http function.
pub struct HttpHandler {
    client: Client,
    target: Target,
    format: Format,
    signing: Signing,
    resigner: Option<Resigner>,
}

impl HttpHandler {
    /// Builds the handler for `url` on the shared client. `secrets` sign deliveries, all side by side;
    /// `resigner` is given where the function is configured with `sign_as = "provider"`.
    ///
    /// # Errors
    ///
    /// If the URL is none, or neither http nor https.
    pub fn new(
        client: Client,
        url: &str,
        format: Format,
        secrets: &[Secret],
        resigner: Option<Resigner>,
    ) -> Result<Self, String> {
        let target = Target::parse(url)?;
        Ok(Self { client, target, format, signing: Signing::new(secrets), resigner })
    }

    /// Returns what signs deliveries, to change it later.
    pub fn signing(&self) -> Signing {
        self.signing.clone()
    }
}

#[async_trait]
impl Handler for HttpHandler {
    async fn call(&self, invocation: Invocation) -> Answer {
        let body = match self.format {
            Format::Binary => invocation.body.clone(),
            Format::Structured => cloud_event::structured(&invocation.event, &invocation.body),
        };
        let resigned = match &self.resigner {
            None => Vec::new(),
            Some(resign) => match resign(&invocation.event, &body, invocation.now) {
                Ok(headers) => headers,
                Err(error) => return retry(None, format!("cannot sign as the provider: {error}")),
            },
        };
        let mut headers = headers(&invocation, &body, self.format, &self.signing.0.load(), resigned);
        if let Some(authorization) = &self.target.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = headers;
        match self.client.send(request).await {
            Ok(response) => read(response, invocation.now).await,
            Err(error) => retry(None, chain(&error)),
        }
    }
}

/// Makes the headers of one attempt.
fn headers(
    invocation: &Invocation,
    body: &[u8],
    format: Format,
    signer: &Signer,
    resigned: Vec<(String, String)>,
) -> HeaderMap {
    let event = &invocation.event;
    let run = invocation.run.to_string();
    let mut headers = HeaderMap::with_capacity(event.content.headers.len() + 12);
    let ours_replace = !signer.is_empty();
    let mut has_original_ce = false;
    if format == Format::Binary {
        let named_by_connection = named_by_connection(&event.content.headers);
        for (name, value) in &event.content.headers {
            if !is_forwarded(name, value) || named_by_connection.contains(name.as_str()) {
                continue;
            }
            let is_ce = name.starts_with("ce-");
            has_original_ce |= is_ce;
            if ours_replace && (is_ce || name.starts_with("webhook-")) {
                append(&mut headers, &format!("{ORIGINAL_PREFIX}{name}"), value.clone());
            } else {
                append(&mut headers, name, value.clone());
            }
        }
    }
    for (name, value) in resigned {
        insert(&mut headers, &name.to_ascii_lowercase(), value);
    }
    match format {
        Format::Binary if ours_replace || !has_original_ce => {
            insert_static(&mut headers, "ce-specversion", cloud_event::SPEC_VERSION);
            insert(&mut headers, "ce-id", event.id.to_string());
            insert(&mut headers, "ce-source", cloud_event::source(event));
            insert(&mut headers, "ce-type", cloud_event::header_value(&cloud_event::kind(event)));
            insert(&mut headers, "ce-time", cloud_event::time(event));
        }
        Format::Binary => {}
        Format::Structured => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(cloud_event::STRUCTURED));
        }
    }
    if ours_replace {
        let signed = signer.sign(&run, invocation.now, body);
        insert(&mut headers, "webhook-id", run.clone());
        insert(&mut headers, "webhook-timestamp", signed.timestamp);
        insert(&mut headers, "webhook-signature", signed.signature);
    }
    insert(&mut headers, "x-hookkeeper-run-id", run);
    insert(&mut headers, "x-hookkeeper-attempt", invocation.attempt.to_string());
    insert(&mut headers, "traceparent", traceparent(&event.content.trace_id));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("hookkeeper/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// Returns the further names that the sender's `connection` header marks as concerning its connection only.
fn named_by_connection(headers: &[Header]) -> HashSet<String> {
    let values = headers.iter().filter(|(name, _)| name == CONNECTION.as_str());
    let names = values.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    names.map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase()).collect()
}

fn is_forwarded(name: &str, value: &[u8]) -> bool {
    !NOT_FORWARDED.contains(&name) && !name.starts_with(OWN_PREFIX) && value != REDACTED.as_bytes()
}

/// Appends a header of the original request; one that HTTP cannot carry is left out.
fn append(headers: &mut HeaderMap, name: &str, value: Bytes) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_maybe_shared(value)) {
        headers.append(name, value);
    }
}

/// Sets a header of our own, whatever stood there.
fn insert(headers: &mut HeaderMap, name: &str, value: String) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

fn insert_static(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

/// The trace goes on; the attempt is a span of its own.
fn traceparent(trace_id: &str) -> String {
    let span = fastrand::u64(1..);
    format!("00-{trace_id}-{span:016x}-01")
}

/// Reads what is kept of an answer and says what it means.
async fn read(mut response: Answered, now: Timestamp) -> Answer {
    let status = response.status();
    let bytes_max = if status.is_success() { RESULT_BYTES_MAX } else { FAILURE_BYTES_MAX };
    let mut answer = BytesMut::new();
    let mut note = String::new();
    while answer.len() < bytes_max {
        match response.frame().await {
            Some(Ok(frame)) => {
                let chunk = frame.data_ref().map_or(&[][..], |data| data);
                answer.extend_from_slice(&chunk[..chunk.len().min(bytes_max - answer.len())]);
            }
            None => break,
            Some(Err(error)) => {
                // The status was said, and it is what counts.
                note = format!("the answer broke off: {}", chain(&error));
                break;
            }
        }
    }
    let (verdict, meaning) = judge(status, response.headers(), now);
    if !meaning.is_empty() {
        note = if note.is_empty() { meaning } else { format!("{meaning}; {note}") };
    }
    Answer { verdict, status: Some(i32::from(status.as_u16())), note, answer: answer.freeze() }
}

/// Says what an answer means for the run, and why in words where it is no success.
fn judge(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> (Verdict, String) {
    if status.is_success() {
        return (Verdict::Done, String::new());
    }
    let answered = format!("answered {}", status.as_u16());
    let no_retry = headers.get(NO_RETRY).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if no_retry {
        return (Verdict::Fail, format!("{answered} with {NO_RETRY}"));
    }
    match status {
        StatusCode::GONE => (Verdict::Fail, answered),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let wish = headers.get(RETRY_AFTER);
            let after = wish.and_then(|value| flow::retry_after(value.as_bytes(), now));
            (Verdict::Retry { after }, answered)
        }
        _ if status.is_redirection() => {
            (Verdict::Retry { after: None }, format!("{answered}: redirects are not followed"))
        }
        _ => (Verdict::Retry { after: None }, answered),
    }
}

fn retry(after: Option<Duration>, note: String) -> Answer {
    Answer { verdict: Verdict::Retry { after }, status: None, note, answer: Bytes::new() }
}

/// Returns an error with its causes, bounded; one of TLS says what is wrong with the receiver.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(why) = tls::refusal(error, TRUST) {
            return format!("cannot be reached: {why}");
        }
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    super::bounded(text, NOTE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::super::tests::invocation;
    use super::*;

    /// A request as it arrived: the lines of its head, and its body.
    type Request = (Vec<String>, Vec<u8>);

    /// Answers one request with the given bytes and hands the request over.
    fn receiver(answer: &'static [u8]) -> (String, mpsc::Receiver<Request>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/deploy?x=1", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = Vec::new();
            loop {
                let mut line = Vec::new();
                reader.read_until(b'\n', &mut line).unwrap();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line.is_empty() {
                    break;
                }
                head.push(line);
            }
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body).unwrap();
            let _ = reader.get_mut().write_all(answer);
            sender.send((head, body)).unwrap();
        });
        (url, requests)
    }

    async fn answer_to(answer: &'static [u8]) -> Answer {
        let (url, _requests) = receiver(answer);
        let handler = HttpHandler::new(Client::new(), &url, Format::Binary, &[], None).unwrap();
        handler.call(invocation("{}")).await
    }

    async fn check(answer: &'static str, verdict: Verdict, note: &str) {
        let answered = answer_to(answer.as_bytes()).await;
        assert_eq!((answered.verdict, answered.note.as_str()), (verdict, note), "{answer}");
    }

    const RETRY: Verdict = Verdict::Retry { after: None };

    #[tokio::test]
    async fn answers_mean_what_the_contract_says() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Verdict::Done, "").await;
        check("HTTP/1.1 204 No Content\r\n\r\n", Verdict::Done, "").await;
        check("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", Verdict::Fail, "answered 410").await;
        check(
            "HTTP/1.1 500 No\r\nX-Hookkeeper-No-Retry: True\r\ncontent-length: 0\r\n\r\n",
            Verdict::Fail,
            "answered 500 with x-hookkeeper-no-retry",
        )
        .await;
        check("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", RETRY, "answered 500").await;
        check("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", RETRY, "answered 404").await;
        check(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            RETRY,
            "answered 302: redirects are not followed",
        )
        .await;
    }

    #[tokio::test]
    async fn retry_after_counts_on_429_and_503_only() {
        let after = |seconds| Verdict::Retry { after: Some(Duration::from_secs(seconds)) };
        let answer = "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
        check(answer, after(7), "answered 429").await;
        let date =
            "HTTP/1.1 503 Slow\r\nretry-after: Tue, 14 Nov 2023 22:13:30 GMT\r\ncontent-length: 0\r\n\r\n";
        check(date, after(10), "answered 503").await;
        let answer = "HTTP/1.1 500 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
        check(answer, RETRY, "answered 500").await;
    }

    #[tokio::test]
    async fn the_answer_of_a_success_is_the_result() {
        let answered = answer_to(b"HTTP/1.1 201 Made\r\ncontent-length: 4\r\n\r\ndone").await;
        assert_eq!(answered.answer, Bytes::from_static(b"done"));
        assert_eq!(answered.status, Some(201));
        let cut = answer_to(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\ndone").await;
        assert_eq!((cut.verdict, &cut.answer[..]), (Verdict::Done, &b"done"[..]));
        assert!(cut.note.starts_with("the answer broke off"), "{}", cut.note);
    }

    #[tokio::test]
    async fn a_result_is_read_no_further_than_it_is_kept() {
        let long = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_owned() + &"x".repeat(200_000);
        let answered = answer_to(long.leak().as_bytes()).await;
        assert_eq!(answered.verdict, Verdict::Done);
        assert_eq!(answered.answer.len(), RESULT_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_receiver_that_is_not_there_is_tried_again_and_its_url_not_shown() {
        let url = "http://user:hunter2@127.0.0.1:1/?token=hunter2";
        let handler = HttpHandler::new(Client::new(), url, Format::Binary, &[], None).unwrap();
        let answered = handler.call(invocation("{}")).await;
        assert_eq!(answered.verdict, RETRY);
        assert!(answered.note.contains("refused") && !answered.note.contains("hunter2"), "{}", answered.note);
    }

    #[tokio::test]
    async fn the_body_arrives_byte_for_byte_with_its_headers() {
        let body = "{\"a\":\u{0}  1.50}\n\u{ff}";
        let mut invocation = invocation(body);
        let event = Arc::get_mut(&mut invocation.event).unwrap();
        event.content.headers.extend([
            ("x-latin".to_owned(), Bytes::from_static(b"caf\xe9")),
            ("authorization".to_owned(), Bytes::from_static(b"[redacted]")),
            ("host".to_owned(), Bytes::from_static(b"hooks.example.com")),
            ("content-length".to_owned(), Bytes::from_static(b"9999")),
            ("connection".to_owned(), Bytes::from_static(b"close, X-Hop")),
            ("x-hop".to_owned(), Bytes::from_static(b"1")),
            ("x-hookkeeper-run-id".to_owned(), Bytes::from_static(b"forged")),
            ("x-twice".to_owned(), Bytes::from_static(b"1")),
            ("x-twice".to_owned(), Bytes::from_static(b"2")),
        ]);
        let (url, requests) = receiver(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let handler = HttpHandler::new(Client::new(), &url, Format::Binary, &[], None).unwrap();
        assert_eq!(handler.call(invocation.clone()).await.verdict, Verdict::Done);
        let (head, sent) = requests.recv().unwrap();
        assert_eq!(sent, body.as_bytes());
        assert_eq!(head[0], "POST /deploy?x=1 HTTP/1.1");
        let mut names: Vec<_> = head[1..].iter().map(|line| line.split(':').next().unwrap()).collect();
        names.sort_unstable();
        let expected = "accept ce-id ce-source ce-specversion ce-time ce-type content-length content-type host \
                        traceparent user-agent x-github-event x-hookkeeper-attempt x-hookkeeper-run-id x-latin \
                        x-twice x-twice";
        assert_eq!(names.join(" "), expected);
        for line in ["content-type: application/json", "x-hookkeeper-attempt: 2", "ce-type: github.push"] {
            assert!(head.iter().any(|sent| sent == line), "{line} in {head:?}");
        }
        let traceparent = head.iter().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
        assert!(traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{traceparent}");
        let run = head.iter().find_map(|line| line.strip_prefix("x-hookkeeper-run-id: ")).unwrap();
        assert_eq!(run, invocation.run.to_string());
    }

    fn made(
        original: &[(&str, &str)],
        secrets: &[&str],
        format: Format,
        resigned: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        let mut invocation = invocation("{}");
        let event = Arc::get_mut(&mut invocation.event).unwrap();
        event.content.headers = original
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())))
            .collect();
        let secrets: Vec<_> = secrets.iter().map(|&secret| Secret::new(secret)).collect();
        let resigned =
            resigned.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let made = headers(&invocation, b"{}", format, &Signer::new(&secrets), resigned);
        let text = made.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        text.collect()
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn original_event_headers_yield_only_to_a_signing_secret() {
        let original = [("ce-id", "theirs"), ("webhook-id", "theirs")];
        let unsigned = made(&original, &[], Format::Binary, &[]);
        assert_eq!(value(&unsigned, "ce-id"), Some("theirs"));
        assert_eq!(value(&unsigned, "ce-type"), None, "no mix of theirs and ours");
        assert_eq!(value(&unsigned, "webhook-id"), Some("theirs"));
        let signed = made(&original, &["secret"], Format::Binary, &[]);
        assert_eq!(value(&signed, "x-original-ce-id"), Some("theirs"));
        assert_eq!(value(&signed, "x-original-webhook-id"), Some("theirs"));
        assert_eq!(value(&signed, "ce-type"), Some("github.push"));
        let run = value(&signed, "x-hookkeeper-run-id").unwrap();
        assert_eq!(value(&signed, "webhook-id"), Some(run));
        assert_eq!(value(&signed, "webhook-timestamp"), Some("1700000000"));
        assert!(value(&signed, "webhook-signature").unwrap().starts_with("v1,"));
    }

    #[test]
    fn the_providers_signature_is_replaced_where_it_is_minted_anew() {
        let original = [("x-hub-signature-256", "sha256=old"), ("x-github-event", "push")];
        let headers = made(&original, &[], Format::Binary, &[("X-Hub-Signature-256", "sha256=new")]);
        assert_eq!(value(&headers, "x-hub-signature-256"), Some("sha256=new"));
        assert_eq!(headers.iter().filter(|(name, _)| name == "x-hub-signature-256").count(), 1);
    }

    #[test]
    fn structured_mode_says_all_in_its_body() {
        let headers =
            made(&[("x-github-event", "push"), ("content-type", "text/x")], &["s"], Format::Structured, &[]);
        assert_eq!(value(&headers, "content-type"), Some("application/cloudevents+json"));
        assert_eq!(value(&headers, "x-github-event"), None);
        assert_eq!(value(&headers, "ce-id"), None);
        assert!(value(&headers, "webhook-signature").is_some());
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for url in ["ftp://x/", "deploy", "", "http://", "unix:/x"] {
            let handler = HttpHandler::new(Client::new(), url, Format::Binary, &[], None);
            assert!(handler.is_err(), "{url}");
        }
    }
}
