//! Flipped bits in the store's file after a process was killed: refused and left alone, or nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{Attempted, Cause, NewRun, Next, Routed, Start};
use super::tests::{at, function, ingest, new_event};
use super::*;
use crate::event::RunId;

/// How many bits are flipped, one at a time.
const FLIPS: usize = 60;

/// A folder as a killed process leaves it, and what it had acknowledged.
struct Left {
    dir: tempfile::TempDir,
    events: Vec<EventId>,
    counts: Counts,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn options(dir: &Path) -> Options {
    Options { disk_reserve_bytes: 0, ..Options::new(dir) }
}

/// Some frames of events, of which every third has a run that was attempted.
async fn write(log: &Log, frames: usize, events: &mut Vec<EventId>) {
    for _ in 0..frames {
        let mut new = new_event(None);
        new.content.body = Body::Inline((0..2000).map(|_| fastrand::u8(..)).collect::<Vec<_>>().into());
        let id = ingest(log, vec![new]).await[0].id();
        events.push(id);
        if events.len().is_multiple_of(3) {
            let run = RunId { event: id, function: function(), generation: 1 };
            let (trigger_id, kind) = ("gh".parse().unwrap(), "push".to_owned());
            let new =
                NewRun { id: run.clone(), trigger_id, kind, cause: Cause::Live, start: Start::Due(at(0)) };
            let routed = Record::Routed(Routed {
                from: log.state().routed_through(),
                through: id.position(),
                at: at(0),
                functions: vec![function()],
                runs: vec![new],
                skipped: vec![],
            });
            let attempted = Record::Attempted(Attempted {
                run,
                attempt: 1,
                started_at: at(1),
                duration_us: 1,
                status: Some(200),
                note: String::new(),
                answer: Bytes::new(),
                next: Next::Succeeded,
            });
            log.append_durable(vec![routed, attempted]).await.unwrap();
        }
    }
}

/// The process had stopped once and started again, if `sessions` is 2.
async fn left(sessions: usize) -> Left {
    let (dir, live) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut events = Vec::new();
    for session in 1..=sessions {
        let log = Log::open(options(live.path())).unwrap();
        write(&log, 60, &mut events).await;
        if session == sessions {
            let counts = log.state().counts();
            copy(live.path(), dir.path());
            return Left { dir, events, counts };
        }
    }
    unreachable!("the last session returns")
}

/// The files of the store, which must not change.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn check_all_there(log: &Log, left: &Left) {
    for id in &left.events {
        assert!(log.event(*id).unwrap().is_some(), "an acknowledged event is gone, and nobody was told");
    }
    assert_eq!(log.state().counts(), left.counts, "the derived state has lost something");
}

/// Opens a damaged copy; tells whether it was refused.
fn is_refused(dir: &Path, left: &Left) -> bool {
    let before = contents(dir);
    match Log::open(options(dir)) {
        Ok(log) => {
            check_all_there(&log, left);
            false
        }
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, Error::Unreadable { .. }), "{text}");
            assert!(contents(dir) == before, "a store that is refused is left as it is");
            true
        }
    }
}

async fn check_flips(sessions: usize) {
    let left = left(sessions).await;
    let scratch = tempfile::tempdir().unwrap();
    let undamaged = scratch.path().join("undamaged");
    copy(left.dir.path(), &undamaged);
    assert!(!is_refused(&undamaged, &left));
    let db = fs::read(left.dir.path().join("log/db")).unwrap();
    let end = db.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut refused, mut went_on) = (0, 0);
    for flip in 0..FLIPS {
        let dir = scratch.path().join(flip.to_string());
        copy(left.dir.path(), &dir);
        let mut damaged = db.clone();
        let place = end * flip / FLIPS + fastrand::usize(..end / FLIPS);
        damaged[place] ^= 1 << (flip % 8);
        fs::write(dir.join("log/db"), damaged).unwrap();
        if is_refused(&dir, &left) {
            refused += 1;
            // What the account says can be done.
            fs::remove_file(dir.join("log").join(reached::FILE)).unwrap();
            went_on += usize::from(Log::open(options(&dir)).is_ok());
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    assert!(refused > 0, "some of it must have been needed");
    assert!(went_on > 0, "one can go on with what is left");
}

#[tokio::test]
async fn flipped_bit_of_a_first_session_is_refused_or_costs_nothing() {
    check_flips(1).await;
}

#[tokio::test]
async fn flipped_bit_of_a_later_session_is_refused_or_costs_nothing() {
    check_flips(2).await;
}

#[tokio::test]
async fn older_file_in_the_place_of_a_newer_one_is_refused_with_an_account() {
    let left = left(1).await;
    let older = fs::read(left.dir.path().join("log/db")).unwrap();
    let log = Log::open(options(left.dir.path())).unwrap();
    write(&log, 5, &mut Vec::new()).await;
    let tail = *log.tail().borrow();
    drop(log);
    fs::write(left.dir.path().join("log/db"), older).unwrap();
    let refused = Log::open(options(left.dir.path())).err().expect("frames are missing").to_string();
    assert!(refused.contains(&format!("up to frame {tail}")) && refused.contains("log/reached"), "{refused}");
}
