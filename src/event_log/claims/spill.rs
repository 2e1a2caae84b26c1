//! Tables of claims on their way to files, the files, and their merging.
//!
//! `CURRENT` names the files that count and the last frame whose claims are in them. It is replaced as a
//! whole once new files are on the device; a file that it does not name is left over and removed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::run::{Claim, ClaimRun, ENTRIES_MAX};
use super::{ClaimKey, Table};
use crate::event::EventId;
use crate::event_log::Error;
use crate::event_log::Seq;
use crate::event_log::codec::decode;

const CURRENT: &str = "CURRENT";
const CURRENT_VERSION: u8 = 1;
/// How many tables may wait to be written. When so many do, the committer waits.
const WAITING_TABLES: usize = 8;
/// How long a table waits for room on a full disk before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// How many files of about the same size are merged into one.
const MERGE_FILES: usize = 8;

/// Everything but the table that is being filled. Readers see one state of it, without waiting.
pub(super) struct Layers {
    dir: PathBuf,
    now: ArcSwap<Now>,
    /// What cannot be written for want of room is given up.
    is_ending: AtomicBool,
}

/// Oldest first.
#[derive(Clone, Default)]
struct Now {
    files: Vec<Arc<ClaimRun>>,
    tables: Vec<Arc<Table>>,
    through: Seq,
    next_file: u64,
}

/// `CURRENT`, in stored form behind a version and a checksum.
#[derive(Serialize, Deserialize)]
struct Current {
    through: Seq,
    next_file: u64,
    files: Vec<String>,
}

impl Layers {
    /// Opens what `CURRENT` names; returns the last frame whose claims are in it, 0 if it has to be made
    /// anew. Files with no event at or after `oldest_ms` are let go.
    pub(super) fn open(dir: &Path, tail: Seq, oldest_ms: u64) -> Result<(Self, Seq), Error> {
        fs::create_dir_all(dir).map_err(Error::io("creating", dir))?;
        let mut now = match read_current(dir) {
            Some(now) if now.through <= tail => now,
            found => {
                if found.is_some() || tail > 0 {
                    tracing::warn!("the files of claims do not fit the log; making them anew from it");
                }
                Now::default()
            }
        };
        now.files.retain(|file| file.newest_ms() >= oldest_ms);
        let through = now.through;
        let (now, is_ending) = (ArcSwap::from_pointee(now), AtomicBool::new(false));
        let layers = Self { dir: dir.to_owned(), now, is_ending };
        layers.remove_left_over()?;
        Ok((layers, through))
    }

    /// Returns how many files there are.
    #[cfg(test)]
    pub(super) fn files(&self) -> usize {
        self.now.load().files.len()
    }

