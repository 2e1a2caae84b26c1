//! The front door: route, limits, raw bytes, the answer.
