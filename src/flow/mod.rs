//! Backoff, jitter, token bucket, concurrency: arithmetic only.
