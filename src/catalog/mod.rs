//! The one list of providers that code, API, CLI and docs read.
//!
//! An entry is data: `providers/<id>.toml`, or a `[[providers]]` table of the user's configuration,
//! read by the same loader. This module knows what an entry may say ([`ProviderEntry`]) and keeps the
//! list ([`ProviderCatalog`]); what an entry means for a request is `connector`'s to say.

mod client;
mod embedded;
mod entry;
mod loader;
mod metadata;
pub mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

pub use client::{
    ArgPlace, ArgType, BodyKind, ClientArg, ClientAuth, ClientCode, ClientErrors, ClientLimits, ClientMethod,
    ClientPages, ClientSecret, ClientSpec, INSTALLATION_ARG, PAGE_ARGS, PageKind, PathPart, RAW_METHOD,
};
pub use entry::{
    Ack, Backing, Bind, Condition, Confidence, Event, Family, Handshake, HandshakeReply, KeyDocument, Learn,
    NetworkKeys, ProviderEntry, SIGNING_SECRET, Sample, SecretSpec, Setting, Signature, TriggerKind, Variant,
};
pub use loader::Error;
pub(crate) use metadata::PLACEHOLDER;
#[cfg(feature = "server")]
pub(crate) use metadata::whole;
pub use metadata::{ProviderMetadata, RuntimeKind, SecretRequirement};

/// Names farther apart than this are not offered as a correction.
const SUGGESTION_SIMILARITY_MIN: f64 = 0.7;

/// The list of providers. Cheap to clone.
///
/// # Examples
///
/// ```
/// use hookkeeper::ProviderCatalog;
///
/// let catalog = ProviderCatalog::built_in();
/// assert!(catalog.list_providers().iter().any(|provider| provider.id.as_str() == "github"));
/// assert_eq!(catalog.nearest("githbu"), Some("github"));
/// ```
#[derive(Debug, Clone)]
pub struct ProviderCatalog {
    entries: Arc<BTreeMap<String, Arc<ProviderEntry>>>,
}

static BUILT_IN: LazyLock<ProviderCatalog> = LazyLock::new(|| {
    let entries = loader::load(embedded::ENTRIES, &BTreeMap::new());
    ProviderCatalog { entries: Arc::new(entries.expect("a test loads every embedded entry")) }
});

impl ProviderCatalog {
    /// Returns the list that is built in.
    pub fn built_in() -> Self {
        BUILT_IN.clone()
    }

    /// Returns the built-in list with the user's own entries added, each given as the text of one
    /// entry; one of the same id takes the built-in one's place.
    ///
    /// # Errors
    ///
    /// For the first entry that is not one; the error names it, and the line where there is one.
    pub fn with_user_entries(texts: &[impl AsRef<str>]) -> Result<Self, Error> {
        let named: Vec<(String, &str)> =
            texts.iter().enumerate().map(|(i, text)| (format!("providers[{i}]"), text.as_ref())).collect();
        let named: Vec<(&str, &str)> = named.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let entries = loader::load(&named, &BUILT_IN.entries)?;
        Ok(Self { entries: Arc::new(entries) })
    }

    /// Returns an entry.
    pub fn get(&self, id: &str) -> Option<&Arc<ProviderEntry>> {
        self.entries.get(id)
    }

    /// Returns the list with an entry added, or put in another's place.
    pub(crate) fn with(&self, entry: ProviderEntry) -> Self {
        let mut entries = BTreeMap::clone(&self.entries);
        entries.insert(entry.id.to_string(), Arc::new(entry));
        Self { entries: Arc::new(entries) }
    }

    /// Returns every entry, in the order of ids.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<ProviderEntry>> {
        self.entries.values()
    }

    /// Describes every provider, in the order of ids.
    pub fn list_providers(&self) -> Vec<ProviderMetadata> {
        self.entries().map(|entry| ProviderMetadata::of(entry)).collect()
    }

    /// Returns the known id nearest to one that is not known, if any is near.
    pub fn nearest(&self, id: &str) -> Option<&str> {
        let typed = id.to_ascii_lowercase();
        let similarity = |known: &str| strsim::jaro_winkler(known, &typed);
        let nearest = self.entries.keys().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
        (similarity(nearest) >= SUGGESTION_SIMILARITY_MIN).then_some(nearest.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_entry_loads_under_its_file_name() {
        let catalog = ProviderCatalog::built_in();
        for (file, _) in embedded::ENTRIES {
            let entry = catalog.get(file).unwrap();
            assert_eq!(entry.id.as_str(), *file);
            assert!(!entry.source.is_empty() && !entry.read_on.is_empty(), "{file}: facts need a source");
        }
        assert_eq!(catalog.list_providers().len(), embedded::ENTRIES.len());
    }

    #[test]
    fn every_file_in_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalog/providers");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap().replace(".toml", ""))
            .collect();
        files.sort();
        let mut embedded: Vec<&str> = embedded::ENTRIES.iter().map(|(id, _)| *id).collect();
        embedded.sort_unstable();
        assert_eq!(files, embedded);
    }

    #[test]
    fn the_nearest_id_is_offered() {
        let catalog = ProviderCatalog::built_in();
        assert_eq!(catalog.nearest("gihub"), Some("github"));
        assert_eq!(catalog.nearest("Strpe"), Some("stripe"));
        assert_eq!(catalog.nearest("zzz"), None);
    }
}
