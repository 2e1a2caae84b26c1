//! Where master keys come from, and how one is changed for another.
//!
//! Several keys may be given at once: the first one seals, all of them open. So a key is changed without a
//! moment at which anything does not open: the new one is put in front, everything is sealed anew, and
//! only then the old one goes ([`Keyring::begin_change`], [`Keyring::end_change`]).

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::seal::{MasterKey, SealError, write_private};
use super::{Secret, read_bounded};

/// Environment variable that holds the master key itself: 32 bytes in hex or base64. Several are parted by commas.
pub const MASTER_KEY_ENV: &str = "HOOKKEEPER_MASTER_KEY";
/// Environment variable that names a file with the master key. Several stand on a line each.
pub const MASTER_KEY_FILE_ENV: &str = "HOOKKEEPER_MASTER_KEY_FILE";
/// Name of the systemd credential that holds the master key.
pub const MASTER_KEY_CREDENTIAL: &str = "hookkeeper-master-key";
/// Environment variable with the folder of a service's systemd credentials.
pub(super) const CREDENTIALS_DIRECTORY_ENV: &str = "CREDENTIALS_DIRECTORY";
/// File of the master key within the data folder, where no other is given.
pub const MASTER_KEY_FILE: &str = "master.key";

/// Most keys at once. Each is tried for whatever does not open under those before it.
const KEYS_MAX: usize = 4;
/// Largest file of keys, in bytes.
const FILE_BYTES_MAX: usize = 4 * 1024;

/// Where the keys were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Env,
    /// A file that somebody named, or a systemd credential.
    Given(PathBuf),
    /// The file in the data folder, which is hookkeeper's own.
    Own(PathBuf),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Env => f.write_str(MASTER_KEY_ENV),
            Origin::Given(path) | Origin::Own(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The keys: the first one seals, all of them open.
#[derive(Debug, Clone)]
pub struct Keyring {
    keys: Vec<MasterKey>,
    origin: Origin,
}

impl Keyring {
    /// Returns a ring with one key that is known already.
    pub(super) fn of(key: MasterKey) -> Self {
        Self { keys: vec![key], origin: Origin::Env }
    }

    /// Finds the keys: of `HOOKKEEPER_MASTER_KEY`, of the file that `HOOKKEEPER_MASTER_KEY_FILE` names, of the
    /// systemd credential `hookkeeper-master-key`, or of `master.key` in the data folder. That one is opened with
    /// too where another place comes first: what was sealed before the key was given from outside goes on
    /// opening.
    ///
    /// # Errors
    ///
    /// If what was given is no key, or cannot be read; [`SealError::NoKey`] where there is none.
    pub fn read(data: &Path) -> Result<Self, SealError> {
        Self::find(data, |name| std::env::var_os(name).map(|value| value.into_string().unwrap_or_default()))
    }

    /// Finds the keys as [`read`](Self::read) does; where there is none, makes `master.key` with mode 0600.
    ///
    /// # Errors
    ///
    /// As for `read`, or if the file cannot be written.
    pub fn open(data: &Path) -> Result<Self, SealError> {
        match Self::read(data) {
            Err(SealError::NoKey { path }) => Self::create(path),
            found => found,
        }
    }

    fn find(data: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, SealError> {
        let own = data.join(MASTER_KEY_FILE);
        let Some((origin, text)) = given(env)? else {
            return match read_keys(&own) {
                Ok(text) => Ok(Self { keys: parse(&text, &own.display())?, origin: Origin::Own(own) }),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    Err(SealError::NoKey { path: own })
                }
                Err(source) => Err(SealError::File { path: own, source }),
            };
        };
        let mut keys = parse(&text, &origin)?;
        if let Ok(text) = read_keys(&own) {
            keys.extend(parse(&text, &own.display())?);
        }
        Ok(Self { keys, origin })
    }

    fn create(path: PathBuf) -> Result<Self, SealError> {
        let key = MasterKey::random()?;
        match write_private(&path, lines(std::slice::from_ref(&key)).as_bytes()) {
            Ok(()) => Ok(Self { keys: vec![key], origin: Origin::Own(path) }),
            // Another process was faster: its key counts.
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                let text =
                    read_keys(&path).map_err(|source| SealError::File { path: path.clone(), source })?;
                Ok(Self { keys: parse(&text, &path.display())?, origin: Origin::Own(path) })
            }
            Err(source) => Err(SealError::File { path, source }),
        }
    }

    /// Returns where the first key was found.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Seals under the first key.
    pub(super) fn seal(&self, name: &str, secret: &Secret) -> Result<Bytes, SealError> {
        self.first().seal(name, secret)
    }

    /// Opens under whichever key fits.
    pub(super) fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        let mut opened = self.first().unseal(name, sealed);
        for key in &self.keys[1..] {
            if opened.is_ok() {
                break;
            }
            opened = key.unseal(name, sealed);
        }
        opened
    }

    /// Seals anew what does not open under the first key; nothing comes of what does.
    pub(super) fn reseal(&self, name: &str, sealed: &[u8]) -> Result<Option<Bytes>, SealError> {
        if self.first().unseal(name, sealed).is_ok() {
            return Ok(None);
        }
        self.seal(name, &self.unseal(name, sealed)?).map(Some)
    }

    fn first(&self) -> &MasterKey {
        self.keys.first().expect("a ring is made with a key")
    }

    /// Begins to change the key: puts a new one in front where the file is hookkeeper's own, and takes what the
    /// operator gave where it is not. A change that broke off is taken up again.
    ///
    /// # Errors
    ///
    /// If there is no key, the file cannot be written, or the operator gave no second key.
    pub fn begin_change(data: &Path) -> Result<Self, SealError> {
        let mut ring = Self::read(data)?;
        match &ring.origin {
            _ if ring.keys.len() > 1 => {}
            Origin::Own(path) => {
                let path = path.clone();
                ring.keys.insert(0, MasterKey::random()?);
                replace(&path, lines(&ring.keys).as_bytes())?;
            }
            origin => return Err(SealError::OneKey { origin: origin.to_string() }),
        }
        Ok(ring)
    }

    /// Ends the change: everything opens under the first key now, and the others go from the data folder.
    /// Tells whether some are left that were given from outside.
    ///
    /// # Errors
    ///
    /// If the file cannot be written or removed.
    pub fn end_change(&self, data: &Path) -> Result<bool, SealError> {
        if let Origin::Own(path) = &self.origin {
            replace(path, lines(&self.keys[..1]).as_bytes())?;
            return Ok(false);
        }
        let path = data.join(MASTER_KEY_FILE);
        let own = read_keys(&path).ok().map_or(Ok(Vec::new()), |text| parse(&text, &path.display()))?;
        if !own.is_empty() {
            std::fs::remove_file(&path)
                .and_then(|()| std::fs::File::open(data)?.sync_all())
                .map_err(|source| SealError::File { path, source })?;
        }
        Ok(self.keys.len() - own.len() > 1)
    }
}

