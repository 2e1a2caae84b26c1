//! The log of frames on sled 0.34.
//!
//! Some of sled's habits decide the shape (measured before, with simulated power cuts):
//! `flush()` is no fsync, so every append ends with `sync_data` on a handle of our own; a leaf page over
//! a quarter of a segment becomes a file that is never fsynced, so values are cut into chunks; an opened store
//! whose file is gone is silently an empty one, so a marker file beside it says that it was there; and what lies
//! behind damage is dropped silently, so a file says how far the log had come (`reached`), and sled's way through its
//! own is gone before it may change it (`sled_recovery`).

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::Error;
use super::migrations::{self, FORMAT};
use super::reached::{self, Reached, ReachedFile};
use super::reader::PARTITION;
use super::room::Room;
use super::sled_recovery::{self, Findings, snapshot_lsn};
use super::store::{Appended, Epoch, EventLog, Partition, Seq};

/// Largest value in a tree: a leaf page holds up to 16 of them and must stay under a quarter of a segment.
const CHUNK_BYTES_MAX: usize = 120 * 1024;
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// sled's background thread also collects garbage, so it stays on.
const FLUSH_EVERY_MS: u64 = 500;

/// How long sled's threads are given to end, and how often that is looked at.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
const RELEASE_PAUSE: Duration = Duration::from_millis(5);

/// How the system calls a disk that is full; sled hands on no more than a text.
const NO_SPACE: &str = "No space left on device";

/// Folder of sled's files in the data folder.
const SLED_DIR: &str = "log";
/// Says that there is a store, and of which format.
pub(super) const MARKER: &str = "FORMAT";
const META_FORMAT: &[u8] = b"format";
const META_EPOCH: &[u8] = b"epoch";

/// A log of frames on sled.
#[derive(Debug)]
pub struct SledLog {
    pub(super) db: sled::Db,
    frames: sled::Tree,
    meta: sled::Tree,
    /// A handle of our own to sled's file: the one whose `sync_data` makes a flush durable.
    file: File,
    dir: PathBuf,
    writer: Mutex<Writer>,
    pub(super) reached: ReachedFile,
    room: Room,
    /// Something in the file does not read, though no frame is missing: what is derived may have lost changes.
    pub(super) is_doubtful: bool,
}

#[derive(Debug, Default)]
struct Writer {
    epoch: Epoch,
    next: Seq,
}

pub(super) fn failed(error: sled::Error) -> Error {
    Error::Failing(format!("the store answers: {error}"))
}

fn key(partition: Partition, seq: Seq, chunk: u8) -> [u8; 11] {
    let mut key = [0; 11];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..10].copy_from_slice(&seq.to_be_bytes());
    key[10] = chunk;
    key
}

fn key_seq(key: &[u8]) -> Seq {
    key.get(2..10).map_or(0, |seq| Seq::from_be_bytes(seq.try_into().expect("eight bytes")))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("flushing", dir))
}

impl SledLog {
    /// Opens the store in a data folder; makes one if there is none and `create` says so.
    ///
    /// # Errors
    ///
    /// If there is none, a newer program wrote it, or it does not open; it is left as it is then.
    pub fn open(dir: &Path, create: bool) -> Result<Self, Error> {
        let marked = read_marker(dir)?;
        let sled_dir = dir.join(SLED_DIR);
        let db_file = sled_dir.join("db");
        match (marked, db_file.exists()) {
            (None, _) if !create => return Err(Error::Missing { dir: dir.to_owned() }),
            (Some(_), false) => {
                let reason = format!("the file {} is gone", db_file.display());
                return Err(Error::Unreadable { dir: dir.to_owned(), reason });
            }
            _ => {}
        }
        let unreadable = |reason: String| Error::Unreadable { dir: dir.to_owned(), reason };
        let reached = Reached::read(&sled_dir).filter(|_| marked.is_some());
        let unread_at = match &reached {
            Some(reached) => look_over(dir, *reached).map_err(unreadable)?,
            None => None,
        };
        remove_unfinished_snapshots(&sled_dir);
        let (db, frames, meta) = match Self::open_caught(&sled_dir) {
            Ok(opened) => opened,
            // The marker is written once the store is on the device. Without it nothing was ever accepted.
            Err(reason) if marked.is_none() && create => {
                let aside = set_aside(dir, &sled_dir)?;
                tracing::warn!(%reason, aside = %aside.display(), "set aside a store whose making was cut short");
                Self::open_caught(&sled_dir).map_err(unreadable)?
            }
            // Opening writes a snapshot.
            Err(reason) if reason.contains(NO_SPACE) => return Err(Error::Full),
            Err(reason) => return Err(unreadable(reason)),
        };
        let file = File::open(&db_file).map_err(Error::io("opening", &db_file))?;
        let (writer, is_doubtful) = (Mutex::default(), unread_at.is_some());
        let (of_file, room) = (ReachedFile::open(&sled_dir)?, Room::open(&db_file)?);
        let log =
            Self { db, frames, meta, file, dir: dir.to_owned(), writer, reached: of_file, room, is_doubtful };
        let tail = log.tail(PARTITION)?;
        if let Some(reached) = reached {
            log.must_reach(reached, tail)?;
        }
        log.migrate(marked)?;
        log.writer.lock().next = tail + 1;
        let snapshot = snapshot_lsn(&sled_dir).map_err(Error::io("reading", &sled_dir))?;
        let first =
            reached.filter(|reached| reached.snapshot == snapshot).map_or(tail, |reached| reached.first);
        log.reached.begin(Reached { snapshot, first, last: tail })?;
        Ok(log)
    }

