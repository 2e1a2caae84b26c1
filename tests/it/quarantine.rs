//! From a mistake in a secret to the event that it did not cost.

use hookkeeper::clock::Clock;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Answer, Connection, Receiver, SECRET, Server, config, github_signature};

const BODY: &[u8] = b"{ \"action\" : \"opened\", \"note\": \"caf\xc3\xa9 \xff\" }\r\n";

/// A configuration whose secret is wrong: somebody pasted a prefix with it.
fn mistaken(receiver: &Receiver) -> String {
    config(&receiver.url("/fn")).replace("literal:", "literal:secret_")
}

fn mend(server: &Server, receiver: &Receiver) {
    std::fs::write(server.folder.path().join("hookkeeper.toml"), config(&receiver.url("/fn"))).unwrap();
}

/// Waits until so many deliveries are in quarantine, and returns them.
fn held(server: &Server, count: usize) -> Vec<Value> {
    let list = |server: &Server| server.items(&["quarantine", "list", "--limit", "500"]);
    server.wait("the deliveries to be in quarantine", |server| list(server).len() == count);
    list(server)
}

fn id(held: &Value) -> &str {
    held["id"].as_str().unwrap()
}

fn show(server: &Server, id: &str) -> Value {
    serde_json::from_str(&server.cli(&["quarantine", "show", id, "--json"])).unwrap()
}

/// Sends a delivery with the right secret's signature, and credentials that nobody may see.
fn send(server: &Server, delivery: &str, body: &[u8]) -> Answer {
    let signature = github_signature(SECRET, body);
    let headers = [
        ("authorization", "Bearer wolpertinger"),
        ("x-github-event", "issues"),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", signature.as_str()),
    ];
    request(server.front, "POST", "/hooks/github?a=1", &headers, body)
}

#[test]
fn a_mistake_in_a_secret_costs_no_event() {
    let receiver = Receiver::start();
    let mut server = Server::start(&mistaken(&receiver));
    let answer = send(&server, "one", BODY);
    assert_eq!((answer.status, answer.text().as_str()), (401, "{\"error\":\"invalid_signature\"}"));
    let id = id(&held(&server, 1)[0]).to_owned();
    let shown = show(&server, &id);
    assert_eq!(shown["verifies_now"], false);
    assert_eq!(shown["cause"]["code"], "secret_form");
    let text = shown["cause"]["text"].as_str().unwrap();
    assert!(text.contains("stripped of its prefix"), "{text}");
    assert!(server.cli(&["quarantine", "show", &id]).contains(text));

    let refused = server.run(&["quarantine", "release", &id]);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("still does not verify"), "{why}");
    assert!(server.items(&["events", "list"]).is_empty() && receiver.got().is_empty());

    mend(&server, &receiver);
    assert_eq!(server.stop(), Some(0));
    server.restart();
    assert_eq!(show(&server, &id)["verifies_now"], true);
    let done = server.cli(&["quarantine", "release", &id, "--json"]);
    let done: Value = serde_json::from_str(&done).unwrap();
    let event = done["events"][0]["id"].as_str().unwrap();
    assert_eq!(done["events"][0]["duplicate"], false);
    assert_eq!(receiver.wait_for(1)[0].body, BODY, "the function got the body as sent");
    assert_eq!(server.get(&format!("/api/v1/events/{event}/body")).body, BODY);
    let stored = server.get(&format!("/api/v1/events/{event}")).json();
    assert_eq!((&stored["origin"], &stored["kind"]), (&json!("quarantine"), &json!("issues.opened")));
    assert_eq!(stored["signature_status"], json!({"state": "verified", "covers_body": true}));
    assert_eq!(stored["received_at"], shown["received_at"], "it counts from when it arrived");
    assert_eq!(stored["request"]["url"], "/hooks/github?a=1");
    assert!(held(&server, 0).is_empty());

    // The provider sends it again: it is the same event.
    let again = send(&server, "one", BODY);
    assert_eq!((again.status, again.header("x-hookkeeper-event-id")), (200, Some(event)));
    assert_eq!(server.items(&["events", "list"]).len(), 1);
    let codes = |line: &Value| line["code"].as_str().unwrap().to_owned();
    let audited: Vec<_> = server.items(&["log", "read", "audit.admin"]).iter().map(codes).collect();
    assert_eq!(audited, ["quarantine_not_released", "quarantine_released"]);
    assert_eq!(server.items(&["log", "read", "audit.signature_verify"]).len(), 1);
}

