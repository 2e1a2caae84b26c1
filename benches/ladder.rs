//! What durability costs: the same load on servers that do more and more.
//!
//! ```text
//! cargo bench --bench ladder                     all rungs, 3 rounds of 8 s
//! cargo bench --bench ladder -- --seconds 4 --rounds 1 --connections 32
//! cargo bench --bench ladder -- --only functions
//! cargo bench --bench ladder -- --floors         what else is measured: see `floors`
//! cargo bench --bench ladder -- --flood          one provider beside another's flood: see `flood`
//! ```
//!
//! Rungs: `verify` reads and verifies, stores nothing; `plain` is hookkeeper on a plain file that takes events as
//! they are, with one `fdatasync` per commit; `frames` is the same with compressed frames; `sled` is hookkeeper.
//! `plain+fn`, `frames+fn` and `functions` are these with a function behind them.
//! Rounds are interleaved and medians printed, for machines are noisy: trust ratios within one run.
//! Load generator, server and receiver share the machine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

#[path = "ladder/flood.rs"]
mod flood;
#[path = "ladder/floors.rs"]
mod floors;
#[path = "ladder/plain_log.rs"]
mod plain_log;
#[path = "ladder/serve.rs"]
mod serve;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};

const RUNGS: [&str; 7] = ["verify", "plain", "frames", "sled", "plain+fn", "frames+fn", "functions"];
/// The rungs that others are compared with.
const PLAIN: usize = 1;
const PLAIN_WITH_FUNCTION: usize = 4;
pub const SECRET: &str = "It's a Secret to Everybody";

#[derive(Clone, Debug, Default)]
struct Measured {
    acked_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    delivered_per_s: f64,
    drained_per_s: f64,
    bytes_per_event: f64,
    rss_mb: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, rung, dir, function] = args.as_slice()
        && mode == "--serve"
    {
        return serve::serve(rung, dir, function);
    }
    if let [mode, dir] = args.as_slice()
        && mode == "--scan"
    {
        return floors::scan(dir);
    }
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).map_or(default, |value| value.parse().unwrap())
    };
    let (seconds, rounds) = (number("--seconds", 8), number("--rounds", 3));
    let connections = number("--connections", 128);
    let received = Arc::new(AtomicU64::new(0));
    let function = receiver(&received);
    if args.iter().any(|arg| arg == "--floors") {
        let examples = args.iter().position(|arg| arg == "--examples").and_then(|at| args.get(at + 1));
        return floors::measure(&function, &received, number("--events", 1_000_000), examples);
    }
    if args.iter().any(|arg| arg == "--flood") {
        return flood::measure(&function, seconds, rounds, number("--rate", 0));
    }
    let mut all = vec![Vec::new(); RUNGS.len()];
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    for round in 0..rounds {
        for (at, rung) in RUNGS.iter().enumerate() {
            if only.is_some_and(|only| only != rung) {
                all[at].push(Measured::default());
                continue;
            }
            let measured = measure(rung, seconds, connections, &function, &received);
            eprintln!("round {round} {rung}: {measured:?}");
            all[at].push(measured);
        }
    }
    report(&all);
}

/// Starts a function's endpoint that counts and answers 200.
fn receiver(received: &Arc<AtomicU64>) -> String {
    let (send, address) = std::sync::mpsc::sync_channel(1);
    let received = received.clone();
    std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let app = move || {
                let received = received.clone();
                App::new().default_service(web::to(move |_body: web::Bytes| {
                    received.fetch_add(1, Ordering::Relaxed);
                    async { HttpResponse::Ok().finish() }
                }))
            };
            let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0)).unwrap();
            send.send(server.addrs()[0]).unwrap();
            server.run().await.unwrap();
        });
    });
    format!("http://{}/", address.recv().unwrap())
}

fn measure(rung: &str, seconds: u64, connections: u64, function: &str, received: &AtomicU64) -> Measured {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(rung, dir.path(), function);
    let before = received.load(Ordering::Relaxed);
    let begun = Instant::now();
    let load = load(&server.address, seconds, connections, &["--body-size", "7KB"]);
    let delivered = received.load(Ordering::Relaxed) - before;
    let accepted = load["accepted"].as_u64().unwrap();
    let mut measured = Measured {
        acked_per_s: load["per_second"].as_f64().unwrap(),
        p50_ms: load["latency_us"]["p50"].as_f64().unwrap() / 1000.0,
        p99_ms: load["latency_us"]["p99"].as_f64().unwrap() / 1000.0,
        delivered_per_s: delivered as f64 / begun.elapsed().as_secs_f64(),
        rss_mb: server.resident_mb(),
        ..Measured::default()
    };
    if has_function(rung) {
        wait_until_delivered(received, before + accepted);
        measured.drained_per_s =
            (received.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    }
    drop(server);
    measured.bytes_per_event = used_bytes(dir.path()) as f64 / accepted.max(1) as f64;
    measured
}

fn has_function(rung: &str) -> bool {
    rung.ends_with("+fn") || rung == "functions"
}

fn wait_until_delivered(received: &AtomicU64, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while received.load(Ordering::Relaxed) < count && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn load(address: &str, seconds: u64, connections: u64, bodies: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hookkeeper"))
        .args(["bench", "github", "--json", "--rate", "0", "--url"])
        .arg(format!("http://{address}/hooks/github"))
        .args(["--secret", SECRET, "--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--event", "push"])
        .args(bodies)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).expect("bench prints JSON")
}

/// A server that is killed with its handle: what it stored is measured as it is.
struct Server {
    child: Child,
    address: String,
    admin: String,
}

impl Server {
    fn start(rung: &str, dir: &std::path::Path, function: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--serve", rung, dir.to_str().unwrap(), function])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mut addresses = line.split_whitespace().map(str::to_owned);
        let (address, admin) = (addresses.next().unwrap(), addresses.next().unwrap_or_default());
        Self { child, address, admin }
    }

    fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
    }

    /// CPU time that the server has used, in hundredths of a second.
    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn used_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.blocks() * 512;
    }
    std::fs::read_dir(path).unwrap().map(|entry| used_bytes(&entry.unwrap().path())).sum()
}

fn report(all: &[Vec<Measured>]) {
    let median = |at: usize, value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = all[at].iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let acked = |at| median(at, |m| m.acked_per_s);
    println!(
        "{:<10} {:>9} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8} {:>11} {:>11}",
        "rung",
        "acked/s",
        "p50 ms",
        "p99 ms",
        "÷ verify",
        "÷ plain",
        "B/event",
        "RSS MB",
        "delivered/s",
        "drained/s"
    );
    for (at, rung) in RUNGS.iter().enumerate() {
        let plain = if has_function(rung) { PLAIN_WITH_FUNCTION } else { PLAIN };
        println!(
            "{rung:<10} {:>9.0} {:>8.2} {:>8.2} {:>9.2} {:>9.2} {:>8.0} {:>8.0} {:>11.0} {:>11.0}",
            acked(at),
            median(at, |m| m.p50_ms),
            median(at, |m| m.p99_ms),
            acked(at) / acked(0),
            acked(at) / acked(plain),
            median(at, |m| m.bytes_per_event),
            median(at, |m| m.rss_mb),
            median(at, |m| m.delivered_per_s),
            median(at, |m| m.drained_per_s),
        );
    }
}
