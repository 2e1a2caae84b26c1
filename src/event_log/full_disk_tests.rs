//! A disk that runs full, on a small file system of its own. Skipped, loudly, where none can be mounted.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::record::{Switch, Switched};
use super::tests::{at, function, new_event};
use super::*;

/// Room on the small disk: enough for what is kept ahead, and some events.
const DISK: &str = "size=96m";
const BODY_BYTES: usize = 20_000;

/// A small disk, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: a full disk needs the right to mount a small one");
        None
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Filler {
        let filler = Filler(self.0.path().join("filler"));
        filler.grow();
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// A file that takes the disk's room until it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn grow(&self) {
        let mut file = File::options().create(true).append(true).open(&self.0).unwrap();
        for bytes in [1024 * 1024, 4096] {
            while file.write_all(&vec![7; bytes]).is_ok() {}
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn open(dir: &Path) -> Log {
    Log::open(Options { disk_reserve_bytes: 0, ..Options::new(dir) }).unwrap()
}

async fn ingest(log: &Log) -> Result<EventId, IngestError> {
    let mut event = new_event(None);
    event.content.body = Body::Inline((0..BODY_BYTES).map(|_| fastrand::u8(..)).collect::<Vec<_>>().into());
    let ingested = log.ingest(vec![event], Instant::now() + Duration::from_secs(10)).await?;
    Ok(ingested[0].id())
}

/// Ingests until events are refused; returns those that were not.
async fn ingest_until_full(log: &Log) -> Vec<EventId> {
    let mut acknowledged = Vec::new();
    loop {
        match ingest(log).await {
            Ok(id) => acknowledged.push(id),
            Err(IngestError::Full) => return acknowledged,
            Err(error) => panic!("a full disk is no failure: {error}"),
        }
    }
}

/// Fills the disk and ingests until the log says that it is full; returns what was not refused. Once is not always
/// enough: sled cuts free segments off its file, and events are accepted again.
async fn fill_until_refused(disk: &SmallDisk, log: &Log) -> (Filler, Vec<EventId>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut acknowledged = Vec::new();
    let filler = disk.fill();
    loop {
        acknowledged.extend(ingest_until_full(log).await);
        match log.health().condition {
            Condition::Full => return (filler, acknowledged),
            Condition::Ok if Instant::now() < deadline => filler.grow(),
            condition => panic!("the disk is full, and the log {condition:?}"),
        }
    }
}

async fn check_all_there(log: &Log, acknowledged: &[EventId]) {
    for id in acknowledged {
        assert_eq!(log.event(*id).unwrap().unwrap().content.body.len(), BODY_BYTES as u64);
    }
}

#[tokio::test]
async fn disk_that_runs_full_refuses_events_finishes_what_is_accepted_and_goes_on_by_itself() {
    let Some(disk) = SmallDisk::mount() else { return };
    let log = open(&disk.data());
    let mut acknowledged = vec![ingest(&log).await.unwrap()];
    let (filler, more) = fill_until_refused(&disk, &log).await;
    acknowledged.extend(more);
    // What is accepted can be finished, and everything be read.
    for paused in [true, false] {
        let switch = Switch::FunctionPaused(function(), paused);
        log.append_durable(vec![Record::Switched(Switched { at: at(0), switch })]).await.unwrap();
    }
    check_all_there(&log, &acknowledged).await;
    drop(filler);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ingest(&log).await {
            Ok(id) => break acknowledged.push(id),
            Err(IngestError::Full) if Instant::now() < deadline => tokio::task::yield_now().await,
            Err(error) => panic!("there is room again: {error}"),
        }
    }
    assert_eq!(log.health().condition, Condition::Ok);
    drop(log);
    check_all_there(&open(&disk.data()), &acknowledged).await;
}

#[tokio::test]
async fn disk_that_is_filled_by_others_under_load_loses_nothing() {
    let Some(disk) = SmallDisk::mount().map(Arc::new) else { return };
    let log = open(&disk.data());
    let mut acknowledged = Vec::new();
    for _ in 0..5 {
        let filling = {
            let disk = Arc::clone(&disk);
            std::thread::spawn(move || disk.fill())
        };
        acknowledged.extend(ingest_until_full(&log).await);
        drop(filling.join().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while log.is_full() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
    }
    drop(log);
    check_all_there(&open(&disk.data()), &acknowledged).await;
}
