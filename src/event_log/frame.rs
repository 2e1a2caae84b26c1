//! Frames: the unit of a commit. A header, and records packed behind it.
//!
//! Nothing in a frame depends on the store that holds it. Decoding never panics on garbage and never
//! allocates more than the limits below.

use bytes::Bytes;

use super::codec::{self, DecodeError, EventHead};
use super::record::Record;
use crate::event::{EventId, Position};
use crate::frames::{Partition, Seq};

/// Most events in one frame: more make a single event dearer to read, fewer compress worse.
pub(crate) const FRAME_EVENTS_MAX: usize = 64;
/// Size at which a frame is full, before compression.
pub(crate) const FRAME_BYTES_FULL: usize = 512 * 1024;
/// Largest record, so that the largest frame is known too.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Largest frame before compression: one record may overrun the size at which a frame is full.
const FRAME_BYTES_MAX: usize = FRAME_BYTES_FULL + RECORD_BYTES_MAX + 4;

const MAGIC: [u8; 4] = *b"HKFR";
const VERSION: u8 = 1;
const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// Cheapest level: the committer's time is scarcer than the disk.
const ZSTD_LEVEL: i32 = 1;
/// Below this size compression gains nothing.
const COMPRESS_BYTES_MIN: usize = 128;

/// magic 4, version 1, codec 1, partition 2, records 4, raw length 4, seq 8, time 8, crc 4.
const HEADER_BYTES: usize = 36;
const CRC_AT: usize = 32;
/// Length prefix of a record.
pub(crate) const PREFIX_BYTES: usize = 4;

/// A frame as it is read: records are decoded when asked for.
#[derive(Debug)]
pub struct Frame {
    seq: Seq,
    time_ms: u64,
    raw: Bytes,
    /// Where each record begins in `raw`, behind its length.
    starts: Vec<u32>,
}

impl Frame {
    /// Returns the frame's number.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the greatest time that any event id had carried when the frame was committed, in milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Returns how many records the frame holds.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Tells whether the frame holds no record.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Returns the frame's size in memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.raw.len() + self.starts.len() * 4 + size_of::<Self>()
    }

    /// Returns the bytes of record `index`, or nothing past the end.
    pub(crate) fn bytes(&self, index: usize) -> Option<&[u8]> {
        let start = *self.starts.get(index)? as usize;
        let end = self.starts.get(index + 1).map_or(self.raw.len(), |next| *next as usize - PREFIX_BYTES);
        self.raw.get(start..end)
    }

    /// Returns the position of record `index`.
    pub fn position(&self, index: usize) -> Position {
        Position::new(self.seq, index)
    }

    /// Decodes record `index`; nothing past the end.
    ///
    /// # Errors
    ///
    /// If the record is not of a form that this program knows.
    pub fn record(&self, index: usize) -> Result<Option<Record>, DecodeError> {
        self.bytes(index).map(codec::decode_record).transpose()
    }

    /// Tells whether record `index` is an event, without decoding it.
    pub fn is_event(&self, index: usize) -> bool {
        self.bytes(index).is_some_and(codec::is_event)
    }

    /// Returns the id of record `index` if it is an event, without decoding the rest.
    pub fn event_id(&self, index: usize) -> Option<EventId> {
        codec::event_id(self.bytes(index)?)
    }

    /// Decodes the head of record `index` if it is an event.
    pub(crate) fn event_head(&self, index: usize) -> Result<Option<EventHead<'_>>, DecodeError> {
        self.bytes(index).filter(|record| codec::is_event(record)).map(codec::event_head).transpose()
    }

    /// Decodes all records in order.
    pub fn records(&self) -> impl Iterator<Item = (Position, Result<Record, DecodeError>)> {
        (0..self.len()).map(|index| {
            let bytes = self.bytes(index).expect("index is below the length");
            (self.position(index), codec::decode_record(bytes))
        })
    }
}

/// Puts records together into one frame.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    raw: Vec<u8>,
    starts: Vec<u32>,
    events: usize,
}

