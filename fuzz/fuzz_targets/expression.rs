//! Conditions and keys in CEL: whatever compiles ends within its cost limit, and says the same twice.
//!
//! Input: the expression, an empty line, the event's body.

#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use hookkeeper::event::{Body, EventContent, EventId, Origin, Position, SignatureStatus, StoredEvent};
use hookkeeper::subscription::{EventView, Subscription};
use hookkeeper_fuzz::now;
use libfuzzer_sys::fuzz_target;

/// Far above what the cost limit allows, for machines that do other things too.
const TIME_MAX: Duration = Duration::from_secs(5);

fn event(body: &[u8]) -> StoredEvent {
    StoredEvent {
        id: EventId::new(1_700_000_000_000, Position::new(1, 0), 7),
        content: EventContent {
            provider: "github".parse().expect("a name"),
            trigger_id: "github".parse().expect("a name"),
            kind: "push".to_owned(),
            received_at: now(),
            occurred_at: None,
            dedupe_key: Some("72d3162e".to_owned()),
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            origin: Origin::Live,
            held: false,
            method: "POST".to_owned(),
            url: "/hooks/github".to_owned(),
            headers: vec![("x-github-event".to_owned(), Bytes::from_static(b"push"))],
            body: Body::Inline(Bytes::copy_from_slice(body)),
            batch: None,
            schema: "GitHubEventPayload".to_owned(),
            signature_status: SignatureStatus::Verified { covers_body: true },
        },
    }
}

fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let Ok(source) = std::str::from_utf8(&data[..end]) else { return };
    let event = event(data.get(end + 2..).unwrap_or_default());
    let Ok(expression) = Subscription::compile(source) else { return };
    let begun = Instant::now();
    let key = expression.key(&EventView::of(&event));
    assert!(begun.elapsed() < TIME_MAX, "{:?}", begun.elapsed());
    assert_eq!(expression.key(&EventView::of(&event)), key);
});
