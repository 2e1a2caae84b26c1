//! Secrets: a type that shows nothing, and the chain that resolves references to it.

mod secret;

pub use secret::Secret;
