//! The log against a model, with restarts and clock steps among the operations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::record::{Attempted, Cause, Controlled, NewRun, Next, Routed, RunAction, Start, Switch, Switched};
use super::*;
use crate::event::{Body, FunctionId, Origin, RunId, SignatureStatus, Timestamp};

const WINDOW: Duration = Duration::from_secs(100);

#[derive(Debug, Clone)]
enum Op {
    /// Events with these dedupe keys, in one delivery.
    Ingest(Vec<u8>),
    /// The same, several deliveries at once.
    IngestTogether(Vec<u8>),
    /// Route everything that is not routed.
    Route,
    /// An attempt of the run of one of the events.
    Attempt(usize, u8),
    Control(usize, RunAction),
    Pause(bool),
    /// The clock moves by so many seconds, back too.
    Clock(i64),
    Reboot,
    /// Reboot on a device that lost the last frames. Only for a log in memory.
    Lose(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let keys = || proptest::collection::vec(0_u8..12, 1..4);
    prop_oneof![
        5 => keys().prop_map(Op::Ingest),
        3 => keys().prop_map(Op::IngestTogether),
        3 => Just(Op::Route),
        4 => (any::<usize>(), 0_u8..3).prop_map(|(run, next)| Op::Attempt(run, next)),
        2 => (any::<usize>(), prop_oneof![
            Just(RunAction::Cancel), Just(RunAction::Retry), Just(RunAction::Purge)
        ]).prop_map(|(run, action)| Op::Control(run, action)),
        1 => any::<bool>().prop_map(Op::Pause),
        2 => (-150_i64..150).prop_map(Op::Clock),
        1 => Just(Op::Reboot),
        1 => (0_u64..4).prop_map(Op::Lose),
    ]
}

struct Bed {
    dir: tempfile::TempDir,
    memory: Option<MemoryLog>,
    clock: Clock,
    now_s: i64,
    log: Option<Log>,
    /// What was acknowledged: id and key.
    events: Vec<(EventId, u8)>,
    runtime: tokio::runtime::Runtime,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn function() -> FunctionId {
    "f".parse().unwrap()
}

fn event(key: u8) -> NewEvent {
    NewEvent {
        content: EventContent {
            provider: "github".parse().unwrap(),
            trigger_id: "gh".parse().unwrap(),
            kind: "push".to_owned(),
            received_at: at(0),
            occurred_at: None,
            dedupe_key: Some(key.to_string()),
            trace_id: String::new(),
            origin: Origin::Live,
            held: false,
            method: "POST".to_owned(),
            url: "/".to_owned(),
            headers: Vec::new(),
            body: Body::Inline(Bytes::from(vec![key])),
            batch: None,
            schema: String::new(),
            signature_status: SignatureStatus::Unsigned,
        },
        window: WINDOW,
    }
}

impl Bed {
    fn new(memory: Option<MemoryLog>) -> Self {
        let mut bed = Self {
            dir: tempfile::tempdir().unwrap(),
            memory,
            clock: Clock::fixed(at(0)),
            now_s: 0,
            log: None,
            events: Vec::new(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        };
        bed.open();
        bed
    }

    fn open(&mut self) {
        self.log = None;
        let store = self.memory.clone().map(|store| Arc::new(store) as Arc<dyn EventLog>);
        let clock = self.clock.clone();
        let options = Options { clock, store, disk_reserve_bytes: 0, ..Options::new(self.dir.path()) };
        self.log = Some(Log::open(options).unwrap());
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn append(&self, record: Record) {
        self.runtime.block_on(self.log().append_durable(vec![record])).unwrap();
    }

    fn ingest(&mut self, deliveries: Vec<Vec<u8>>) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let log = self.log().clone();
        let one = |keys: &Vec<u8>| log.ingest(keys.iter().map(|key| event(*key)).collect(), deadline);
        let all = self.runtime.block_on(futures_util::future::join_all(deliveries.iter().map(one)));
        let keys = deliveries.iter().flatten();
        let mut answers: Vec<_> = all.into_iter().flat_map(Result::unwrap).zip(keys).collect();
        // Deliveries at once are committed in some order; their ids tell which.
        answers.sort_by_key(|(ingested, _)| (ingested.id(), matches!(ingested, Ingested::Duplicate(_))));
        for (ingested, key) in answers {
            let holder = self.events.iter().rev().find(|(_, held)| held == key).map(|(id, _)| *id);
            match ingested {
                Ingested::Duplicate(first) => {
                    assert_eq!(Some(first), holder, "the latest event holds the claim")
                }
                Ingested::Stored(id) => {
                    if let Some(holder) = holder {
                        let age_ms = id.time_ms() - holder.time_ms();
                        assert!(
                            age_ms >= WINDOW.as_millis() as u64,
                            "within its window a key is stored once"
                        );
                    }
                    assert!(self.events.last().is_none_or(|(last, _)| *last < id), "ids grow");
                    assert!(id.time_ms() as i64 >= at(self.now_s).as_millisecond());
                    self.events.push((id, *key));
                }
            }
        }
    }

    fn route(&self) {
        let state = self.log().state();
        let from = state.routed_through();
        let open = self.events.iter().filter(|(id, _)| id.position() > from);
        let runs: Vec<_> = open.map(|(id, _)| self.new_run(*id)).collect();
        let Some(last) = runs.last() else { return };
        let through = last.id.event.position();
        let functions = vec![function()];
        self.append(Record::Routed(Routed {
            from,
            through,
            at: at(self.now_s),
            functions,
            runs,
            skipped: vec![],
        }));
    }

    fn new_run(&self, event: EventId) -> NewRun {
        let start = match event.bits() % 3 {
            0 => Start::Held,
            _ => Start::Due(at(self.now_s)),
        };
        let (trigger_id, kind) = ("gh".parse().unwrap(), "push".to_owned());
        NewRun { id: self.run_id(event), trigger_id, kind, cause: Cause::Live, start }
    }

    fn run_id(&self, event: EventId) -> RunId {
        RunId { event, function: function(), generation: 1 }
    }

    fn run_of(&self, event: usize) -> Option<RunId> {
        let (id, _) = self.events.get(event.checked_rem(self.events.len())?)?;
        Some(self.run_id(*id))
    }

    fn attempt(&self, event: usize, next: u8) {
        let due = self.log().state().take_due(&function(), at(self.now_s + 500).as_millisecond(), 2).unwrap();
        let Some(run) = due.runs.first().map(|due| due.id.clone()).or_else(|| self.run_of(event)) else {
            return;
        };
        for other in due.runs.iter().skip(1) {
            self.log().state().release(&other.id).unwrap();
        }
        let next = match next {
            0 => Next::Succeeded,
            1 => Next::RetryAt(at(self.now_s + 10)),
            _ => Next::Dead("final".to_owned()),
        };
        self.append(Record::Attempted(Attempted {
            run,
            attempt: due.runs.first().map_or(1, |due| due.attempt),
            started_at: at(self.now_s),
            duration_us: 1,
            status: None,
            note: String::new(),
            answer: Bytes::new(),
            next,
        }));
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Ingest(keys) => self.ingest(vec![keys]),
            Op::IngestTogether(keys) => self.ingest(keys.into_iter().map(|key| vec![key]).collect()),
            Op::Route => self.route(),
            Op::Attempt(event, next) => self.attempt(event, next),
            Op::Control(event, action) => {
                let Some(run) = self.run_of(event) else { return };
                self.append(Record::Controlled(Controlled { run, at: at(self.now_s), action }));
            }
            Op::Pause(paused) => {
                let switch = Switch::TriggerPaused("gh".parse().unwrap(), paused);
                self.append(Record::Switched(Switched { at: at(self.now_s), switch }));
            }
            Op::Clock(step) => {
                self.now_s += step;
                self.clock.set(at(self.now_s));
            }
            Op::Reboot => {
                self.open();
                self.check();
            }
            Op::Lose(frames) => {
                let Some(memory) = self.memory.clone() else { return };
                let tail = *self.log().tail().borrow();
                self.log = None;
                let last = tail.saturating_sub(frames);
                memory.truncate(0, last);
                self.events.retain(|(id, _)| id.position().frame() <= last);
                self.open();
                self.check();
            }
        }
    }

