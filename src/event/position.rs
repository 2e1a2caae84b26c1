//! Where a record stands in the log.

use std::fmt;

/// The place of one record in the log: the frame it was committed in, and its index in that frame.
///
/// Positions order records by the time of their commit. They pack into 56 bits (44 for the frame,
/// 12 for the index), which is what lets an [`EventId`](super::EventId) carry its own position, so
/// that looking an event up by id needs no index. 44 bits are 500 years at 1,000 frames a second.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Bits of the index within a frame.
    const INDEX_BITS: u32 = 12;
    /// Most records that one frame may hold.
    pub const RECORDS_PER_FRAME_MAX: usize = 1 << Self::INDEX_BITS;
    /// Greatest frame number that a position can name.
    pub const FRAME_MAX: u64 = (1 << 44) - 1;
    /// Before every record.
    pub const ZERO: Position = Position(0);

    /// Returns the position of record `index` of frame `frame`.
    ///
    /// # Panics
    ///
    /// If `frame` is over [`Self::FRAME_MAX`] or `index` does not fit a frame; both are refused
    /// where frames are cut.
    pub fn new(frame: u64, index: usize) -> Self {
        assert!(frame <= Self::FRAME_MAX, "frame number {frame} out of range");
        assert!(index < Self::RECORDS_PER_FRAME_MAX, "record index {index} out of range");
        Self(frame << Self::INDEX_BITS | index as u64)
    }

    /// Returns the position that packs into `bits`, or nothing if it does not fit 56 bits.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits >> 56 == 0).then_some(Self(bits))
    }

    /// Packs the position into 56 bits; the order of the bits is the order of positions.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the frame's number in its partition.
    pub fn frame(self) -> u64 {
        self.0 >> Self::INDEX_BITS
    }

    /// Returns the record's index in its frame.
    pub fn index(self) -> usize {
        (self.0 & (Self::RECORDS_PER_FRAME_MAX as u64 - 1)) as usize
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.frame(), self.index())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is a frame's number, or that and the record's in it, such as 46 or 46.0")]
pub struct ParsePositionError;

impl std::str::FromStr for Position {
    type Err = ParsePositionError;

    /// Reads `FRAME.INDEX`, or `FRAME` for the frame's first record; numbers out of range are
    /// clamped, as a cursor behind everything reads nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (frame, index) = text.split_once('.').unwrap_or((text, "0"));
        let frame: u64 = frame.parse().map_err(|_| ParsePositionError)?;
        let index: usize = index.parse().map_err(|_| ParsePositionError)?;
        Ok(Self::new(frame.min(Self::FRAME_MAX), index.min(Self::RECORDS_PER_FRAME_MAX - 1)))
    }
}

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> serde::Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(Error::custom)
        } else {
            let bits = u64::deserialize(deserializer)?;
            Self::from_bits(bits).ok_or_else(|| Error::custom("a position has 56 bits"))
        }
    }
}
