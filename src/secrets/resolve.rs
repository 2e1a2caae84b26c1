//! Turns secret references into secrets.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::{MasterKey, SealError, Secret};
use crate::config::SecretRef;

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

/// Gives secrets for references: the environment, files, and what hookkeeper keeps sealed.
pub trait SecretProvider: Send + Sync {
    /// Finds the secret that a reference names.
    ///
    /// # Errors
    ///
    /// If there is none, it cannot be read, or it is blank.
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError>;

    /// Finds all secrets of a list, in its order.
    ///
    /// # Errors
    ///
    /// If any of them is not to be had.
    fn resolve_all(&self, references: &[SecretRef]) -> Result<Vec<Secret>, SecretError> {
        references.iter().map(|reference| self.resolve(reference)).collect()
    }

    /// Finds all secrets of a trigger by name.
    ///
    /// # Errors
    ///
    /// If any of them is not to be had.
    fn resolve_map(
        &self,
        references: &BTreeMap<String, Vec<SecretRef>>,
    ) -> Result<BTreeMap<String, Vec<Secret>>, SecretError> {
        let resolve = |(name, list): (&String, &Vec<SecretRef>)| Ok((name.clone(), self.resolve_all(list)?));
        references.iter().map(resolve).collect()
    }
}

/// The chain that resolves every kind of reference.
///
/// `sealed` looks up what is kept under a name; the log's state serves as one.
pub struct Chain<F> {
    key: MasterKey,
    sealed: F,
}

impl<F: Fn(&str) -> Option<Bytes> + Send + Sync> Chain<F> {
    /// Returns a chain over the given key and store.
    pub fn new(key: MasterKey, sealed: F) -> Self {
        Self { key, sealed }
    }

    /// Returns the key.
    pub fn key(&self) -> &MasterKey {
        &self.key
    }
}

impl<F: Fn(&str) -> Option<Bytes> + Send + Sync> SecretProvider for Chain<F> {
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let found = match reference {
            SecretRef::Store(name) => {
                // An empty record removes the name.
                let sealed = (self.sealed)(name).filter(|sealed| !sealed.is_empty());
                self.key.unseal(name, &sealed.ok_or_else(|| SecretError::NotStored(name.clone()))?)?
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

fn read_file(path: &std::path::Path) -> io::Result<Secret> {
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

    fn chain() -> impl SecretProvider {
        let key = MasterKey::from_bytes([7; 32]);
        let kept = key.seal("kept", &Secret::new("sealed one")).unwrap();
        Chain::new(key, move |name: &str| match name {
            "kept" => Some(kept.clone()),
            "damaged" => Some(Bytes::from_static(b"x")),
            "removed" => Some(Bytes::new()),
            _ => None,
        })
    }

    fn resolve(reference: SecretRef) -> Result<Vec<u8>, String> {
        chain().resolve(&reference).map(|secret| secret.expose().to_vec()).map_err(|error| error.to_string())
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
