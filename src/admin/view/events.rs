//! Events: list, one, its body.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{View, page};
use crate::admin::Problem;
use crate::admin::query::Query;
use crate::event::{Batch, EventContent, EventId, EventState, Position, RunState, StoredEvent, Timestamp};
use crate::event_log::record::HELD;
use crate::event_log::{Error, EventScan, Log, Run};
use crate::subscription::Glob;

/// Most events that one page looks at.
const SCAN_MAX: usize = 20_000;
/// Most events whose bodies one page searches for a text.
const SEARCH_MAX: usize = 2_000;
/// Largest body that stands in an event's JSON; a larger one is had on its own.
const SHOWN_BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The parameters of a listing of events.
pub(in crate::admin) const PARAMETERS: [&str; 7] =
    ["trigger", "provider", "kind", "state", "since", "until", "text"];

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    trigger: Option<String>,
    provider: Option<String>,
    kind: Option<Glob>,
    state: Option<EventState>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    text: Option<String>,
}

impl EventFilter {
    /// Reads a filter from a request's parameters.
    ///
    /// # Errors
    ///
    /// If a parameter makes no sense.
    pub fn of(query: &Query, now: Timestamp) -> Result<Self, Problem> {
        let owned = |name: &str| query.text(name).map(str::to_owned);
        Ok(Self {
            trigger: owned("trigger"),
            provider: owned("provider"),
            kind: query.text("kind").map(Glob::new),
            state: query.get("state")?,
            since: query.time("since", now)?,
            until: query.time("until", now)?,
            text: query.text("text").map(str::to_ascii_lowercase),
        })
    }

    /// Tells whether an event is wanted.
    ///
    /// # Errors
    ///
    /// If the state of its runs cannot be read.
    pub fn wants(&self, log: &Log, event: &StoredEvent) -> Result<bool, Error> {
        let content = &event.content;
        let plain = self.trigger.as_ref().is_none_or(|id| content.trigger_id.as_str() == id)
            && self.provider.as_ref().is_none_or(|id| content.provider.as_str() == id)
            && self.kind.as_ref().is_none_or(|glob| glob.matches(&content.kind))
            && self.since.is_none_or(|since| content.received_at >= since)
            && self.until.is_none_or(|until| content.received_at < until)
            && self.text.as_ref().is_none_or(|text| has_text(event, text));
        match self.state {
            Some(state) if plain => Ok(log.state().event_state(event.id)? == state),
            _ => Ok(plain),
        }
    }
}

/// Tells whether a lower-case text occurs in what an event says, whatever its case. Spooled bodies are not searched.
fn has_text(event: &StoredEvent, text: &str) -> bool {
    let content = &event.content;
    let within = |bytes: &[u8]| contains_ignoring_case(bytes, text.as_bytes());
    let body = match &content.body {
        crate::event::Body::Inline(bytes) => bytes.as_ref(),
        crate::event::Body::Spooled(_) => &[],
    };
    within(body)
        || within(content.kind.as_bytes())
        || within(content.url.as_bytes())
        || content.dedupe_key.as_ref().is_some_and(|key| within(key.as_bytes()))
        || content.headers.iter().any(|(_, value)| within(value))
}

fn contains_ignoring_case(haystack: &[u8], lower_needle: &[u8]) -> bool {
    let Some((first, rest)) = lower_needle.split_first() else { return true };
    let (first, upper) = (*first, first.to_ascii_uppercase());
    let starts = haystack.iter().enumerate().filter(|(_, byte)| **byte == first || **byte == upper);
    let mut after = starts.map(|(at, _)| &haystack[at + 1..]);
    after.any(|after| after.get(..rest.len()).is_some_and(|found| found.eq_ignore_ascii_case(rest)))
}

