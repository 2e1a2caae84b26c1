//! Large bodies in files beside the log, so that they take no room in its queue.
//!
//! A body is on the device, under its final name, before the event that refers to it is committed. What
//! no event refers to after a crash is removed when the log is opened again; names carry the writer's
//! epoch, so that nothing of the running process is ever taken for left over.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Error;
use super::state::State;
use crate::event::SpooledBody;
use crate::frames::Epoch;

/// Ending of a body that is being written.
const PARTIAL: &str = "part";
/// Ending of a complete body.
const COMPLETE: &str = "body";

/// Makes files for large bodies. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    epoch: Epoch,
}

/// A body that is being written. Dropped before [`finish`](Self::finish), its file is removed.
#[derive(Debug)]
pub struct SpoolWriter {
    dir: PathBuf,
    stem: String,
    /// Nothing once the body is complete.
    file: Option<File>,
    hash: Sha256,
    bytes: u64,
}

impl Spool {
    pub(super) fn new(dir: PathBuf, epoch: Epoch) -> Self {
        Self { dir, epoch }
    }

    /// Begins a body. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn create(&self) -> Result<SpoolWriter, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Failing(format!("the system gives no random bytes: {error}")))?;
        let stem = format!("{:08x}-{:016x}", self.epoch, u64::from_be_bytes(random));
        let path = self.dir.join(format!("{stem}.{PARTIAL}"));
        let file = File::create_new(&path).map_err(Error::io("creating", &path))?;
        Ok(SpoolWriter { dir: self.dir.clone(), stem, file: Some(file), hash: Sha256::new(), bytes: 0 })
    }

    /// Keeps a whole body. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn keep(&self, body: &[u8]) -> Result<SpooledBody, Error> {
        let mut writer = self.create()?;
        writer.write(body)?;
        writer.finish()
    }

    /// Removes a body that no event will refer to. Blocks; what cannot be removed is left for the next start.
    pub fn discard(&self, body: &SpooledBody) {
        let _ = fs::remove_file(self.dir.join(&body.name));
    }

    /// Removes what earlier writers left that no durable event refers to.
    pub(super) fn sweep(&self, state: &State) -> Result<usize, Error> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir).map_err(Error::io("reading", &self.dir))? {
            let path = entry.map_err(Error::io("reading", &self.dir))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let left_over = match earlier(name, self.epoch) {
                Some(PARTIAL) => true,
                Some(COMPLETE) => !state.refers_to_body(name)?,
                _ => false,
            };
            if left_over && fs::remove_file(&path).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Returns the ending of a file of an earlier epoch's writer; nothing for every other file.
fn earlier(name: &str, epoch: Epoch) -> Option<&str> {
    let (stem, ending) = name.split_once('.')?;
    let (written_in, _) = stem.split_once('-')?;
    (Epoch::from_str_radix(written_in, 16).ok()? < epoch).then_some(ending)
}

impl SpoolWriter {
    /// Appends to the body. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let path = self.path(PARTIAL);
        let file = self.file.as_mut().expect("the file is there until `finish`, which takes the writer");
        file.write_all(chunk).map_err(Error::io("writing", &path))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Returns how many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads what was written. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn read(&self) -> Result<Bytes, Error> {
        let path = self.path(PARTIAL);
        fs::read(&path).map(Bytes::from).map_err(Error::io("reading", &path))
    }

    /// Puts the body and its name on the device. Blocks.
    ///
    /// # Errors
    ///
    /// If that fails. The file is removed then, or, where the folder could not be flushed, by the next start.
    pub fn finish(mut self) -> Result<SpooledBody, Error> {
        let (partial, complete) = (self.path(PARTIAL), self.path(COMPLETE));
        let file = self.file.as_ref().expect("the file is there until here");
        file.sync_all().map_err(Error::io("flushing", &partial))?;
        fs::rename(&partial, &complete).map_err(Error::io("renaming", &partial))?;
        self.file = None;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(Error::io("flushing", &self.dir))?;
        let sha256 = std::mem::take(&mut self.hash).finalize().into();
        Ok(SpooledBody { name: format!("{}.{COMPLETE}", self.stem), bytes: self.bytes, sha256 })
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.stem))
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(self.path(PARTIAL));
        }
    }
}

/// Makes the folder of spooled bodies, durably.
pub(super) fn make_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir(dir).map_err(Error::io("creating", dir))?;
    let parent = dir.parent().unwrap_or(dir);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::io("flushing", parent))
}
