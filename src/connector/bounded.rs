//! Holds a connector written by others to the bounds that catalogue entries keep by themselves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::batch::PART_BYTES_MAX;
use super::verifier::{tidy_key, tidy_kind};
use super::{
    ActivationHandle, AuditSink, CURSOR_BYTES_MAX, Connector, ConnectorClient, ConnectorCtx, ConnectorError,
    InboundCtx, KeyRequest, NormalizeResult, Normalized, POLLED_EVENTS_MAX, PollCtx, Polled, PolledEvent,
    ProviderPayloadSchema, RawInbound, SignatureRejected, TriggerBinding,
};
use crate::catalog::TriggerKind;
use crate::event::{CRON_TICK, ProviderId};
use crate::signature::ITEMS_MAX;

/// Most documents of keys that one request may be judged with.
const WANTED_KEYS_MAX: usize = 4;

/// Longest hint of a rejection; the rest is cut off. Each is a line of the audit.
const HINT_BYTES_MAX: usize = 512;

/// Longest content type of an event that a poll brought.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// A connector whose answers are bounded. It decides nothing else.
pub(super) struct Bounded(pub(super) Box<dyn Connector>);

#[async_trait]
impl Connector for Bounded {
    fn provider_id(&self) -> &ProviderId {
        self.0.provider_id()
    }

    fn kinds(&self) -> &[TriggerKind] {
        self.0.kinds()
    }

    async fn init(&mut self, ctx: ConnectorCtx) -> Result<(), ConnectorError> {
        self.0.init(ctx).await
    }

    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        self.0.activate(bindings).await
    }

    async fn shutdown(&self, deadline: Duration) {
        self.0.shutdown(deadline).await;
    }

    fn wanted_keys(&self, raw: &RawInbound, ctx: InboundCtx<'_>) -> Vec<KeyRequest> {
        let mut wanted = self.0.wanted_keys(raw, ctx);
        wanted.truncate(WANTED_KEYS_MAX);
        wanted
    }

    fn normalize_inbound(
        &self,
        raw: &RawInbound,
        ctx: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        let audit = BoundedAudit(ctx.audit);
        Ok(match self.0.normalize_inbound(raw, InboundCtx { audit: &audit, ..ctx })? {
            NormalizeResult::Event(event) => NormalizeResult::Event(tidy(event)),
            NormalizeResult::Batch(events) => batch(events),
            NormalizeResult::Immediate { reply, events, learn, call } => {
                let events = match batch(events) {
                    NormalizeResult::Event(event) => vec![event],
                    NormalizeResult::Batch(events) => events,
                    NormalizeResult::Immediate { .. } | NormalizeResult::Reject(_) => Vec::new(),
                };
                NormalizeResult::Immediate { reply, events, learn, call }
            }
            NormalizeResult::Reject(mut rejection) => {
                shorten(&mut rejection.hint);
                NormalizeResult::Reject(rejection)
            }
        })
    }

    async fn poll_tick(&self, ctx: PollCtx<'_>) -> Result<Polled, ConnectorError> {
        polled(self.0.poll_tick(ctx).await?).map_err(ConnectorError::other)
    }

    fn payload_schema(&self) -> ProviderPayloadSchema {
        self.0.payload_schema()
    }

    fn client(&self) -> Arc<dyn ConnectorClient> {
        self.0.client()
    }
}

/// Passes on refusals with hints that are bounded.
struct BoundedAudit<'a>(&'a dyn AuditSink);

impl AuditSink for BoundedAudit<'_> {
    fn signature_rejected(&self, mut rejected: SignatureRejected) {
        shorten(&mut rejected.hint);
        self.0.signature_rejected(rejected);
    }
}

fn shorten(hint: &mut String) {
    hint.truncate(hint.floor_char_boundary(HINT_BYTES_MAX));
}

/// Bounds a batch. As with catalogue entries, one of too many or too large elements stays one event: a
/// delivery that was verified is kept, whatever its connector makes of it.
fn batch(events: Vec<Normalized>) -> NormalizeResult {
    let is_too_large = |event: &Normalized| {
        event.part.as_ref().is_some_and(|part| {
            part.lead.len().saturating_add(part.body.len()).saturating_add(part.tail.len()) > PART_BYTES_MAX
        })
    };
    if events.len() > ITEMS_MAX || events.iter().any(is_too_large) {
        let first = events.into_iter().next().expect("there is one that is too many or too large");
        return NormalizeResult::Event(tidy(Normalized { dedupe_key: None, part: None, ..first }));
    }
    NormalizeResult::Batch(events.into_iter().map(tidy).collect())
}

