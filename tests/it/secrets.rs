//! Secrets over their whole life: how they are sealed, seen, replaced and picked up.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookkeeper::clock::Clock;
use hookkeeper::event_log::record::{Record, Sealed};
use hookkeeper::event_log::{Log, Options};
use hookkeeper::quarantine::{Filter, Quarantine};
use hookkeeper::secrets::{Secret, Vault};
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{BINARY, Receiver, SECRET, Server, config, github_signature};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Keeps secrets in a stopped server's folder.
fn keep(data: &Path, secrets: &[(String, String)]) {
    block_on(async {
        let log = Log::open(Options::new(data)).unwrap();
        let vault = Vault::new(data);
        let record = |(name, value): &(String, String)| {
            let sealed = vault.seal(name, &Secret::new(value.as_str())).unwrap();
            Record::Sealed(Sealed { name: name.clone(), at: Clock::system().now(), sealed })
        };
        log.append_durable(secrets.iter().map(record).collect()).await.unwrap();
        log.close(Instant::now() + Duration::from_secs(60)).await;
    });
}

/// Opens everything that is sealed in a stopped server's folder.
fn opens(data: &Path, secrets: &[(String, String)], quarantined: usize) {
    let vault = Arc::new(Vault::new(data));
    let log = Log::open_reader(data).unwrap();
    for (name, value) in secrets {
        let sealed = log.state().sealed(name).unwrap();
        assert_eq!(vault.unseal(name, &sealed).unwrap().expose(), value.as_bytes(), "{name}");
    }
    let quarantine = Quarantine::reader(data, vault);
    let (held, _) = quarantine.list(&Filter::default(), None, 100).unwrap();
    assert_eq!(held.len(), quarantined);
    for held in held {
        assert_eq!(quarantine.open(&held).unwrap().body, "{}");
    }
}

#[test]
fn the_master_key_is_changed_and_everything_opens_whenever_that_is_killed() {
    let receiver = Receiver::start();
    let mut server = Server::start(&config(&receiver.url("/fn")).replace(SECRET, "another one"));
    for delivery in ["one", "two", "three"] {
        assert_eq!(server.github("push", delivery, b"{}").status, 401);
    }
    server.wait("the quarantine", |server| server.items(&["quarantine", "list"]).len() == 3);
    let running = server.run(&["secrets", "rekey"]);
    let why = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(!running.status.success() && why.contains("stopped"), "{why}");
    assert_eq!(server.stop(), Some(0));
    let data = server.data();
    let secrets: Vec<_> = (0..40).map(|n| (format!("ns/s{n}"), format!("value {n}"))).collect();
    keep(&data, &secrets);
    let old = std::fs::read_to_string(data.join("master.key")).unwrap();

    // Killed a bit later each time, until it comes to its end.
    let mut cut_off = 0;
    loop {
        let mut command = Command::new(BINARY);
        command.args(["secrets", "rekey"]).current_dir(server.folder.path()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(cut_off * 7);
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= until => break None,
                None => std::thread::yield_now(),
            }
        };
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        opens(&data, &secrets, 3);
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        cut_off += 1;
        assert!(cut_off < 2_000, "it never comes to its end");
    }
    let new = std::fs::read_to_string(data.join("master.key")).unwrap();
    assert!(new.lines().count() == 1 && new != old, "the old key is gone");

    // Nothing is left that needs the old one, and a server finds everything.
    server.restart();
    assert_eq!(server.items(&["quarantine", "list"]).len(), 3);
    assert_eq!(server.cli(&["secrets", "reveal", "ns/s7"]), "value 7\n");
    let audited = server.items(&["log", "read", "audit.admin"]);
    assert!(audited.iter().any(|line| line["code"] == "master_key_changed"), "{audited:?}");
}

