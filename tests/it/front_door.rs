//! Every row of the answers table, against a real server.

use std::time::Duration;

use crate::support::http::request;
use crate::support::{Answer, Connection, Receiver, SECRET, Server, config, github, github_signature};

const PUSH: &[u8] = br#"{"ref":"refs/heads/main","repository":{"full_name":"o/r"}}"#;

fn server() -> (Receiver, Server) {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    (receiver, server)
}

fn post(server: &Server, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    request(server.front, "POST", "/hooks/github", headers, body)
}

fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

#[test]
fn an_accepted_event_is_answered_with_its_id_stored_and_delivered() {
    let (receiver, server) = server();
    let answer = server.github("push", "d-1", PUSH);
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"".as_slice()));
    let id = answer.header("x-hookkeeper-event-id").unwrap().to_owned();
    let got = &receiver.wait_for(1)[0];
    assert_eq!(got.body, PUSH);
    assert_eq!(got.header("ce-id"), Some(id.as_str()));
    assert_eq!(got.header("ce-type"), Some("github.push"));
    assert_eq!(got.header("x-github-event"), Some("push"), "the provider's own headers go along");
    server.wait("the run to succeed", |s| s.items(&["runs", "list"])[0]["state"] == "succeeded");
    let event = &server.items(&["events", "list"])[0];
    assert_eq!((event["id"].as_str(), event["kind"].as_str()), (Some(id.as_str()), Some("push")));
    assert_eq!(event["state"], "done");
}

#[test]
fn a_duplicate_gets_the_first_events_id_also_when_both_come_at_once() {
    let (_receiver, server) = server();
    let front = server.front;
    let send = |_| {
        std::thread::spawn(move || {
            let mut connection = Connection::open(front).unwrap();
            github(&mut connection, "push", "same", PUSH).unwrap()
        })
    };
    let threads: Vec<_> = (0..16).map(send).collect();
    let answers: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let ids: std::collections::HashSet<_> =
        answers.iter().map(|a| a.header("x-hookkeeper-event-id").unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(answers.iter().all(|a| a.status == 200));
    let first = answers.iter().filter(|a| a.header("x-hookkeeper-duplicate").is_none()).count();
    assert_eq!(first, 1, "all but one are marked as duplicates");
    assert_eq!(server.items(&["events", "list"]).len(), 1);
}

#[test]
fn signatures_that_do_not_hold_get_401_with_their_code() {
    let (receiver, server) = server();
    let good = github_signature(SECRET, PUSH);
    let wrong = github_signature("another secret", PUSH);
    for (headers, code) in [
        (vec![], "missing_header"),
        (vec![("x-hub-signature-256", "sha256=zz")], "invalid_header"),
        (vec![("x-hub-signature-256", "SHA256=00")], "invalid_header"),
        (
            vec![("x-hub-signature-256", good.as_str()), ("x-hub-signature-256", wrong.as_str())],
            "invalid_header",
        ),
        (vec![("x-hub-signature-256", wrong.as_str())], "invalid_signature"),
    ] {
        let answer = post(&server, &headers, PUSH);
        assert_eq!((answer.status, error(&answer)), (401, code.to_owned()), "{headers:?}");
        assert_eq!(answer.text(), format!("{{\"error\":\"{code}\"}}"), "the code and nothing else");
    }
    assert!(server.items(&["events", "list"]).is_empty());
    assert!(receiver.got().is_empty());
    server.wait("the rejections to be audited", |s| {
        s.items(&["log", "read", "audit.signature_verify"]).len() == 5
    });
    let audit = server.cli(&["log", "read", "audit.signature_verify", "--json"]);
    assert!(!audit.contains(SECRET) && !audit.contains(&good) && !audit.contains("full_name"), "{audit}");
}

#[test]
fn forged_traffic_is_bounded_in_the_audit_and_refuses_no_verified_delivery() {
    let (_receiver, server) = server();
    let mut connection = Connection::open(server.front).unwrap();
    let mut limited = 0;
    for _ in 0..2000 {
        let headers = [("x-hub-signature-256", "sha256=00")];
        let answer = connection.request("POST", "/hooks/github", &headers, PUSH).unwrap();
        assert!(answer.status == 401 || answer.status == 429, "{}", answer.status);
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
            limited += 1;
        }
    }
    assert!(limited > 0, "an address that sends 2000 forgeries is told to slow down");
    assert_eq!(server.github("push", "verified", PUSH).status, 200);
    let lines = server.items(&["log", "read", "audit.signature_verify", "--limit", "500"]).len();
    assert!(lines < 200, "{lines} audit lines of 2000 forgeries");
}

