//! What an entry says, field by field. The engine that interprets it is `connector`.

mod handshake;
mod signature;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::handshake::{Condition, Handshake, HandshakeReply, Learn};
pub use self::signature::{Bind, KeyDocument, NetworkKeys, Signature, Variant};
use super::ClientSpec;
use crate::event::ProviderId;

/// One provider: all that is known of how it sends webhooks.
///
/// Locations, templates, pipes and syntaxes are text here; the vocabulary is `signature`'s. `${name}`
/// in a text stands for the trigger's setting of that name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// The provider's id.
    pub id: ProviderId,
    /// Its name as people write it; default: the id.
    #[serde(default)]
    pub name: String,
    /// What kind of proof it sends; default: what the signature's algorithm says.
    #[serde(default)]
    pub family: Family,
    /// The provider whose other scheme this entry describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_of: Option<ProviderId>,
    /// What judges its deliveries: this entry's data (the default), or a connector in code. As long as a program has
    /// registered none under the entry's id, the entry is a placeholder, which no trigger can use.
    #[serde(default, skip_serializing_if = "Backing::is_data")]
    pub connector: Backing,
    /// How well the entry's facts are known.
    #[serde(default)]
    pub confidence: Confidence,
    /// The provider's own page on its webhooks. Like `source` and `read_on`, built-in entries have it.
    #[serde(default)]
    pub docs: String,
    /// What was read for this entry: page, package and version, section.
    #[serde(default)]
    pub source: String,
    /// The day of reading, `YYYY-MM-DD`.
    #[serde(default)]
    pub read_on: String,
    /// The proof; absent for a provider that sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// How a delivery becomes an event.
    #[serde(default)]
    pub event: Event,
    /// What the provider wants as an answer.
    #[serde(default)]
    pub ack: Ack,
    /// How the provider asks whether the URL is ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handshakes: Vec<Handshake>,
    /// The secrets that a trigger needs; default: one, the main secret, if there is a signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSpec>,
    /// What a trigger may set, for entries that leave something open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// Ways in which triggers of the provider are set off.
    #[serde(default = "webhook_only")]
    pub kinds: Vec<TriggerKind>,
    /// Methods that the connector's client offers; with a `client`, they follow from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// How the provider's API is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientSpec>,
    /// Headers and query parameters that are credentials, beside the headers `authorization`,
    /// `proxy-authorization` and `cookie`, and the places of a proof that is itself the secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// Most bytes of a body that the provider sends, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit_bytes: Option<u64>,
    /// How long a dedupe key is remembered, in seconds; longer where the provider retries longer.
    #[serde(default = "three_days")]
    pub dedupe_window_s: u64,
    /// What surprises people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gotchas: Vec<String>,
    /// Deliveries as the provider sends them, for `send` and tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Whether a connector in code is registered, which serves the provider in place of this entry's interpreter.
    #[serde(skip)]
    pub is_coded: bool,
}

impl ProviderEntry {
    /// Returns the entry of a provider that only a connector in code knows.
    pub fn of_code(id: ProviderId) -> Self {
        Self {
            name: id.to_string(),
            id,
            family: Family::None,
            variant_of: None,
            connector: Backing::Code,
            confidence: Confidence::Own,
            docs: String::new(),
            source: "its connector's own code".to_owned(),
            read_on: String::new(),
            signature: None,
            event: Event::default(),
            ack: Ack::default(),
            handshakes: Vec::new(),
            secrets: Vec::new(),
            settings: Vec::new(),
            kinds: webhook_only(),
            outbound: Vec::new(),
            client: None,
            credentials: Vec::new(),
            body_limit_bytes: None,
            dedupe_window_s: three_days(),
            gotchas: Vec::new(),
            samples: Vec::new(),
            is_coded: true,
        }
    }
}

fn webhook_only() -> Vec<TriggerKind> {
    vec![TriggerKind::Webhook]
}

fn three_days() -> u64 {
    72 * 60 * 60
}

/// What a provider's connector is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backing {
    /// The entry's data: its interpreter is the connector.
    #[default]
    Data,
    /// Code that a program registers.
    Code,
}

impl Backing {
    fn is_data(&self) -> bool {
        *self == Backing::Data
    }
}

