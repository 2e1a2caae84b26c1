//! Where a client's calls go: the base URL that an entry makes of settings. Pure.

use std::collections::BTreeMap;

use url::Url;

use super::settings::{ClientBuildError, ClientSettings};
use crate::catalog::ClientSpec;

/// Where a client's calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientBase {
    /// The base URL.
    pub url: String,
    /// The given settings that it is made of.
    pub settings: Vec<String>,
}

/// Reads a base URL: https, and nothing that calls do not go by.
pub(super) fn read_base(text: &str) -> Option<Url> {
    let url: Url = text.trim_end_matches('/').parse().ok()?;
    let is_plain = url.scheme() == "https"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then_some(url)
}

/// Returns the given settings that the base URL is made of, where it is the entry's.
pub(super) fn base_settings(client: &ClientSpec, given: &ClientSettings) -> Vec<String> {
    let text = if given.base_url.is_some() { "" } else { &client.base_url };
    let names = client.settings_of(text, |name| given.settings.contains_key(name));
    names.into_iter().map(str::to_owned).collect()
}

/// Validates that settings which stand in the host's name stay there: one that is a URL itself, or goes on with a
/// path where more of the name follows, makes another host of it.
pub(super) fn within_host(
    provider: &str,
    client: &ClientSpec,
    settings: &BTreeMap<String, String>,
) -> Result<(), ClientBuildError> {
    let host = client.base_url.strip_prefix("https://").unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let leaves = |name: &&str| {
        let is_last = host.ends_with(&format!("${{{name}}}"));
        settings.get(*name).is_some_and(|value| {
            value.contains(['\\', '?', '#', '@']) || value.contains("//") || (value.contains('/') && !is_last)
        })
    };
    match client.settings_of(host, |name| settings.contains_key(name)).into_iter().find(leaves) {
        None => Ok(()),
        Some(name) => Err(ClientBuildError::Setting {
            provider: provider.to_owned(),
            name: name.to_owned(),
            expected: "host or part of one: expected neither https:// nor a slash",
        }),
    }
}