#[test]
fn what_was_sent_again_meanwhile_is_released_as_a_duplicate() {
    let receiver = Receiver::start();
    let mut server = Server::start(&mistaken(&receiver));
    let large = vec![b'x'; 700_000];
    for (delivery, body) in [("one", BODY), ("two", b"{}"), ("two", b"{}"), ("large", &large)] {
        assert_eq!(send(&server, delivery, body).status, 401);
    }
    held(&server, 4);
    mend(&server, &receiver);
    server.kill();
    server.restart();
    assert_eq!(held(&server, 4).len(), 4, "they are there after a crash");
    assert_eq!(send(&server, "one", BODY).status, 200);
    let done = server.cli(&["quarantine", "release", "--trigger", "github", "--json"]);
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done, json!({"released": 4, "duplicates": 2, "failed": 0, "failures": []}));
    let mut bodies: Vec<_> = receiver.wait_for(3).into_iter().map(|got| got.body.len()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [2, BODY.len(), large.len()]);
    assert_eq!(server.items(&["events", "list"]).len(), 3);
}

#[test]
fn a_release_by_filter_takes_in_what_verifies_and_keeps_the_rest() {
    let receiver = Receiver::start();
    let mut server = Server::start(&mistaken(&receiver));
    assert_eq!(send(&server, "good", BODY).status, 401);
    let forged = [("x-hub-signature-256", "sha256=00"), ("x-github-event", "push")];
    assert_eq!(request(server.front, "POST", "/hooks/github", &forged, b"{}").status, 401);
    held(&server, 2);
    mend(&server, &receiver);
    server.stop();
    server.restart();
    let output = server.run(&["quarantine", "release", "--all"]);
    assert_eq!(output.status.code(), Some(1), "one is left");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("1 released (0 were there already), 1 stay in quarantine"), "{told}");
    let left = held(&server, 1);
    assert!(told.contains(id(&left[0])), "{told}");
    server.cli(&["quarantine", "purge", id(&left[0])]);
    assert!(held(&server, 0).is_empty());
    assert_eq!(server.run(&["quarantine", "purge"]).status.code(), Some(2), "all must be said");
}

#[test]
fn a_flood_of_forgeries_is_bounded_and_takes_nothing_from_a_near_miss() {
    let receiver = Receiver::start();
    let server = Server::start(&mistaken(&receiver));
    assert_eq!(send(&server, "near", BODY).status, 401);
    let near = id(&held(&server, 1)[0]).to_owned();
    let mut connection = Connection::open(server.front).unwrap();
    let forgery = vec![b'f'; 30_000];
    for _ in 0..3_000 {
        let answer = connection.request("POST", "/hooks/github", &[], &forgery).unwrap();
        assert!(answer.status == 401 || answer.status == 429, "{}", answer.status);
    }
    // Its sender is told to slow down by now, or soon on a slow machine; what he sends is kept all the same.
    let another = |n: &usize| send(&server, &format!("another-{n}"), BODY).status == 429;
    let slowed = format!("another-{}", (0..1_000).find(another).expect("he is told to slow down"));
    let is_there = |server: &Server, delivery: &str| {
        let near = server.items(&["quarantine", "list", "--reason", "invalid_signature"]);
        near.iter().any(|held| show(server, id(held)).to_string().contains(delivery))
    };
    server.wait("the near-miss after the flood", |server| is_there(server, &slowed));
    assert_eq!(
        id(server.items(&["quarantine", "list", "--reason", "invalid_signature"]).last().unwrap()),
        near
    );
    let files = std::fs::read_dir(server.data().join("quarantine")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 8 * 1024 * 1024, "{bytes} bytes are kept of one sender");
}

