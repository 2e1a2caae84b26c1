//! Dispatchers on a real log, with handlers that the tests script.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor as _, Addr};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::dispatcher::Look;
use super::*;
use crate::clock::Clock;
use crate::config::{self, Backoff, Concurrency, Retry};
use crate::event::{EventId, RunId, RunState, Timestamp};
use crate::event_log::record::{
    Cause, Controlled, Created, NewRun, Record, RunAction, Start, Switch, Switched,
};
use crate::event_log::{Appended, EventLog, Log, MemoryLog, NewEvent, Options, Run, State};
use crate::function::{Answer, Handler, Invocation, Verdict};
use crate::subscription::tests::{event, function};

type Call = dyn Fn(Invocation) -> BoxFuture<'static, Answer> + Send + Sync;

/// A handler that does what a test says, and counts.
struct Scripted {
    calls: AtomicUsize,
    call: Box<Call>,
}

#[async_trait]
impl Handler for Scripted {
    async fn call(&self, invocation: Invocation) -> Answer {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.call)(invocation).await
    }
}

impl Scripted {
    fn new<F>(call: impl Fn(Invocation) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Arc::new(Self { calls: AtomicUsize::new(0), call: Box::new(move |it| Box::pin(call(it))) })
    }

    fn always(verdict: Verdict) -> Arc<Self> {
        Self::new(move |_| std::future::ready(answer(verdict.clone())))
    }

    /// Answers only as far as the test gives permits.
    fn gated(gate: &Arc<Semaphore>) -> Arc<Self> {
        let gate = Arc::clone(gate);
        Self::new(move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("never closed").forget();
                answer(Verdict::Done)
            }
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn answer(verdict: Verdict) -> Answer {
    Answer { verdict, status: Some(200), note: "a note".to_owned(), answer: Bytes::from_static(b"result") }
}

const RETRY: Verdict = Verdict::Retry { after: None };

/// A log with a clock that stands until a test moves it.
struct Bed {
    dir: tempfile::TempDir,
    store: Option<MemoryLog>,
    clock: Clock,
    log: Log,
}

fn start_time() -> Timestamp {
    "2026-11-23T14:00:00Z".parse().unwrap()
}

fn open(dir: &tempfile::TempDir, store: Option<&MemoryLog>, clock: &Clock) -> Log {
    let store = store.map(|store| Arc::new(store.clone()) as Arc<dyn EventLog>);
    let options = Options { clock: clock.clone(), store, disk_reserve_bytes: 0, ..Options::new(dir.path()) };
    Log::open(options).unwrap()
}

impl Bed {
    fn memory() -> Self {
        Self::new(Some(MemoryLog::new()))
    }

    fn sled() -> Self {
        Self::new(None)
    }

    fn new(store: Option<MemoryLog>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(start_time());
        let log = open(&dir, store.as_ref(), &clock);
        Self { dir, store, clock, log }
    }

    async fn reopen(self) -> Self {
        let Self { dir, store, clock, log } = self;
        log.close(Instant::now() + Duration::from_secs(5)).await;
        drop(log);
        let log = open(&dir, store.as_ref(), &clock);
        Self { dir, store, clock, log }
    }

    /// Stores an event with the body and creates a run of each function, due at the given time.
    async fn run_at(&self, body: &str, functions: &[&str], due: Timestamp) -> Vec<RunId> {
        let mut content = event("push", body).content;
        content.dedupe_key = None;
        let events = vec![NewEvent { content, window: Duration::ZERO }];
        let deadline = Instant::now() + Duration::from_secs(5);
        let id = self.log.ingest(events, deadline).await.unwrap()[0].id();
        let runs: Vec<_> = functions.iter().map(|function| run_of(id, function)).collect();
        self.create(runs.clone(), due).await;
        runs
    }

    async fn create(&self, runs: Vec<RunId>, due: Timestamp) {
        let runs = runs.into_iter().map(|id| NewRun {
            id,
            trigger_id: "github".parse().unwrap(),
            kind: "push".to_owned(),
            cause: Cause::Live,
            start: Start::Due(due),
        });
        let created = Created { at: self.clock.now(), runs: runs.collect() };
        self.log.append_durable(vec![Record::Created(created)]).await.unwrap();
    }

    async fn run(&self, function: &str) -> RunId {
        self.run_at("{}", &[function], self.clock.now()).await.remove(0)
    }

    fn dispatch(&self, function: config::Function, handler: &Arc<Scripted>) -> (Dispatch, Addr<Dispatcher>) {
        let handler: Arc<dyn Handler> = Arc::clone(handler) as _;
        let dispatch = Dispatch::new(self.log.clone(), self.clock.clone(), function, handler).unwrap();
        let addr = dispatch.dispatcher(()).start();
        (dispatch, addr)
    }

    fn look_at(&self, run: &RunId) -> Run {
        self.log.state().run(run).unwrap().unwrap()
    }

    /// Waits until the run is in the state.
    async fn until(&self, run: &RunId, state: RunState) {
        until(&self.log, |log| log.run(run).unwrap().unwrap().state == state).await;
    }

    fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now() + time);
    }
}

