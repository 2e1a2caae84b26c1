//! From a request to its verdict: with the provider's public keys, where it publishes them, and with a
//! panicking connector contained.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;

use crate::connector::{
    AuditSink, Connector, ConnectorError, FetchedKey, InboundCtx, KeyRequest, NormalizeResult, RawInbound,
    Rejection, SignatureRejected,
};
use crate::event::{RejectReason, TriggerId};
use crate::event_log::INLINE_BODY_BYTES_MAX;
use crate::provider::{Document, PublishedKeys, Turns, Unavailable};

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
    /// The connector did not come to it, or to an end, by the deadline.
    Busy,
}

/// What a request turned out to be.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) result: NormalizeResult,
    /// What the connector told the audit of it; of a request that is accepted, that is no refusal.
    pub(super) told: Option<Rejection>,
}

impl Judgement {
    fn is_bad_signature(&self) -> bool {
        matches!(&self.result, NormalizeResult::Reject(it) if it.reason == RejectReason::InvalidSignature)
    }
}

/// Keeps the last refusal that a connector tells of.
#[derive(Default)]
struct Told(RefCell<Option<Rejection>>);

impl AuditSink for Told {
    fn signature_rejected(&self, rejected: SignatureRejected) {
        *self.0.borrow_mut() = Some(rejected.into());
    }
}

/// Returns until when something may be fetched for a request that must be answered by `deadline`.
pub(super) fn fetch_deadline(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now).mul_f64(FETCH_SHARE)
}

/// A request that is to be judged as of its arrival.
pub(super) struct Judged<'a> {
    pub(super) connector: &'a Arc<dyn Connector>,
    pub(super) trigger_id: &'a TriggerId,
    pub(super) raw: &'a RawInbound,
    /// Whether a handshake may bring a secret.
    pub(super) armed: bool,
    /// The provider's turns at judging, where its connector is code of which nobody knows how long it takes.
    pub(super) turns: Option<&'a Turns>,
}

impl Judged<'_> {
    /// Judges the request. Keys are fetched only for one whose proof has the provider's form.
    pub(super) async fn judge(
        &self,
        keys: &PublishedKeys,
        deadline: Instant,
    ) -> Result<Judgement, NoVerdict> {
        let wanted = match self.ask(deadline, |it| it.begin()).await? {
            ControlFlow::Break(judgement) => return Ok(judgement),
            ControlFlow::Continue(wanted) => wanted,
        };
        let fetch_until = fetch_deadline(deadline);
        let mut documents = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let document = keys.get(&wanted, fetch_until).await.map_err(NoVerdict::NoKeys)?;
            documents.push((wanted, document));
        }
        let picked = picked(&documents);
        let judgement = self.ask(deadline, move |it| it.normalize(&picked)).await?;
        if judgement.is_bad_signature() && renewed(keys, &mut documents, fetch_until).await {
            let picked = self::picked(&documents);
            return self.ask(deadline, move |it| it.normalize(&picked)).await;
        }
        Ok(judgement)
    }

    fn ctx<'k>(&'k self, keys: &'k [FetchedKey], audit: &'k dyn AuditSink) -> InboundCtx<'k> {
        InboundCtx { trigger_id: self.trigger_id, now: self.raw.received_at, armed: self.armed, keys, audit }
    }

    /// Asks the connector: here, which is quickest, or on another thread, for what takes long would hold up whatever
    /// else this worker has. That is hashing and reading a large body, and code that is not ours.
    async fn ask<T: Send + 'static>(
        &self,
        deadline: Instant,
        question: impl FnOnce(&Judged<'_>) -> Result<T, NoVerdict> + Send + 'static,
    ) -> Result<T, NoVerdict> {
        if self.turns.is_none() && self.raw.body.len() <= INLINE_BODY_BYTES_MAX {
            return question(self);
        }
        let (connector, trigger_id) = (self.connector.clone(), self.trigger_id.clone());
        let (raw, armed) = (self.raw.clone(), self.armed);
        let question = move || {
            let (connector, trigger_id, raw) = (&connector, &trigger_id, &raw);
            question(&Judged { connector, trigger_id, raw, armed, turns: None })
        };
        match self.turns {
            Some(turns) => turns.work(deadline, question).await.ok_or(NoVerdict::Busy)?,
            None => web::block(question).await.unwrap_or(Err(NoVerdict::Panicked)),
        }
    }

    /// Asks the connector without keys; goes on with those that it wants.
    fn begin(&self) -> Result<ControlFlow<Judgement, Vec<KeyRequest>>, NoVerdict> {
        // Nothing is refused yet: whatever a connector tells here, it is asked again with the keys.
        let wanted = caught(|| self.connector.wanted_keys(self.raw, self.ctx(&[], &|_| ())))?;
        if !wanted.is_empty() {
            return Ok(ControlFlow::Continue(wanted));
        }
        self.normalize(&[]).map(ControlFlow::Break)
    }

    fn normalize(&self, keys: &[FetchedKey]) -> Result<Judgement, NoVerdict> {
        let told = Told::default();
        let judged = caught(|| self.connector.normalize_inbound(self.raw, self.ctx(keys, &told)))?;
        Ok(Judgement { result: judged.map_err(NoVerdict::Failed)?, told: told.0.into_inner() })
    }
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
