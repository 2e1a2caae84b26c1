//! What no client does, whatever the provider answers: wait for ever, read without end, follow, be led.

use std::time::Duration;

use hookkeeper::connector::{CallOptions, ClientError, ConnectorClient};
use serde_json::{Value, json};

use super::{Api, Setup, at, options};
use crate::support::tls_host::{answer, answer_with};

const ACME: &str = "id = \"acme\"\n[client]\nbase_url = \"https://api.acme.example/v1\"\n\
    [[client.auth]]\nkind = \"bearer\"\nsecret = \"token\"\n\
    [[client.secrets]]\nname = \"token\"\nabout = \"x\"\n\
    [[client.methods]]\nname = \"get\"\nabout = \"x\"\nrequest = \"GET /get\"\n\
    [[client.methods]]\nname = \"create\"\nabout = \"x\"\nrequest = \"POST /create\"\nresult = \"/thing\"\n\
    args = [{ name = \"name\", about = \"x\" }]\n";

fn acme() -> Api {
    Api::new(&Setup { entry: Some(ACME), ..Setup::default() })
}

async fn answered(bytes: String) -> ClientError {
    let api = acme();
    api.host.respond(move |_| bytes.clone());
    let error = api.failure("create", json!({"name": "x"})).await;
    assert_eq!(api.host.asked().len(), 1, "what is no GET is sent once: {error}");
    error
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let malformed = async |bytes: String, expected: &str| {
        let error = answered(bytes).await;
        assert!(matches!(&error, ClientError::Malformed(what) if what.contains(expected)), "{error:?}");
    };
    malformed(answer(200, "<html>"), "expected JSON").await;
    malformed(answer(200, "{\"thing\":"), "expected JSON").await;
    malformed(answer(200, "{}"), "expected a result at \"/thing\"").await;
    malformed(answer(200, &"[".repeat(100_000)), "expected JSON").await;
    malformed(answer_with(200, "content-encoding: gzip\r\n", "x"), "found it compressed: gzip").await;
    malformed(answer(204, ""), "expected a result at \"/thing\"").await;
    malformed(answer(302, ""), "redirect").await;
    malformed(answer_with(307, "location: https://127.0.0.1/\r\n", ""), "redirect").await;
    malformed(answer(200, &"x".repeat(9 << 20)), "sent more than 8388608 bytes").await;
    malformed(answer_with(302, "location: https://api.acme.example/v1/other\r\n", ""), "redirect").await;
    malformed(answer_with(307, "location: https://evil.example/\r\n", ""), "redirect").await;
    let truncated = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    assert!(matches!(answered(truncated).await, ClientError::Unreachable(_)));
    let broken = answered("nonsense\r\n\r\n".to_owned()).await;
    assert!(matches!(broken, ClientError::Unreachable(_)), "{broken}");
    for flood in ["x-a: b\r\n".repeat(10_000), format!("x-a: {}\r\n", "b".repeat(2 << 20))] {
        let flooded = answered(answer_with(200, &flood, "{\"thing\":1}")).await;
        assert!(matches!(flooded, ClientError::Unreachable(_)), "{flooded}");
    }
    let down = answered(answer(503, "")).await;
    assert!(matches!(down, ClientError::Refused { status: 503, .. }), "{down}");
    assert_eq!(down.retry_after(), Some(Duration::ZERO));
}

#[tokio::test]
async fn only_what_may_be_repeated_is_sent_again_when_a_connection_breaks() {
    let api = acme();
    api.host.respond(|_| String::new());
    assert!(matches!(api.failure("get", Value::Null).await, ClientError::Unreachable(_)));
    assert_eq!(api.host.asked().len(), 2, "a GET is tried twice");
    assert!(matches!(api.failure("create", json!({})).await, ClientError::Unreachable(_)));
    assert_eq!(api.host.asked().len(), 3, "a POST is not");
}

#[tokio::test]
async fn a_call_ends_with_its_timeout() {
    let api = acme();
    api.host.hold();
    let mut short = CallOptions::default();
    short.timeout = Duration::from_millis(200);
    let error = api.client.call_with("get", Value::Null, &short).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { limit } if limit == short.timeout), "{error}");
    api.host.open();
    // Also where it began to answer in time.
    api.host.stall();
    for begun in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n{"] {
        api.host.respond(|_| begun.to_owned());
        let error = api.client.call_with("get", Value::Null, &short).await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout { limit } if limit == short.timeout), "{error}");
    }
    api.host.open();
}

