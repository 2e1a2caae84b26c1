//! Holds a connector written by others to the bounds that catalogue entries keep by themselves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::batch::PART_BYTES_MAX;
use super::verifier::{UNKNOWN_KIND, tidy_key, tidy_kind};
use super::{
    ActivationHandle, AuditSink, CURSOR_BYTES_MAX, Connector, ConnectorClient, ConnectorCtx, ConnectorError,
    InboundCtx, KeyRequest, NormalizeResult, Normalized, POLLED_EVENTS_MAX, PollCtx, Polled, PolledEvent,
    ProviderPayloadSchema, RawInbound, SignatureRejected, TriggerBinding,
};
use crate::catalog::TriggerKind;
use crate::event::{CRON_TICK, ProviderId, SignatureStatus};
use crate::signature::ITEMS_MAX;

/// Most documents of keys that one request may be judged with.
const WANTED_KEYS_MAX: usize = 4;

/// Longest hint of a rejection; the rest is cut off. Each is a line of the audit.
const HINT_BYTES_MAX: usize = 512;

/// Most bytes of all events of a batch together. Each may have the whole delivery's body, and they are all in memory
/// until they are written.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

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
        let body_bytes = raw.body.len();
        Ok(match self.0.normalize_inbound(raw, InboundCtx { audit: &audit, ..ctx })? {
            NormalizeResult::Event(event) => NormalizeResult::Event(tidy(event)),
            NormalizeResult::Batch(events) if events.is_empty() => NormalizeResult::Event(nameless()),
            NormalizeResult::Batch(events) => NormalizeResult::Batch(batch(events, body_bytes)),
            NormalizeResult::Immediate { reply, events, learn, call } => {
                if let Some(problem) = reply.problem() {
                    return Err(ConnectorError::other(problem));
                }
                NormalizeResult::Immediate { reply, events: batch(events, body_bytes), learn, call }
            }
            NormalizeResult::Reject(mut rejection) => {
                if let Some(status) = rejection.status.filter(|status| !(400..=599).contains(status)) {
                    let problem = format!("a rejection has a status from 400 to 599, not {status}");
                    return Err(ConnectorError::other(problem));
                }
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
fn batch(events: Vec<Normalized>, body_bytes: usize) -> Vec<Normalized> {
    let bytes = |event: &Normalized| {
        event
            .part
            .as_ref()
            .map(|part| part.lead.len().saturating_add(part.body.len()).saturating_add(part.tail.len()))
    };
    // A body that is larger than a part is kept in a file, once for all events.
    let whole = if body_bytes > PART_BYTES_MAX { 0 } else { body_bytes };
    let total = events.iter().fold(0, |sum: usize, event| sum.saturating_add(bytes(event).unwrap_or(whole)));
    let has_large_part = events.iter().any(|event| bytes(event).is_some_and(|bytes| bytes > PART_BYTES_MAX));
    let kept =
        if events.len() > ITEMS_MAX || has_large_part || total > BATCH_BYTES_MAX { 1 } else { events.len() };
    let is_cut = kept < events.len() || has_large_part;
    let whole = |event| if is_cut { Normalized { dedupe_key: None, part: None, ..event } } else { event };
    events.into_iter().take(kept).map(whole).map(tidy).collect()
}

/// The event of a delivery that a connector accepted without saying what it is, nor how it was judged.
fn nameless() -> Normalized {
    Normalized {
        kind: UNKNOWN_KIND.to_owned(),
        dedupe_key: None,
        occurred_at: None,
        signature_status: SignatureStatus::Unsigned,
        secret_index: None,
        part: None,
    }
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
        PolledEvent { kind: named(event.kind), dedupe_key: tidy_key(event.dedupe_key), ..event }
    };
    let events: Vec<_> = polled.events.into_iter().map(tidied).collect();
    if events.iter().any(|event| event.kind == CRON_TICK) {
        return Err(format!("an event of a poll is called {CRON_TICK}, as the events of schedules are"));
    }
    Ok(Polled { events, ..polled })
}

/// Bounds an event. An empty dedupe key would make all events that have one the same.
fn tidy(event: Normalized) -> Normalized {
    let dedupe_key = event.dedupe_key.filter(|key| !key.is_empty()).map(tidy_key);
    Normalized { kind: named(event.kind), dedupe_key, ..event }
}

fn named(kind: String) -> String {
    if kind.is_empty() { UNKNOWN_KIND.to_owned() } else { tidy_kind(kind) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::connector::{BatchPart, DEDUPE_KEY_BYTES_MAX, KIND_BYTES_MAX};

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
        let whole = Normalized { part: None, ..event("a", "1", 1) };
        for (events, body_bytes) in [
            (vec![event("a", "1", 1); 10_000], 1),
            (vec![event("a", "1", PART_BYTES_MAX + 1)], 1),
            (vec![event("a", "1", PART_BYTES_MAX); 129], 1),
            (vec![whole.clone(); ITEMS_MAX], 200_000),
        ] {
            let [event] = &batch(events, body_bytes)[..] else { panic!("it is one event") };
            assert_eq!((event.kind.as_str(), &event.dedupe_key, &event.part), ("a", &None, &None));
        }
        assert_eq!(batch(vec![event("a", "1", 1); ITEMS_MAX], 1).len(), ITEMS_MAX);
        assert_eq!(batch(vec![whole.clone(); 4], PART_BYTES_MAX * 100).len(), 4, "its body is there once");
        assert_eq!(batch(vec![whole.clone()], 1), [whole]);
    }

    #[test]
    fn an_empty_key_is_none_and_an_empty_kind_is_unknown() {
        let event = tidy(event("", "", 1));
        assert_eq!((event.kind.as_str(), event.dedupe_key), (UNKNOWN_KIND, None));
    }
}
