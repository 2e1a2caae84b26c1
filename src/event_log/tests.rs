//! Behaviour of the log as a whole.

mod fold;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::record::{
    Attempted, Audit, Cause, Controlled, Created, Cron, CronChange, Missed, NewRun, Next, Permits, Polled,
    Routed, RunAction, Sealed, Skip, SkipReason, Start, Switch, Switched,
};
use super::*;
use crate::event::{
    Body, CRON_TICK, CoolDown, EventState, FunctionId, Origin, PermitsChange, ProviderId, QuotaLeft, RunId,
    RunState, SignatureStatus, Timestamp, TriggerId,
};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn ms(seconds: i64) -> i64 {
    at(seconds).as_millisecond()
}

fn content(key: Option<&str>) -> EventContent {
    EventContent {
        provider: "github".parse().unwrap(),
        trigger_id: "gh".parse().unwrap(),
        kind: "push".to_owned(),
        received_at: at(0),
        occurred_at: None,
        dedupe_key: key.map(str::to_owned),
        trace_id: "0".repeat(32),
        origin: Origin::Live,
        held: false,
        method: "POST".to_owned(),
        url: "/hooks/gh?x=1".to_owned(),
        headers: vec![("x-github-event".to_owned(), Bytes::from_static(b"push"))],
        body: Body::Inline(Bytes::from_static(b"{\"a\": 1}")),
        batch: None,
        schema: "GitHubEventPayload".to_owned(),
        signature_status: SignatureStatus::Verified { covers_body: true },
    }
}

pub(super) fn new_event(key: Option<&str>) -> NewEvent {
    NewEvent { content: content(key), window: HOUR }
}

/// A log in a folder of its own, with a clock that stands at `at(0)`.
struct Bed {
    dir: tempfile::TempDir,
    clock: Clock,
    store: Option<MemoryLog>,
    log: Option<Log>,
}

impl Bed {
    fn sled() -> Self {
        Self::new(None)
    }

    fn memory() -> Self {
        Self::new(Some(MemoryLog::new()))
    }

    fn new(store: Option<MemoryLog>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Self { dir, clock: Clock::fixed(at(0)), store, log: None };
        bed.log = Some(bed.open());
        bed
    }

    fn options(&self) -> Options {
        Options {
            clock: self.clock.clone(),
            store: self.store.clone().map(|store| Arc::new(store) as Arc<dyn EventLog>),
            disk_reserve_bytes: 0,
            ..Options::new(self.dir.path())
        }
    }

