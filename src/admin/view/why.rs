//! The whole account of an event: how it was verified, who wanted it and who did not and why, each attempt.

use serde_json::{Value, json};

use super::View;
use crate::admin::Problem;
use crate::config::{Cron, Poll, format_duration};
use crate::event::{Body, EventId, FunctionId, Position, RunId, SignatureStatus, StoredEvent, Timestamp};
use crate::event_log::Run;
use crate::event_log::record::Record;

/// Most records after an event that are searched for its duplicates.
const DUPLICATES_SCAN_MAX: usize = 20_000;
/// Records of the log that are read at once.
const DUPLICATES_PAGE: usize = 1_000;
/// Most polls after an event that are searched for its own: those of other triggers at the same time.
const POLLS_SCAN_MAX: usize = 100;

impl View {
    /// Tells the account of an event.
    pub(super) fn why_event(&self, id: EventId) -> Result<Value, Problem> {
        let event = self.find(id)?;
        let content = &event.content;
        let runs = self.log.state().runs_of(id)?;
        let routing = self.log.state().routing(id)?;

        // Every function that was asked, in configured order, then those that only replays named.
        let mut ids: Vec<FunctionId> = routing.as_ref().map(|it| it.functions.clone()).unwrap_or_default();
        for run in &runs {
            if !ids.contains(&run.id.function) {
                ids.push(run.id.function.clone());
            }
        }
        let skipped = routing.as_ref().map(|it| it.skipped.as_slice()).unwrap_or_default();
        let function = |id: &FunctionId| {
            let reason = skipped.iter().find(|(skipped, _)| skipped == id).map(|(_, reason)| reason.as_str());
            let runs: Vec<&Run> = runs.iter().filter(|run| run.id.function == *id).collect();
            json!({
                "id": id,
                "wanted": reason.is_none(),
                "reason": reason,
                "runs": runs.into_iter().map(|run| self.run_item(run)).collect::<Vec<_>>(),
            })
        };
        Ok(json!({
            "event": {
                "id": event.id,
                "provider": content.provider,
                "trigger_id": content.trigger_id,
                "kind": content.kind,
                "received_at": content.received_at,
                "occurred_at": content.occurred_at,
                "state": self.log.state().event_state(id)?,
                "origin": content.origin,
                "held": content.held,
                "method": content.method,
                "url": content.url,
                "body_bytes": content.body.len(),
                "trace_id": content.trace_id,
                "batch": super::events::batch(content),
            },
            "source": self.source(&event)?,
            "verification": self.verification(&event),
            "dedupe": self.dedupe(&event)?,
            "routed_at": routing.as_ref().map(|it| it.at),
            "functions": ids.iter().map(function).collect::<Vec<_>>(),
        }))
    }

    /// Tells the account of a run's event; `run` in it is the run that was asked for.
    pub(super) fn why_run(&self, id: &RunId) -> Result<Value, Problem> {
        let run = self.run(id)?;
        let mut account = self.why_event(id.event)?;
        account["run"] = run;
        Ok(account)
    }

    /// Tells what brought an event: a delivery, a tick of a schedule, or a poll. What the trigger is like is told
    /// as it is configured now, and only if it is still of that kind.
    fn source(&self, event: &StoredEvent) -> Result<Value, Problem> {
        let content = &event.content;
        if !content.method.is_empty() {
            return Ok(json!({"kind": "webhook", "trigger_id": content.trigger_id}));
        }
        let mut triggers = self.config.iter().flat_map(|config| &config.triggers);
        let trigger = triggers.find(|trigger| trigger.id == content.trigger_id);
        match content.tick() {
            Some(at) => Ok(tick(event, at, trigger.and_then(|trigger| trigger.cron()))),
            None => self.poll(event, trigger.and_then(|trigger| trigger.poll())),
        }
    }

    fn poll(&self, event: &StoredEvent, poll: Option<Poll>) -> Result<Value, Problem> {
        let content = &event.content;
        // A poll's events and its cursor have the same time; the cursor stands behind them, if it moved.
        let after = self.log.read_topic("poll", Some(event.id.position()), POLLS_SCAN_MAX)?;
        let cursor = after.items.into_iter().find_map(|(_, record)| match record {
            Record::Polled(it) if it.trigger_id == content.trigger_id => Some(it),
            _ => None,
        });
        let cursor = cursor.filter(|it| it.at == content.received_at).map(|it| it.cursor);
        Ok(json!({
            "kind": "poll",
            "trigger_id": content.trigger_id,
            "polled_at": content.received_at,
            "cursor": cursor,
            "every": poll.map(|poll| format_duration(poll.every)),
        }))
    }

    fn verification(&self, event: &StoredEvent) -> Value {
        let content = &event.content;
        let entry = self.catalog.get(content.provider.as_str());
        let signature = entry.and_then(|entry| entry.signature.as_ref());
        let mut shown = json!(content.signature_status);
        if let SignatureStatus::Verified { .. } = content.signature_status
            && let Some(signature) = signature
        {
            shown["scheme"] = json!(entry.map(|entry| entry.family));
            shown["proof"] = json!(signature.sig);
            shown["covers"] = json!(signature.signed_content());
        }
        shown
    }

    /// Counts duplicates of an event. They stand after it in the log, which is searched up to a bound.
    fn dedupe(&self, event: &StoredEvent) -> Result<Value, Problem> {
        let Some(key) = &event.content.dedupe_key else {
            return Ok(json!({"key": null, "duplicates": 0, "last_at": null, "complete": true}));
        };
        let (mut count, mut last_at, mut looked_at) = (0_u64, None, 0);
        let mut after: Option<Position> = Some(event.id.position());
        while let Some(position) = after.filter(|_| looked_at < DUPLICATES_SCAN_MAX) {
            let page = self.log.read_topic("events", Some(position), DUPLICATES_PAGE)?;
            looked_at += page.items.len().max(1);
            for (_, record) in page.items {
                if let Record::Duplicate(duplicate) = record
                    && duplicate.first == event.id
                {
                    count += 1;
                    last_at = Some(duplicate.received_at);
                }
            }
            after = page.next;
        }
        Ok(json!({"key": key, "duplicates": count, "last_at": last_at, "complete": after.is_none()}))
    }
}

fn tick(event: &StoredEvent, at: Timestamp, cron: Option<&Cron>) -> Value {
    let payload: Option<Value> = match &event.content.body {
        Body::Inline(bytes) => serde_json::from_slice(bytes).ok(),
        Body::Spooled(_) => None,
    };
    // A schedule that was changed since did not bring it.
    let cron = cron.filter(|cron| cron.schedule.ticks_at(at));
    json!({
        "kind": "cron",
        "trigger_id": event.content.trigger_id,
        "scheduled_at": at,
        "catchup": payload.is_some_and(|payload| payload["catchup"] == true),
        "schedule": cron.map(|cron| cron.schedule.expression()),
        "timezone": cron.map(|cron| cron.schedule.zone()),
    })
}
