//! Behaviour of the log as a whole.

mod start;

use std::sync::Arc;
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
    let bed = Bed::memory();
    bed.store.as_ref().unwrap().interrupt(Some(|| std::thread::sleep(Duration::from_millis(500))));
    let deadline = (Instant::now() + Duration::from_millis(50)).checked_sub(DEVICE_GRACE).unwrap();
    let stalled = bed.log().ingest(vec![new_event(None)], deadline).await;
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
async fn run_goes_from_due_through_a_retry_to_success() {
    let mut bed = Bed::sled();
    let id = bed.ingest(None).await.id();
    let state = |bed: &Bed| bed.log().state().event_state(id).unwrap();
    assert_eq!(state(&bed), EventState::Open, "not routed yet");
    bed.append(routed(bed.log(), id, Start::Due(at(5)))).await;
    let none = bed.log().state().take_due(&function(), ms(4), 10).unwrap();
    assert_eq!((none.runs.len(), none.next_due_ms), (0, Some(ms(5))));
    let taken = bed.log().state().take_due(&function(), ms(5), 10).unwrap();
    assert_eq!((taken.runs[0].attempt, &taken.runs[0].id), (1, &run_id(id, 1)));
    assert_eq!(bed.log().state().run(&run_id(id, 1)).unwrap().unwrap().state, RunState::Running);
    assert!(bed.log().state().take_due(&function(), ms(5), 10).unwrap().runs.is_empty(), "it is in flight");
    bed.append(attempted(run_id(id, 1), 1, Next::RetryAt(at(30)))).await;
    bed.reboot();
    let taken = bed.log().state().take_due(&function(), ms(30), 10).unwrap();
    assert_eq!(taken.runs[0].attempt, 2);
    bed.append(attempted(run_id(id, 1), 2, Next::Succeeded)).await;
    let run = bed.log().state().run(&run_id(id, 1)).unwrap().unwrap();
    assert_eq!((run.state, run.attempts, run.history.len()), (RunState::Succeeded, 2, 2));
    let full = bed.log().record(run.history[0].position).unwrap().unwrap();
    assert!(matches!(full, Record::Attempted(it) if it.answer == "oops"));
    assert_eq!(state(&bed), EventState::Done);
    let routing = bed.log().state().routing(id).unwrap().unwrap();
    assert_eq!(routing.skipped, [("other".parse().unwrap(), SkipReason::Events)]);
    assert_eq!(bed.log().state().counts().in_state(RunState::Succeeded), 1);
}

#[tokio::test]
async fn released_run_and_run_of_a_crashed_attempt_are_due_again() {
    let mut bed = Bed::sled();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
    let take = |bed: &Bed| bed.log().state().take_due(&function(), ms(0), 10).unwrap().runs.len();
    assert_eq!(take(&bed), 1);
    bed.log().state().release(&run_id(id, 1)).unwrap();
    assert_eq!(take(&bed), 1);
    bed.reboot();
    assert_eq!(take(&bed), 1);
}

/// Lists runs page by page.
fn listed(log: &Log, filter: &RunFilter, limit: usize) -> Vec<(RunId, RunState)> {
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = log.state().runs(filter, cursor.as_ref(), limit).unwrap();
        listed.extend(page.items.into_iter().map(|run| (run.id, run.state)));
        match page.next {
            Some(next) => cursor = Some(next),
            None => return listed,
        }
    }
}

