//! What a trigger verifies with: its secrets, resolved, and what it overrides.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sealed_name;
use crate::catalog::ProviderEntry;
use crate::config::Trigger;
use crate::connector::TriggerSettings;
use crate::secrets::{SealedStore, Secret, SecretError, Vault};

/// Resolves a trigger's settings as they are now; `public_url` is the front door's.
///
/// # Errors
///
/// If a secret cannot be had, with a text that names no secret.
pub fn trigger_settings(
    entry: &Arc<ProviderEntry>,
    trigger: &Trigger,
    vault: &Vault,
    sealed: &impl SealedStore,
    public_url: Option<&str>,
) -> Result<TriggerSettings, String> {
    Ok(TriggerSettings {
        secrets: trigger_secrets(entry, trigger, vault, sealed)?,
        tolerance: trigger.tolerance,
        public_url: public_url.map(|url| format!("{url}{}", trigger.path)),
        settings: trigger.settings.clone(),
        dedupe: trigger.dedupe,
        public_keys: public_keys(trigger, vault, sealed)?,
    })
}

/// Resolves the public keys that the operator gave in place of the provider's.
fn public_keys(trigger: &Trigger, vault: &Vault, sealed: &impl SealedStore) -> Result<Vec<String>, String> {
    let resolve = |reference| {
        let key = vault.resolve(reference, sealed).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(key.expose()).into_owned())
    };
    trigger.public_keys.iter().map(resolve).collect()
}

/// Resolves the configured secrets, and adds those that were learned. A secret that a handshake may
/// bring need not be there yet.
///
/// # Errors
///
/// If a secret cannot be had.
pub(super) fn trigger_secrets(
    entry: &Arc<ProviderEntry>,
    trigger: &Trigger,
    vault: &Vault,
    sealed: &impl SealedStore,
) -> Result<BTreeMap<String, Vec<Secret>>, String> {
    let learned = |name: &str| entry.secrets.iter().any(|spec| spec.learned && spec.name == name);
    let mut secrets: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
    for (name, references) in &trigger.secrets {
        for reference in references {
            match vault.resolve(reference, sealed) {
                Ok(secret) => secrets.entry(name.clone()).or_default().push(secret),
                Err(SecretError::NotStored(_)) if learned(name) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    for spec in entry.secrets.iter().filter(|spec| spec.learned) {
        let name = sealed_name(&trigger.id, &spec.name);
        // Empty bytes stand for a secret that was removed.
        let Some(sealed) = sealed.sealed(&name).filter(|sealed| !sealed.is_empty()) else { continue };
        let secret = vault.unseal(&name, &sealed).map_err(|error| error.to_string())?;
        let list = secrets.entry(spec.name.clone()).or_default();
        // The configuration may name the same place.
        if !list.contains(&secret) {
            list.push(secret);
        }
    }
    Ok(secrets)
}
