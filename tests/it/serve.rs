//! Start, stop, TLS, and what a second instance hears.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::support::{Receiver, SECRET, Server, config, github_signature};

#[test]
fn sigterm_ends_the_server_with_0_and_its_state_is_there_again() {
    let receiver = Receiver::start();
    let mut server = Server::start(&config(&receiver.url("/fn")));
    assert_eq!(server.github("push", "1", b"{}").status, 200);
    receiver.wait_for(1);
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    assert_eq!(server.items(&["events", "list"]).len(), 1, "a stopped server's folder is read");
    server.restart();
    assert_eq!(server.github("push", "1", b"{}").header("x-hookkeeper-duplicate"), Some("true"));
    assert_eq!(receiver.got().len(), 1, "a finished run is not started again");
}

#[test]
fn a_second_instance_on_the_same_folder_hears_why_not() {
    let receiver = Receiver::start();
    let server = Server::start(&config(&receiver.url("/fn")));
    let output = server.run(&["serve"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("in use") && stderr.contains(&server.pid().to_string()), "{stderr}");
    assert_eq!(server.github("push", "1", b"{}").status, 200, "the first one goes on");
}

/// A configuration whose start has a warning, and something to log.
fn with_a_warning(receiver: &Receiver) -> String {
    let late =
        "[[triggers]]\nid = \"late\"\nprovider = \"github\"\nsecrets = { signing_secret = \"file:late\" }\n";
    format!("{}\n{late}", config(&receiver.url("/fn")))
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_that_takes_no_line_ends_nothing() {
    let receiver = Receiver::start();
    let mut server = Server::prepare(&with_a_warning(&receiver));
    let mut command = server.command();
    command.stderr(std::fs::File::options().write(true).open("/dev/full").unwrap());
    server.restart_as(command);
    assert_eq!(server.github("push", "1", b"{}").status, 200);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_log_in_json_has_an_object_on_each_line() {
    let receiver = Receiver::start();
    let mut server = Server::prepare(&with_a_warning(&receiver));
    let mut command = server.command();
    command.args(["--log-format", "json"]).env("HOOKKEEPER_LOG", "=,=");
    server.restart_as(command);
    assert_eq!(server.stop(), Some(0));
    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}\n{log}")))
        .collect();
    let has = |message: &str| {
        lines.iter().any(|line| line["fields"]["message"].as_str().is_some_and(|told| told.contains(message)))
    };
    assert!(has("cannot read late") && has("ready") && has("HOOKKEEPER_LOG"), "{log}");
}

#[test]
fn tls_from_files_serves_https() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let receiver = Receiver::start();
    let text = config(&receiver.url("/fn"))
        .replace("[server]\n", "[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n");
    let mut server = Server::prepare(&text);
    std::fs::write(server.folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(server.folder.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    server.restart();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut socket = std::net::TcpStream::connect(server.front).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    let signature = github_signature(SECRET, b"{}");
    let request = format!(
        "POST /hooks/github HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-github-event: push\r\n\
         x-github-delivery: tls\r\nx-hub-signature-256: {signature}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    receiver.wait_for(1);
}