/// Finds keys that were given from outside.
fn given(env: impl Fn(&str) -> Option<String>) -> Result<Option<(Origin, Zeroizing<String>)>, SealError> {
    if let Some(text) = env(MASTER_KEY_ENV) {
        return Ok(Some((Origin::Env, Zeroizing::new(text))));
    }
    if let Some(path) = env(MASTER_KEY_FILE_ENV).map(PathBuf::from) {
        let text = read_keys(&path).map_err(|source| SealError::File { path: path.clone(), source })?;
        return Ok(Some((Origin::Given(path), text)));
    }
    let Some(path) = env(CREDENTIALS_DIRECTORY_ENV).map(|it| Path::new(&it).join(MASTER_KEY_CREDENTIAL))
    else {
        return Ok(None);
    };
    // systemd guards the folder itself, whatever the file's mode says.
    match read_text(&path) {
        Ok(text) => Ok(Some((Origin::Given(path), text))),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SealError::File { path, source }),
    }
}

/// Reads a file of keys, and warns where others may read it too.
fn read_keys(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = read_text(path)?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "the master key is readable by others: chmod 600");
    }
    Ok(text)
}

fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let bytes = read_bounded(path, FILE_BYTES_MAX)?;
    let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
    bytes.as_slice().read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str, origin: &dyn std::fmt::Display) -> Result<Vec<MasterKey>, SealError> {
    let origin = || origin.to_string();
    let parts = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
    let keys = parts.map(MasterKey::parse).collect::<Option<Vec<_>>>();
    match keys.filter(|keys| !keys.is_empty()) {
        None => Err(SealError::BadKey { origin: origin() }),
        Some(keys) if keys.len() > KEYS_MAX => {
            Err(SealError::TooManyKeys { origin: origin(), max: KEYS_MAX })
        }
        Some(keys) => Ok(keys),
    }
}

/// Writes keys on a line each.
fn lines(keys: &[MasterKey]) -> Zeroizing<String> {
    // A buffer that grew would leave its earlier content behind.
    let mut text = Zeroizing::new(String::with_capacity(keys.len() * 65));
    for key in keys {
        text.push_str(&key.to_text());
        text.push('\n');
    }
    text
}

