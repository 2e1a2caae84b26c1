//! What the fold makes of records: runs, events, switches, schedules, rate limits and cursors.

use super::*;

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
