//! Outbound callbacks: what a connector offers of its provider's API, and the one engine that calls the API
//! of whatever a catalogue entry describes.
//!
//! From a call to its result: `args` holds the arguments against the method, `request` makes the request,
//! `auth` says who calls, `rest` sends it within a permit, `answer` and `pages` read what comes back.

mod answer;
mod args;
mod auth;
mod base_url;
mod encode;
mod github_app;
mod own_secrets;
mod pages;
mod redirect;
mod request;
mod rest;
mod settings;
mod slack_upload;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

pub use base_url::ClientBase;
pub use own_secrets::OwnSecrets;
pub use rest::{ClientParts, RestClient};
pub use settings::{ClientBuildError, ClientSettings, validate_client, validate_client_secret};

use crate::permits::Lane;
use crate::secrets::Secret;
use crate::settings::nearest;

/// How long a call may take where its caller does not say.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls the API of a provider: methods by name, arguments and answers as JSON.
///
/// # Examples
///
/// ```
/// use async_trait::async_trait;
/// use hookkeeper::connector::{ClientError, ConnectorClient};
/// use serde_json::{Value, json};
///
/// struct Acme;
///
/// #[async_trait]
/// impl ConnectorClient for Acme {
///     fn methods(&self) -> Vec<String> {
///         vec!["echo".to_owned()]
///     }
///
///     async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError> {
///         match method {
///             "echo" => Ok(args),
///             _ => Err(ClientError::unknown_method(method, &self.methods())),
///         }
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(Acme.call("echo", json!({"text": "hi"})).await.unwrap(), json!({"text": "hi"}));
/// let error = Acme.call("ecko", Value::Null).await.unwrap_err();
/// assert_eq!(error.to_string(), "there is no method `ecko`; did you mean `echo`?");
/// # });
/// ```
#[async_trait]
pub trait ConnectorClient: Send + Sync {
    /// Returns the names of all methods.
    fn methods(&self) -> Vec<String>;

    /// Calls a method, with default options.
    ///
    /// Dropping the future gives the call up; the provider may have acted on it all the same.
    ///
    /// # Errors
    ///
    /// If the method is not known, the arguments do not suit it, no permit is to be had in time, or the
    /// provider cannot be reached or refuses.
    async fn call(&self, method: &str, args: Value) -> Result<Value, ClientError>;

    /// Calls a method as the options say. A client that knows nothing of options only keeps the timeout.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call); [`ClientError::Timeout`] when it took too long.
    async fn call_with(
        &self,
        method: &str,
        args: Value,
        options: &CallOptions,
    ) -> Result<Value, ClientError> {
        let called = tokio::time::timeout(options.timeout, self.call(method, args)).await;
        called.unwrap_or(Err(ClientError::Timeout { limit: options.timeout }))
    }
}

/// Gives a client its credentials, by the names that its provider's entry has for them.
#[async_trait]
pub trait ClientSecrets: Send + Sync {
    /// Returns a secret as it is now.
    ///
    /// # Errors
    ///
    /// If it is not to be had; the text says what to do, and holds no secret.
    async fn secret(&self, name: &str) -> Result<Secret, String>;
}

/// How a call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallOptions {
    /// How long all of it may take, the wait for a permit included; default: [`CALL_TIMEOUT`].
    pub timeout: Duration,
    /// On whose behalf it is made: live calls go before replays, these before backfills.
    pub lane: Lane,
    /// Tells the provider that a repeated call is the same, where its API has a place for it. Where it has none, the
    /// key is not sent and the call is made as without one: a caller of many providers need not know which is which.
    pub idempotency_key: Option<String>,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { timeout: CALL_TIMEOUT, lane: Lane::Live, idempotency_key: None }
    }
}

