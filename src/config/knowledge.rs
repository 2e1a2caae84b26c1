//! What the configuration needs to know of higher modules, handed in so that it imports none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::{Outbound, SecretRef, Tls};

/// What a catalogue entry demands of the triggers that use it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProviderFacts {
    /// Its id.
    pub id: String,
    /// Kinds of its triggers, such as `webhook`, the usual one first; empty means webhooks alone.
    pub kinds: Vec<String>,
    /// The secrets that a trigger may give, the main one first.
    pub secrets: Vec<SecretFact>,
    /// The settings that a trigger may give.
    pub settings: Vec<SettingFact>,
    /// Whether its scheme signs a time, so that `tolerance` means something.
    pub timestamped: bool,
    /// Whether its scheme covers the URL, so that `server.public_url` is needed.
    pub needs_public_url: bool,
    /// How much its proof proves.
    pub proof: Proof,
    /// Whether a connector in code serves it, which takes further secrets and settings than these.
    pub is_coded: bool,
    /// Whether its connector is code of which there is none, so that nothing can use it.
    pub is_placeholder: bool,
    /// Whether nobody has confirmed at the provider what is known of it.
    pub is_unconfirmed: bool,
    /// Why nobody but the provider can sign as it, where that is so.
    pub cannot_sign_as: Option<&'static str>,
    /// The text of the entry, where it is the user's own.
    pub own: Option<String>,
    /// How long it may send a delivery again; a longer time than the default widens `dedupe_window`.
    pub retries_for: Option<Duration>,
    /// What its client takes, where its API is known.
    pub client: Option<ClientFacts>,
}

/// What the client of a provider takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// The provider's id.
    pub provider: String,
    /// The text of the provider's entry, where it is the user's own.
    pub own: Option<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Names of settings.
    pub settings: Vec<String>,
}

/// What a configuration gives to a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientGiven {
    /// Where the API is.
    pub base_url: Option<String>,
    /// Settings by name.
    pub settings: BTreeMap<String, String>,
    /// Names of secrets.
    pub secrets: BTreeSet<String>,
}

/// Where a client's calls go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientUrl {
    /// The base URL; nothing where it is not known.
    pub url: Option<String>,
    /// The given settings that it is made of.
    pub settings: Vec<String>,
}

/// Why no client can be made of what a configuration gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFault {
    /// What is wrong.
    pub place: ClientPlace,
    /// What is missing or makes no sense, in one line.
    pub reason: String,
}

/// What is wrong with a client's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientPlace {
    /// Its secrets, with the settings that go with them.
    Secrets,
    /// One setting.
    Setting(String),
    /// Nothing in it: the entry of the provider.
    Entry,
}

/// The kind of a trigger that does not say.
pub(super) const WEBHOOK: &str = "webhook";
/// The kind of a trigger that has a schedule.
pub(super) const CRON: &str = "cron";
/// The kind of a trigger whose provider is asked.
pub(super) const POLL: &str = "poll";
/// The name of every provider's main secret, which verifies its deliveries.
pub(super) const SIGNING_SECRET: &str = "signing_secret";

impl ProviderFacts {
    /// Returns what is wrong with using it, and what helps, if it is a placeholder.
    pub(super) fn placeholder(&self) -> Option<(String, &'static str)> {
        let message = || {
            format!(
                "provider `{}` is a placeholder: its connector is code, and this program has none registered for it",
                self.id
            )
        };
        let remedy = "run a program that registers its connector with cli::main_with, or remove \
                      connector = \"code\" from its entry if its data says all";
        self.is_placeholder.then(|| (message(), remedy))
    }

    /// Returns the kinds of its triggers, the usual one first.
    pub(super) fn kinds(&self) -> Vec<&str> {
        match self.kinds.as_slice() {
            [] => vec![WEBHOOK],
            kinds => kinds.iter().map(String::as_str).collect(),
        }
    }
}

/// How much a provider's proof proves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Proof {
    /// It covers the body.
    #[default]
    Body,
    /// It covers single fields of the body.
    Fields,
    /// It shows who sends, but not that the body is what was sent.
    SenderOnly,
    /// There is none.
    None,
}

/// One secret of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFact {
    /// Its name, such as `signing_secret`.
    pub name: String,
    /// Whether deliveries cannot be verified without it.
    pub required: bool,
    /// Whether a handshake brings it, so that the configuration may leave it out.
    pub learned: bool,
}