/// Bounds what a poll brought. What is too much is refused, not cut off: the cursor would be beyond it.
fn polled(polled: Polled) -> Result<Polled, String> {
    let count = polled.events.len();
    if count > POLLED_EVENTS_MAX {
        return Err(format!("a poll brought {count} events, and may bring {POLLED_EVENTS_MAX}"));
    }
    let bytes = polled.cursor.as_ref().map_or(0, String::len);
    if bytes > CURSOR_BYTES_MAX {
        return Err(format!("a cursor has {bytes} bytes, and may have {CURSOR_BYTES_MAX}"));
    }
    if polled.events.iter().any(|event| event.dedupe_key.is_empty()) {
        return Err("an event of a poll has no dedupe key".to_owned());
    }
    let tidied = |mut event: PolledEvent| {
        event.content_type.retain(|c| c.is_ascii_graphic() || c == ' ');
        event.content_type.truncate(CONTENT_TYPE_BYTES_MAX);
        PolledEvent { kind: tidy_kind(event.kind), dedupe_key: tidy_key(event.dedupe_key), ..event }
    };
    let events: Vec<_> = polled.events.into_iter().map(tidied).collect();
    if events.iter().any(|event| event.kind == CRON_TICK) {
        return Err(format!("an event of a poll is called {CRON_TICK}, as the events of schedules are"));
    }
    Ok(Polled { events, ..polled })
}

fn tidy(event: Normalized) -> Normalized {
    Normalized { kind: tidy_kind(event.kind), dedupe_key: event.dedupe_key.map(tidy_key), ..event }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::connector::{BatchPart, DEDUPE_KEY_BYTES_MAX, KIND_BYTES_MAX};
    use crate::event::SignatureStatus;

    fn event(kind: &str, key: &str, body_bytes: usize) -> Normalized {
        Normalized {
            kind: kind.to_owned(),
            dedupe_key: Some(key.to_owned()),
            occurred_at: None,
            signature_status: SignatureStatus::Verified { covers_body: true },
            secret_index: None,
            part: Some(BatchPart {
                index: 0,
                count: 1,
                lead: Bytes::new(),
                body: vec![b'x'; body_bytes].into(),
                tail: Bytes::new(),
            }),
        }
    }

    #[test]
    fn the_hint_of_a_refusal_is_bounded_on_its_way_to_the_audit() {
        let told = std::cell::RefCell::new(Vec::new());
        let audit = |rejected: SignatureRejected| told.borrow_mut().push(rejected.hint);
        BoundedAudit(&audit).signature_rejected(SignatureRejected {
            provider_id: ProviderId::new("acme").unwrap(),
            reason: crate::event::RejectReason::InvalidSignature,
            hint: "é".repeat(HINT_BYTES_MAX),
            at: crate::event::Timestamp::UNIX_EPOCH,
            peer: None,
        });
        assert_eq!(told.into_inner(), ["é".repeat(HINT_BYTES_MAX / 2)]);
    }

    #[test]
    fn kinds_and_keys_of_any_length_are_bounded() {
        let event = tidy(event(&"k\n".repeat(10_000), &"d".repeat(100_000), 1));
        assert!(event.kind.len() <= KIND_BYTES_MAX && !event.kind.contains('\n'));
        assert!(event.dedupe_key.unwrap().len() <= DEDUPE_KEY_BYTES_MAX);
    }

    #[test]
    fn what_a_poll_brings_is_bounded_and_never_cut_off() {
        let event = PolledEvent {
            kind: "k".repeat(1_000),
            dedupe_key: "d".repeat(1_000),
            occurred_at: None,
            body: Bytes::new(),
            content_type: "text/plain\r\nx: y".to_owned(),
        };
        let with = |count, key: &str, cursor: usize| {
            let event = PolledEvent { dedupe_key: key.repeat(1_000), ..event.clone() };
            polled(Polled { events: vec![event; count], cursor: Some("c".repeat(cursor)), more: true })
        };
        let bounded = with(POLLED_EVENTS_MAX, "d", CURSOR_BYTES_MAX).unwrap();
        assert!(bounded.more && bounded.cursor.is_some());
        assert_eq!(bounded.events.len(), POLLED_EVENTS_MAX);
        assert_eq!(bounded.events[0].kind.len(), KIND_BYTES_MAX);
        assert!(bounded.events[0].dedupe_key.len() <= DEDUPE_KEY_BYTES_MAX);
        assert_eq!(bounded.events[0].content_type, "text/plainx: y");
        for (count, key, cursor) in
            [(POLLED_EVENTS_MAX + 1, "d", 1), (1, "d", CURSOR_BYTES_MAX + 1), (1, "", 1)]
        {
            assert!(with(count, key, cursor).is_err(), "{count} {key} {cursor}");
        }
        let tick = PolledEvent { kind: CRON_TICK.to_owned(), ..event };
        assert!(polled(Polled { events: vec![tick], cursor: None, more: false }).is_err());
    }

    #[test]
    fn a_batch_that_is_too_large_stays_one_event_without_an_identity() {
        for events in [vec![event("a", "1", 1); 10_000], vec![event("a", "1", PART_BYTES_MAX + 1)]] {
            let NormalizeResult::Event(event) = batch(events) else { panic!("it is one event") };
            assert_eq!((event.kind.as_str(), event.dedupe_key, event.part), ("a", None, None));
        }
        let NormalizeResult::Batch(events) = batch(vec![event("a", "1", 1); ITEMS_MAX]) else {
            panic!("it is within the bound")
        };
        assert_eq!(events.len(), ITEMS_MAX);
    }
}
