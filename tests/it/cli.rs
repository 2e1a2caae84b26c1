//! The command line against a running server and a stopped server's folder.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::receiver::{ok, status};
use crate::support::{BINARY, Receiver, SECRET, Server, config};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn fails(server: &Server, args: &[&str], code: i32, part: &str) {
    let output = server.run(args);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    assert!(told.contains(part), "{args:?}: {told}");
    assert!(!told.contains("panicked"), "{told}");
}

/// Sends one event and returns its id, once its run is finished.
fn sent(server: &Server, args: &[&str]) -> String {
    let output = server.run(&[&["send", "github", "--json"], args].concat());
    let answers: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let id = answers["items"][0]["event_id"].as_str().unwrap().to_owned();
    server.wait("the event's runs", |server| {
        let account: Value = serde_json::from_str(&server.cli(&["why", &id, "--json"])).unwrap();
        account["event"]["state"] != "open"
    });
    id
}

pub(crate) fn with_input(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(folder).env_remove("HOOKKEEPER_ADMIN");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever answers while it reads must not wait for somebody who only writes.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    })
}

#[test]
fn the_quick_start_shows_a_signed_event_going_all_the_way_through() {
    let mut server = Server::prepare("");
    std::fs::remove_file(server.folder.path().join("hookkeeper.toml")).unwrap();
    // The quick start has fixed ports, which another test or server may have.
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    if !free(8080) || !free(8081) {
        eprintln!("skipped: port 8080 or 8081 is taken");
        return;
    }
    server.restart();
    let output = server.run(&["send", "github"]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.contains("stored as") && told.contains("print succeeded after 1 attempt"), "{told}");
    let listed = server.cli(&["events", "list"]);
    assert!(listed.contains("push") && listed.contains("done"), "{listed}");
    let secret = std::fs::read_to_string(server.data().join("quickstart-secret")).unwrap();
    assert!(!server.log().contains(secret.trim()), "the secret is not shown");
    assert_eq!(server.stop(), Some(0));
    assert!(server.cli(&["events", "list"]).contains("push"), "from the stopped folder");
}

#[test]
fn listings_are_the_same_from_a_server_and_from_its_folder() {
    let receiver = Receiver::start();
    let mut server = Server::start(&config(&receiver.url("/fn")));
    for _ in 0..3 {
        sent(&server, &[]);
    }
    let id = sent(&server, &["--event", "pull_request.opened"]);
    let run = format!("{id}-fn-1");
    let listings: [&[&str]; 7] = [
        &["events", "list"],
        &["events", "list", "--kind", "pull_*"],
        &["runs", "list", "--state", "succeeded"],
        &["dead-letters", "list"],
        &["functions", "list"],
        &["log", "read"],
        &["log", "read", "events"],
    ];
    let shown: [&[&str]; 4] = [
        &["events", "show", &id, "--json"],
        &["events", "body", &id],
        &["why", &run, "--json"],
        &["runs", "show", &run, "--json"],
    ];
    let admin = format!("http://{}/api/v1", server.admin);
    assert_eq!(server.items(&["events", "list", "--admin", &admin]).len(), 4, "as the banner shows it");
    let all = |server: &Server| {
        let lists: Vec<_> = listings.iter().map(|args| server.items(args)).collect();
        (lists, shown.map(|args| server.cli(args)))
    };
    let running = all(&server);
    assert_eq!(running.0.iter().map(Vec::len).collect::<Vec<_>>()[..4], [4, 1, 4, 0]);
    assert_eq!(server.stop(), Some(0));
    let stopped = all(&server);
    for (i, (a, b)) in running.0.iter().zip(&stopped.0).enumerate() {
        assert!(a == b, "{:?}: {a:?}\n{b:?}", listings[i]);
    }
    assert_eq!(running.1, stopped.1);
    let data = server.data();
    assert_eq!(server.items(&["events", "list", "--data", data.to_str().unwrap()]).len(), 4);
}

