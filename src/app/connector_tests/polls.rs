//! Poll triggers: what they store, where they go on, and how they fail.

use super::*;
use crate::event::StoredEvent;
use crate::event_log::EventScan;
use crate::event_log::record;
use crate::provider::Change;

fn ticket(number: usize) -> PolledEvent {
    PolledEvent {
        kind: "ticket.opened".to_owned(),
        dedupe_key: format!("ticket-{number}"),
        occurred_at: None,
        body: format!("{{\"number\":{number}}}").into(),
        content_type: "application/json".to_owned(),
    }
}

/// Returns what the poll of that number brings on the trigger `orders`.
pub(super) fn an_order(number: usize) -> Polled {
    Polled { events: vec![ticket(number)], ..Polled::default() }
}

impl House {
    /// Returns all that polls of a trigger brought, newest first.
    fn events(&self, trigger_id: &str) -> Vec<Arc<StoredEvent>> {
        let scan = EventScan { limit: 1_000, scan_max: 1_000 };
        let wanted = |event: &StoredEvent| event.content.trigger_id.as_str() == trigger_id;
        self.running.log.events_before(None, scan, wanted).unwrap().items
    }

    fn tickets(&self) -> Vec<Arc<StoredEvent>> {
        self.events("tickets")
    }

    /// Returns when a trigger is polled next, as soon as that lies ahead.
    pub(super) async fn next_at(&self, trigger_id: &str) -> Timestamp {
        let next_at = || self.snapshot(trigger_id).fixed.polling().next_at;
        self.holds("a next poll", || next_at().is_some_and(|at| at > self.clock.now())).await;
        next_at().unwrap()
    }

    /// Returns the dedupe keys of all that polls brought, oldest first.
    fn polled(&self) -> Vec<String> {
        let mut keys: Vec<_> = self
            .tickets()
            .into_iter()
            .map(|event| {
                assert_eq!(event.content.signature_status, SignatureStatus::Unsigned);
                assert_eq!((event.content.method.as_str(), event.content.url.as_str()), ("", ""));
                event.content.dedupe_key.clone().unwrap()
            })
            .collect();
        keys.reverse();
        keys
    }

    /// Moves the clock to the next poll, and waits until it was made.
    pub(super) async fn next_poll(&self) {
        let before = self.script.calls("poll_tick");
        let polling = || self.snapshot("tickets").fixed.polling();
        let due = |at: Timestamp| at > self.clock.now();
        self.clock.set(self.next_at("tickets").await);
        self.holds("the poll", || {
            self.script.calls("poll_tick") > before && polling().next_at.is_some_and(due)
        })
        .await;
    }

    /// Ends the server and starts it again on the same folder.
    async fn reopen(self) -> Self {
        let Self { running, clock, script, folder } = self;
        running.stop(Duration::from_secs(2)).await.unwrap();
        Self::open(folder, clock, script, SecretRef::Literal(SECRET.to_owned())).await
    }
}

#[actix::test]
async fn polls_store_what_is_new_and_go_on_from_there_over_restarts() {
    let script = Script::new(&[]);
    *script.feed.lock().unwrap() = (1..=5).map(ticket).collect();
    let house = House::start(script.clone()).await;
    house.next_poll().await;
    assert_eq!(house.polled(), (1..=5).map(|n| format!("ticket-{n}")).collect::<Vec<_>>());
    let asked = |cursors: &[Option<&str>]| {
        let asked = std::mem::take(&mut *script.asked.lock().unwrap());
        assert_eq!(asked.iter().map(Option::as_deref).collect::<Vec<_>>(), cursors);
    };
    asked(&[None, Some("2"), Some("4")]);
    let polling = house.snapshot("tickets").fixed.polling();
    let wait = polling.next_at.unwrap().duration_since(house.clock.now()).as_secs_f64();
    assert!((60.0..=72.0).contains(&wait), "{wait}");
    assert_eq!((polling.failure, polling.failures), (None, 0));

    let house = house.reopen().await;
    script.feed.lock().unwrap().push(ticket(6));
    house.next_poll().await;
    asked(&[Some("5")]);
    assert_eq!(house.polled().len(), 6);
    let topic = house.running.log.read_topic("poll", None, 10).unwrap();
    assert_eq!(topic.items.len(), 4, "the cursor is written when it moves, and only then");
    house.stop().await;
}

