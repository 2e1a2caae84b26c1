//! The built-in entries, embedded: every file of `providers/`, as the build script lists them.

/// File name without its ending, and text, of every built-in entry.
pub(super) const ENTRIES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/entries.rs"));
