//! Turns secret references into secrets.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::fingerprint::{FINGERPRINT_KEY, Fingerprints};
use super::keyring::{CREDENTIALS_DIRECTORY_ENV, Keyring};
use super::{MasterKey, SealError, Secret};
use crate::settings::SecretRef;

/// Largest file that serves as a secret, in bytes: room for PEM keys.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// The folder of secret files within the data folder.
const SECRETS_FOLDER: &str = "secrets";

/// Why a reference does not lead to a secret. No text of a secret is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// No place has it that was looked at.
    #[error(
        "there is no secret {id}: looked at {}; set one of them, or keep it with `hookkeeper secrets set {id}`",
        looked.join(", ")
    )]
    Nowhere {
        /// Namespace and name.
        id: String,
        /// The references that lead to nothing.
        looked: Vec<String>,
    },
    /// The file cannot be read.
    #[error("cannot read the secret file {path}: {source}")]
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
    /// The lookup panicked.
    #[error("the lookup of a secret panicked; hookkeeper's log says where")]
    Panicked,
}

impl SecretError {
    /// Tells whether there is nothing at the place that was looked at, as opposed to something that does not serve.
    pub fn is_absent(&self) -> bool {
        match self {
            SecretError::NotSet(_) | SecretError::NotStored(_) | SecretError::Nowhere { .. } => true,
            SecretError::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            SecretError::Seal(_) | SecretError::Blank(_) | SecretError::Panicked => false,
        }
    }
}

/// Returns the name under which the secret is kept that another one replaced, for as long as it goes on
/// verifying. No name that users give has a colon.
pub fn previous_name(name: &str) -> String {
    format!("{name}:previous")
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The secret.
    pub current: Secret,
    /// The one that it replaced, while both are in force.
    pub previous: Option<Secret>,
}

