//! What the configuration is held against: the catalogue and the expression language.

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{ProviderCatalog, ProviderEntry};
use crate::config::{Knowledge, ProviderFacts, SecretFact, SettingFact};
use crate::connector::{TriggerSettings, Verifier, needs_public_url};
use crate::subscription::Subscription;

/// The built-in catalogue and CEL as a configuration's [`Knowledge`].
pub(super) struct BuiltIn(pub(super) ProviderCatalog);

impl Knowledge for BuiltIn {
    fn provider_ids(&self) -> Vec<String> {
        self.0.entries().map(|entry| entry.id.to_string()).collect()
    }

    fn provider(&self, id: &str) -> Option<ProviderFacts> {
        self.0.get(id).map(facts)
    }

    fn read_provider(&self, entry: &str) -> Result<ProviderFacts, String> {
        let id = toml::from_str::<toml::Table>(entry).ok();
        let id = id.as_ref().and_then(|table| table.get("id")?.as_str()).ok_or("`id` is missing")?;
        let catalog = ProviderCatalog::with_user_entries(&[entry]).map_err(|error| one_line(&error))?;
        let entry = catalog.get(id).ok_or("`id` is no provider's id")?;
        // Locations, templates and syntaxes are texts until they are compiled, for which all settings are needed.
        if entry.settings.iter().all(|setting| setting.default.is_some()) {
            Verifier::new(entry, &TriggerSettings::default()).map_err(|error| one_line(&error))?;
        }
        Ok(facts(entry))
    }

    fn compile_cel(&self, expression: &str) -> Result<(), String> {
        Subscription::compile(expression).map(drop).map_err(|error| one_line(&error))
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

fn facts(entry: &Arc<ProviderEntry>) -> ProviderFacts {
    let secrets = entry.secrets.iter().map(|secret| SecretFact {
        name: secret.name.clone(),
        required: true,
        learned: secret.learned,
    });
    let settings = entry.settings.iter().map(|setting| SettingFact {
        name: setting.name.clone(),
        required: setting.default.is_none(),
        values: Vec::new(),
    });
    let signature = entry.signature.as_ref();
    ProviderFacts {
        id: entry.id.to_string(),
        secrets: secrets.collect(),
        settings: settings.collect(),
        timestamped: signature.is_some_and(|signature| signature.tolerance_s.is_some()),
        needs_public_url: needs_public_url(entry),
        retries_for: Some(Duration::from_secs(entry.dedupe_window_s)),
    }
}
