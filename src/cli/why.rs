//! `why`: the whole account of an event or run, in one screen.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use serde_json::Value;

use super::render::{self, BOLD, DIM, number, out, paint, state_style, text, time};
use super::runs::{attempt_line, outlook};
use super::source::Source;
use super::{Reach, Usage};
use crate::admin::Query;
use crate::event::{EventId, RunId};

/// Attempts of a run that are told; earlier ones are summed up.
const ATTEMPTS_TOLD: usize = 6;

/// `why`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper why 01KAR5M2D40000000000000000              an event
  hookkeeper why 01KAR5M2D40000000000000000-deploy-1     one run of it")]
pub(super) struct Why {
    /// Id of an event or run
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Why {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (path, function) = if self.id.parse::<EventId>().is_ok() {
            (format!("events/{}/why", self.id), None)
        } else if let Ok(run) = self.id.parse::<RunId>() {
            (format!("runs/{run}/why"), Some(run.function.to_string()))
        } else {
            return Err(Usage(format!("{:?} is neither an event's nor a run's id", self.id)).into());
        };
        let account = Source::open(&self.reach).await?.get(&path, &Query::default()).await?;
        if self.json {
            return render::json(&account);
        }
        Ok(write!(out(), "{}", tell(&account, function.as_deref()))?)
    }
}

/// Tells an account; of one function only, where one is named.
fn tell(account: &Value, only: Option<&str>) -> String {
    let mut told = String::new();
    // Writing to a string succeeds.
    let _ = tell_event(&mut told, account);
    let functions = account["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = functions.iter().filter(|function| only.is_none_or(|only| text(function, "/id") == only));
    // Who did not want it takes a line each, at the end: there may be many.
    let (passed, wanted): (Vec<_>, Vec<_>) = shown.partition(|function| has_passed(function));
    for function in wanted {
        let _ = tell_function(&mut told, function);
    }
    for (index, function) in passed.into_iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let reason = unwanted(text(function, "/reason"));
        let id = text(function, "/id");
        let _ = writeln!(told, "{gap}{BOLD}{id}{BOLD:#}  {DIM}not wanted: {reason}{DIM:#}");
    }
    if account["routed_at"].is_null() {
        let _ = writeln!(told, "  {DIM}not routed yet{DIM:#}");
    } else if account["functions"].as_array().is_none_or(Vec::is_empty) {
        let _ = writeln!(told, "  {DIM}no function was asked: none is configured{DIM:#}");
    }
    told
}

fn tell_event(told: &mut String, account: &Value) -> std::fmt::Result {
    let event = &account["event"];
    let state = text(event, "/state");
    writeln!(told, "{BOLD}event {}{BOLD:#}  {}", text(event, "/id"), paint(state_style(state), state))?;
    let kind = render::one_line(text(event, "/kind"), 200);
    writeln!(
        told,
        "  received  {}  {kind} on trigger {}",
        time(event, "/received_at"),
        text(event, "/trigger_id")
    )?;
    tell_source(told, account)?;
    writeln!(told, "  verified  {}", verification(account))?;
    writeln!(told, "  dedupe    {}", dedupe(&account["dedupe"]))?;
    if event["held"] == true {
        writeln!(told, "  held      the trigger was paused")?;
    }
    if !account["routed_at"].is_null() {
        writeln!(told, "  routed    {}", time(account, "/routed_at"))?;
    }
    Ok(())
}

