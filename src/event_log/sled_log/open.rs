//! Opening the store: nothing that was on the device may be missing, and what does not open is left as it is.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::super::migrations::{self, FORMAT};
use super::super::reached::{self, Reached, ReachedFile};
use super::super::reader::PARTITION;
use super::super::room::Room;
use super::super::sled_recovery::{self, Findings, snapshot_lsn};
use super::{Error, SLED_DIR, SledLog, failed, key, key_seq};
use crate::frames::{EventLog as _, Seq};

const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// sled's background thread also collects garbage, so it stays on.
const FLUSH_EVERY_MS: u64 = 500;

/// How long sled's threads are given to end, and how often that is looked at.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
const RELEASE_PAUSE: Duration = Duration::from_millis(5);

/// How the system calls a disk that is full; sled hands on no more than a text.
const NO_SPACE: &str = "No space left on device";

/// Says that there is a store, and of which format.
pub(in crate::event_log) const MARKER: &str = "FORMAT";
const META_FORMAT: &[u8] = b"format";

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
        let log = Self {
            db,
            frames,
            meta,
            file,
            flush_failed: Mutex::new(false),
            dir: dir.to_owned(),
            writer,
            reached: of_file,
            room,
            is_doubtful,
        };
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
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("flushing", dir))
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

#[cfg(test)]
mod tests {
    use super::*;

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