#[test]
fn unknown_paths_and_wrong_methods_keep_the_connection() {
    let (_receiver, server) = server();
    let mut connection = Connection::open(server.front).unwrap();
    for _ in 0..3 {
        let answer = connection.request("POST", "/hooks/nobody", &[], &[b'x'; 10_000]).unwrap();
        assert_eq!((answer.status, error(&answer)), (404, "not_found".to_owned()));
        let answer = connection.request("GET", "/hooks/github", &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        let answer = connection.request("DELETE", "/hooks/github", &[], &[b'x'; 10_000]).unwrap();
        assert_eq!(answer.status, 405);
    }
    assert_eq!(github(&mut connection, "push", "after", PUSH).unwrap().status, 200);
}

#[test]
fn a_body_over_the_limit_gets_413_without_being_read_whole() {
    let receiver = Receiver::start();
    let text = config(&receiver.url("/fn")).replace("[server]\n", "[server]\nbody_limit = \"100KB\"\n");
    let server = Server::start(&text);
    let mut declared = Connection::open(server.front).unwrap();
    declared
        .write(b"POST /hooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nbeginning")
        .unwrap();
    let answer = declared.read().unwrap();
    assert_eq!((answer.status, error(&answer)), (413, "body_too_large".to_owned()));

    let mut chunked = Connection::open(server.front).unwrap();
    chunked.write(b"POST /hooks/github HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..8 {
        let _ = chunked.write(format!("4000\r\n{}\r\n", "x".repeat(0x4000)).as_bytes());
    }
    assert_eq!(chunked.read().unwrap().status, 413);
    assert_eq!(
        server.github("push", "small", &vec![b'x'; 99_000]).status,
        200,
        "at the limit it goes through"
    );
}

#[test]
fn a_large_body_is_spooled_and_delivered_byte_for_byte() {
    let (receiver, mut server) = server();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let answer = server.github("push", "large", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-hookkeeper-event-id").unwrap().to_owned();
    assert!(receiver.wait_for(1)[0].body == body, "the function got the body as sent");
    server.kill();
    server.restart();
    assert!(server.get(&format!("/api/v1/events/{id}/body")).body == body, "the body is there after a crash");
    assert_eq!(server.github("push", "large", &body).header("x-hookkeeper-duplicate"), Some("true"));
    let forged = post(&server, &[("x-hub-signature-256", &format!("sha256={}", "0".repeat(64)))], &body);
    assert_eq!(forged.status, 401);
    server.wait("spool files without an event to go", |s| {
        std::fs::read_dir(s.data().join("bodies")).unwrap().count() <= 2
    });
}

#[test]
fn the_body_is_never_decompressed() {
    let (receiver, server) = server();
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let signature = github_signature(SECRET, &gzip);
    let headers = [
        ("content-encoding", "gzip"),
        ("x-github-event", "push"),
        ("x-github-delivery", "gzip"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    assert_eq!(post(&server, &headers, &gzip).status, 200);
    assert_eq!(receiver.wait_for(1)[0].body, gzip);
    let id = server.items(&["events", "list"])[0]["id"].as_str().unwrap().to_owned();
    let event = server.get(&format!("/api/v1/events/{id}")).json();
    assert!(event["provider_payload"]["raw"].is_null(), "{event}");
    assert!(event["provider_payload"]["raw_base64"].is_string(), "what is not JSON is kept all the same");
}

#[test]
fn credential_headers_are_stored_nowhere() {
    let (receiver, mut server) = server();
    let signature = github_signature(SECRET, PUSH);
    let headers = [
        ("authorization", "Bearer wolpertinger"),
        ("cookie", "session=wolpertinger"),
        ("proxy-authorization", "wolpertinger"),
        ("x-github-event", "push"),
        ("x-github-delivery", "credentials"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    assert_eq!(post(&server, &headers, PUSH).status, 200);
    let got = &receiver.wait_for(1)[0];
    assert_eq!(got.header("authorization"), None);
    let id = server.items(&["events", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert!(server.cli(&["events", "show", &id, "--json"]).contains("[redacted]"));
    server.stop();
    let mut files = vec![server.data()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(12).any(|w| w == b"wolpertinger"), "in {}", path.display());
        }
    }
}

#[test]
fn the_triggers_limit_counts_verified_deliveries_only() {
    let receiver = Receiver::start();
    let text = config(&receiver.url("/fn")).replace(
        "provider = \"github\"\n",
        "provider = \"github\"\nrate_limit = { per_second = 0.001, burst = 2 }\n",
    );
    let server = Server::start(&text);
    for _ in 0..5 {
        assert_eq!(post(&server, &[("x-hub-signature-256", "sha256=00")], PUSH).status, 401);
    }
    assert_eq!(server.github("push", "1", PUSH).status, 200);
    assert_eq!(server.github("push", "2", PUSH).status, 200);
    let answer = server.github("push", "3", PUSH);
    assert_eq!((answer.status, error(&answer)), (429, "rate_limited".to_owned()));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 1);
}

#[test]
fn a_paused_trigger_takes_and_holds_until_it_is_resumed() {
    let (receiver, mut server) = server();
    server.cli(&["triggers", "pause", "github"]);
    assert_eq!(server.github("push", "held", PUSH).status, 200);
    server.wait("the run to be held", |s| {
        s.items(&["runs", "list"])
            .first()
            .is_some_and(|run| run["state"] == "waiting" && run["reason"] == "held")
    });
    server.kill();
    server.restart();
    assert_eq!(server.github("push", "held 2", PUSH).status, 200, "a pause survives a crash");
    server.wait("both runs to be held", |s| s.items(&["runs", "list", "--state", "waiting"]).len() == 2);
    assert!(receiver.got().is_empty());
    server.cli(&["triggers", "resume", "github"]);
    receiver.wait_for(2);
}

#[test]
fn garbage_panics_nothing_and_is_not_echoed() {
    let (_receiver, server) = server();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200_000));
    let garbage: [&[u8]; 8] = [
        b"\r\n\r\n",
        b"wolpertinger\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: wolpertinger\r\n\r\n",
        b"POST /hooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /hooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /hooks/github HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nwolpertinger\r\n\r\n",
        &[0xff, 0xfe, 0, 1, 2, 3, b'\r', b'\n', b'\r', b'\n'],
        long.as_bytes(),
    ];
    for address in [server.front, server.admin] {
        for bytes in garbage {
            let mut connection = Connection::open(address).unwrap();
            let _ = connection.write(bytes);
            if let Ok(answer) = connection.read() {
                assert!(
                    (400..500).contains(&answer.status),
                    "{}: {:?}",
                    answer.status,
                    &bytes[..bytes.len().min(60)]
                );
                assert!(!answer.text().contains("wolpertinger"), "{}", answer.text());
            }
        }
    }
    assert_eq!(server.github("push", "after", PUSH).status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_slow_sender_delays_nobody() {
    let (_receiver, server) = server();
    let mut slow: Vec<_> = (0..50).map(|_| Connection::open(server.front).unwrap()).collect();
    for connection in &mut slow {
        connection.write(b"POST /hooks/github HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    }
    let begin = std::time::Instant::now();
    assert_eq!(server.github("push", "quick", PUSH).status, 200);
    assert!(begin.elapsed() < Duration::from_secs(5));
}