impl Resolved {
    /// Returns all secrets that are in force, the current one first.
    pub fn into_all(self) -> impl Iterator<Item = Secret> {
        std::iter::once(self.current).chain(self.previous)
    }
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

/// Reads environment variables.
type Env = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Resolves references of every kind, seals and unseals.
///
/// The master key is looked for when it is first needed, and created only when something is to be sealed.
pub struct Vault {
    data: PathBuf,
    dir: Option<PathBuf>,
    env: Env,
    ring: OnceLock<Keyring>,
    /// Whether something is sealed already, and so a key that is not there is lost, not yet to be made.
    has_sealed: bool,
    fingerprints: OnceLock<Fingerprints>,
}

impl Vault {
    /// Returns the vault of a data folder. Nothing is read or created yet.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            dir: None,
            env: Box::new(|name| std::env::var_os(name)),
            ring: OnceLock::new(),
            has_sealed: false,
            fingerprints: OnceLock::new(),
        }
    }

    /// Returns a vault with a key that is known already.
    pub fn with_key(key: MasterKey) -> Self {
        Self::with_ring(PathBuf::new(), Keyring::of(key))
    }

    /// Returns the vault of a data folder with keys that were found already.
    pub fn with_ring(data: impl Into<PathBuf>, ring: Keyring) -> Self {
        Self { ring: OnceLock::from(ring), ..Self::new(data) }
    }

    /// Looks for the files of secrets in another folder than `secrets` in the data folder.
    #[must_use]
    pub fn with_dir(self, dir: Option<PathBuf>) -> Self {
        Self { dir, ..self }
    }

    /// Makes no new master key where something is sealed already: what is sealed under two is opened by neither.
    #[must_use]
    pub fn with_sealed(self, has_sealed: bool) -> Self {
        Self { has_sealed, ..self }
    }

    /// Reads other variables than the process's.
    #[cfg(test)]
    pub(super) fn with_env(self, env: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { env: Box::new(move |name| env(name).map(OsString::from)), ..self }
    }

    /// Returns the folders in which files of secrets are looked for by name: systemd's credentials where there are
    /// any, then the configured folder, or `secrets` in the data folder.
    pub fn folders(&self) -> Vec<PathBuf> {
        let credentials = (self.env)(CREDENTIALS_DIRECTORY_ENV).map(PathBuf::from);
        let own = self.dir.clone().unwrap_or_else(|| self.data.join(SECRETS_FOLDER));
        credentials.into_iter().chain([own]).collect()
    }

    fn ring(&self, find: impl FnOnce(&Path) -> Result<Keyring, SealError>) -> Result<&Keyring, SealError> {
        if let Some(ring) = self.ring.get() {
            return Ok(ring);
        }
        // Two threads may both find it; they find the same one.
        let found = find(&self.data)?;
        Ok(self.ring.get_or_init(|| found))
    }

    /// Seals a secret for keeping under a name, creating the master key if there is none and nothing is sealed yet.
    ///
    /// # Errors
    ///
    /// If the master key cannot be read or created.
    pub fn seal(&self, name: &str, secret: &Secret) -> Result<Bytes, SealError> {
        self.ring(if self.has_sealed { Keyring::read } else { Keyring::open })?.seal(name, secret)
    }

    /// Opens what was sealed for the same name.
    ///
    /// # Errors
    ///
    /// If the master key is not to be had, or the bytes do not open under it.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        self.ring(Keyring::read)?.unseal(name, sealed)
    }

    /// Seals anew what was sealed under a key that is not the first one; nothing comes of what was.
    ///
    /// # Errors
    ///
    /// If the master key is not to be had, or the bytes open under none.
    pub fn reseal(&self, name: &str, sealed: &[u8]) -> Result<Option<Bytes>, SealError> {
        self.ring(Keyring::read)?.reseal(name, sealed)
    }

    /// Finds the secret that a reference names.
    ///
    /// # Errors
    ///
    /// If there is none, it cannot be read, or it is blank.
    pub fn resolve(
        &self,
        reference: &SecretRef,
        store: &(impl SealedStore + ?Sized),
    ) -> Result<Secret, SecretError> {
        let found = match reference {
            SecretRef::Store(name) => {
                // An empty record removes the name.
                let sealed = store.sealed(name).filter(|sealed| !sealed.is_empty());
                self.unseal(name, &sealed.ok_or_else(|| SecretError::NotStored(name.clone()))?)?
            }
            outside => resolve_outside(outside, &self.env)?,
        };
        not_blank(found, reference)
    }

    /// Finds the secret that a reference names, and the one that it replaced while that is still in force.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Self::resolve). A replaced secret that does not open is none.
    pub fn resolve_all(
        &self,
        reference: &SecretRef,
        store: &(impl SealedStore + ?Sized),
    ) -> Result<Resolved, SecretError> {
        let current = self.resolve(reference, store)?;
        let previous = match reference {
            SecretRef::Store(name) => self.previous(name, store),
            SecretRef::Env(_) | SecretRef::File(_) | SecretRef::Literal(_) => None,
        };
        Ok(Resolved { previous: previous.filter(|previous| *previous != current), current })
    }

    /// Returns the secret that was replaced under a name, while it is still in force.
    pub fn previous(&self, name: &str, store: &(impl SealedStore + ?Sized)) -> Option<Secret> {
        let name = previous_name(name);
        let sealed = store.sealed(&name).filter(|sealed| !sealed.is_empty())?;
        let opened = self.unseal(&name, &sealed);
        opened.inspect_err(|error| tracing::warn!(%error, "a replaced secret is lost")).ok()
    }

    /// Returns what makes fingerprints; nothing where their key was never kept, or does not open.
    pub fn fingerprints(&self, store: &(impl SealedStore + ?Sized)) -> Option<&Fingerprints> {
        if let Some(found) = self.fingerprints.get() {
            return Some(found);
        }
        let sealed = store.sealed(FINGERPRINT_KEY).filter(|sealed| !sealed.is_empty())?;
        let key = self.unseal(FINGERPRINT_KEY, &sealed).ok()?;
        Some(self.fingerprints.get_or_init(|| Fingerprints::of_key(key)))
    }
}

