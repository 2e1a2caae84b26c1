//! One actor per function: flow control, attempts, retry, breaker, dead letters.
