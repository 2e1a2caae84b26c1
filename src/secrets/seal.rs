//! Seals secrets that hookkeeper keeps, under a key of its own.
//!
//! XChaCha20-Poly1305 with a random nonce; the secret's name is associated data, so that a sealed
//! secret cannot be passed off under another name. Where the sealed bytes are stored is not known here.

use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::Secret;

/// Environment variable that holds the master key itself: 32 bytes in hex or base64.
pub const MASTER_KEY_ENV: &str = "HOOKKEEPER_MASTER_KEY";
/// Environment variable that names a file with the master key.
pub const MASTER_KEY_FILE_ENV: &str = "HOOKKEEPER_MASTER_KEY_FILE";
/// File of the master key within the data folder, where no other is given.
pub const MASTER_KEY_FILE: &str = "master.key";

/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// Bytes of the nonce, which stands before the ciphertext.
const NONCE_BYTES: usize = 24;
/// First byte of what is sealed: the format.
const FORMAT: u8 = 1;

/// Why the master key is not to be had, or a sealed secret does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key's file cannot be read or written.
    #[error("cannot use the master key file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key's text is not 32 bytes in hex or base64.
    #[error("the master key of {origin} is not 32 bytes in hex or base64")]
    BadKey {
        /// Variable or file.
        origin: String,
    },
    /// There is no key yet, and only reading was asked for.
    #[error(
        "there is no master key at {path}: nothing was ever sealed in this data folder, or the key was lost"
    )]
    NoKey {
        /// The file looked for.
        path: PathBuf,
    },
    /// The sealed bytes are damaged, of another format, or sealed under another key or name.
    #[error(
        "the sealed secret `{name}` does not open: it was sealed under another master key, or is damaged"
    )]
    Unseal {
        /// The secret's name.
        name: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// The key under which secrets are sealed. Shows nothing in `Debug`.
#[derive(Clone)]
pub struct MasterKey(std::sync::Arc<Zeroizing<[u8; KEY_BYTES]>>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

impl MasterKey {
    /// Returns the key of the given bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(std::sync::Arc::new(Zeroizing::new(bytes)))
    }

    /// Finds the key: `HOOKKEEPER_MASTER_KEY`, then the file that `HOOKKEEPER_MASTER_KEY_FILE` names, then
    /// `master.key` in the data folder, which is created with mode 0600 where it is missing.
    ///
    /// # Errors
    ///
    /// If a key that was given is no key, or the file cannot be read or created.
    pub fn open(data: &Path) -> Result<Self, SealError> {
        match Self::read(data) {
            Err(SealError::NoKey { path }) => Self::create(&path),
            found => found,
        }
    }

    /// Finds the key as [`open`](Self::open) does, but creates none.
    ///
    /// # Errors
    ///
    /// As for `open`; [`SealError::NoKey`] where there is none.
    pub fn read(data: &Path) -> Result<Self, SealError> {
        if let Some(text) = std::env::var_os(MASTER_KEY_ENV) {
            let text = Zeroizing::new(text.into_string().unwrap_or_default());
            return Self::parse(&text).ok_or_else(|| SealError::BadKey { origin: MASTER_KEY_ENV.to_owned() });
        }
        if let Some(path) = std::env::var_os(MASTER_KEY_FILE_ENV) {
            return Self::read_file(Path::new(&path));
        }
        let path = data.join(MASTER_KEY_FILE);
        match Self::read_file(&path) {
            Err(SealError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(SealError::NoKey { path })
            }
            found => found,
        }
    }

    fn read_file(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: path.to_owned(), source };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "the master key is readable by others: chmod 600");
        }
        Self::parse(&text).ok_or_else(|| SealError::BadKey { origin: path.display().to_string() })
    }

    fn create(path: &Path) -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(|_| SealError::Random)?;
        let text = Zeroizing::new(hex(bytes.as_ref()) + "\n");
        match write_private(path, text.as_bytes()) {
            Ok(()) => Ok(Self(std::sync::Arc::new(bytes))),
            // Another process was faster: its key counts.
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Self::read_file(path),
            Err(source) => Err(SealError::File { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = unhex(text).or_else(|| STANDARD.decode(text).ok().map(Zeroizing::new))?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(&bytes);
        Some(Self(std::sync::Arc::new(key)))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new_from_slice(self.0.as_slice()).expect("the key has its length")
    }

    /// Seals a secret for keeping under a name.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn seal(&self, name: &str, secret: &Secret) -> Result<Bytes, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let payload = Payload { msg: secret.expose(), aad: name.as_bytes() };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a secret is far below the cipher's limit");
        Ok([&[FORMAT], nonce.as_slice(), &ciphertext].concat().into())
    }

    /// Opens what [`seal`](Self::seal) made for the same name.
    ///
    /// # Errors
    ///
    /// If it was sealed under another key or name, or is damaged.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        let damaged = || SealError::Unseal { name: name.to_owned() };
        let (format, rest) = sealed.split_first().ok_or_else(damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        if *format != FORMAT {
            return Err(damaged());
        }
        let payload = Payload { msg: ciphertext, aad: name.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).map(Secret::new).map_err(|_| damaged())
    }
}

/// Writes a new file that only its owner may read, and sees it on the device. An existing file stays as it is.
///
/// # Errors
///
/// If the file exists or cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()
}

/// Returns a fresh secret: 32 random bytes as 64 hex digits.
///
/// # Errors
///
/// If the system gives no random bytes.
pub fn generate() -> Result<Secret, SealError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| SealError::Random)?;
    Ok(Secret::new(hex(bytes.as_ref())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    Option::<Vec<u8>>::map(bytes, Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; KEY_BYTES])
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_name_only() {
        let sealed = key(1).seal("notion/signing_secret", &Secret::new("hunter2")).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(key(1).unseal("notion/signing_secret", &sealed).unwrap().expose(), b"hunter2");
        assert!(key(1).unseal("other/signing_secret", &sealed).is_err());
        assert!(key(2).unseal("notion/signing_secret", &sealed).is_err());
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let sealed = key(1).seal("a", &Secret::new("x")).unwrap();
        for i in 0..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[i] ^= 1;
            assert!(key(1).unseal("a", &damaged).is_err(), "byte {i}");
            assert!(key(1).unseal("a", &sealed[..i]).is_err(), "length {i}");
        }
    }

    #[test]
    fn equal_secrets_are_sealed_differently() {
        let seal = || key(1).seal("a", &Secret::new("x")).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn the_key_is_created_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(MasterKey::read(folder.path()), Err(SealError::NoKey { .. })));
        let sealed = MasterKey::open(folder.path()).unwrap().seal("a", &Secret::new("x")).unwrap();
        let mode = std::fs::metadata(folder.path().join(MASTER_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(MasterKey::read(folder.path()).unwrap().unseal("a", &sealed).unwrap().expose(), b"x");
    }

    #[test]
    fn a_key_is_read_in_hex_and_base64() {
        for text in [
            " 0101010101010101010101010101010101010101010101010101010101010101\n",
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        ] {
            assert!(MasterKey::parse(text).is_some_and(|found| **found.0 == [1; 32]), "{text}");
        }
        for text in ["", "01", "hunter2", &"g".repeat(64), &"0".repeat(62)] {
            assert!(MasterKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_damaged_key_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MASTER_KEY_FILE), "oops").unwrap();
        assert!(matches!(MasterKey::open(folder.path()), Err(SealError::BadKey { .. })));
        assert_eq!(std::fs::read(folder.path().join(MASTER_KEY_FILE)).unwrap(), b"oops");
    }
}
