//! What can go wrong with the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A failure of the log. Cheap to clone, since one failed commit is told to all who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process has the data folder.
    #[error(
        "the data folder {} is in use by process {pid}; stop that process, or choose another folder for this one",
        dir.display()
    )]
    Locked {
        /// The data folder.
        dir: PathBuf,
        /// The other process, as it wrote itself down.
        pid: String,
    },
    /// There is no store where one was to be read.
    #[error("the data folder {} holds no store; give the folder that the server writes to", dir.display())]
    Missing {
        /// The data folder.
        dir: PathBuf,
    },
    /// The store does not open.
    #[error(
        "the store in {} does not open: {reason}; it was left as it is: keep a copy of the folder, then restore \
         a backup or start with an empty folder",
        dir.display()
    )]
    Unreadable {
        /// The data folder.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer program wrote the store.
    #[error(
        "the store in {} has format {found}, and this program knows formats up to {known}; \
         run the newer program that wrote it",
        dir.display()
    )]
    Newer {
        /// The data folder.
        dir: PathBuf,
        /// The store's format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// A frame is not what was written.
    #[error("frame {frame} is damaged: {reason}")]
    Damaged {
        /// The frame's number.
        frame: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The log took an error from the device and takes nothing more until it is opened again.
    #[error("the log takes nothing more until it is opened again: {0}")]
    Failing(String),
    /// The device has not answered in time. What waits for it may still be stored.
    #[error("the device of the data folder does not answer; whether the events are stored is unknown")]
    Stalled,
    /// The disk has less room left than the reserve.
    #[error("the disk of the data folder is full: make room on it")]
    Full,
    /// The log was closed, or opened for reading only.
    #[error("the log is closed for writing")]
    Closed,
    /// A record is larger than a frame can hold.
    #[error("a record of {bytes} bytes is larger than the limit of {max} bytes")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A spooled body is not what was written.
    #[error("the spooled body {name}: {reason}")]
    Body {
        /// The file's name in the `bodies` folder.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: Arc<io::Error>,
    },
}

/// Why events were not stored. Nothing of them is in the log, except after `Failing`, where it is unknown.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// No room in the queue before the deadline.
    #[error("the log's queue had no room before the deadline")]
    Overloaded,
    /// The disk has less room left than the reserve.
    #[error("the disk of the data folder is full")]
    Full,
    /// The log fails, is closed, or refused the record.
    #[error(transparent)]
    Failing(#[from] Error),
}