/// Tells what brought the event: a request, a tick or a poll.
fn tell_source(told: &mut String, account: &Value) -> std::fmt::Result {
    let (event, source) = (&account["event"], &account["source"]);
    let size = render::bytes(number(event, "/body_bytes"));
    let trigger = text(event, "/trigger_id");
    match text(source, "/kind") {
        "cron" => {
            let at = time(source, "/scheduled_at");
            let schedule = match text(source, "/schedule") {
                "" => String::new(),
                schedule => format!(" ({schedule}, {})", text(source, "/timezone")),
            };
            let made_up = if source["catchup"] == true { ", made up for: it was missed" } else { "" };
            writeln!(told, "  scheduled {at} by trigger {trigger}{schedule}{made_up}  {size}")
        }
        "poll" => {
            let at = time(source, "/polled_at");
            let every = match text(source, "/every") {
                "" => String::new(),
                every => format!(" (every {every})"),
            };
            let cursor = match text(source, "/cursor") {
                "" => "the cursor stayed where it was".to_owned(),
                cursor => format!("up to the cursor {}", render::one_line(cursor, 60)),
            };
            writeln!(told, "  polled    {at} by trigger {trigger}{every}, {cursor}  {size}")
        }
        _ => {
            let url = render::one_line(text(event, "/url"), 200);
            writeln!(told, "  request   {} {url}  {size}", text(event, "/method"))
        }
    }
}

fn verification(account: &Value) -> String {
    let it = &account["verification"];
    match text(it, "/state") {
        "verified" => {
            let covers = if it["covers_body"] == true {
                "covers the body"
            } else {
                "the proof does not cover the body"
            };
            let scheme = match text(it, "/scheme") {
                "" => String::new(),
                scheme => {
                    let over = match text(it, "/covers") {
                        "" => String::new(),
                        covers => format!(" over {covers}"),
                    };
                    format!("{scheme}, proof in {}{over}; ", text(it, "/proof"))
                }
            };
            format!("{} ({scheme}{covers})", paint(render::GREEN, "yes"))
        }
        "unsigned" if text(account, "/event/method").is_empty() => {
            "nothing to verify: no request started it".to_owned()
        }
        "unsigned" => "nothing to verify: the provider signs nothing".to_owned(),
        _ => format!("no: {}", text(it, "/reason")),
    }
}

fn dedupe(it: &Value) -> String {
    let key = text(it, "/key");
    if key.is_empty() {
        return "no key: every delivery is an event of its own".to_owned();
    }
    let key = render::one_line(key, 120);
    let bound = if it["complete"] == true { "" } else { " at least" };
    match number(it, "/duplicates") {
        0 => format!("{key}, no duplicates{}", if bound.is_empty() { "" } else { " found nearby" }),
        1 => format!("{key},{bound} 1 duplicate {}", time(it, "/last_at")),
        count => format!("{key},{bound} {count} duplicates, the last {}", time(it, "/last_at")),
    }
}

/// Says in words why a function did not want an event.
fn unwanted(reason: &str) -> &str {
    match reason {
        "on" => "its `on` does not name the trigger",
        "events" => "none of its `events` matches the kind",
        "when" => "its `when` is false",
        "when_error" => "its `when` errs on this event",
        "when_cost" => "its `when` costs more than the limit",
        other => other,
    }
}

/// Tells whether a function did not want the event, and was not started by a replay either.
fn has_passed(function: &Value) -> bool {
    function["runs"].as_array().is_none_or(Vec::is_empty) && !text(function, "/reason").is_empty()
}

