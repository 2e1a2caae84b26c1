//! URLs that a signed handshake asks to be called before it is answered: Amazon SNS confirms that way.
//!
//! Each is called once: handshakes that arrive again, or together, share what came of the first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::remote::{Ask, Remote, Unavailable};
use crate::clock::Clock;
use crate::connector::allowed_host;
use crate::outbound::{Client, Request};

/// How long a call that succeeded is remembered. Providers repeat a handshake within minutes.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Most bytes of an answer, which is not looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a host may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// The calls of one provider.
pub(super) struct Calls {
    client: Arc<Client>,
    done: Remote<()>,
}

impl Calls {
    pub(super) fn new(client: Arc<Client>, clock: Clock) -> Self {
        Self { client, done: Remote::new(clock) }
    }

    /// Has a URL of one of these hosts called with GET, unless it was; returns when it answered 2xx. `called`
    /// is told the host when a call was made and succeeded.
    pub(super) async fn make(
        &self,
        url: &str,
        hosts: &[String],
        deadline: Instant,
        called: impl Fn(&str) + Clone + Send + 'static,
    ) -> Result<(), Unavailable> {
        let host = allowed_host(url, hosts).ok_or_else(|| Unavailable {
            retry_after: REMEMBERED,
            why: "the handshake names a URL that is not the provider's".to_owned(),
        })?;
        let ask = Ask {
            name: Sha256::digest(url).into(),
            lifetime: REMEMBERED,
            grace: Duration::ZERO,
            suits: &|()| true,
        };
        let call = || {
            let (client, url, host, called) =
                (self.client.clone(), url.to_owned(), host.to_owned(), called.clone());
            async move {
                get(&client, &url).await?;
                called(&host);
                Ok(())
            }
        };
        self.done.get(&ask, deadline, call).await
    }
}

async fn get(client: &Client, url: &str) -> Result<(), String> {
    let request = Request {
        method: "GET",
        url,
        headers: &[],
        body: &[],
        answer_bytes_max: ANSWER_BYTES_MAX,
        timeout: CALL_TIMEOUT,
    };
    match client.send(request).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!("the URL that the handshake wants called answered {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}