#[test]
fn pages_go_on_where_they_ended() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    server.cli(&["send", "github", "--count", "5", "--json"]);
    let first: Value =
        serde_json::from_str(&server.cli(&["events", "list", "--limit", "2", "--json"])).unwrap();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = server.items(&["events", "list", "--cursor", cursor]);
    assert_eq!((first["items"].as_array().unwrap().len(), rest.len()), (2, 3));
    assert!(rest[0]["id"].as_str().unwrap() < first["items"][1]["id"].as_str().unwrap());
}

#[test]
fn a_bad_signature_is_refused_and_audited() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    let output = server.run(&["send", "github", "--invalid"]);
    assert_eq!(output.status.code(), Some(0), "a refusal is what was wanted: {}", text(&output.stderr));
    assert!(text(&output.stdout).contains("invalid_signature"));
    server.wait("the audit line", |server| {
        !server.items(&["log", "read", "audit.signature_verify"]).is_empty()
    });
    assert!(server.items(&["events", "list"]).is_empty());
}

#[test]
fn a_delivery_that_should_be_taken_and_is_not_fails() {
    let server = Server::start(&config("http://127.0.0.1:9/fn"));
    let output = server.run(&["send", "github", "--secret", "another one"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("invalid_signature"));
}

#[test]
fn runs_of_a_removed_function_wait_until_it_is_there_again_or_they_are_cancelled() {
    let receiver = Receiver::answering(|_, _| status(500, ""));
    let mut server = Server::start(&config(&receiver.url("/fn")));
    server.cli(&["send", "github"]);
    receiver.wait_for(1);
    let path = server.folder.path().join("hookkeeper.toml");
    let without = std::fs::read_to_string(&path).unwrap();
    let (without, _) = without.split_once("[[functions]]").unwrap();
    assert_eq!(server.stop(), Some(0));
    std::fs::write(&path, without).unwrap();
    server.cli(&["check"]);
    server.restart();
    let runs = server.items(&["runs", "list", "--state", "waiting"]);
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0]["reason"], "function_removed");
    let id = runs[0]["id"].as_str().unwrap();
    assert!(server.cli(&["why", id]).contains("waiting: function_removed"));
    server.cli(&["runs", "cancel", id]);
    assert_eq!(server.items(&["runs", "list", "--state", "cancelled"])[0]["id"], id);
}

#[test]
fn a_delivery_sent_again_is_a_duplicate_and_why_counts_it() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    let id = sent(&server, &["--delivery", "once"]);
    let again: Value =
        serde_json::from_str(&server.cli(&["send", "github", "--delivery", "once", "--json"])).unwrap();
    assert_eq!(again["items"][0]["duplicate"], true);
    assert_eq!(again["items"][0]["event_id"], id);
    let told = server.cli(&["why", &id]);
    for part in ["verified  yes (hmac", "once, 1 duplicate", "succeeded", "attempt 1", "status 200"] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

#[test]
fn a_proof_that_does_not_cover_the_body_is_shown_as_such() {
    let receiver = Receiver::start();
    let server = Server::start(
        &config(&receiver.url("/fn")).replace("provider = \"github\"", "provider = \"gitlab\""),
    );
    let answers: Value = serde_json::from_str(&server.cli(&["send", "gitlab", "--json"])).unwrap();
    let id = answers["items"][0]["event_id"].as_str().unwrap().to_owned();
    receiver.wait_for(1);
    for args in [["why", &id].as_slice(), &["events", "show", &id]] {
        let told = server.cli(args);
        assert!(told.contains("the proof does not cover the body"), "{args:?}: {told}");
    }
    let told = server.cli(&["why", &id]);
    assert!(told.contains("yes (token, proof in header:X-Gitlab-Token over {secret}; "), "{told}");
    let status = serde_json::json!({"state": "verified", "covers_body": false});
    let event: Value = serde_json::from_str(&server.cli(&["events", "show", &id, "--json"])).unwrap();
    assert_eq!(event["signature_status"], status);
    let body = "{\"object_kind\":\"push\"}";
    let args = ["verify", "gitlab", "--secret", SECRET, "-H", "X-Gitlab-Token: It's a Secret to Everybody"];
    std::fs::write(server.folder.path().join("body.json"), body).unwrap();
    let told = server.cli(&[&args[..], &["--body", "body.json"]].concat());
    assert!(told.contains("verified") && told.contains("the proof does not cover the body"), "{told}");
}

