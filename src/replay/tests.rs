//! Replays on a log in memory.

use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::*;
use crate::config;
use crate::event_log::record::{Attempted, Next, Routed};
use crate::event_log::{EventLog, MemoryLog, NewEvent, Options};
use crate::subscription::tests::{event, function};

struct Bed {
    _dir: tempfile::TempDir,
    clock: Clock,
    log: Log,
    replayer: Replayer,
}

fn wanting(id: &str, events: &[&str], when: Option<&str>) -> config::Function {
    config::Function {
        id: id.parse().unwrap(),
        events: events.iter().map(|&glob| glob.to_owned()).collect(),
        when: when.map(str::to_owned),
        ..function()
    }
}

impl Bed {
    fn new(functions: &[config::Function]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::fixed("2026-11-23T14:00:00Z".parse().unwrap());
        let store: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        let options = Options {
            clock: clock.clone(),
            store: Some(store),
            disk_reserve_bytes: 0,
            ..Options::new(dir.path())
        };
        let log = Log::open(options).unwrap();
        let subscriptions = functions.iter().map(|function| Subscription::new(function).unwrap()).collect();
        let subscriptions = Arc::new(ArcSwap::new(Arc::new(subscriptions)));
        let replayer = Replayer::new(log.clone(), clock.clone(), subscriptions);
        Self { _dir: dir, clock, log, replayer }
    }

    /// Stores events of the kinds, received now.
    async fn events(&self, kinds: &[&str]) -> Vec<EventId> {
        self.events_received(self.clock.now(), kinds).await
    }

