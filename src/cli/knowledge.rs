//! What the configuration is held against: the catalogue and the expression language.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{ProviderCatalog, ProviderEntry};
use crate::config::{
    ClientFacts, ClientFault, ClientGiven, ClientPlace, ClientUrl, Knowledge, Outbound, Proof, ProviderFacts,
    SecretFact, SecretRef, SettingFact, Tls,
};
use crate::connector::{
    BuildError, ClientBuildError, ClientSettings, ConnectorRegistry, SchemeFacts, TriggerSettings, Verifier,
    private_scheme, validate_client, validate_client_secret,
};
use crate::front_door::load_tls;
use crate::outbound;
use crate::secrets::{SecretError, resolve_without_store};
use crate::subscription::Subscription;

/// The built-in catalogue with the connectors of this program, and CEL, as a configuration's [`Knowledge`].
pub(super) struct BuiltIn(pub(super) ConnectorRegistry);

impl Knowledge for BuiltIn {
    fn provider_ids(&self) -> Vec<String> {
        self.0.catalog().entries().map(|entry| entry.id.to_string()).collect()
    }

    fn provider(&self, id: &str) -> Option<ProviderFacts> {
        self.0.catalog().get(id).map(facts)
    }

    fn read_provider(&self, entry: &str) -> Result<ProviderFacts, String> {
        let text = entry;
        let entry = self.own(text)?;
        // Locations, templates and syntaxes are texts until they are compiled, for which all settings are needed.
        if entry.settings.iter().all(|setting| setting.default.is_some()) {
            Verifier::new(&entry, &TriggerSettings::default()).map_err(|error| one_line(&error))?;
        }
        let mut facts = ProviderFacts { own: Some(text.to_owned()), ..facts(&entry) };
        if let Some(client) = &mut facts.client {
            client.own = Some(text.to_owned());
        }
        Ok(facts)
    }

    fn with_settings(
        &self,
        facts: ProviderFacts,
        settings: &BTreeMap<String, String>,
    ) -> Result<ProviderFacts, String> {
        let entry = self.entry(&facts)?;
        if entry.is_coded {
            return Ok(facts);
        }
        let scheme = SchemeFacts::of(&entry, settings).map_err(|error| one_line(&error))?;
        Ok(of_scheme(facts, &entry, scheme))
    }

    fn validate_client(&self, facts: &ClientFacts, given: &ClientGiven) -> Result<ClientUrl, ClientFault> {
        let entry = self.client_entry(facts);
        let entry = entry.map_err(|reason| ClientFault { place: ClientPlace::Entry, reason })?;
        let base = validate_client(&entry, &client_settings(given));
        base.map(|base| ClientUrl { url: Some(base.url), settings: base.settings })
            .map_err(|error| ClientFault { place: client_place(&error), reason: one_line(&error) })
    }

    fn try_client_secret(
        &self,
        facts: &ClientFacts,
        given: &ClientGiven,
        name: &str,
        secret: &SecretRef,
    ) -> Result<(), String> {
        let Ok(secret) = resolve_without_store(secret) else { return Ok(()) };
        validate_client_secret(&*self.client_entry(facts)?, &client_settings(given), name, &secret)
    }

    fn try_url(&self, url: &str, outbound: &Outbound) -> Result<(), String> {
        outbound::judge_url(url, outbound)
    }

    fn try_tls(&self, tls: &Tls) -> Result<(), String> {
        load_tls(tls).map(drop).map_err(|error| one_line(&error))
    }

    fn compile_cel(&self, expression: &str) -> Result<(), String> {
        Subscription::compile(expression).map(drop).map_err(|error| one_line(&error))
    }

    fn is_blank(&self, secret: &SecretRef) -> bool {
        matches!(resolve_without_store(secret), Err(SecretError::Blank(_)))
    }

    fn try_secret(
        &self,
        facts: &ProviderFacts,
        settings: &BTreeMap<String, String>,
        name: &str,
        secret: &SecretRef,
    ) -> Result<(), String> {
        let Ok(secret) = resolve_without_store(secret) else { return Ok(()) };
        let secrets = BTreeMap::from([(name.to_owned(), vec![secret])]);
        let trigger = TriggerSettings { secrets, settings: settings.clone(), ..TriggerSettings::default() };
        match Verifier::new(&self.entry(facts)?, &trigger) {
            Err(BuildError::Secret { why, about, .. }) => Err(format!("{why}; expected: {about}")),
            _ => Ok(()),
        }
    }
}

fn client_place(error: &ClientBuildError) -> ClientPlace {
    match (error.setting(), error) {
        (Some(name), _) => ClientPlace::Setting(name.to_owned()),
        (None, ClientBuildError::Missing { .. }) => ClientPlace::Secrets,
        (None, _) => ClientPlace::Entry,
    }
}

fn client_settings(given: &ClientGiven) -> ClientSettings {
    let ClientGiven { base_url, settings, secrets } = given.clone();
    ClientSettings { base_url, settings, secrets }
}

