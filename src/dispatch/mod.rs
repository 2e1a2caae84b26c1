//! One actor per function: flow control, attempts, retry, breaker, dead letters.
//!
//! Runs come here when the router's decision on them is durable and folded. A [`Dispatcher`] takes its function's
//! due runs from the log's state, makes attempts within the function's limits, and records each one's end;
//! when the next attempt is due follows from that record, so a restart goes on where it was. All dispatchers share
//! one thread, [`arbiter`], and none waits for another. What an attempt calls is the handler's business; which
//! runs there are, the router's.

mod attempt;
mod breaker;
mod dispatcher;
mod keys;
mod outcome;
mod shared;
mod slots;
#[cfg(test)]
mod tests;

pub use dispatcher::{Dispatcher, Drain};
pub use outcome::{ATTEMPTS_EXHAUSTED, BODY_MISSING, FINAL};
pub use shared::{Dispatch, Snapshot};

use crate::supervise;

/// Starts the thread of all dispatchers and of the http client: an arbiter of its own, at lower priority.
pub fn arbiter() -> actix::Arbiter {
    let arbiter = actix::Arbiter::new();
    arbiter.spawn_fn(supervise::give_way_to_ingest);
    arbiter
}
