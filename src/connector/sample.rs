//! Sample deliveries and secrets of the provider's form, for `send`, `init` and tests.

use crate::catalog::{Sample, SecretSpec};
use crate::event::{Header, Timestamp};
use crate::secrets::Secret;
use crate::signature::{Encoding, Unit};

/// A sample, ready to be signed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Method.
    pub method: String,
    /// Query with its question mark, or nothing.
    pub query: String,
    /// Headers, names in lower case; the content type is always among them.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
}

/// Fills a sample in: `id` is the delivery's, `now` the time that it speaks of.
pub fn render(sample: &Sample, id: &str, now: Timestamp) -> Rendered {
    let fill = |text: &str| {
        text.replace("@id@", id)
            .replace("@now_s@", &Unit::Seconds.write(now))
            .replace("@now_ms@", &Unit::Milliseconds.write(now))
            .replace("@now_rfc3339@", &Unit::Rfc3339.write(now))
    };
    let mut headers: Vec<Header> =
        sample.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), fill(value).into())).collect();
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), "application/json".into()));
    }
    let (method, query) = (sample.method.clone(), fill(&sample.url));
    Rendered { method, query, headers, body: fill(&sample.body).into_bytes() }
}

/// Writes random bytes in the form that the provider's secrets have.
pub fn generate_secret(spec: &SecretSpec, random: &[u8; 32]) -> Secret {
    let encoding: Encoding = spec.encoding.parse().unwrap_or_default();
    Secret::new(format!("{}{}", spec.prefix, encoding.encode(random)))
}