#[actix::test]
async fn what_was_stored_before_its_cursor_is_not_stored_twice() {
    let script = Script::new(&[]);
    *script.feed.lock().unwrap() = (1..=2).map(ticket).collect();
    let house = House::start(script.clone()).await;
    house.next_poll().await;
    // As if the server had been killed between the events and the cursor.
    let record = Record::Polled(record::Polled {
        at: house.clock.now(),
        trigger_id: "tickets".parse().unwrap(),
        cursor: "0".to_owned(),
    });
    house.running.log.append_durable(vec![record]).await.unwrap();
    script.feed.lock().unwrap().push(ticket(3));
    let house = house.reopen().await;
    house.next_poll().await;
    assert_eq!(house.polled(), ["ticket-1", "ticket-2", "ticket-3"]);
    house.stop().await;
}

#[actix::test]
async fn a_poll_that_fails_backs_off_is_shown_and_disturbs_nobody() {
    let script = Script::new(&[("poll_tick", &[Does::Fails, Does::Panics])]);
    *script.feed.lock().unwrap() = vec![ticket(1)];
    let house = House::start(script.clone()).await;
    for (failures, reason) in [(1, "poll_tick is not to be had"), (2, "the connector panicked")] {
        house.next_poll().await;
        let polling = house.snapshot("tickets").fixed.polling();
        assert_eq!((polling.failures, polling.last_success_at), (failures, None));
        let (told, at) = polling.failure.unwrap();
        assert!(told.contains(reason));
        let poll = &house.shown("tickets").await["poll"];
        assert_eq!((&poll["last_error"], &poll["last_error_at"]), (&json!(told), &json!(at)));
        assert_eq!((&poll["failures"], &poll["next_at"]), (&json!(failures), &json!(polling.next_at)));
        let failing = json!({"activations": [], "polls": ["tickets"]});
        assert_eq!(house.admin("/readyz").await, json!({"status": "ok", "failing": failing}));
        assert_eq!(house.github(&failures.to_string()).await, 200);
        assert_eq!(house.acme("a\n1").await.status(), 200, "its own webhooks are taken too");
    }
    house.next_poll().await;
    let polling = house.snapshot("tickets").fixed.polling();
    assert_eq!((polling.failure, house.polled().len()), (None, 1));
    assert_eq!(house.shown("tickets").await["poll"]["last_error"], json!(null));
    assert_eq!(house.admin("/readyz").await, json!({"status": "ok"}));
    house.stop().await;
}

#[actix::test]
async fn why_tells_which_poll_brought_an_event() {
    let script = Script::new(&[]);
    *script.feed.lock().unwrap() = (1..=3).map(ticket).collect();
    let house = House::start(script).await;
    house.next_poll().await;
    let mut cursors = Vec::new();
    for event in house.tickets().iter().rev() {
        let why = house.admin(&format!("/api/v1/events/{}/why", event.id)).await;
        let source = &why["source"];
        assert_eq!((&source["kind"], &source["trigger_id"]), (&json!("poll"), &json!("tickets")));
        assert_eq!(
            (&source["polled_at"], &source["every"]),
            (&json!(event.content.received_at), &json!("1m"))
        );
        cursors.push(source["cursor"].as_str().unwrap().to_owned());
    }
    assert_eq!(cursors, ["2", "2", "3"], "the first poll brought two of them");
    let answer = house.acme("order.paid\n7").await;
    let id = answer.headers()["x-hookkeeper-event-id"].to_str().unwrap();
    let why = house.admin(&format!("/api/v1/events/{id}/why")).await;
    assert_eq!(why["source"], json!({"kind": "webhook", "trigger_id": "acme"}));
    house.stop().await;
}

