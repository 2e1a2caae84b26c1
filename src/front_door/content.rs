//! From a verified request to the content of its events: what the front door itself knows of them.

use bytes::Bytes;

use crate::connector::{BatchPart, Normalized, RawInbound};
use crate::event::{Batch, Body, EventContent, Header, Origin, new_trace_id};
use crate::provider::TriggerSnapshot;

/// Builds the content of each event of one delivery; the body's bytes are shared, not copied.
pub(super) fn contents(
    snapshot: &TriggerSnapshot,
    raw: RawInbound,
    body: Body,
    events: Vec<Normalized>,
    held: bool,
) -> Vec<EventContent> {
    let trace_id = trace_id(&raw);
    let credentials = &snapshot.fixed.credentials;
    let mut headers = credentials.redact_headers(raw.headers);
    if events.iter().any(|event| event.part.is_some()) {
        name_json(&mut headers);
    }
    let url = credentials.redact_url(raw.url);
    let last = events.len().saturating_sub(1);
    let build = |(index, event): (usize, Normalized)| EventContent {
        provider: snapshot.provider.clone(),
        trigger_id: snapshot.trigger_id.clone(),
        kind: event.kind,
        received_at: raw.received_at,
        occurred_at: event.occurred_at,
        dedupe_key: event.dedupe_key,
        trace_id: trace_id.clone(),
        origin: Origin::Live,
        held,
        method: raw.method.clone(),
        url: url.clone(),
        // Most deliveries are one event: its headers are moved, not copied.
        headers: if index == last { std::mem::take(&mut headers) } else { headers.clone() },
        body: event.part.as_ref().map_or_else(|| body.clone(), |part| Body::Inline(part.body.clone())),
        batch: event.part.map(|part| Box::new(batch(part))),
        schema: snapshot.fixed.entry.event.schema.clone(),
        signature_status: event.signature_status,
    };
    events.into_iter().enumerate().map(build).collect()
}

/// Names an element of a batch as what it is: where the batch came in a form, the event's body is JSON.
fn name_json(headers: &mut [Header]) {
    for (name, value) in headers {
        if name == "content-type" && !value.to_ascii_lowercase().windows(4).any(|part| part == b"json") {
            *value = Bytes::from_static(b"application/json");
        }
    }
}

fn batch(part: BatchPart) -> Batch {
    Batch { index: part.index, count: part.count, lead: part.lead, tail: part.tail }
}

/// Returns the trace id of the sender's `traceparent`
/// (<https://www.w3.org/TR/trace-context/#traceparent-header>), else a new one.
fn trace_id(raw: &RawInbound) -> String {
    let sent = raw.header_values("traceparent").next().and_then(|value| std::str::from_utf8(value).ok());
    sent.and_then(parse_trace_id).unwrap_or_else(new_trace_id)
}

fn parse_trace_id(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let valid = version.len() == 2 && hex(version) && version != "ff" && id.len() == 32 && hex(id);
    (valid && id.bytes().any(|b| b != b'0')).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trace_id_is_the_senders_where_it_is_valid() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(parse_trace_id(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        for bad in ["", "00", "00-xyz-1-1", &format!("ff-{id}-1-1"), &format!("00-{}-1-1", "0".repeat(32))] {
            assert_eq!(parse_trace_id(bad), None, "{bad}");
        }
        assert_ne!(new_trace_id(), new_trace_id());
        assert_eq!(new_trace_id().len(), 32);
    }

    proptest! {
        #[test]
        fn a_trace_id_is_always_one(traceparent in prop_oneof![".{0,80}", "[0-9a-f]{2}-[0-9a-f]{32}(-.{0,20})?"]) {
            if let Some(id) = parse_trace_id(&traceparent) {
                prop_assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{}", id);
            }
        }
    }
}
