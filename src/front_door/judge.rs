//! From a request to its verdict: with the provider's public keys, where it publishes them, and with a
//! panicking connector contained.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::connector::{FetchedKey, Judging, NormalizeResult, RawInbound, Verifier};
use crate::event::RejectReason;
use crate::provider::{PublishedKeys, Unavailable};

/// Part of the time left that may be spent on what must be fetched; the rest is for the log.
const FETCH_SHARE: f64 = 0.6;

/// Why there is no verdict.
#[derive(Debug)]
pub(super) enum NoVerdict {
    /// The connector panicked.
    Panicked,
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
    verifier: &Verifier,
    raw: &RawInbound,
    armed: bool,
    deadline: Instant,
) -> Result<NormalizeResult, NoVerdict> {
    let with = |keys: &[FetchedKey]| {
        caught(|| verifier.normalize_inbound(raw, Judging { now: raw.received_at, armed, keys }))
    };
    let Some(wanted) = caught(|| verifier.wanted_keys(raw))? else { return with(&[]) };
    let deadline = fetch_deadline(deadline);
    let document = keys.get(&wanted, deadline).await.map_err(NoVerdict::NoKeys)?;
    let result = with(&wanted.pick(&document))?;
    if is_bad_signature(&result)
        && let Some(newer) = keys.newer(&wanted, &document, deadline).await
    {
        return with(&wanted.pick(&newer));
    }
    Ok(result)
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
