//! Secrets: a type that shows nothing, the keys that seal what hookkeeper keeps, the vault that resolves
//! references, and the providers that give secrets by name.
//!
//! Nothing here knows the log: sealed bytes are handed in and out, and callers store them.

mod fingerprint;
mod keyring;
mod provider;
mod resolve;
mod seal;
mod secret;
#[cfg(feature = "server")]
mod watch;

pub use fingerprint::{FINGERPRINT_KEY, Fingerprints};
pub use keyring::{
    Keyring, MASTER_KEY_CREDENTIAL, MASTER_KEY_ENV, MASTER_KEY_FILE, MASTER_KEY_FILE_ENV, Origin,
};
pub use provider::{
    BadSecretId, Chain, SECRET_ENV_PREFIX, SecretId, SecretProvider, SharedStore, env_secrets, file_secrets,
    stored_secrets,
};
use resolve::read_bounded;
pub use resolve::{Resolved, SealedStore, SecretError, Vault, previous_name, resolve_without_store};
pub use seal::{MasterKey, SealError, create_private, generate, write_private};
pub use secret::Secret;
#[cfg(feature = "server")]
pub use watch::FileWatch;
