//! Cron triggers on a clock that jumps: ticks, restarts, downtime, changes of summer time.

use std::sync::Arc;
use std::time::Instant;

use actix::Arbiter;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::catalog::ProviderCatalog;
use crate::config::{Dedupe, TriggerKind};
use crate::connector::ConnectorRegistry;
use crate::event::{EventContent, Origin, SignatureStatus};
use crate::event_log::{EventScan, Log, Options};
use crate::provider::{Callbacks, Change, ProviderHandle};
use crate::schedule::{COUNT_MAX, Schedule, Zone};
use crate::secrets::Vault;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(expression: &str, zone: &str, catchup: Catchup) -> Cron {
    Cron { schedule: Schedule::parse(expression, Zone::find(zone).unwrap()).unwrap(), catchup }
}

/// Times of the plan on `10 * * * *` in UTC: made up ones, and those that were kept.
#[track_caller]
fn check_plan(catchup: Catchup, (through, now, started_at): (&str, &str, &str), expected: Value) {
    let plan = plan(&cron("10 * * * *", "UTC", catchup), at(through), at(now), at(started_at));
    let of = |catchup| plan.ticks.iter().filter(move |tick| tick.catchup == catchup).map(|tick| tick.at);
    let missed =
        plan.missed.as_ref().map(|it| json!([it.first, it.last, it.count, it.made_up, it.given_up_through]));
    let (made_up, kept): (Vec<_>, Vec<_>) = (of(true).collect(), of(false).collect());
    assert_eq!(json!({"missed": missed, "made_up": made_up, "kept": kept}), expected);
}

#[test]
fn what_was_due_before_the_start_is_missed_and_made_up_for_as_configured() {
    let down = ("2026-11-23T10:10:00Z", "2026-11-23T13:30:00.5Z", "2026-11-23T13:30:00.5Z");
    let (first, second, last) = ("2026-11-23T11:10:00Z", "2026-11-23T12:10:00Z", "2026-11-23T13:10:00Z");
    check_plan(Catchup::Skip, down, json!({"missed": [first, last, 3, 0, last], "made_up": [], "kept": []}));
    check_plan(
        Catchup::Latest,
        down,
        json!({"missed": [first, last, 3, 1, second], "made_up": [last], "kept": []}),
    );
    check_plan(
        Catchup::All,
        down,
        json!({"missed": [first, last, 3, 3, null], "made_up": [first, second, last], "kept": []}),
    );
}

#[test]
fn what_is_due_in_the_second_of_the_start_or_a_little_late_is_kept() {
    let tick = "2026-11-23T11:10:00Z";
    let kept = json!({"missed": null, "made_up": [], "kept": [tick]});
    let through = "2026-11-23T10:10:00Z";
    check_plan(Catchup::Skip, (through, "2026-11-23T11:10:00.9Z", "2026-11-23T11:10:00.8Z"), kept.clone());
    check_plan(Catchup::Skip, (through, "2026-11-23T11:10:59Z", "2026-11-20T00:00:00Z"), kept);
    let missed = json!({"missed": [tick, tick, 1, 0, tick], "made_up": [], "kept": []});
    check_plan(Catchup::Skip, (through, "2026-11-23T11:10:01Z", "2026-11-23T11:10:01Z"), missed.clone());
    // The machine slept, or the clock leapt.
    check_plan(Catchup::Skip, (through, "2026-11-23T11:11:01Z", "2026-11-20T00:00:00Z"), missed);
    check_plan(
        Catchup::Skip,
        (tick, "2026-11-23T11:11:01Z", "2026-11-20T00:00:00Z"),
        json!({"missed": null, "made_up": [], "kept": []}),
    );
}

#[test]
fn making_up_for_ticks_and_counting_them_is_bounded() {
    let every_second = cron("* * * * * *", "UTC", Catchup::All);
    let now = at("2026-11-23T00:00:00Z");
    let plan = plan(&every_second, at("2026-11-01T00:00:00Z"), now, now);
    let missed = plan.missed.unwrap();
    assert_eq!((missed.count, missed.made_up), (COUNT_MAX, CATCHUP_MAX as u64));
    assert_eq!(missed.given_up_through, Some(at("2026-11-22T23:43:19Z")));
    assert_eq!(plan.ticks.len(), CATCHUP_MAX + 1);
    assert_eq!(plan.ticks.last(), Some(&Tick { at: now, catchup: false }));
}

