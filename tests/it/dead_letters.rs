//! From a final failure to a dead letter, and back through a replay.

use crate::support::receiver::{ok, status};
use crate::support::{Receiver, Server, config};

#[test]
fn a_final_failure_is_a_dead_letter_and_a_replay_by_filter_delivers_it() {
    let receiver = Receiver::answering(|_, number| if number == 0 { status(410, "") } else { ok() });
    let server = Server::start(&config(&receiver.url("/fn")));
    assert_eq!(server.github("push", "gone", b"{}").status, 200);
    server.wait("the dead letter", |s| s.items(&["dead-letters", "list"]).len() == 1);
    let letter = &server.items(&["dead-letters", "list"])[0];
    assert_eq!((letter["state"].as_str(), letter["reason"].as_str()), (Some("dead"), Some("final")));
    assert_eq!(server.items(&["events", "list"])[0]["state"], "dead");

    server.cli(&["dead-letters", "replay", "--function", "fn"]);
    let got = receiver.wait_for(2);
    let run = |n: usize| got[n].header("x-hookkeeper-run-id").unwrap().to_owned();
    assert!(run(0).ends_with("-fn-1") && run(1).ends_with("-fn-2"), "{} {}", run(0), run(1));
    server.wait("the event to be done", |s| s.items(&["events", "list"])[0]["state"] == "done");
    assert!(server.items(&["dead-letters", "list"]).is_empty());
}

#[test]
fn a_redelivery_of_a_dead_event_starts_its_run_again() {
    let receiver = Receiver::answering(|_, number| if number == 0 { status(410, "") } else { ok() });
    let server = Server::start(&config(&receiver.url("/fn")));
    server.github("push", "again", b"{}");
    server.wait("the dead letter", |s| s.items(&["dead-letters", "list"]).len() == 1);
    let answer = server.github("push", "again", b"{}");
    assert_eq!(answer.header("x-hookkeeper-duplicate"), Some("true"));
    receiver.wait_for(2);
    server.wait("the event to be done", |s| s.items(&["events", "list"])[0]["state"] == "done");
    assert_eq!(server.items(&["events", "list"]).len(), 1);
}

#[test]
fn retry_after_is_honoured_and_attempts_are_told_by_why() {
    let receiver = Receiver::answering(|_, n| if n == 0 { status(503, "retry-after: 1\r\n") } else { ok() });
    let text = config(&receiver.url("/fn")) + "retry = { attempts = 3, backoff = \"none\" }\n";
    let server = Server::start(&text);
    let begin = std::time::Instant::now();
    let answer = server.github("push", "later", b"{}");
    receiver.wait_for(2);
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1), "not before the receiver's wish");
    server.wait("the run to succeed", |s| s.items(&["runs", "list"])[0]["state"] == "succeeded");
    let why = server.cli(&["why", answer.header("x-hookkeeper-event-id").unwrap()]);
    assert!(why.contains("attempt 1") && why.contains("503") && why.contains("attempt 2"), "{why}");
}
