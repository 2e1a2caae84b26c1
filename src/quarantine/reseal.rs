//! Seals the quarantine of a stopped server anew, for a change of the master key.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::folder::Folder;
use crate::secrets::Vault;

/// What was sealed anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many files.
    pub sealed: usize,
    /// Files that open under no key.
    pub lost: Vec<String>,
}

/// Seals every file anew that is not sealed under the first key. Each is replaced as a whole: wherever this is cut
/// off, a file is as it was or as it will be.
///
/// # Errors
///
/// If the folder cannot be read or written.
pub fn reseal(data: &Path, vault: &Arc<Vault>) -> Result<Resealed, Error> {
    let folder = Folder::new(data, Arc::clone(vault));
    let mut resealed = Resealed::default();
    for path in folder.sealed_files()? {
        let failed = |what| {
            let path = path.clone();
            move |source| Error::Io { what, path, source }
        };
        let content = fs::read(&path).map_err(failed("reading"))?;
        match folder.resealed(&path, &content) {
            Ok(None) => {}
            Ok(Some(content)) => {
                folder.replace(&path, &content).map_err(failed("writing"))?;
                resealed.sealed += 1;
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a file of the quarantine is left as it is");
                resealed.lost.push(path.display().to_string());
            }
        }
    }
    Ok(resealed)
}