    /// Everything acknowledged is there, once, and the fold is what the log says.
    fn check(&self) {
        let log = self.log();
        for (id, key) in &self.events {
            let event = log.event(*id).unwrap().expect("an acknowledged event is there");
            assert_eq!(event.content.dedupe_key.as_deref(), Some(key.to_string().as_str()));
        }
        let scan = EventScan { limit: usize::MAX, scan_max: usize::MAX };
        let stored: Vec<_> =
            log.events_after(None, scan, |_| true).unwrap().items.iter().map(|event| event.id).collect();
        let acknowledged: Vec<_> = self.events.iter().map(|(id, _)| *id).collect();
        assert_eq!(stored, acknowledged);
        let before = snapshot(log);
        let tail = *log.tail().borrow();
        self.runtime.block_on(log.folded(tail)).unwrap();
        let anew = State::open(Arc::new(MemoryTable::default()), Arc::clone(&log.0.reader), tail).unwrap();
        assert_eq!(before.0, runs(&anew));
        assert_eq!(before.1, anew.counts());
    }
}

fn runs(state: &State) -> BTreeMap<RunId, Run> {
    let page = state.runs(&RunFilter::default(), None, usize::MAX).unwrap();
    page.items.into_iter().map(|run| (run.id.clone(), run)).collect()
}

fn snapshot(log: &Log) -> (BTreeMap<RunId, Run>, Counts) {
    (runs(log.state()), log.state().counts())
}

fn check(memory: Option<MemoryLog>, ops: Vec<Op>) {
    let mut bed = Bed::new(memory);
    for op in ops {
        bed.apply(op);
    }
    bed.apply(Op::Reboot);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn log_in_memory_behaves_as_its_model(ops in proptest::collection::vec(op(), 1..40)) {
        check(Some(MemoryLog::new()), ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn log_on_sled_behaves_as_its_model(ops in proptest::collection::vec(op(), 1..40)) {
        check(None, ops);
    }
}
