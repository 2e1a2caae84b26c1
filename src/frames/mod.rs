//! The narrow waist under the event log: a sequence of opaque frames, its errors, and one in memory.
//!
//! `event_log` stores records in such frames, on sled or on whatever else is an [`EventLog`], and names all of
//! this as its own. Without the feature `server` this is all that there is of the log.

mod error;
mod memory_log;
mod store;

pub use error::{Error, IngestError};
pub use memory_log::MemoryLog;
pub use store::{Appended, Epoch, EventLog, Partition, Seq};
