//! Backoff, jitter, token bucket: arithmetic only.
//!
//! Nothing here waits, reads a clock or knows what it is limiting: time comes in, a wait goes out.

mod backoff;
mod retry_after;
mod token_bucket;

pub use backoff::{JITTER_MAX, backoff, next_wait, with_jitter};
pub use retry_after::{RETRY_AFTER_MAX, retry_after};
pub use token_bucket::TokenBucket;
