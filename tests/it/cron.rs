//! Cron triggers through the real server, with schedules that tick every second.

use std::collections::BTreeSet;

use hookkeeper::clock::Clock;
use serde_json::{Value, json};

use crate::support::{Receiver, Server, config};

/// A trigger that ticks every second, beside another function's own, and `fn` behind it.
fn every_second(url: &str, catchup: &str) -> String {
    let cron = format!(
        "[[triggers]]\nid = \"pulse\"\nprovider = \"cron\"\nkind = \"cron\"\nschedule = \"* * * * * *\"\n\
         timezone = \"Europe/Zurich\"\ncatchup = \"{catchup}\"\n\n[[functions]]"
    );
    config(url).replace("[[functions]]", &cron).replace("on = [\"github\"]", "on = [\"pulse\"]")
}

/// Scheduled seconds of all ticks, oldest first, and whether each was made up for.
fn ticks(server: &Server) -> Vec<(i64, bool)> {
    let events = server.items(&["events", "list", "--trigger", "pulse", "--limit", "1000"]);
    let mut ticks: Vec<_> = events.iter().map(|event| payload(server, event)).collect();
    ticks.sort_unstable();
    ticks
}

fn payload(server: &Server, event: &Value) -> (i64, bool) {
    let id = event["id"].as_str().unwrap();
    let event: Value = serde_json::from_slice(&server.get(&format!("/api/v1/events/{id}")).body).unwrap();
    let raw = &event["provider_payload"]["raw"];
    assert_eq!((&event["kind"], &raw["cron_id"]), (&json!("cron.tick"), &json!("pulse")));
    assert_eq!((&event["dedupe_key"], &event["occurred_at"]), (&raw["scheduled_at"], &raw["scheduled_at"]));
    let at: jiff::Timestamp = raw["scheduled_at"].as_str().unwrap().parse().unwrap();
    (at.as_second(), raw["catchup"] == json!(true))
}

fn count(server: &Server) -> usize {
    server.items(&["events", "list", "--trigger", "pulse", "--limit", "1000"]).len()
}

fn missed(server: &Server) -> Vec<Value> {
    let records = server.items(&["log", "read", "cron"]);
    records.into_iter().filter(|record| record["record"] == "cron.missed").collect()
}

/// Kills the server, waits until ticks were missed, and starts it again.
fn check_killed(catchup: &str, check: impl Fn(&[(i64, bool)], &[Value])) {
    let receiver = Receiver::start();
    let mut server = Server::start(&every_second(&receiver.url("/fn"), catchup));
    server.wait("two ticks", |server| count(server) >= 2);
    server.kill();
    let killed_at = Clock::system().now().as_second();
    server.wait("missed seconds", |_| Clock::system().now().as_second() >= killed_at + 4);
    server.restart();
    let before = count(&server);
    server.wait("two ticks more", |server| count(server) >= before + 2);
    assert_eq!(server.stop(), Some(0));
    server.restart();
    server.wait("the topic", |server| !missed(server).is_empty());
    for event in server.items(&["events", "list", "--trigger", "pulse", "--limit", "1000"]) {
        let why = server.get(&format!("/api/v1/events/{}/why", event["id"].as_str().unwrap())).json();
        assert_eq!(why["source"]["catchup"], payload(&server, &event).1);
    }
    let ticks = ticks(&server);
    let seconds: BTreeSet<_> = ticks.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds.len(), ticks.len(), "no second ticks twice: {ticks:?}");
    check(&ticks, &missed(&server));
}

#[test]
fn a_killed_server_gives_missed_ticks_up_where_they_are_skipped() {
    check_killed("skip", |ticks, missed| {
        assert!(ticks.iter().all(|(_, made_up)| !made_up));
        assert!(missed.iter().all(|it| it["made_up"] == 0), "{missed:?}");
        let count: i64 = missed.iter().map(|it| it["count"].as_i64().unwrap()).sum();
        let gaps: i64 = ticks.windows(2).map(|pair| pair[1].0 - pair[0].0 - 1).sum();
        assert!(count >= 2);
        assert_eq!(gaps, count, "every second is an event or missed: {ticks:?} {missed:?}");
    });
}

