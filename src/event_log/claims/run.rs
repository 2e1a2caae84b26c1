//! One immutable file of claims, sorted by key.
//!
//! Blocks of entries, each with a checksum, come first; behind them stand the first key of each block and
//! a filter over all keys, which are held in memory, so that a key that is not there costs no read and one
//! that is there costs one. Layout: blocks, tail (index and filter), footer.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use super::ClaimKey;
use crate::event::EventId;
use crate::event_log::Error;

/// A claim: which event holds a key.
pub(super) type Claim = (ClaimKey, EventId);

const MAGIC: [u8; 4] = *b"HKCR";
const VERSION: u8 = 1;
const ENTRY_BYTES: usize = 32;
/// Entries in a block; with its checksum a block is a page of 4 KiB.
const BLOCK_ENTRIES: usize = 127;
const BLOCK_BYTES: usize = 4096;
const BLOCK_CRC_AT: usize = BLOCK_ENTRIES * ENTRY_BYTES;
/// What the filter says of itself, before its fingerprints.
const DESCRIPTOR_BYTES: usize = BinaryFuse8::DESCRIPTOR_LEN;
/// magic 4, version 1, reserved 3, entries 8, newest 8, tail length 4, tail crc 4, footer crc 4.
const FOOTER_BYTES: usize = 36;
/// Most entries of one file: its index and filter are held in memory while it is written.
pub(super) const ENTRIES_MAX: usize = 1 << 20;

/// A file of claims, opened.
#[derive(Debug)]
pub(super) struct ClaimRun {
    path: PathBuf,
    file: File,
    entries: usize,
    /// Greatest time of an event in it, in milliseconds.
    newest_ms: u64,
    /// First key of each block.
    index: Vec<ClaimKey>,
    /// Descriptor and fingerprints.
    filter: Vec<u8>,
}

fn filter_key(key: ClaimKey) -> u64 {
    key as u64
}