#[test]
fn providers_are_found_and_tested() {
    let server = Server::prepare("");
    let ids = |args: &[&str]| -> Vec<String> {
        let items = server.items(&[&["providers", "list"], args].concat());
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        ids(&["GitHub"]).contains(&"github".to_owned()) && !ids(&["GitHub"]).contains(&"stripe".to_owned())
    );
    assert_eq!(ids(&["--family", "ed25519", "discord"]), ["discord"]);
    assert!(!ids(&["--confidence", "experimental"]).is_empty());
    let listed = server.cli(&["providers", "list", "gitlab"]);
    assert!(listed.starts_with("ID ") && listed.contains("COVERS BODY"), "{listed}");
    fails(&server, &["providers", "list", "--family", "tokn"], 2, "did you mean token?");
    fails(&server, &["providers", "list", "--confidence", "high"], 2, "sdk-source");

    let told = server.cli(&["providers", "test", "github"]);
    assert!(told.contains("ok      a changed byte does not verify"), "{told}");
    let entry = "id = \"acme\"\n[signature]\nsig = \"header:X-Sig\"\n[event]\nkind = [\"{json:/t}\"]\n\
                 [[samples]]\nkind = \"a\"\nbody = '{\"t\":\"a\"}'\n";
    let path = server.folder.path().join("acme.toml");
    std::fs::write(&path, entry).unwrap();
    server.cli(&["providers", "test", "acme.toml"]);
    let vectors = "[[vectors]]\nwhat = \"w\"\nsource = \"ours\"\nsecrets = [\"s\"]\nheaders = []\nbody = \"\"\n\
                   at = 1\nexpect = { state = \"verified\" }\n";
    std::fs::write(server.folder.path().join("vectors.toml"), vectors).unwrap();
    let output = server.run(&["providers", "test", "acme.toml", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["passed"]), (Some(1), &Value::Bool(false)), "{report}");
    let last = report["checks"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["name"], &last["state"]), (&"vector: w".into(), &"failed".into()), "{report}");
    std::fs::write(&path, entry.replace("sig =", "sigg =")).unwrap();
    fails(&server, &["providers", "test", "acme.toml"], 1, "unknown field `sigg`");
    fails(&server, &["providers", "test", "./gone.toml"], 2, "cannot read");
    fails(&server, &["providers", "test", "gihub"], 2, "did you mean `github`?");
}