#[tokio::test]
async fn runs_that_only_a_decision_tells_of_are_listed_taken_and_cancelled_like_others() {
    let mut bed = Bed::sled();
    let other: FunctionId = "other".parse().unwrap();
    let mut expected = Vec::new();
    for _ in 0..3 {
        let events = ingest(bed.log(), vec![new_event(None), new_event(None)]).await;
        let events: Vec<EventId> = events.into_iter().map(Ingested::id).collect();
        let run = |event: &EventId, function: &FunctionId, start: Start| {
            let id = RunId { event: *event, function: function.clone(), generation: 1 };
            NewRun { id, ..new_run(*event, 1, start) }
        };
        let due = events.iter().map(|event| run(event, &function(), Start::Due(at(0))));
        let skipped = events.iter().map(|event| run(event, &other, Start::Skipped(SkipReason::When)));
        let runs: Vec<_> = due.chain(skipped).collect();
        expected.extend(runs.iter().map(|run| match run.start {
            Start::Due(_) => (run.id.clone(), RunState::Pending),
            _ => (run.id.clone(), RunState::Skipped),
        }));
        let (from, through) = (bed.log().state().routed_through(), events[1].position());
        let functions = vec![function(), other.clone()];
        bed.append(Record::Routed(Routed { from, through, at: at(0), functions, runs, skipped: vec![] }))
            .await;
    }
    expected.sort_by_key(|(id, _)| (std::cmp::Reverse(id.event), std::cmp::Reverse(id.function.to_string())));
    for limit in 1..5 {
        assert_eq!(listed(bed.log(), &RunFilter::default(), limit), expected, "by {limit}");
    }
    // The second of the first decision, both of the second, the first of the third.
    let due: Vec<RunId> =
        expected.iter().rev().map(|(id, _)| id.clone()).filter(|id| id.function != other).collect();
    let become_of = |expected: &mut Vec<(RunId, RunState)>, id: &RunId, state: RunState| {
        expected.iter_mut().find(|(other, _)| other == id).unwrap().1 = state;
    };
    bed.append(attempted(due[1].clone(), 1, Next::Succeeded)).await;
    become_of(&mut expected, &due[1], RunState::Succeeded);
    for id in &due[2..4] {
        bed.append(control(id.clone(), RunAction::Cancel)).await;
        become_of(&mut expected, id, RunState::Cancelled);
    }
    bed.append(attempted(due[4].clone(), 1, Next::RetryAt(at(9)))).await;
    for reopened in [false, true] {
        if reopened {
            bed.reboot();
        }
        let log = bed.log();
        for limit in 1..5 {
            assert_eq!(listed(log, &RunFilter::default(), limit), expected, "by {limit}");
        }
        let pending = RunFilter { state: Some(RunState::Pending), ..RunFilter::default() };
        assert_eq!(listed(log, &pending, 2).len(), 3);
        let counts = log.state().counts();
        assert_eq!((counts.in_state(RunState::Pending), counts.in_state(RunState::Skipped)), (3, 6));
        assert_eq!(log.state().event_state(due[4].event).unwrap(), EventState::Open);
        assert_eq!(log.state().event_state(due[1].event).unwrap(), EventState::Done);
        let taken = log.state().take_due(&function(), ms(9), 10).unwrap().runs;
        let taken: Vec<_> = taken.into_iter().map(|run| (run.id, run.attempt)).collect();
        assert_eq!(taken, [(due[0].clone(), 1), (due[5].clone(), 1), (due[4].clone(), 2)]);
        taken.iter().for_each(|(id, _)| log.state().release(id).unwrap());
    }
    assert_eq!(bed.log().rebuild().unwrap(), bed.log().state().counts());
    assert_eq!(listed(bed.log(), &RunFilter::default(), 3), expected);
}

