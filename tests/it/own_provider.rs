//! A provider of the user's own, from end to end: the README's example as it stands there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::clock::Clock;
use hookkeeper::connector::{SignRequest, Signer, TriggerSettings};
use hookkeeper::event::Timestamp;
use hookkeeper::signature::{PrivateKey, PublicScheme};

use crate::support::{Answer, Receiver, Server, http};

const BATCH: &str = r#"{"events": [{"id": "e1", "type": "order.paid"}, {"id": "e2", "type": "order.sent"}]}"#;

/// Returns the README's example of a user's own provider.
fn readme_example() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.starts_with("[[providers]]")).unwrap().to_owned()
}

/// Returns an Ed25519 public key in hex, as the provider of the example shows it.
fn hex_of(pem: &str) -> String {
    let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let der = STANDARD.decode(base64).unwrap();
    der[der.len() - 32..].iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Sender {
    signer: Signer,
    server: Server,
}

impl Sender {
    fn start(receiver: &Receiver) -> Self {
        let example = readme_example();
        let table: toml::Table = example.parse().unwrap();
        let entry = toml::to_string(&table["providers"][0]).unwrap();
        let catalog = ProviderCatalog::with_user_entries(&[entry]).unwrap();
        let key = PrivateKey::generate(PublicScheme::Ed25519);
        let public = format!("literal:{}", hex_of(&key.public_pem()));
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n{}\n\
             [[functions]]\nid = \"fn\"\non = [\"acme\"]\nhandler = {{ http = \"{}\" }}\n",
            example.replace("env:ACME_PUBLIC_KEY", &public),
            receiver.url("/fn")
        );
        let entry = catalog.get("acme").unwrap();
        let signer = Signer::with_private_key(entry, &TriggerSettings::default(), key).unwrap().unwrap();
        Self { signer, server: Server::start(&config) }
    }

    /// Signs `signed` as of `at`, and sends `sent`.
    fn send(&self, signed: &str, sent: &str, at: Timestamp) -> Answer {
        let request = SignRequest {
            method: "POST",
            url: "/hooks/acme",
            headers: &[],
            body: signed.as_bytes(),
            now: at,
            delivery_id: "unused",
            kind: None,
        };
        let headers = self.signer.sign(request).unwrap().headers;
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        http::request(self.server.front, "POST", "/hooks/acme", &headers, sent.as_bytes())
    }
}

#[test]
fn the_readmes_example_works_from_end_to_end() {
    let receiver = Receiver::start();
    let sender = Sender::start(&receiver);
    let server = &sender.server;
    server.cli(&["check"]);
    server.cli(&["providers", "test", "acme"]);
    assert!(server.cli(&["providers", "show", "acme"]).contains("each element of body field /events"));

    let challenge = http::request(server.front, "GET", "/hooks/acme?challenge=abc", &[], b"");
    assert_eq!((challenge.status, challenge.body.as_slice()), (200, &b"abc"[..]));
    assert_eq!(challenge.header("content-type"), Some("text/plain"));

    let now = Clock::system().now();
    let taken = sender.send(BATCH, BATCH, now);
    assert_eq!(taken.status, 200);
    let ids = taken.header("x-hookkeeper-event-id").unwrap().to_owned();
    assert_eq!(ids.split(", ").flat_map(|ids| ids.split(',')).count(), 2, "{ids}");
    receiver.wait_for(2);
    let mut kinds: Vec<String> = server
        .items(&["events", "list"])
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["order.paid", "order.sent"]);

    let again = sender.send(BATCH, BATCH, now);
    assert_eq!((again.status, again.header("x-hookkeeper-duplicate")), (200, Some("true")));
    for (sent, at, code) in [
        (BATCH.replace("e1", "e3"), now, "invalid_signature"),
        (BATCH.to_owned(), now - std::time::Duration::from_secs(600), "timestamp_out_of_window"),
    ] {
        let refused = sender.send(BATCH, &sent, at);
        let told = String::from_utf8_lossy(&refused.body).into_owned();
        assert_eq!(refused.status, 401, "{told}");
        assert!(told.contains(code), "{told}");
    }
    assert_eq!(server.items(&["events", "list"]).len(), 2);
}