impl ClaimRun {
    /// Writes a file of claims, sorted by key and without repetition, and flushes it.
    pub(super) fn write(
        path: &Path,
        claims: impl IntoIterator<Item = Result<Claim, Error>>,
    ) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io("creating", path))?;
        let mut out = BufWriter::new(&file);
        let (mut index, mut keys, mut newest_ms) = (Vec::new(), Vec::new(), 0);
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut entries = 0;
        for claim in claims {
            let (key, id) = claim?;
            if block.is_empty() {
                index.push(key);
            }
            keys.push(filter_key(key));
            newest_ms = newest_ms.max(id.time_ms());
            block.extend_from_slice(&key.to_be_bytes());
            block.extend_from_slice(&id.bits().to_be_bytes());
            entries += 1;
            if block.len() == BLOCK_CRC_AT {
                write_block(&mut out, &mut block).map_err(Error::io("writing", path))?;
            }
        }
        if !block.is_empty() {
            write_block(&mut out, &mut block).map_err(Error::io("writing", path))?;
        }
        keys.sort_unstable();
        keys.dedup();
        let filter = BinaryFuse8::try_from(&keys)
            .map_err(|reason| Error::Failing(format!("no filter over the claims: {reason}")))?;
        let tail = encode_tail(&index, &filter);
        let footer = encode_footer(entries, newest_ms, &tail);
        out.write_all(&tail).and_then(|()| out.write_all(&footer)).map_err(Error::io("writing", path))?;
        out.flush().map_err(Error::io("writing", path))?;
        drop(out);
        file.sync_all().map_err(Error::io("flushing", path))?;
        Self::open(path)
    }

    /// Opens a file of claims and checks its index and filter; blocks are checked when they are read.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("opening", path))?;
        let length = file.metadata().map_err(Error::io("reading", path))?.len() as usize;
        let damaged = || Error::Failing(format!("the file of claims {} is damaged", path.display()));
        let footer_at = length.checked_sub(FOOTER_BYTES).ok_or_else(damaged)?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, footer_at as u64).map_err(Error::io("reading", path))?;
        let Footer { entries, newest_ms, tail_bytes, tail_crc } =
            decode_footer(&footer).ok_or_else(damaged)?;
        let blocks = entries.div_ceil(BLOCK_ENTRIES);
        if blocks.checked_mul(BLOCK_BYTES).and_then(|blocks| blocks.checked_add(tail_bytes))
            != Some(footer_at)
        {
            return Err(damaged());
        }
        let mut tail = vec![0; tail_bytes];
        file.read_exact_at(&mut tail, (blocks * BLOCK_BYTES) as u64).map_err(Error::io("reading", path))?;
        if crc32fast::hash(&tail) != tail_crc {
            return Err(damaged());
        }
        let (index, filter) = decode_tail(&tail, blocks).ok_or_else(damaged)?;
        Ok(Self { path: path.to_owned(), file, entries, newest_ms, index, filter })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    /// Returns the event that holds a key.
    pub(super) fn get(&self, key: ClaimKey) -> Result<Option<EventId>, Error> {
        let (descriptor, fingerprints) = self.filter.split_at(DESCRIPTOR_BYTES);
        if !BinaryFuse8Ref::from_dma(descriptor, fingerprints).contains(&filter_key(key)) {
            return Ok(None);
        }
        let Some(block) = self.index.partition_point(|first| *first <= key).checked_sub(1) else {
            return Ok(None);
        };
        let claims = self.block(block)?;
        Ok(claims.binary_search_by_key(&key, |claim| claim.0).ok().map(|found| claims[found].1))
    }

    fn block(&self, block: usize) -> Result<Vec<Claim>, Error> {
        let mut bytes = [0; BLOCK_BYTES];
        self.file
            .read_exact_at(&mut bytes, (block * BLOCK_BYTES) as u64)
            .map_err(Error::io("reading", &self.path))?;
        let crc = u32::from_le_bytes(bytes[BLOCK_CRC_AT..BLOCK_CRC_AT + 4].try_into().expect("four bytes"));
        if crc32fast::hash(&bytes[..BLOCK_CRC_AT]) != crc {
            return Err(Error::Failing(format!(
                "the file of claims {} is damaged; opened again, the log makes its claims anew",
                self.path.display()
            )));
        }
        let count = (self.entries - block * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        let entries = bytes[..count * ENTRY_BYTES].chunks_exact(ENTRY_BYTES);
        let number = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().expect("sixteen bytes"));
        Ok(entries.map(|entry| (number(&entry[..16]), EventId::from_bits(number(&entry[16..])))).collect())
    }

    /// Returns all claims in the order of their keys.
    pub(super) fn claims(&self) -> impl Iterator<Item = Result<Claim, Error>> {
        (0..self.index.len()).flat_map(|block| match self.block(block) {
            Ok(claims) => claims.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn write_block(out: &mut impl Write, block: &mut Vec<u8>) -> std::io::Result<()> {
    block.resize(BLOCK_CRC_AT, 0);
    let crc = crc32fast::hash(block);
    block.extend_from_slice(&crc.to_le_bytes());
    block.resize(BLOCK_BYTES, 0);
    out.write_all(block)?;
    block.clear();
    Ok(())
}

fn encode_tail(index: &[ClaimKey], filter: &BinaryFuse8) -> Vec<u8> {
    let mut tail: Vec<u8> = index.iter().flat_map(|key| key.to_be_bytes()).collect();
    let mut descriptor = [0; DESCRIPTOR_BYTES];
    filter.dma_copy_descriptor_to(&mut descriptor);
    tail.extend_from_slice(&descriptor);
    tail.extend_from_slice(filter.dma_fingerprints());
    tail
}

fn decode_tail(tail: &[u8], blocks: usize) -> Option<(Vec<ClaimKey>, Vec<u8>)> {
    let (index, filter) = tail.split_at_checked(blocks.checked_mul(16)?)?;
    let index = index.chunks_exact(16).map(|key| u128::from_be_bytes(key.try_into().expect("sixteen bytes")));
    (filter.len() >= DESCRIPTOR_BYTES).then(|| (index.collect(), filter.to_vec()))
}

struct Footer {
    entries: usize,
    newest_ms: u64,
    tail_bytes: usize,
    tail_crc: u32,
}

fn encode_footer(entries: usize, newest_ms: u64, tail: &[u8]) -> Vec<u8> {
    let mut footer = Vec::with_capacity(FOOTER_BYTES);
    footer.extend_from_slice(&MAGIC);
    footer.extend_from_slice(&[VERSION, 0, 0, 0]);
    footer.extend_from_slice(&(entries as u64).to_le_bytes());
    footer.extend_from_slice(&newest_ms.to_le_bytes());
    footer.extend_from_slice(&(tail.len() as u32).to_le_bytes());
    footer.extend_from_slice(&crc32fast::hash(tail).to_le_bytes());
    let crc = crc32fast::hash(&footer);
    footer.extend_from_slice(&crc.to_le_bytes());
    footer
}

fn decode_footer(footer: &[u8; FOOTER_BYTES]) -> Option<Footer> {
    let u32_at = |at: usize| u32::from_le_bytes(footer[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().expect("eight bytes"));
    let ours = footer[..4] == MAGIC && footer[4] == VERSION && crc32fast::hash(&footer[..32]) == u32_at(32);
    ours.then(|| Footer {
        entries: u64_at(8) as usize,
        newest_ms: u64_at(16),
        tail_bytes: u32_at(24) as usize,
        tail_crc: u32_at(28),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;
    use crate::event_log::claims::claim_key;

    fn claims(count: u64) -> Vec<Claim> {
        let claim = |i: u64| (claim_key("t", &i.to_string()), EventId::new(i, Position::new(i + 1, 0), 7));
        let mut claims: Vec<_> = (0..count).map(claim).collect();
        claims.sort_unstable();
        claims
    }

    fn check(count: u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.run");
        let claims = claims(count);
        ClaimRun::write(&path, claims.iter().copied().map(Ok)).unwrap();
        let run = ClaimRun::open(&path).unwrap();
        assert_eq!(run.claims().collect::<Result<Vec<_>, _>>().unwrap(), claims);
        for (key, id) in claims {
            assert_eq!(run.get(key).unwrap(), Some(id));
            assert_eq!(run.get(key ^ 1).unwrap(), None);
        }
    }

    #[test]
    fn every_claim_is_found_and_no_other() {
        for count in [1, 2, 126, 127, 128, 254, 5000] {
            check(count);
        }
    }

    #[test]
    fn damage_anywhere_is_an_error_and_no_wrong_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.run");
        let claims = claims(300);
        ClaimRun::write(&path, claims.iter().copied().map(Ok)).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(41) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let Ok(run) = ClaimRun::open(&path) else { continue };
            for (key, id) in &claims {
                assert!(run.get(*key).is_ok_and(|found| found == Some(*id)) || run.get(*key).is_err());
            }
        }
        std::fs::write(&path, &good[..100]).unwrap();
        assert!(ClaimRun::open(&path).is_err());
    }
}