#[test]
fn what_an_entry_leaves_open_is_given_to_its_test() {
    let server = Server::prepare("");
    let entry = "id = \"acme\"\n[signature]\nsig = \"header:${header}\"\nencoding = \"${encoding}\"\n\
                 [[settings]]\nname = \"header\"\nabout = \"\"\n\
                 [[settings]]\nname = \"encoding\"\nabout = \"\"\n\
                 [event]\nkind = [\"{json:/t}\"]\n[[samples]]\nkind = \"a\"\nbody = '{\"t\":\"a\"}'\n";
    std::fs::write(server.folder.path().join("acme.toml"), entry).unwrap();
    let test = |settings: &[&'static str]| {
        let settings = settings.iter().flat_map(|setting| ["--setting", setting]);
        [&["providers", "test", "acme.toml"][..], &settings.collect::<Vec<_>>()].concat()
    };
    fails(&server, &test(&[]), 1, "what must be set: header, encoding; give it with --setting");
    fails(&server, &test(&["header=X-A"]), 1, "what must be set: encoding; give it");
    let both = ["header=X-A", "encoding=base64"];
    server.cli(&test(&both));
    fails(&server, &test(&["heade=X-A"]), 2, "has no setting `heade`; did you mean `header`?");
    fails(&server, &test(&["header"]), 2, "write KEY=VALUE");
    fails(&server, &test(&["header=a", "header=b"]), 2, "`header` is given twice");
    assert!(server.cli(&["providers", "test", "--help"]).contains("--setting <KEY=VALUE>"));

    // What is signed may itself be a setting.
    for (content, expected) in [
        ("content={body}", "ok      a changed byte does not verify"),
        ("content={timestamp}.{body}", "ok      a changed byte does not verify"),
        ("content={json:/type}", "skipped a changed byte does not verify: the proof does not cover"),
    ] {
        let mut args = vec!["--setting", "header=X-Sig", "--setting", content];
        if content.contains("timestamp") {
            args.extend(["--setting", "timestamp=header:X-Time"]);
        }
        let told = server.run(&[&["providers", "test", "hmac"][..], &args].concat());
        assert!(text(&told.stdout).contains(expected), "{content}: {}", text(&told.stdout));
    }

    // Of vectors, one that says nothing takes what is given, and one that says something keeps it.
    let sign = |what: &str, rest: &str| {
        format!(
            "[[vectors]]\nwhat = \"{what}\"\nsource = \"ours\"\nsecrets = [\"hunter2\"]\nbody = ''\nat = 1\n{rest}\n"
        )
    };
    let good = "expect = { state = \"verified\" }";
    let proof = "qe5dMxF5rtXR+6bNWayxRhplQQ+py3CXgdHZsqMv1cE=";
    let vectors = [
        sign("given", &format!("headers = [[\"X-A\", \"{proof}\"]]\n{good}")),
        sign(
            "own",
            &format!("headers = [[\"X-B\", \"{proof}\"]]\nsettings = {{ header = \"X-B\" }}\n{good}"),
        ),
        sign("bad", "headers = []\nexpect = { state = \"rejected\", reason = \"missing_header\" }"),
    ];
    std::fs::write(server.folder.path().join("vectors.toml"), vectors.concat()).unwrap();
    let told = server.cli(&test(&both));
    assert!(told.contains("ok      vector: given") && told.contains("ok      vector: own"), "{told}");
}

#[test]
fn replays_and_dead_letters_go_round() {
    let receiver = Receiver::answering(|_, earlier| if earlier == 0 { status(500, "") } else { ok() });
    let text = config(&receiver.url("/fn"))
        .replace("on = [\"github\"]", "on = [\"github\"]\nretry = { attempts = 1 }");
    let server = Server::start(&text);
    let id = sent(&server, &[]);
    assert_eq!(server.items(&["dead-letters", "list"]).len(), 1);
    assert_eq!(server.items(&["events", "list", "--state", "dead"]).len(), 1);
    fails(&server, &["dead-letters", "replay"], 2, "--all");
    server.cli(&["dead-letters", "replay", "--all"]);
    server.wait("the new run", |server| server.items(&["runs", "list", "--state", "succeeded"]).len() == 1);
    assert!(server.items(&["dead-letters", "list"]).is_empty());

    let dry: Value =
        serde_json::from_str(&server.cli(&["replay", "--since", "1h", "--dry-run", "--json"])).unwrap();
    assert_eq!((&dry["matched"], &dry["created"]), (&Value::from(1), &Value::from(1)));
    server.cli(&["replay", "--since", "1h"]);
    server.cli(&["replay", &id]);
    server.wait("both", |server| server.items(&["runs", "list", "--state", "succeeded"]).len() == 3);
    assert_eq!(server.items(&["runs", "list"]).len(), 4, "the dead one stays to be told of");
    fails(&server, &["replay"], 2, "--all");
    fails(&server, &["replay", &id, "--trigger", "github"], 2, "not both");
    fails(&server, &["replay", &id, "--function", "gone"], 1, "there is no function gone");
}

#[test]
fn a_paused_trigger_holds_and_resumes() {
    let receiver = Receiver::answering(|_, _| crate::support::receiver::status(500, ""));
    let server = Server::start(&config(&receiver.url("/fn")));
    server.cli(&["triggers", "pause", "github"]);
    server.cli(&["send", "github", "--json"]);
    server.wait("the held run", |server| server.items(&["runs", "list", "--state", "waiting"]).len() == 1);
    assert!(server.cli(&["events", "list"]).contains("held"));
    server.cli(&["triggers", "resume", "github"]);
    receiver.wait_for(1);
    server.wait("the failed attempt", |server| {
        server.items(&["runs", "list", "--state", "pending"]).len() == 1
    });
    let listed = server.cli(&["events", "list"]);
    assert!(listed.contains("open") && !listed.contains("held"), "{listed}");
    fails(&server, &["triggers", "arm", "github"], 1, "nothing to arm for");
    fails(&server, &["triggers", "pause", "gihub"], 1, "there is no trigger");
}