impl BuiltIn {
    fn entry(&self, facts: &ProviderFacts) -> Result<Arc<ProviderEntry>, String> {
        match &facts.own {
            Some(text) => self.own(text),
            None => self.0.catalog().get(&facts.id).cloned().ok_or_else(|| "the provider is gone".to_owned()),
        }
    }

    fn client_entry(&self, facts: &ClientFacts) -> Result<Arc<ProviderEntry>, String> {
        match &facts.own {
            Some(text) => self.own(text),
            None => {
                let entry = self.0.catalog().get(&facts.provider).cloned();
                entry.ok_or_else(|| "the provider is gone".to_owned())
            }
        }
    }

    /// Reads a user's own entry; a connector in code may be registered for it.
    fn own(&self, text: &str) -> Result<Arc<ProviderEntry>, String> {
        let table = toml::from_str::<toml::Table>(text).ok();
        let id = table.as_ref().and_then(|table| table.get("id")?.as_str()).ok_or("`id` is missing")?;
        let catalog = ProviderCatalog::with_user_entries(&[text]).map_err(|error| one_line(&error))?;
        let entry = catalog.get(id).ok_or("`id` is no provider's id")?;
        Ok(Arc::new(self.0.described(ProviderEntry::clone(entry))))
    }
}

fn of_scheme(facts: ProviderFacts, entry: &ProviderEntry, scheme: SchemeFacts) -> ProviderFacts {
    let covers_fields = entry.signature.as_ref().is_some_and(|signature| signature.covers_fields());
    let proof = match scheme.covers_body {
        Some(true) => Proof::Body,
        Some(false) if covers_fields => Proof::Fields,
        Some(false) => Proof::SenderOnly,
        None => Proof::None,
    };
    ProviderFacts { proof, needs_public_url: scheme.needs_public_url, ..facts }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Says why nobody but the provider can sign as it, where that is so.
fn cannot_sign_as(entry: &Arc<ProviderEntry>) -> Option<&'static str> {
    let Some(signature) = &entry.signature else { return Some("it signs nothing") };
    if let Ok(Some(_)) = private_scheme(entry, &BTreeMap::new()) {
        return Some("it signs with a key of its own");
    }
    let in_body = ["json:", "form:", "item:", "body"].iter().any(|place| signature.sig.starts_with(place));
    in_body.then_some("its proof stands in the body, which is handed on as it came")
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
    let facts = ProviderFacts {
        id: entry.id.to_string(),
        kinds: entry.kinds.iter().map(|kind| kind.as_str().to_owned()).collect(),
        secrets: secrets.collect(),
        settings: settings.collect(),
        timestamped: signature.is_some_and(|signature| signature.tolerance_s.is_some()),
        is_coded: entry.is_coded,
        is_placeholder: entry.is_placeholder(),
        is_unconfirmed: entry.confidence.is_unconfirmed(),
        cannot_sign_as: cannot_sign_as(entry),
        retries_for: Some(Duration::from_secs(entry.dedupe_window_s)),
        client: entry.client.as_ref().map(|client| ClientFacts {
            provider: entry.id.to_string(),
            own: None,
            secrets: client.secrets.iter().map(|secret| secret.name.clone()).collect(),
            settings: client.settings.iter().map(|setting| setting.name.clone()).collect(),
        }),
        ..ProviderFacts::default()
    };
    match SchemeFacts::of_any(entry) {
        // What proves its deliveries is its connector's own affair.
        Ok(_) if entry.is_coded => facts,
        Ok(scheme) => of_scheme(facts, entry, scheme),
        Err(_) => facts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_entry_is_served_by_the_connector_that_is_registered_for_it() {
        let entry = "id = \"acme\"\nconnector = \"code\"\nlike = \"github\"";
        let facts = |registry: &ConnectorRegistry| BuiltIn(registry.clone()).read_provider(entry).unwrap();
        let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
        let before = facts(&registry);
        assert_eq!((before.is_placeholder, before.is_coded), (true, false));
        let connector = ProviderCatalog::with_user_entries(&[entry]).unwrap().get("acme").unwrap().clone();
        registry.register(move || Box::new(crate::connector::CatalogConnector::new(connector.clone())));
        let after = facts(&registry);
        assert_eq!((after.is_placeholder, after.is_coded), (false, true));
        assert_eq!(after.secrets, before.secrets, "what else the entry says stays");
    }

    #[test]
    fn it_is_known_whom_nobody_can_sign_as() {
        let known = BuiltIn(ConnectorRegistry::new(ProviderCatalog::built_in()));
        let can = |id: &str| known.provider(id).unwrap().cannot_sign_as.is_none();
        for id in ["github", "stripe", "twilio", "gitlab", "postmark", "qstash", "standard-webhooks"] {
            assert!(can(id), "{id}");
        }
        for id in ["discord", "sendgrid", "aws-sns", "plaid", "adyen", "mailgun", "braintree", "none", "cron"]
        {
            assert!(!can(id), "{id}");
        }
    }
}