#[test]
fn a_key_from_outside_takes_over_from_the_one_in_the_data_folder() {
    let server = Server::prepare("");
    let data = server.data();
    let secrets = vec![("ns/s".to_owned(), "value".to_owned())];
    keep(&data, &secrets);
    let given = "0707070707070707070707070707070707070707070707070707070707070707";
    let run = |key: &str, args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(server.folder.path()).env("HOOKKEEPER_MASTER_KEY", key);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = run(given, &["secrets", "rekey"]);
    assert!(done && said.contains("1 secrets") && said.contains("master.key is deleted"), "{said}");
    assert!(!data.join("master.key").exists(), "the key is kept apart from the folder now");
    let (done, said) = run(given, &["doctor"]);
    assert!(done, "{said}");
    let (done, said) = run(given, &["secrets", "rekey"]);
    assert!(!done && said.contains("NEW,OLD"), "{said}");
    let other = "08".repeat(32);
    let (done, said) = run(&format!("{other},{given}"), &["secrets", "rekey"]);
    assert!(done && said.contains("take them out"), "{said}");
    let (done, said) = run(&other, &["doctor"]);
    assert!(done, "{said}");
    let (done, _) = run(given, &["doctor"]);
    assert!(!done, "the old key opens nothing any more");
}

/// Sends a GitHub delivery that is signed with a secret; returns the status.
fn deliver(server: &Server, secret: &str, delivery: &str) -> u16 {
    let signature = github_signature(secret, b"{}");
    let headers = [
        ("x-github-event", "push"),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", signature.as_str()),
    ];
    request(server.front, "POST", "/hooks/github", &headers, b"{}").status
}

/// A configuration whose trigger has these secrets, a list in TOML.
fn with_secrets(receiver: &Receiver, secrets: &str) -> String {
    config(&receiver.url("/fn")).replace(&format!("\"literal:{SECRET}\""), secrets)
}

/// Runs a command with something on stdin.
fn with_input(server: &Server, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(server.folder.path()).env_remove("HOOKKEEPER_ADMIN");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[track_caller]
fn refused(output: &Output, with: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains(with), "{stderr}");
}

fn list(server: &Server) -> Vec<Value> {
    server.items(&["secrets", "list"])
}

#[test]
fn the_timeline_tells_which_secret_verified_and_outlives_stops_and_kills() {
    let receiver = Receiver::start();
    let mut server = Server::start(&with_secrets(&receiver, "[\"literal:new one\", \"literal:old one\"]"));
    server.wait("both to be noted", |server| list(server).iter().all(|item| item["added_at"].is_string()));
    let listed = list(&server);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!((&listed[0]["state"], &listed[1]["state"]), (&json!("current"), &json!("previous")));
    assert!(listed.iter().all(|item| item["first_success_at"].is_null() && item["warnings"] == json!([])));

    // The provider has not changed over.
    for delivery in 0..50 {
        assert_eq!(deliver(&server, "old one", &format!("old {delivery}")), 200);
    }
    assert_eq!(deliver(&server, "neither", "x"), 401);
    let listed = list(&server);
    assert!(listed[0]["last_success_at"].is_null() && listed[1]["last_success_at"].is_string(), "{listed:?}");
    let shown = server.run(&["secrets", "list"]);
    let warned = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(
        warned.contains("is it set at the provider") && warned.contains("still verify with it"),
        "{warned}"
    );
    let seen = |server: &Server| server.items(&["log", "read", "secrets", "--limit", "500"]);
    server.wait("the first success to be in the log", |server| {
        seen(server).iter().any(|line| line["secrets"][0]["first_success_at"].is_string())
    });
    assert!(seen(&server).len() <= 4, "no record for each delivery: {:?}", seen(&server));

    // What the log has survives a kill.
    let first = list(&server)[1]["first_success_at"].clone();
    server.kill();
    server.restart();
    assert_eq!(list(&server)[1]["first_success_at"], first);
    // What came after it is written at the stop, and read without a server.
    assert_eq!(deliver(&server, "new one", "new"), 200);
    assert_eq!(deliver(&server, "old one", "later"), 200);
    let running = list(&server);
    assert_eq!(server.stop(), Some(0));
    let stopped = list(&server);
    for field in ["reference", "state", "fingerprint", "added_at", "first_success_at", "last_success_at"] {
        for (running, stopped) in running.iter().zip(&stopped) {
            assert_eq!(running[field], stopped[field], "{field}");
        }
    }
    assert!(stopped[0]["first_success_at"].is_string() && stopped[1]["first_success_at"] == first);
    let all = format!("{stopped:?}{}", server.log());
    assert!(!all.contains("new one") && !all.contains("old one"));
}