#[test]
fn sending_nothing_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let sent = with_input(folder.path(), &["send", "github", "--count", "0"], b"");
    assert_eq!(sent.status.code(), Some(2));
    assert!(text(&sent.stderr).contains("--count"), "{}", text(&sent.stderr));
}

#[test]
fn names_that_no_secret_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["../a", "a/../b", "a//b", "a b", ""] {
        let set = with_input(folder.path(), &["secrets", "set", name], b"");
        assert_eq!(set.status.code(), Some(2), "{name}");
        assert!(text(&set.stderr).contains("use letters, digits"), "{}", text(&set.stderr));
    }
}

#[test]
fn check_warns_of_a_stored_secret_that_nobody_has_set() {
    let trigger = |id: &str| {
        format!(
            "[[triggers]]\nid = \"{id}\"\nprovider = \"{id}\"\nsecrets = {{ signing_secret = \"store:{id}/it\" }}\n"
        )
    };
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}{}",
        trigger("github"),
        trigger("asana")
    );
    let mut server = Server::prepare(&config);
    let warned = |server: &Server| {
        let checked = server.run(&["check"]);
        let told = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{told}");
        // What a handshake brings nobody sets.
        assert!(!told.contains("asana/it"), "{told}");
        told.contains("set it with `hookkeeper secrets set github/it`") && told.contains("1 warning")
    };
    assert!(warned(&server), "before there is a data folder");
    std::fs::create_dir(server.folder.path().join("data")).unwrap();
    assert!(warned(&server), "of a folder that has nothing in it yet");
    server.restart();
    assert!(warned(&server), "of the running server");
    assert_eq!(server.stop(), Some(0));
    assert!(warned(&server), "of the stopped server's folder");
    let set = with_input(server.folder.path(), &["secrets", "set", "github/it"], b"hunter2");
    assert!(set.status.success(), "{}", text(&set.stderr));
    assert!(!warned(&server));
    server.restart();
    assert!(!warned(&server));
}

#[test]
fn stored_secrets_are_set_before_the_first_start_and_used_by_send() {
    let receiver = Receiver::start();
    let text = config(&receiver.url("/fn"));
    let start = text.find("literal:").unwrap();
    let end = start + text[start..].find('"').unwrap();
    let mut server = Server::prepare(&text.replace(&text[start..end], "store:gh/secret"));
    let set = with_input(server.folder.path(), &["secrets", "set", "gh/secret"], b"kept by us\n");
    assert!(set.status.success(), "{}", self::text(&set.stderr));
    server.restart();
    sent(&server, &[]);
    assert_eq!(server.cli(&["secrets", "reveal", "gh/secret"]), "kept by us\n");
    let topics = server.items(&["log", "read", "audit.admin"]);
    assert_eq!(
        topics.iter().map(|line| line["code"].as_str().unwrap()).collect::<Vec<_>>(),
        ["secret_set", "secret_revealed"]
    );
    let set = with_input(server.folder.path(), &["secrets", "set", "gh/secret"], b"another one\n");
    assert!(set.status.success(), "{}", self::text(&set.stderr));
    sent(&server, &[]);
    assert_eq!(server.items(&["secrets", "list"]).len(), 1);
    assert!(!server.log().contains("kept by us"));
}

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    fails(&server, &["events", "show", "nonsense"], 2, "event id");
    fails(&server, &["events", "list", "--state", "gone"], 2, "unknown event state");
    fails(&server, &["events", "list", "--since", "yesterday"], 2, "since");
    fails(&server, &["events", "list", "--limit", "0"], 2, "--limit");
    fails(&server, &["log", "read", ""], 2, "[TOPIC]");
    fails(&server, &["log", "read", "events", "--after", "x"], 2, "a position is a frame's number");
    fails(&server, &["send", "github", "--url", "ftp://127.0.0.1/"], 2, "no http or https URL");
    fails(
        &server,
        &["send", "github", "--secret", ""],
        1,
        "the secret is empty or blank; expected: Settings",
    );
    for rate in ["1e-300", "1e10", "-1", "nan"] {
        fails(&server, &["bench", &format!("--rate={rate}")], 2, "a rate of 0 or of 0.001 to 1000000");
    }
    fails(&server, &["why", "nonsense"], 2, "neither");
    fails(&server, &["why", "01KAR5M2D40000000000000000"], 1, "there is no event");
    fails(&server, &["send", "gihub"], 2, "did you mean `github`?");
    fails(
        &server,
        &["send", "github", "--event", "pull_request.open"],
        2,
        "did you mean `pull_request.opened`?",
    );
    fails(&server, &["send", "stripe"], 2, "--url and --secret");
    fails(&server, &["send", "github", "--secret", "env:NOT_SET_ANYWHERE"], 1, "NOT_SET_ANYWHERE");
    fails(&server, &["events", "list", "--admin", "http://127.0.0.1:1"], 1, "no server answers");
    fails(&server, &["events", "list", "--data", "gone"], 1, "holds no store");
    fails(&server, &["events", "list", "--data", "data"], 1, "in use");
    fails(&server, &["triggers", "pause", "github", "--data", "data"], 2, "running server");
    fails(&server, &["doctor"], 1, "in use");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    server.cli(&["send", "github", "--count", "30", "--json"]);
    let mut command = Command::new(BINARY);
    command.args(["log", "read", "events", "--limit", "500", "--json"]).current_dir(server.folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success() && !told.contains("panicked"), "{told}");
}

