//! Every stored form that was ever released stays readable: expected files in `tests/data`.
//!
//! `HOOKKEEPER_BLESS=1 cargo test --lib event_log::format_tests` writes them anew. That is for a form that
//! was never released; a released one keeps its file, and a new form gets one of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::codec::{DecodeError, EventHead, decode_record, encode_record, event_head};
use super::frame::{Compressor, FrameBuilder};
use super::record::{
    Attempted, Audit, Cause, Controlled, Created, Cron, CronChange, Duplicate, Missed, NewRun, Next, Permits,
    Polled, Routed, RunAction, Sealed, SecretChange, SecretNews, SecretTimes, Skip, SkipReason, Start,
    Switch, Switched,
};
use super::*;
use crate::event::{
    Batch, Body, CRON_TICK, CoolDown, EventState, Fingerprint, Origin, PermitsChange, QuotaLeft,
    RejectReason, RunId, RunState, SignatureStatus, SpooledBody, TaughtPace, Timestamp,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn bless() -> bool {
    std::env::var_os("HOOKKEEPER_BLESS").is_some()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_microsecond(1_800_000_000_123_456 + seconds * 1_000_000).unwrap()
}

fn event_id() -> EventId {
    EventId::new(1_800_000_000_123, Position::new(7, 3), 0x00ab_cdef)
}

fn run_id() -> RunId {
    RunId { event: event_id(), function: "deploy-eu".parse().unwrap(), generation: 2 }
}

fn event(body: Body, signature_status: SignatureStatus) -> Record {
    Record::Event(StoredEvent {
        id: event_id(),
        content: EventContent {
            provider: "github".parse().unwrap(),
            trigger_id: "gh".parse().unwrap(),
            kind: "pull_request.opened".to_owned(),
            received_at: at(0),
            occurred_at: Some(at(-5)),
            dedupe_key: Some("72d3162e-cc78-11e3-81ab-4c9367dc0958".to_owned()),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            origin: Origin::Live,
            held: true,
            method: "POST".to_owned(),
            url: "/hooks/gh?a=%20".to_owned(),
            headers: vec![("x-bytes".to_owned(), Bytes::from_static(b"\xff\x00z"))],
            body,
            batch: None,
            schema: "GitHubEventPayload".to_owned(),
            signature_status,
        },
    })
}

fn new_run(cause: Cause, start: Start) -> NewRun {
    NewRun { id: run_id(), trigger_id: "gh".parse().unwrap(), kind: "push".to_owned(), cause, start }
}

fn attempted(next: Next) -> Record {
    Record::Attempted(Attempted {
        run: run_id(),
        attempt: 3,
        started_at: at(1),
        duration_us: 1_234_567,
        status: Some(-1),
        note: "connection refused".to_owned(),
        answer: Bytes::from_static(b"\x00answer"),
        next,
    })
}

fn switched(switch: Switch) -> Record {
    Record::Switched(Switched { at: at(2), switch })
}

/// At least one record of every kind and variant.
fn records() -> Vec<Record> {
    let spooled = SpooledBody { name: "00000001-ab.body".to_owned(), bytes: 1 << 33, sha256: [9; 32] };
    let verified = SignatureStatus::Verified { covers_body: true };
    let failed = SignatureStatus::Failed { reason: RejectReason::TimestampOutOfWindow };
    let skip = |function, reason| Skip { event: Position::new(7, 3), function, reason };
    let controlled = |action| Record::Controlled(Controlled { run: run_id(), at: at(3), action });
    let audit = |peer: Option<&str>| {
        Record::Audit(Audit {
            topic: "audit.signature_verify".to_owned(),
            at: at(4),
            trigger_id: peer.map(|_| "gh".parse().unwrap()),
            peer: peer.map(|peer| peer.parse().unwrap()),
            code: "invalid_signature".to_owned(),
            detail: "no secret fits".to_owned(),
            count: 12,
        })
    };
    let function = || "deploy-eu".parse().unwrap();
    vec![
        event(Body::Inline(Bytes::from_static(b"{\"a\":1}\n\x00")), verified),
        event(Body::Spooled(spooled), failed),
        event(Body::Inline(Bytes::new()), SignatureStatus::Unsigned),
        Record::Duplicate(Duplicate { first: event_id(), received_at: at(9) }),
        Record::Routed(Routed {
            from: Position::ZERO,
            through: Position::new(7, 3),
            at: at(1),
            functions: vec![function(), "other".parse().unwrap()],
            runs: vec![
                new_run(Cause::Live, Start::Due(at(1))),
                new_run(Cause::Live, Start::Skipped(SkipReason::When)),
                new_run(Cause::Live, Start::Skipped(SkipReason::WhenError)),
                new_run(Cause::Live, Start::Skipped(SkipReason::WhenCost)),
            ],
            skipped: vec![skip(1, SkipReason::On), skip(1, SkipReason::Events)],
        }),
        Record::Created(Created {
            at: at(1),
            runs: vec![
                new_run(Cause::Redelivery, Start::Held),
                new_run(Cause::Replay { replay_of: None }, Start::Held),
                new_run(Cause::Replay { replay_of: Some(run_id()) }, Start::Due(at(2))),
            ],
        }),
        attempted(Next::Succeeded),
        attempted(Next::RetryAt(at(300))),
        attempted(Next::Dead("attempts_exhausted".to_owned())),
        controlled(RunAction::Cancel),
        controlled(RunAction::Retry),
        controlled(RunAction::Purge),
        switched(Switch::TriggerPaused("gh".parse().unwrap(), true)),
        switched(Switch::TriggerArmed("gh".parse().unwrap(), Some(at(600)))),
        switched(Switch::FunctionPaused(function(), false)),
        switched(Switch::Breaker { function: function(), open_until: None, opened: 4 }),
        Record::Sealed(Sealed {
            name: "notion/signing_secret".to_owned(),
            at: at(5),
            sealed: Bytes::from_static(b"\x01sealed"),
        }),
        audit(Some("192.0.2.1")),
        audit(Some("2001:db8::1")),
        audit(None),
    ]
}

/// Records of schedules, which came after the first ones.
fn records_of_schedules() -> Vec<Record> {
    let cron = |change| Record::Cron(Cron { at: at(6), trigger_id: "nightly".parse().unwrap(), change });
    let missed =
        |given_up_through| Missed { first: at(1), last: at(9), count: 9, made_up: 2, given_up_through };
    let Record::Event(event) = event(Body::Inline(Bytes::from_static(b"{}")), SignatureStatus::Unsigned)
    else {
        unreachable!()
    };
    let method = String::new();
    let content = EventContent { kind: CRON_TICK.to_owned(), method, ..event.content };
    vec![
        Record::Event(StoredEvent { content, ..event }),
        cron(CronChange::Began { schedule: "0 3 * * * Europe/Zurich".to_owned() }),
        cron(CronChange::Missed(missed(Some(at(7))))),
        cron(CronChange::Missed(missed(None))),
    ]
}

/// Events that are parts of their delivery.
fn records_of_batches() -> Vec<Record> {
    let part = |index, body: &'static [u8], tail: &'static [u8]| {
        let verified = SignatureStatus::Verified { covers_body: true };
        let Record::Event(event) = event(Body::Inline(Bytes::from_static(body)), verified) else {
            unreachable!()
        };
        let lead = Bytes::from_static(if index == 0 { b"[" } else { b",\n " });
        let batch = Batch { index, count: 300, lead, tail: Bytes::from_static(tail) };
        let content = EventContent { batch: Some(Box::new(batch)), ..event.content };
        Record::Event(StoredEvent { content, ..event })
    };
    vec![part(0, b"{\"a\":1}", b""), part(299, b"\xff", b" ]\n")]
}

/// Every origin and every outcome of verification that an event may have.
fn records_of_events() -> Vec<Record> {
    let failed = |reason| SignatureStatus::Failed { reason };
    let with = |origin, signature_status| {
        let Record::Event(event) = event(Body::Inline(Bytes::new()), signature_status) else {
            unreachable!()
        };
        let content = EventContent { origin, held: false, dedupe_key: None, ..event.content };
        Record::Event(StoredEvent { content, ..event })
    };
    vec![
        with(Origin::Backfill, SignatureStatus::Verified { covers_body: false }),
        with(Origin::Quarantine, failed(RejectReason::MissingHeader)),
        with(Origin::Live, failed(RejectReason::InvalidHeader)),
        with(Origin::Live, failed(RejectReason::InvalidSignature)),
    ]
}

/// Records of rate limits.
fn records_of_permits() -> Vec<Record> {
    let permits =
        |change| Record::Permits(Permits { at: at(7), provider: "github".parse().unwrap(), change });
    let quota = QuotaLeft { name: 0xfeed_beef, limit: 5_000, remaining: 12, until: at(900) };
    let cool_down = CoolDown {
        scope: "installation-4711".to_owned(),
        full_at: at(8),
        blocked_until: at(60),
        quotas: vec![quota, QuotaLeft { name: 1, limit: 0, remaining: 0, until: at(10) }],
        pace: Some(TaughtPace { interval_ns: 720_000_001, burst: 10, until: at(86_400) }),
    };
    let bare = CoolDown { scope: String::new(), quotas: Vec::new(), pace: None, ..cool_down.clone() };
    vec![
        permits(PermitsChange::Opened),
        permits(PermitsChange::Learned(vec![cool_down.clone(), bare])),
        permits(PermitsChange::Closed(vec![cool_down])),
    ]
}

/// Records of what became of secrets.
fn records_of_secrets() -> Vec<Record> {
    let news = |change| Record::Secret(SecretNews { at: at(7), change });
    let times = |index, success: Option<i64>| SecretTimes {
        name: "signing_secret".to_owned(),
        fingerprint: Fingerprint::from_bytes([1, 2, 3, 4, 5, 6, 7, 0xff]),
        reference: "store:gh/secret".to_owned(),
        index,
        added_at: at(-100),
        first_success: success.map(at),
        last_success: success.map(|second| at(second + 60)),
    };
    let (trigger_id, name) = ("gh".parse().unwrap(), "gh/secret".to_owned());
    vec![
        news(SecretChange::Seen { trigger_id, secrets: vec![times(0, None), times(1, Some(-50))] }),
        news(SecretChange::Rotated { name: name.clone(), keep_until: at(86_400) }),
        news(SecretChange::Retired { name }),
    ]
}

/// Records of poll triggers.
fn records_of_polls() -> Vec<Record> {
    let polled = |cursor: &str| {
        Record::Polled(Polled { at: at(6), trigger_id: "issues".parse().unwrap(), cursor: cursor.to_owned() })
    };
    vec![polled("2027-01-15T08:00:00Z|41"), polled("")]
}

/// The expected files, and what they say.
fn expected_files() -> [(&'static str, Vec<Record>); 7] {
    [
        ("records-1.hex", records()),
        ("records-of-schedules-1.hex", records_of_schedules()),
        ("records-of-batches-1.hex", records_of_batches()),
        ("records-of-events-1.hex", records_of_events()),
        ("records-of-permits-1.hex", records_of_permits()),
        ("records-of-secrets-1.hex", records_of_secrets()),
        ("records-of-polls-1.hex", records_of_polls()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn records_of_version_1_are_read_and_written_as_expected() {
    for (file, records) in expected_files() {
        check_records(file, records);
    }
}

#[test]
fn every_tag_that_is_read_stands_in_an_expected_file() {
    let lines = expected_files().map(|(file, _)| fs::read_to_string(data(file)).unwrap()).concat();
    let expected: BTreeSet<u8> = lines.lines().map(|line| unhex(line)[0]).collect();
    let version = unhex(lines.lines().next().unwrap())[1];
    let is_read = |tag: &u8| decode_record(&[*tag, version]) != Err(DecodeError::UnknownTag(*tag));
    assert_eq!((0..=u8::MAX).filter(is_read).collect::<BTreeSet<_>>(), expected);
}

fn check_records(file: &str, records: Vec<Record>) {
    let path = data(file);
    if bless() {
        let lines: Vec<_> = records.iter().map(|record| hex(&encode_record(record)) + "\n").collect();
        fs::write(&path, lines.concat()).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(expected.lines().count(), records.len());
    for (line, record) in expected.lines().zip(records) {
        assert_eq!(decode_record(&unhex(line)).unwrap(), record);
        assert_eq!(hex(&encode_record(&record)), line, "{record:?}");
    }
}

#[test]
fn frame_of_version_1_is_read_as_expected() {
    let path = data("frame-1.hex");
    if bless() {
        let mut builder = FrameBuilder::default();
        for record in records() {
            builder.push(&encode_record(&record));
        }
        let stored = builder.finish(0, 7, 1_800_000_000_123, &mut Compressor::new()).0;
        fs::write(&path, hex(&stored) + "\n").unwrap();
    }
    let stored = unhex(fs::read_to_string(&path).unwrap().trim());
    let frame = decode_frame(0, 7, &stored).unwrap();
    let read: Vec<_> = frame.records().map(|(_, record)| record.unwrap()).collect();
    assert_eq!(read, records());
    assert_eq!(frame.time_ms(), 1_800_000_000_123);
}

#[test]
fn damaged_records_are_refused_or_read_as_another_without_panic() {
    for record in expected_files().into_iter().flat_map(|(_, records)| records) {
        let bytes = encode_record(&record);
        for length in 0..bytes.len() {
            let _ = decode_record(&bytes[..length]);
            let _ = event_head(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let head = event_head(&bytes);
                if let Ok(record) = decode_record(&bytes) {
                    if let Record::Event(event) = &record {
                        let StoredEvent { id, content } = event;
                        let (trigger_id, kind) = (content.trigger_id.clone(), content.kind.as_str());
                        assert_eq!(head, Ok(EventHead { id: *id, trigger_id, kind, held: content.held }));
                    }
                    assert_eq!(decode_record(&encode_record(&record)).as_ref(), Ok(&record));
                }
            }
        }
    }
}

/// All files below a folder, as one compressed file: names and contents.
fn pack(dir: &Path) -> Vec<u8> {
    fn add(base: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(base, &path, files);
            } else {
                let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    add(dir, dir, &mut files);
    files.sort();
    zstd::encode_all(postcard::to_stdvec(&files).unwrap().as_slice(), 19).unwrap()
}

fn unpack(packed: &[u8], dir: &Path) {
    let files: Vec<(String, Vec<u8>)> = postcard::from_bytes(&zstd::decode_all(packed).unwrap()).unwrap();
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn new_event(n: u32, body: Body) -> NewEvent {
    let Record::Event(event) = event(body, SignatureStatus::Unsigned) else { unreachable!() };
    let content = EventContent { dedupe_key: Some(n.to_string()), ..event.content };
    NewEvent { content, window: Duration::from_secs(3600) }
}

/// The store of the expected file: 100 events, the last one spooled, each with a run: due, dead or done.
async fn write_store(dir: &Path) {
    let log = Log::open(Options { clock: Clock::fixed(at(0)), ..Options::new(dir) }).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut spool = log.spool().create().unwrap();
    spool.write(b"a large body").unwrap();
    let spooled = Body::Spooled(spool.finish().unwrap());
    let inline = |n: u32| Body::Inline(format!("body {n}").into());
    let events = (0..100).map(|n| new_event(n, if n == 99 { spooled.clone() } else { inline(n) })).collect();
    let ids: Vec<_> = log.ingest(events, deadline).await.unwrap().into_iter().map(Ingested::id).collect();
    log.ingest(vec![new_event(0, inline(0))], deadline).await.unwrap();
    let run = |id: &EventId| RunId { event: *id, function: "deploy".parse().unwrap(), generation: 1 };
    let new_run = |id| NewRun { id: run(id), ..new_run(Cause::Live, Start::Due(at(10))) };
    log.append_durable(vec![Record::Routed(Routed {
        from: Position::ZERO,
        through: ids[99].position(),
        at: at(1),
        functions: vec!["deploy".parse().unwrap()],
        runs: ids.iter().map(new_run).collect(),
        skipped: Vec::new(),
    })])
    .await
    .unwrap();
    let ended = ids[..50].iter().enumerate().map(|(i, id)| {
        let next = if i % 10 == 0 { Next::Dead("final".to_owned()) } else { Next::Succeeded };
        let Record::Attempted(it) = attempted(next) else { unreachable!() };
        Record::Attempted(Attempted { run: run(id), attempt: 1, ..it })
    });
    log.append_durable(ended.collect()).await.unwrap();
    log.append_durable(vec![switched(Switch::FunctionPaused("deploy".parse().unwrap(), true))])
        .await
        .unwrap();
    log.close(deadline).await;
}

#[tokio::test]
async fn store_of_format_1_opens_with_all_that_was_in_it() {
    let path = data("store-1.zst");
    if bless() {
        let dir = tempfile::tempdir().unwrap();
        write_store(dir.path()).await;
        fs::write(&path, pack(dir.path())).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    unpack(&fs::read(&path).unwrap(), dir.path());
    let report = Log::check(dir.path()).unwrap();
    assert_eq!(report.listed, Vec::<String>::new());
    assert_eq!((report.events, report.duplicates, report.bodies, report.claims), (100, 1, 1, 100));
    let log = Log::open(Options { clock: Clock::fixed(at(20)), ..Options::new(dir.path()) }).unwrap();
    let scan = EventScan { limit: 1000, scan_max: 1000 };
    let events = log.events_after(None, scan, |_| true).unwrap().items;
    assert_eq!(log.body(&events[3]).unwrap(), "body 3");
    assert_eq!(log.body(&events[99]).unwrap(), "a large body");
    let states = [0, 1, 50].map(|n| log.state().event_state(events[n].id).unwrap());
    assert_eq!(states, [EventState::Dead, EventState::Done, EventState::Open]);
    let counts = log.state().counts();
    let runs = [RunState::Dead, RunState::Succeeded, RunState::Pending].map(|state| counts.in_state(state));
    assert_eq!(runs, [5, 45, 50]);
    assert!(log.state().function(&"deploy".parse().unwrap()).paused);
    let again = new_event(42, Body::Inline(Bytes::from_static(b"body 42")));
    let deadline = Instant::now() + Duration::from_secs(60);
    assert_eq!(log.ingest(vec![again], deadline).await.unwrap(), [Ingested::Duplicate(events[42].id)]);
    assert_eq!(log.rebuild().unwrap().runs, counts.runs);
}
