//! hookkeeper: a durable webhook runtime in one binary.
//!
//! Read from top to bottom, the modules tell the way of one event: from the front door to the function.

pub mod app;

pub mod cli;

pub mod admin;
pub mod front_door;

pub mod provider;

pub mod quarantine;

pub mod dispatch;
pub mod router;
pub mod supervise;

pub mod testkit;

pub mod connector;
pub mod function;
pub mod replay;

pub mod event_log;
pub mod outbound;
pub mod permits;
pub mod secrets;

pub mod catalog;
pub mod flow;
pub mod signature;
pub mod subscription;

pub mod clock;
pub mod config;
pub mod event;
pub mod schedule;