/// What kind of proof a provider sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Keyed hash over the raw body.
    #[default]
    Hmac,
    /// Keyed hash over a template that includes a signed time.
    HmacTimestamped,
    /// The Standard Webhooks scheme.
    StandardWebhooks,
    /// Keyed hash that also covers URL, method, query, form fields or chosen headers.
    HmacUrl,
    /// Keyed hash over fields picked out of the body.
    HmacFields,
    /// Plain hash of a content that includes the secret.
    Digest,
    /// The secret itself.
    Token,
    /// User name and password.
    Basic,
    /// Ed25519 signature.
    Ed25519,
    /// ECDSA signature on P-256 or P-521.
    Ecdsa,
    /// RSA signature.
    Rsa,
    /// Signed token whose claims are bound to the request.
    Jwt,
    /// Nothing.
    None,
}

/// How well an entry's facts are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Read in the source of the provider's own SDK.
    SdkSource,
    /// Read in the provider's own documentation.
    Docs,
    /// Read in somebody else's verifier.
    Secondary,
    /// Not confirmed.
    Experimental,
    /// The user's own: there is no outside truth to compare with.
    #[default]
    Own,
}

/// How a trigger is set off.
///
/// # Examples
///
/// ```
/// use hookkeeper::TriggerKind;
///
/// assert_eq!(TriggerKind::Poll.as_str(), "poll");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    /// The provider calls a path.
    Webhook,
    /// The clock comes to a time of a schedule.
    Cron,
    /// By asking the provider what is new, again and again.
    Poll,
}

impl TriggerKind {
    /// Returns the kind's word, as configurations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            TriggerKind::Webhook => "webhook",
            TriggerKind::Cron => "cron",
            TriggerKind::Poll => "poll",
        }
    }
}

/// How a delivery becomes an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Name of the payload's schema.
    #[serde(default = "any_payload")]
    pub schema: String,
    /// Templates of the kind; the first one whose values are all there counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<String>,
    /// Locations of the delivery's id, or templates; the first one that has a value counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivery: Vec<String>,
    /// Where the provider says when it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Unit of `at`; default `s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_at: Option<String>,
    /// Form field that holds the JSON where a body is form-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwrap: Option<String>,
    /// Where a batch has its elements: `json:` and a pointer to an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            schema: any_payload(),
            kind: Vec::new(),
            delivery: Vec::new(),
            at: None,
            unit_at: None,
            unwrap: None,
            items: None,
        }
    }
}

fn any_payload() -> String {
    "AnyPayload".to_owned()
}

/// What the provider wants as an answer to a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Status of the answer.
    #[serde(default = "status_ok")]
    pub status: u16,
    /// Body of the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Content type of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How long the provider waits for the answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_s: Option<u64>,
    /// What the provider does when no such answer comes, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<String>,
}

impl Default for Ack {
    fn default() -> Self {
        Self { status: 200, body: String::new(), content_type: None, within_s: None, retries: None }
    }
}

fn status_ok() -> u16 {
    200
}

/// The provider's main secret has this name in every entry.
pub const SIGNING_SECRET: &str = "signing_secret";

/// A secret that a trigger needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    /// Its name in a trigger's `secrets`.
    pub name: String,
    /// The namespace that it lives under: the entry's id.
    pub namespace: String,
    /// Where people find it at the provider, and what it looks like.
    pub about: String,
    /// Whether a handshake brings it, so that a trigger may start without it.
    #[serde(default)]
    pub learned: bool,
    /// What values begin with, such as `whsec_`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// How the random bytes of a value are written: `hex` (default), `base64` or `base64url`.
    #[serde(default = "hex")]
    pub encoding: String,
}

fn hex() -> String {
    "hex".to_owned()
}

impl SecretSpec {
    /// The main secret of an entry that says nothing of its secrets.
    pub(super) fn main_of(id: &ProviderId) -> Self {
        Self {
            name: SIGNING_SECRET.to_owned(),
            namespace: id.to_string(),
            about: "the key that you and the provider share".to_owned(),
            learned: false,
            prefix: String::new(),
            encoding: hex(),
        }
    }
}

/// Something that an entry leaves to the trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name in a trigger's `settings`, and between `${` and `}` in the entry's texts.
    pub name: String,
    /// What it decides, with an example.
    pub about: String,
    /// Its value where the trigger says nothing; may use settings that stand before it. Without a
    /// default the trigger must say something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// A delivery as the provider sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The kind of the event that it becomes.
    pub kind: String,
    /// Method.
    #[serde(default = "post")]
    pub method: String,
    /// Query with its question mark, where the delivery has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Headers beside those of the proof, the kind and the delivery's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body. `@id@` is replaced by a fresh id, `@now_s@`, `@now_ms@` and `@now_rfc3339@` by the
    /// time, `@sig@` by a proof that is part of the body, `@secret:NAME@` by a secret of the trigger.
    pub body: String,
}

fn post() -> String {
    "POST".to_owned()
}
