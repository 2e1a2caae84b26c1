//! What an entry says of the provider's handshakes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::status_ok;

/// A challenge by which a provider asks whether the URL is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// The provider's word for it.
    pub name: String,
    /// Methods with which it comes.
    #[serde(default = "post_only")]
    pub methods: Vec<String>,
    /// What tells it from a delivery; all must hold.
    pub when: Vec<Condition>,
    /// Whether it carries the provider's proof, which is then verified first.
    pub signed: bool,
    /// A secret that it brings; taken only while the trigger is armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<Learn>,
    /// Template of a URL that must be called before the answer; for signed handshakes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Hosts that may be called; a `*` stands for one or more characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub call_hosts: Vec<String>,
    /// The answer.
    #[serde(default)]
    pub reply: HandshakeReply,
}

fn post_only() -> Vec<String> {
    vec!["POST".to_owned()]
}

/// A condition on one value of a request. Without anything beside `at`, the value must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Where the value stands.
    pub at: String,
    /// The value must be this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// The value must not be there, or be empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The value must be the trigger's secret of this name; where all other conditions hold and this
    /// one does not, the request is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The value must be a word of up to 256 letters, digits and `+/=_.-`. For challenges that are answered
    /// with their keyed hash: whoever may have any text hashed can have deliveries signed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub word: bool,
}

/// A secret that a handshake brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learn {
    /// The secret's name, one of the entry's `secrets`.
    pub secret: String,
    /// Where its value stands.
    pub from: String,
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandshakeReply {
    /// Status.
    #[serde(default = "status_ok")]
    pub status: u16,
    /// Content type of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Template of the body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Templates of further headers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl Default for HandshakeReply {
    fn default() -> Self {
        Self { status: 200, content_type: None, body: String::new(), headers: BTreeMap::new() }
    }
}
