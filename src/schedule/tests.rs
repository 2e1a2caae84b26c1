//! Expressions, and the arithmetic of ticks around the changes of summer time.

use proptest::prelude::*;

use super::*;

const ZURICH: &str = "Europe/Zurich";
const NEW_YORK: &str = "America/New_York";

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, Zone::find(zone).unwrap()).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The ticks after an instant, in UTC.
#[track_caller]
fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let schedule = schedule(expression, zone);
    let ticks = std::iter::successors(schedule.next(at(after)), |tick| schedule.next(*tick));
    let ticks: Vec<_> = ticks.take(expected.len()).map(|tick| tick.to_string()).collect();
    assert_eq!(ticks, expected, "{expression} in {zone}");
}

#[test]
fn five_and_six_fields_names_ranges_steps_lists_and_words() {
    let from = "2026-11-23T14:07:30Z";
    check("0 3 * * *", UTC, from, &["2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z"]);
    check("*/15 * * * *", UTC, from, &["2026-11-23T14:15:00Z", "2026-11-23T14:30:00Z"]);
    check("*/20 * * * * *", UTC, from, &["2026-11-23T14:07:40Z", "2026-11-23T14:08:00Z"]);
    check("30 0 9-17/4 * * mon-fri", UTC, from, &["2026-11-23T17:00:30Z", "2026-11-24T09:00:30Z"]);
    check("5,10 0 1 jan,Jul *", UTC, from, &["2027-01-01T00:05:00Z", "2027-01-01T00:10:00Z"]);
    check("0 0 * * 7", UTC, from, &["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]);
    check("0 0 L * *", UTC, from, &["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"]);
    check("0 0 29 2 *", UTC, from, &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    check("@hourly", UTC, from, &["2026-11-23T15:00:00Z", "2026-11-23T16:00:00Z"]);
    check("@Midnight", ZURICH, from, &["2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z"]);
    check("@yearly", UTC, from, &["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]);
    // A day of the month or one of the week: either starts it, as in Vixie cron.
    check("0 0 1 * MON", UTC, from, &["2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"]);
}

#[test]
fn an_instant_is_a_tick_or_none() {
    let schedule = schedule("*/7 * * * * *", "UTC");
    assert!(schedule.ticks_at(at("2026-11-23T14:00:14Z")));
    assert!(
        !schedule.ticks_at(at("2026-11-23T14:00:15Z")) && !schedule.ticks_at(at("2026-11-23T14:00:14.5Z"))
    );
}

#[test]
fn a_tick_is_after_the_instant_asked_for() {
    check("0 3 * * *", UTC, "2026-11-24T02:59:59.999999Z", &["2026-11-24T03:00:00Z"]);
    check("0 3 * * *", UTC, "2026-11-24T03:00:00Z", &["2026-11-25T03:00:00Z"]);
    check("0 3 * * *", UTC, "2026-11-24T03:00:00.000001Z", &["2026-11-25T03:00:00Z"]);
    check("* * * * * *", UTC, "2026-11-24T03:00:00.5Z", &["2026-11-24T03:00:01Z"]);
}

#[test]
fn a_fixed_time_that_is_skipped_ticks_once_right_after_the_gap() {
    // Zurich: 02:00 becomes 03:00 at 01:00 UTC. New York: 02:00 becomes 03:00 at 07:00 UTC.
    let (zurich, new_york) = ("2026-03-28T12:00:00Z", "2026-03-07T12:00:00Z");
    check("30 2 * * *", ZURICH, zurich, &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    check("0 2 * * *", ZURICH, zurich, &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
    check("30 2 * * *", NEW_YORK, new_york, &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]);
    // Several skipped times, and one at the end of the gap itself: one tick.
    check("0,20,40 2 * * *", ZURICH, zurich, &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
    check("0 2,3 * * *", NEW_YORK, new_york, &["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"]);
    check("15 30 2 * * SUN", ZURICH, zurich, &["2026-03-29T01:00:00Z", "2026-04-05T00:30:15Z"]);
    // What is not skipped stays where it is.
    check("59 1 * * *", ZURICH, zurich, &["2026-03-29T00:59:00Z", "2026-03-29T23:59:00Z"]);
}

#[test]
fn a_fixed_time_that_comes_twice_ticks_at_its_first_coming() {
    // Zurich: 03:00 becomes 02:00 at 01:00 UTC. New York: 02:00 becomes 01:00 at 06:00 UTC.
    let (zurich, new_york) = ("2026-10-24T12:00:00Z", "2026-10-31T12:00:00Z");
    check("30 2 * * *", ZURICH, zurich, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    check("30 1 * * *", NEW_YORK, new_york, &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
    check("0,30 2 * * *", ZURICH, zurich, &["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"]);
    // Asked within the second coming, the next is tomorrow's.
    check("45 2 * * *", ZURICH, "2026-10-25T01:10:00Z", &["2026-10-26T01:45:00Z"]);
    // The end of what comes twice comes once.
    check("0 3 * * *", ZURICH, zurich, &["2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"]);
}

#[test]
fn an_interval_goes_on_in_real_time() {
    let hourly = |from: &str, first: &str, count: usize| {
        let ticks: Vec<_> = (0..count as i64)
            .map(|hour| (at(first) + SignedDuration::from_hours(hour)).to_string())
            .collect();
        let ticks: Vec<_> = ticks.iter().map(String::as_str).collect();
        for zone in [ZURICH, NEW_YORK] {
            check("0 * * * *", zone, from, &ticks);
        }
    };
    hourly("2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", 4);
    hourly("2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", 4);
    hourly("2026-03-08T05:30:00Z", "2026-03-08T06:00:00Z", 4);
    hourly("2026-11-01T04:30:00Z", "2026-11-01T05:00:00Z", 4);
    // Of one hour only: not while the hour is skipped, in both where it comes twice.
    check("*/30 2 * * *", ZURICH, "2026-03-28T12:00:00Z", &["2026-03-30T00:00:00Z"]);
    let twice =
        ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
    check("*/30 2 * * *", ZURICH, "2026-10-24T12:00:00Z", &twice);
    // A whole day that an island skipped.
    check(
        "30 6 * * *",
        "Pacific/Apia",
        "2011-12-29T20:00:00Z",
        &["2011-12-30T10:00:00Z", "2011-12-30T16:30:00Z"],
    );
}

#[test]
fn the_latest_ticks_are_found_from_the_end() {
    let nightly = schedule("0 3 * * *", UTC);
    let (after, until) = (at("2020-01-01T03:00:00Z"), at("2026-11-23T14:00:00Z"));
    assert_eq!(nightly.latest(after, until, 1), [at("2026-11-23T03:00:00Z")]);
    assert_eq!(nightly.latest(after, until, 2), [at("2026-11-22T03:00:00Z"), at("2026-11-23T03:00:00Z")]);
    assert_eq!(nightly.latest(at("2026-11-23T03:00:00Z"), until, 2), []);
    assert_eq!(nightly.count(after, until), 2518);
    assert_eq!(schedule("* * * * * *", UTC).count(after, until), COUNT_MAX);
}

#[track_caller]
fn check_problem(expression: &str, what: &str) {
    let problem = Schedule::parse(expression, Zone::utc()).expect_err(expression);
    assert_eq!(problem.what, what);
    assert!(!problem.remedy.is_empty());
}

#[test]
fn a_wrong_expression_is_told_by_its_field() {
    check_problem("50-10 * * * *", "the range `50-10` of the minute runs backwards");
    check_problem("0 1,17-9/2 * * *", "the range `17-9` of the hour runs backwards");
    check_problem("0 0 * NOV-FEB *", "the range `NOV-FEB` of the month runs backwards");
    check_problem("0 0 * * FRI-TUE", "the range `FRI-TUE` of the day of the week runs backwards");
    check_problem("0 0 5-L * *", "`5-L` is no day of the month");
    check_problem("50-70 * * * *", "`50-70` is no minute");
    check_problem("61 * * * *", "`61` is no minute");
    check_problem("* 24 * * *", "`24` is no hour");
    check_problem("60 * * * * *", "`60` is no second");
    check_problem("0 0 32 * *", "`32` is no day of the month");
    check_problem("0 0 0 * *", "`0` is no day of the month");
    check_problem("0 0 * 13 *", "`13` is no month");
    check_problem("0 0 * * MONDAY", "`MONDAY` is no day of the week");
    check_problem("0 0 * * 8", "`8` is no day of the week");
    check_problem("JAN * * * *", "`JAN` is no minute");
    check_problem("*/0 * * * *", "`*/0` is no minute");
    check_problem("5-1 * * * *", "the range `5-1` of the minute runs backwards");
    check_problem("a * * * *", "`a` is no minute");
    check_problem("1,,3 * * * *", "`1,,3` is no minute");
    check_problem("0 0 1, * *", "`1,` is no day of the month");
    check_problem("", "the schedule has 0 fields, not 5 or 6");
    check_problem("* * * *", "the schedule has 4 fields, not 5 or 6");
    check_problem("* * * * * * 2027", "the schedule has 7 fields, not 5 or 6");
    check_problem("@reboot", "`@reboot` is no word for a schedule");
    check_problem("0 0 31 2 *", "no time ever matches `0 0 31 2 *`");
    check_problem(&"1,".repeat(600), "the schedule is too long");
}

#[test]
fn zones_are_found_by_name() {
    assert_eq!(Zone::find("europe/zurich").unwrap().name, ZURICH);
    assert_eq!(Zone::find("utc").unwrap().name, UTC);
    assert!(Zone::find("Europe/Zurick").is_none());
    assert!(Zone::names().iter().any(|name| name == NEW_YORK));
}

fn any_field(values: std::ops::RangeInclusive<u32>, starred: bool) -> BoxedStrategy<String> {
    let value = values.clone().prop_map(|value| value.to_string());
    let list = prop::collection::vec(values.clone(), 1..4)
        .prop_map(|list| list.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
    let (first, last) = (*values.start(), *values.end());
    let range = (first..=last, first..=last).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    if !starred {
        return prop_oneof![value, list, range].boxed();
    }
    let step = (1..=last / 2).prop_map(|step| format!("*/{step}"));
    prop_oneof![Just("*".to_owned()), step, value, list, range].boxed()
}

prop_compose! {
    fn any_expression(starred: bool)(
        minute in any_field(0..=59, starred),
        hour in any_field(0..=23, starred),
        day in prop_oneof![3 => Just("*".to_owned()), 1 => any_field(1..=28, true)],
        weekday in prop_oneof![3 => Just("*".to_owned()), 1 => any_field(0..=6, true)],
    ) -> String {
        format!("{minute} {hour} {day} * {weekday}")
    }
}

fn any_zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![ZURICH, NEW_YORK, "Australia/Lord_Howe", "America/Nuuk", "Asia/Kolkata", UTC])
}

/// Instants within days of the changes of 2026, in both zones.
fn near_a_change() -> impl Strategy<Value = Timestamp> {
    let changes =
        ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"];
    (prop::sample::select(changes.to_vec()), -200_000_i64..200_000)
        .prop_map(|(change, offset)| at(change) + SignedDuration::from_secs(offset))
}

proptest! {
    #[test]
    fn ticks_strictly_increase_and_the_next_is_the_same_from_everywhere_before_it(
        expression in any_expression(true), zone in any_zone(), from in near_a_change(), between in 0_f64..1.0,
    ) {
        let schedule = schedule(&expression, zone);
        let mut last = from;
        for tick in std::iter::successors(schedule.next(from), |tick| schedule.next(*tick)).take(40) {
            prop_assert!(tick > last, "{expression} {zone}: {tick} after {last}");
            let apart = tick.duration_since(last).as_secs_f64();
            let asked = last + SignedDuration::from_secs_f64(apart * between);
            if asked < tick {
                prop_assert_eq!(schedule.next(asked), Some(tick), "{} {} from {}", expression, zone, asked);
            }
            last = tick;
        }
    }

    #[test]
    fn an_interval_ticks_at_every_minute_that_matches_and_at_no_other(
        expression in any_expression(true), zone in any_zone(), from in near_a_change(),
    ) {
        let schedule = schedule(&expression, zone);
        prop_assume!(schedule.pace == Pace::Interval);
        let until = from + SignedDuration::from_hours(12);
        let ticks: Vec<_> = schedule.between(from, until).collect();
        let first = Timestamp::from_second(from.as_second().div_euclid(60) * 60 + 60).unwrap();
        let minutes = std::iter::successors(Some(first), |it| Some(*it + SignedDuration::from_mins(1)));
        let matching: Vec<_> = minutes
            .take_while(|minute| *minute <= until)
            .filter(|minute| matches(&schedule, *minute))
            .collect();
        prop_assert_eq!(ticks, matching, "{} {}", expression, zone);
    }

    #[test]
    fn a_fixed_schedule_ticks_once_for_each_of_its_times_but_for_those_that_share_a_gap(
        expression in any_expression(false), zone in any_zone(), from in near_a_change(),
    ) {
        let schedule = schedule(&expression, zone);
        prop_assert_eq!(schedule.pace, Pace::Fixed);
        let until = from + SignedDuration::from_hours(72);
        let ticks: Vec<_> = schedule.between(from, until).collect();
        let mut expected = Vec::new();
        let mut civil = schedule.zone.to_datetime(from - SignedDuration::from_hours(3));
        while let Some(next) = next_civil(&schedule.cron, civil) {
            let came = schedule.zone.to_ambiguous_timestamp(next);
            let tick = match came.offset() {
                AmbiguousOffset::Gap { .. } => end_of_gap(&schedule.zone, next),
                _ => came.earlier().unwrap(),
            };
            if tick > until {
                break;
            }
            expected.push(tick);
            civil = next;
        }
        expected.retain(|tick| *tick > from);
        expected.dedup();
        prop_assert_eq!(ticks, expected, "{} {}", expression, zone);
    }

    #[test]
    fn the_latest_are_the_end_of_all(
        expression in any_expression(true), zone in any_zone(), from in near_a_change(), max in 1_usize..50,
    ) {
        let schedule = schedule(&expression, zone);
        let until = from + SignedDuration::from_hours(50);
        let all: Vec<_> = schedule.between(from, until).collect();
        let latest: Vec<_> = schedule.latest(from, until, max).into();
        prop_assert_eq!(&all[all.len().saturating_sub(max)..], &latest[..]);
        prop_assert_eq!(schedule.count(from, until), all.len() as u64);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-*/,0-9A-Z@L#?+ ]{0,24}") {
        if let Ok(schedule) = Schedule::parse(&text, Zone::utc()) {
            let from = at("2026-11-23T14:00:00Z");
            prop_assert!(schedule.next(from).is_some_and(|tick| tick > from), "{}", text);
        }
    }
}

/// Tells whether the clock on the wall matches at a full minute.
fn matches(schedule: &Schedule, minute: Timestamp) -> bool {
    let civil = schedule.zone.to_datetime(minute);
    next_civil(&schedule.cron, civil.checked_sub(SignedDuration::from_secs(1)).unwrap()) == Some(civil)
}

/// Steps through a gap second by second.
fn end_of_gap(zone: &TimeZone, mut civil: DateTime) -> Timestamp {
    loop {
        civil = civil.checked_add(SignedDuration::from_secs(1)).unwrap();
        if let AmbiguousOffset::Unambiguous { .. } = zone.to_ambiguous_timestamp(civil).offset() {
            return zone.to_ambiguous_timestamp(civil).unambiguous().unwrap();
        }
    }
}
