//! What the admin API answers when it does not do what it was asked: RFC 9457 problem details.

use serde_json::{Value, json};

use super::view::shown;
use crate::config::nearest;
use crate::event_log;
use crate::provider::ChangeError;

/// A refusal or failure, with a stable code and a sentence that helps.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable code, such as `unknown_parameter`.
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: String,
    /// Further members, for programs.
    pub members: Vec<(&'static str, Value)>,
}

/// The media type of problem details.
pub const MEDIA_TYPE: &str = "application/problem+json";

impl Problem {
    /// Returns a problem.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), members: Vec::new() }
    }

    /// Adds a member.
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.members.push((name, value));
        self
    }

    /// 400: the request makes no sense.
    pub fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(400, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(404, "not_found", format!("there is no {what} {id}"))
    }

    /// 404: among the `known` things there is none of the id; names the nearest.
    pub fn unknown<'k>(what: &str, id: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        let near = nearest(id, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Self::new(404, "not_found", format!("there is no {what} {}{near}", shown(id)))
    }

    /// 409: the thing is not in a state that allows it.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(409, code, detail)
    }

    /// 500: our failure. The detail goes to the log, not to the caller.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %error, "admin request failed");
        Self::new(500, "internal", "hookkeeper failed; its log says why")
    }

    /// Returns the problem as its JSON object.
    pub fn to_json(&self) -> Value {
        let reason =
            http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut json = json!({
            "type": format!("urn:hookkeeper:problem:{}", self.code),
            "title": reason.unwrap_or("Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        });
        for (name, value) in &self.members {
            json[*name] = value.clone();
        }
        json
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoTrigger(id) => Self::not_found("trigger", id),
            ChangeError::Log(error) => error.into(),
            ChangeError::NotRunning(_) => Self::new(
                503,
                "provider_restarting",
                "the trigger's provider is being restarted; try again in a few seconds",
            ),
        }
    }
}

impl From<event_log::Error> for Problem {
    fn from(error: event_log::Error) -> Self {
        match error {
            event_log::Error::Closed => Self::new(503, "closed", "the log takes no changes now"),
            event_log::Error::Failing(_) => Self::new(
                503,
                "log_failing",
                "the log takes nothing more; /readyz and hookkeeper's log say why",
            ),
            event_log::Error::Full => Self::new(503, "disk_full", "the disk of the data folder is full"),
            other => Self::internal(&other),
        }
    }
}