    async fn events_received(&self, at: Timestamp, kinds: &[&str]) -> Vec<EventId> {
        let events = kinds.iter().map(|kind| {
            let mut content = event(kind, "{\"n\": 1}").content;
            content.dedupe_key = None;
            content.received_at = at;
            NewEvent { content, window: Duration::ZERO }
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        let stored = self.log.ingest(events.collect(), deadline).await.unwrap();
        stored.into_iter().map(event_log::Ingested::id).collect()
    }

    async fn kill(&self, run: &RunId) {
        let attempted = Attempted {
            run: run.clone(),
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

    /// Tells the fold that the router came through.
    async fn route(&self) {
        let from = self.log.state().routed_through();
        let through = Position::new(*self.log.tail().borrow(), 4_095);
        let at = self.clock.now();
        let routed =
            Routed { from, through, at, functions: Vec::new(), runs: Vec::new(), skipped: Vec::new() };
        self.log.append_durable(vec![Record::Routed(routed)]).await.unwrap();
    }

    async fn one(&self, event: EventId, choice: &Choice, dry_run: bool) -> Vec<String> {
        let decisions = self.replayer.one(event, choice, dry_run).await.unwrap().unwrap();
        decisions.iter().map(show).collect()
    }

    async fn many(&self, filter: Filter) -> Progress {
        let request = Request { filter, ..Request::default() };
        self.replayer.many(&request, |_| ControlFlow::Continue(())).await.unwrap()
    }

    fn runs(&self, event: EventId) -> Vec<(String, RunState)> {
        let runs = self.log.state().runs_of(event).unwrap();
        runs.into_iter()
            .map(|run| (format!("{} {}", run.id.function, run.id.generation), run.state))
            .collect()
    }
}

fn show(decision: &Decision) -> String {
    match &decision.outcome {
        Ok(run) => format!("{} {}", decision.function, run.generation),
        Err(reason) => format!("{} not: {}", decision.function, reason.as_str()),
    }
}

fn named(functions: &[&str], force: bool) -> Choice {
    Choice { functions: functions.iter().map(|id| id.parse().unwrap()).collect(), force }
}

fn three() -> Bed {
    Bed::new(&[
        wanting("all", &[], None),
        wanting("pulls", &["pull_request.*"], None),
        wanting("never", &[], Some("event.payload.n == 2")),
    ])
}

#[tokio::test]
async fn one_event_starts_new_runs_of_those_who_want_it_each_time() {
    let bed = three();
    let id = bed.events(&["push"]).await[0];
    let all = Choice::default();
    assert_eq!(bed.one(id, &all, false).await, ["all 1", "pulls not: events", "never not: when"]);
    assert_eq!(bed.one(id, &all, false).await, ["all 2", "pulls not: events", "never not: when"]);
    let runs = bed.log.state().runs_of(id).unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].cause, Cause::Replay { replay_of: None });
    assert_eq!(runs[1].cause, Cause::Replay { replay_of: Some(runs[0].id.clone()) });
    assert!(runs.iter().all(|run| run.state == RunState::Pending));
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_starts_nothing() {
    let bed = three();
    let id = bed.events(&["push"]).await[0];
    let tail = *bed.log.tail().borrow();
    assert_eq!(
        bed.one(id, &Choice::default(), true).await,
        ["all 1", "pulls not: events", "never not: when"]
    );
    let request = Request { dry_run: true, ..Request::default() };
    let progress = bed.replayer.many(&request, |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!((progress.matched, progress.started, progress.is_done), (1, 1, true));
    assert_eq!(progress.examples.iter().map(show).collect::<Vec<_>>().len(), 3);
    assert_eq!(*bed.log.tail().borrow(), tail);
    assert!(bed.runs(id).is_empty());
}

#[tokio::test]
async fn functions_can_be_chosen_and_forced() {
    let bed = three();
    let id = bed.events(&["push"]).await[0];
    assert_eq!(bed.one(id, &named(&["pulls"], false), false).await, ["pulls not: events"]);
    assert_eq!(bed.one(id, &named(&["pulls"], true), false).await, ["pulls 1"]);
    let unknown = bed.replayer.one(id, &named(&["pull"], false), false).await;
    assert!(matches!(unknown, Err(Error::UnknownFunction(_))));
    let missing = EventId::from_bits(id.bits() ^ 1);
    assert_eq!(bed.replayer.one(missing, &Choice::default(), false).await.unwrap(), None);
}

#[tokio::test]
async fn replays_at_the_same_moment_are_runs_of_their_own() {
    let bed = three();
    let id = bed.events(&["push"]).await[0];
    let all = Choice::default();
    let one = || bed.replayer.one(id, &all, false);
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(bed.runs(id).len(), 3);
}

#[tokio::test]
async fn a_range_takes_what_was_released_from_the_quarantine_long_after_it_came() {
    let bed = three();
    let came = bed.clock.now();
    bed.clock.set(came + Duration::from_secs(86_400));
    bed.events(&["push"]).await;
    bed.events_received(came, &["push"]).await;
    let until = Some(came + Duration::from_secs(1));
    assert_eq!(bed.many(Filter { since: Some(came), until, ..Filter::default() }).await.matched, 1);
}

#[tokio::test]
async fn a_filter_takes_what_matches_all_of_it() {
    let bed = three();
    let first = bed.events(&["push", "pull_request.opened"]).await;
    bed.clock.set(bed.clock.now() + Duration::from_secs(7_200));
    let later = bed.clock.now();
    let second = bed.events(&["push", "issues"]).await;
    let glob = |kind| Some(Glob::new(kind));
    assert_eq!(bed.many(Filter { kind: glob("pu*"), ..Filter::default() }).await.matched, 3);
    assert_eq!(bed.many(Filter { since: Some(later), ..Filter::default() }).await.matched, 2);
    assert_eq!(bed.many(Filter { until: Some(later), ..Filter::default() }).await.matched, 2);
    let both = Filter { since: Some(later), kind: glob("push"), ..Filter::default() };
    assert_eq!(bed.many(both).await.matched, 1);
    let other = Filter { trigger: Some("stripe".parse().unwrap()), ..Filter::default() };
    assert_eq!(bed.many(other).await.matched, 0);
    let provider = Filter { provider: Some("github".parse().unwrap()), ..Filter::default() };
    assert_eq!(bed.many(provider).await.matched, 4);
    assert_eq!(bed.runs(first[0]).len(), 3);
    assert_eq!(bed.runs(second[0]).len(), 4);
}

#[tokio::test]
async fn a_filter_by_state_finds_the_dead() {
    let bed = three();
    let ids = bed.events(&["push", "push", "push"]).await;
    bed.many(Filter::default()).await;
    bed.route().await;
    let run = |event, generation| RunId { event, function: "all".parse().unwrap(), generation };
    bed.kill(&run(ids[1], 1)).await;
    let dead = Filter { state: Some(EventState::Dead), ..Filter::default() };
    assert_eq!(bed.many(dead.clone()).await.started, 1);
    assert_eq!(bed.runs(ids[1])[1], ("all 2".to_owned(), RunState::Pending));
    assert_eq!(bed.many(dead).await.matched, 0, "the replayed one is open");
    let of = |function: &str, state| Filter {
        function: Some(function.parse().unwrap()),
        state: Some(state),
        ..Filter::default()
    };
    assert_eq!(bed.many(of("pulls", EventState::Open)).await.matched, 0);
    assert_eq!(bed.many(of("all", EventState::Open)).await.matched, 3);
}

#[tokio::test]
async fn dead_letters_start_again_one_by_one() {
    let bed = three();
    let ids = bed.events(&["push", "push"]).await;
    bed.many(Filter::default()).await;
    let runs: Vec<_> =
        ids.iter().map(|&event| RunId { event, function: "all".parse().unwrap(), generation: 1 }).collect();
    for run in &runs {
        bed.kill(run).await;
    }
    let gone = RunId { function: "gone".parse().unwrap(), ..runs[0].clone() };
    let decisions = bed.replayer.runs(vec![runs[0].clone(), gone, runs[1].clone()]).await.unwrap();
    assert_eq!(decisions.iter().map(show).collect::<Vec<_>>(), ["all 2", "all 2"]);
}

#[tokio::test]
async fn many_go_in_slices_with_progress_and_can_be_broken_off() {
    let bed = three();
    for _ in 0..20 {
        bed.events(&["push"; 50]).await;
    }
    let mut seen = Vec::new();
    let all = Request::default();
    let progress = bed.replayer.many(&all, |progress| {
        seen.push(progress.started);
        ControlFlow::Continue(())
    });
    let progress = progress.await.unwrap();
    assert_eq!((progress.matched, progress.started), (1_000, 1_000));
    assert_eq!(progress.examples.len(), EXAMPLES_MAX);
    assert_eq!(progress.skipped.values().sum::<u64>(), 2_000);
    assert!(seen.len() >= 4 && seen.is_sorted(), "{seen:?}");
    let broken = bed.replayer.many(&all, |_| ControlFlow::Break(())).await.unwrap();
    assert!(!broken.is_done && broken.started < 1_000);
}

#[tokio::test]
async fn a_rate_spreads_the_starts() {
    let bed = three();
    bed.events(&["push"; 5]).await;
    let request = Request { per_second: Some(50.0), ..Request::default() };
    let started = Instant::now();
    bed.replayer.many(&request, |_| ControlFlow::Continue(())).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(90), "{:?}", started.elapsed());
}
