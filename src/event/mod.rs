//! The vocabulary: what an event is and what the things around it are called.
//!
//! Everything else speaks in these types. This module knows no HTTP, no store and no clock.

mod cool_down;
mod fingerprint;
mod id;
mod name;
mod position;
mod run;
mod status;
mod stored;
mod trace_id;
mod trigger_event;

pub use cool_down::{CoolDown, PermitsChange, QuotaLeft, TaughtPace};
pub use fingerprint::Fingerprint;
pub use id::{EventId, ParseEventIdError, ParseRunIdError, RunId};
pub use name::{FunctionId, InvalidName, ProviderId, TriggerId};
pub use position::{ParsePositionError, Position};
pub use run::{EventState, RunState, SkipReason};
pub use status::{ParseRejectReasonError, RejectReason, SignatureStatus};
pub use stored::{Batch, Body, CRON_TICK, EventContent, Header, SpooledBody, StoredEvent};
pub use trace_id::new_trace_id;
pub use trigger_event::{Origin, ProviderPayload, REDACTED, TriggerEvent};

/// An instant as hookkeeper stores it: UTC, microsecond precision.
pub type Timestamp = jiff::Timestamp;
