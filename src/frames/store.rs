//! The narrow waist: a partitioned, fenced, single-writer sequence of opaque frames.
//!
//! The engine behind it knows no records, no clock and no index, so that a replicated log fits in its
//! place. All calls block; the committer's thread makes them.

use bytes::Bytes;

use super::Error;

/// The number of an independent sequence. There is one today.
pub type Partition = u16;
/// The number of a frame in its partition: dense, counted from 1.
pub type Seq = u64;
/// The number of a writer's tenure; a greater one fences the smaller.
pub type Epoch = u64;

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// All frames are on the device; the first has this number.
    At(Seq),
    /// Another writer has taken over: nothing was written.
    Fenced,
    /// No room: nothing was written.
    Full,
    /// It is not known what was written. The writer must acquire the partition anew.
    Unknown(String),
}

/// A log of frames.
///
/// # Examples
///
/// ```
/// use hookkeeper::event_log::{Appended, EventLog, MemoryLog};
///
/// let log = MemoryLog::new();
/// let (epoch, next) = log.acquire(0)?;
/// let appended = log.append(0, epoch, next, &["a frame".into(), "another".into()])?;
/// assert_eq!(appended, Appended::At(1));
/// assert_eq!((log.tail(0)?, log.get(0, 2)?), (2, Some("another".into())));
///
/// // Another writer takes over; the first one is fenced.
/// log.acquire(0)?;
/// assert_eq!(log.append(0, epoch, 3, &["too late".into()])?, Appended::Fenced);
/// # Ok::<(), hookkeeper::event_log::Error>(())
/// ```
pub trait EventLog: Send + Sync + 'static {
    /// Becomes the partition's only writer. Returns the new epoch and the number of the next frame.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written.
    fn acquire(&self, partition: Partition) -> Result<(Epoch, Seq), Error>;

    /// Appends frames, the first one as number `expected`, and returns when they are on the device.
    ///
    /// After a crash any first part of the frames may be there, never a later one without the earlier.
    ///
    /// # Errors
    ///
    /// If `expected` is not the next number, which is a bug of the caller.
    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        expected: Seq,
        frames: &[Bytes],
    ) -> Result<Appended, Error>;

    /// Reads frames from number `from` on, in order: at least one if there is any, then as many as fit `bytes_max`.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn read(&self, partition: Partition, from: Seq, bytes_max: usize) -> Result<Vec<(Seq, Bytes)>, Error>;

    /// Returns the number of the last frame; 0 if there is none.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn tail(&self, partition: Partition) -> Result<Seq, Error>;

    /// Returns one frame.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn get(&self, partition: Partition, seq: Seq) -> Result<Option<Bytes>, Error>;

    /// Drops all frames before `before`. The last frame always stays.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn trim(&self, partition: Partition, before: Seq) -> Result<(), Error>;

    /// Puts another frame in the place of frame `seq`, to erase something from it.
    ///
    /// # Errors
    ///
    /// If the store cannot be written, or has no such frame.
    fn redact(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error>;
}