#[test]
fn a_rotated_secret_verifies_until_its_successor_was_seen() {
    let receiver = Receiver::start();
    let mut server = Server::prepare(&with_secrets(&receiver, "\"store:gh/secret\""));
    done(&with_input(&server, &["secrets", "set", "gh/secret"], "first\n"));
    server.restart();
    assert_eq!(deliver(&server, "first", "1"), 200);
    refused(&with_input(&server, &["secrets", "rotate", "gh/secret"], "first"), "has this value already");
    refused(&with_input(&server, &["secrets", "rotate", "gone"], "x"), "neither a kept secret nor a trigger");
    refused(&server.run(&["secrets", "rotate", "gh/secret", "--finish"]), "is not being rotated");

    let said = done(&with_input(&server, &["secrets", "rotate", "github", "--keep-for", "0s"], "second\n"));
    assert!(said.contains("gh/secret: both secrets verify now"), "{said}");
    assert_eq!((deliver(&server, "first", "2"), list(&server).len()), (200, 2), "no gap");
    refused(&with_input(&server, &["secrets", "rotate", "github"], "third"), "is being rotated since");
    server.kill();
    server.restart();
    assert_eq!(deliver(&server, "first", "3"), 200, "both are in force after a kill");
    let old = list(&server).into_iter().find(|item| item["replaced"] == true).unwrap();
    assert_eq!((&old["state"], &old["reference"]), (&json!("previous"), &json!("store:gh/secret")));
    assert!(old["keep_until"].is_string() && old["last_success_at"].is_string());

    assert_eq!(deliver(&server, "second", "4"), 200);
    server.wait("the old secret to retire", |server| list(server).len() == 1);
    assert_eq!((deliver(&server, "first", "5"), deliver(&server, "second", "6")), (401, 200));
    let audited = server.items(&["log", "read", "audit.admin"]);
    let codes: Vec<_> = audited.iter().map(|line| line["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["secret_set", "secret_rotated", "secret_retired"]);

    // Within its time the old one stays although the new one was seen, unless an operator ends it.
    let made = server.cli(&["secrets", "rotate", "gh/secret", "--generate"]);
    assert_eq!(deliver(&server, made.trim(), "7"), 200);
    server.wait("the new secret to be seen", |server| list(server)[0]["first_success_at"].is_string());
    assert_eq!(deliver(&server, "second", "8"), 200);
    server.cli(&["secrets", "rotate", "gh/secret", "--finish"]);
    assert_eq!((deliver(&server, "second", "9"), deliver(&server, made.trim(), "10")), (401, 200));

    // A stopped folder is rotated likewise, and `remove` takes both.
    assert_eq!(server.stop(), Some(0));
    done(&with_input(&server, &["secrets", "rotate", "github"], "fourth"));
    server.restart();
    assert_eq!((deliver(&server, made.trim(), "11"), deliver(&server, "fourth", "12")), (200, 200));
    assert_eq!(server.stop(), Some(0));
    server.cli(&["secrets", "remove", "gh/secret"]);
    assert!(list(&server).iter().all(|item| item["problem"].is_string()));
    done(&with_input(&server, &["secrets", "set", "gh/secret"], "fifth"));
    server.restart();
    assert_eq!((deliver(&server, "fourth", "13"), deliver(&server, "fifth", "14")), (401, 200));

    // One that is taken away verifies nothing more, without a restart.
    server.cli(&["secrets", "remove", "gh/secret"]);
    server.wait("the removed secret to end", |server| deliver(server, "fifth", "15") == 503);
    done(&with_input(&server, &["secrets", "set", "gh/secret"], "sixth"));
    server.wait("the new one", |server| deliver(server, "sixth", "16") == 200);
    assert_eq!(deliver(&server, "fifth", "17"), 401);
}

#[test]
fn secrets_in_files_are_picked_up_when_they_change() {
    let receiver = Receiver::start();
    let text = with_secrets(&receiver, "\"file:keys/hook\"")
        .replace("handler =", "signing_secret = \"file:keys/sign\"\nhandler =")
        .replace("[server]", "[server]\nadmin_token = \"file:keys/token\"");
    let mut server = Server::prepare(&text);
    let keys = server.folder.path().join("keys");
    let version = |name: &str, hook: &str, sign: &str, token: &str| {
        let folder = keys.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, content) in [("hook", hook), ("sign", sign), ("token", token)] {
            std::fs::write(folder.join(file), content).unwrap();
        }
    };
    // As Kubernetes lays secrets out: links through a link that is swapped.
    version("..v1", "hook 1", "sign 1", "token1");
    symlink("..v1", keys.join("..data")).unwrap();
    for file in ["hook", "sign", "token"] {
        symlink(format!("..data/{file}"), keys.join(file)).unwrap();
    }
    server.restart();
    assert_eq!(deliver(&server, "hook 1", "1"), 200);
    let signature =
        |delivery: &crate::support::Delivery| delivery.header("webhook-signature").unwrap().to_owned();
    let signed_with = |secret: &str, delivery: &crate::support::Delivery| {
        let header = |name: &str| delivery.header(name).unwrap().to_owned();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}.{}.{{}}", header("webhook-id"), header("webhook-timestamp")).as_bytes());
        signature(delivery) == format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    assert!(signed_with("sign 1", &receiver.wait_for(1)[0]));

    version("..v2", "hook 2", "sign 2", "token2");
    symlink("..v2", keys.join("..new")).unwrap();
    std::fs::rename(keys.join("..new"), keys.join("..data")).unwrap();
    server.wait("the new secret", |server| deliver(server, "hook 2", "2") == 200);
    assert_eq!(deliver(&server, "hook 1", "3"), 401);
    let authorized = |server: &Server, token: &str| {
        let value = format!("Bearer {token}");
        request(server.admin, "GET", "/api/v1/secrets", &[("authorization", &value)], b"").status
    };
    server.wait("the new token", |server| authorized(server, "token2") == 200);
    assert_eq!(authorized(&server, "token1"), 401);
    server.wait("a delivery with the new signature", |server| {
        deliver(server, "hook 2", &format!("again {}", receiver.got().len()));
        receiver.got().last().is_some_and(|delivery| signed_with("sign 2", delivery))
    });

    // What is gone serves on, and is told.
    std::fs::remove_file(keys.join("hook")).unwrap();
    server.wait("the warning", |server| {
        let listed =
            request(server.admin, "GET", "/api/v1/secrets", &[("authorization", "Bearer token2")], b"")
                .json();
        listed["items"][0]["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("cannot read the secret file"))
    });
    let warned = |server: &Server| {
        let listed =
            request(server.admin, "GET", "/api/v1/secrets", &[("authorization", "Bearer token2")], b"")
                .json();
        listed["items"][0]["warnings"][0].as_str().unwrap_or_default().to_owned()
    };
    assert!(warned(&server).ends_with("what it was before goes on serving"), "{}", warned(&server));
    assert_eq!(deliver(&server, "hook 2", "4"), 200);
    // After a restart there is nothing that it was before.
    assert_eq!(server.stop(), Some(0));
    server.restart();
    assert!(warned(&server).ends_with("until it can, deliveries get 503"), "{}", warned(&server));
    assert_eq!(deliver(&server, "hook 2", "4a"), 503);
    // And comes back as another one.
    std::fs::write(keys.join("hook.new"), "hook 3\n").unwrap();
    std::fs::rename(keys.join("hook.new"), keys.join("hook")).unwrap();
    server.wait("the secret that came back", |server| deliver(server, "hook 3", "5") == 200);
    assert_eq!(deliver(&server, "hook 2", "6"), 401);
}

#[test]
fn no_second_master_key_is_made_beside_one_that_was_lost() {
    let receiver = Receiver::start();
    let mut server = Server::prepare(&with_secrets(&receiver, "\"store:gh/secret\""));
    done(&with_input(&server, &["secrets", "set", "gh/secret"], "first"));
    let key = server.data().join("master.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    refused(&with_input(&server, &["secrets", "set", "other"], "second"), "master key");
    let checked = server.run(&["check"]);
    assert_eq!(checked.status.code(), Some(0), "the server starts all the same");
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(told.contains("there is no master key at") && told.contains("1 warning"), "{told}");
    server.restart();
    refused(&with_input(&server, &["secrets", "set", "other"], "second"), "master key");
    assert_eq!((deliver(&server, "first", "1"), key.exists()), (503, false));
    assert_eq!(server.stop(), Some(0));
    std::fs::write(&key, kept).unwrap();
    server.restart();
    assert_eq!(deliver(&server, "first", "2"), 200);
}

#[test]
fn a_client_whose_secret_is_not_there_keeps_no_delivery_out() {
    let receiver = Receiver::start();
    let text = config(&receiver.url("/fn")) + "\n[clients.stripe]\nsecrets = { api_key = \"file:gone\" }\n";
    let server = Server::start(&text);
    assert_eq!(deliver(&server, SECRET, "1"), 200);
    assert!(server.log().contains("calls fail"), "{}", server.log());
}
