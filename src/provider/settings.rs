//! What a trigger verifies with: its secrets, resolved, and what it overrides.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::sealed_name;
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::config::{SecretRef, Trigger};
use crate::connector::{SECRETS_MAX, TriggerSettings};
use crate::secrets::{Resolved, SealedStore, Secret, SecretError, Vault};

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
    let secrets = trigger_secrets(entry, trigger, vault, sealed, &LastGood::default()).all()?;
    settings_with(trigger, &secrets, vault, sealed, public_url)
}

/// Puts a trigger's settings together from secrets that are resolved already.
pub(super) fn settings_with(
    trigger: &Trigger,
    secrets: &[TriggerSecret],
    vault: &Vault,
    sealed: &impl SealedStore,
    public_url: Option<&str>,
) -> Result<TriggerSettings, String> {
    let mut lists: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
    for found in secrets {
        lists.entry(found.name.clone()).or_default().push(found.secret.clone());
    }
    Ok(TriggerSettings {
        secrets: lists,
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

/// One secret of a trigger.
#[derive(Debug, Clone)]
pub struct TriggerSecret {
    /// Its name in the provider's entry.
    pub name: String,
    /// The reference that led to it.
    pub reference: String,
    /// Whether another one took its place, and it stays in force beside that.
    pub is_replaced: bool,
    /// Its place in the list of its name, 0 being the current one.
    pub index: u32,
    /// The secret.
    pub secret: Secret,
}

/// A reference that leads to no secret now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The secret's name in the provider's entry.
    pub name: String,
    /// The reference.
    pub reference: String,
    /// Why; no text of a secret is in it.
    pub why: String,
    /// Whether what it led to before goes on serving.
    pub has_last_good: bool,
}

/// What a trigger's references lead to.
#[derive(Debug, Clone, Default)]
pub struct TriggerSecrets {
    /// The secrets, by name and in the order of their lists.
    pub found: Vec<TriggerSecret>,
    /// References that lead to nothing.
    pub unresolved: Vec<Unresolved>,
}

impl TriggerSecrets {
    /// Returns all secrets, in so far as none is missing.
    ///
    /// # Errors
    ///
    /// If one is, with what stands for it not known from before.
    pub fn all(self) -> Result<Vec<TriggerSecret>, String> {
        match self.unresolved.into_iter().find(|missing| !missing.has_last_good) {
            Some(missing) => Err(missing.why),
            None => Ok(self.found),
        }
    }

    fn add(&mut self, name: &str, reference: &str, resolved: Resolved) {
        let mut add = |is_replaced, secret| {
            let (name, reference) = (name.to_owned(), reference.to_owned());
            self.found.push(TriggerSecret { name, reference, is_replaced, index: 0, secret });
        };
        add(false, resolved.current);
        resolved.previous.into_iter().for_each(|previous| add(true, previous));
    }

    /// Numbers each list. A replaced secret never keeps a list from serving that is full without it: of one that is too
    /// long, the last ones of these give way.
    fn number(&mut self) {
        let main = self.found.iter().filter(|found| found.name == SIGNING_SECRET).count();
        for _ in SECRETS_MAX..main {
            let is_surplus = |found: &TriggerSecret| found.is_replaced && found.name == SIGNING_SECRET;
            let Some(at) = self.found.iter().rposition(is_surplus) else { break };
            self.found.remove(at);
        }
        let mut next: BTreeMap<String, u32> = BTreeMap::new();
        for found in &mut self.found {
            let next = next.entry(found.name.clone()).or_default();
            found.index = *next;
            *next += 1;
        }
    }
}

/// What references led to last, for those that lead to nothing any more: a file that cannot be read just now
/// costs no delivery. At most as many as the trigger has references.
#[derive(Debug, Default)]
pub struct LastGood(Mutex<BTreeMap<String, Resolved>>);

impl LastGood {
    /// Remembers what a reference leads to; where that is nothing, gives what it led to before.
    fn or_last(
        &self,
        reference: &SecretRef,
        resolved: Result<Resolved, SecretError>,
    ) -> (Option<Resolved>, Option<SecretError>) {
        let mut last = self.0.lock();
        match resolved {
            Ok(resolved) => {
                last.insert(reference.to_string(), resolved.clone());
                (Some(resolved), None)
            }
            // What an operator removed from the store is not to serve on.
            Err(error @ SecretError::NotStored(_)) => (None, Some(error)),
            Err(error) => (last.get(&reference.to_string()).cloned(), Some(error)),
        }
    }
}

/// Resolves the configured secrets, and adds those that were learned. A secret that a handshake may
/// bring need not be there yet.
pub fn trigger_secrets(
    entry: &Arc<ProviderEntry>,
    trigger: &Trigger,
    vault: &Vault,
    sealed: &impl SealedStore,
    last_good: &LastGood,
) -> TriggerSecrets {
    let is_learned = |name: &str| entry.secrets.iter().any(|spec| spec.learned && spec.name == name);
    let mut secrets = TriggerSecrets::default();
    for (name, references) in &trigger.secrets {
        for reference in references {
            let resolved = vault.resolve_all(reference, sealed);
            let (found, error) = last_good.or_last(reference, resolved);
            let missing =
                error.filter(|error| !matches!(error, SecretError::NotStored(_)) || !is_learned(name));
            if let Some(error) = missing {
                secrets.unresolved.push(Unresolved {
                    name: name.clone(),
                    reference: reference.to_string(),
                    why: error.to_string(),
                    has_last_good: found.is_some(),
                });
            }
            if let Some(found) = found {
                secrets.add(name, &reference.to_string(), found);
            }
        }
    }
    for spec in entry.secrets.iter().filter(|spec| spec.learned) {
        let reference = SecretRef::Store(sealed_name(&trigger.id, &spec.name));
        // The configuration may name the same place.
        let is_named = trigger.secrets.get(&spec.name).is_some_and(|list| list.contains(&reference));
        if is_named {
            continue;
        }
        let (name, reference_text) = (&spec.name, reference.to_string());
        match vault.resolve_all(&reference, sealed) {
            Ok(found) => secrets.add(name, &reference_text, found),
            Err(SecretError::NotStored(_)) => {}
            Err(error) => secrets.unresolved.push(Unresolved {
                name: name.clone(),
                reference: reference_text,
                why: error.to_string(),
                has_last_good: false,
            }),
        }
    }
    secrets.number();
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_now_serves_on_and_what_was_removed_does_not() {
        let last = LastGood::default();
        let file = SecretRef::File("secret".into());
        let resolved = Resolved { current: Secret::new("a"), previous: None };
        let failed = || Err(SecretError::Blank("file:secret".to_owned()));
        assert!(last.or_last(&file, failed()).0.is_none(), "there was nothing before");
        assert_eq!(last.or_last(&file, Ok(resolved.clone())).0, Some(resolved.clone()));
        let (found, error) = last.or_last(&file, failed());
        assert!(found == Some(resolved) && error.is_some());
        assert!(last.or_last(&file, Err(SecretError::NotStored("a".to_owned()))).0.is_none());
    }

    #[test]
    fn a_replaced_secret_gives_way_where_the_list_is_full() {
        let mut secrets = TriggerSecrets::default();
        let resolved = |number: usize, previous: bool| Resolved {
            current: Secret::new(format!("new {number}")),
            previous: previous.then(|| Secret::new(format!("old {number}"))),
        };
        secrets.add("other", "env:X", resolved(0, true));
        for number in 0..SECRETS_MAX - 1 {
            secrets.add(SIGNING_SECRET, "env:X", resolved(number, number < 3));
        }
        secrets.number();
        let main: Vec<_> = secrets.found.iter().filter(|found| found.name == SIGNING_SECRET).collect();
        assert!(main.iter().map(|found| found.index).eq(0..SECRETS_MAX as u32));
        let replaced: Vec<_> = main.iter().filter(|found| found.is_replaced).collect();
        assert!(replaced.len() == 1 && replaced[0].secret == Secret::new("old 0"));
        assert_eq!(secrets.found.iter().filter(|found| found.name == "other").count(), 2);
    }
}
