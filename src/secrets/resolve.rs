//! Turns secret references into secrets.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;

use super::{MasterKey, SealError, Secret};
use crate::settings::SecretRef;

/// Largest file that serves as a secret, in bytes: room for PEM keys.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a reference does not lead to a secret. No text of a secret is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("cannot read the secret file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is kept under the name.
    #[error("no secret is kept under the name `{0}`: set it with `hookkeeper secrets set {0}`")]
    NotStored(String),
    /// What is kept does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The secret is empty, blank or all NUL, and would protect nothing.
    #[error("the secret of {0} is blank")]
    Blank(String),
}

/// What is kept sealed, by name. The log's state is one; so is a closure.
pub trait SealedStore {
    /// Returns what is kept under a name; empty bytes count as nothing.
    fn sealed(&self, name: &str) -> Option<Bytes>;
}

impl<F: Fn(&str) -> Option<Bytes>> SealedStore for F {
    fn sealed(&self, name: &str) -> Option<Bytes> {
        self(name)
    }
}

/// Resolves references of every kind, seals and unseals.
///
/// The master key is looked for when it is first needed, and created only when something is to be sealed.
pub struct Vault {
    data: PathBuf,
    key: OnceLock<MasterKey>,
}

impl Vault {
    /// Returns the vault of a data folder. Nothing is read or created yet.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), key: OnceLock::new() }
    }

    /// Returns a vault with a key that is known already.
    pub fn with_key(key: MasterKey) -> Self {
        Self { data: PathBuf::new(), key: OnceLock::from(key) }
    }

    fn key(&self, find: impl FnOnce(&Path) -> Result<MasterKey, SealError>) -> Result<&MasterKey, SealError> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        // Two threads may both find it; they find the same one.
        let found = find(&self.data)?;
        Ok(self.key.get_or_init(|| found))
    }

    /// Seals a secret for keeping under a name, creating the master key if there is none.
    ///
    /// # Errors
    ///
    /// If the master key cannot be read or created.
    pub fn seal(&self, name: &str, secret: &Secret) -> Result<Bytes, SealError> {
        self.key(MasterKey::open)?.seal(name, secret)
    }

    /// Opens what was sealed for the same name.
    ///
    /// # Errors
    ///
    /// If the master key is not to be had, or the bytes do not open under it.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        self.key(MasterKey::read)?.unseal(name, sealed)
    }

    /// Finds the secret that a reference names.
    ///
    /// # Errors
    ///
    /// If there is none, it cannot be read, or it is blank.
    pub fn resolve(&self, reference: &SecretRef, store: &impl SealedStore) -> Result<Secret, SecretError> {
        let found = match reference {
            SecretRef::Store(name) => {
                // An empty record removes the name.
                let sealed = store.sealed(name).filter(|sealed| !sealed.is_empty());
                self.unseal(name, &sealed.ok_or_else(|| SecretError::NotStored(name.clone()))?)?
            }
            outside => resolve_outside(outside)?,
        };
        not_blank(found, reference)
    }
}

/// Resolves references that need no data folder: environment, files and literals.
///
/// # Errors
///
/// If there is no secret, it is blank, or the reference is to the store.
pub fn resolve_without_store(reference: &SecretRef) -> Result<Secret, SecretError> {
    not_blank(resolve_outside(reference)?, reference)
}

fn not_blank(secret: Secret, reference: &SecretRef) -> Result<Secret, SecretError> {
    if secret.is_blank() { Err(SecretError::Blank(reference.to_string())) } else { Ok(secret) }
}

fn resolve_outside(reference: &SecretRef) -> Result<Secret, SecretError> {
    use std::os::unix::ffi::OsStringExt as _;
    match reference {
        SecretRef::Env(name) => {
            let value = std::env::var_os(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
            Ok(Secret::new(value.into_vec()))
        }
        SecretRef::File(path) => {
            read_file(path).map_err(|source| SecretError::File { path: path.clone(), source })
        }
        SecretRef::Store(name) => Err(SecretError::NotStored(name.clone())),
        SecretRef::Literal(text) => Ok(Secret::new(text.as_bytes())),
    }
}

fn read_file(path: &Path) -> io::Result<Secret> {
    use std::io::Read as _;
    let mut content = zeroize::Zeroizing::new(Vec::new());
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    // One trailing newline is an editor's, not the secret's.
    let secret = content.strip_suffix(b"\n").unwrap_or(&content);
    Ok(Secret::new(secret.strip_suffix(b"\r").unwrap_or(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(reference: SecretRef) -> Result<Vec<u8>, String> {
        let vault = Vault::with_key(MasterKey::from_bytes([7; 32]));
        let kept = vault.seal("kept", &Secret::new("sealed one")).unwrap();
        let store = move |name: &str| match name {
            "kept" => Some(kept.clone()),
            "damaged" => Some(Bytes::from_static(b"x")),
            "removed" => Some(Bytes::new()),
            _ => None,
        };
        vault
            .resolve(&reference, &store)
            .map(|secret| secret.expose().to_vec())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_key_is_created_when_something_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::new(folder.path());
        assert!(vault.resolve(&SecretRef::Literal("x".into()), &|_: &str| None).is_ok());
        assert!(matches!(vault.unseal("a", b"x"), Err(SealError::NoKey { .. })));
        let sealed = vault.seal("a", &Secret::new("x")).unwrap();
        assert_eq!(Vault::new(folder.path()).unseal("a", &sealed).unwrap().expose(), b"x");
    }

    #[test]
    fn stored_secrets_are_opened() {
        let store = |name: &str| resolve(SecretRef::Store(name.into()));
        assert_eq!(store("kept").unwrap(), b"sealed one");
        assert!(store("gone").unwrap_err().contains("secrets set gone"));
        assert!(store("removed").unwrap_err().contains("secrets set removed"));
        assert!(store("damaged").unwrap_err().contains("does not open"));
    }

    #[test]
    fn files_lose_one_newline_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, expected) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), (" a \n\n", " a \n")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(resolve(SecretRef::File(path.clone())).unwrap(), expected.as_bytes());
        }
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(resolve(SecretRef::File(path)).unwrap_err().contains("cannot read"));
    }

    #[test]
    fn blank_secrets_are_refused_without_being_shown() {
        assert!(resolve(SecretRef::Literal("  ".into())).unwrap_err().contains("blank"));
        assert!(resolve(SecretRef::Env("HOOKKEEPER_TEST_NOT_SET".into())).unwrap_err().contains("not set"));
    }
}
