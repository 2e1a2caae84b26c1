//! The public keys that a provider publishes, fetched when a request needs them and kept.
//!
//! Lives beside the actor, not in it: workers ask it directly, and its contents survive every rebuild.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::remote::{Ask, Name, Remote, Unavailable};
use crate::catalog::KeyDocument;
use crate::clock::Clock;
use crate::connector::{FetchedKey, KeyRequest};
use crate::outbound::{Client, Request};

/// How much longer than their lifetime keys serve where they cannot be fetched anew: an outage of a
/// provider's key server must not cost its deliveries, nor a key that was withdrawn serve for long.
const GRACE: Duration = Duration::from_secs(6 * 60 * 60);
/// Largest document of keys. Real ones have a few KB.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How long a host may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);

/// All keys of one document.
pub type Document = Arc<[FetchedKey]>;

/// The keys of one provider.
pub struct PublishedKeys {
    client: Arc<Client>,
    clock: Clock,
    documents: Remote<Document>,
}

impl PublishedKeys {
    /// Returns an empty cache.
    pub fn new(client: Arc<Client>, clock: Clock) -> Self {
        Self { client, documents: Remote::new(clock.clone()), clock }
    }

    /// Returns the document that a request must be verified with. One that lacks the key which the request
    /// names is fetched anew, if it was not just now.
    ///
    /// # Errors
    ///
    /// If it is not there by `deadline`.
    pub async fn get(&self, wanted: &KeyRequest, deadline: Instant) -> Result<Document, Unavailable> {
        self.ask(wanted, &|document| !wanted.pick(document).is_empty(), deadline).await
    }

    /// Returns a newer document than the one with which a request did not verify, where keys have no names
    /// by which a new one would have been missed. Nothing comes of a document that was fetched just now.
    pub async fn newer(&self, wanted: &KeyRequest, than: &Document, deadline: Instant) -> Option<Document> {
        if wanted.key_id.is_some() || wanted.from == KeyDocument::X509 {
            return None;
        }
        let found = self.ask(wanted, &|document| !Arc::ptr_eq(document, than), deadline).await.ok()?;
        (!Arc::ptr_eq(&found, than)).then_some(found)
    }

    /// Returns the document where it is here already, whatever its age.
    pub fn known(&self, wanted: &KeyRequest) -> Option<Document> {
        self.documents.peek(&name(wanted))
    }

    async fn ask(
        &self,
        wanted: &KeyRequest,
        suits: &(dyn Fn(&Document) -> bool + Sync),
        deadline: Instant,
    ) -> Result<Document, Unavailable> {
        let ask = Ask { name: name(wanted), lifetime: wanted.cache, grace: GRACE, suits };
        let fetch = || fetch(self.client.clone(), self.clock.clone(), wanted.clone());
        self.documents.get(&ask, deadline, fetch).await
    }
}

async fn fetch(client: Arc<Client>, clock: Clock, wanted: KeyRequest) -> Result<Document, String> {
    let fetched = match &wanted.lacks {
        Some(secret) => Err(format!("the trigger has no secret {secret:?}, which the key server wants")),
        None => ask_server(&client, &clock, &wanted).await,
    };
    if let Err(why) = &fetched {
        tracing::warn!(
            host = wanted.host().unwrap_or_default(),
            why,
            "could not fetch a provider's public keys"
        );
    }
    fetched
}

async fn ask_server(client: &Client, clock: &Clock, wanted: &KeyRequest) -> Result<Document, String> {
    let request = Request {
        method: &wanted.method,
        url: &wanted.url,
        headers: &wanted.headers,
        body: &wanted.body,
        answer_bytes_max: DOCUMENT_BYTES_MAX,
        timeout: FETCH_TIMEOUT,
    };
    match client.send(request).await {
        Ok(answer) if (200..300).contains(&answer.status) => {
            let keys = wanted.read(&answer.body, clock.now());
            if keys.is_empty() {
                Err("the answer holds no key that is valid now".to_owned())
            } else {
                Ok(keys.into())
            }
        }
        Ok(answer) => Err(format!("the key server answered {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}

/// Names a document by all that its request consists of. A digest: requests may hold secrets.
fn name(wanted: &KeyRequest) -> Name {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    part(&[wanted.from as u8]);
    part(wanted.method.as_bytes());
    part(wanted.url.as_bytes());
    part(wanted.pointer.as_bytes());
    part(&wanted.body);
    for (name, value) in &wanted.headers {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    digest.finalize().into()
}
