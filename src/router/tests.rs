//! The router on a log in memory.

use std::time::Instant;

use super::*;
use crate::config;
use crate::event::{EventContent, FunctionId};
use crate::event_log::record::{Attempted, Next, Switch, Switched};
use crate::event_log::{EventLog, Ingested, MemoryLog, NewEvent, Options, State};
use crate::subscription::tests::{POISON, event, function};

/// A log with a router on it.
pub(crate) struct Bed {
    _dir: tempfile::TempDir,
    options: Options,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    subscriptions: Subscriptions,
    router: Option<Router>,
}

fn subscriptions(functions: &[config::Function]) -> Arc<Vec<Subscription>> {
    Arc::new(functions.iter().map(|function| Subscription::new(function).unwrap()).collect())
}

/// A function of the given id and condition.
pub(crate) fn wanting(id: &str, events: &[&str], when: Option<&str>) -> config::Function {
    config::Function {
        id: id.parse().unwrap(),
        events: events.iter().map(|&glob| glob.to_owned()).collect(),
        when: when.map(str::to_owned),
        ..function()
    }
}

/// Waits until the fold of the log satisfies the condition.
pub(crate) async fn until(log: &Log, condition: impl Fn(&State) -> bool) {
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

impl Bed {
    pub(crate) fn new(functions: &[config::Function]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::fixed("2026-11-23T14:00:00Z".parse().unwrap());
        let store: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        let options = Options {
            clock: clock.clone(),
            store: Some(store),
            disk_reserve_bytes: 0,
            ..Options::new(dir.path())
        };
        let log = Log::open(options.clone()).unwrap();
        let subscriptions = Arc::new(arc_swap::ArcSwap::new(subscriptions(functions)));
        let mut bed = Self { _dir: dir, options, log, clock, subscriptions, router: None };
        bed.start();
        bed
    }

    fn start(&mut self) {
        let router =
            Router::start(self.log.clone(), self.clock.clone(), Arc::clone(&self.subscriptions)).unwrap();
        self.router = Some(router);
    }

    /// Stops the router, loses what was in memory, and opens the log again; the router stands.
    async fn reopen(mut self) -> Self {
        self.router = None;
        self.log.close(Instant::now() + Duration::from_secs(5)).await;
        let Self { _dir, options, log, clock, subscriptions, router: _ } = self;
        drop(log);
        let log = Log::open(options.clone()).unwrap();
        Self { _dir, options, log, clock, subscriptions, router: None }
    }

    fn ask(&self, functions: &[config::Function]) {
        self.subscriptions.store(subscriptions(functions));
    }

    pub(crate) async fn ingest(&self, contents: Vec<EventContent>) -> Vec<Ingested> {
        let window = Duration::from_secs(3_600);
        let events = contents.into_iter().map(|content| NewEvent { content, window }).collect();
        self.log.ingest(events, Instant::now() + Duration::from_secs(5)).await.unwrap()
    }

    pub(crate) async fn routed(&self, id: EventId) {
        until(&self.log, |state| state.routed_through() >= id.position()).await;
    }

    /// Sends one event of the kind and waits until it is routed.
    pub(crate) async fn event(&self, kind: &str) -> EventId {
        let mut content = event(kind, "{\"n\": 1}").content;
        content.dedupe_key = None;
        let id = self.ingest(vec![content]).await[0].id();
        self.routed(id).await;
        id
    }

    /// Each run of the event: function, generation, state and reason.
    fn runs(&self, id: EventId) -> Vec<String> {
        let runs = self.log.state().runs_of(id).unwrap();
        let show = |run: crate::event_log::Run| {
            let reason = run.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            format!("{} {} {}{reason}", run.id.function, run.id.generation, run.state)
        };
        runs.into_iter().map(show).collect()
    }

    async fn switch(&self, switch: Switch) {
        let at = self.clock.now();
        self.log.append_durable(vec![Record::Switched(Switched { at, switch })]).await.unwrap();
    }

    /// Kills the event's run of a function and generation.
    async fn kill(&self, event: EventId, function: &str, generation: u32) {
        let attempted = Attempted {
            run: RunId { event, function: function.parse().unwrap(), generation },
            attempt: 1,
            started_at: self.clock.now(),
            duration_us: 1,
            status: None,
            note: String::new(),
            answer: Bytes::new(),
            next: Next::Dead("final".to_owned()),
        };
        self.log.append_durable(vec![Record::Attempted(attempted)]).await.unwrap();
    }
}

#[tokio::test]
async fn every_function_has_a_run_or_a_reason() {
    let bed = Bed::new(&[
        wanting("all", &[], None),
        wanting("pulls", &["pull_request.*"], None),
        wanting("yes", &[], Some("event.payload.n == 1")),
        wanting("no", &[], Some("event.payload.n == 2")),
        wanting("errs", &[], Some("event.payload.missing == 1")),
        config::Function { on: vec!["stripe".parse().unwrap()], ..wanting("stripe", &[], None) },
    ]);
    let id = bed.event("push").await;
    let expected = ["all 1 pending", "errs 1 skipped when_error", "no 1 skipped when", "yes 1 pending"];
    assert_eq!(bed.runs(id), expected);
    let routing = bed.log.state().routing(id).unwrap().unwrap();
    let skipped: Vec<_> = routing.skipped.iter().map(|(id, reason)| (id.as_str(), *reason)).collect();
    assert_eq!(skipped, [("pulls", SkipReason::Events), ("stripe", SkipReason::On)]);
    assert_eq!(routing.functions.len(), 6);
}

#[tokio::test]
async fn an_event_that_nobody_wants_is_unrouted_at_once() {
    let bed = Bed::new(&[]);
    let id = bed.event("push").await;
    assert_eq!(bed.log.state().event_state(id).unwrap(), EventState::Unrouted);
    assert!(bed.log.state().routing(id).unwrap().is_some());
}

#[tokio::test]
async fn many_events_are_routed_each_once_in_bounded_records() {
    let bed = Bed::new(&[wanting("a", &[], None), wanting("b", &["x"], None)]);
    let mut ids = Vec::new();
    for batch in 0..40 {
        let contents = (0..50).map(|i| {
            let mut content = event("push", "{}").content;
            content.dedupe_key = Some(format!("{batch}-{i}"));
            content
        });
        ids.extend(bed.ingest(contents.collect()).await);
    }
    bed.routed(ids.last().unwrap().id()).await;
    for id in ids {
        assert_eq!(bed.runs(id.id()), ["a 1 pending"]);
    }
    let page = bed.log.read_topic("runs", None, 100_000).unwrap();
    for (_, record) in page.items {
        if let Record::Routed(routed) = record {
            assert!(routed.runs.len() <= 512, "{} runs in one record", routed.runs.len());
        }
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_routing_ended() {
    let mut bed = Bed::new(&[wanting("a", &[], None)]);
    let before = bed.event("push").await;
    bed.router = None;
    let mut content = event("push", "{}").content;
    content.dedupe_key = None;
    let meanwhile = bed.ingest(vec![content]).await[0].id();
    let mut bed = bed.reopen().await;
    assert!(bed.runs(meanwhile).is_empty());
    assert_eq!(bed.log.state().event_state(meanwhile).unwrap(), EventState::Open);
    bed.start();
    bed.routed(meanwhile).await;
    assert_eq!(bed.runs(meanwhile), ["a 1 pending"]);
    assert_eq!(bed.runs(before), ["a 1 pending"]);
    let after = bed.event("push").await;
    assert_eq!(bed.runs(after), ["a 1 pending"]);
}

#[tokio::test]
async fn a_poison_event_costs_its_own_run_only() {
    let bed = Bed::new(&[wanting("a", &[], Some("true")), wanting("b", &["push"], None)]);
    let poison = bed.event(POISON).await;
    let after = bed.event("push").await;
    assert_eq!(bed.runs(poison), ["a 1 skipped when_error"]);
    assert_eq!(bed.runs(after), ["a 1 pending", "b 1 pending"]);
    assert_eq!(bed.router.as_ref().unwrap().panics(), 1);
}

#[tokio::test]
async fn events_of_a_paused_trigger_are_held_until_it_is_resumed() {
    let bed = Bed::new(&[wanting("a", &[], None)]);
    let github: crate::event::TriggerId = "github".parse().unwrap();
    bed.switch(Switch::TriggerPaused(github.clone(), true)).await;
    let mut content = event("push", "{}").content;
    content.held = true;
    let id = bed.ingest(vec![content]).await[0].id();
    bed.routed(id).await;
    assert_eq!(bed.runs(id), ["a 1 waiting held"]);
    bed.switch(Switch::TriggerPaused(github, false)).await;
    assert_eq!(bed.runs(id), ["a 1 pending"]);
}

async fn redeliver(bed: &Bed, id: EventId) {
    let mut content = event("push", "{\"n\": 1}").content;
    content.dedupe_key = Some("the-key".to_owned());
    assert_eq!(bed.ingest(vec![content]).await, [Ingested::Duplicate(id)]);
    // The next event is routed after the duplicate was looked at.
    bed.event("other").await;
}

async fn first_with_key(bed: &Bed) -> EventId {
    let mut content = event("push", "{\"n\": 1}").content;
    content.dedupe_key = Some("the-key".to_owned());
    let id = bed.ingest(vec![content]).await[0].id();
    bed.routed(id).await;
    id
}

#[tokio::test]
async fn a_redelivery_starts_dead_runs_again_and_leaves_others_alone() {
    let bed = Bed::new(&[wanting("a", &["push"], None), wanting("b", &["push"], None)]);
    let id = first_with_key(&bed).await;
    redeliver(&bed, id).await;
    assert_eq!(bed.runs(id), ["a 1 pending", "b 1 pending"], "open runs go on");
    bed.kill(id, "a", 1).await;
    redeliver(&bed, id).await;
    assert_eq!(bed.runs(id), ["a 1 dead final", "b 1 pending"], "the event is open still");
    bed.kill(id, "b", 1).await;
    bed.ask(&[wanting("a", &["push"], None)]);
    redeliver(&bed, id).await;
    assert_eq!(bed.runs(id), ["a 1 dead final", "a 2 pending", "b 1 dead final"], "b is gone");
}

#[tokio::test]
async fn a_redelivery_of_an_unrouted_event_asks_again() {
    let bed = Bed::new(&[wanting("a", &["nothing"], None)]);
    let id = first_with_key(&bed).await;
    assert_eq!(bed.runs(id), [] as [&str; 0]);
    redeliver(&bed, id).await;
    assert_eq!(bed.runs(id), [] as [&str; 0]);
    bed.ask(&[wanting("a", &["nothing"], None), wanting("b", &["push"], Some("event.payload.n == 1"))]);
    redeliver(&bed, id).await;
    assert_eq!(bed.runs(id), ["b 1 pending"]);
    let run = RunId { event: id, function: FunctionId::new("b").unwrap(), generation: 1 };
    assert_eq!(bed.log.state().run(&run).unwrap().unwrap().cause, Cause::Redelivery);
}

#[tokio::test]
async fn a_duplicate_right_behind_its_event_restarts_nothing() {
    let bed = Bed::new(&[wanting("a", &["push"], None)]);
    for n in 0..50 {
        let mut content = event("push", "{}").content;
        content.dedupe_key = Some(n.to_string());
        let ingested = bed.ingest(vec![content.clone(), content]).await;
        let id = ingested[0].id();
        assert_eq!(ingested, [Ingested::Stored(id), Ingested::Duplicate(id)]);
        let duplicate = Position::new(id.position().frame(), id.position().index() + 1);
        until(&bed.log, |state| state.routed_through() >= duplicate).await;
        let runs = bed.log.state().runs_of(id).unwrap();
        assert_eq!(runs.iter().map(|run| run.cause.clone()).collect::<Vec<_>>(), [Cause::Live]);
    }
}

#[tokio::test]
async fn its_own_records_keep_the_router_busy_no_longer_than_needed() {
    let bed = Bed::new(&[wanting("a", &[], None)]);
    let id = bed.event("push").await;
    for generation in 0..600 {
        bed.kill(id, "a", generation + 1).await;
    }
    let tail = *bed.log.tail().borrow();
    let recorded = bed.log.read_topic("runs", None, 100_000).unwrap().items;
    let routed = recorded.iter().filter(|(_, record)| matches!(record, Record::Routed(_))).count();
    assert!(routed <= 4, "{routed} records of the router over {tail} frames");
}
