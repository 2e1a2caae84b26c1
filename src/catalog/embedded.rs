//! The built-in entries: one line per provider.

macro_rules! entries {
    ($($id:literal),* $(,)?) => {
        /// File name without its ending, and text, of every built-in entry.
        pub(super) const ENTRIES: &[(&str, &str)] =
            &[$(($id, include_str!(concat!("providers/", $id, ".toml")))),*];
    };
}

entries! {
    "github",
    "hmac",
    "linear",
    "notion",
    "slack",
    "standard-webhooks",
    "stripe",
}
