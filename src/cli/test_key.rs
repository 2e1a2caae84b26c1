//! The test key pair of a provider that signs with a private key. Nobody but the provider has its key,
//! so deliveries that are made here are signed with one that a trigger must be told to trust.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Usage;
use super::render::note;
use crate::event::ProviderId;
use crate::signature::{PrivateKey, PublicScheme};

/// Reads the provider's test key from the data folder, or makes one. Its public half lies beside it.
pub(super) fn of_provider(
    data: &Path,
    provider: &ProviderId,
    scheme: PublicScheme,
) -> anyhow::Result<PrivateKey> {
    let folder = data.join("test-keys");
    let (private, public) = paths(&folder, provider);
    if let Ok(text) = fs::read_to_string(&private) {
        return read(&text).with_context(|| format!("{} is no private key", private.display()));
    }
    let key = PrivateKey::generate(scheme);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write(&private, 0o600, &key.to_pem())?;
    write(&public, 0o644, &key.public_pem())?;
    note(format_args!(
        "made a test key pair for {provider}; a trigger trusts it with public_keys = [\"file:{}\"]",
        public.display()
    ));
    Ok(key)
}

/// Reads a private key of PKCS #8 in PEM.
pub(super) fn read(text: &str) -> anyhow::Result<PrivateKey> {
    let key = PrivateKey::of_pem(text);
    key.ok_or_else(|| Usage("expected a private key: PKCS #8 in PEM, unencrypted".to_owned()).into())
}

fn paths(folder: &Path, provider: &ProviderId) -> (PathBuf, PathBuf) {
    (folder.join(format!("{provider}.pem")), folder.join(format!("{provider}.pub.pem")))
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_key_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let provider: ProviderId = "discord".parse().unwrap();
        let make = || of_provider(folder.path(), &provider, PublicScheme::Ed25519).unwrap();
        assert_eq!(make().public(), make().public());
        let (private, public) = paths(&folder.path().join("test-keys"), &provider);
        assert_eq!(fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(public).unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    }
}