fn tell_function(told: &mut String, function: &Value) -> std::fmt::Result {
    let id = text(function, "/id");
    let runs = function["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        return writeln!(told, "\n{BOLD}{id}{BOLD:#}  wanted, no run yet");
    }
    writeln!(told, "\n{BOLD}{id}{BOLD:#}")?;
    for run in runs {
        tell_run(told, run)?;
    }
    Ok(())
}

fn tell_run(told: &mut String, run: &Value) -> std::fmt::Result {
    let state = text(run, "/state");
    let why = match (state, outlook(run)) {
        ("skipped", _) => format!(": {}", unwanted(text(run, "/reason"))),
        (_, why) if why.is_empty() => String::new(),
        (_, why) => format!(": {why}"),
    };
    let cause = match text(run, "/cause") {
        "live" => String::new(),
        cause => format!(" ({cause})"),
    };
    writeln!(told, "  run {}  {}{why}{cause}", text(run, "/id"), paint(state_style(state), state))?;
    let attempts = run["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let earlier = attempts.len().saturating_sub(ATTEMPTS_TOLD);
    if earlier > 0 {
        writeln!(
            told,
            "    {DIM}{earlier} earlier attempts: hookkeeper runs show {}{DIM:#}",
            text(run, "/id")
        )?;
    }
    for attempt in &attempts[earlier..] {
        writeln!(told, "    {}", attempt_line(attempt))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(account: &Value, only: Option<&str>) -> String {
        anstream::adapter::strip_str(&tell(account, only)).to_string()
    }

    #[test]
    fn what_no_request_brought_is_told_by_its_tick_or_poll() {
        let check = |source: Value, expected: &str| {
            let account = json!({
                "event": {"id": "01K", "state": "done", "kind": "cron.tick", "trigger_id": "nightly", "method": "", "url": "",
                          "body_bytes": 80, "received_at": "2026-11-23T14:00:00Z", "occurred_at": "2026-11-23T14:00:00Z"},
                "source": source,
                "verification": {"state": "unsigned"},
                "dedupe": {"key": "2026-11-23T14:00:00Z", "duplicates": 0, "complete": true},
                "routed_at": null, "functions": [],
            });
            let told = plain(&account, None);
            let line = told.lines().find(|line| line.contains("by trigger nightly")).unwrap_or_default();
            assert!(line.ends_with(expected), "{told}");
            assert!(told.contains("no request started it") && !told.contains("request   "), "{told}");
        };
        let at = "2026-11-23T14:00:00Z";
        let tick = |catchup: bool| json!({"kind": "cron", "scheduled_at": at, "catchup": catchup, "schedule": "0 14 * * *", "timezone": "UTC"});
        check(tick(false), "by trigger nightly (0 14 * * *, UTC)  80 B");
        check(tick(true), "by trigger nightly (0 14 * * *, UTC), made up for: it was missed  80 B");
        check(json!({"kind": "cron", "scheduled_at": at}), "by trigger nightly  80 B");
        let poll = json!({"kind": "poll", "polled_at": at, "cursor": "41", "every": "1m"});
        check(poll, "by trigger nightly (every 1m), up to the cursor 41  80 B");
        let stayed = json!({"kind": "poll", "polled_at": at, "cursor": null, "every": null});
        check(stayed, "by trigger nightly, the cursor stayed where it was  80 B");
    }

    #[test]
    fn an_account_tells_who_wanted_the_event_and_who_did_not() {
        let account = json!({
            "event": {"id": "01K", "state": "dead", "kind": "push", "trigger_id": "github", "method": "POST",
                      "url": "/hooks/github", "body_bytes": 7_012, "received_at": "2026-11-23T14:00:00Z"},
            "verification": {"state": "verified", "covers_body": true, "scheme": "hmac",
                             "proof": "header:X-Hub-Signature-256", "covers": "{body}"},
            "dedupe": {"key": "72d3", "duplicates": 2, "last_at": "2026-11-23T14:05:00Z", "complete": true},
            "routed_at": "2026-11-23T14:00:00Z",
            "functions": [
                {"id": "first", "wanted": false, "reason": "on", "runs": []},
                {"id": "deploy", "wanted": true, "reason": null, "runs": [{
                    "id": "01K-deploy-1", "state": "dead", "reason": "attempts_exhausted", "cause": "live",
                    "history": [{"attempt": 1, "started_at": "2026-11-23T14:00:01Z", "duration_us": 1500,
                                 "status": 500, "note": "internal server error"}],
                }]},
                {"id": "mail", "wanted": false, "reason": "events", "runs": []},
            ],
        });
        let told = plain(&account, None);
        for part in [
            "event 01K  dead",
            "POST /hooks/github  7012 B",
            "yes (hmac, proof in header:X-Hub-Signature-256 over {body}; covers the body)",
            "72d3, 2 duplicates, the last",
            "run 01K-deploy-1  dead: attempts_exhausted",
            "1.5 ms  status 500  internal server error",
            "mail  not wanted: none of its `events` matches the kind",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert!(
            told.contains("does not name the trigger\nmail "),
            "one line each, after who wanted it: {told}"
        );
        assert!(!plain(&account, Some("deploy")).contains("mail"));
    }
}