#[actix::test]
async fn a_poll_that_hangs_is_cut_off_made_again_and_holds_up_nobody() {
    let plan = &[("poll_tick", &[Does::Hangs][..])];
    let script = Arc::new(Script { has_orders: true, ..Arc::into_inner(Script::new(plan)).unwrap() });
    *script.feed.lock().unwrap() = vec![ticket(1)];
    let house = House::start(script.clone()).await;
    let polling = || house.snapshot("tickets").fixed.polling();
    house.clock.set(house.next_at("tickets").await.max(house.next_at("orders").await));
    house.holds("the poll that hangs", || script.calls("poll_tick") == 1).await;
    house.holds("another trigger's poll", || house.events("orders").len() == 1).await;
    assert_eq!((house.acme("a\n1").await.status().as_u16(), house.github("1").await), (200, 200));
    assert_eq!((polling().failures, house.tickets().len()), (0, 0), "all that while it hung");

    house.holds("that it is cut off", || polling().failures == 1).await;
    let (reason, _) = polling().failure.unwrap();
    assert_eq!(reason, "the connector did not finish within 2 s");
    house.next_poll().await;
    assert_eq!((polling().failure, script.calls("poll_tick")), (None, 2));
    assert_eq!(house.polled(), ["ticket-1"]);
    house.stop().await;
}

#[actix::test]
#[allow(
    clippy::await_holding_lock,
    reason = "what it blocks is another thread, for as long as the test lasts"
)]
async fn a_poll_that_blocks_its_thread_holds_up_neither_other_polls_nor_activations() {
    let plan = &[("poll_tick", &[Does::Blocks][..])];
    let script = Arc::new(Script { has_orders: true, ..Arc::into_inner(Script::new(plan)).unwrap() });
    *script.feed.lock().unwrap() = vec![ticket(1)];
    let blocked = script.clone();
    let blocked = blocked.blocked.lock().unwrap();
    let house = House::start(script.clone()).await;
    house.clock.set(house.next_at("tickets").await.max(house.next_at("orders").await));
    house.holds("the poll that blocks", || script.calls("poll_tick") == 1).await;
    house.holds("another trigger's poll", || house.events("orders").len() == 1).await;
    let acme = house.running.providers.of_trigger(&"acme".parse().unwrap()).unwrap();
    house.holds("a running actor", || acme.is_running()).await;
    assert!(acme.crash());
    house.holds("an activation by the next one", || script.calls("activate") == 2).await;
    drop(blocked);
    house.next_poll().await;
    assert_eq!(house.polled(), ["ticket-1"]);
    house.stop().await;
}

#[actix::test]
async fn one_turn_of_polls_is_bounded() {
    let script = Script::new(&[]);
    *script.feed.lock().unwrap() = (1..=25).map(ticket).collect();
    let house = House::start(script.clone()).await;
    house.next_poll().await;
    assert_eq!((script.calls("poll_tick"), house.polled().len()), (10, 20));
    let next_at = house.snapshot("tickets").fixed.polling().next_at.unwrap();
    assert_eq!(next_at.duration_since(house.clock.now()).as_secs(), 1);
    house.next_poll().await;
    assert_eq!(house.polled().len(), 25);
    house.stop().await;
}

#[actix::test]
async fn more_without_a_moved_cursor_is_asked_for_in_its_time() {
    let script = Arc::new(Script { always_more: true, ..Arc::into_inner(Script::new(&[])).unwrap() });
    *script.feed.lock().unwrap() = vec![ticket(1)];
    let house = House::start(script.clone()).await;
    house.next_poll().await;
    assert_eq!((script.calls("poll_tick"), house.polled().len()), (2, 1), "the second brought nothing new");
    let next_at = house.snapshot("tickets").fixed.polling().next_at.unwrap();
    assert!(next_at.duration_since(house.clock.now()).as_secs() >= 60);
    house.stop().await;
}

#[actix::test]
async fn events_of_a_paused_poll_trigger_are_held() {
    let script = Script::new(&[]);
    *script.feed.lock().unwrap() = vec![ticket(1)];
    let house = House::start(script).await;
    let id: TriggerId = "tickets".parse().unwrap();
    house.running.providers.of_trigger(&id).unwrap().change(&id, Change::Pause).await.unwrap();
    house.next_poll().await;
    assert_eq!(house.snapshot("tickets").activation(), Activation::Paused);
    let events = house.tickets();
    assert!(events.len() == 1 && events[0].content.held);
    house.stop().await;
}
