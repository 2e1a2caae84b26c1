//! What sled 0.34 would find in its file when it opens it, found out without changing a byte.
//!
//! sled takes the first message that does not read for the end of what was written, drops all behind it without a
//! word, and overwrites it: after a power cut that is right, after damage it is not. So its way through the file is
//! gone here first, over what was written since its last snapshot, and the frames on that way are compared with
//! those that are known to have been on the device. Frames are told by the header of their own; of sled's format,
//! which is fixed for 0.34, no more is known here than that takes: segments begin with a sequence number and are
//! filled with messages that have a checksum.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frame;
use crate::frames::Seq;

/// sled's log sequence number: the place in the endless log of which segments are pieces.
type Lsn = i64;

const SEGMENT_HEADER_BYTES: usize = 20;
const MESSAGE_HEADER_BYTES_MAX: usize = 32;
/// What sled reads at once to find a message's header in.
const MESSAGE_HEADER_READ: usize = 128;

/// What was found on sled's way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// The first frame that was on the device and is not found.
    pub(super) missing: Option<Seq>,
    /// The last frame of those asked for that is found.
    pub(super) last: Seq,
    /// Where the file holds something that does not read, in bytes, as far as that is no end of the log. A segment
    /// that was about to be used again looks the same.
    pub(super) unread_at: Option<u64>,
}

/// Returns the sequence number that the latest snapshot covers, as its name tells; 0 where there is none.
pub(super) fn snapshot_lsn(sled_dir: &Path) -> io::Result<u64> {
    let mut latest = 0;
    for entry in std::fs::read_dir(sled_dir)? {
        let name = entry?.file_name();
        let lsn = name.to_str().and_then(|name| name.strip_prefix("snap."));
        latest = latest.max(lsn.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0));
    }
    Ok(latest)
}

/// Goes sled's way through its file from a snapshot on, and looks for all frames behind `first` up to `reached`.
pub(super) fn look_over(
    file: &File,
    segment_bytes: usize,
    snapshot: u64,
    first: Seq,
    reached: Seq,
) -> io::Result<Findings> {
    let walk = Walk { file, segment_bytes };
    let (segments, stable) = walk.segments(snapshot as Lsn)?;
    let end = walk.end_of_tail(&segments, stable)?;
    let mut found = vec![false; usize::try_from(reached.saturating_sub(first)).unwrap_or(0)];
    let mut note = |payload: &[u8]| {
        for seq in frame::seqs_within(payload) {
            let index = seq.checked_sub(first + 1).and_then(|index| usize::try_from(index).ok());
            if let Some(found) = index.and_then(|index| found.get_mut(index)) {
                *found = true;
            }
        }
    };
    let walked = walk.go(segments.into_iter(), Some(end.lsn), false, &mut note)?;
    let missing = found.iter().position(|found| !found).map(|index| first + 1 + index as Seq);
    let last = found.iter().rposition(|found| *found).map_or(first, |index| first + 1 + index as Seq);
    let unread_at = walked.unread_at.or(end.unread_at.filter(|_| missing.is_some()));
    Ok(Findings { missing, last, unread_at })
}

/// sled's way through its file.
struct Walk<'a> {
    file: &'a File,
    segment_bytes: usize,
}

/// How far a way went.
struct Walked {
    /// The sequence number that it came to, if there was anything to go over.
    at: Option<Lsn>,
    unread_at: Option<u64>,
}

/// The last sequence number that sled counts as written, and where the first message stands that does not read.
struct End {
    lsn: Lsn,
    unread_at: Option<u64>,
}

enum Message<'a> {
    /// The rest of the segment is padding.
    Cap,
    /// The last sequence number of a batch that takes effect as a whole.
    Batch(Lsn, usize),
    /// A page or a part of one, or something without content, and how many bytes it takes.
    Payload(&'a [u8], usize),
    Unreadable,
    /// It is cut off by the file's end.
    CutOff,
}

