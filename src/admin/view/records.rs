//! The log itself: topics and their records.

use serde_json::{Value, json};

use super::{View, page, whole};
use crate::admin::Problem;
use crate::admin::query::Query;
use crate::event::{CoolDown, PermitsChange, Position, QuotaLeft, Timestamp};
use crate::event_log::record::{
    Cause, CronChange, NewRun, Next, Record, SecretChange, SecretTimes, Start, Switch,
};

impl View {
    /// Lists the topics.
    pub(super) fn topics(&self) -> Result<Value, Problem> {
        Ok(whole(self.log.topics()?.into_iter().map(|topic| json!({"topic": topic})).collect()))
    }

    /// Reads a topic, oldest first, after a position.
    pub(super) fn topic(&self, topic: &str, query: &Query) -> Result<Value, Problem> {
        query.only(&["after", "cursor", "limit"])?;
        let after = query.cursor::<Position>()?.or(query.get::<Position>("after")?);
        let found = self.log.read_topic(topic, after, query.limit()?)?;
        let items = found.items.iter().map(|(position, record)| {
            let mut shown = record_json(record);
            shown["position"] = json!(position);
            shown
        });
        Ok(page(items.collect(), found.next))
    }
}

/// Returns a record as JSON. Bodies, answers and sealed secrets stay out.
fn record_json(record: &Record) -> Value {
    match record {
        Record::Event(event) => json!({
            "record": "event",
            "at": event.content.received_at,
            "id": event.id,
            "trigger_id": event.content.trigger_id,
            "kind": event.content.kind,
            "dedupe_key": event.content.dedupe_key,
            "signature_status": event.content.signature_status,
            "body_bytes": event.content.body.len(),
        }),
        Record::Duplicate(it) => json!({"record": "duplicate", "at": it.received_at, "first": it.first}),
        Record::Routed(it) => json!({
            "record": "routed",
            "at": it.at,
            "from": it.from,
            "through": it.through,
            "runs": it.runs.iter().map(new_run).collect::<Vec<_>>(),
            "skipped": it.skipped.iter().map(|skip| json!({
                "event": skip.event,
                "function": it.functions.get(skip.function as usize),
                "reason": skip.reason.as_str(),
            })).collect::<Vec<_>>(),
        }),
        Record::Created(it) => json!({
            "record": "created",
            "at": it.at,
            "runs": it.runs.iter().map(new_run).collect::<Vec<_>>(),
        }),
        Record::Attempted(it) => json!({
            "record": "attempted",
            "at": it.started_at,
            "run": it.run,
            "attempt": it.attempt,
            "duration_us": it.duration_us,
            "status": it.status,
            "note": it.note,
            "next": next(&it.next),
        }),
        Record::Controlled(it) => {
            json!({"record": "controlled", "at": it.at, "run": it.run, "action": it.action})
        }
        Record::Switched(it) => {
            let mut shown = switch(&it.switch);
            shown["record"] = json!("switched");
            shown["at"] = json!(it.at);
            shown
        }
        Record::Sealed(it) => {
            json!({"record": "sealed", "at": it.at, "name": it.name, "removed": it.sealed.is_empty()})
        }
        Record::Audit(it) => json!({
            "record": "audit",
            "at": it.at,
            "topic": it.topic,
            "trigger_id": it.trigger_id,
            "peer": it.peer,
            "code": it.code,
            "detail": it.detail,
            "count": it.count,
        }),
        Record::Cron(it) => {
            let mut shown = cron(&it.change);
            shown["at"] = json!(it.at);
            shown["trigger_id"] = json!(it.trigger_id);
            shown
        }
        Record::Polled(it) => {
            json!({"record": "polled", "at": it.at, "trigger_id": it.trigger_id, "cursor": it.cursor})
        }
        Record::Permits(it) => {
            let mut shown = permits(&it.change);
            shown["at"] = json!(it.at);
            shown["provider"] = json!(it.provider);
            shown
        }
        Record::Secret(it) => {
            let mut shown = secret(&it.change);
            shown["at"] = json!(it.at);
            shown
        }
    }
}

fn permits(change: &PermitsChange) -> Value {
    let quota = |it: &QuotaLeft| json!({"limit": it.limit, "remaining": it.remaining, "until": it.until});
    let scope = |it: &CoolDown| {
        json!({
            "scope": it.scope,
            "blocked_until": (it.blocked_until > Timestamp::UNIX_EPOCH).then_some(it.blocked_until),
            "quotas": it.quotas.iter().map(quota).collect::<Vec<_>>(),
        })
    };
    let scopes = |scopes: &[CoolDown]| scopes.iter().map(scope).collect::<Vec<_>>();
    match change {
        PermitsChange::Opened => json!({"record": "permits.opened"}),
        PermitsChange::Learned(it) => json!({"record": "permits.learned", "scopes": scopes(it)}),
        PermitsChange::Closed(it) => json!({"record": "permits.closed", "scopes": scopes(it)}),
    }
}

fn secret(change: &SecretChange) -> Value {
    match change {
        SecretChange::Seen { trigger_id, secrets } => {
            let times = |it: &SecretTimes| {
                json!({
                    "name": it.name,
                    "reference": it.reference,
                    "fingerprint": it.fingerprint.to_string(),
                    "index": it.index,
                    "added_at": it.added_at,
                    "first_success_at": it.first_success,
                    "last_success_at": it.last_success,
                })
            };
            let secrets: Vec<_> = secrets.iter().map(times).collect();
            json!({"record": "secret.seen", "trigger_id": trigger_id, "secrets": secrets})
        }
        SecretChange::Rotated { name, keep_until } => {
            json!({"record": "secret.rotated", "name": name, "keep_until": keep_until})
        }
        SecretChange::Retired { name } => json!({"record": "secret.retired", "name": name}),
    }
}

fn cron(change: &CronChange) -> Value {
    match change {
        CronChange::Began { schedule } => json!({"record": "cron.began", "schedule": schedule}),
        CronChange::Missed(it) => json!({
            "record": "cron.missed",
            "first": it.first,
            "last": it.last,
            "count": it.count,
            "made_up": it.made_up,
            "given_up_through": it.given_up_through,
        }),
    }
}

fn new_run(run: &NewRun) -> Value {
    let start = match &run.start {
        Start::Due(at) => json!({"due": at}),
        Start::Held => json!("held"),
        Start::Skipped(reason) => json!({"skipped": reason.as_str()}),
    };
    let cause = match &run.cause {
        Cause::Live => "live",
        Cause::Redelivery => "redelivery",
        Cause::Replay { .. } => "replay",
    };
    json!({"id": run.id, "cause": cause, "start": start})
}

fn next(next: &Next) -> Value {
    match next {
        Next::Succeeded => json!("succeeded"),
        Next::RetryAt(at) => json!({"retry_at": at}),
        Next::Dead(reason) => json!({"dead": reason}),
    }
}

fn switch(switch: &Switch) -> Value {
    match switch {
        Switch::TriggerPaused(id, paused) => json!({"trigger_id": id, "paused": paused}),
        Switch::TriggerArmed(id, until) => json!({"trigger_id": id, "armed_until": until}),
        Switch::FunctionPaused(id, paused) => json!({"function": id, "paused": paused}),
        Switch::Breaker { function, open_until, opened } => {
            json!({"function": function, "open_until": open_until, "opened": opened})
        }
    }
}
