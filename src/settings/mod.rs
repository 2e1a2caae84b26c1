//! What can be set without a configuration file: where a secret is found, whom our own requests may
//! reach, what identifies a delivery, how waits grow; and which known word was meant by an unknown one.
//!
//! These are all the settings that the library has without the feature `server`. `config` reads them out
//! of a file, and names them as its own.

mod nearest;
mod secret_ref;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use nearest::nearest;
pub use secret_ref::{RefError, STORE_NAME_BYTES_MAX, SecretRef, is_env_name, is_store_name};

/// `[outbound]`: requests for the keys that providers publish, calls of their APIs, and answers to handshakes
/// that want a call.
#[derive(Debug, Clone, Default)]
pub struct Outbound {
    /// Networks that may be called although they are not public.
    pub allow_private: Vec<IpNet>,
    /// Addresses of hosts, names in lower case, in place of what DNS says.
    pub hosts: BTreeMap<String, SocketAddr>,
    /// PEM file of certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

impl Outbound {
    /// Most entries of a list.
    pub const ENTRIES_MAX: usize = 256;
}

/// What identifies a delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dedupe {
    /// The provider's delivery id, if its entry names one.
    #[default]
    Delivery,
    /// The SHA-256 of the body, where there is no delivery id.
    Body,
}

/// How waits grow from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, the last repeating.
    Standard,
    /// 1 s doubled each time, up to 1 h.
    Exponential,
    /// 10 s more each time, up to 1 h.
    Linear,
    /// No wait.
    None,
}

impl Backoff {
    /// Every schedule.
    pub const ALL: [Backoff; 4] = [Backoff::Standard, Backoff::Exponential, Backoff::Linear, Backoff::None];

    /// Returns the schedule's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Backoff::Standard => "standard",
            Backoff::Exponential => "exponential",
            Backoff::Linear => "linear",
            Backoff::None => "none",
        }
    }
}