impl View {
    /// Lists events, newest first; with `after`, oldest first from that position on.
    pub(super) fn events(&self, query: &Query) -> Result<Value, Problem> {
        query.only(&[PARAMETERS.as_slice(), &["limit", "cursor", "after"]].concat())?;
        let filter = EventFilter::of(query, self.clock.now())?;
        let scan_max = if filter.text.is_some() { SEARCH_MAX } else { SCAN_MAX };
        let scan = EventScan { limit: query.limit()?, scan_max };
        let mut failure = None;
        let mut oldest_ms = u64::MAX;
        let wanted = |event: &StoredEvent| {
            oldest_ms = oldest_ms.min(event.id.time_ms());
            filter.wants(&self.log, event).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                false
            })
        };
        let mut found = match (query.get::<Position>("after")?, query.cursor::<Position>()?) {
            (Some(_), Some(_)) => {
                return Err(Problem::bad("invalid_parameter", "use `cursor` or `after`, not both"));
            }
            (Some(after), None) => {
                let mut page = self.log.events_after(Some(after), scan, wanted)?;
                // Who follows the log goes on from here, also at its end.
                page.next = page.next.or(page.items.last().map(|event| event.id.position())).or(Some(after));
                page
            }
            // With `until` too from the end: what was released from the quarantine got its id long after it was
            // received.
            (None, cursor) => self.log.events_before(cursor, scan, wanted)?,
        };
        if let Some(error) = failure {
            return Err(error.into());
        }
        // Ids are in the order of time: behind an event older than `since` there is nothing wanted. A
        // request is read before its id is issued, hence the minute.
        let is_past = |since: Timestamp| (oldest_ms as i64) < since.as_millisecond().saturating_sub(60_000);
        if query.text("after").is_none() && filter.since.is_some_and(is_past) {
            found.next = None;
        }
        let items: Result<_, Error> = found.items.iter().map(|event| self.event_item(event)).collect();
        Ok(page(items?, found.next))
    }

    /// Returns an event as listings show it.
    pub(super) fn event_item(&self, event: &StoredEvent) -> Result<Value, Error> {
        let content = &event.content;
        Ok(json!({
            "id": event.id,
            "provider": content.provider,
            "trigger_id": content.trigger_id,
            "kind": content.kind,
            "received_at": content.received_at,
            "occurred_at": content.occurred_at,
            "dedupe_key": content.dedupe_key,
            "origin": content.origin,
            "held": self.is_held(event)?,
            "state": self.log.state().event_state(event.id)?,
            "signature_status": content.signature_status,
            "body_bytes": content.body.len(),
            "batch": batch(content),
        }))
    }

    /// Tells whether an event that came while its trigger was paused still waits for it to be resumed.
    fn is_held(&self, event: &StoredEvent) -> Result<bool, Error> {
        if !event.content.held {
            return Ok(false);
        }
        let runs = self.log.state().runs_of(event.id)?;
        let waits = |run: &Run| run.state == RunState::Waiting && run.reason.as_deref() == Some(HELD);
        Ok(runs.is_empty() || runs.iter().any(waits))
    }

    /// Finds an event.
    pub(in crate::admin) fn find(&self, id: EventId) -> Result<Arc<StoredEvent>, Problem> {
        self.log.event(id)?.ok_or_else(|| Problem::not_found("event", id))
    }

    /// Returns one event: the `TriggerEvent`, with its state and the request.
    pub(super) fn event(&self, id: EventId) -> Result<Value, Problem> {
        let event = self.find(id)?;
        let content = &event.content;
        let fits = content.body.len() <= SHOWN_BODY_BYTES_MAX;
        let body = if fits { self.log.body(&event)? } else { Bytes::new() };
        let mut shown =
            serde_json::to_value(event.to_trigger_event(&body)).map_err(|error| Problem::internal(&error))?;
        if !fits {
            shown["provider_payload"] =
                json!({"schema": content.schema, "omitted": "the body is large: see body"});
        }
        shown["state"] = json!(self.log.state().event_state(id)?);
        shown["held"] = json!(content.held);
        shown["batch"] = batch(content);
        let headers =
            content.headers.iter().map(|(name, value)| json!([name, String::from_utf8_lossy(value)]));
        shown["request"] = json!({
            "method": content.method,
            "url": content.url,
            "headers": headers.collect::<Vec<_>>(),
            "body_bytes": content.body.len(),
        });
        Ok(shown)
    }

    /// Returns an event's raw body and its content type.
    ///
    /// # Errors
    ///
    /// If there is no such event, or its body is gone.
    pub fn body(&self, id: EventId) -> Result<(Bytes, Option<String>), Problem> {
        let event = self.find(id)?;
        let content_type = event.content.header("content-type").map(std::borrow::Cow::into_owned);
        match self.log.body(&event) {
            Ok(body) => Ok((body, content_type)),
            Err(Error::Body { reason, .. }) => Err(Problem::new(
                410,
                "body_missing",
                format!("the body's file is not as it was written: {reason}"),
            )),
            Err(error) => Err(error.into()),
        }
    }
}

/// Tells which part of its delivery an event is, or nothing if it is all of it.
pub(super) fn batch(content: &EventContent) -> Value {
    let place = |batch: &Batch| json!({"index": batch.index, "count": batch.count});
    content.batch.as_deref().map_or(Value::Null, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_whatever_its_case() {
        assert!(contains_ignoring_case(b"Hello World", b"lo w"));
        assert!(contains_ignoring_case(b"", b""));
        assert!(!contains_ignoring_case(b"Hello", b"hello!"));
    }
}