/// Why a call has no result. Texts never hold a credential.
///
/// # Examples
///
/// ```
/// use hookkeeper::ClientError;
///
/// let error = ClientError::unknown_method("creat_issue", &["create_issue".to_owned()]);
/// assert_eq!(error.to_string(), "there is no method `creat_issue`; did you mean `create_issue`?");
/// assert_eq!(error.retry_after(), None, "asking again is of no use");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client has no such method.
    #[error("there is no method `{method}`{}", .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownMethod {
        /// What was asked for.
        method: String,
        /// The known method that is nearest, if one is near.
        nearest: Option<String>,
    },
    /// The arguments do not suit the method; nothing was sent.
    #[error("arguments of `{method}`: {problem}")]
    InvalidArgs {
        /// The method.
        method: String,
        /// What is wrong, and what is expected; names the nearest argument.
        problem: String,
    },
    /// The provider's limit leaves no room within the caller's time, or the provider said so itself.
    #[error("over the provider's rate limit; try again in {} ms", .retry_after.as_millis())]
    RateLimited {
        /// When there is room again.
        retry_after: Duration,
    },
    /// A credential is missing or cannot be had.
    #[error("credentials: {0}")]
    Credentials(String),
    /// It took too long. The provider may have acted on it.
    #[error("no answer within {} ms", .limit.as_millis())]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// The provider could not be reached, or must not be.
    #[error("{0}")]
    Unreachable(String),
    /// The provider answered that it did not do it.
    #[error("the provider refused with status {status}: {message}")]
    Refused {
        /// The answer's status.
        status: u16,
        /// The provider's own words, shortened.
        message: String,
    },
    /// The answer is not what the provider's API promises.
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl ClientError {
    /// Says that there is no such method, and names the nearest of those that there are.
    pub fn unknown_method(method: &str, known: &[String]) -> Self {
        let nearest = nearest(method, known.iter().map(String::as_str));
        Self::UnknownMethod { method: method.to_owned(), nearest }
    }

    /// Returns the error's stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownMethod { .. } => "unknown_method",
            Self::InvalidArgs { .. } => "invalid_args",
            Self::RateLimited { .. } => "rate_limited",
            Self::Credentials(_) => "credentials",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Malformed(_) => "malformed",
            Self::Other(_) => "failed",
        }
    }

    /// Tells whether the same call may succeed later, and when; nothing where it is not known to be so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::Timeout { .. } | Self::Unreachable(_) => Some(Duration::ZERO),
            Self::Refused { status: 500.., .. } => Some(Duration::ZERO),
            _ => None,
        }
    }
}

/// The client of a connector that offers no methods.
pub struct NoMethods;

#[async_trait]
impl ConnectorClient for NoMethods {
    fn methods(&self) -> Vec<String> {
        Vec::new()
    }

    async fn call(&self, method: &str, _: Value) -> Result<Value, ClientError> {
        Err(ClientError::unknown_method(method, &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slow;

    #[async_trait]
    impl ConnectorClient for Slow {
        fn methods(&self) -> Vec<String> {
            vec!["wait".to_owned()]
        }

        async fn call(&self, _: &str, _: Value) -> Result<Value, ClientError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_call_ends_with_its_timeout() {
        let options = CallOptions { timeout: Duration::from_millis(5), ..CallOptions::default() };
        let error = Slow.call_with("wait", Value::Null, &options).await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout { limit } if limit == options.timeout));
        assert_eq!(error.retry_after(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_connector_without_methods_says_so() {
        let error = NoMethods.call("post_message", Value::Null).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no method `post_message`");
        assert_eq!(error.retry_after(), None);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["create_issue".to_owned(), "merge".to_owned()];
        let suggested = |name| match ClientError::unknown_method(name, &known) {
            ClientError::UnknownMethod { nearest, .. } => nearest,
            other => panic!("{other}"),
        };
        assert_eq!(suggested("create_isue").as_deref(), Some("create_issue"));
        assert_eq!(suggested("createIssue").as_deref(), Some("create_issue"));
        assert_eq!(suggested("zzz"), None);
    }
}
