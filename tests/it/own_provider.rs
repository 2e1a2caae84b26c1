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

#[test]
fn an_entry_whose_connector_is_code_is_a_placeholder_until_one_is_registered() {
    let entry = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
                 [[providers]]\nid = \"acme\"\nname = \"Acme\"\nconnector = \"code\"\n";
    let server = Server::start(entry);
    let is_acme = |item: &&serde_json::Value| item["id"] == "acme";
    let listed = server.items(&["providers", "list", "acme"]);
    assert_eq!(listed.iter().find(is_acme).unwrap()["runtime"], "placeholder");
    let listed = server.get("/api/v1/providers").json();
    assert_eq!(listed["items"].as_array().unwrap().iter().find(is_acme).unwrap()["runtime"], "placeholder");
    let shown = server.get("/api/v1/providers/acme").json();
    assert_eq!((&shown["runtime"], &shown["connector"]), (&"placeholder".into(), &"code".into()));
    assert!(server.cli(&["providers", "show", "acme", "--json"]).contains("\"placeholder\""));
    for args in [&["providers", "show", "acme"][..], &["providers", "list", "acme"]] {
        assert!(server.cli(args).contains("placeholder"), "{args:?}");
    }
    let tested = server.run(&["providers", "test", "acme"]);
    let told = String::from_utf8(tested.stdout).unwrap();
    assert!(tested.status.code() == Some(1) && told.contains("nothing to run"), "{told}");

    for (args, code) in [
        (&["send", "acme"][..], 2),
        (&["send", "acme", "--url", "http://127.0.0.1:9/"], 2),
        (&["call", "acme"], 0),
        (&["call", "acme", "ping"], 2),
    ] {
        let refused = server.run(args);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {told}");
        assert!(
            told.contains("acme is a placeholder") && told.contains("cli::main_with"),
            "{args:?}: {told}"
        );
    }

    std::fs::write(server.folder.path().join("body.json"), "{}").unwrap();
    let verified = server.run(&["verify", "acme", "--body", "body.json"]);
    let told = String::from_utf8(verified.stderr).unwrap();
    assert!(!verified.status.success() && told.contains("acme is a placeholder"), "{told}");

    let config = format!("{entry}\n[[triggers]]\nid = \"acme\"\nprovider = \"acme\"\n");
    let server = Server::prepare(&config);
    for command in ["check", "serve"] {
        let refused = server.run(&[command]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        for part in ["hookkeeper.toml:12:12", "provider `acme` is a placeholder", "cli::main_with"] {
            assert!(told.contains(part), "{command}: {part}: {told}");
        }
    }
}
