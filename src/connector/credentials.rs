//! Where credentials stand in a provider's requests: what must be kept out of every record and answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::plan::{BuildError, Plan};
use crate::catalog::ProviderEntry;
use crate::event::{Header, REDACTED};
use crate::signature::Location;

/// Where credentials stand in a provider's requests, all of which must be kept out of every record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Lower-case names of headers.
    pub headers: Vec<String>,
    /// Names of query parameters.
    pub query: Vec<String>,
}

impl Credentials {
    /// Collects what an entry says, the places of proofs that are themselves the secret, and those of
    /// secrets that handshakes bring.
    ///
    /// # Errors
    ///
    /// If the entry does not compile with these settings.
    pub fn of(entry: &Arc<ProviderEntry>, settings: &BTreeMap<String, String>) -> Result<Self, BuildError> {
        let plan = Plan::new(entry, settings)?;
        let mut credentials = Self::named(entry);
        let bearers = plan.forms.iter().filter(|form| form.scheme.is_bearer());
        let places = bearers.flat_map(|form| form.scheme.places(&plan.fields).cloned());
        let learned = plan.handshakes.iter().filter_map(|handshake| handshake.learn.as_ref());
        let learned = learned.map(|(_, slot)| plan.fields.location(*slot).clone());
        places.chain(learned).for_each(|location| credentials.add(location));
        Ok(credentials)
    }

    /// Collects what is a credential for every provider, and what an entry names: all that is known where a
    /// connector in code has settings of its own.
    pub fn named(entry: &ProviderEntry) -> Self {
        let headers = ["authorization", "proxy-authorization", "cookie"].map(str::to_owned).to_vec();
        let mut credentials = Self { headers, query: Vec::new() };
        let named = entry.credentials.iter().filter_map(|text| text.parse().ok());
        named.for_each(|location| credentials.add(location));
        credentials
    }

    fn add(&mut self, location: Location) {
        match location {
            Location::Header(name) => self.headers.push(name),
            Location::Query(name) => self.query.push(name),
            _ => {}
        }
    }

    /// Replaces the values of credentials among headers.
    pub fn redact_headers(&self, mut headers: Vec<Header>) -> Vec<Header> {
        for (name, value) in &mut headers {
            if self.headers.contains(name) {
                *value = Bytes::from_static(REDACTED.as_bytes());
            }
        }
        headers
    }

    /// Replaces the values of credentials in a URL's query; all else stays as sent.
    pub fn redact_url(&self, url: String) -> String {
        let Some((path, query)) = url.split_once('?').filter(|_| !self.query.is_empty()) else { return url };
        let pair = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            let plain = percent_decode_str(name).decode_utf8_lossy();
            match self.query.iter().any(|known| *known == plain) {
                true => format!("{name}={REDACTED}"),
                false => pair.to_owned(),
            }
        };
        let query: Vec<String> = query.split('&').map(pair).collect();
        format!("{path}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    #[test]
    fn credentials_are_redacted_and_all_else_stays() {
        let credentials = Credentials { headers: vec!["x-token".into()], query: vec!["token".into()] };
        let header = |name: &str| (name.to_owned(), Bytes::from_static(b"value"));
        let headers = credentials.redact_headers(["x-token", "x-other"].map(header).to_vec());
        assert_eq!((&headers[0].1[..], &headers[1].1[..]), (REDACTED.as_bytes(), &b"value"[..]));
        let url = credentials.redact_url("/x?a=1&to%6ben=s&b".to_owned());
        assert_eq!(url, format!("/x?a=1&to%6ben={REDACTED}&b"));
    }

    #[test]
    fn a_proof_that_is_the_secret_is_a_credential() {
        let catalog = ProviderCatalog::built_in();
        let of = |id: &str| Credentials::of(catalog.get(id).unwrap(), &BTreeMap::new()).unwrap().headers;
        assert!(of("gitlab").contains(&"x-gitlab-token".to_owned()));
        assert!(of("github").contains(&"authorization".to_owned()));
        assert!(!of("github").contains(&"x-hub-signature-256".to_owned()));
    }
}
