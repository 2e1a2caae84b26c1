//! The tests that need more than one module.
#![allow(clippy::unwrap_used, reason = "helpers of tests may end in a panic")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod cli;
mod clients;
mod config;
mod cron;
mod dead_letters;
mod exec_guard;
mod front_door;
mod full_disk;
mod function_tls;
mod keys;
mod learned;
mod own_provider;
mod providers;
mod providers_page;
mod quarantine;
mod real_input;
mod round_trip;
mod sdk;
mod secrets;
mod send_all;
mod serve;
mod strictness;
mod tidy;
mod verify;