    fn open(&self) -> Log {
        Log::open(self.options()).unwrap()
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn reboot(&mut self) {
        drop(self.log.take());
        self.log = Some(self.open());
    }

    async fn ingest(&self, key: Option<&str>) -> Ingested {
        ingest(self.log(), vec![new_event(key)]).await[0]
    }

    async fn append(&self, record: Record) {
        self.log().append_durable(vec![record]).await.unwrap();
    }
}

pub(super) async fn ingest(log: &Log, events: Vec<NewEvent>) -> Vec<Ingested> {
    log.ingest(events, Instant::now() + Duration::from_secs(10)).await.unwrap()
}

pub(super) fn function() -> FunctionId {
    "deploy".parse().unwrap()
}

fn run_id(event: EventId, generation: u32) -> RunId {
    RunId { event, function: function(), generation }
}

fn new_run(event: EventId, generation: u32, start: Start) -> NewRun {
    let trigger_id = "gh".parse().unwrap();
    NewRun { id: run_id(event, generation), trigger_id, kind: "push".to_owned(), cause: Cause::Live, start }
}

/// Routes everything up to an event, with one run of it.
fn routed(log: &Log, event: EventId, start: Start) -> Record {
    Record::Routed(Routed {
        from: log.state().routed_through(),
        through: event.position(),
        at: at(0),
        functions: vec![function(), "other".parse().unwrap()],
        runs: vec![new_run(event, 1, start)],
        skipped: vec![Skip { event: event.position(), function: 1, reason: SkipReason::Events }],
    })
}

fn attempted(run: RunId, attempt: u32, next: Next) -> Record {
    Record::Attempted(Attempted {
        run,
        attempt,
        started_at: at(i64::from(attempt)),
        duration_us: 1500,
        status: Some(500),
        note: "answered 500".to_owned(),
        answer: Bytes::from_static(b"oops"),
        next,
    })
}

fn control(run: RunId, action: RunAction) -> Record {
    Record::Controlled(Controlled { run, at: at(50), action })
}

fn switch(switch: Switch) -> Record {
    Record::Switched(Switched { at: at(60), switch })
}

#[tokio::test]
async fn event_is_read_back_as_it_came_also_after_reopening() {
    let mut bed = Bed::sled();
    let id = bed.ingest(Some("a")).await.id();
    for _ in 0..2 {
        let event = bed.log().event(id).unwrap().unwrap();
        assert_eq!(event.id, id);
        assert_eq!(event.content, content(Some("a")));
        assert_eq!(bed.log().body(&event).unwrap(), Bytes::from_static(b"{\"a\": 1}"));
        let other = EventId::from_bits(id.bits() ^ 1);
        assert_eq!(bed.log().event(other).unwrap(), None, "another id of the same place is another event");
        bed.reboot();
    }
}

#[tokio::test]
async fn duplicate_within_window_returns_first_event_id() {
    let mut bed = Bed::sled();
    let first = bed.ingest(Some("a")).await;
    assert!(matches!(first, Ingested::Stored(_)));
    assert_eq!(bed.ingest(Some("a")).await, Ingested::Duplicate(first.id()));
    bed.reboot();
    assert_eq!(bed.ingest(Some("a")).await, Ingested::Duplicate(first.id()));
    assert!(matches!(bed.ingest(Some("b")).await, Ingested::Stored(_)));
    assert!(matches!(bed.ingest(None).await, Ingested::Stored(_)));
    assert!(matches!(bed.ingest(None).await, Ingested::Stored(_)), "without a key there is no duplicate");
    bed.clock.set(at(3600));
    let again = bed.ingest(Some("a")).await;
    assert!(matches!(again, Ingested::Stored(_)), "past the window it is a new event");
    assert_eq!(bed.ingest(Some("a")).await, Ingested::Duplicate(again.id()));
    let page = bed.log().read_topic("events", None, 100).unwrap();
    let duplicates = page.items.iter().filter(|(_, record)| matches!(record, Record::Duplicate(_)));
    assert_eq!(duplicates.count(), 3);
}

#[tokio::test]
async fn same_key_on_another_trigger_is_another_event() {
    let bed = Bed::memory();
    let first = bed.ingest(Some("a")).await;
    let mut other = new_event(Some("a"));
    other.content.trigger_id = "gh2".parse().unwrap();
    assert!(matches!(ingest(bed.log(), vec![other]).await[0], Ingested::Stored(id) if id != first.id()));
}

#[tokio::test]
async fn duplicates_that_arrive_at_the_same_moment_are_stored_once() {
    let bed = Bed::sled();
    let ingests = (0..200).map(|i| bed.ingest(Some(if i % 2 == 0 { "even" } else { "odd" })));
    let ingested = futures_util::future::join_all(ingests).await;
    let stored: Vec<_> = ingested.iter().filter(|it| matches!(it, Ingested::Stored(_))).collect();
    assert_eq!(stored.len(), 2);
    for (i, it) in ingested.iter().enumerate() {
        assert_eq!(it.id(), ingested[i % 2].id());
    }
}

#[tokio::test]
async fn batch_of_one_delivery_gets_ids_in_its_order() {
    let bed = Bed::sled();
    let events = (0..300).map(|i| new_event(Some(&i.to_string()))).collect();
    let ids: Vec<_> = ingest(bed.log(), events).await.into_iter().map(Ingested::id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert!(bed.log().health().frames >= 5, "frames hold 64 events at most");
}

#[tokio::test]
async fn ids_grow_when_the_clock_steps_back_across_a_restart() {
    let mut bed = Bed::sled();
    let first = bed.ingest(None).await.id();
    bed.append(switch(Switch::FunctionPaused(function(), true))).await;
    bed.clock.set(at(-1000));
    bed.reboot();
    bed.append(switch(Switch::FunctionPaused(function(), false))).await;
    bed.reboot();
    let second = bed.ingest(None).await.id();
    assert!(second > first);
    assert_eq!(second.time_ms(), first.time_ms());
}

#[tokio::test]
async fn second_log_on_the_same_folder_is_refused() {
    let bed = Bed::sled();
    assert!(matches!(Log::open(bed.options()), Err(Error::Locked { .. })));
    assert!(matches!(Log::open_reader(bed.dir.path()), Err(Error::Locked { .. })));
}

#[tokio::test]
async fn reader_sees_all_and_writes_nothing() {
    let mut bed = Bed::sled();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(5)))).await;
    drop(bed.log.take());
    let reader = Log::open_reader(bed.dir.path()).unwrap();
    assert!(reader.event(id).unwrap().is_some());
    assert_eq!(reader.state().runs_of(id).unwrap().len(), 1);
    assert!(reader.append_durable(vec![]).await.is_err());
    let deadline = Instant::now() + Duration::from_secs(1);
    assert!(matches!(reader.ingest(vec![new_event(None)], deadline).await, Err(IngestError::Failing(_))));
    assert!(matches!(Log::open_reader(&bed.dir.path().join("nothing")), Err(Error::Missing { .. })));
    let foreign = tempfile::tempdir().unwrap();
    assert!(matches!(Log::open_reader(foreign.path()), Err(Error::Missing { .. })));
    assert!(foreign.path().read_dir().unwrap().next().is_none(), "nothing is left in a foreign folder");
}

