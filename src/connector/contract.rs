//! The types that a connector is written against.

use std::net::IpAddr;

use bytes::Bytes;

use crate::event::{Header, RejectReason, SignatureStatus, Timestamp};

/// One request as it came in, its body as raw bytes.
#[derive(Debug, Clone)]
pub struct RawInbound {
    /// The request's method, upper case.
    pub method: String,
    /// Path and query as sent.
    pub url: String,
    /// Headers in the order sent, names in lower case.
    pub headers: Vec<Header>,
    /// The body, never decompressed.
    pub body: Bytes,
    /// When the body was read completely.
    pub received_at: Timestamp,
    /// The sender's address.
    pub peer: Option<IpAddr>,
}

impl RawInbound {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// If the body is not JSON.
    pub fn json_body(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Returns the values of all headers of the given lower-case name.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(header, _)| header == name).map(|(_, value)| value.as_ref())
    }
}

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
    /// What happened, such as `pull_request.opened`.
    pub kind: String,
    /// The identity of the delivery.
    pub dedupe_key: Option<String>,
    /// When it happened, as the provider says.
    pub occurred_at: Option<Timestamp>,
    /// How the signature was judged.
    pub signature_status: SignatureStatus,
    /// Which secret of the list matched, 0 being the current one.
    pub secret_index: Option<usize>,
}

/// What a request turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum NormalizeResult {
    /// One event.
    Event(Normalized),
    /// Several events of one delivery, each with its own dedupe key.
    Batch(Vec<Normalized>),
    /// A handshake: the answer, and a secret to learn where the provider sends one.
    Immediate {
        /// The answer.
        reply: Reply,
        /// Events that came with it.
        events: Vec<Normalized>,
        /// A secret that the request carries, by its name in the provider's entry.
        learn: Option<(String, crate::secrets::Secret)>,
    },
    /// Refused.
    Reject(Rejection),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The code that the sender sees.
    pub reason: RejectReason,
    /// For the operator's eyes: which header, which form. Never a secret, never how close.
    pub hint: String,
}
