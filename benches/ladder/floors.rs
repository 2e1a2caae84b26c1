//! What is measured beside the ladder: a lone request, the idle server, and a store of many events.
//!
//! ```text
//! cargo bench --bench ladder -- --floors                   1,000,000 events of generated bodies
//! cargo bench --bench ladder -- --floors --events 200000 --examples node_modules/…/index.json
//! ```
//!
//! `--examples` names a file like that of the package `@octokit/webhooks-examples`: `[{"examples": [body, …]}, …]`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hookkeeper::event_log::{EventScan, Log};

use crate::{Server, load, used_bytes, wait_until_delivered};

/// What one request writes, about.
const BODY_BYTES: usize = 7 * 1024;
const FLUSHES: usize = 2_000;
const IDLE: Duration = Duration::from_secs(5);
const LOAD_SECONDS: u64 = 5;

/// Measures everything and prints it.
pub(crate) fn measure(function: &str, received: &AtomicU64, events: u64, examples: Option<&String>) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(target).unwrap();
    idle(dir.path(), function);
    lone(dir.path(), function);
    let bodies = examples.map(|path| write_examples(path));
    let bodies = bodies.as_ref().map(|dir| dir.path().to_str().unwrap());
    many(target, function, received, events, bodies);
}

/// The server on an empty store: time to its first answer, and what it takes while nothing happens.
fn idle(dir: &Path, function: &str) {
    let mut first_answer_ms: Vec<f64> = (0..5)
        .map(|round| {
            let begun = Instant::now();
            let server = Server::start("functions", &dir.join(format!("idle-{round}")), function);
            ask(&server.address);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let server = Server::start("functions", &dir.join("idle"), function);
    ask(&server.address);
    let before = server.cpu_ticks();
    std::thread::sleep(IDLE);
    let (ticks, rss) = (server.cpu_ticks() - before, server.resident_mb());
    println!("start to first answer, empty store   {:>8.1} ms", median(&mut first_answer_ms));
    println!("idle: resident                       {rss:>8.1} MB");
    println!("idle: CPU in {} s                     {:>8} ms", IDLE.as_secs(), ticks * 10);
}

/// Asks for anything and waits for the answer.
fn ask(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /hooks/github HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 512]).unwrap() > 0);
}

/// One request at a time, against one device flush of as many bytes.
fn lone(dir: &Path, function: &str) {
    let mut flushes = flushes_us(dir);
    let server = Server::start("functions", &dir.join("lone"), function);
    let load = load(&server.address, LOAD_SECONDS, 1, &["--body-size", "7KB"]);
    let alone = Server::start("sled", &dir.join("alone"), function);
    let load_alone = crate::load(&alone.address, LOAD_SECONDS, 1, &["--body-size", "7KB"]);
    flushes.extend(flushes_us(dir));
    let flush = median(&mut flushes);
    println!("append and fdatasync of 7 KB, p50     {flush:>8.0} µs");
    for (what, load) in [("with a function", &load), ("without", &load_alone)] {
        let p50 = load["latency_us"]["p50"].as_f64().unwrap();
        println!("lone request {what:<16} p50     {p50:>8.0} µs  {:.2} flushes", p50 / flush);
    }
}

fn flushes_us(dir: &Path) -> Vec<f64> {
    let mut file = File::create(dir.join("flushes")).unwrap();
    let one = |_| {
        let begun = Instant::now();
        file.write_all(&[7; BODY_BYTES]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64() * 1e6
    };
    (0..FLUSHES).map(one).collect()
}

/// Fills a store, with a function behind, and looks at it: memory, disk, a scan of everything.
fn many(target: &Path, function: &str, received: &AtomicU64, events: u64, bodies: Option<&str>) {
    let dir = tempfile::tempdir_in(target).unwrap();
    let server = Server::start("functions", dir.path(), function);
    let before = received.load(Ordering::Relaxed);
    let bodies =
        bodies.map_or(vec!["--body-size", "7KB", "--bodies", "4096"], |dir| vec!["--bodies-from", dir]);
    let mut accepted = 0;
    while accepted < events {
        accepted += load(&server.address, LOAD_SECONDS, 128, &bodies)["accepted"].as_u64().unwrap();
    }
    println!("events stored                        {accepted:>8}");
    println!("resident after them                  {:>8.0} MB", server.resident_mb());
    wait_until_delivered(received, before + accepted);
    println!("resident when all are delivered      {:>8.0} MB", server.resident_mb());
    let replay = Command::new(env!("CARGO_BIN_EXE_hookkeeper"))
        .args(["replay", "--all", "--dry-run", "--json", "--admin", &format!("http://{}", server.admin)])
        .output()
        .unwrap();
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    println!("resident after a full scan           {:>8.0} MB", server.resident_mb());
    drop(server);
    let bytes = used_bytes(dir.path()) as f64;
    println!("on disk per event                    {:>8.0} B", bytes / accepted as f64);
    let scan = Command::new(std::env::current_exe().unwrap()).arg("--scan").arg(dir.path()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&scan.stdout));
}

/// Reads every raw body of a stopped server's store, in a process of its own.
pub(crate) fn scan(dir: &str) {
    let begun = Instant::now();
    let log = Log::open_reader(&Path::new(dir).join("data")).unwrap();
    println!("opening after a kill                 {:>8.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    for round in ["first", "second"] {
        let begun = Instant::now();
        let (mut cursor, mut events, mut bytes) = (None, 0, 0);
        loop {
            let scan = EventScan { limit: 4096, scan_max: usize::MAX };
            let page = log.events_after(cursor, scan, |_| true).unwrap();
            for event in &page.items {
                events += 1;
                bytes += log.body(event).unwrap().len();
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let megabytes = bytes as f64 / 1e6;
        let per_second = megabytes / begun.elapsed().as_secs_f64();
        println!(
            "scan of raw bodies, {round:<6}           {per_second:>8.0} MB/s  {events} events, {megabytes:.0} MB"
        );
    }
}

/// Writes each example body to a file of its own.
fn write_examples(path: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let kinds: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let bodies = kinds.iter().flat_map(|kind| kind["examples"].as_array().into_iter().flatten());
    let mut total = 0;
    for (number, body) in bodies.enumerate() {
        let body = serde_json::to_vec(body).unwrap();
        total += body.len();
        // Examples of one kind look alike and stand together: a sender's events come mixed.
        let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        std::fs::write(dir.path().join(format!("{mixed:016x}")), body).unwrap();
    }
    println!(
        "mean of the example bodies           {:>8} B",
        total / std::fs::read_dir(dir.path()).unwrap().count()
    );
    dir
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
