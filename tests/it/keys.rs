//! Keys that providers publish: fetched from a host on loopback that speaks https, kept, and missed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::clock::Clock;
use hookkeeper::config::Outbound;
use hookkeeper::connector::{KeyRequest, RawInbound, SignRequest, Signer, TriggerSettings, Verifier};
use hookkeeper::event::Timestamp;
use hookkeeper::outbound::{self, Client, Request};
use hookkeeper::provider::PublishedKeys;
use hookkeeper::secrets::Secret;
use hookkeeper::signature::{Hash, PrivateKey, PublicScheme};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;
use tempfile::TempDir;

use crate::support::tls_host::answer;
use crate::support::{Answer, Server, TlsHost, http};

const HOST: &str = "keys.acme.example";
const JWKS_PATH: &str = "GET /jwks.json";

/// A provider that signs with keys of a published set.
const ACME: &str = "\
id = \"acme\"\n\
[signature]\n\
sig = \"header:X-Acme-Signature\"\n\
syntax = [\"{key_id}:{sig}\", \"{sig}\"]\n\
alg = \"ed25519\"\n\
[signature.keys]\n\
from = \"jwks\"\n\
url = \"https://keys.acme.example/jwks.json\"\n\
cache_s = 3600\n";

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// A key set with the keys of these numbers, each named after its own.
fn jwks(numbers: &[u8]) -> String {
    let jwk = |number: &u8| {
        let x = URL_SAFE_NO_PAD.encode(key(*number).verifying_key().as_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": format!("key-{number}")})
    };
    json!({"keys": numbers.iter().map(jwk).collect::<Vec<_>>()}).to_string()
}

fn signature(number: u8, body: &str) -> String {
    let bytes = key(number).sign(body.as_bytes()).to_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("key-{number}:{hex}")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// The keys of the provider `acme`, at times that are set.
struct Cache {
    host: TlsHost,
    keys: PublishedKeys,
    clock: Clock,
    verifier: Verifier,
}

impl Cache {
    fn new(host: TlsHost) -> Self {
        let folder = TempDir::new().unwrap();
        let catalog = ProviderCatalog::with_user_entries(&[ACME.to_owned()]).unwrap();
        let verifier = Verifier::new(catalog.get("acme").unwrap(), &TriggerSettings::default()).unwrap();
        let clock = Clock::fixed(at(0));
        let client = client(&host, &folder, &["127.0.0.1/32"]);
        Self { keys: PublishedKeys::new(Arc::new(client), clock.clone()), host, clock, verifier }
    }

    fn wanted(&self, number: u8) -> KeyRequest {
        let header = ("x-acme-signature".to_owned(), signature(number, "{}").into());
        let raw = RawInbound {
            method: "POST".into(),
            url: "/".into(),
            headers: vec![header],
            body: "{}".into(),
            received_at: at(0),
            peer: None,
        };
        self.verifier.wanted_keys(&raw).expect("the provider publishes its keys")
    }

    /// Returns how many keys there are at a time for a request that names one, or why there are none.
    async fn get(&self, seconds: i64, number: u8) -> Result<usize, String> {
        self.clock.set(at(seconds));
        let wanted = self.wanted(number);
        let deadline = Instant::now() + Duration::from_secs(20);
        match self.keys.get(&wanted, deadline).await {
            Ok(document) => Ok(wanted.pick(&document).len()),
            Err(unavailable) => Err(unavailable.why),
        }
    }
}

fn client(host: &TlsHost, folder: &TempDir, allowed: &[&str]) -> Client {
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &host.ca).unwrap();
    let config = Outbound {
        allow_private: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        hosts: [(HOST.to_owned(), host.address)].into(),
        ca: Some(ca),
    };
    Client::new(&config).unwrap()
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_a_name_that_is_new() {
    let cache = Cache::new(TlsHost::start(&[HOST]));
    cache.host.serves(&jwks(&[1]));
    assert_eq!(cache.get(0, 1).await, Ok(1));
    assert_eq!(cache.get(3000, 1).await, Ok(1));
    assert_eq!(cache.host.asked(), [JWKS_PATH]);
    // The provider takes a new key into use.
    cache.host.serves(&jwks(&[1, 2]));
    assert_eq!(cache.get(3001, 2).await, Ok(1));
    assert_eq!(cache.host.asked().len(), 2);
    // Names that a forger thinks of lead nowhere, and not to the host each time.
    for seconds in 3002..3030 {
        assert_eq!(cache.get(seconds, 9).await, Ok(0));
    }
    assert_eq!(cache.host.asked().len(), 2);
    assert_eq!(cache.get(3040, 9).await, Ok(0));
    assert_eq!(cache.host.asked().len(), 3);
}

#[tokio::test]
async fn a_hundred_requests_at_once_are_one_fetch() {
    let cache = Cache::new(TlsHost::start(&[HOST]));
    cache.host.serves(&jwks(&[1]));
    cache.host.hold();
    let gets = futures_util::future::join_all((0..100).map(|_| cache.get(0, 1)));
    let open = async {
        while cache.host.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cache.host.open();
    };
    let (gets, ()) = tokio::join!(gets, open);
    assert!(gets.iter().all(|get| *get == Ok(1)), "{gets:?}");
    assert_eq!(cache.host.asked().len(), 1);
}

#[tokio::test]
async fn keys_outlive_an_outage_of_their_host_for_a_while() {
    let cache = Cache::new(TlsHost::start(&[HOST]));
    cache.host.serves(&jwks(&[1]));
    assert_eq!(cache.get(0, 1).await, Ok(1));
    cache.host.respond(|_| answer(500, "down"));
    assert_eq!(cache.get(4000, 1).await, Ok(1));
    assert_eq!(cache.host.asked().len(), 2);
    assert_eq!(cache.get(4000, 2).await, Err("the key server answered 500".to_owned()));
    assert!(cache.get(3600 * 8, 1).await.is_err(), "not for ever");
    cache.host.serves(&jwks(&[1, 2]));
    assert_eq!(cache.get(3600 * 8 + 60, 2).await, Ok(1));
}

/// Fetches once from a host that answers with `bytes`.
async fn failure(bytes: String) -> String {
    let cache = Cache::new(TlsHost::start(&[HOST]));
    cache.host.respond(move |_| bytes.clone());
    let failure = cache.get(0, 1).await.unwrap_err();
    assert_eq!(cache.host.asked(), [JWKS_PATH], "{failure}");
    failure
}

#[tokio::test]
async fn answers_that_are_no_keys_are_failures() {
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: https://keys.acme.example/other\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(
        failure(redirect.to_owned()).await,
        "keys.acme.example answered with a redirect, which is not followed"
    );
    let long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300_000));
    assert_eq!(failure(answer(200, &long)).await, "keys.acme.example sent more than 262144 bytes");
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    assert_eq!(failure(chunked).await, "keys.acme.example sent more than 262144 bytes");
    assert_eq!(failure(answer(404, "")).await, "the key server answered 404");
    for empty in ["", "{}", "{\"keys\":[]}", "<html>", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        assert_eq!(failure(answer(200, empty)).await, "the answer holds no key that is valid now");
    }
    assert!(
        failure("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned())
            .await
            .contains("cannot be reached")
    );
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused() {
    let check = async |host: TlsHost, expected: &str| {
        let cache = Cache::new(host);
        cache.host.serves(&jwks(&[1]));
        let why = cache.get(0, 1).await.unwrap_err();
        assert_eq!(why, format!("{HOST} cannot be reached: {expected}"));
        assert_eq!(cache.host.asked(), Vec::<String>::new());
    };
    check(TlsHost::start_until(&[HOST], 2021), "its certificate has expired").await;
    check(TlsHost::start(&["other.example"]), "its certificate is for another name").await;
    let mut unknown = TlsHost::start(&[HOST]);
    unknown.ca = TlsHost::start(&[HOST]).ca;
    let untrusted = "its certificate is of an authority that is not trusted; if it is your own, name the authority's \
                     certificate in outbound.ca";
    check(unknown, untrusted).await;
}

#[tokio::test]
async fn private_addresses_are_called_only_where_that_is_allowed() {
    let (host, folder) = (TlsHost::start(&[HOST]), TempDir::new().unwrap());
    host.serves("ok");
    let get = async |client: &Client| {
        let url = "https://keys.acme.example/secret-path?token=hunter2";
        let (headers, body, answer_bytes_max) = (&[], &[], 100);
        let timeout = Duration::from_secs(20);
        client.send(Request { method: "GET", url, headers, body, answer_bytes_max, timeout }).await
    };
    let refused = get(&client(&host, &folder, &[])).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "keys.acme.example is not called: its address 127.0.0.1 is loopback; if that is meant, add it to \
         outbound.allow_private"
    );
    assert!(host.asked().is_empty());
    let allowed = client(&host, &folder, &["127.0.0.0/8"]);
    assert_eq!(get(&allowed).await.unwrap().body, "ok");
    host.hold();
    let timeout = Duration::from_millis(200);
    let request = Request {
        method: "GET",
        url: "https://keys.acme.example/",
        headers: &[],
        body: &[],
        answer_bytes_max: 100,
        timeout,
    };
    let late = allowed.send(request).await.unwrap_err();
    assert!(matches!(late, outbound::Error::Timeout { .. }), "{late}");
    host.open();
}