impl FrameBuilder {
    /// Returns a builder for about so many bytes of records. Growing step by step instead would cut the
    /// memory to pieces.
    pub(crate) fn for_bytes(bytes: usize) -> Self {
        Self { raw: Vec::with_capacity(bytes.min(FRAME_BYTES_FULL)), ..Self::default() }
    }

    /// Returns the index that the next record will have.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns how many bytes there are, before compression.
    pub(crate) fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// Tells whether a further record must go into the next frame.
    pub(crate) fn is_full_for(&self, record_bytes: usize) -> bool {
        self.events >= FRAME_EVENTS_MAX
            || self.starts.len() >= Position::RECORDS_PER_FRAME_MAX
            || (!self.raw.is_empty() && self.raw.len() + PREFIX_BYTES + record_bytes > FRAME_BYTES_FULL)
    }

    /// Appends an encoded record of at most [`RECORD_BYTES_MAX`]; returns where it begins.
    pub(crate) fn push(&mut self, record: &[u8]) -> usize {
        debug_assert!(record.len() <= RECORD_BYTES_MAX, "checked where records are encoded");
        self.raw.extend_from_slice(&(record.len() as u32).to_le_bytes());
        let start = self.raw.len();
        self.starts.push(start as u32);
        self.raw.extend_from_slice(record);
        start
    }

    /// Appends an event under the given id.
    pub(crate) fn push_event(&mut self, record: &[u8], id: EventId) {
        let start = self.push(record);
        codec::set_event_id(&mut self.raw[start..], id);
        self.events += 1;
    }

    /// Returns the frame's stored form and the frame itself.
    pub(crate) fn finish(
        self,
        partition: Partition,
        seq: Seq,
        time_ms: u64,
        compressor: &mut Compressor,
    ) -> (Bytes, Frame) {
        let (codec, payload) = match compressor.compress(&self.raw) {
            Some(packed) => (CODEC_ZSTD, packed),
            None => (CODEC_RAW, self.raw.as_slice()),
        };
        let mut stored = Vec::with_capacity(HEADER_BYTES + payload.len());
        stored.extend_from_slice(&MAGIC);
        stored.extend_from_slice(&[VERSION, codec]);
        stored.extend_from_slice(&partition.to_le_bytes());
        stored.extend_from_slice(&(self.starts.len() as u32).to_le_bytes());
        stored.extend_from_slice(&(self.raw.len() as u32).to_le_bytes());
        stored.extend_from_slice(&seq.to_le_bytes());
        stored.extend_from_slice(&time_ms.to_le_bytes());
        let crc = checksum(&stored, payload);
        stored.extend_from_slice(&crc.to_le_bytes());
        stored.extend_from_slice(payload);
        (stored.into(), Frame { seq, time_ms, raw: self.raw.into(), starts: self.starts })
    }
}

/// A reusable compressor.
pub(crate) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new() -> Self {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level is one that zstd knows");
        Self { zstd, packed: Vec::new() }
    }

    /// Returns the compressed bytes, or nothing if they would not be fewer.
    fn compress(&mut self, raw: &[u8]) -> Option<&[u8]> {
        if raw.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let length = self.zstd.compress_to_buffer(raw, &mut self.packed).ok()?;
        (length < raw.len()).then_some(self.packed.as_slice())
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(payload);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Returns the numbers of frames whose stored form begins somewhere in the given bytes, as their headers say.
/// Nothing is checked: the bytes have a checksum of their own.
pub(super) fn seqs_within(bytes: &[u8]) -> impl Iterator<Item = Seq> + '_ {
    let is_header = |bytes: &&[u8]| bytes[..4] == MAGIC && bytes[4] == VERSION && bytes[5] <= CODEC_ZSTD;
    bytes.windows(HEADER_BYTES).filter(is_header).map(|header| u64_at(header, 16))
}

