//! From a request to its verdict: with the provider's public keys, where it publishes them, and with a
//! panicking connector contained.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::connector::{
    Connector, ConnectorError, FetchedKey, InboundCtx, KeyRequest, NormalizeResult, RawInbound,
};
use crate::event::{RejectReason, TriggerId};
use crate::provider::{Document, PublishedKeys, Unavailable};

/// Part of the time left that may be spent on what must be fetched; the rest is for the log.
const FETCH_SHARE: f64 = 0.6;

/// Why there is no verdict.
#[derive(Debug)]
pub(super) enum NoVerdict {
    /// The connector panicked.
    Panicked,
    /// The connector failed.
    Failed(ConnectorError),
    /// The provider's public keys are not to be had now.
    NoKeys(Unavailable),
}

/// Returns until when something may be fetched for a request that must be answered by `deadline`.
pub(super) fn fetch_deadline(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now).mul_f64(FETCH_SHARE)
}

/// Judges a request as of its arrival. Keys are fetched only for one whose proof has the provider's form.
pub(super) async fn judge(
    keys: &PublishedKeys,
    (connector, trigger_id): (&dyn Connector, &TriggerId),
    raw: &RawInbound,
    armed: bool,
    deadline: Instant,
) -> Result<NormalizeResult, NoVerdict> {
    let ctx = InboundCtx { trigger_id, now: raw.received_at, armed, keys: &[] };
    let with = |keys: &[FetchedKey]| {
        let judged = caught(|| connector.normalize_inbound(raw, InboundCtx { keys, ..ctx }))?;
        judged.map_err(NoVerdict::Failed)
    };
    let wanted = caught(|| connector.wanted_keys(raw, ctx))?;
    if wanted.is_empty() {
        return with(&[]);
    }
    let deadline = fetch_deadline(deadline);
    let mut documents = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let document = keys.get(&wanted, deadline).await.map_err(NoVerdict::NoKeys)?;
        documents.push((wanted, document));
    }
    let result = with(&picked(&documents))?;
    if is_bad_signature(&result) && renewed(keys, &mut documents, deadline).await {
        return with(&picked(&documents));
    }
    Ok(result)
}

/// Picks out of each document what the request is judged with.
fn picked(documents: &[(KeyRequest, Document)]) -> Vec<FetchedKey> {
    documents.iter().flat_map(|(wanted, document)| wanted.pick(document)).collect()
}

/// Takes newer documents where there are some; tells whether there were.
async fn renewed(keys: &PublishedKeys, documents: &mut [(KeyRequest, Document)], deadline: Instant) -> bool {
    let mut renewed = false;
    for (wanted, document) in documents {
        if let Some(newer) = keys.newer(wanted, document, deadline).await {
            *document = newer;
            renewed = true;
        }
    }
    renewed
}

fn caught<T>(judge: impl FnOnce() -> T) -> Result<T, NoVerdict> {
    catch_unwind(AssertUnwindSafe(judge)).map_err(|_| NoVerdict::Panicked)
}

fn is_bad_signature(result: &NormalizeResult) -> bool {
    matches!(result, NormalizeResult::Reject(it) if it.reason == RejectReason::InvalidSignature)
}

/// The wait that a sender is asked for: within what providers heed.
pub(super) fn wait(unavailable: &Unavailable) -> Duration {
    unavailable.retry_after.clamp(Duration::from_secs(1), Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_that_panics_gives_no_verdict_and_ends_nothing_else() {
        assert!(matches!(caught(|| -> () { panic!("on purpose") }), Err(NoVerdict::Panicked)));
        assert!(matches!(caught(|| 1), Ok(1)));
    }
}
