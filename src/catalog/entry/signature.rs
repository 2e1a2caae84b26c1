//! What an entry says of the provider's proof.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Condition;

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
    /// Where it stands which of the provider's keys was used, if not in the proof's text or a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Headers that must be among the signed ones where the request lists these itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub must_sign: Vec<String>,
    /// Times that a token must state, of `exp`, `nbf` and `iat`; what a token states of the first two is held
    /// anyhow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub must_claim: Vec<String>,
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
        let is_field = |content: &str| {
            ["{json:", "{item:", "{form", "{body.keyed"].iter().any(|at| content.contains(at))
        };
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
