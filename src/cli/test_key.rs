//! The test key pair of a provider that signs with a private key. Nobody but the provider has its key,
//! so deliveries that are made here are signed with one that a trigger must be told to trust.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Usage;
use super::render::note;
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::event::ProviderId;
use crate::signature::{PrivateKey, PublicScheme};

/// A test key.
pub(super) struct TestKey {
    pub(super) key: PrivateKey,
    /// The file of its public half.
    pub(super) public: PathBuf,
}

/// Reads the provider's test key from the data folder, or makes one and says so. Its public half lies
/// beside it.
pub(super) fn of_provider(
    data: &Path,
    provider: &ProviderId,
    scheme: PublicScheme,
) -> anyhow::Result<TestKey> {
    let folder = data.join("test-keys");
    let (private, public) = paths(&folder, provider);
    if let Ok(text) = fs::read_to_string(&private) {
        let key = read(&text).with_context(|| format!("{} is no private key", private.display()))?;
        return Ok(TestKey { key, public });
    }
    let key = PrivateKey::generate(scheme);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write(&private, 0o600, &key.to_pem())?;
    write(&public, 0o644, &key.public_pem())?;
    note(format_args!("made a test key pair for {provider}: {}", private.display()));
    Ok(TestKey { key, public })
}

/// Says which line of a trigger makes it trust a test key.
pub(super) fn trusting(entry: &ProviderEntry, public: &Path) -> String {
    let file = reference(public);
    if secret_is_public_key(entry) {
        format!("secrets = {{ {SIGNING_SECRET} = {file} }}")
    } else {
        format!("public_keys = [{file}]")
    }
}

/// Writes a trigger that trusts a test key, with what else the provider's triggers need.
pub(super) fn trigger(entry: &ProviderEntry, public: &Path) -> String {
    let id = &entry.id;
    let word = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let is_public = secret_is_public_key(entry);
    let further =
        entry.secrets.iter().filter(|spec| !spec.learned && (spec.name != SIGNING_SECRET || !is_public));
    let mut secrets: Vec<String> = further
        .map(|spec| format!("{} = \"env:{}_{}\"", spec.name, word(id.as_str()), word(&spec.name)))
        .collect();
    let mut lines = vec!["[[triggers]]".to_owned(), format!("id = \"{id}\""), format!("provider = \"{id}\"")];
    if is_public {
        secrets.insert(0, format!("{SIGNING_SECRET} = {}", reference(public)));
    } else {
        lines.push(trusting(entry, public));
    }
    if !secrets.is_empty() {
        lines.push(format!("secrets = {{ {} }}", secrets.join(", ")));
    }
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    let open: Vec<String> = open.map(|setting| format!("{} = \"…\"", setting.name)).collect();
    if !open.is_empty() {
        lines.push(format!("settings = {{ {} }}", open.join(", ")));
    }
    lines.join("\n")
}

/// Tells whether the main secret of a provider that signs with a private key is its public key.
pub(super) fn secret_is_public_key(entry: &ProviderEntry) -> bool {
    entry.signature.as_ref().is_some_and(|text| text.keys.is_none() && text.public_keys.is_empty())
}

/// Names a file in a way that does not depend on the configuration's folder.
fn reference(public: &Path) -> String {
    let path = std::path::absolute(public).unwrap_or_else(|_| public.to_owned());
    toml::Value::String(format!("file:{}", path.display())).to_string()
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
        assert_eq!(make().key.public(), make().key.public());
        let (private, public) = paths(&folder.path().join("test-keys"), &provider);
        assert_eq!(fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(public).unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    }

    #[test]
    fn a_trigger_is_told_to_trust_the_key_where_it_looks_for_one() {
        let catalog = crate::catalog::ProviderCatalog::built_in();
        let check = |id: &str, expected: &str| {
            assert_eq!(trigger(catalog.get(id).unwrap(), Path::new("/k.pem")), expected);
        };
        check(
            "discord",
            "[[triggers]]\nid = \"discord\"\nprovider = \"discord\"\n\
             secrets = { signing_secret = \"file:/k.pem\" }",
        );
        check(
            "aws-sns",
            "[[triggers]]\nid = \"aws-sns\"\nprovider = \"aws-sns\"\n\
             public_keys = [\"file:/k.pem\"]\nsecrets = { topic_arn = \"env:AWS_SNS_TOPIC_ARN\" }",
        );
    }
}
