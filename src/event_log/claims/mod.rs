//! Claims: which event holds a dedupe key.
//!
//! The newest are in memory. Full tables of them are written to immutable files by a thread of their own
//! (`spill`), and merged there, so that memory stays bounded at any rate and for any window. All of it is
//! derived from the log: what is not in a file yet is read back from the log's end when it is opened, and
//! files that are lost or damaged are made anew from all of it.

mod run;
mod spill;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub(super) use self::spill::Files;
use self::spill::{Layers, Spiller};
use super::codec;
use super::frame::Frame;
use super::reader::damaged;
use super::{Error, Reader};
use crate::event::{EventId, TriggerId};
use crate::frames::Seq;

/// A dedupe key of a trigger, as the first 128 bits of its SHA-256: two keys that collide would lose an
/// event, which at 10 billion claims has odds of one in 10^18.
pub(super) type ClaimKey = u128;

/// How many claims a table in memory holds before it is written. More make opening after a crash slower,
/// fewer make more files to merge.
pub(super) const TABLE_CLAIMS: usize = 16 * 1024;

/// After how many frames a table is written however few claims it holds: opening after a crash reads that
/// much of the log at most.
const TABLE_FRAMES: Seq = 512;

/// Returns the claim of a trigger's dedupe key.
pub(super) fn claim_key(trigger: &str, dedupe_key: &str) -> ClaimKey {
    let mut hash = Sha256::new();
    hash.update(trigger.as_bytes());
    hash.update([0]);
    hash.update(dedupe_key.as_bytes());
    let digest = hash.finalize();
    u128::from_be_bytes(digest[..16].try_into().expect("a SHA-256 has 32 bytes"))
}

/// Returns the claim of a trigger's dedupe key.
pub(super) fn claim_of(trigger: &TriggerId, dedupe_key: &str) -> ClaimKey {
    claim_key(trigger.as_str(), dedupe_key)
}

/// A table of the claims of all frames after `from` up to and including `through`.
#[derive(Debug, Default)]
struct Table {
    claims: HashMap<ClaimKey, EventId>,
    from: Seq,
    through: Seq,
}

/// All claims that may still be within a window.
pub(super) struct Claims {
    recent: Table,
    table_claims: usize,
    layers: Arc<Layers>,
    spiller: Spiller,
}

impl Claims {
    /// Opens the files of claims in a folder and reads from the log what is not in them. Claims of events
    /// older than `keep` at `now_ms` are let go.
    pub(super) fn open(
        dir: &Path,
        reader: &Reader,
        tail: Seq,
        keep: Duration,
        now_ms: u64,
        table_claims: usize,
    ) -> Result<Self, Error> {
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let (layers, through) = Layers::open(dir, tail, now_ms.saturating_sub(keep_ms))?;
        let layers = Arc::new(layers);
        let spiller = Spiller::start(Arc::clone(&layers), keep_ms)?;
        let recent = Table { from: through, through, ..Table::default() };
        let mut claims = Self { recent, table_claims, layers, spiller };
        reader.scan(through + 1, |frame| {
            claims.learn(&frame)?;
            claims.committed(frame.seq())?;
            Ok(true)
        })?;
        Ok(claims)
    }

    /// Returns the event that claimed a key last.
    pub(super) fn get(&self, key: ClaimKey) -> Result<Option<EventId>, Error> {
        match self.recent.claims.get(&key) {
            Some(id) => Ok(Some(*id)),
            None => self.layers.get(key),
        }
    }

    pub(super) fn insert(&mut self, key: ClaimKey, id: EventId) {
        self.recent.claims.insert(key, id);
    }