    pub(super) fn get(&self, key: ClaimKey) -> Result<Option<EventId>, Error> {
        let now = self.now.load();
        if let Some(id) = now.tables.iter().rev().find_map(|table| table.claims.get(&key)) {
            return Ok(Some(*id));
        }
        for file in now.files.iter().rev() {
            match file.get(key) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => {
                    // Without it, the next opening makes all files anew.
                    let _ = fs::remove_file(self.dir.join(CURRENT));
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn remove_left_over(&self) -> Result<(), Error> {
        let now = self.now.load();
        for entry in fs::read_dir(&self.dir).map_err(Error::io("reading", &self.dir))? {
            let path = entry.map_err(Error::io("reading", &self.dir))?.path();
            let is_file_of_claims = path.extension().is_some_and(|ending| ending == "run");
            if is_file_of_claims && !now.files.iter().any(|file| file.path() == path) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Writes the oldest waiting table to a file.
    fn write_table(&self, table: &Table, oldest_ms: u64) -> Result<(), Error> {
        let mut claims: Vec<Claim> = table.claims.iter().map(|(key, id)| (*key, *id)).collect();
        claims.sort_unstable();
        let number = self.now.load().next_file;
        let file = match claims.is_empty() {
            true => None,
            false => Some(ClaimRun::write(&self.file_path(number), claims.into_iter().map(Ok))?),
        };
        self.replace(oldest_ms, |now| {
            now.files.extend(file.map(Arc::new));
            now.through = table.through;
        })?;
        self.update(|now| {
            now.tables.remove(0);
        });
        Ok(())
    }

    /// Merges the newest files while there are enough of about the same size.
    fn merge(&self, oldest_ms: u64) -> Result<(), Error> {
        loop {
            let now = self.now.load_full();
            let Some(merged) = to_merge(&now.files) else { return Ok(()) };
            let inputs = &now.files[merged.clone()];
            let file = ClaimRun::write(&self.file_path(now.next_file), Merge::of(inputs))?;
            self.replace(oldest_ms, |now| {
                now.files.splice(merged.clone(), [Arc::new(file)]);
            })?;
            for input in inputs {
                let _ = fs::remove_file(input.path());
            }
        }
    }

    fn file_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}.run"))
    }

    /// Makes a change of the files durable, then visible.
    fn replace(&self, oldest_ms: u64, change: impl FnOnce(&mut Now)) -> Result<(), Error> {
        let mut next = Now::clone(&self.now.load());
        change(&mut next);
        next.next_file += 1;
        let mut expired = Vec::new();
        next.files.retain(|file| {
            let kept = file.newest_ms() >= oldest_ms;
            if !kept {
                expired.push(Arc::clone(file));
            }
            kept
        });
        write_current(&self.dir, &next)?;
        self.update(|now| {
            now.files.clone_from(&next.files);
            (now.through, now.next_file) = (next.through, next.next_file);
        });
        for file in expired {
            let _ = fs::remove_file(file.path());
        }
        Ok(())
    }

    fn update(&self, mut change: impl FnMut(&mut Now)) {
        self.now.rcu(|now| {
            let mut now = Now::clone(now);
            change(&mut now);
            now
        });
    }
}

/// Returns which files to merge: the newest ones of one size class, if there are enough.
fn to_merge(files: &[Arc<ClaimRun>]) -> Option<std::ops::Range<usize>> {
    let class = |file: &Arc<ClaimRun>| file.entries().max(1).ilog2() / MERGE_FILES.ilog2();
    let last = class(files.last()?);
    let same = files.iter().rev().take_while(|file| class(file) <= last).count();
    let range = files.len() - same..files.len();
    let entries: usize = files[range.clone()].iter().map(|file| file.entries()).sum();
    (same >= MERGE_FILES && entries <= ENTRIES_MAX).then_some(range)
}

/// Claims of several files in the order of their keys; of equal keys the newest file's.
struct Merge<'a> {
    files: Vec<Box<dyn Iterator<Item = Result<Claim, Error>> + 'a>>,
    heads: BinaryHeap<Reverse<(ClaimKey, Reverse<usize>, EventId)>>,
    last: Option<ClaimKey>,
    failed: Option<Error>,
}

impl<'a> Merge<'a> {
    fn of(files: &'a [Arc<ClaimRun>]) -> Self {
        let files: Vec<Box<dyn Iterator<Item = Result<Claim, Error>> + 'a>> =
            files.iter().map(|file| Box::new(file.claims()) as _).collect();
        let mut merge = Self { files, heads: BinaryHeap::new(), last: None, failed: None };
        for file in 0..merge.files.len() {
            merge.advance(file);
        }
        merge
    }

    fn advance(&mut self, file: usize) {
        match self.files[file].next() {
            Some(Ok((key, id))) => self.heads.push(Reverse((key, Reverse(file), id))),
            Some(Err(error)) => self.failed = Some(error),
            None => {}
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Claim, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.failed.take() {
                self.heads.clear();
                return Some(Err(error));
            }
            let Reverse((key, Reverse(file), id)) = self.heads.pop()?;
            self.advance(file);
            if self.last.replace(key) != Some(key) {
                return Some(Ok((key, id)));
            }
        }
    }
}

/// The files that `CURRENT` names, for reading.
pub(in crate::event_log) struct Files(Now);

impl Files {
    /// Opens them; nothing if there are none, or they do not open.
    pub(in crate::event_log) fn read(dir: &Path) -> Option<Self> {
        read_current(dir).map(Self)
    }

    /// Returns the last frame whose claims are in them.
    pub(in crate::event_log) fn through(&self) -> Seq {
        self.0.through
    }

    /// Returns the time of the newest event in them, in milliseconds.
    pub(in crate::event_log) fn newest_ms(&self) -> u64 {
        self.0.files.iter().map(|file| file.newest_ms()).max().unwrap_or(0)
    }

    /// Returns the event that holds a key.
    pub(in crate::event_log) fn get(&self, key: ClaimKey) -> Result<Option<EventId>, Error> {
        self.0.files.iter().rev().find_map(|file| file.get(key).transpose()).transpose()
    }

    /// Reads all of them; returns what is wrong.
    pub(in crate::event_log) fn damage(&self) -> Vec<String> {
        let first = |file: &Arc<ClaimRun>| file.claims().find_map(Result::err);
        self.0.files.iter().filter_map(first).map(|error| error.to_string()).collect()
    }
}

fn read_current(dir: &Path) -> Option<Now> {
    let bytes = fs::read(dir.join(CURRENT)).ok()?;
    let (&version, rest) = bytes.split_first()?;
    let (crc, body) = rest.split_first_chunk::<4>()?;
    if version != CURRENT_VERSION || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let current: Current = decode(body).ok()?;
    let open = |name: &String| ClaimRun::open(&dir.join(name)).ok().map(Arc::new);
    let files = current.files.iter().map(open).collect::<Option<_>>()?;
    Some(Now { files, tables: Vec::new(), through: current.through, next_file: current.next_file })
}

fn write_current(dir: &Path, now: &Now) -> Result<(), Error> {
    let name = |file: &Arc<ClaimRun>| file.path().file_name()?.to_str().map(str::to_owned);
    let current = Current {
        through: now.through,
        next_file: now.next_file,
        files: now.files.iter().filter_map(name).collect(),
    };
    let body = postcard::to_stdvec(&current).expect("stored types serialize");
    let mut bytes = vec![CURRENT_VERSION];
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    let (path, temporary) = (dir.join(CURRENT), dir.join("CURRENT.new"));
    fs::write(&temporary, &bytes)
        .and_then(|()| File::open(&temporary)?.sync_all())
        // The names of the files that it lists, before its own.
        .and_then(|()| File::open(dir)?.sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(Error::io("writing", &path))
}

/// Writes tables to files in a thread.
pub(super) struct Spiller {
    layers: Arc<Layers>,
    tables: Option<SyncSender<Arc<Table>>>,
    thread: Option<JoinHandle<()>>,
}

impl Spiller {
    pub(super) fn start(layers: Arc<Layers>, keep_ms: u64) -> Result<Self, Error> {
        let (tables, receiver) = sync_channel(WAITING_TABLES);
        let for_thread = Arc::clone(&layers);
        let thread = std::thread::Builder::new()
            .name("log-claims".to_owned())
            .spawn(move || write_tables(&for_thread, &receiver, keep_ms))
            .map_err(Error::io("starting a thread for", &layers.dir))?;
        Ok(Self { layers, tables: Some(tables), thread: Some(thread) })
    }

    /// Hands a table over; waits while too many are waiting.
    pub(super) fn send(&self, table: Arc<Table>) -> Result<(), Error> {
        self.layers.update(|now| now.tables.push(Arc::clone(&table)));
        let sent = self.tables.as_ref().map(|tables| tables.send(table));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Error::Failing("claims cannot be written to the disk".to_owned())),
        }
    }

    /// Writes what waits, and ends the thread.
    pub(super) fn end(&mut self) {
        self.tables = None;
        self.layers.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Spiller {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends with the sender, or with the first error: the next table then finds nobody, and the log fails.
fn write_tables(layers: &Layers, tables: &Receiver<Arc<Table>>, keep_ms: u64) {
    while let Ok(table) = tables.recv() {
        let newest_ms = table.claims.values().map(|id| id.time_ms()).max().unwrap_or(0);
        let oldest_ms = newest_ms.saturating_sub(keep_ms);
        let mut written = layers.write_table(&table, oldest_ms);
        while matches!(written, Err(Error::Full)) && !layers.is_ending.load(Ordering::Relaxed) {
            std::thread::sleep(FULL_PAUSE);
            written = layers.write_table(&table, oldest_ms);
        }
        // Merging can wait until there is room.
        let merge = |()| {
            layers.merge(oldest_ms).or_else(|error| match error {
                Error::Full => Ok(()),
                error => Err(error),
            })
        };
        let written = written.and_then(merge);
        if let Err(error) = written {
            tracing::error!(%error, "claims cannot be written to the disk");
            return;
        }
    }
}
