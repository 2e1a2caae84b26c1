//! Secrets: a type that shows nothing, the key that seals what hookkeeper keeps, and the vault that
//! resolves references.
//!
//! Nothing here knows the log: sealed bytes are handed in and out, and callers store them.

mod resolve;
mod seal;
mod secret;

pub use resolve::{SealedStore, SecretError, Vault, resolve_without_store};
pub use seal::{
    MASTER_KEY_ENV, MASTER_KEY_FILE, MASTER_KEY_FILE_ENV, MasterKey, SealError, generate, write_private,
};
pub use secret::Secret;