/// A server with a trigger of `acme`, whose keys are served by the host.
fn acme_server(host: &TlsHost) -> Server {
    let server = Server::prepare("");
    let entry = ACME.replacen("[signature]", "[providers.signature]", 1);
    let entry = entry.replacen("[signature.keys]", "[providers.signature.keys]", 1);
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}\
         [[providers]]\n{entry}\n[[triggers]]\nid = \"acme\"\nprovider = \"acme\"\n",
        host.outbound(server.folder.path(), &[HOST])
    );
    std::fs::write(server.folder.path().join("hookkeeper.toml"), config).unwrap();
    server
}

#[tokio::test]
async fn a_key_server_is_not_asked_without_the_secret_that_it_wants() {
    let cache = Cache::new(TlsHost::start(&[HOST]));
    let catalog = ProviderCatalog::built_in();
    let entry = catalog.get("ebay").unwrap();
    let with = |tokens: &[&str]| {
        let tokens = tokens.iter().map(|token| Secret::new(*token)).collect();
        let secrets = [("application_token".to_owned(), tokens)].into();
        Verifier::new(entry, &TriggerSettings { secrets, ..TriggerSettings::default() }).unwrap()
    };
    let packed = STANDARD.encode(r#"{"kid":"../a","signature":"AAAA"}"#);
    let raw = RawInbound {
        method: "POST".into(),
        url: "/".into(),
        headers: vec![("x-ebay-signature".to_owned(), packed.into())],
        body: "{}".into(),
        received_at: at(0),
        peer: None,
    };
    let wanted = with(&["token"]).wanted_keys(&raw).unwrap();
    assert_eq!(wanted.url, "https://api.ebay.com/commerce/notification/v1/public_key/..%2Fa");
    assert!(wanted.headers.contains(&("Authorization".to_owned(), "Bearer token".to_owned())));
    assert_eq!(wanted.lacks, None);
    // Without the token, it is ours to mend: the sender must come again, and nobody is called in vain.
    let wanted = with(&[]).wanted_keys(&raw).unwrap();
    let refused = cache.keys.get(&wanted, Instant::now() + Duration::from_secs(20)).await.unwrap_err();
    assert!(refused.why.contains("application_token"), "{}", refused.why);
    assert_eq!(cache.host.asked().len(), 0);
}

fn post(server: &Server, signature: &str, body: &str) -> Answer {
    http::request(server.front, "POST", "/hooks/acme", &[("x-acme-signature", signature)], body.as_bytes())
}

#[test]
fn a_delivery_whose_key_is_not_to_be_had_is_asked_for_again() {
    let host = TlsHost::start(&[HOST]);
    let mut server = acme_server(&host);
    server.restart();
    let refused = post(&server, &signature(1, "{}"), "{}");
    assert_eq!((refused.status, refused.text().as_str()), (503, "{\"error\":\"key_unavailable\"}"));
    let wait: u64 = refused.header("retry-after").expect("says when to come again").parse().unwrap();
    assert!((1..=60).contains(&wait));
    server.wait("the audit", |server| {
        let lines = server.items(&["log", "read", "audit.provider"]);
        lines.iter().any(|line| line["code"] == "key_unavailable")
    });

    // What does not have the form of a proof asks nobody.
    let asked = host.asked().len();
    assert_eq!(post(&server, "no proof", "{}").status, 401);
    assert_eq!(post(&server, "key-1:zz", "{}").status, 401);
    assert_eq!(host.asked().len(), asked);

    host.serves(&jwks(&[1]));
    server.wait("the pause after the failure", |server| {
        post(server, &signature(1, "{\"id\":1}"), "{\"id\":1}").status == 200
    });
    assert_eq!(post(&server, &signature(1, "{}"), "{ }").status, 401);
    assert_eq!(post(&server, &signature(2, "{}"), "{}").status, 401, "an unknown key");
    assert!(server.items(&["quarantine", "list"]).len() >= 2);
}

#[test]
fn a_private_address_needs_to_be_allowed() {
    let host = TlsHost::start(&[HOST]);
    host.serves(&jwks(&[1]));
    let mut server = acme_server(&host);
    let path = server.folder.path().join("hookkeeper.toml");
    let config = std::fs::read_to_string(&path).unwrap().replace("allow_private", "# allow_private");
    std::fs::write(&path, config).unwrap();
    server.restart();
    assert_eq!(post(&server, &signature(1, "{}"), "{}").status, 503);
    assert!(host.asked().is_empty());
    assert!(server.log().contains("outbound.allow_private"), "{}", server.log());
}

#[test]
fn a_release_fetches_the_keys_that_it_needs() {
    let host = TlsHost::start(&[HOST]);
    host.serves(&jwks(&[1]));
    let mut server = acme_server(&host);
    server.restart();
    // Key 2 is in use before it is published.
    assert_eq!(post(&server, &signature(2, "{\"id\":2}"), "{\"id\":2}").status, 401);
    let held = server.items(&["quarantine", "list"]);
    let id = held[0]["id"].as_str().unwrap();
    host.serves(&jwks(&[1, 2]));
    let shown: serde_json::Value = server.get(&format!("/api/v1/quarantine/{id}")).json();
    assert_eq!(shown["verifies_now"], false, "{shown}");
    server.kill();
    server.restart();
    let shown: serde_json::Value = server.get(&format!("/api/v1/quarantine/{id}")).json();
    assert_eq!(shown["cause"]["code"], "cannot_tell", "{shown}");
    server.cli(&["quarantine", "release", id]);
    assert_eq!(server.items(&["events", "list"]).len(), 1);
}

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:orders";
const SNS: &str = "sns.us-east-1.amazonaws.com";

/// Signs a message as SNS does, but with a key of its own.
fn sns(private: &PrivateKey, body: &str) -> String {
    let catalog = ProviderCatalog::built_in();
    let topic = [("topic_arn".to_owned(), vec![Secret::new(TOPIC)])];
    let trigger = TriggerSettings { secrets: topic.into(), ..TriggerSettings::default() };
    let entry = catalog.get("aws-sns").unwrap();
    let signer = Signer::with_private_key(entry, &trigger, private.clone()).unwrap().unwrap();
    let request = SignRequest {
        method: "POST",
        url: "/hooks/sns",
        headers: &[],
        body: body.as_bytes(),
        now: Clock::system().now(),
        delivery_id: "d",
        kind: None,
    };
    String::from_utf8(signer.sign(request).unwrap().body.unwrap()).unwrap()
}

fn confirmation(topic: &str) -> String {
    json!({
        "Type": "SubscriptionConfirmation",
        "MessageId": "m-1",
        "Token": "tok-en",
        "TopicArn": topic,
        "Message": "You have chosen to subscribe",
        "SubscribeURL": format!("https://{SNS}/?Action=ConfirmSubscription&Token=tok-en"),
        "Timestamp": "2026-11-23T12:00:00.000Z",
        "SignatureVersion": "2",
        "Signature": "@sig@",
        "SigningCertURL": format!("https://{SNS}/cert.pem"),
    })
    .to_string()
}

#[test]
fn sns_is_confirmed_by_a_call_before_the_handshake_is_answered() {
    let private = PrivateKey::generate(PublicScheme::RsaPkcs1(Hash::Sha256));
    let rsa = KeyPair::from_pem(&private.to_pem()).unwrap();
    let mut params = CertificateParams::new(vec![SNS.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
    let certificate = params.self_signed(&rsa).unwrap().pem();

    let host = TlsHost::start(&[SNS]);
    let served = certificate.clone();
    host.respond(move |asked| match asked {
        "GET /cert.pem" => answer(200, &served),
        _ => answer(500, "not now"),
    });
    let mut server = Server::prepare("");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}\
         [[triggers]]\nid = \"sns\"\nprovider = \"aws-sns\"\nsecrets = {{ topic_arn = \"literal:{TOPIC}\" }}\n",
        host.outbound(server.folder.path(), &[SNS])
    );
    std::fs::write(server.folder.path().join("hookkeeper.toml"), config).unwrap();
    server.restart();
    let post =
        |server: &Server, body: &str| http::request(server.front, "POST", "/hooks/sns", &[], body.as_bytes());
    let confirmation = sns(&private, &confirmation(TOPIC));

    // A foreign topic, and a forgery, make nobody call.
    let foreign = confirmation.replace(TOPIC, "arn:aws:sns:us-east-1:666:orders");
    server.wait("the activation", |server| post(server, &foreign).status == 401);
    let forged = confirmation.replace("\"tok-en\"", "\"tok-er\"");
    server.wait("the certificate", |server| post(server, &forged).status == 401);
    let asked = host.asked();
    assert!(!asked.is_empty() && asked.iter().all(|it| it == "GET /cert.pem"), "{asked:?}");

    let failed = post(&server, &confirmation);
    assert_eq!((failed.status, failed.text().as_str()), (503, "{\"error\":\"handshake_call_failed\"}"));
    assert!(failed.header("retry-after").is_some());
    host.respond(move |asked| match asked {
        "GET /cert.pem" => answer(200, &certificate),
        "GET /?Action=ConfirmSubscription&Token=tok-en" => answer(200, "<ConfirmSubscriptionResponse/>"),
        _ => answer(404, ""),
    });
    server.wait("the pause after the failure", |server| post(server, &confirmation).status == 200);
    let asked = host.asked();
    assert_eq!(post(&server, &confirmation).status, 200, "the same again");
    assert_eq!(host.asked(), asked, "is not called again");

    let audited = |server: &Server| server.items(&["log", "read", "audit.provider"]);
    server.wait("the audit", |server| {
        let (lines, codes) = (audited(server), ["handshake_call_failed", "handshake_called"]);
        codes.iter().all(|code| lines.iter().any(|line| line["code"] == *code))
    });
    let lines = audited(&server);
    assert!(!format!("{lines:?}").contains("tok-en"), "the token is not told");
    assert!(server.items(&["events", "list"]).is_empty());
}
