//! The quarantine's folder: one file per delivery, in two sealed parts, what is told of it and its request.
//!
//! Nothing here is flushed to the device: what a power cut takes was refused anyway, and a flush would
//! compete with the log's. A file that broke off does not open, and gives way like any other.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::held::{Held, HeldId, Rejected, Request, decode_head, encode_head};
use crate::secrets::{SealError, Secret, Vault, create_private};

/// Name of the folder in the data folder.
const FOLDER: &str = "quarantine";
/// Ending of a kept delivery's file.
const ENDING: &str = "held";
/// File of the addresses that are known.
const KNOWN_FILE: &str = "addresses";
/// Longest sealed head, in bytes: names, a hint and numbers.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// Largest file of addresses that is read.
const KNOWN_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files take whole blocks of the disk.
const BLOCK_BYTES: u64 = 4 * 1024;

/// The folder, and what opens its files.
pub(super) struct Folder {
    path: PathBuf,
    vault: Arc<Vault>,
}

/// A file of the folder.
pub(super) enum Found {
    Held(Box<Held>),
    /// It is damaged, or was sealed under another key.
    Unreadable(HeldId, u64),
}

/// A delivery, sealed and ready to be written.
pub(super) struct SealedFile(Vec<u8>);

impl SealedFile {
    /// Returns what the file takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        on_disk(self.0.len() as u64)
    }
}

fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

impl Folder {
    pub(super) fn new(data: &Path, vault: Arc<Vault>) -> Self {
        Self { path: data.join(FOLDER), vault }
    }

    fn file(&self, id: HeldId) -> PathBuf {
        self.path.join(format!("{id}.{ENDING}"))
    }

