//! Secrets by name: what the authors of connectors and clients ask for.
//!
//! A [`SecretId`] stands for a place in the environment, in the folders of secret files, and in the store; the
//! [`Chain`] asks them in this order, and the first one that has the secret counts. Each provider turns the
//! id into references, and [`Vault::resolve`] looks them up: there is one way to a secret's value, whether
//! the configuration names it or code does.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{SealedStore, Secret, SecretError, Vault};
use crate::settings::{SecretRef, is_store_name};

/// Environment variables of secrets begin with this.
pub const SECRET_ENV_PREFIX: &str = "HOOKKEEPER_SECRET_";

/// What a secret is called: the namespace is the provider's id, the name as in its catalogue entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId {
    namespace: String,
    name: String,
}

/// A text that serves neither as a namespace nor as a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not name a secret: namespace and name have letters, digits, `_`, `-` and `.`, begin with a letter or \
     digit, and are short"
)]
pub struct BadSecretId(String);

impl SecretId {
    /// Names a secret.
    ///
    /// ```
    /// use hookkeeper::secrets::SecretId;
    /// let id = SecretId::new("aws-sns", "api_token")?;
    /// assert_eq!(id.to_string(), "aws-sns/api_token");
    /// assert_eq!(id.env_name(), "HOOKKEEPER_SECRET_AWS_SNS_API_TOKEN");
    /// assert!(SecretId::new("aws-sns", "../api_token").is_err());
    /// # Ok::<(), hookkeeper::secrets::BadSecretId>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If either part is empty, has other characters than names have, or both are too long together.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, BadSecretId> {
        let id = Self { namespace: namespace.into(), name: name.into() };
        let is_part = |part: &str| is_store_name(part) && !part.contains('/');
        if is_part(&id.namespace) && is_part(&id.name) && is_store_name(&id.to_string()) {
            Ok(id)
        } else {
            Err(BadSecretId(id.to_string()))
        }
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the environment variable that holds it: `HOOKKEEPER_SECRET_`, then namespace and name in upper
    /// case, joined by `_`, which also stands for `-` and `.`.
    pub fn env_name(&self) -> String {
        let spell = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = self.to_string().chars().map(spell).collect();
        format!("{SECRET_ENV_PREFIX}{name}")
    }
}

impl std::fmt::Display for SecretId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Gives secrets by name.
///
/// ```
/// use std::sync::Arc;
/// use hookkeeper::secrets::{Secret, SecretError, SecretId, SecretProvider};
///
/// /// One secret, for a test.
/// struct Fixed(Secret);
///
/// #[async_trait::async_trait]
/// impl SecretProvider for Fixed {
///     async fn get(&self, _: &SecretId) -> Result<Secret, SecretError> {
///         Ok(self.0.clone())
///     }
/// }
///
/// let secrets: Arc<dyn SecretProvider> = Arc::new(Fixed(Secret::new("hunter2")));
/// ```
#[async_trait]
pub trait SecretProvider: Send + Sync {
    /// Returns a secret as it is now. Ask again rather than keep it for long: it may be changed meanwhile.
    ///
    /// # Errors
    ///
    /// If it is not there ([`SecretError::is_absent`]), or is there and cannot be read.
    async fn get(&self, id: &SecretId) -> Result<Secret, SecretError>;
}

/// The store as providers share it.
pub type SharedStore = Arc<dyn SealedStore + Send + Sync>;

/// Turns an id into references.
type References = Box<dyn Fn(&SecretId) -> Vec<SecretRef> + Send + Sync>;

/// One place where secrets are looked for: the references that an id stands for there.
struct Place {
    vault: Arc<Vault>,
    store: SharedStore,
    references: References,
}

#[async_trait]
impl SecretProvider for Place {
    async fn get(&self, id: &SecretId) -> Result<Secret, SecretError> {
        let (vault, store, references) = (self.vault.clone(), self.store.clone(), (self.references)(id));
        let look = move || {
            let mut looked = Vec::new();
            for reference in references {
                match vault.resolve(&reference, &*store) {
                    Err(error) if error.is_absent() => looked.push(reference.to_string()),
                    found => return Ok(found),
                }
            }
            Err(looked)
        };
        // Reading a file blocks.
        let found = tokio::task::spawn_blocking(look).await.map_err(|_| SecretError::Panicked)?;
        found.unwrap_or_else(|looked| Err(SecretError::Nowhere { id: id.to_string(), looked }))
    }
}

/// Returns the provider of environment variables: see [`SecretId::env_name`].
pub fn env_secrets(vault: Arc<Vault>) -> impl SecretProvider {
    let references = |id: &SecretId| vec![SecretRef::Env(id.env_name())];
    Place { vault, store: Arc::new(|_: &str| None), references: Box::new(references) }
}

/// Returns the provider of files: in each folder `<namespace>/<name>`, then `<namespace>.<name>`, as the secrets
/// of Docker and the credentials of systemd have no folders.
pub fn file_secrets(vault: Arc<Vault>, folders: Vec<PathBuf>) -> impl SecretProvider {
    let references = move |id: &SecretId| {
        let files = |folder: &PathBuf| {
            let flat = format!("{}.{}", id.namespace, id.name);
            [folder.join(&id.namespace).join(&id.name), folder.join(flat)].map(SecretRef::File)
        };
        folders.iter().flat_map(files).collect()
    };
    Place { vault, store: Arc::new(|_: &str| None), references: Box::new(references) }
}

