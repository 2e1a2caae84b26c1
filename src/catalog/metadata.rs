//! What API and CLI show of a provider.

use serde::Serialize;

use super::{Backing, Confidence, Family, ProviderEntry, TriggerKind};
use crate::event::ProviderId;

/// A provider as it is listed.
///
/// # Examples
///
/// ```
/// use hookkeeper::ProviderCatalog;
///
/// let providers = ProviderCatalog::built_in().list_providers();
/// let github = providers.iter().find(|provider| provider.id.as_str() == "github").unwrap();
/// assert_eq!(github.payload_schema, "GitHubEventPayload");
/// assert_eq!(github.required_secrets[0].namespace, "github");
/// assert!(github.outbound_methods.iter().any(|method| method == "create_comment"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderMetadata {
    /// The provider's id.
    pub id: ProviderId,
    /// Its name.
    pub name: String,
    /// Name of the payload's schema.
    pub payload_schema: String,
    /// Ways in which triggers are set off.
    pub kinds: Vec<TriggerKind>,
    /// Methods that the connector's client offers.
    pub outbound_methods: Vec<String>,
    /// The secrets that a trigger needs.
    pub required_secrets: Vec<SecretRequirement>,
    /// What kind of proof is verified.
    pub family: Family,
    /// What is hashed or signed, as a template.
    pub signed_content: Option<String>,
    /// Greatest accepted distance between the signed time and now, in seconds.
    pub tolerance_s: Option<u64>,
    /// Handshakes that are answered, by name.
    pub handshakes: Vec<String>,
    /// How well the facts are known.
    pub confidence: Confidence,
    /// What runs it.
    pub runtime: RuntimeKind,
    /// The provider's own page on its webhooks.
    pub docs: String,
    /// What was read.
    pub source: String,
    /// The day of reading.
    pub read_on: String,
}

/// A secret that a trigger needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRequirement {
    /// Its name in a trigger's `secrets`.
    pub name: String,
    /// The namespace that it lives under.
    pub namespace: String,
    /// Where people find it.
    pub about: String,
    /// Whether a handshake brings it.
    pub learned: bool,
}

/// What runs a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// The interpreter of catalogue data.
    Builtin,
    /// A connector in code that was registered.
    Registered,
    /// Nothing: its entry says that its connector is code, and none was registered.
    Placeholder,
}

impl RuntimeKind {
    /// Returns the kind's word, as listings write it.
    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeKind::Builtin => "builtin",
            RuntimeKind::Registered => "registered",
            RuntimeKind::Placeholder => "placeholder",
        }
    }
}

/// Why nothing can be done with a placeholder, and what helps.
pub(crate) const PLACEHOLDER: &str = "its connector is code, and this program has none registered for it; run a \
    program that registers it with cli::main_with, or remove connector = \"code\" from its entry if its data says all";

impl ProviderEntry {
    /// Returns what runs the provider.
    pub fn runtime(&self) -> RuntimeKind {
        match self.connector {
            _ if self.is_coded => RuntimeKind::Registered,
            Backing::Code => RuntimeKind::Placeholder,
            Backing::Data => RuntimeKind::Builtin,
        }
    }

    /// Tells whether the entry waits for a connector in code.
    pub fn is_placeholder(&self) -> bool {
        self.runtime() == RuntimeKind::Placeholder
    }
}

impl ProviderMetadata {
    /// Describes an entry.
    pub fn of(entry: &ProviderEntry) -> Self {
        let secrets = entry.secrets.iter().map(|secret| SecretRequirement {
            name: secret.name.clone(),
            namespace: secret.namespace.clone(),
            about: secret.about.clone(),
            learned: secret.learned,
        });
        let signature = entry.signature.as_ref();
        Self {
            id: entry.id.clone(),
            name: entry.name.clone(),
            payload_schema: entry.event.schema.clone(),
            kinds: entry.kinds.clone(),
            outbound_methods: entry.outbound.clone(),
            required_secrets: secrets.collect(),
            family: entry.family,
            signed_content: signature.and_then(|text| text.signed_content()).map(str::to_owned),
            tolerance_s: signature.and_then(|text| text.tolerance_s),
            handshakes: entry.handshakes.iter().map(|handshake| handshake.name.clone()).collect(),
            confidence: entry.confidence,
            runtime: entry.runtime(),
            docs: entry.docs.clone(),
            source: entry.source.clone(),
            read_on: entry.read_on.clone(),
        }
    }
}

/// Returns a whole entry, in the schema of entries; where code serves it or should, `runtime` says so beside it.
#[cfg(feature = "server")]
pub(crate) fn whole(entry: &ProviderEntry) -> serde_json::Result<serde_json::Value> {
    let mut whole = serde_json::to_value(entry)?;
    if entry.runtime() != RuntimeKind::Builtin {
        whole["runtime"] = serde_json::to_value(entry.runtime())?;
    }
    Ok(whole)
}