#[tokio::test]
async fn full_disk_refuses_events_but_not_what_finishes_them() {
    let bed = Bed::memory();
    let log = {
        drop(bed.log);
        let options = Options { disk_reserve_bytes: u64::MAX, ..Options::new(bed.dir.path()) };
        Log::open(options).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(1);
    assert!(matches!(log.ingest(vec![new_event(None)], deadline).await, Err(IngestError::Full)));
    assert_eq!(log.health().condition, Condition::Full);
    log.append_durable(vec![switch(Switch::FunctionPaused(function(), true))]).await.unwrap();
}

#[tokio::test]
async fn failed_store_fails_all_until_it_is_opened_again() {
    let mut bed = Bed::memory();
    let store = bed.store.clone().unwrap();
    bed.ingest(Some("a")).await;
    store.refuse(Some(Appended::Unknown("the device is gone".to_owned())));
    let deadline = Instant::now() + Duration::from_secs(5);
    let refused = bed.log().ingest(vec![new_event(Some("b"))], deadline).await;
    assert!(matches!(refused, Err(IngestError::Failing(_))));
    store.refuse(None);
    assert!(bed.log().ingest(vec![new_event(Some("b"))], deadline).await.is_err());
    assert!(bed.log().append_durable(vec![switch(Switch::FunctionPaused(function(), true))]).await.is_err());
    assert!(matches!(bed.log().health().condition, Condition::Failing(_)));
    bed.reboot();
    assert!(matches!(bed.ingest(Some("b")).await, Ingested::Stored(_)), "a failed event holds no claim");
}

#[tokio::test]
async fn panic_of_the_store_fails_the_log_instead_of_hanging_it() {
    let mut bed = Bed::memory();
    let store = bed.store.clone().unwrap();
    bed.ingest(Some("a")).await;
    store.interrupt(Some(|| panic!("the store is confused")));
    let deadline = Instant::now() + Duration::from_secs(5);
    let (one, other) = tokio::join!(
        bed.log().ingest(vec![new_event(Some("b"))], deadline),
        bed.log().append_durable(vec![switch(Switch::FunctionPaused(function(), true))]),
    );
    assert!(matches!(one, Err(IngestError::Failing(Error::Failing(_)))), "{one:?}");
    assert!(matches!(other, Err(Error::Failing(_))), "{other:?}");
    let later = bed.log().ingest(vec![new_event(Some("b"))], deadline).await;
    let reason = "the committer panicked: the store is confused";
    let is_told = |error: &Error| matches!(error, Error::Failing(told) if told == reason);
    assert!(matches!(&later, Err(IngestError::Failing(error)) if is_told(error)), "{later:?}");
    assert!(
        matches!(bed.log().append(vec![switch(Switch::FunctionPaused(function(), true))]).await, Err(error) if is_told(&error))
    );
    assert!(matches!(bed.log().health().condition, Condition::Failing(told) if told.ends_with(reason)));
    store.interrupt(None);
    bed.reboot();
    assert!(matches!(bed.ingest(Some("b")).await, Ingested::Stored(_)), "a failed event holds no claim");
}

#[tokio::test]
async fn panic_of_the_fold_is_told_to_those_who_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryLog::new();
    store.interrupt(Some(|| panic!("the store is confused")));
    let reader = Reader { store: Arc::new(store), ..Reader::for_test(dir.path()) };
    let state = State::open(Arc::new(MemoryTable::default()), Arc::new(reader), 0).unwrap();
    let mut follower = Follower::start(Arc::clone(state.shared()));
    follower.committed(1);
    let folded = tokio::time::timeout(Duration::from_secs(5), state.shared().folded(1)).await;
    let reason = "the fold panicked: the store is confused";
    assert!(matches!(folded, Ok(Err(Error::Failing(told))) if told == reason));
    assert!(state.failure().is_some(), "the log's condition is failing");
    follower.end();
}