/// A provider `cron` with a trigger `nightly`, on a clock that stands still.
struct House {
    folder: TempDir,
    clock: Clock,
    log: Log,
    provider: ProviderHandle,
}

impl House {
    async fn open(cron: &Cron, now: &str) -> Self {
        Self::open_in(TempDir::new().unwrap(), cron, Clock::fixed(at(now))).await
    }

    async fn open_in(folder: TempDir, cron: &Cron, clock: Clock) -> Self {
        let log = Log::open(Options { clock: clock.clone(), ..Options::new(folder.path()) }).unwrap();
        let entry = ProviderCatalog::built_in().get("cron").unwrap().clone();
        let trigger = Trigger {
            id: "nightly".parse().unwrap(),
            provider: entry.id.clone(),
            kind: TriggerKind::Cron(Box::new(cron.clone())),
            path: String::new(),
            secrets: Default::default(),
            tolerance: None,
            dedupe_window: Trigger::DEDUPE_WINDOW,
            dedupe: Dedupe::Delivery,
            rate_limit: None,
            settings: Default::default(),
            public_keys: Vec::new(),
        };
        let fixed = Fixed {
            path: String::new(),
            methods: Vec::new(),
            dedupe_window: trigger.dedupe_window,
            ack: None,
            body_limit: 0,
            ack_deadline: Duration::ZERO,
            bucket: None,
            credentials: Default::default(),
            entry: entry.clone(),
            last_good: Default::default(),
            gate: Default::default(),
            counters: Default::default(),
            polling: Default::default(),
        };
        let deps = Deps {
            log: log.clone(),
            clock: clock.clone(),
            entry,
            vault: Arc::new(Vault::new(folder.path())),
            permits: crate::permits::RateLimiterFactory::new(clock.clone()),
            public_url: None,
            secret_news: Default::default(),
            registry: ConnectorRegistry::new(ProviderCatalog::built_in()),
            callbacks: Callbacks::on(Arbiter::current()),
            outbound: Arc::new(crate::outbound::Client::new(&Default::default()).unwrap()),
            triggers: vec![(Arc::new(trigger), Arc::new(fixed))],
        };
        let provider = ProviderHandle::start(deps, &Arbiter::current());
        let house = Self { folder, clock, log, provider };
        house.until(|house| house.log.state().schedule(&house.id()).is_some()).await;
        house
    }

    /// Ends everything at a time and starts it again at another.
    async fn reopen(self, cron: &Cron, now: &str) -> Self {
        let Self { folder, clock, log, provider } = self;
        provider.stop(Duration::from_secs(1)).await;
        log.close(Instant::now() + Duration::from_secs(60)).await;
        drop((log, provider));
        // The actor's future holds the log until the arbiter has dropped it.
        while Log::open_reader(folder.path()).is_err() {
            tokio::task::yield_now().await;
        }
        clock.set(at(now));
        Self::open_in(folder, cron, clock).await
    }

    fn id(&self) -> TriggerId {
        "nightly".parse().unwrap()
    }

    /// Waits for something that the log will have.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
        let mut tail = self.log.tail();
        while !done(self) {
            let moved = tokio::time::timeout(Duration::from_secs(30), tail.changed()).await;
            moved.expect("the log has it within 30 s").unwrap();
            let seen = *tail.borrow_and_update();
            self.log.folded(seen).await.unwrap();
        }
    }

    fn contents(&self) -> Vec<EventContent> {
        let scan = EventScan { limit: 2_000, scan_max: 2_000 };
        let events = self.log.events_after(None, scan, |_| true).unwrap().items;
        events.iter().map(|event| event.content.clone()).collect()
    }

    /// The scheduled times of all events.
    fn ticks(&self) -> Vec<String> {
        self.contents().iter().map(|content| content.tick().unwrap().to_string()).collect()
    }

    /// Moves the clock, and waits until there are so many ticks.
    async fn jump(&self, now: &str, ticks: usize) {
        self.clock.set(at(now));
        self.until(|house| house.contents().len() >= ticks).await;
    }

    fn missed(&self) -> Vec<Missed> {
        let topic = self.log.read_topic("cron", None, 100).unwrap();
        let missed = topic.items.into_iter().filter_map(|(_, record)| match record {
            Record::Cron(record::Cron { change: CronChange::Missed(missed), .. }) => Some(missed),
            _ => None,
        });
        missed.collect()
    }
}