    /// Makes the folder, for its owner alone.
    pub(super) fn make(&self) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|source| Error::Io { what: "creating", path: self.path.clone(), source })
    }

    /// Reads what is told of each file, oldest first. A folder that is not there holds nothing.
    pub(super) fn scan(&self) -> Result<Vec<Found>, Error> {
        let failed = |source| Error::Io { what: "reading", path: self.path.clone(), source };
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(ENDING)?.strip_suffix('.'));
            ids.extend(stem.and_then(|stem| stem.parse::<HeldId>().ok()));
        }
        ids.sort_unstable();
        Ok(ids.into_iter().map(|id| self.head(id)).collect())
    }

    /// Returns the files that hold something sealed: deliveries, and the addresses that are known.
    pub(super) fn sealed_files(&self) -> Result<Vec<PathBuf>, Error> {
        let found = self.scan()?.into_iter().map(|found| match found {
            Found::Held(held) => held.id,
            Found::Unreadable(id, _) => id,
        });
        let known = Some(self.path.join(KNOWN_FILE)).filter(|path| path.exists());
        Ok(found.map(|id| self.file(id)).chain(known).collect())
    }

    /// Seals the content of a file anew; nothing comes of one that is sealed under the first key.
    pub(super) fn resealed(&self, path: &Path, content: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let Ok(id) = stem.parse::<HeldId>() else {
            return Ok(self.vault.reseal(KNOWN_NAME, content)?.map(Vec::from));
        };
        let mut rest = content;
        let damaged = |_| SealError::Unseal { name: head_name(id) };
        let head = read_part(&mut rest, HEAD_BYTES_MAX).map_err(damaged)?;
        let new_head = self.vault.reseal(&head_name(id), &head)?;
        let Some(request) = self.vault.reseal(&request_name(id), rest)? else { return Ok(None) };
        Ok(Some(joined(&new_head.unwrap_or(head.into()), &request)))
    }

    /// Replaces a file by one of another content.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let aside = path.with_extension("new");
        let _ = fs::remove_file(&aside);
        create_private(&aside).and_then(|mut file| file.write_all(content))?;
        fs::rename(&aside, path)
    }

    fn head(&self, id: HeldId) -> Found {
        let bytes = on_disk(fs::metadata(self.file(id)).map_or(0, |it| it.len()));
        let read = || {
            let mut file = File::open(self.file(id)).ok()?;
            let sealed = read_part(&mut file, HEAD_BYTES_MAX).ok()?;
            decode_head(id, bytes, self.vault.unseal(&head_name(id), &sealed).ok()?.expose())
        };
        read().map_or(Found::Unreadable(id, bytes), |held| Found::Held(Box::new(held)))
    }

    /// Opens a kept delivery's request.
    pub(super) fn request(&self, id: HeldId) -> Result<Request, Error> {
        let path = self.file(id);
        let read = || {
            let mut file = File::open(&path)?;
            read_part(&mut file, HEAD_BYTES_MAX)?;
            let mut sealed = Vec::new();
            file.read_to_end(&mut sealed)?;
            Ok(sealed)
        };
        let sealed = read().map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound(id),
            _ => Error::Io { what: "reading", path: path.clone(), source },
        })?;
        let opened = self.vault.unseal(&request_name(id), &sealed)?;
        Request::decode(opened.expose()).ok_or(Error::Newer(id))
    }

    /// Seals a delivery. Its plain text is wiped from memory.
    pub(super) fn seal(&self, id: HeldId, rejected: &Rejected) -> Result<SealedFile, SealError> {
        let head = self.vault.seal(&head_name(id), &Secret::new(encode_head(rejected)))?;
        let request = self.vault.seal(&request_name(id), &Secret::new(rejected.request.encode()))?;
        Ok(SealedFile(joined(&head, &request)))
    }

    /// Writes a delivery's file. Where that fails, nothing is left of it.
    pub(super) fn write(&self, id: HeldId, sealed: &SealedFile) -> Result<(), Error> {
        let path = self.file(id);
        let written = create_private(&path).and_then(|mut file| file.write_all(&sealed.0));
        written.map_err(|source| {
            self.remove(id);
            Error::Io { what: "writing", path, source }
        })
    }

    /// Removes a delivery's file. One that cannot be removed is found again at the next start.
    pub(super) fn remove(&self, id: HeldId) {
        let _ = fs::remove_file(self.file(id));
    }

    /// Reads the addresses that are known, as they were handed to [`write_known`](Self::write_known).
    pub(super) fn read_known(&self) -> Option<Secret> {
        let mut sealed = Vec::new();
        let file = File::open(self.path.join(KNOWN_FILE)).ok()?;
        file.take(KNOWN_BYTES_MAX).read_to_end(&mut sealed).ok()?;
        self.vault.unseal(KNOWN_NAME, &sealed).ok()
    }

    /// Keeps the addresses that are known, sealed. Written aside and renamed: the old ones or the new ones.
    pub(super) fn write_known(&self, known: Vec<u8>) -> Result<(), Error> {
        let sealed = self.vault.seal(KNOWN_NAME, &Secret::new(known))?;
        let (path, aside) = (self.path.join(KNOWN_FILE), self.path.join("addresses.new"));
        let _ = fs::remove_file(&aside);
        let written = create_private(&aside).and_then(|mut file| file.write_all(&sealed));
        written.and_then(|()| fs::rename(&aside, &path)).map_err(|source| Error::Io {
            what: "writing",
            path,
            source,
        })
    }
}

/// Puts the two sealed parts of a file together, the first one behind its length.
fn joined(head: &[u8], request: &[u8]) -> Vec<u8> {
    let head_bytes = u32::try_from(head.len()).expect("a head is short").to_le_bytes();
    [&head_bytes[..], head, request].concat()
}

/// Reads a part that stands behind its length.
fn read_part(file: &mut impl io::Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    let bytes = u32::from_le_bytes(bytes) as usize;
    if bytes > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut part = vec![0; bytes];
    file.read_exact(&mut part)?;
    Ok(part)
}

// A colon is in no name of the secret store, so that nothing sealed there passes for one of these.

fn head_name(id: HeldId) -> String {
    format!("quarantine:{id}:head")
}

fn request_name(id: HeldId) -> String {
    format!("quarantine:{id}:request")
}

const KNOWN_NAME: &str = "quarantine:addresses";