    /// What was opened must hold what was on the device. Where something did not read, every frame is looked for.
    fn must_reach(&self, reached: Reached, tail: Seq) -> Result<(), Error> {
        let mut last = tail;
        if self.is_doubtful {
            last = reached.first;
            for entry in self.frames.range(key(PARTITION, last + 1, 0)..=key(PARTITION, tail, u8::MAX)).keys()
            {
                let entry_key = entry.map_err(failed)?;
                if key_seq(&entry_key) > last + 1 {
                    break;
                }
                last = key_seq(&entry_key);
            }
        }
        if last < reached.last || last < tail {
            let reason = lost(&self.dir, reached.last.max(tail), last, None);
            return Err(Error::Unreadable { dir: self.dir.clone(), reason });
        }
        Ok(())
    }

    /// Opens sled, which panics on some damage that it finds.
    fn open_caught(dir: &Path) -> Result<(sled::Db, sled::Tree, sled::Tree), String> {
        match catch_unwind(AssertUnwindSafe(|| Self::open_when_released(dir))) {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(panic) => Err(format!("the store panicked: {}", panic_text(&*panic))),
        }
    }

    /// Opens sled, also right after it was closed in this process: its threads give its own lock back a
    /// little later. No other process can have it, since we hold the folder's lock.
    fn open_when_released(dir: &Path) -> Result<(sled::Db, sled::Tree, sled::Tree), sled::Error> {
        let mut patience = RELEASE_PATIENCE;
        loop {
            match Self::open_sled(dir) {
                Err(sled::Error::Io(error))
                    if error.to_string().contains("could not acquire lock") && !patience.is_zero() =>
                {
                    std::thread::sleep(RELEASE_PAUSE);
                    patience = patience.saturating_sub(RELEASE_PAUSE);
                }
                opened => return opened,
            }
        }
    }

    fn open_sled(dir: &Path) -> Result<(sled::Db, sled::Tree, sled::Tree), sled::Error> {
        let db = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .use_compression(false)
            .open()?;
        let (frames, meta) = (db.open_tree("frames")?, db.open_tree("meta")?);
        Ok((db, frames, meta))
    }

    /// Runs the steps from the store's format to ours, each made durable before the next.
    fn migrate(&self, marked: Option<u32>) -> Result<(), Error> {
        let stored = self.meta.get(META_FORMAT).map_err(failed)?;
        let mut format = match stored.as_deref().map(<[u8; 4]>::try_from) {
            None if marked.is_some() || !self.frames.is_empty() => {
                let reason = "it has lost the number of its format".to_owned();
                return Err(Error::Unreadable { dir: self.dir.clone(), reason });
            }
            None => 0,
            Some(Ok(bytes)) => u32::from_be_bytes(bytes),
            Some(Err(_)) => {
                let reason = "the number of its format is damaged".to_owned();
                return Err(Error::Unreadable { dir: self.dir.clone(), reason });
            }
        };
        if format > FORMAT {
            return Err(Error::Newer { dir: self.dir.clone(), found: format, known: FORMAT });
        }
        while format < FORMAT {
            format = migrations::step(&self.db, format).map_err(failed)?;
            self.meta.insert(META_FORMAT, &format.to_be_bytes()).map_err(failed)?;
            self.sync()?;
        }
        // Opening made a snapshot and removed the one before. sled reuses places that only the older one
        // refers to, so the newer one's name must be on the device before anything is written.
        self.sync_folders()?;
        if marked != Some(FORMAT) {
            write_marker(&self.dir)?;
        }
        Ok(())
    }