#[tokio::test]
async fn dead_run_is_listed_retried_and_purged() {
    let bed = Bed::memory();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
    let state = bed.log().state();
    let dead = RunFilter { state: Some(RunState::Dead), ..RunFilter::default() };
    let kill = attempted(run_id(id, 1), 1, Next::Dead("final".to_owned()));
    bed.append(kill).await;
    assert_eq!(state.event_state(id).unwrap(), EventState::Dead);
    assert_eq!(state.runs(&dead, None, 10).unwrap().items[0].reason.as_deref(), Some("final"));
    bed.append(control(run_id(id, 1), RunAction::Retry)).await;
    assert_eq!(state.event_state(id).unwrap(), EventState::Open);
    assert!(state.runs(&dead, None, 10).unwrap().items.is_empty());
    assert_eq!(state.take_due(&function(), ms(50), 1).unwrap().runs[0].attempt, 1);
    bed.append(attempted(run_id(id, 1), 7, Next::Dead("final".to_owned()))).await;
    bed.append(control(run_id(id, 1), RunAction::Purge)).await;
    let run = state.run(&run_id(id, 1)).unwrap().unwrap();
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Cancelled, Some("purged")));
    assert_eq!(state.event_state(id).unwrap(), EventState::Done);
}

#[tokio::test]
async fn event_is_dead_by_the_latest_generation_of_each_function() {
    let bed = Bed::memory();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
    bed.append(attempted(run_id(id, 1), 1, Next::Dead("final".to_owned()))).await;
    let state = bed.log().state();
    assert_eq!(state.next_generation(id, &function()).unwrap(), 2);
    let replay = new_run(id, 2, Start::Due(at(70)));
    bed.append(Record::Created(Created { at: at(70), runs: vec![replay.clone(), replay] })).await;
    assert_eq!(state.event_state(id).unwrap(), EventState::Open);
    bed.append(attempted(run_id(id, 2), 1, Next::Succeeded)).await;
    assert_eq!(state.event_state(id).unwrap(), EventState::Done);
    assert_eq!(state.runs_of(id).unwrap().len(), 2);
}

#[tokio::test]
async fn cancelled_run_stays_cancelled_when_its_attempt_ends() {
    let bed = Bed::memory();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
    let state = bed.log().state();
    assert_eq!(state.take_due(&function(), ms(0), 1).unwrap().runs.len(), 1);
    bed.append(control(run_id(id, 1), RunAction::Cancel)).await;
    bed.append(attempted(run_id(id, 1), 1, Next::RetryAt(at(9)))).await;
    let run = state.run(&run_id(id, 1)).unwrap().unwrap();
    assert_eq!((run.state, run.history.len()), (RunState::Cancelled, 1));
    assert!(state.take_due(&function(), ms(100), 1).unwrap().runs.is_empty());
}

#[tokio::test]
async fn event_that_no_function_wanted_is_unrouted() {
    let bed = Bed::memory();
    let first = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), first, Start::Skipped(SkipReason::When))).await;
    let state = bed.log().state();
    assert_eq!(state.event_state(first).unwrap(), EventState::Unrouted);
    assert_eq!(state.run(&run_id(first, 1)).unwrap().unwrap().reason.as_deref(), Some("when"));
}

#[tokio::test]
async fn routed_record_that_does_not_follow_the_cursor_changes_nothing() {
    let bed = Bed::memory();
    let id = bed.ingest(None).await.id();
    let record = routed(bed.log(), id, Start::Due(at(0)));
    bed.append(record.clone()).await;
    bed.append(record).await;
    assert_eq!(bed.log().state().counts().in_state(RunState::Pending), 1);
    assert_eq!(bed.log().state().routed_through(), id.position());
}

