//! Takes in what came out of the quarantine: judged anew, with the trigger's present secrets and as of the
//! time of its arrival, then stored as any delivery is.

use std::time::{Duration, Instant};

use actix_web::web;

use super::judge::{Judged, Judgement, NoVerdict};
use super::{Door, content};
use crate::connector::{NormalizeResult, Normalized, RawInbound};
use crate::event::{Body, EventContent, Origin, TriggerId};
use crate::event_log::{INLINE_BODY_BYTES_MAX, IngestError, Ingested, NewEvent};
use crate::provider::{ProviderHandle, TriggerSnapshot};
use crate::quarantine::ReleaseError;

/// How long a released delivery may wait for public keys, and for room in the log. No provider waits for it.
const RELEASE_DEADLINE: Duration = Duration::from_secs(10);

impl Door {
    /// Verifies a kept delivery again and stores its events; returns when they are on the device. The
    /// trigger's own limit does not count it: it counts what providers send.
    ///
    /// # Errors
    ///
    /// If the trigger is not there, or the delivery still does not verify, or the log does not take it.
    pub async fn release(
        &self,
        trigger_id: &TriggerId,
        raw: RawInbound,
    ) -> Result<Vec<Ingested>, ReleaseError> {
        let no_trigger = || ReleaseError::NoTrigger(trigger_id.clone());
        let provider = self.providers.of_trigger(trigger_id).ok_or_else(no_trigger)?;
        let mut snapshots = provider.triggers();
        let snapshot = snapshots.find(|it| it.trigger_id == *trigger_id).ok_or_else(no_trigger)?;
        let events = verified(provider, &snapshot, &raw).await?;
        let held = snapshot.is_paused;
        let body = self.body(&raw).await?;
        let mut contents = content::contents(&snapshot, raw, body, events, held);
        contents.iter_mut().for_each(|content| content.origin = Origin::Quarantine);
        let new = |content: EventContent| NewEvent { content, window: snapshot.fixed.dedupe_window };
        let deadline = Instant::now() + RELEASE_DEADLINE;
        Ok(self.log.ingest(contents.into_iter().map(new).collect(), deadline).await?)
    }

    /// Writes a body to the spool where it is too large for a record.
    async fn body(&self, raw: &RawInbound) -> Result<Body, ReleaseError> {
        if raw.body.len() <= INLINE_BODY_BYTES_MAX {
            return Ok(Body::Inline(raw.body.clone()));
        }
        let (spool, bytes) = (self.log.spool(), raw.body.clone());
        match web::block(move || spool.keep(&bytes)).await {
            Ok(spooled) => Ok(Body::Spooled(spooled.map_err(IngestError::from)?)),
            Err(_) => Err(IngestError::Overloaded.into()),
        }
    }
}

/// Judges a delivery as of its arrival. A handshake is not answered and teaches nothing: its sender is gone.
async fn verified(
    provider: &ProviderHandle,
    snapshot: &TriggerSnapshot,
    raw: &RawInbound,
) -> Result<Vec<Normalized>, ReleaseError> {
    let not_active = || ReleaseError::NotActive(snapshot.trigger_id.clone());
    let engine = snapshot.engine.as_ref().ok_or_else(not_active)?;
    let (connector, trigger_id, turns) = (&engine.connector, &snapshot.trigger_id, provider.turns());
    let judged = Judged { connector, trigger_id, raw, armed: false, turns };
    let deadline = Instant::now() + RELEASE_DEADLINE;
    match judged.judge(provider.keys(), deadline).await {
        Ok(Judgement { result, told }) => match result {
            NormalizeResult::Event(event) => Ok(vec![event]),
            NormalizeResult::Batch(events) | NormalizeResult::Immediate { events, .. }
                if !events.is_empty() =>
            {
                Ok(events)
            }
            NormalizeResult::Batch(_) | NormalizeResult::Immediate { .. } => Err(ReleaseError::Handshake),
            NormalizeResult::Reject(rejection) => Err(ReleaseError::Rejected(told.unwrap_or(rejection))),
        },
        Err(NoVerdict::NoKeys(unavailable)) => Err(ReleaseError::NoKeys(unavailable.why)),
        Err(NoVerdict::Panicked) => {
            tracing::error!(trigger_id = %snapshot.trigger_id, "connector panicked on a released delivery");
            Err(ReleaseError::Panicked)
        }
        Err(NoVerdict::Busy) => Err(IngestError::Overloaded.into()),
        Err(NoVerdict::Failed(error)) => Err(ReleaseError::Failed(error.to_string())),
    }
}