#[test]
fn a_killed_server_makes_up_for_the_latest_missed_tick() {
    check_killed("latest", |ticks, missed| {
        let made_up: Vec<_> = ticks.iter().filter(|(_, made_up)| *made_up).collect();
        assert_eq!(missed[0]["made_up"], 1);
        let last: jiff::Timestamp = missed[0]["last"].as_str().unwrap().parse().unwrap();
        assert_eq!(made_up[0].0, last.as_second());
    });
}

#[test]
fn a_killed_server_makes_up_for_all_missed_ticks() {
    check_killed("all", |ticks, missed| {
        let (first, last) = (ticks.first().unwrap().0, ticks.last().unwrap().0);
        let all: Vec<_> = (first..=last).collect();
        assert_eq!(ticks.iter().map(|(second, _)| *second).collect::<Vec<_>>(), all, "{missed:?}");
        assert!(missed[0]["made_up"].as_u64().unwrap() >= 2);
    });
}

#[test]
fn functions_get_the_payload_and_every_view_tells_of_the_schedule() {
    let receiver = Receiver::start();
    let mut server = Server::start(&every_second(&receiver.url("/fn"), "skip"));
    let delivery = receiver.wait_for(1).remove(0);
    let body: Value = serde_json::from_slice(&delivery.body).unwrap();
    assert_eq!((&body["cron_id"], &body["catchup"]), (&json!("pulse"), &json!(false)));
    assert_eq!(delivery.header("content-type"), Some("application/json"));
    assert_eq!(delivery.header("ce-type"), Some("cron.cron.tick"));
    assert_eq!(delivery.header("ce-time"), body["scheduled_at"].as_str());

    let triggers = server.items(&["triggers", "list"]);
    let pulse = triggers.iter().find(|trigger| trigger["id"] == "pulse").unwrap();
    assert_eq!((&pulse["kind"], &pulse["path"], &pulse["url"]), (&json!("cron"), &json!(null), &json!(null)));
    let cron = &pulse["cron"];
    assert_eq!((&cron["schedule"], &cron["timezone"]), (&json!("* * * * * *"), &json!("Europe/Zurich")));
    let at = |name: &str| cron[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at("last_tick") < at("next_tick"));
    assert!(server.cli(&["triggers", "list"]).contains("* * * * * * Europe/Zurich"));

    let id = delivery.header("ce-id").unwrap();
    let why = server.cli(&["why", id]);
    assert!(why.contains("no request started it"), "{why}");
    let tick = why.lines().find(|line| line.trim_start().starts_with("scheduled")).unwrap_or_default();
    assert!(tick.contains("by trigger pulse (* * * * * *, Europe/Zurich)"), "{why}");
    let source = &server.get(&format!("/api/v1/events/{id}/why")).json()["source"];
    assert_eq!((&source["kind"], &source["scheduled_at"]), (&json!("cron"), &body["scheduled_at"]));
    assert!(server.cli(&["events", "show", id]).contains("a schedule started it"));
    let shown = server.cli(&["providers", "show", "cron"]);
    assert!(shown.contains("pulse: * * * * * * Europe/Zurich, catchup skip"), "{shown}");
    let sent = server.run(&["send", "cron"]);
    assert_eq!(sent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&sent.stderr).contains("`cron` has no webhooks"));

    // What ticks while the trigger is paused is held; it runs on resume.
    server.cli(&["triggers", "pause", "pulse"]);
    let is_held = |run: &Value| run["state"] == "waiting" && run["reason"] == "held";
    server.wait("a held run", |server| server.items(&["runs", "list"]).iter().any(is_held));
    server.cli(&["triggers", "resume", "pulse"]);
    server.wait("its end", |server| !server.items(&["runs", "list"]).iter().any(is_held));

    // A schedule that was changed since is not told to have brought the tick.
    assert_eq!(server.stop(), Some(0));
    let changed = every_second(&receiver.url("/fn"), "skip").replace("* * * * * *", "0 0 1 1 *");
    std::fs::write(server.folder.path().join("hookkeeper.toml"), changed).unwrap();
    let why = server.cli(&["why", id]);
    assert!(why.contains("by trigger pulse  ") && !why.contains("0 0 1 1 *"), "{why}");
}
