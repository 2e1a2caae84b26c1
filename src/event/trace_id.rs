//! Trace ids of our own, where no sender brings one.

/// Returns a new W3C trace id, 32 hex digits
/// (<https://www.w3.org/TR/trace-context/#trace-id>).
pub fn new_trace_id() -> String {
    // Nobody relies on its secrecy, so it need not cost a call of the system.
    format!("{:032x}", fastrand::u128(1..))
}