    /// Makes files' names durable, not only their content: sled does not.
    fn sync_folders(&self) -> Result<(), Error> {
        let sled_dir = self.dir.join(SLED_DIR);
        for entry in fs::read_dir(&sled_dir).map_err(Error::io("reading", &sled_dir))? {
            let path = entry.map_err(Error::io("reading", &sled_dir))?.path();
            if path.is_dir() {
                sync_dir(&path)?;
            } else {
                File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("flushing", &path))?;
            }
        }
        sync_dir(&sled_dir)?;
        sync_dir(&self.dir)
    }

    /// Puts everything written so far on the device.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.db.flush().map_err(failed)?;
        self.file.sync_data().map_err(Error::io("flushing", &self.dir.join(SLED_DIR).join("db")))
    }

    /// Takes room ahead on the disk where it gets short; tells whether there is enough.
    pub(super) fn has_room(&self) -> bool {
        self.room.ahead();
        !self.room.is_low()
    }

    /// Returns how many values lie outside sled's own file, where it does not flush them. More than none
    /// means that a power cut could make the store unreadable.
    pub(crate) fn blobs(&self) -> u64 {
        let blobs = fs::read_dir(self.dir.join(SLED_DIR).join("blobs"));
        blobs.map_or(0, |entries| entries.count() as u64)
    }

    fn chunks_of(&self, partition: Partition, seq: Seq, head: &[u8]) -> Result<Bytes, Error> {
        let damaged = |reason: &str| Error::Damaged { frame: seq, reason: reason.to_owned() };
        let (&chunks, first) = head.split_first().ok_or_else(|| damaged("it is empty"))?;
        if chunks == 1 {
            return Ok(Bytes::copy_from_slice(first));
        }
        let mut frame = first.to_vec();
        for chunk in 1..chunks {
            let value = self.frames.get(key(partition, seq, chunk)).map_err(failed)?;
            frame.extend_from_slice(&value.ok_or_else(|| damaged("a part of it is gone"))?);
        }
        Ok(frame.into())
    }

    /// Writes a frame's chunks, the first one last: where it is, all are.
    fn put(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error> {
        let chunks = frame.len().div_ceil(CHUNK_BYTES_MAX).max(1);
        let count = u8::try_from(chunks).map_err(|_| Error::TooLarge {
            bytes: frame.len(),
            max: CHUNK_BYTES_MAX * usize::from(u8::MAX),
        })?;
        let (first, rest) = frame.split_at(frame.len().min(CHUNK_BYTES_MAX));
        for (chunk, bytes) in (1_u8..).zip(rest.chunks(CHUNK_BYTES_MAX)) {
            self.frames.insert(key(partition, seq, chunk), bytes).map_err(failed)?;
        }
        let mut head = Vec::with_capacity(1 + first.len());
        head.push(count);
        head.extend_from_slice(first);
        self.frames.insert(key(partition, seq, 0), head).map_err(failed)?;
        Ok(())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Removes snapshots whose writing was cut short. sled takes the latest by name for good, finds it damaged
/// and gives up, though the one before it is still there.
fn remove_unfinished_snapshots(sled_dir: &Path) {
    let Ok(entries) = fs::read_dir(sled_dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Gives the folder of a store that was never completed another name; returns that.
fn set_aside(dir: &Path, sled_dir: &Path) -> Result<PathBuf, Error> {
    let names = (1..).map(|n| dir.join(format!("{SLED_DIR}.incomplete-{n}")));
    let aside = names.into_iter().find(|name| !name.exists()).expect("there are more numbers than folders");
    fs::rename(sled_dir, &aside).map_err(Error::io("renaming", sled_dir))?;
    Ok(aside)
}

/// Looks for the frames that were on the device in what sled would find, before sled may change anything. Returns
/// where something does not read although no frame is missing.
fn look_over(dir: &Path, reached: Reached) -> Result<Option<u64>, String> {
    let sled_dir = dir.join(SLED_DIR);
    let looked = || -> io::Result<Findings> {
        let none = Findings { missing: None, last: reached.last, unread_at: None };
        // Another snapshot is the latest: the process ended while it opened the store, and had not written a frame.
        if snapshot_lsn(&sled_dir)? != reached.snapshot {
            return Ok(none);
        }
        let file = File::open(sled_dir.join("db"))?;
        wait_until_released(&file)?;
        sled_recovery::look_over(&file, SEGMENT_BYTES, reached.snapshot, reached.first, reached.last)
    };
    let found = looked().map_err(|error| format!("it cannot be read: {error}"))?;
    match found.missing {
        Some(missing) => Err(lost(dir, reached.last, missing - 1, found.unread_at)),
        None => Ok(found.unread_at),
    }
}

/// Says what is missing and what can be done.
fn lost(dir: &Path, reached: Seq, found: Seq, unread_at: Option<u64>) -> String {
    let db = dir.join(SLED_DIR).join("db");
    let place = unread_at.map_or(String::new(), |at| format!(", and does not read at byte {at}"));
    format!(
        "the log was on the device up to frame {reached}, but {} holds it up to frame {found} only{place}: the file \
         is damaged or is an older one; to go on without what is missing, remove {} from a copy of the folder",
        db.display(),
        dir.join(SLED_DIR).join(reached::FILE).display(),
    )
}

/// sled's threads write to its file until they give its lock back, a little after it was closed in this process.
fn wait_until_released(file: &File) -> io::Result<()> {
    let mut patience = RELEASE_PATIENCE;
    while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if patience.is_zero() {
            return Err(io::Error::other("it is in use"));
        }
        std::thread::sleep(RELEASE_PAUSE);
        patience = patience.saturating_sub(RELEASE_PAUSE);
    }
    Ok(flock(file, FlockOperation::Unlock)?)
}

/// Returns the format in the marker file; nothing if there is no marker.
fn read_marker(dir: &Path) -> Result<Option<u32>, Error> {
    let path = dir.join(MARKER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", &path)(error)),
    };
    match text.trim().parse() {
        Ok(found) if found > FORMAT => Err(Error::Newer { dir: dir.to_owned(), found, known: FORMAT }),
        Ok(found) => Ok(Some(found)),
        Err(_) => {
            let reason = format!("{} does not hold the number of a format", path.display());
            Err(Error::Unreadable { dir: dir.to_owned(), reason })
        }
    }
}

fn write_marker(dir: &Path) -> Result<(), Error> {
    let (path, temporary) = (dir.join(MARKER), dir.join("FORMAT.new"));
    fs::write(&temporary, format!("{FORMAT}\n"))
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(Error::io("writing", &path))?;
    sync_dir(dir)
}

impl EventLog for SledLog {
    fn acquire(&self, partition: Partition) -> Result<(Epoch, Seq), Error> {
        let mut writer = self.writer.lock();
        let stored = self.meta.get(META_EPOCH).map_err(failed)?;
        let last = stored.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok()).map_or(0, Epoch::from_be_bytes);
        writer.epoch = last + 1;
        self.meta.insert(META_EPOCH, &writer.epoch.to_be_bytes()).map_err(failed)?;
        writer.next = self.tail(partition)? + 1;
        // Parts of a frame whose first part did not make it before a crash.
        let leftover = key(partition, writer.next, 0)..key(partition, Seq::MAX, u8::MAX);
        for entry in self.frames.range(leftover) {
            self.frames.remove(entry.map_err(failed)?.0).map_err(failed)?;
        }
        self.sync()?;
        Ok((writer.epoch, writer.next))
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        expected: Seq,
        frames: &[Bytes],
    ) -> Result<Appended, Error> {
        let mut writer = self.writer.lock();
        if epoch != writer.epoch {
            return Ok(Appended::Fenced);
        }
        if expected != writer.next {
            let next = writer.next;
            return Err(Error::Failing(format!("frame {expected} was to be appended where {next} follows")));
        }
        if !self.room.covers(frames.iter().map(|frame| frame.len() as u64).sum()) {
            return Ok(Appended::Full);
        }
        let written = || -> Result<(), Error> {
            for (seq, frame) in (expected..).zip(frames) {
                self.put(partition, seq, frame)?;
            }
            self.sync()
        };
        match written() {
            Ok(()) => {
                writer.next += frames.len() as Seq;
                self.reached.advance(writer.next - 1);
                Ok(Appended::At(expected))
            }
            // A failed flush cannot be repeated: the system may have dropped what it could not write.
            Err(error) => {
                writer.epoch = 0;
                Ok(Appended::Unknown(match error {
                    Error::Failing(reason) => reason,
                    error => error.to_string(),
                }))
            }
        }
    }

    fn read(&self, partition: Partition, from: Seq, bytes_max: usize) -> Result<Vec<(Seq, Bytes)>, Error> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        for entry in self.frames.range(key(partition, from, 0)..=key(partition, Seq::MAX, u8::MAX)) {
            let (entry_key, value) = entry.map_err(failed)?;
            if entry_key.last() != Some(&0) {
                continue;
            }
            let seq = key_seq(&entry_key);
            let frame = self.chunks_of(partition, seq, &value)?;
            bytes += frame.len();
            if bytes > bytes_max && !frames.is_empty() {
                break;
            }
            frames.push((seq, frame));
        }
        Ok(frames)
    }

    fn tail(&self, partition: Partition) -> Result<Seq, Error> {
        let all = key(partition, 0, 0)..=key(partition, Seq::MAX, u8::MAX);
        for entry in self.frames.range(all).rev() {
            let (entry_key, _) = entry.map_err(failed)?;
            if entry_key.last() == Some(&0) {
                return Ok(key_seq(&entry_key));
            }
        }
        Ok(0)
    }

    fn get(&self, partition: Partition, seq: Seq) -> Result<Option<Bytes>, Error> {
        let head = self.frames.get(key(partition, seq, 0)).map_err(failed)?;
        head.map(|head| self.chunks_of(partition, seq, &head)).transpose()
    }

    fn trim(&self, partition: Partition, before: Seq) -> Result<(), Error> {
        let before = before.min(self.tail(partition)?);
        self.reached.drop_before(before)?;
        for entry in self.frames.range(key(partition, 0, 0)..key(partition, before, 0)) {
            self.frames.remove(entry.map_err(failed)?.0).map_err(failed)?;
        }
        self.sync()
    }

    fn redact(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error> {
        if self.frames.get(key(partition, seq, 0)).map_err(failed)?.is_none() {
            return Err(Error::Damaged { frame: seq, reason: "it is not there".to_owned() });
        }
        self.put(partition, seq, frame)?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Compressor, FrameBuilder};
    use super::*;

    #[test]
    fn frames_longer_than_a_chunk_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let frame_of = |seq, bytes: usize| {
            let mut builder = FrameBuilder::default();
            // Bytes that do not compress.
            builder.push(&(0..bytes).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
            builder.finish(0, seq, 0, &mut Compressor::new()).0
        };
        let frame = frame_of(1, CHUNK_BYTES_MAX * 3 + 17);
        let log = SledLog::open(dir.path(), true).unwrap();
        let (epoch, next) = log.acquire(0).unwrap();
        assert_eq!(next, 1);
        let frames = [frame.clone(), frame_of(2, 5)];
        assert_eq!(log.append(0, epoch, 1, &frames).unwrap(), Appended::At(1));
        drop(log);
        let log = SledLog::open(dir.path(), false).unwrap();
        assert_eq!(log.get(0, 1).unwrap().unwrap(), frame);
        assert_eq!(log.tail(0).unwrap(), 2);
        assert_eq!(log.read(0, 1, 10).unwrap().len(), 1);
        assert_eq!(log.read(0, 1, usize::MAX).unwrap().len(), 2);
        assert_eq!(log.append(0, epoch, 3, &[frame]).unwrap(), Appended::Fenced, "an old writer is fenced");
        assert_eq!(log.blobs(), 0);
    }

    #[test]
    fn vanished_file_is_refused_and_not_replaced_by_an_empty_store() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledLog::open(dir.path(), true).unwrap());
        fs::remove_file(dir.path().join("log/db")).unwrap();
        let error = SledLog::open(dir.path(), true).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
        assert!(!dir.path().join("log/db").exists());
    }

    #[test]
    fn newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledLog::open(dir.path(), true).unwrap());
        fs::write(dir.path().join(MARKER), "99\n").unwrap();
        let error = SledLog::open(dir.path(), true).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 99, .. }), "{error}");
    }

    #[test]
    fn garbage_in_the_file_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledLog::open(dir.path(), true).unwrap());
        fs::write(dir.path().join("log/db"), vec![0x5a; 100_000]).unwrap();
        let error = SledLog::open(dir.path(), true).unwrap_err();
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }

    #[test]
    fn store_whose_making_was_cut_short_is_set_aside_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("log/db"), vec![0x5a; 100_000]).unwrap();
        fs::write(dir.path().join("log/snap.0000000000000000"), "garbage").unwrap();
        SledLog::open(dir.path(), true).unwrap();
        assert!(dir.path().join("log.incomplete-1/db").exists());
    }

    #[test]
    fn snapshot_whose_writing_was_cut_short_does_not_keep_the_store_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledLog::open(dir.path(), true).unwrap());
        fs::write(dir.path().join("log/snap.FFFFFFFFFFFFFFFF.generating"), "half").unwrap();
        SledLog::open(dir.path(), false).unwrap();
    }

    #[test]
    fn missing_store_is_not_made_by_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(SledLog::open(dir.path(), false), Err(Error::Missing { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