/// Waits until the fold of the log satisfies the condition.
async fn until(log: &Log, condition: impl Fn(&State) -> bool) {
    let mut tail = log.tail();
    let waiting = async {
        loop {
            let last = *tail.borrow_and_update();
            log.folded(last).await.unwrap();
            if condition(log.state()) {
                return;
            }
            tail.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the condition comes true");
}

/// Waits for something that no record tells of.
async fn eventually(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the condition comes true");
}

/// Has the dispatcher start all that may start now: what it has not in flight then, it does not start.
async fn look(dispatch: &Dispatch, addr: &Addr<Dispatcher>) {
    // Runs with a key are started by a second look, when their keys were read.
    for _ in 0..2 {
        addr.send(Look).await.unwrap();
        eventually(|| dispatch.0.core.lock().keying.is_none()).await;
    }
}

/// As [`look`]; waits until what was started has ended.
async fn look_through(dispatch: &Dispatch, addr: &Addr<Dispatcher>) {
    look(dispatch, addr).await;
    eventually(|| dispatch.snapshot().in_flight == 0).await;
}

/// Drops the last address of a dispatcher; waits until nothing is left that has the log.
async fn end(dispatch: Dispatch, addr: Addr<Dispatcher>) {
    drop(addr);
    eventually(|| Arc::strong_count(&dispatch.0) == 1).await;
}

fn run_of(event: EventId, function: &str) -> RunId {
    RunId { event, function: function.parse().unwrap(), generation: 1 }
}

fn called(id: &str) -> config::Function {
    config::Function {
        id: id.parse().unwrap(),
        retry: Retry { attempts: 3, backoff: Backoff::None },
        ..function()
    }
}

fn test(future: impl Future<Output = ()>) {
    actix::System::new().block_on(future);
}

#[test]
fn a_due_run_is_called_once_and_its_end_recorded() {
    test(async {
        let bed = Bed::sled();
        let handler = Scripted::always(Verdict::Done);
        let (dispatch, _addr) = bed.dispatch(called("f"), &handler);
        let run = bed.run("f").await;
        bed.until(&run, RunState::Succeeded).await;
        let run = bed.look_at(&run);
        assert_eq!((run.attempts, run.history[0].status), (1, Some(200)));
        assert_eq!(run.history[0].note, "a note");
        let Some(Record::Attempted(attempted)) = bed.log.record(run.history[0].position).unwrap() else {
            panic!("the history names the record");
        };
        assert_eq!(attempted.answer, "result");
        eventually(|| dispatch.snapshot().in_flight == 0).await;
        assert_eq!(handler.calls(), 1);
    });
}

#[test]
fn failures_go_through_their_attempts_to_the_dead_letters() {
    test(async {
        let bed = Bed::memory();
        let handler = Scripted::always(RETRY);
        let (_dispatch, _addr) = bed.dispatch(called("f"), &handler);
        let runs = [bed.run("f").await, bed.run("f").await, bed.run("f").await, bed.run("f").await];
        for run in &runs {
            bed.until(run, RunState::Dead).await;
            let run = bed.look_at(run);
            assert_eq!(run.reason.as_deref(), Some(ATTEMPTS_EXHAUSTED));
            let attempts: Vec<_> = run.history.iter().map(|attempt| attempt.attempt).collect();
            assert_eq!(attempts, [1, 2, 3]);
        }
        assert_eq!(handler.calls(), 12);
    });
}

#[test]
fn a_final_refusal_is_dead_at_once() {
    test(async {
        let bed = Bed::memory();
        let handler = Scripted::always(Verdict::Fail);
        let (_dispatch, _addr) = bed.dispatch(called("f"), &handler);
        let run = bed.run("f").await;
        bed.until(&run, RunState::Dead).await;
        assert_eq!(bed.look_at(&run).reason.as_deref(), Some(FINAL));
        assert_eq!(handler.calls(), 1);
    });
}

#[test]
fn a_retry_waits_for_its_time() {
    test(async {
        let bed = Bed::memory();
        let handler = Scripted::always(Verdict::Retry { after: Some(Duration::from_secs(60)) });
        let (dispatch, addr) = bed.dispatch(called("f"), &handler);
        let run = bed.run("f").await;
        until(&bed.log, |state| state.run(&run).unwrap().unwrap().attempts == 1).await;
        bed.pass(Duration::from_secs(59));
        look_through(&dispatch, &addr).await;
        assert_eq!(handler.calls(), 1);
        bed.pass(Duration::from_secs(14));
        dispatch.0.wake.notify_one();
        until(&bed.log, |state| state.run(&run).unwrap().unwrap().attempts == 2).await;
    });
}

#[test]
fn the_timer_starts_what_comes_due() {
    test(async {
        let mut bed = Bed::memory();
        bed.clock = Clock::system();
        let handler = Scripted::always(Verdict::Done);
        let (_dispatch, _addr) = bed.dispatch(called("f"), &handler);
        let due = bed.clock.now() + Duration::from_millis(300);
        let run = bed.run_at("{}", &["f"], due).await.remove(0);
        bed.until(&run, RunState::Succeeded).await;
        let started = bed.look_at(&run).history[0].started_at;
        assert!(started.as_millisecond() >= due.as_millisecond(), "{started} is before {due}");
    });
}

#[test]
fn a_panic_costs_its_attempt_and_is_recorded() {
    test(async {
        let bed = Bed::memory();
        let handler = Scripted::new(|invocation: Invocation| async move {
            assert!(invocation.attempt > 1, "on purpose");
            answer(Verdict::Done)
        });
        let (dispatch, _addr) = bed.dispatch(called("f"), &handler);
        let run = bed.run("f").await;
        bed.until(&run, RunState::Succeeded).await;
        let run = bed.look_at(&run);
        assert_eq!(run.history[0].note, "the handler panicked: on purpose");
        assert_eq!(run.attempts, 2);
        assert_eq!(dispatch.snapshot().panics, 1);
    });
}

#[test]
fn an_attempt_ends_at_its_timeout() {
    test(async {
        let bed = Bed::memory();
        let handler = Scripted::new(|_| std::future::pending());
        let function = config::Function { timeout: Duration::from_millis(20), ..called("f") };
        let (_dispatch, _addr) = bed.dispatch(function, &handler);
        let run = bed.run("f").await;
        bed.until(&run, RunState::Dead).await;
        assert_eq!(bed.look_at(&run).history[0].note, "timed out after 20ms");
    });
}

#[test]
fn a_function_that_hangs_delays_no_other() {
    test(async {
        let bed = Bed::memory();
        let hanging = Scripted::new(|_| std::future::pending());
        let dead = Scripted::always(RETRY);
        let working = Scripted::always(Verdict::Done);
        let (_a, _a_addr) = bed.dispatch(called("hangs"), &hanging);
        let (_b, _b_addr) = bed.dispatch(called("fails"), &dead);
        let (_c, _c_addr) = bed.dispatch(called("works"), &working);
        let mut last = Vec::new();
        for _ in 0..50 {
            last = bed.run_at("{}", &["hangs", "fails", "works"], bed.clock.now()).await;
        }
        bed.until(&last[2], RunState::Succeeded).await;
        eventually(|| working.calls() == 50).await;
        assert_eq!(hanging.calls(), 4, "no more than its limit");
    });
}

#[test]
fn concurrency_is_limited_for_each_key() {
    test(async {
        let bed = Bed::memory();
        let gate = Arc::new(Semaphore::new(0));
        let handler = Scripted::gated(&gate);
        let concurrency = Concurrency { limit: 2, key: Some("event.payload.of".to_owned()) };
        let (dispatch, addr) = bed.dispatch(config::Function { concurrency, ..called("f") }, &handler);
        let mut runs = Vec::new();
        for of in ["a", "a", "a", "b", "a", "b", "b"] {
            let body = format!("{{\"of\": \"{of}\"}}");
            runs.extend(bed.run_at(&body, &["f"], bed.clock.now()).await);
        }
        eventually(|| handler.calls() == 4).await;
        look(&dispatch, &addr).await;
        assert_eq!((handler.calls(), dispatch.snapshot().in_flight), (4, 4));
        gate.add_permits(100);
        for run in &runs {
            bed.until(run, RunState::Succeeded).await;
        }
        assert_eq!(handler.calls(), 7);
    });
}

#[test]
fn a_run_that_is_cancelled_while_it_waits_for_its_key_is_not_called() {
    test(async {
        let bed = Bed::memory();
        let gate = Arc::new(Semaphore::new(0));
        let handler = Scripted::gated(&gate);
        let concurrency = Concurrency { limit: 1, key: Some("event.kind".to_owned()) };
        let (_dispatch, _addr) = bed.dispatch(config::Function { concurrency, ..called("f") }, &handler);
        let first = bed.run("f").await;
        let second = bed.run("f").await;
        let third = bed.run("f").await;
        eventually(|| handler.calls() == 1).await;
        let cancel = Controlled { run: second.clone(), at: bed.clock.now(), action: RunAction::Cancel };
        bed.log.append_durable(vec![Record::Controlled(cancel)]).await.unwrap();
        gate.add_permits(100);
        bed.until(&first, RunState::Succeeded).await;
        bed.until(&third, RunState::Succeeded).await;
        assert_eq!(bed.look_at(&second).state, RunState::Cancelled);
        assert_eq!(handler.calls(), 2);
    });
}

#[test]
fn ten_thousand_far_runs_cost_no_wake_up() {
    test(async {
        let bed = Bed::memory();
        let run = bed.run("other").await;
        let far = bed.clock.now() + Duration::from_secs(365 * 86_400);
        for stretch in 0..10 {
            let runs =
                (0..1_000).map(|i| RunId { generation: stretch * 1_000 + i + 2, ..run_of(run.event, "f") });
            bed.create(runs.collect(), far).await;
        }
        let handler = Scripted::always(Verdict::Done);
        let (dispatch, _addr) = bed.dispatch(called("f"), &handler);
        eventually(|| dispatch.snapshot().looks > 0).await;
        let before = dispatch.snapshot().looks;
        assert!(before <= 2, "{before}");
        let near = bed.run("f").await;
        bed.until(&near, RunState::Succeeded).await;
        assert_eq!(handler.calls(), 1);
        let looks = dispatch.snapshot().looks;
        assert!(
            looks <= before + 5,
            "{looks}: one for the near run, and one each when it ended and came back"
        );
    });
}

#[test]
fn a_paused_function_takes_nothing_until_it_is_resumed() {
    test(async {
        let bed = Bed::memory();
        let pause = |paused| {
            let switch = Switch::FunctionPaused("f".parse().unwrap(), paused);
            vec![Record::Switched(Switched { at: start_time(), switch })]
        };
        bed.log.append_durable(pause(true)).await.unwrap();
        let handler = Scripted::always(Verdict::Done);
        let (dispatch, addr) = bed.dispatch(called("f"), &handler);
        let run = bed.run("f").await;
        look_through(&dispatch, &addr).await;
        assert_eq!(handler.calls(), 0);
        let parked = bed.look_at(&run);
        assert_eq!((parked.state, parked.reason.as_deref()), (RunState::Waiting, Some("paused")));
        bed.log.append_durable(pause(false)).await.unwrap();
        bed.until(&run, RunState::Succeeded).await;
    });
}

#[test]
fn a_rebuilt_dispatcher_loses_nothing_and_repeats_nothing() {
    test(async {
        let bed = Bed::memory();
        let gate = Arc::new(Semaphore::new(0));
        let handler = Scripted::gated(&gate);
        let concurrency = Concurrency { limit: 2, key: Some("event.kind".to_owned()) };
        let (dispatch, addr) = bed.dispatch(config::Function { concurrency, ..called("f") }, &handler);
        let mut runs = Vec::new();
        for _ in 0..6 {
            runs.push(bed.run("f").await);
        }
        eventually(|| handler.calls() == 2).await;
        let ended = addr.downgrade();
        drop(addr);
        eventually(|| ended.upgrade().is_none()).await;
        let addr = dispatch.dispatcher(()).start();
        look(&dispatch, &addr).await;
        assert_eq!(dispatch.snapshot().in_flight, 2, "those in flight keep their places");
        gate.add_permits(100);
        for run in &runs {
            bed.until(run, RunState::Succeeded).await;
        }
        assert_eq!(handler.calls(), 6);
    });
}

#[test]
fn a_restart_continues_what_was_due_and_what_was_in_flight() {
    a_restart_continues(called("f"));
}

#[test]
fn a_restart_continues_what_waited_for_its_key() {
    let concurrency = Concurrency { limit: 4, key: Some("event.kind".to_owned()) };
    a_restart_continues(config::Function { concurrency, ..called("f") });
}

fn a_restart_continues(function: config::Function) {
    test(async move {
        let bed = Bed::sled();
        let hanging = Scripted::new(|_| std::future::pending());
        let (dispatch, addr) = bed.dispatch(function.clone(), &hanging);
        let mut runs = Vec::new();
        for _ in 0..6 {
            runs.push(bed.run("f").await);
        }
        eventually(|| hanging.calls() == 4).await;
        let cut_off = addr.send(Drain { timeout: Duration::from_millis(10) }).await.unwrap();
        assert_eq!(cut_off, 4);
        assert_eq!(bed.look_at(&runs[0]).state, RunState::Pending, "nothing was recorded of it");
        end(dispatch, addr).await;
        let bed = bed.reopen().await;
        let handler = Scripted::always(Verdict::Done);
        let (_dispatch, _addr) = bed.dispatch(function, &handler);
        for run in &runs {
            bed.until(run, RunState::Succeeded).await;
            assert_eq!(bed.look_at(run).attempts, 1);
        }
    });
}

#[test]
fn draining_lets_what_is_in_flight_finish_and_takes_nothing_more() {
    test(async {
        let bed = Bed::memory();
        let gate = Arc::new(Semaphore::new(0));
        let handler = Scripted::gated(&gate);
        let function = config::Function { concurrency: Concurrency { limit: 1, key: None }, ..called("f") };
        let (dispatch, addr) = bed.dispatch(function, &handler);
        let first = bed.run("f").await;
        let second = bed.run("f").await;
        eventually(|| handler.calls() == 1).await;
        let drained = addr.send(Drain { timeout: Duration::from_secs(5) });
        gate.add_permits(100);
        assert_eq!(drained.await.unwrap(), 0);
        bed.until(&first, RunState::Succeeded).await;
        look_through(&dispatch, &addr).await;
        assert_eq!(bed.look_at(&second).state, RunState::Pending);
        assert_eq!(handler.calls(), 1);
    });
}

/// Runs `count` runs of `f` into a breaker that opens.
async fn open_breaker(bed: &Bed, count: usize) -> (Dispatch, Addr<Dispatcher>, Arc<Scripted>, Vec<RunId>) {
    let handler = Scripted::always(Verdict::Retry { after: Some(Duration::from_secs(3)) });
    let retry = Retry { attempts: 100, backoff: Backoff::None };
    let (dispatch, addr) = bed.dispatch(config::Function { retry, ..called("f") }, &handler);
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(bed.run("f").await);
    }
    for run in &runs {
        until(&bed.log, |state| state.run(run).unwrap().unwrap().attempts == 1).await;
    }
    assert_eq!(dispatch.snapshot().open_until, None, "a burst does not open it");
    bed.pass(Duration::from_secs(4));
    dispatch.0.wake.notify_one();
    until(&bed.log, |state| state.function(&"f".parse().unwrap()).open_until.is_some()).await;
    (dispatch, addr, handler, runs)
}

#[test]
fn an_open_breaker_parks_runs_without_spending_attempts() {
    test(async {
        let bed = Bed::memory();
        let (dispatch, addr, handler, _runs) = open_breaker(&bed, 20).await;
        look_through(&dispatch, &addr).await;
        let calls = handler.calls();
        assert!((21..=24).contains(&calls), "{calls}: it opened with the first failures after the pause");
        for _ in 0..3 {
            let parked = bed.look_at(&bed.run("f").await);
            assert_eq!((parked.state, parked.reason.as_deref()), (RunState::Waiting, Some("breaker")));
            bed.pass(Duration::from_secs(1));
            dispatch.0.wake.notify_one();
        }
        look_through(&dispatch, &addr).await;
        assert_eq!(handler.calls(), calls);
        bed.pass(Duration::from_secs(10));
        dispatch.0.wake.notify_one();
        until(&bed.log, |state| state.function(&"f".parse().unwrap()).opened == 2).await;
        look_through(&dispatch, &addr).await;
        assert_eq!(handler.calls(), calls + 1, "one probe");
    });
}

#[test]
fn a_restart_keeps_the_breaker_open_and_a_good_probe_lets_all_go() {
    test(async {
        let bed = Bed::memory();
        let (dispatch, addr, _handler, runs) = open_breaker(&bed, 12).await;
        addr.send(Drain { timeout: Duration::from_secs(5) }).await.unwrap();
        end(dispatch, addr).await;
        let bed = bed.reopen().await;
        let handler = Scripted::always(Verdict::Done);
        let (dispatch, addr) = bed.dispatch(called("f"), &handler);
        bed.pass(Duration::from_secs(5));
        look_through(&dispatch, &addr).await;
        assert_eq!(handler.calls(), 0);
        assert!(dispatch.snapshot().open_until.is_some());
        bed.pass(Duration::from_secs(10));
        dispatch.0.wake.notify_one();
        for run in &runs {
            bed.until(run, RunState::Succeeded).await;
        }
        until(&bed.log, |state| state.function(&"f".parse().unwrap()).open_until.is_none()).await;
        assert_eq!(handler.calls(), 12);
    });
}

#[test]
fn while_the_log_takes_nothing_a_run_stays_in_flight_and_is_not_repeated() {
    test(async {
        let bed = Bed::memory();
        let gate = Arc::new(Semaphore::new(0));
        let handler = Scripted::gated(&gate);
        let (dispatch, addr) = bed.dispatch(called("f"), &handler);
        bed.run("f").await;
        eventually(|| handler.calls() == 1).await;
        let broken = Appended::Unknown("the device is gone".to_owned());
        bed.store.as_ref().unwrap().refuse(Some(broken));
        let lost = Record::Switched(Switched {
            at: start_time(),
            switch: Switch::FunctionPaused("other".parse().unwrap(), true),
        });
        assert!(bed.log.append_durable(vec![lost]).await.is_err());
        gate.add_permits(100);
        eventually(|| dispatch.snapshot().attempts == 1).await;
        look(&dispatch, &addr).await;
        assert_eq!((handler.calls(), dispatch.snapshot().in_flight), (1, 1));
        assert_eq!(addr.send(Drain { timeout: Duration::from_millis(10) }).await.unwrap(), 1);
    });
}

#[test]
fn an_event_that_is_gone_is_a_dead_letter() {
    test(async {
        let bed = Bed::memory();
        let handler = Scripted::always(Verdict::Done);
        let (_dispatch, _addr) = bed.dispatch(called("f"), &handler);
        let other = bed.run("other").await;
        let gone = EventId::from_bits(other.event.bits() ^ 1);
        let run = run_of(gone, "f");
        bed.create(vec![run.clone()], bed.clock.now()).await;
        bed.until(&run, RunState::Dead).await;
        assert_eq!(bed.look_at(&run).reason.as_deref(), Some(BODY_MISSING));
        assert_eq!(handler.calls(), 0);
    });
}
