//! Reads what only cron triggers have: schedule, time zone, and what becomes of missed ticks.

use super::document::{Node, Section};
use super::raw::or_default;
use super::{Catchup, Cron};
use crate::schedule::{Schedule, Zone};

/// The keys of a cron trigger beside `id`, `provider` and `kind`.
pub(super) const CRON_KEYS: [&str; 3] = ["schedule", "timezone", "catchup"];

/// Reads the keys of a cron trigger.
pub(super) fn read_cron(section: &Section<'_>) -> Option<Cron> {
    let zone = or_default(section.get("timezone"), Zone::utc(), |node| zone(node));
    let expression = section.require("schedule", "say when, such as schedule = \"0 3 * * *\"");
    // A wrong zone hides no wrong expression.
    let known = zone.clone().unwrap_or_else(Zone::utc);
    let schedule = expression.and_then(|node| schedule(&node, known));
    let catchup = or_default(section.get("catchup"), Catchup::default(), |node| catchup(node));
    zone?;
    Some(Cron { schedule: schedule?, catchup: catchup? })
}

fn schedule(node: &Node<'_>, zone: Zone) -> Option<Schedule> {
    let text = node.string("a schedule such as \"0 3 * * *\"")?;
    Schedule::parse(text, zone).map_err(|problem| node.wrong(&problem, &problem.remedy)).ok()
}

fn zone(node: &Node<'_>) -> Option<Zone> {
    let text = node.string("a time zone such as \"Europe/Zurich\"")?;
    let found = Zone::find(text);
    if found.is_none() {
        let names = Zone::names();
        let names = names.iter().map(String::as_str);
        node.unknown("unknown time zone", names, "write an IANA name, such as UTC or Europe/Zurich");
    }
    found
}

fn catchup(node: &Node<'_>) -> Option<Catchup> {
    let text = node.string("skip, latest or all")?;
    let found = Catchup::ALL.into_iter().find(|catchup| catchup.as_str() == text);
    if found.is_none() {
        node.unknown(
            "unknown way to catch up",
            Catchup::ALL.map(Catchup::as_str),
            "one of skip, latest, all",
        );
    }
    found
}
