//! From a request to events. Everything is handed in: bytes, secrets, the time, and who hears of a refusal.

use hookkeeper::connector::{
    BatchPart, HmacStyle, InboundCtx, Normalized, Reply, Verdict, verify_hmac_signed,
};
use hookkeeper::event::{SignatureStatus, Timestamp};
use hookkeeper::secrets::Secret;
use hookkeeper::signature::Window;
use hookkeeper::{ConnectorError, NormalizeResult, ProviderId, RawInbound};
use serde_json::Value;

/// Says what a request is. Acme signs as GitHub does, without a time.
pub(crate) fn judge(
    acme: &ProviderId,
    raw: &RawInbound,
    secrets: &[Secret],
    ctx: InboundCtx<'_>,
) -> Result<NormalizeResult, ConnectorError> {
    let window = Window { now: ctx.now, tolerance: None };
    let verdict = verify_hmac_signed(ctx.audit, acme, HmacStyle::GitHub, raw, secrets, window);
    let secret_index = match verdict.map_err(ConnectorError::other)? {
        Verdict::Verified { secret_index, .. } => secret_index,
        Verdict::Rejected(rejection) => return Ok(NormalizeResult::Reject(rejection)),
    };
    let event = |change: &Value, part| Normalized {
        kind: kind(change),
        dedupe_key: change["id"].as_str().filter(|id| (1..=200).contains(&id.len())).map(str::to_owned),
        occurred_at: occurred_at(change),
        signature_status: SignatureStatus::Verified { covers_body: true },
        secret_index: Some(secret_index),
        part,
    };
    // A signed delivery is an event whatever its shape.
    let body = raw.json_body().unwrap_or_default();
    if let Some(challenge) = body["challenge"].as_str() {
        return Ok(challenged(challenge));
    }
    let parts = BatchPart::of_array(&raw.body, "/changes").unwrap_or_default();
    let changes = body["changes"].as_array().filter(|changes| changes.len() == parts.len());
    Ok(match changes {
        Some(changes) if !changes.is_empty() => NormalizeResult::Batch(
            changes.iter().zip(parts).map(|(change, part)| event(change, Some(part))).collect(),
        ),
        _ => NormalizeResult::Event(event(&body, None)),
    })
}

/// Answers Acme's question whether the URL is ours.
fn challenged(challenge: &str) -> NormalizeResult {
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    let reply = Reply { status: 200, headers, body: challenge.to_owned().into() };
    NormalizeResult::Immediate { reply, events: Vec::new(), learn: None, call: None }
}

/// Tells whether a balance rose or fell.
pub(crate) fn kind(change: &Value) -> String {
    match (change["before"].as_i64(), change["after"].as_i64()) {
        (Some(before), Some(after)) if after > before => "balance.rose",
        (Some(before), Some(after)) if after < before => "balance.fell",
        (Some(_), Some(_)) => "balance.same",
        _ => "unknown",
    }
    .to_owned()
}

pub(crate) fn occurred_at(change: &Value) -> Option<Timestamp> {
    Timestamp::from_second(change["at"].as_i64()?).ok()
}