/// One setting of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingFact {
    /// Its name, such as `header`.
    pub name: String,
    /// Whether there is no default.
    pub required: bool,
    /// The values allowed; empty for any text.
    pub values: Vec<String>,
}

/// Facts from the catalogue and judgements by the expression language and the system.
pub trait Knowledge {
    /// Returns the ids of all providers of the catalogue.
    fn provider_ids(&self) -> Vec<String>;

    /// Returns the facts on a provider of the catalogue.
    fn provider(&self, id: &str) -> Option<ProviderFacts>;

    /// Reads a user's own catalogue entry, given as the TOML text of its table.
    ///
    /// # Errors
    ///
    /// If the entry is not of the catalogue's schema; the text says why.
    fn read_provider(&self, entry: &str) -> Result<ProviderFacts, String>;

    /// Returns what depends on a trigger's settings: whether the URL is signed, and what the proof covers.
    ///
    /// # Errors
    ///
    /// If the settings make no sense; the text says why, in one line.
    fn with_settings(
        &self,
        facts: ProviderFacts,
        settings: &BTreeMap<String, String>,
    ) -> Result<ProviderFacts, String> {
        let _ = settings;
        Ok(facts)
    }

    /// Tells whether a client can be made of what is given, and where its calls go then.
    ///
    /// # Errors
    ///
    /// If something is missing or makes no sense.
    fn validate_client(&self, facts: &ClientFacts, given: &ClientGiven) -> Result<ClientUrl, ClientFault> {
        let _ = (facts, given);
        Ok(ClientUrl::default())
    }

    /// Holds what a reference names against the form that a client's secret of the name has. What is not there, or
    /// is kept in the store, is passed over.
    ///
    /// # Errors
    ///
    /// If it has another form; the text says which one is expected.
    fn try_client_secret(
        &self,
        facts: &ClientFacts,
        given: &ClientGiven,
        name: &str,
        secret: &SecretRef,
    ) -> Result<(), String> {
        let _ = (facts, given, name, secret);
        Ok(())
    }

    /// Tells whether a URL may be called, as far as no name has to be looked up for it.
    ///
    /// # Errors
    ///
    /// If its address must not be called; the text says which setting allows it.
    fn try_url(&self, url: &str, outbound: &Outbound) -> Result<(), String> {
        let _ = (url, outbound);
        Ok(())
    }

    /// Tries a certificate and its key, both of which can be read.
    ///
    /// # Errors
    ///
    /// If they do not parse, or do not go together; the text says which.
    fn try_tls(&self, tls: &Tls) -> Result<(), String> {
        let _ = tls;
        Ok(())
    }

    /// Compiles a CEL expression.
    ///
    /// # Errors
    ///
    /// If it is none; the text says why, in one line.
    fn compile_cel(&self, expression: &str) -> Result<(), String>;

    /// Tells whether what a reference names is there, and blank. What the store keeps is not looked at.
    fn is_blank(&self, secret: &SecretRef) -> bool {
        let _ = secret;
        false
    }

    /// Holds what a reference names against the form that a provider's secret of the name has. What is not there,
    /// is blank, or is kept in the store is passed over.
    ///
    /// # Errors
    ///
    /// If it has another form; the text says which one is expected.
    fn try_secret(
        &self,
        facts: &ProviderFacts,
        settings: &BTreeMap<String, String>,
        name: &str,
        secret: &SecretRef,
    ) -> Result<(), String> {
        let _ = (facts, settings, name, secret);
        Ok(())
    }

    /// Tells whether an environment variable is set and not empty.
    fn env_is_set(&self, name: &str) -> bool {
        std::env::var_os(name).is_some_and(|value| !value.is_empty())
    }

    /// Tries to read a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read; the text says why.
    fn try_file(&self, path: &Path) -> Result<(), String> {
        // The kind is asked first: opening a named pipe would wait for its writer.
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => Err("it is not a regular file".to_owned()),
            Ok(_) => std::fs::File::open(path).map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Tells whether a program exists: a path, or a name to be found on `PATH`.
    fn program_exists(&self, program: &str) -> bool {
        if program.contains('/') {
            return Path::new(program).is_file();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    }
}
