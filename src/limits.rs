//! Bounds that several modules share, each with its unit.

/// Bodies up to this many bytes are held in memory and stored in their record; larger ones are
/// spooled to a file. Larger would let a few slow senders hold much memory, and a record must fit a
/// frame; smaller would cost a file and two flushes for bodies that a frame takes easily.
pub const INLINE_BODY_BYTES_MAX: usize = 256 * 1024;

/// Least free space, in bytes, below which the front door stops taking events. What was accepted
/// must still be delivered and recorded, and that writes too.
pub const DISK_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