    /// All claims of frames up to `through` are inserted. Waits where the files are far behind.
    pub(super) fn committed(&mut self, through: Seq) -> Result<(), Error> {
        self.recent.through = through;
        if self.recent.claims.len() >= self.table_claims || through - self.recent.from >= TABLE_FRAMES {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), Error> {
        let through = self.recent.through;
        let next = Table { from: through, through, ..Table::default() };
        let table = std::mem::replace(&mut self.recent, next);
        self.spiller.send(Arc::new(table))
    }

    /// Writes everything to files, so that opening again reads nothing of the log.
    pub(super) fn close(&mut self) {
        if self.recent.through > self.recent.from
            && let Err(error) = self.spill()
        {
            tracing::warn!(%error, "claims were not written; they will be read back from the log");
        }
        self.spiller.end();
    }

    /// Takes the claims of a frame's events.
    fn learn(&mut self, frame: &Frame) -> Result<(), Error> {
        for index in 0..frame.len() {
            let Some(id) = frame.event_id(index) else { continue };
            let bytes = frame.bytes(index).expect("index is below the length");
            if let Some((trigger, key)) = codec::event_claim(bytes).map_err(damaged(frame.seq()))? {
                self.insert(claim_key(trigger, key), id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    const DAY: Duration = Duration::from_secs(86_400);

    fn reader(dir: &Path) -> Reader {
        Reader::for_test(dir)
    }

    fn id(n: u64) -> EventId {
        EventId::new(n, Position::new(n, 0), 0)
    }

    fn key(n: u64) -> ClaimKey {
        claim_key("t", &n.to_string())
    }

    /// Claims of the events `from..to`, one in each frame, in tables of ten.
    fn fill(claims: &mut Claims, from: u64, to: u64) {
        for n in from..to {
            claims.insert(key(n), id(n));
            claims.committed(n).unwrap();
        }
    }

    #[test]
    fn claims_are_found_in_memory_on_disk_and_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let mut claims = Claims::open(dir.path(), &reader, 0, DAY, 0, 10).unwrap();
        fill(&mut claims, 1, 2000);
        let check = |claims: &Claims| {
            for n in 1..2000 {
                assert_eq!(claims.get(key(n)).unwrap(), Some(id(n)), "{n}");
            }
            assert_eq!(claims.get(key(5000)).unwrap(), None);
        };
        check(&claims);
        claims.close();
        check(&claims);
        drop(claims);
        let claims = Claims::open(dir.path(), &reader, 1999, DAY, 0, 10).unwrap();
        check(&claims);
        assert!(claims.layers.files() < 64, "files are merged");
    }

    #[test]
    fn newest_claim_of_a_key_counts_also_after_merging() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let mut claims = Claims::open(dir.path(), &reader, 0, DAY, 0, 4).unwrap();
        for n in 1..500 {
            claims.insert(key(n % 7), id(n));
            claims.insert(key(1000 + n), id(n));
            claims.committed(n).unwrap();
        }
        claims.close();
        for n in 493..500 {
            assert_eq!(claims.get(key(n % 7)).unwrap(), Some(id(n)));
        }
    }

    #[test]
    fn lost_or_damaged_files_are_made_anew_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        for damage in ["CURRENT", "run"] {
            let mut claims = Claims::open(dir.path(), &reader, 0, DAY, 0, 10).unwrap();
            fill(&mut claims, 1, 30);
            claims.close();
            drop(claims);
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.to_str().unwrap().ends_with(damage) {
                    std::fs::write(path, "garbage").unwrap();
                }
            }
            // The log of this test is empty, so making them anew finds none.
            let claims = Claims::open(dir.path(), &reader, 29, DAY, 0, 10).unwrap();
            assert_eq!(claims.get(key(3)).unwrap(), None);
            assert_eq!(claims.recent.through, 0);
        }
    }

    #[test]
    fn files_ahead_of_the_log_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let mut claims = Claims::open(dir.path(), &reader, 0, DAY, 0, 10).unwrap();
        fill(&mut claims, 1, 30);
        claims.close();
        drop(claims);
        let claims = Claims::open(dir.path(), &reader, 20, DAY, 0, 10).unwrap();
        assert_eq!(claims.get(key(25)).unwrap(), None);
    }

    #[test]
    fn files_older_than_every_window_are_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        let mut claims = Claims::open(dir.path(), &reader, 0, DAY, 0, 10).unwrap();
        fill(&mut claims, 1, 30);
        claims.close();
        drop(claims);
        let much_later = 2 * DAY.as_millis() as u64;
        let claims = Claims::open(dir.path(), &reader, 29, DAY, much_later, 10).unwrap();
        assert_eq!(claims.layers.files(), 0);
        assert_eq!(claims.recent.through, 29, "nothing of the log is read again for it");
    }
}