#[tokio::test]
async fn device_that_does_not_answer_holds_nobody_for_ever() {
    static IS_STUCK: AtomicBool = AtomicBool::new(true);
    let bed = Bed::memory();
    bed.store.as_ref().unwrap().interrupt(Some(|| {
        while IS_STUCK.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }));
    let deadline = (Instant::now() + Duration::from_millis(50)).checked_sub(DEVICE_GRACE).unwrap();
    let stalled = bed.log().ingest(vec![new_event(None)], deadline).await;
    IS_STUCK.store(false, Ordering::Relaxed);
    assert!(matches!(stalled, Err(IngestError::Failing(Error::Stalled))), "{stalled:?}");
}

#[tokio::test]
async fn lazy_records_are_committed_soon_without_anybody_waiting() {
    let bed = Bed::sled();
    let mut tail = bed.log().tail();
    bed.log().append(vec![switch(Switch::FunctionPaused(function(), true))]).await.unwrap();
    tail.wait_for(|tail| *tail == 1).await.unwrap();
    bed.log().folded(1).await.unwrap();
    assert!(bed.log().state().function(&function()).paused);
}

#[tokio::test]
async fn topics_are_read_by_cursor() {
    let bed = Bed::memory();
    for code in ["one", "two", "three"] {
        bed.ingest(None).await;
        bed.append(Record::Audit(Audit {
            topic: "audit.signature_verify".to_owned(),
            at: at(0),
            trigger_id: None,
            peer: Some("10.0.0.1".parse().unwrap()),
            code: code.to_owned(),
            detail: String::new(),
            count: 1,
        }))
        .await;
    }
    let log = bed.log();
    assert!(log.topics().unwrap().contains(&"audit.signature_verify".to_owned()));
    let first = log.read_topic("audit.signature_verify", None, 2).unwrap();
    let second = log.read_topic("audit.signature_verify", first.next, 2).unwrap();
    let codes = first.items.iter().chain(&second.items).map(|(_, record)| match record {
        Record::Audit(audit) => audit.code.as_str(),
        _ => "",
    });
    assert_eq!(codes.collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(second.next, None);
    assert!(log.read_topic("nothing", None, 2).unwrap().items.is_empty());
}

#[tokio::test]
async fn listing_of_a_log_of_few_events_hands_back_a_cursor() {
    let bed = Bed::memory();
    let first = bed.ingest(None).await.id();
    for _ in 0..4200 {
        bed.log().append_durable(vec![switch(Switch::FunctionPaused(function(), true))]).await.unwrap();
    }
    let last = bed.ingest(None).await.id();
    let scan = EventScan { limit: 10, scan_max: 10 };
    let ids = |page: Page<Arc<StoredEvent>>| page.items.iter().map(|event| event.id).collect::<Vec<_>>();
    let page = bed.log().events_after(None, scan, |_| true).unwrap();
    let rest = bed.log().events_after(Some(page.next.unwrap()), scan, |_| true).unwrap();
    assert_eq!((ids(page), rest.next, ids(rest)), (vec![first], None, vec![last]));
    let page = bed.log().events_before(None, scan, |_| true).unwrap();
    let rest = bed.log().events_before(Some(page.next.unwrap()), scan, |_| true).unwrap();
    assert_eq!((ids(page), rest.next, ids(rest)), (vec![last], None, vec![first]));
}

#[tokio::test]
async fn events_are_listed_in_both_directions() {
    let bed = Bed::memory();
    let mut ids = Vec::new();
    for i in 0..10 {
        ids.push(bed.ingest(Some(&i.to_string())).await.id());
        bed.append(switch(Switch::FunctionPaused(function(), true))).await;
    }
    let scan = EventScan { limit: 4, scan_max: 100 };
    let (mut newest, mut oldest) = (Vec::new(), Vec::new());
    let (mut before, mut after) = (None, None);
    loop {
        let page = bed.log().events_before(before, scan, |_| true).unwrap();
        newest.extend(page.items.iter().map(|event| event.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    loop {
        let page = bed.log().events_after(after, scan, |event| event.id != ids[3]).unwrap();
        oldest.extend(page.items.iter().map(|event| event.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    newest.reverse();
    assert_eq!(newest, ids);
    ids.remove(3);
    assert_eq!(oldest, ids);
}

#[tokio::test]
async fn spooled_body_is_read_back_and_leftovers_are_removed_on_reopening() {
    let mut bed = Bed::sled();
    let spooled = {
        let mut writer = bed.log().spool().create().unwrap();
        writer.write(b"large ").unwrap();
        writer.write(b"body").unwrap();
        writer.finish().unwrap()
    };
    let mut event = new_event(Some("large"));
    event.content.body = Body::Spooled(spooled.clone());
    let id = ingest(bed.log(), vec![event]).await[0].id();
    bed.log().spool().create().unwrap().finish().unwrap();
    let bodies = bed.dir.path().join("bodies");
    let files = || std::fs::read_dir(&bodies).unwrap().count();
    drop(bed.log().spool().create().unwrap());
    assert_eq!(files(), 2, "a body given up leaves nothing");
    let mut again = new_event(Some("large"));
    again.content.body = Body::Spooled(bed.log().spool().create().unwrap().finish().unwrap());
    assert_eq!(files(), 3);
    assert_eq!(ingest(bed.log(), vec![again]).await, [Ingested::Duplicate(id)]);
    assert_eq!(files(), 2, "a duplicate's body is removed");
    bed.reboot();
    bed.log().spool().sweep(bed.log().state()).unwrap();
    assert_eq!(files(), 1);
    let event = bed.log().event(id).unwrap().unwrap();
    assert_eq!(bed.log().body(&event).unwrap(), "large body");
    std::fs::write(bodies.join(&spooled.name), "large bodX").unwrap();
    assert!(matches!(bed.log().body(&event), Err(Error::Body { .. })));
    std::fs::remove_file(bodies.join(&spooled.name)).unwrap();
    assert!(matches!(bed.log().body(&event), Err(Error::Body { .. })));
}

#[tokio::test]
async fn state_ahead_of_the_log_is_folded_anew() {
    let mut bed = Bed::sled();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
    let before = bed.log().state().counts();
    drop(bed.log.take());
    {
        let sled = Arc::new(SledLog::open(bed.dir.path(), false).unwrap());
        let table = SledTable::open(sled).unwrap();
        let ahead = state::mark_at(Position::new(99, 0));
        table.write(vec![(b"m".to_vec(), Some(ahead))]).unwrap();
        table.sync().unwrap();
    }
    bed.log = Some(bed.open());
    assert_eq!(bed.log().state().counts(), before);
    assert_eq!(bed.log().rebuild().unwrap(), before);
}

#[tokio::test]
async fn close_commits_what_is_queued() {
    let mut bed = Bed::sled();
    bed.log().append(vec![switch(Switch::FunctionPaused(function(), true))]).await.unwrap();
    bed.log().close(Instant::now() + Duration::from_secs(10)).await;
    assert!(bed.log().append(vec![switch(Switch::FunctionPaused(function(), false))]).await.is_err());
    bed.reboot();
    assert!(bed.log().state().function(&function()).paused);
}

#[tokio::test]
async fn check_finds_nothing_in_a_log_in_order_and_names_what_is_damaged() {
    let mut bed = Bed::sled();
    for i in 0..50 {
        bed.ingest(Some(&i.to_string())).await;
    }
    bed.ingest(Some("7")).await;
    drop(bed.log.take());
    let report = Log::check(bed.dir.path()).unwrap();
    assert_eq!((report.events, report.duplicates, report.claims), (50, 1, 50));
    assert_eq!(report.listed, Vec::<String>::new());
    {
        let sled = SledLog::open(bed.dir.path(), false).unwrap();
        let mut frame = sled.get(0, 3).unwrap().unwrap().to_vec();
        *frame.last_mut().unwrap() ^= 1;
        sled.redact(0, 3, &frame).unwrap();
    }
    let report = Log::check(bed.dir.path()).unwrap();
    assert!(report.listed[0].starts_with("frame 3: its checksum"), "{:?}", report.listed);
}
