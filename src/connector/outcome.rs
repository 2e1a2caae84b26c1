//! What a connector makes of a request.

use bytes::Bytes;

use super::BatchPart;
use crate::event::{RejectReason, SignatureStatus, Timestamp};
use crate::secrets::Secret;

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status, 200 to 599.
    pub status: u16,
    /// Headers beside those that HTTP itself needs.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// What one verified delivery says; the front door adds what it knows itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalized {
    /// What happened, such as `pull_request.opened`. An empty one becomes `unknown`.
    pub kind: String,
    /// The identity of the delivery. An empty one is none.
    pub dedupe_key: Option<String>,
    /// When it happened, as the provider says.
    pub occurred_at: Option<Timestamp>,
    /// How the signature was judged.
    pub signature_status: SignatureStatus,
    /// Which secret of the list matched, 0 being the current one.
    pub secret_index: Option<usize>,
    /// The part of the delivery that is this event, where one delivery carries several; otherwise the
    /// event has the whole body.
    pub part: Option<BatchPart>,
}

/// What a request turned out to be.
///
/// # Examples
///
/// ```
/// use hookkeeper::NormalizeResult;
/// use hookkeeper::connector::Reply;
///
/// /// Answers a challenge with its own text.
/// fn challenge(text: &str) -> NormalizeResult {
///     let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
///     let reply = Reply { status: 200, headers, body: text.to_owned().into() };
///     NormalizeResult::Immediate { reply, events: Vec::new(), learn: None, call: None }
/// }
/// assert!(matches!(challenge("3eZbrw1a"), NormalizeResult::Immediate { .. }));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum NormalizeResult {
    /// One event.
    Event(Normalized),
    /// Several events of one delivery, each with its own dedupe key: of two with the same one, such as the delivery's id,
    /// only the first is stored. The delivery is kept whole, as one event without a dedupe key, where there are more than
    /// 4,096, where one's part has more than 512 KiB, where they have more than 64 MiB together, and where there are
    /// none: then it has the kind `unknown`, and counts as unsigned.
    Batch(Vec<Normalized>),
    /// A handshake: the answer, and a secret to learn where the provider sends one. An answer that cannot be sent is
    /// the connector's failure: the sender hears 500, and nothing is stored.
    Immediate {
        /// The answer.
        reply: Reply,
        /// Events that came with it.
        events: Vec<Normalized>,
        /// A secret that the request carries, by its name in the provider's entry.
        learn: Option<(String, Secret)>,
        /// A URL that must be called before the answer, and the hosts that may be called.
        call: Option<(String, Vec<String>)>,
    },
    /// Refused.
    Reject(Rejection),
}

/// A refusal. It is audited with this reason and hint, unless [`InboundCtx::audit`](super::InboundCtx::audit) was told
/// others.
///
/// # Examples
///
/// ```
/// use hookkeeper::NormalizeResult;
/// use hookkeeper::connector::Rejection;
/// use hookkeeper::event::RejectReason;
///
/// /// Tells Acme that it sends to a URL that is no longer its own.
/// fn gone() -> NormalizeResult {
///     let rejection = Rejection::new(RejectReason::InvalidHeader, "x-acme-account is another's");
///     NormalizeResult::Reject(rejection.with_status(410))
/// }
/// # gone();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The code that the sender sees.
    pub reason: RejectReason,
    /// For the operator's eyes: which header, which form. Never a secret, never how close.
    pub hint: String,
    /// Status of the answer, 400 to 599, where the provider takes 401 for something else.
    pub status: Option<u16>,
}

impl Rejection {
    /// Refuses with 401.
    pub fn new(reason: RejectReason, hint: impl Into<String>) -> Self {
        Self { reason, hint: hint.into(), status: None }
    }

    /// Answers with another status, 400 to 599.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl Reply {
    /// Returns what of the answer cannot be sent over HTTP.
    pub(crate) fn problem(&self) -> Option<String> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_token);
        let is_line = |text: &str| !text.contains(|c: char| c.is_control() && c != '\t');
        if !(200..=599).contains(&self.status) {
            return Some(format!("a reply has a status from 200 to 599, not {}", self.status));
        }
        let bad = self.headers.iter().position(|(name, value)| !is_name(name) || !is_line(value));
        bad.map(|at| format!("header number {} of a reply has no name, or a value of several lines", at + 1))
    }
}
