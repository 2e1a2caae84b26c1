//! Tests that start the real server, end it at random moments, and look for what it promised.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod kill;
mod load;
mod polls;
mod powercut;
mod store;