#[actix::test]
async fn each_tick_is_an_event_with_its_time_as_key_and_payload() {
    let house = House::open(&cron("0 3 * * *", "Europe/Zurich", Catchup::Skip), "2026-11-23T12:00:00Z").await;
    house.jump("2026-11-24T02:00:00.25Z", 1).await;
    let content = house.contents().remove(0);
    assert_eq!(content.kind, "cron.tick");
    assert_eq!(content.origin, Origin::Live);
    assert_eq!(content.signature_status, SignatureStatus::Unsigned);
    assert_eq!(content.received_at, at("2026-11-24T02:00:00.25Z"));
    assert_eq!(content.occurred_at, Some(at("2026-11-24T02:00:00Z")));
    assert_eq!(content.dedupe_key.as_deref(), Some("2026-11-24T02:00:00Z"));
    assert_eq!(content.header("content-type").as_deref(), Some("application/json"));
    let Body::Inline(body) = &content.body else { panic!("a payload is short") };
    let payload: Value = serde_json::from_slice(body).unwrap();
    let expected = json!({"scheduled_at": "2026-11-24T02:00:00Z", "cron_id": "nightly", "catchup": false});
    assert_eq!(payload, expected);
    house.jump("2026-11-25T02:00:00Z", 2).await;
    assert_eq!(house.ticks(), ["2026-11-24T02:00:00Z", "2026-11-25T02:00:00Z"]);
    assert_eq!(house.missed(), []);
}