#[tokio::test]
async fn an_answer_with_nothing_in_it_is_null() {
    let api = acme();
    for (status, bytes) in [(204, "HTTP/1.1 204 X\r\n\r\n".to_owned()), (200, answer(200, " \r\n"))] {
        api.host.respond(move |_| bytes.clone());
        assert_eq!(api.call("get", Value::Null).await.unwrap(), Value::Null, "{status}");
    }
}

#[tokio::test]
async fn a_wait_that_makes_no_sense_stops_nobody_for_ever() {
    let wait = async |headers: &str| {
        let (api, bytes) = (acme(), answer_with(429, headers, "{}"));
        api.host.respond(move |_| bytes.clone());
        let wait = api.failure("get", Value::Null).await.retry_after().unwrap();
        // Within a day at most everybody is served again.
        api.clock.set(at(86_401));
        api.host.serves("{}");
        assert!(api.call("get", Value::Null).await.is_ok(), "{headers}");
        wait.as_secs()
    };
    let past = at(-90).as_second();
    assert_eq!(wait("retry-after: Fri, 15 Jan 2027 08:00:30 GMT\r\n").await, 30);
    assert_eq!(wait("retry-after: Fri, 15 Jan 2027 07:00:00 GMT\r\n").await, 0);
    assert_eq!(wait("retry-after: -1\r\n").await, 60);
    assert_eq!(wait("retry-after: 1000000000000\r\n").await, 86_400);
    assert_eq!(wait(&format!("x-ratelimit-remaining: 0\r\nx-ratelimit-reset: {past}\r\n")).await, 0);
    assert_eq!(wait(&format!("x-ratelimit-reset: {}\r\n", at(40).as_millisecond())).await, 40);
    assert_eq!(wait("x-ratelimit-remaining: 0\r\nx-ratelimit-reset: soon\r\n").await, 60);
    assert_eq!(wait("x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 99999999999999999999\r\n").await, 86_400);
}

#[tokio::test]
async fn private_addresses_are_called_only_where_that_is_allowed() {
    let api = Api::new(&Setup { entry: Some(ACME), allowed: &[], ..Setup::default() });
    let error = api.failure("get", Value::Null).await;
    assert!(
        matches!(&error, ClientError::Unreachable(why) if why.contains("outbound.allow_private")),
        "{error}"
    );
    let literal =
        Api::new(&Setup { entry: Some(ACME), base_url: Some("https://169.254.169.254"), ..Setup::default() });
    let error = literal.failure("get", Value::Null).await;
    assert!(matches!(&error, ClientError::Unreachable(why) if why.contains("link-local")), "{error}");
    assert!(api.host.asked().is_empty() && literal.host.asked().is_empty());
}

#[tokio::test]
async fn who_would_wait_beyond_its_time_hears_it_at_once() {
    let entry = ACME.replacen(
        "[client]\n",
        "[client]\nlimits = { scope = \"token\", per_second = 0.1, burst = 2 }\n",
        1,
    );
    let api = Api::new(&Setup { entry: Some(&entry), ..Setup::default() });
    api.host.serves("{}");
    for _ in 0..2 {
        api.call("get", Value::Null).await.unwrap();
    }
    let mut soon = options();
    soon.timeout = Duration::from_secs(9);
    let began = std::time::Instant::now();
    let error = api.client.call_with("get", Value::Null, &soon).await.unwrap_err();
    assert!(
        matches!(error, ClientError::RateLimited { retry_after } if retry_after == Duration::from_secs(10)),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(api.host.asked().len(), 2);
}

#[tokio::test]
async fn what_the_answer_says_of_limits_holds_for_the_next_call() {
    let api = acme();
    api.host.respond(|_| answer_with(429, "retry-after: 3600\r\n", "{}"));
    for _ in 0..2 {
        let error = api.failure("get", Value::Null).await;
        assert!(
            matches!(error, ClientError::RateLimited { retry_after } if retry_after.as_secs() >= 3600),
            "{error}"
        );
    }
    assert_eq!(api.host.asked().len(), 1);
}
