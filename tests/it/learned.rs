//! Secrets that handshakes bring: learned once, kept sealed, there after a restart.

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use hookkeeper::secrets::MasterKey;

use crate::support::{Answer, Server, http};

const SECRET: &str = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";
const OTHER: &str = "0000207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";
const CONFIG: &str = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
                      [[triggers]]\nid = \"asana\"\nprovider = \"asana\"\n";
const BODY: &[u8] = b"{\"events\":[]}";

fn post(server: &Server, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    http::request(server.front, "POST", "/hooks/asana", headers, body)
}

/// Starts Asana's handshake.
fn handshake(server: &Server, secret: &str) -> Answer {
    post(server, &[("x-hook-secret", secret)], b"")
}

/// Sends a delivery that is signed with a secret.
fn deliver(server: &Server, secret: &str) -> u16 {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(BODY);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    post(server, &[("x-hook-signature", &hex)], BODY).status
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![std::fs::read(path).unwrap()] })
        .collect()
}

#[test]
fn asanas_secret_is_learned_once_kept_sealed_and_survives_a_restart() {
    let mut server = Server::start(CONFIG);
    assert_eq!(deliver(&server, SECRET), 401, "nothing is learned yet");
    // A trigger without a secret arms itself as soon as it is started.
    server.wait("the first arming", |server| {
        let trigger = server.get("/api/v1/triggers/asana").json();
        !trigger["armed_until"].is_null()
    });
    let learned = handshake(&server, SECRET);
    assert_eq!((learned.status, learned.header("x-hook-secret")), (200, Some(SECRET)));
    assert_eq!(deliver(&server, SECRET), 200);
    let refused = handshake(&server, OTHER);
    assert_eq!((refused.status, refused.header("x-hook-secret")), (401, None), "the first one wins");

    for kill in [true, false] {
        if kill {
            server.kill();
        } else {
            assert_eq!(server.stop(), Some(0));
        }
        server.restart();
        assert_eq!(deliver(&server, SECRET), 200, "the secret is still there");
        assert_eq!(deliver(&server, OTHER), 401);
        assert_eq!(handshake(&server, OTHER).status, 401, "a restart arms nothing");
    }

    let lines = server.items(&["log", "read", "audit.provider"]);
    assert!(lines.iter().any(|line| line["code"] == "secret_learned"), "{lines:?}");
    let held = server.items(&["quarantine", "list"]);
    let shown: String = held
        .iter()
        .map(|held| server.get(&format!("/api/v1/quarantine/{}", held["id"].as_str().unwrap())).text())
        .collect();
    assert!(shown.contains("x-hook-secret"), "the refused handshakes are there: {shown}");
    assert!(!shown.contains(OTHER), "what they bring is not shown");
    assert!(!format!("{lines:?}{}", server.log()).contains(SECRET));
    assert_eq!(server.stop(), Some(0));
    let is_clear = |bytes: &Vec<u8>| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    assert!(!files(&server.data()).iter().any(is_clear), "it is nowhere in clear");

    // An operator may take another one.
    server.restart();
    server.cli(&["triggers", "arm", "asana", "--for", "10m"]);
    assert_eq!(handshake(&server, OTHER).status, 200);
    assert_eq!(deliver(&server, OTHER), 200);
}

/// The expected file was sealed by another implementation, with a nonce of 100, 101, …: format 1 is `1`, the nonce
/// of 24 bytes, and XChaCha20-Poly1305 with the name as associated data.
#[test]
fn a_secret_that_was_sealed_in_format_1_opens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sealed-1.hex");
    let text = std::fs::read_to_string(path).unwrap();
    let digits = text.trim();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let sealed: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    let key = MasterKey::from_bytes(std::array::from_fn(|at| at as u8));
    let secret = key.unseal("notion/signing_secret", &sealed).unwrap();
    assert_eq!(secret.expose(), b"secret_hunter2");
    assert!(key.unseal("notion/other", &sealed).is_err());
}