/// Resolves references that need no data folder: environment, files and literals.
///
/// # Errors
///
/// If there is no secret, it is blank, or the reference is to the store.
pub fn resolve_without_store(reference: &SecretRef) -> Result<Secret, SecretError> {
    not_blank(resolve_outside(reference, &|name: &str| std::env::var_os(name))?, reference)
}

fn not_blank(secret: Secret, reference: &SecretRef) -> Result<Secret, SecretError> {
    if secret.is_blank() { Err(SecretError::Blank(reference.to_string())) } else { Ok(secret) }
}

fn resolve_outside(
    reference: &SecretRef,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Secret, SecretError> {
    use std::os::unix::ffi::OsStringExt as _;
    match reference {
        SecretRef::Env(name) => {
            let value = env(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
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
    let content = read_bounded(path, FILE_BYTES_MAX)?;
    // One trailing newline is an editor's, not the secret's.
    let secret = content.strip_suffix(b"\n").unwrap_or(&content);
    Ok(Secret::new(secret.strip_suffix(b"\r").unwrap_or(secret)))
}

/// Reads a file that holds secrets, into a buffer that is wiped and never grows: one that grew would leave its
/// earlier content behind. What is no regular file is refused: a pipe would wait for its writer.
pub(super) fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Zeroizing::new(vec![0; bytes_max + 1]);
    let (mut file, mut length) = (std::fs::File::open(path)?, 0);
    while length <= bytes_max {
        match file.read(&mut content[length..])? {
            0 => break,
            read => length += read,
        }
    }
    if length > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    content.truncate(length);
    Ok(content)
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
        let elsewhere = tempfile::tempdir().unwrap();
        let lost = Vault::new(elsewhere.path()).with_sealed(true).seal("b", &Secret::new("x"));
        assert!(matches!(lost, Err(SealError::NoKey { .. })), "no second key beside one that was lost");
        assert!(Vault::new(folder.path()).with_sealed(true).seal("b", &Secret::new("x")).is_ok());
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
    fn a_replaced_secret_stays_in_force_beside_the_current_one() {
        let vault = Vault::with_key(MasterKey::from_bytes([7; 32]));
        let sealed = |name: &str, text: &str| vault.seal(name, &Secret::new(text)).unwrap();
        let (new, old) = (sealed("a", "new"), sealed("a:previous", "old"));
        let store = |name: &str| match name {
            "a" | "b" => Some(new.clone()),
            "a:previous" => Some(old.clone()),
            _ => None,
        };
        let all: Vec<_> =
            vault.resolve_all(&SecretRef::Store("a".into()), &store).unwrap().into_all().collect();
        assert_eq!(all, [Secret::new("new"), Secret::new("old")]);
        // What replaced it must be there: the old one alone is no secret of the name.
        assert!(vault.resolve_all(&SecretRef::Store("b".into()), &store).is_err());
        let outside = vault.resolve_all(&SecretRef::Literal("x".into()), &store).unwrap();
        assert_eq!(outside.previous, None);
    }

    #[test]
    fn files_of_secrets_are_looked_for_where_they_may_be() {
        let folders = |vault: Vault| vault.folders();
        let plain = |_: &str| None;
        assert_eq!(folders(Vault::new("data").with_env(plain)), [Path::new("data/secrets")]);
        let dir = || Some(PathBuf::from("/run/secrets"));
        assert_eq!(folders(Vault::new("data").with_env(plain).with_dir(dir())), [Path::new("/run/secrets")]);
        let systemd = |name: &str| (name == CREDENTIALS_DIRECTORY_ENV).then(|| "/run/creds".to_owned());
        let expected = ["/run/creds", "/run/secrets"].map(Path::new);
        assert_eq!(folders(Vault::new("data").with_env(systemd).with_dir(dir())), expected);
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