#[test]
fn verify_answers_each_line_with_one() {
    let folder = tempfile::TempDir::new().unwrap();
    let hello = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let line = |secret: &str| {
        serde_json::json!({
            "provider": "github",
            "secret": secret,
            "headers": {"X-Hub-Signature-256": hello, "X-GitHub-Event": "push", "X-GitHub-Delivery": "d"},
            "body": "Hello, World!",
        })
        .to_string()
    };
    let input = format!("{}\n{}\nnonsense hunter2\n", line("It's a Secret to Everybody"), line("x"));
    let output = with_input(folder.path(), &["verify", "--jsonl"], input.as_bytes());
    assert_eq!(output.status.code(), Some(2), "one line is no request");
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0],
        serde_json::json!({"state": "verified", "reason": null, "hint": null, "kind": "push", "dedupe_key": "d", "reply": null})
    );
    assert_eq!((&lines[1]["state"], &lines[1]["reason"]), (&"rejected".into(), &"invalid_signature".into()));
    assert!(!text(&output.stderr).contains("hunter2") && !text(&output.stdout).contains("hunter2"));
}

#[test]
fn doctor_reads_everything_and_rebuilds() {
    let receiver = Receiver::start();
    let mut server = Server::start(&config(&receiver.url("/fn")));
    let id = sent(&server, &[]);
    let before = server.cli(&["why", &id, "--json"]);
    assert_eq!(server.stop(), Some(0));
    assert!(server.cli(&["doctor"]).contains("every checksum holds"));
    server.cli(&["doctor", "--rebuild"]);
    assert_eq!(server.cli(&["why", &id, "--json"]), before);
}

#[test]
fn bench_counts_what_was_accepted() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    let args = ["bench", "--rate", "200", "--duration", "500ms", "--connections", "4", "--json"];
    let report: Value = serde_json::from_str(&server.cli(&args)).unwrap();
    assert_eq!(report["accepted"], 100, "{report}");
    assert_eq!(report["failed"], 0);
    assert!(report["latency_us"]["p99"].as_u64().unwrap() > 0);
}

#[test]
fn help_teaches_with_examples() {
    let folder = tempfile::TempDir::new().unwrap();
    let help = with_input(folder.path(), &["send", "--help"], b"");
    assert!(text(&help.stdout).contains("Examples:") && help.status.success());
    let nothing = with_input(folder.path(), &[], b"");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("hookkeeper send github"));
}