impl Walk<'_> {
    /// Returns where segments from a sequence number on stand, and the greatest number that one of them calls stable.
    fn segments(&self, from: Lsn) -> io::Result<(BTreeMap<Lsn, u64>, Lsn)> {
        let from = self.segment_of(from);
        let length = self.file.metadata()?.len();
        let (mut segments, mut stable) = (BTreeMap::new(), from);
        for offset in (0..length).step_by(self.segment_bytes) {
            let mut header = [0; SEGMENT_HEADER_BYTES];
            if offset + header.len() as u64 > length {
                break;
            }
            self.file.read_exact_at(&mut header, offset)?;
            if let Some((lsn, max_stable)) = segment_header(&header).filter(|(lsn, _)| *lsn >= from) {
                segments.insert(lsn, offset);
                stable = stable.max(max_stable);
            }
        }
        Ok((segments, stable))
    }

    fn segment_of(&self, lsn: Lsn) -> Lsn {
        let segment = self.segment_bytes as Lsn;
        (lsn / segment * segment).max(0)
    }

    /// Behind what segments call stable, they must follow one another, and every message must read.
    fn end_of_tail(&self, segments: &BTreeMap<Lsn, u64>, stable: Lsn) -> io::Result<End> {
        let mut expected = self.segment_of(stable);
        let (mut tail, mut gap) = (Vec::new(), None);
        for (lsn, offset) in segments.range(expected..) {
            if *lsn != expected {
                gap = Some(expected);
                break;
            }
            tail.push((*lsn, *offset));
            expected += self.segment_bytes as Lsn;
        }
        let walked = self.go(tail.into_iter(), gap, true, &mut |_| {})?;
        Ok(End { lsn: walked.at.unwrap_or(0) - 1, unread_at: walked.unread_at })
    }

    /// Visits the messages of segments up to a sequence number. What does not read ends the way in the tail; before,
    /// it ends its segment.
    fn go(
        &self,
        segments: impl Iterator<Item = (Lsn, u64)>,
        max: Option<Lsn>,
        is_tail: bool,
        visit: &mut impl FnMut(&[u8]),
    ) -> io::Result<Walked> {
        let mut walked = Walked { at: None, unread_at: None };
        let mut buffer = vec![0; self.segment_bytes];
        let is_beyond = |lsn: Lsn| max.is_some_and(|max| lsn > max);
        for (base, offset) in segments {
            if is_beyond(base) {
                break;
            }
            let segment = self.read(&mut buffer, offset)?;
            let mut at = SEGMENT_HEADER_BYTES;
            walked.at = Some(base + at as Lsn);
            while at <= self.segment_bytes - MESSAGE_HEADER_BYTES_MAX {
                if is_beyond(base + at as Lsn) {
                    return Ok(walked);
                }
                let number = base / self.segment_bytes as Lsn;
                let bytes = match message(segment, self.segment_bytes, at, number as u64) {
                    Message::Payload(payload, bytes) => {
                        visit(payload);
                        bytes
                    }
                    Message::Batch(last, _) if is_beyond(last) => return Ok(walked),
                    Message::Batch(_, bytes) => bytes,
                    Message::Cap => break,
                    Message::Unreadable => {
                        walked.unread_at.get_or_insert(offset + at as u64);
                        if is_tail {
                            return Ok(walked);
                        }
                        break;
                    }
                    Message::CutOff => return Ok(walked),
                };
                at += bytes;
                walked.at = Some(base + at as Lsn);
            }
        }
        Ok(walked)
    }

    /// Reads a segment, as much of it as there is.
    fn read<'b>(&self, buffer: &'b mut [u8], offset: u64) -> io::Result<&'b [u8]> {
        let mut length = 0;
        while length < buffer.len() {
            match self.file.read_at(&mut buffer[length..], offset + length as u64)? {
                0 => break,
                bytes => length += bytes,
            }
        }
        Ok(&buffer[..length])
    }
}

/// Returns a segment's sequence number, and the greatest one that was stable when it was begun.
fn segment_header(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<(Lsn, Lsn)> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let lsn = |at: usize| Some(Lsn::from_le_bytes(*rest.get(at..)?.first_chunk()?) ^ Lsn::MAX);
    (crc32fast::hash(rest) == u32::from_le_bytes(*crc) ^ u32::MAX).then_some((lsn(0)?, lsn(8)?))
}

/// Reads the message at a place of a segment, as sled does.
fn message(segment: &[u8], segment_bytes: usize, at: usize, segment_number: u64) -> Message<'_> {
    let mut head = [0; MESSAGE_HEADER_READ];
    let there = segment.get(at..).unwrap_or_default();
    let length = there.len().min(head.len());
    head[..length].copy_from_slice(&there[..length]);
    let mut rest = &head[5..];
    let numbers = (varint(&mut rest), varint(&mut rest), varint(&mut rest));
    let (Some(bytes), Some(number), Some(_page)) = numbers else { return Message::Unreadable };
    let head_bytes = head.len() - rest.len();
    let (crc, kind) = (u32::from_le_bytes([head[0], head[1], head[2], head[3]]), head[4]);
    if bytes > (segment_bytes - at - head_bytes) as u64 || !(1..=11).contains(&kind) {
        return Message::Unreadable;
    }
    let end = head_bytes + bytes as usize;
    let Some(payload) = there.get(head_bytes..end) else { return Message::CutOff };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    hasher.update(&head[4..head_bytes]);
    if hasher.finalize() ^ u32::MAX != crc || number != segment_number {
        return Message::Unreadable;
    }
    match kind {
        1 => Message::Payload(&[], end),
        2 => Message::Cap,
        3 => match payload.try_into() {
            Ok(last) => Message::Batch(Lsn::from_le_bytes(last), end),
            Err(_) => Message::Unreadable,
        },
        _ => Message::Payload(payload, end),
    }
}

/// Reads a number of sled's encoding, which is SQLite 4's with its larger numbers the other way round.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let (value, length) = match *first {
        first @ 0..=240 => (u64::from(first), 0),
        first @ 241..=248 => (240 + 256 * (u64::from(first) - 241) + u64::from(*rest.first()?), 1),
        249 => (2288 + 256 * u64::from(*rest.first()?) + u64::from(*rest.get(1)?), 2),
        first => {
            let length = usize::from(first) - 247;
            let mut value = [0; 8];
            value[..length].copy_from_slice(rest.get(..length)?);
            (u64::from_le_bytes(value), length)
        }
    };
    *bytes = &rest[length..];
    Some(value)
}
