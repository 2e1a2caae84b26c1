//! What a connector tells the audit of a request that it rejects.

use std::cell::RefCell;

use super::fixture::Fixture;
use crate::connector::{AuditSink, NormalizeResult, SignatureRejected};
use crate::event::ProviderId;

/// Shortest secret that is looked for in hints: of shorter ones, one may stand there by chance.
const SECRET_BYTES_MIN: usize = 8;

/// Keeps the refusals that a connector tells of.
#[derive(Default)]
pub(super) struct Told(RefCell<Vec<SignatureRejected>>);

impl AuditSink for Told {
    fn signature_rejected(&self, rejected: SignatureRejected) {
        self.0.borrow_mut().push(rejected);
    }
}

/// A request's judgement: what it turned out to be, and which refusals were told on the way.
#[derive(Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) result: NormalizeResult,
    pub(super) told: Vec<SignatureRejected>,
}

impl Judged {
    pub(super) fn new(result: NormalizeResult, told: Told) -> Self {
        Self { result, told: told.0.into_inner() }
    }

    /// Checks that a rejection is audited as it is: for the reason that the sender hears, of this provider and
    /// request, and without a secret. One of which nothing was told is audited with the result itself.
    pub(super) fn check_audit(&self, provider: &ProviderId, fixture: &Fixture) -> Result<(), String> {
        let NormalizeResult::Reject(rejection) = &self.result else { return Ok(()) };
        let hints = self.told.iter().map(|told| &told.hint).chain([&rejection.hint]);
        if hints.into_iter().any(|hint| shows_secret(hint, fixture)) {
            return Err("the hint of a rejection shows a secret".to_owned());
        }
        let Some(last) = self.told.last() else { return Ok(()) };
        if last.reason != rejection.reason {
            let (audited, heard) = (last.reason, rejection.reason);
            return Err(format!("the audit is told {audited}, and the sender {heard}"));
        }
        let (raw, now) = (&fixture.raw, fixture.now);
        match self
            .told
            .iter()
            .all(|told| told.provider_id == *provider && told.at == now && told.peer == raw.peer)
        {
            true => Ok(()),
            false => Err("the audit is told another provider, time or sender than the request's".to_owned()),
        }
    }
}

fn shows_secret(hint: &str, fixture: &Fixture) -> bool {
    let secrets = fixture.trigger.secrets.values().flatten().map(|secret| secret.expose());
    secrets
        .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
        .any(|secret| hint.as_bytes().windows(secret.len()).any(|window| window == secret))
}
