//! Power cuts of the event log alone: a writer in a process of its own, cut at random moments.
//!
//! The writer is this test binary itself, started again with a variable set. It says on stdout what was
//! acknowledged, after it was; all of that must be there after each cut.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookkeeper::event::{Body, EventContent, EventId, Origin, RunId, SignatureStatus, Timestamp};
use hookkeeper::event_log::record::{Attempted, Cause, NewRun, Next, Record, Routed, Start};
use hookkeeper::event_log::{Ingested, Log, NewEvent, Options};

use crate::powercut::{Model, PowerCut, Random};

/// Set in the writer: its folder, and the first number that it may use.
const WRITER_DIR: &str = "HOOKKEEPER_STORE_WRITER_DIR";
const WRITER_FIRST: &str = "HOOKKEEPER_STORE_WRITER_FIRST";
/// How many cycles of each model are run.
const CYCLES: &str = "HOOKKEEPER_CRASH_CYCLES";
/// Writers in one process.
const WRITERS: u64 = 16;
/// Bodies above this size go through the spool.
const SPOOL_FROM: usize = 20_000;

fn cycles() -> usize {
    std::env::var(CYCLES).ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// The body of event `n`: up to 40 KB that hardly compress.
fn body(n: u64) -> Vec<u8> {
    let mut random = Random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let length = if n.is_multiple_of(40) { 20_000 + random.below(20_000) } else { random.below(3_000) };
    let mut body = format!("{n} ").into_bytes();
    body.extend((0..length).map(|_| b' ' + random.below(90) as u8));
    body
}

fn now() -> Timestamp {
    hookkeeper::clock::Clock::system().now()
}

fn event(log: &Log, n: u64) -> NewEvent {
    let bytes = body(n);
    let body = if bytes.len() > SPOOL_FROM {
        let mut spool = log.spool().create().unwrap();
        spool.write(&bytes).unwrap();
        Body::Spooled(spool.finish().unwrap())
    } else {
        Body::Inline(Bytes::from(bytes))
    };
    NewEvent {
        content: EventContent {
            provider: "github".parse().unwrap(),
            trigger_id: "gh".parse().unwrap(),
            kind: "push".to_owned(),
            received_at: now(),
            occurred_at: None,
            dedupe_key: Some(n.to_string()),
            trace_id: format!("{n:032x}"),
            origin: Origin::Live,
            held: false,
            method: "POST".to_owned(),
            url: "/".to_owned(),
            headers: Vec::new(),
            body,
            batch: None,
            schema: "GitHubEventPayload".to_owned(),
            signature_status: SignatureStatus::Verified { covers_body: true },
        },
        window: Duration::from_secs(3600),
    }
}

/// The writer. Does nothing in a normal test run.
#[test]
fn store_writer_when_started_again() {
    let (Ok(dir), Ok(first)) = (std::env::var(WRITER_DIR), std::env::var(WRITER_FIRST)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(write_until_killed(Path::new(&dir), first.parse().unwrap()));
}

async fn write_until_killed(dir: &Path, first: u64) {
    // Few claims in memory, so that files of them are written and merged while the power is cut.
    let options = Options { disk_reserve_bytes: 0, claims_in_memory: 20, ..Options::new(dir) };
    let log = Log::open(options).unwrap();
    let next = Arc::new(AtomicU64::new(first));
    let writers = (0..WRITERS).map(|_| {
        let (log, next) = (log.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let deadline = Instant::now() + Duration::from_secs(30);
                let event = event(&log, n);
                let ingested = log.ingest(vec![event], deadline).await.unwrap()[0];
                // One write of one line, which a kill does not split.
                let line = format!("ack {n} {}\n", ingested.id());
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let router = tokio::spawn(route(log.clone()));
    futures_util::future::join_all(writers).await;
    router.await.unwrap();
}

/// A small router and dispatcher: every event gets a run, every run one attempt.
async fn route(log: Log) {
    let mut tail = log.tail();
    let function = "deploy".parse().unwrap();
    loop {
        let from = log.state().routed_through();
        let until = *tail.borrow_and_update();
        let mut through = from;
        let mut runs = Vec::new();
        for seq in from.frame().max(1)..=until {
            let frame = log.frame(seq).unwrap().unwrap();
            for index in 0..frame.len() {
                if frame.position(index) <= from {
                    continue;
                }
                through = frame.position(index);
                let Some(event) = frame.event_id(index) else { continue };
                runs.push(NewRun {
                    id: RunId { event, function: Clone::clone(&function), generation: 1 },
                    trigger_id: "gh".parse().unwrap(),
                    kind: "push".to_owned(),
                    cause: Cause::Live,
                    start: Start::Due(now()),
                });
            }
        }
        if runs.is_empty() {
            tail.changed().await.unwrap();
            continue;
        }
        let functions = vec![Clone::clone(&function)];
        let routed = Routed { from, through, at: now(), functions, runs, skipped: Vec::new() };
        log.append_durable(vec![Record::Routed(routed)]).await.unwrap();
        let due = log.state().take_due(&function, now().as_millisecond() + 1, 10_000).unwrap();
        let attempted = due.runs.into_iter().map(|due| {
            Record::Attempted(Attempted {
                run: due.id,
                attempt: due.attempt,
                started_at: now(),
                duration_us: 1,
                status: Some(200),
                note: String::new(),
                answer: Bytes::new(),
                next: Next::Succeeded,
            })
        });
        log.append(attempted.collect()).await.unwrap();
    }
}

/// A writer, and what it has acknowledged.
struct Writer {
    child: Child,
    acks: std::thread::JoinHandle<Vec<(u64, EventId)>>,
    first_ack: std::sync::mpsc::Receiver<()>,
}

impl Writer {
    fn start(cut: &PowerCut, dir: &Path, first: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["store::store_writer_when_started_again", "--exact", "--nocapture", "--test-threads=1"])
            .env(WRITER_DIR, dir)
            .env(WRITER_FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        cut.watch(&mut command);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (first_ack_sender, first_ack) = std::sync::mpsc::sync_channel(1);
        let acks = std::thread::spawn(move || {
            let mut acks = Vec::new();
            for line in stdout.lines().map_while(Result::ok) {
                let Some((n, id)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' ')) else {
                    continue;
                };
                acks.push((n.parse().unwrap(), id.parse().unwrap()));
                let _ = first_ack_sender.try_send(());
            }
            acks
        });
        Self { child, acks, first_ack }
    }

    fn kill(mut self) -> Vec<(u64, EventId)> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.acks.join().unwrap()
    }
}

/// Everything acknowledged is there, once and as it was; nothing derived disagrees with the log.
fn verify(dir: &Path, acked: &BTreeMap<u64, EventId>, recent: &[(u64, EventId)]) {
    let log = Log::open(Options { disk_reserve_bytes: 0, ..Options::new(dir) }).unwrap();
    for (n, id) in recent {
        let found = log.event(*id).unwrap().unwrap_or_else(|| panic!("acknowledged event {n} {id} is lost"));
        assert!(log.body(&found).unwrap() == body(*n), "the body of event {n} {id} is another");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (n, id) in recent.iter().rev().take(20) {
            let deadline = Instant::now() + Duration::from_secs(30);
            let again = log.ingest(vec![event(&log, *n)], deadline).await.unwrap();
            assert_eq!(again, [Ingested::Duplicate(*id)], "event {n} is stored once");
        }
        log.close(Instant::now() + Duration::from_secs(30)).await;
    });
    drop(log);
    let report = Log::check(dir).unwrap();
    assert_eq!(report.listed, Vec::<String>::new());
    assert!(report.events >= acked.len() as u64);
    let log = Log::open_reader(dir).unwrap();
    let folded = log.state().counts();
    assert_eq!(log.rebuild().unwrap(), folded, "the fold that survived is the fold of the log");
}

fn check(name: &str, model: impl Fn(u64) -> Model) {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("data");
    let Some(cut) = PowerCut::prepare(work.path(), &dir) else { return };
    let seed = std::env::var("HOOKKEEPER_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| now().as_microsecond() as u64);
    eprintln!("{name}: HOOKKEEPER_CRASH_SEED={seed}");
    let mut random = Random(seed | 1);
    let mut acked = BTreeMap::new();
    let mut lost = 0;
    for cycle in 0..cycles() {
        let first = cycle as u64 * 1_000_000;
        let writer = Writer::start(&cut, &dir, first);
        // Every fourth cut falls anywhere from the start on, the others among acknowledgements.
        if cycle % 4 != 0 {
            let _ = writer.first_ack.recv_timeout(Duration::from_secs(30));
        }
        std::thread::sleep(Duration::from_millis(random.below(250) as u64));
        let recent = writer.kill();
        let loss = cut.cut(model(random.below(usize::MAX) as u64));
        eprintln!("{name}: cycle {cycle}, {} acknowledged, {loss:?}", recent.len());
        lost += loss.lost;
        acked.extend(recent.iter().copied());
        verify(&dir, &acked, &recent);
    }
    let all: Vec<_> = acked.iter().map(|(n, id)| (*n, *id)).collect();
    verify(&dir, &acked, &all);
    eprintln!("{name}: {} cycles, {} events acknowledged, {lost} operations lost", cycles(), acked.len());
    assert!(acked.len() > cycles(), "the writers got somewhere");
}

#[test]
fn acknowledged_events_survive_power_cuts_that_lose_all_unsynced() {
    check("strict", |_| Model::Strict);
}

#[test]
fn acknowledged_events_survive_power_cuts_that_lose_and_tear_some() {
    check("random", Model::Random);
}