/// Returns the provider of what hookkeeper keeps sealed, under the name `<namespace>/<name>`.
pub fn stored_secrets(vault: Arc<Vault>, store: SharedStore) -> impl SecretProvider {
    let references = |id: &SecretId| vec![SecretRef::Store(id.to_string())];
    Place { vault, store, references: Box::new(references) }
}

/// Providers, asked in order: the first one that has a secret counts. One that has it and cannot read it ends
/// the search: a secret that was meant to be in force must not give way to an older one in silence.
pub struct Chain(Vec<Box<dyn SecretProvider>>);

impl Chain {
    /// Returns a chain of the given providers.
    pub fn new(providers: Vec<Box<dyn SecretProvider>>) -> Self {
        Self(providers)
    }

    /// Returns the chain that hookkeeper uses: environment, files, store.
    pub fn standard(vault: Arc<Vault>, store: SharedStore) -> Self {
        let folders = vault.folders();
        Self::new(vec![
            Box::new(env_secrets(vault.clone())),
            Box::new(file_secrets(vault.clone(), folders)),
            Box::new(stored_secrets(vault, store)),
        ])
    }
}

#[async_trait]
impl SecretProvider for Chain {
    async fn get(&self, id: &SecretId) -> Result<Secret, SecretError> {
        let mut all = Vec::new();
        for provider in &self.0 {
            match provider.get(id).await {
                Err(SecretError::Nowhere { looked, .. }) => all.extend(looked),
                Err(error) if error.is_absent() => all.push(error.to_string()),
                found => return found,
            }
        }
        Err(SecretError::Nowhere { id: id.to_string(), looked: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::MasterKey;

    fn id() -> SecretId {
        SecretId::new("aws-sns", "api_token").unwrap()
    }

    /// A vault that finds the given variables, and a store that holds what is given.
    fn places(variable: Option<&str>, stored: Option<&str>) -> (Arc<Vault>, SharedStore) {
        let variable = variable.map(str::to_owned);
        let env =
            move |name: &str| variable.clone().filter(|_| name == "HOOKKEEPER_SECRET_AWS_SNS_API_TOKEN");
        let vault = Vault::with_key(MasterKey::from_bytes([7; 32])).with_env(env);
        let sealed = stored.map(|text| vault.seal("aws-sns/api_token", &Secret::new(text)).unwrap());
        let store = move |name: &str| sealed.clone().filter(|_| name == "aws-sns/api_token");
        (Arc::new(vault), Arc::new(store))
    }

    async fn get(
        vault: &Arc<Vault>,
        store: &SharedStore,
        folder: &std::path::Path,
    ) -> Result<Vec<u8>, String> {
        let chain = Chain::new(vec![
            Box::new(env_secrets(vault.clone())),
            Box::new(file_secrets(vault.clone(), vec![folder.to_owned()])),
            Box::new(stored_secrets(vault.clone(), store.clone())),
        ]);
        let found = chain.get(&id()).await;
        found.map(|secret| secret.expose().to_vec()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_first_place_that_has_the_secret_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (vault, store) = places(Some("of the environment"), Some("of the store"));
        assert_eq!(get(&vault, &store, folder.path()).await.unwrap(), b"of the environment");
        let (vault, store) = places(None, Some("of the store"));
        assert_eq!(get(&vault, &store, folder.path()).await.unwrap(), b"of the store");
        std::fs::write(folder.path().join("aws-sns.api_token"), "of a flat file\n").unwrap();
        assert_eq!(get(&vault, &store, folder.path()).await.unwrap(), b"of a flat file");
        std::fs::create_dir(folder.path().join("aws-sns")).unwrap();
        std::fs::write(folder.path().join("aws-sns/api_token"), "of a file\n").unwrap();
        assert_eq!(get(&vault, &store, folder.path()).await.unwrap(), b"of a file");
    }

    #[tokio::test]
    async fn what_is_there_and_cannot_be_read_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (vault, store) = places(None, Some("of the store"));
        std::fs::write(folder.path().join("aws-sns.api_token"), " \n").unwrap();
        assert!(get(&vault, &store, folder.path()).await.unwrap_err().contains("blank"));
        let (vault, store) = places(Some(""), Some("of the store"));
        assert!(get(&vault, &store, folder.path()).await.unwrap_err().contains("blank"));
    }

    #[tokio::test]
    async fn a_secret_that_is_nowhere_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (vault, store) = places(None, None);
        let error = get(&vault, &store, folder.path()).await.unwrap_err();
        for place in [
            "env:HOOKKEEPER_SECRET_AWS_SNS_API_TOKEN",
            "aws-sns/api_token, file:",
            "aws-sns.api_token",
            "store:aws-sns/api_token",
            "hookkeeper secrets set aws-sns/api_token",
        ] {
            assert!(error.contains(place), "{place}: {error}");
        }
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        for (namespace, name) in
            [("", "a"), ("a", ""), ("a/b", "c"), ("..", "a"), ("a", "../b"), ("a", "b:c"), ("a", "b c")]
        {
            assert!(SecretId::new(namespace, name).is_err(), "{namespace} {name}");
        }
        assert!(SecretId::new("a".repeat(100), "b".repeat(100)).is_err());
    }
}