#[tokio::test]
async fn held_runs_become_due_when_their_trigger_is_resumed() {
    let mut bed = Bed::sled();
    let trigger: TriggerId = "gh".parse().unwrap();
    bed.append(switch(Switch::TriggerPaused(trigger.clone(), true))).await;
    let many = 1300;
    let events = (0..many).map(|_| new_event(None)).collect();
    let ids: Vec<_> = ingest(bed.log(), events).await.into_iter().map(Ingested::id).collect();
    let runs = ids.iter().map(|id| new_run(*id, 1, Start::Held)).collect();
    bed.append(Record::Created(Created { at: at(1), runs })).await;
    bed.reboot();
    let waiting = |bed: &Bed| bed.log().state().counts().in_state(RunState::Waiting);
    assert_eq!(waiting(&bed), many);
    assert!(bed.log().state().trigger(&trigger).paused);
    let notify = Arc::new(Notify::new());
    bed.log().state().on_due(&function(), Arc::clone(&notify));
    notify.notified().await;
    bed.append(switch(Switch::TriggerPaused(trigger, false))).await;
    notify.notified().await;
    assert_eq!(waiting(&bed), 0);
    let taken = bed.log().state().take_due(&function(), ms(60), 2000).unwrap();
    assert_eq!(taken.runs.len() as u64, many, "more than memory's window holds");
    assert!(taken.runs.is_sorted_by(|a, b| a.id < b.id));
    let late = bed.ingest(None).await.id();
    bed.append(Record::Created(Created { at: at(61), runs: vec![new_run(late, 1, Start::Held)] })).await;
    assert_eq!(waiting(&bed), 0, "accepted while paused, routed after the resume");
}

#[tokio::test]
async fn paused_function_gives_nothing_and_keeps_its_runs() {
    let bed = Bed::memory();
    let id = bed.ingest(None).await.id();
    bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
    let state = bed.log().state();
    bed.append(switch(Switch::FunctionPaused(function(), true))).await;
    assert_eq!(state.take_due(&function(), ms(10), 1).unwrap(), Taken::default());
    bed.append(switch(Switch::FunctionPaused(function(), false))).await;
    assert_eq!(state.take_due(&function(), ms(10), 1).unwrap().runs.len(), 1);
}

#[tokio::test]
async fn switches_and_secrets_survive_a_restart() {
    let mut bed = Bed::sled();
    let breaker = Switch::Breaker { function: function(), open_until: Some(at(9)), opened: 3 };
    let seal = |name: &str, sealed: &'static [u8]| {
        Record::Sealed(Sealed { name: name.to_owned(), at: at(0), sealed: Bytes::from_static(sealed) })
    };
    bed.append(switch(breaker)).await;
    bed.append(switch(Switch::TriggerArmed("gh".parse().unwrap(), Some(at(600))))).await;
    bed.append(seal("notion/signing_secret", b"ciphertext")).await;
    bed.append(seal("gone", b"x")).await;
    bed.append(seal("gone", b"")).await;
    bed.reboot();
    let state = bed.log().state();
    let expected = FunctionState { paused: false, open_until: Some(at(9)), opened: 3 };
    assert_eq!(state.function(&function()), expected);
    assert_eq!(state.trigger(&"gh".parse().unwrap()).armed_until, Some(at(600)));
    assert_eq!(state.sealed("notion/signing_secret").unwrap(), "ciphertext");
    assert_eq!(state.sealed_names(), ["notion/signing_secret"]);
}

#[tokio::test]
async fn how_far_a_schedule_has_come_is_what_its_events_and_records_say() {
    let mut bed = Bed::sled();
    let trigger: TriggerId = "nightly".parse().unwrap();
    let tick = |seconds: i64| NewEvent {
        content: EventContent {
            trigger_id: "nightly".parse().unwrap(),
            kind: CRON_TICK.to_owned(),
            method: String::new(),
            occurred_at: Some(at(seconds)),
            ..content(Some(&seconds.to_string()))
        },
        window: HOUR,
    };
    let cron =
        |seconds: i64, change| Record::Cron(Cron { at: at(seconds), trigger_id: trigger.clone(), change });
    let missed = |last, made_up, given_up| {
        let given_up_through = Some(at(given_up));
        CronChange::Missed(Missed { first: at(50), last: at(last), count: 9, made_up, given_up_through })
    };
    assert_eq!(bed.log().state().schedule(&trigger), None);
    bed.append(cron(0, CronChange::Began { schedule: "@hourly UTC".to_owned() })).await;
    ingest(bed.log(), vec![tick(20), tick(40)]).await;
    bed.ingest(None).await;
    bed.append(cron(60, missed(60, 0, 60))).await;
    bed.append(cron(60, missed(90, 1, 30))).await;
    let expected = ScheduleState {
        schedule: "@hourly UTC".to_owned(),
        through: at(60),
        last_tick: Some(at(40)),
        missed: 17,
    };
    assert_eq!(bed.log().state().schedule(&trigger), Some(expected.clone()));
    bed.reboot();
    assert_eq!(bed.log().state().schedule(&trigger), Some(expected.clone()));
    bed.log().rebuild().unwrap();
    assert_eq!(bed.log().state().schedule(&trigger), Some(expected));
    let topic = bed.log().read_topic("cron", None, 10).unwrap();
    assert_eq!(topic.items.len(), 3);
    // What began anew counts from then on, though the clock was set back.
    bed.append(cron(10, CronChange::Began { schedule: "@daily UTC".to_owned() })).await;
    assert_eq!(bed.log().state().schedule(&trigger).unwrap().through, at(10));
}