#[test]
fn nothing_secret_is_seen_in_files_or_answers_and_a_stopped_folder_is_read() {
    let receiver = Receiver::start();
    let mut server = Server::start(&mistaken(&receiver));
    send(&server, "one", b"{\"card\": \"wolpertinger\"}");
    let id = id(&held(&server, 1)[0]).to_owned();
    let shown = server.get(&format!("/api/v1/quarantine/{id}")).text();
    let listed = server.get("/api/v1/quarantine").text();
    assert!(shown.contains("[redacted]") && shown.contains("x-github-delivery"), "{shown}");
    server.stop();
    let data = server.data();
    let offline = server.cli(&["quarantine", "show", &id, "--data", data.to_str().unwrap(), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&offline).unwrap()["cause"]["code"], "secret_form");
    let rows = server.cli(&["quarantine", "list", "--data", data.to_str().unwrap()]);
    assert!(rows.contains(&id) && rows.contains("invalid_signature"), "{rows}");
    for text in [&shown, &listed, &offline, &rows, &server.log()] {
        assert!(!text.contains("wolpertinger") && !text.contains(SECRET), "{text}");
    }
    let mut seen = 0;
    for file in std::fs::read_dir(data.join("quarantine")).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["wolpertinger", "x-github", "issues", SECRET] {
            assert!(!content.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
        seen += 1;
    }
    assert!(seen > 0);
    let changed = server.run(&["quarantine", "release", &id, "--data", data.to_str().unwrap()]);
    assert_eq!(changed.status.code(), Some(2), "a stopped server takes nothing in");
}

#[test]
fn time_is_judged_as_of_the_arrival() {
    let receiver = Receiver::start();
    let hmac = |tolerance: &str| {
        config(&receiver.url("/fn")).replace("\"github\"\nsecrets", "\"stripe\"\nsecrets").replace(
            "[[functions]]",
            &format!("path = \"/hooks/stripe\"\ntolerance = \"{tolerance}\"\n\n[[functions]]"),
        )
    };
    let mut server = Server::start(&hmac("5m"));
    let at = Clock::system().now().as_second() - 3_600;
    let signed = [at.to_string().as_bytes(), b".", BODY].concat();
    let mac = github_signature(SECRET, &signed);
    let header = format!("t={at},v1={}", mac.trim_start_matches("sha256="));
    let answer = request(server.front, "POST", "/hooks/stripe", &[("stripe-signature", &header)], BODY);
    assert_eq!(answer.text(), "{\"error\":\"timestamp_out_of_window\"}");
    let id = id(&held(&server, 1)[0]).to_owned();
    let cause = show(&server, &id)["cause"].clone();
    assert_eq!(cause["code"], "clock");
    assert!(cause["text"].as_str().unwrap().contains("behind our clock"), "{cause}");
    std::fs::write(server.folder.path().join("hookkeeper.toml"), hmac("2h")).unwrap();
    server.stop();
    server.restart();
    server.cli(&["quarantine", "release", &id]);
    assert_eq!(receiver.wait_for(1)[0].body, BODY);
}

#[test]
fn what_is_released_on_a_paused_trigger_is_held() {
    let receiver = Receiver::start();
    let mut server = Server::start(&mistaken(&receiver));
    send(&server, "one", BODY);
    let id = id(&held(&server, 1)[0]).to_owned();
    mend(&server, &receiver);
    server.stop();
    server.restart();
    server.cli(&["triggers", "pause", "github"]);
    server.cli(&["quarantine", "release", &id]);
    server
        .wait("the run to be held", |s| s.items(&["runs", "list"]).iter().any(|run| run["reason"] == "held"));
    assert!(receiver.got().is_empty());
    server.cli(&["triggers", "resume", "github"]);
    assert_eq!(receiver.wait_for(1)[0].body, BODY);
}

#[test]
fn a_handshake_is_not_released_for_nobody_waits_for_its_answer() {
    let receiver = Receiver::start();
    let slack = |secret: &str| {
        let text = config(&receiver.url("/fn")).replace("provider = \"github\"", "provider = \"slack\"");
        text.replace("literal:", &format!("literal:{secret}"))
    };
    let mut server = Server::start(&slack("wrong"));
    let body = br#"{"type":"url_verification","challenge":"wolpertinger","token":"x"}"#;
    let at = Clock::system().now().as_second().to_string();
    let signed = [b"v0:", at.as_bytes(), b":", body].concat();
    let signature = github_signature(SECRET, &signed).replace("sha256=", "v0=");
    let headers = [("x-slack-request-timestamp", at.as_str()), ("x-slack-signature", signature.as_str())];
    assert_eq!(request(server.front, "POST", "/hooks/github", &headers, body).status, 401);
    let id = id(&held(&server, 1)[0]).to_owned();
    std::fs::write(server.folder.path().join("hookkeeper.toml"), slack("")).unwrap();
    server.stop();
    server.restart();
    let shown = show(&server, &id);
    assert_eq!((&shown["verifies_now"], &shown["cause"]["code"]), (&json!(false), &json!("handshake")));
    assert!(!shown.to_string().contains("wolpertinger"), "what a handshake carries stays sealed");
    assert_eq!(server.run(&["quarantine", "release", &id]).status.code(), Some(1));
    assert!(server.items(&["events", "list"]).is_empty());
    held(&server, 1);
}
