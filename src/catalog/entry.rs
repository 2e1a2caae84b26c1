//! What an entry says, field by field. The engine that interprets it is `connector`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// Methods that the connector's client offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
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
}

fn webhook_only() -> Vec<TriggerKind> {
    vec![TriggerKind::Webhook]
}

fn three_days() -> u64 {
    72 * 60 * 60
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
    /// ECDSA signature on P-256.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    /// The provider calls a path.
    Webhook,
    /// The clock comes to a time of a schedule.
    Cron,
}

impl TriggerKind {
    /// Returns the kind's word, as configurations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            TriggerKind::Webhook => "webhook",
            TriggerKind::Cron => "cron",
        }
    }
}

/// The proof of a provider, in the vocabulary of `signature`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Where the proof stands.
    pub sig: String,
    /// Further places with a proof of the same form; any may match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Patterns of the proof's text; none means that it is the signature alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syntax: Vec<String>,
    /// Separator, where the proof's text is a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// Algorithm; default `hmac-sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// Accepted `alg` headers of tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algs: Vec<String>,
    /// Encoding; default `hex`, for tokens `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Template of what is signed; default `{body}`, for tokens `{secret}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Further templates, any of which may match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_also: Vec<String>,
    /// Pipe from the secret to the key; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the signed time stands, if not in the proof's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Unit of the signed time; default `s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Greatest accepted distance between the signed time and now, in seconds, in both directions;
    /// absent means that the time is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_s: Option<u64>,
    /// What must be equal beside the proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<Bind>,
    /// Whether every element of a batch carries a proof of its own, all of which must hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each: bool,
    /// Public keys that the provider publishes for everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// Where the provider's public keys are fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<NetworkKeys>,
    /// Whether the proof covers the body, where that does not follow from `content` and `binds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers_body: Option<bool>,
    /// Other forms of the proof, told apart by the request; the first one whose conditions hold counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// Another form of the proof: what it says replaces what the [`Signature`] says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// What tells the form; all must hold.
    pub when: Vec<Condition>,
    /// Fields of the signature.
    #[serde(flatten)]
    pub fields: toml::Table,
}

impl Signature {
    /// Returns the template of what is signed; none where the proof is a token that signs itself.
    pub fn signed_content(&self) -> Option<&str> {
        match (self.content.as_deref(), self.alg.as_deref()) {
            (Some(content), _) => Some(content),
            (None, Some("jwt")) => None,
            (None, Some("token")) => Some("{secret}"),
            (None, _) => Some("{body}"),
        }
    }

    /// Tells whether single fields of the body are signed.
    pub fn covers_fields(&self) -> bool {
        let is_field = |content: &str| ["{json:", "{item:", "{form"].iter().any(|at| content.contains(at));
        self.signed_content().is_some_and(is_field)
    }

    /// Returns the signature in the form of a variant.
    ///
    /// # Errors
    ///
    /// If the variant has a field that a signature does not have.
    pub fn varied(&self, variant: &Variant) -> Result<Self, toml::de::Error> {
        let mut table = toml::Table::try_from(Self { variants: Vec::new(), ..self.clone() })
            .expect("a signature was read from a table");
        table.extend(variant.fields.clone());
        table.try_into()
    }
}

/// An equality that must hold beside the proof, such as a claim that holds the body's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Where the value stands.
    pub at: String,
    /// Template of what it must be.
    pub equals: String,
    /// Bodies for which it is not asked: `form`, or `empty`, and then the value must be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<String>,
}

/// Where a provider's public keys are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkKeys {
    /// What the answer holds.
    pub from: KeyDocument,
    /// Template of the URL; only https is fetched.
    pub url: String,
    /// Hosts that may be asked; a `*` stands for one or more characters of one label. Default: the URL's
    /// host, which then must be no template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Method of the request.
    #[serde(default = "get")]
    pub method: String,
    /// Templates of the request's headers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Template of the request's body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// JSON pointer to the key in the answer, where that is JSON.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pointer: String,
    /// How long an answer is kept, in seconds.
    #[serde(default = "one_hour")]
    pub cache_s: u64,
}

fn get() -> String {
    "GET".to_owned()
}

fn one_hour() -> u64 {
    60 * 60
}

/// What the answer to a request for keys holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyDocument {
    /// A JSON Web Key Set (RFC 7517).
    Jwks,
    /// A certificate, PEM or DER.
    X509,
    /// A public key as PEM.
    Pem,
    /// JSON with a key somewhere in it: PEM, base64 of DER, or a JWK.
    Json,
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
