//! Backoff, jitter, token bucket: arithmetic only.
//!
//! Nothing here waits, reads a clock or knows what it is limiting: time comes in, a wait goes out.

mod token_bucket;

pub use token_bucket::TokenBucket;