/// Reads a frame's stored form and checks it: checksum, lengths, and that it is the frame of that place.
///
/// # Errors
///
/// If the bytes are not frame `seq` of `partition` as it was written.
pub fn decode_frame(partition: Partition, seq: Seq, stored: &[u8]) -> Result<Frame, DecodeError> {
    let Some((header, payload)) = stored.split_at_checked(HEADER_BYTES) else {
        return Err(DecodeError::Short);
    };
    if header[..4] != MAGIC {
        return Err(DecodeError::Invalid("it does not begin as a frame does"));
    }
    if header[4] != VERSION {
        return Err(DecodeError::UnknownVersion { what: "frame", version: header[4] });
    }
    if u32_at(header, CRC_AT) != checksum(&header[..CRC_AT], payload) {
        return Err(DecodeError::Invalid("its checksum does not match"));
    }
    if u16::from_le_bytes([header[6], header[7]]) != partition || u64_at(header, 16) != seq {
        return Err(DecodeError::Invalid("it is the frame of another place"));
    }
    let (count, raw_bytes) = (u32_at(header, 8) as usize, u32_at(header, 12) as usize);
    if raw_bytes > FRAME_BYTES_MAX || count > Position::RECORDS_PER_FRAME_MAX {
        return Err(DecodeError::Invalid("it is larger than a frame can be"));
    }
    let raw = match header[5] {
        CODEC_RAW => payload.to_vec(),
        CODEC_ZSTD => zstd::bulk::decompress(payload, raw_bytes)
            .map_err(|_| DecodeError::Invalid("its content does not decompress"))?,
        _ => return Err(DecodeError::Invalid("its compression is unknown")),
    };
    if raw.len() != raw_bytes {
        return Err(DecodeError::Invalid("its length does not match"));
    }
    let starts = starts(&raw, count)?;
    Ok(Frame { seq, time_ms: u64_at(header, 24), raw: raw.into(), starts })
}

fn starts(raw: &[u8], count: usize) -> Result<Vec<u32>, DecodeError> {
    let mut starts = Vec::with_capacity(count);
    let mut at = 0;
    while at < raw.len() {
        let start = at + PREFIX_BYTES;
        if start > raw.len() {
            return Err(DecodeError::Short);
        }
        starts.push(start as u32);
        at = start + u32_at(raw, at) as usize;
    }
    if at != raw.len() || starts.len() != count {
        return Err(DecodeError::Invalid("its records do not fill it"));
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_of(records: &[Vec<u8>]) -> Bytes {
        let mut builder = FrameBuilder::default();
        for record in records {
            builder.push(record);
        }
        builder.finish(0, 7, 99, &mut Compressor::new()).0
    }

    proptest! {
        #[test]
        fn frames_round_trip(records in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..300), 0..20)) {
            let frame = decode_frame(0, 7, &frame_of(&records)).unwrap();
            prop_assert_eq!(frame.time_ms(), 99);
            let read: Vec<_> = (0..frame.len()).map(|i| frame.bytes(i).unwrap().to_vec()).collect();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_frame(0, 7, &bytes);
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut stored = frame_of(&[vec![1; 200], vec![2; 30]]).to_vec();
            let at = at.index(stored.len());
            stored[at] ^= 1 << bit;
            prop_assert!(decode_frame(0, 7, &stored).is_err());
        }
    }

    #[test]
    fn frame_of_another_place_is_refused() {
        let stored = frame_of(&[vec![1, 2, 3]]);
        assert!(decode_frame(0, 7, &stored).is_ok());
        assert!(decode_frame(0, 8, &stored).is_err());
        assert!(decode_frame(1, 7, &stored).is_err());
    }

    #[test]
    fn length_that_would_need_much_memory_is_refused_before_allocating() {
        let mut stored = frame_of(&[vec![1; 500]]).to_vec();
        stored[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = checksum(&stored[..CRC_AT], &stored[HEADER_BYTES..]);
        stored[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert!(decode_frame(0, 7, &stored).is_err());
    }
}
