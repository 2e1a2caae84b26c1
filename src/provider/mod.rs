//! One supervised actor per provider: its secrets, rate buckets, activation and handshake state.
//!
//! Requests never wait for an actor: they read the snapshot that it published last, and while a
//! crashed actor is rebuilt, that snapshot goes on serving. Whatever changes state is a message. Beside
//! the actor, shared by all its lives, are the public keys that the provider publishes. Cron triggers have
//! no requests: the actor has them tick. What calls of the provider
//! taught about its rate limits is kept by the actor too. The module knows no HTTP; the front door asks it for a trigger by path.

mod actor;
mod audit_gate;
mod callbacks;
mod calls;
mod client;
mod connector_log;
mod handle;
mod keys;
mod lifecycle;
mod own_events;
mod permits;
mod poller;
mod published;
mod remote;
mod settings;
mod snapshot;
mod task;
mod ticker;
mod timeline;
mod turns;

pub use actor::{Deps, LearnError, ProviderActor, sealed_name};
pub use callbacks::Callbacks;
pub use handle::{Change, ChangeError, ProviderHandle, Providers};
pub use keys::{Document, PublishedKeys};
pub use poller::PollStatus;
pub use remote::Unavailable;
pub use settings::{LastGood, TriggerSecret, TriggerSecrets, Unresolved, trigger_secrets, trigger_settings};
pub use snapshot::{Activation, Counters, Engine, Failure, Fixed, TriggerSnapshot};
pub use timeline::SecretSlot;
pub use turns::Turns;

/// The topic of rejected deliveries.
pub const AUDIT_SIGNATURE: &str = crate::connector::AUDIT_TOPIC;
/// The topic of what happened to providers: secrets learned, panics.
pub const AUDIT_PROVIDER: &str = "audit.provider";

/// Longest reason that is shown, logged or kept of what a connector failed with.
const REASON_BYTES_MAX: usize = 1_024;

/// Returns a connector's reason, shortened where it is longer than anybody reads.
pub(crate) fn shortened(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}