#[tokio::test]
async fn what_is_known_of_rate_limits_outlives_a_restart_until_it_is_over() {
    let mut bed = Bed::sled();
    let provider: ProviderId = "github".parse().unwrap();
    let permits =
        |seconds, change| Record::Permits(Permits { at: at(seconds), provider: provider.clone(), change });
    let cool_down = |scope: &str, until| CoolDown {
        scope: scope.to_owned(),
        full_at: at(0),
        blocked_until: at(until),
        quotas: vec![QuotaLeft { name: 7, limit: 10, remaining: 3, until: at(until) }],
        pace: None,
    };
    assert_eq!(bed.log().state().permits(&provider), PermitsState::default());
    bed.append(permits(1, PermitsChange::Opened)).await;
    bed.append(permits(2, PermitsChange::Learned(vec![cool_down("a", 50), cool_down("b\0c", 90)]))).await;
    bed.append(permits(3, PermitsChange::Learned(vec![cool_down("a", 60)]))).await;
    let expected = PermitsState {
        open: true,
        scopes: [cool_down("a", 60), cool_down("b\0c", 90)].map(|it| (it.scope.clone(), it)).into(),
    };
    assert_eq!(bed.log().state().permits(&provider), expected);
    bed.reboot();
    assert_eq!(bed.log().state().permits(&provider), expected);
    bed.log().rebuild().unwrap();
    assert_eq!(bed.log().state().permits(&provider), expected);
    assert_eq!(bed.log().read_topic("permits", None, 10).unwrap().items.len(), 3);
    // The first one is over by then.
    bed.append(permits(60, PermitsChange::Closed(Vec::new()))).await;
    let expected = PermitsState { open: false, scopes: [("b\0c".to_owned(), cool_down("b\0c", 90))].into() };
    assert_eq!(bed.log().state().permits(&provider), expected);
    bed.reboot();
    assert_eq!(bed.log().state().permits(&provider), expected);
}

#[tokio::test]
async fn a_poll_triggers_cursor_is_that_of_its_last_record() {
    let mut bed = Bed::sled();
    let trigger: TriggerId = "issues".parse().unwrap();
    let polled = |seconds: i64, cursor: &str| {
        let (trigger_id, cursor) = (trigger.clone(), cursor.to_owned());
        Record::Polled(Polled { at: at(seconds), trigger_id, cursor })
    };
    assert_eq!(bed.log().state().cursor(&trigger), None);
    bed.append(polled(10, "a")).await;
    bed.append(polled(20, "b")).await;
    let expected = Some(PollCursor { cursor: "b".to_owned(), at: at(20) });
    assert_eq!(bed.log().state().cursor(&trigger), expected);
    bed.reboot();
    assert_eq!(bed.log().state().cursor(&trigger), expected);
    bed.log().rebuild().unwrap();
    assert_eq!(bed.log().state().cursor(&trigger), expected);
    assert_eq!(bed.log().read_topic("poll", None, 10).unwrap().items.len(), 2);
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
