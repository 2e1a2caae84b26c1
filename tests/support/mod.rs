//! What tests share: a real server with its own folder, a sender that signs, a receiver, a client.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "each test binary uses its part of this"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

pub mod http;
pub mod receiver;
pub mod tls_host;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use tempfile::TempDir;

pub use http::{Answer, Connection};
pub use receiver::{Delivery, Receiver};
pub use tls_host::{Asked, TlsHost};

/// The secret of the trigger `github` in [`config`].
pub const SECRET: &str = "It's a Secret to Everybody";

/// The built binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_hookkeeper");

/// A folder with a configuration, and perhaps a running server on it.
pub struct Server {
    pub folder: TempDir,
    child: Option<Child>,
    pub front: SocketAddr,
    pub admin: SocketAddr,
}

/// Returns a configuration with a GitHub trigger and one HTTP function `fn` behind it.
pub fn config(function_url: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
         [[triggers]]\nid = \"github\"\nprovider = \"github\"\nsecrets = {{ signing_secret = \"literal:{SECRET}\" }}\n\n\
         [[functions]]\nid = \"fn\"\non = [\"github\"]\nhandler = {{ http = \"{function_url}\" }}\n"
    )
}

impl Server {
    /// Writes `config` to a folder of its own and starts the server there.
    pub fn start(config: &str) -> Self {
        let mut server = Self::prepare(config);
        server.restart();
        server
    }

    /// Writes `config` to a folder of its own.
    pub fn prepare(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("hookkeeper.toml"), config).unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { folder, child: None, front: nowhere, admin: nowhere }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the command that starts the server, for tests that add to its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("serve");
        self.here(command)
    }

    /// Has a command run in the server's folder and log.
    pub fn here(&self, mut command: Command) -> Command {
        command.current_dir(self.folder.path()).env_remove("HOOKKEEPER_ADMIN");
        let path = self.folder.path().join("server.log");
        let log = std::fs::File::options().append(true).create(true).open(path).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the server on the folder as it is.
    pub fn restart(&mut self) {
        let command = self.command();
        self.restart_as(command);
    }

    /// Starts the server with the given command.
    pub fn restart_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "the server runs already");
        let _ = std::fs::remove_file(self.data().join("server.json"));
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let addresses = loop {
            if let Some(addresses) = addresses(&self.data()) {
                break addresses;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the server did not start in 60 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        (self.front, self.admin) = addresses;
        self.child = Some(child);
    }

    /// What the server wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Ends the server with SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the server with SIGTERM and returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the server runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server did not stop in 60 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the binary in the server's folder.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("HOOKKEEPER_ADMIN").output().unwrap()
    }

    /// Runs the binary in the server's folder, which must succeed, and returns its stdout.
    pub fn cli(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hookkeeper {} failed: {stderr}", args.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a listing with `--json` and returns its items.
    pub fn items(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let text = self.cli(&[args, &["--json"]].concat());
        let page: serde_json::Value = serde_json::from_str(&text).unwrap();
        page["items"].as_array().unwrap_or_else(|| panic!("no items in {text}")).clone()
    }

    /// Asks the admin API.
    pub fn get(&self, target: &str) -> Answer {
        http::request(self.admin, "GET", target, &[], b"")
    }

    /// Sends a signed GitHub event.
    pub fn github(&self, event: &str, delivery: &str, body: &[u8]) -> Answer {
        let mut connection = Connection::open(self.front).unwrap();
        github(&mut connection, event, delivery, body).unwrap()
    }

    /// Waits until `done` holds; panics with `what` after 30 s.
    pub fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < deadline, "waited 30 s for: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- server log\n{}", self.log());
            }
        }
    }
}

fn addresses(data: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::fs::read_to_string(data.join("server.json")).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let address = |name: &str| value[name].as_str()?.parse().ok();
    Some((address("listen")?, address("admin")?))
}

/// Returns GitHub's signature of a body.
pub fn github_signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

/// Sends a signed GitHub event on a connection.
pub fn github(
    connection: &mut Connection,
    event: &str,
    delivery: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let signature = github_signature(SECRET, body);
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", event),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", &signature),
    ];
    connection.request("POST", "/hooks/github", &headers, body)
}
