//! One process per data folder: a lock that the operating system drops with the process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::Error;

/// The lock's file in the data folder.
const FILE: &str = "LOCK";

/// How long a lock may outlive its holder, and how often that is looked at: a child that the holder is
/// just starting shares the lock until it runs its own program.
const PATIENCE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(20);

/// Holds the data folder for this process until dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Takes the data folder.
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::io("opening", &path))?;
        let mut patience = PATIENCE;
        while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if !patience.is_zero() {
                std::thread::sleep(PAUSE);
                patience = patience.saturating_sub(PAUSE);
                continue;
            }
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "?".to_owned() } else { pid.trim().to_owned() };
            return Err(Error::Locked { dir: dir.to_owned(), pid });
        }
        file.set_len(0).map_err(Error::io("writing", &path))?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(Error::io("writing", &path))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_told_folder_and_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path()).unwrap();
        let text = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(held);
        Lock::take(dir.path()).unwrap();
    }
}
