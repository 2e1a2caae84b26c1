//! The durable log: an event is here before its sender gets a 2xx.

pub mod record;
