//! Handlers: what an attempt calls. One kind per file.
//!
//! A handler makes one attempt and says what came of it. When to try again, and what a run becomes, is the
//! dispatcher's business; which events there are at all, the router's.

mod client;
mod cloud_event;
mod exec;
pub mod exec_guard;
mod http;
mod standard_webhooks;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::event::{RunId, StoredEvent, Timestamp};

pub use client::Client;
pub use exec::ExecHandler;
pub use http::{HttpHandler, Resigner, Signing};

/// What a handler is called with.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The run; its id is the idempotency key that the receiver sees.
    pub run: RunId,
    /// Counted from 1.
    pub attempt: u32,
    /// The event.
    pub event: Arc<StoredEvent>,
    /// The raw body, read from its file where it was spooled.
    pub body: Bytes,
    /// The time of the attempt, which fresh signatures carry.
    pub now: Timestamp,
    /// How long the attempt may take.
    pub timeout: Duration,
}

/// What a handler answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it means for the run.
    pub verdict: Verdict,
    /// HTTP status or exit code, where there was one.
    pub status: Option<i32>,
    /// What happened, for people; empty on success.
    pub note: String,
    /// What the handler returned, at most [`RESULT_BYTES_MAX`].
    pub answer: Bytes,
}

/// What an answer means for the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done; the answer is the result.
    Done,
    /// Try again, not before this wait where one is given.
    Retry {
        /// The receiver's own wish.
        after: Option<Duration>,
    },
    /// Never try again.
    Fail,
}

/// Most bytes of a result that are kept.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;

/// One kind of handler, built for one function.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Makes one attempt. The dispatcher enforces the timeout by dropping the future, which must
    /// leave nothing behind.
    async fn call(&self, invocation: Invocation) -> Answer;
}

/// Cuts a text to at most `bytes_max` bytes, between two characters.
fn bounded(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The second attempt of a run for an event with the given body.
    pub(crate) fn invocation(body: &str) -> Invocation {
        let event = crate::subscription::tests::event("push", body);
        Invocation {
            run: RunId { event: event.id, function: "deploy".parse().unwrap(), generation: 1 },
            attempt: 2,
            event: Arc::new(event),
            body: Bytes::copy_from_slice(body.as_bytes()),
            now: Timestamp::from_second(1_700_000_000).unwrap(),
            timeout: Duration::from_secs(30),
        }
    }
}
