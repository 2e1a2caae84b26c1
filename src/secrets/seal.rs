//! Seals secrets that hookkeeper keeps, under a key of its own.
//!
//! XChaCha20-Poly1305 with a random nonce; the secret's name is associated data, so that a sealed
//! secret cannot be passed off under another name. Where the sealed bytes are stored is not known here,
//! nor where keys come from: see `keyring`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::Secret;

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
    /// There are more keys than are tried.
    #[error("{origin} holds more than {max} master keys: leave those out that are of no use any more")]
    TooManyKeys {
        /// Variable or file.
        origin: String,
        /// How many may be given.
        max: usize,
    },
    /// The key is given from outside, and there is no other one to change from.
    #[error(
        "the master key is given by {origin}, and there is no second one: put the new key in front of the present \
         one there, `NEW,OLD`, and do this again; then take the old one out"
    )]
    OneKey {
        /// Variable or file.
        origin: String,
    },
    /// There is no key yet, and only reading was asked for.
    #[error(
        "there is no master key at {path}: nothing was ever sealed in this data folder, or the key was lost; give it \
         with HOOKKEEPER_MASTER_KEY or HOOKKEEPER_MASTER_KEY_FILE, or put the file back"
    )]
    NoKey {
        /// The file looked for.
        path: PathBuf,
    },
    /// The sealed bytes are damaged, of another format, or sealed under another key or name.
    #[error(
        "the sealed secret `{name}` does not open: it was sealed under another master key, or is damaged; give \
         the earlier key as well, behind the present one, or set the secret again"
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

    /// Makes a new key.
    pub(super) fn random() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(|_| SealError::Random)?;
        Ok(Self(std::sync::Arc::new(bytes)))
    }

    /// Writes the key as text: 64 hex digits.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(self.0.as_slice()))
    }

    /// Reads a key: 32 bytes in hex or base64.
    pub(super) fn parse(text: &str) -> Option<Self> {
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
    std::fs::create_dir_all(folder_of(path))?;
    let mut file = create_private(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    File::open(folder_of(path))?.sync_all()
}

/// Makes a file that only its owner may read: who owns the folder, where root makes it. A command that root runs
/// on the folder of a server with a user of its own would else leave what the server cannot read.
///
/// # Errors
///
/// If the file exists or cannot be made.
pub fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let (of_file, of_folder) = (file.metadata()?, std::fs::metadata(folder_of(path))?);
    if of_file.uid() == 0 && of_folder.uid() != 0 {
        // In a container root may not; then the file is root's, as it would be anyway.
        let _ = fchown(&file, Some(of_folder.uid()), Some(of_folder.gid()));
    }
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

/// Writes bytes in hex without leaving copies of parts of them behind.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in pairs {
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    Some(bytes)
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
    fn a_private_file_belongs_to_the_owner_of_its_folder() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let folder = tempfile::tempdir().unwrap();
        // Only root can give the folder away; whoever else runs this owns both.
        let _ = chown(folder.path(), Some(65_534), Some(65_534));
        let path = folder.path().join("key");
        write_private(&path, b"x").unwrap();
        let (of_file, of_folder) = (path.metadata().unwrap(), folder.path().metadata().unwrap());
        assert_eq!((of_file.uid(), of_file.gid()), (of_folder.uid(), of_folder.gid()));
        assert_eq!(of_file.permissions().mode() & 0o777, 0o600);
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
}
