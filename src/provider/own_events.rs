//! Stores events that no request brought: ticks of schedules, and what polls found.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Trigger;
use crate::event::{Body, EventContent, Origin, ProviderId, SignatureStatus, Timestamp, new_trace_id};
use crate::event_log::{Condition, IngestError, Ingested, Log, NewEvent};

use super::Fixed;

/// How long such events wait for room in the log before they are tried again.
const DEADLINE: Duration = Duration::from_secs(10);
/// Events that are stored at once.
pub(super) const STORED_AT_ONCE: usize = 100;

/// One event, as its source tells it.
pub(super) struct OwnEvent {
    pub(super) kind: String,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) dedupe_key: String,
    pub(super) content_type: String,
    pub(super) body: Body,
}

/// Where the events of one provider go.
pub(super) struct OwnEvents {
    pub(super) log: Log,
    pub(super) provider: ProviderId,
}

impl OwnEvents {
    /// Tells whether the log takes events now.
    pub(super) fn takes_events(&self) -> bool {
        self.log.health().condition == Condition::Ok
    }

    /// Stores events of one trigger, in order; returns when they are on the device.
    pub(super) async fn store(
        &self,
        (trigger, fixed): (&Trigger, &Fixed),
        now: Timestamp,
        events: Vec<OwnEvent>,
    ) -> Result<(), IngestError> {
        let held = self.log.state().trigger(&trigger.id).paused;
        let new = |event| NewEvent {
            content: self.content((trigger, fixed), now, held, event),
            window: fixed.dedupe_window,
        };
        let events = events.into_iter().map(new).collect();
        for ingested in self.log.ingest(events, Instant::now() + DEADLINE).await? {
            match ingested {
                Ingested::Stored(_) => fixed.counters.count_accepted(now),
                Ingested::Duplicate(_) => fixed.counters.count_duplicate(),
            }
        }
        Ok(())
    }

    fn content(
        &self,
        (trigger, fixed): (&Trigger, &Fixed),
        now: Timestamp,
        held: bool,
        event: OwnEvent,
    ) -> EventContent {
        EventContent {
            provider: self.provider.clone(),
            trigger_id: trigger.id.clone(),
            kind: event.kind,
            received_at: now,
            occurred_at: event.occurred_at,
            dedupe_key: Some(event.dedupe_key),
            trace_id: new_trace_id(),
            origin: Origin::Live,
            held,
            method: String::new(),
            url: String::new(),
            headers: vec![("content-type".to_owned(), Bytes::from(event.content_type))],
            body: event.body,
            batch: None,
            schema: fixed.entry.event.schema.clone(),
            signature_status: SignatureStatus::Unsigned,
        }
    }
}