/// Replaces a file by one that only its owner may read: what is there is the old one or the new one, on the device.
fn replace(path: &Path, content: &[u8]) -> Result<(), SealError> {
    let aside = path.with_extension("key.new");
    let replaced = (|| {
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        write_private(&aside, content)?;
        std::fs::rename(&aside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    })();
    replaced.map_err(|source| SealError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const B: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn find(data: &Path, env: &[(&str, &str)]) -> Result<Keyring, SealError> {
        let value = |name: &str| env.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
        Keyring::find(data, value)
    }

    #[test]
    fn the_key_is_created_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(find(folder.path(), &[]), Err(SealError::NoKey { .. })));
        let sealed = Keyring::open(folder.path()).unwrap().seal("a", &Secret::new("x")).unwrap();
        let mode = std::fs::metadata(folder.path().join(MASTER_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Keyring::open(folder.path()).unwrap().unseal("a", &sealed).unwrap().expose(), b"x");
    }

    #[test]
    fn a_damaged_key_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MASTER_KEY_FILE), "oops").unwrap();
        assert!(matches!(Keyring::open(folder.path()), Err(SealError::BadKey { .. })));
        assert_eq!(std::fs::read(folder.path().join(MASTER_KEY_FILE)).unwrap(), b"oops");
    }

    #[test]
    fn keys_come_from_the_first_place_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path(MASTER_KEY_CREDENTIAL), A).unwrap();
        std::fs::write(path("given"), A).unwrap();
        let (file, credentials) = (path("given"), folder.path().display().to_string());
        let of = |env: &[(&str, &str)]| find(Path::new("/nowhere"), env).map(|ring| ring.origin);
        let (env, file) = ((MASTER_KEY_ENV, A), (MASTER_KEY_FILE_ENV, file.as_str()));
        let credential = (CREDENTIALS_DIRECTORY_ENV, credentials.as_str());
        assert_eq!(of(&[credential, file, env]).unwrap(), Origin::Env);
        assert_eq!(of(&[credential, file]).unwrap(), Origin::Given(path("given").into()));
        assert_eq!(of(&[credential]).unwrap(), Origin::Given(path(MASTER_KEY_CREDENTIAL).into()));
        assert!(matches!(of(&[(CREDENTIALS_DIRECTORY_ENV, "/nowhere")]), Err(SealError::NoKey { .. })));
        assert!(matches!(of(&[(MASTER_KEY_FILE_ENV, "/nowhere")]), Err(SealError::File { .. })));
        assert!(matches!(of(&[(MASTER_KEY_ENV, "")]), Err(SealError::BadKey { .. })));
        let many = [A; 5].join(",");
        assert!(matches!(of(&[(MASTER_KEY_ENV, &many)]), Err(SealError::TooManyKeys { .. })));
    }

    #[test]
    fn all_keys_open_and_the_first_one_seals() {
        let ring = |text: &str| find(Path::new("/nowhere"), &[(MASTER_KEY_ENV, text)]).unwrap();
        let old = ring(A).seal("a", &Secret::new("x")).unwrap();
        let both = ring(&format!("{B},{A}"));
        assert_eq!(both.unseal("a", &old).unwrap().expose(), b"x");
        let new = both.reseal("a", &old).unwrap().expect("it was sealed under the old one");
        assert_eq!(ring(B).unseal("a", &new).unwrap().expose(), b"x");
        assert_eq!(both.reseal("a", &new).unwrap(), None);
        assert!(both.reseal("b", &old).is_err() && ring(B).unseal("a", &old).is_err());
    }

    #[test]
    fn a_key_from_outside_opens_what_was_sealed_before_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let sealed =
            Keyring::create(folder.path().join(MASTER_KEY_FILE)).unwrap().seal("a", &Secret::new("x"));
        let ring = find(folder.path(), &[(MASTER_KEY_ENV, A)]).unwrap();
        assert!(ring.reseal("a", &sealed.unwrap()).unwrap().is_some());
        assert!(!ring.end_change(folder.path()).unwrap());
        assert!(!folder.path().join(MASTER_KEY_FILE).exists());
    }

    #[test]
    fn a_change_of_the_own_key_keeps_both_until_its_end() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Keyring::begin_change(folder.path()), Err(SealError::NoKey { .. })));
        let sealed = Keyring::open(folder.path()).unwrap().seal("a", &Secret::new("x")).unwrap();
        // One that broke off is taken up again: no third key comes.
        let broken_off = Keyring::begin_change(folder.path()).unwrap();
        let ring = Keyring::begin_change(folder.path()).unwrap();
        assert_eq!(ring.keys.len(), 2);
        let resealed = broken_off.reseal("a", &sealed).unwrap().unwrap();
        for sealed in [&sealed, &resealed] {
            assert!(find(folder.path(), &[]).unwrap().unseal("a", sealed).is_ok());
        }
        assert!(!ring.end_change(folder.path()).unwrap());
        let ring = find(folder.path(), &[]).unwrap();
        assert!(ring.unseal("a", &resealed).is_ok() && ring.unseal("a", &sealed).is_err());
    }
}
