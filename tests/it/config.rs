//! `init`, `check` and what `serve` says to a configuration that is wrong, through the binary.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use hookkeeper::catalog::{ProviderCatalog, ProviderEntry};
use hookkeeper::connector::SchemeFacts;
use tempfile::TempDir;

fn run(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookkeeper"));
    command.args(args).current_dir(folder).env_remove("HOOKKEEPER_CONFIG").env_remove("GITHUB_SECRET");
    command.envs(env.iter().copied()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn folder_with(config: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("hookkeeper.toml"), config).unwrap();
    folder
}

#[test]
fn init_writes_a_configuration_that_is_good_and_never_overwrites() {
    let folder = TempDir::new().unwrap();
    let first = run(folder.path(), &["init"], &[]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let good = run(folder.path(), &["check"], &[("GITHUB_SECRET", "x")]);
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    let written = std::fs::read(folder.path().join("hookkeeper.toml")).unwrap();
    let second = run(folder.path(), &["init"], &[]);
    assert_eq!(second.status.code(), Some(2));
    assert!(stderr(&second).contains("not overwritten"), "{}", stderr(&second));
    assert_eq!(std::fs::read(folder.path().join("hookkeeper.toml")).unwrap(), written);
}

#[test]
fn check_tells_every_problem_with_file_line_key_and_remedy() {
    let folder = folder_with(
        "[server]\nlisten = \"localhost\"\n\n[[triggers]]\nid = \"github\"\nprovider = \"gihub\"\ntolerence = \"5m\"\n\
         secrets = { signing_secret = \"hunter2\" }\n",
    );
    for command in ["check", "serve"] {
        let output = run(folder.path(), &[command], &[]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let told = stderr(&output);
        for part in [
            "hookkeeper.toml:2:10",
            "server.listen",
            "hookkeeper.toml:6:12",
            "did you mean `github`?",
            "hookkeeper.toml:7:1",
            "did you mean `tolerance`?",
            "a secret must not stand in the configuration itself",
            "env:NAME",
            "4 problems",
        ] {
            assert!(told.contains(part), "{command}: {part}\n{told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
        assert!(output.stdout.is_empty());
    }
    assert!(!folder.path().join("data").exists(), "a wrong configuration makes no data folder");
}

#[test]
fn check_print_shows_defaults_and_no_secret() {
    let folder = folder_with(
        "[[triggers]]\nid = \"github\"\nprovider = \"github\"\nsecrets = { signing_secret = \"literal:hunter2\" }\n",
    );
    let output = run(folder.path(), &["check", "--print"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        printed.contains("path = \"/hooks/github\"") && printed.contains("body_limit = \"25MB\""),
        "{printed}"
    );
    assert!(stderr(&output).contains("warning"), "{}", stderr(&output));
    assert!(!printed.contains("hunter2") && !stderr(&output).contains("hunter2"));
}

#[test]
fn a_configuration_that_is_not_there_is_wrong_usage() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &["serve", "--config", "gone.toml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("gone.toml") && stderr(&output).contains("hookkeeper init"));
}

#[test]
fn expressions_are_compiled_by_check() {
    let folder = folder_with(
        "[[functions]]\nid = \"f\"\nwhen = 'event.payload.ref =='\nhandler = { exec = [\"cat\"] }\n",
    );
    let output = run(folder.path(), &["check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("hookkeeper.toml:3:8") && told.contains("functions.f.when"), "{told}");
}

#[test]
fn own_providers_are_checked_by_the_catalogues_own_rules() {
    let own = r#"
id = "acme"
name = "Acme"
family = "hmac"
confidence = "own"
docs = "https://acme.example/webhooks"
source = "our own"
read_on = "2026-11-23"
[providers.signature]
sig = "header:X-Acme-Signature"
[providers.event]
schema = "AcmePayload"
kind = ["{json:/type}"]
[[providers.secrets]]
name = "signing_secret"
namespace = "acme"
about = "in Acme's settings"
"#;
    let trigger =
        "[[triggers]]\nid = \"a\"\nprovider = \"acme\"\nsecrets = { signing_secret = \"literal:x\" }\n";
    let good = folder_with(&format!("{trigger}[[providers]]{own}"));
    let output = run(good.path(), &["check"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let listed = run(good.path(), &["providers", "list", "--json"], &[]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"acme\""));

    let bad = folder_with(&format!("{trigger}[[providers]]{}", own.replace("header:X", "heder:X")));
    let output = run(bad.path(), &["check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("this is no catalogue entry"), "{}", stderr(&output));
}

#[test]
fn weak_and_unconfirmed_proofs_are_warned_of_and_do_not_fail() {
    let trigger =
        |id: &str, secret: &str| format!("[[triggers]]\nid = \"{id}\"\nprovider = \"{id}\"\n{secret}\n");
    let secret = "secrets = { signing_secret = \"env:GITHUB_SECRET\" }";
    for (id, secret, part) in [
        ("acuity", secret, "what is known of `acuity` is experimental"),
        ("gitlab", secret, "the proof does not cover the body: "),
        ("adyen", secret, "the proof does not cover the body as a whole"),
        ("docker-hub", "", "the provider proves nothing"),
        ("github", secret, ""),
    ] {
        let folder = folder_with(&trigger(id, secret));
        let hex = "00".repeat(32).replace("00", "5e");
        let output = run(folder.path(), &["check"], &[("GITHUB_SECRET", &hex)]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{id}: {told}");
        match part {
            "" => assert!(!told.contains("warning"), "{told}"),
            part => assert!(told.contains(part) && told.contains("1 warning"), "{id}: {told}"),
        }
    }
}

#[test]
fn every_provider_that_signs_the_url_needs_to_know_it() {
    let catalog = ProviderCatalog::built_in();
    let signs_url = |entry: &&Arc<ProviderEntry>| {
        let told = serde_json::to_string(&(&entry.signature, &entry.handshakes)).unwrap();
        // A setting may have such a name, too.
        let told = told.replace("${", "");
        ["{url", "{host"].iter().any(|part| told.contains(part))
    };
    let mut text = String::new();
    let mut count = 0;
    for entry in catalog.entries().filter(signs_url) {
        count += 1;
        assert!(SchemeFacts::of_any(entry).unwrap().needs_public_url, "{}", entry.id);
        let secrets: Vec<_> =
            entry.secrets.iter().map(|secret| format!("{} = \"env:GITHUB_SECRET\"", secret.name)).collect();
        let (id, secrets) = (&entry.id, secrets.join(", "));
        text.push_str(&format!(
            "[[triggers]]\nid = \"{id}\"\nprovider = \"{id}\"\nsecrets = {{ {secrets} }}\n"
        ));
    }
    assert!(count >= 8, "only {count} providers sign the URL");
    // A generic scheme does where its settings say so.
    text.push_str(
        "[[triggers]]\nid = \"generic\"\nprovider = \"hmac\"\nsecrets = { signing_secret = \"env:GITHUB_SECRET\" }\n\
         settings = { header = \"X-Sig\", content = \"{url}{body}\" }\n",
    );
    let folder = folder_with(&text);
    let output = run(folder.path(), &["check", "--offline"], &[]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert_eq!(told.matches("this provider signs the URL").count(), count + 1, "{told}");
    let folder = folder_with(&format!("[server]\npublic_url = \"https://hooks.example.com\"\n{text}"));
    let output = run(folder.path(), &["check", "--offline"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn settings_that_make_no_sense_are_found_before_the_server_starts() {
    let folder = folder_with(
        "[[triggers]]\nid = \"a\"\nprovider = \"hmac\"\nsecrets = { signing_secret = \"env:GITHUB_SECRET\" }\n\
         settings = { header = \"X-Sig\", content = \"{bodi}\" }\n",
    );
    let output = run(folder.path(), &["check", "--offline"], &[]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("the settings make no sense") && told.contains("{bodi}"), "{told}");
    assert!(told.contains("triggers.a.settings") && told.contains("providers show hmac"), "{told}");
}

#[test]
fn check_tries_the_certificate_and_its_key() {
    let folder = folder_with("[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n");
    let certified = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (own, other) = (certified(), certified());
    let (cert, key, other) =
        (own.cert.pem(), own.signing_key.serialize_pem(), other.signing_key.serialize_pem());
    let check = |cert: &str, key: &str, expected: Option<&str>| {
        std::fs::write(folder.path().join("cert.pem"), cert).unwrap();
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        for command in ["check", "serve"] {
            let Some(expected) = expected else { continue };
            let output = run(folder.path(), &[command], &[]);
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
            let told = stderr(&output);
            assert!(told.contains("hookkeeper.toml:2:7") && told.contains(expected), "{told}");
        }
    };
    let missing = run(folder.path(), &["check"], &[]);
    assert!(stderr(&missing).contains("server.tls.cert"), "{}", stderr(&missing));
    check(&cert, &other, Some("does not belong to the certificate"));
    check("no PEM", &key, Some("cannot read certificates from"));
    check(&cert, &cert, Some("cannot read a private key from"));
    check(&cert, &key, None);
    let good = run(folder.path(), &["check"], &[]);
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
}