#[actix::test]
async fn ticks_go_on_over_both_changes_of_summer_time() {
    for (zone, now, expected) in [
        ("Europe/Zurich", "2026-03-28T12:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        ("Europe/Zurich", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("America/New_York", "2026-03-07T12:00:00Z", ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]),
    ] {
        let house = House::open(&cron("30 2 * * *", zone, Catchup::Skip), now).await;
        for (i, tick) in expected.iter().enumerate() {
            house.jump(tick, i + 1).await;
        }
        assert_eq!(house.ticks(), expected, "{zone}");
        assert_eq!(house.missed(), []);
    }
}

#[actix::test]
async fn nothing_ticks_twice_or_is_lost_over_restarts() {
    let every_minute = cron("* * * * *", "UTC", Catchup::Skip);
    let mut house = House::open(&every_minute, "2026-11-23T12:00:30Z").await;
    house.jump("2026-11-23T12:01:00.1Z", 1).await;
    // In the same second, and again before the next tick.
    house = house.reopen(&every_minute, "2026-11-23T12:01:00.4Z").await;
    house = house.reopen(&every_minute, "2026-11-23T12:01:59.9Z").await;
    house.jump("2026-11-23T12:02:00Z", 2).await;
    // A tick is due in the very second of the start.
    house = house.reopen(&every_minute, "2026-11-23T12:03:00.7Z").await;
    house.until(|house| house.contents().len() >= 3).await;
    house.jump("2026-11-23T12:04:00Z", 4).await;
    let expected = [1, 2, 3, 4].map(|minute| format!("2026-11-23T12:0{minute}:00Z"));
    assert_eq!(house.ticks(), expected);
    assert_eq!(house.missed(), []);
}

async fn check_catchup(catchup: Catchup, made_up: &[&str], given_up_through: Option<&str>) {
    let hourly = cron("0 * * * *", "UTC", catchup);
    let house = House::open(&hourly, "2026-11-23T08:30:00Z").await;
    let house = house.reopen(&hourly, "2026-11-23T11:30:00Z").await;
    house.until(|house| !house.missed().is_empty() && house.contents().len() >= made_up.len()).await;
    house.jump("2026-11-23T12:00:00Z", made_up.len() + 1).await;
    // The next start has nothing to make up for.
    let house = house.reopen(&hourly, "2026-11-23T12:30:00Z").await;
    house.jump("2026-11-23T13:00:00Z", made_up.len() + 2).await;
    let kept = ["2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"];
    assert_eq!(house.ticks(), [made_up, &kept].concat());
    let missed = Missed {
        first: at("2026-11-23T09:00:00Z"),
        last: at("2026-11-23T11:00:00Z"),
        count: 3,
        made_up: made_up.len() as u64,
        given_up_through: given_up_through.map(at),
    };
    assert_eq!(house.missed(), [missed]);
    let state = house.log.state().schedule(&house.id()).unwrap();
    assert_eq!((state.missed, state.last_tick), (3 - made_up.len() as u64, Some(at(kept[1]))));
    let is_made_up = |content: &EventContent| {
        let Body::Inline(body) = &content.body else { panic!("a payload is short") };
        serde_json::from_slice::<Value>(body).unwrap()["catchup"] == json!(true)
    };
    assert_eq!(house.contents().iter().filter(|content| is_made_up(content)).count(), made_up.len());
}

#[actix::test]
async fn skip_gives_missed_ticks_up_and_records_them() {
    check_catchup(Catchup::Skip, &[], Some("2026-11-23T11:00:00Z")).await;
}

#[actix::test]
async fn latest_makes_up_for_the_last_missed_tick() {
    check_catchup(Catchup::Latest, &["2026-11-23T11:00:00Z"], Some("2026-11-23T10:00:00Z")).await;
}

#[actix::test]
async fn all_makes_up_for_every_missed_tick() {
    let all = ["2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z"];
    check_catchup(Catchup::All, &all, None).await;
}

#[actix::test]
async fn a_schedule_that_was_changed_counts_from_its_first_start() {
    let house = House::open(&cron("0 * * * *", "UTC", Catchup::All), "2026-11-23T08:30:00Z").await;
    let changed = cron("*/30 * * * *", "UTC", Catchup::All);
    let house = house.reopen(&changed, "2026-11-23T11:10:00Z").await;
    house
        .until(|house| house.log.state().schedule(&house.id()).unwrap().schedule == "*/30 * * * * UTC")
        .await;
    house.jump("2026-11-23T11:30:00Z", 1).await;
    assert_eq!(house.ticks(), ["2026-11-23T11:30:00Z"]);
    assert_eq!(house.missed(), []);
}

#[actix::test]
async fn ticks_of_a_paused_trigger_are_held() {
    let house = House::open(&cron("* * * * *", "UTC", Catchup::Skip), "2026-11-23T12:00:30Z").await;
    house.provider.change(&house.id(), Change::Pause).await.unwrap();
    house.jump("2026-11-23T12:01:00Z", 1).await;
    house.provider.change(&house.id(), Change::Resume).await.unwrap();
    house.jump("2026-11-23T12:02:00Z", 2).await;
    assert_eq!(house.contents().iter().map(|content| content.held).collect::<Vec<_>>(), [true, false]);
}

#[actix::test]
async fn a_rebuilt_actor_goes_on_where_the_last_one_was() {
    let house = House::open(&cron("* * * * * *", "UTC", Catchup::Skip), "2026-11-23T12:00:00.5Z").await;
    house.jump("2026-11-23T12:00:01Z", 1).await;
    assert!(house.provider.crash());
    // The ticks of the time until it is rebuilt are late, not missed.
    house.jump("2026-11-23T12:00:03Z", 3).await;
    assert_eq!(house.provider.rebuilds(), 1);
    assert_eq!(house.ticks(), [1, 2, 3].map(|second| format!("2026-11-23T12:00:0{second}Z")));
    assert_eq!(house.missed(), []);
}

#[actix::test]
async fn a_clock_set_back_by_little_is_waited_for_and_by_much_begins_anew() {
    let hourly = cron("0 * * * *", "UTC", Catchup::All);
    let house = House::open(&hourly, "2026-11-23T11:30:00Z").await;
    house.jump("2026-11-23T12:00:00Z", 1).await;
    let house = house.reopen(&hourly, "2026-11-23T11:10:00Z").await;
    house.jump("2026-11-23T13:00:00Z", 2).await;
    assert_eq!(house.ticks(), ["2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"]);
    let house = house.reopen(&hourly, "2026-11-20T08:30:00Z").await;
    house
        .until(|house| house.log.state().schedule(&house.id()).unwrap().through == at("2026-11-20T08:30:00Z"))
        .await;
    house.jump("2026-11-20T09:00:00Z", 3).await;
    assert_eq!(house.ticks()[2], "2026-11-20T09:00:00Z");
    assert_eq!(house.missed(), []);
}

#[actix::test]
async fn a_leap_of_the_clock_is_a_time_when_nobody_was_there() {
    let house = House::open(&cron("0 * * * *", "UTC", Catchup::Latest), "2026-11-23T08:30:00Z").await;
    house.jump("2026-11-23T11:30:00Z", 1).await;
    assert_eq!(house.ticks(), ["2026-11-23T11:00:00Z"]);
    assert_eq!(house.missed()[0].count, 3);
}
