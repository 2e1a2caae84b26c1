//! A signature scheme: where the proof stands, what it covers, how it is computed. Here it is compiled;
//! verifying and signing are files of their own.

use zeroize::Zeroizing;

use super::jwt::{Alg, TimeClaim};
use super::key::{Key, Material};
use super::private_key::PrivateKey;
use super::public_key::PublicKey;
use super::{
    Algorithm, Encoding, Error, Fields, Filter, KeyError, Location, Slot, Syntax, Template, Unit, Values,
};

/// The text of a scheme, as a catalogue entry has it.
#[derive(Debug, Clone, Default)]
pub struct Text<'a> {
    /// Locations of the proof; several where a provider sends one proof per secret.
    pub sig: Vec<&'a str>,
    /// Patterns of the proof's text; none means that it is the signature alone.
    pub syntax: Vec<&'a str>,
    /// Separator, where the proof's text is a list.
    pub list: Option<&'a str>,
    /// Algorithm's name; default `hmac-sha256`.
    pub alg: Option<&'a str>,
    /// Accepted algorithms of tokens.
    pub algs: Vec<&'a str>,
    /// Encoding of the signature; default `hex`, for tokens `text`.
    pub encoding: Option<&'a str>,
    /// Templates of what is signed, any of which may match; none means `{body}`, for tokens `{secret}`.
    pub content: Vec<&'a str>,
    /// Pipe from the secret to the key's bytes; default none.
    pub key: Option<&'a str>,
    /// Location of the signed time, where it is not in the proof's text.
    pub timestamp: Option<&'a str>,
    /// Unit of the signed time; default `s`.
    pub unit: Option<&'a str>,
    /// Location of which of the sender's keys was used, where it is not in the proof's text.
    pub key_id: Option<&'a str>,
    /// Headers that must be among those that the request lists as signed.
    pub must_sign: Vec<&'a str>,
    /// Times that a token must state: `exp`, `nbf`, `iat`.
    pub must_claim: Vec<&'a str>,
    /// Locations of the delivery's id; the first one that has a value counts.
    pub id: Vec<&'a str>,
    /// What must be equal beside the proof.
    pub binds: Vec<BindText<'a>>,
    /// Whether each element of a batch carries a proof of its own.
    pub each: bool,
    /// Whether the proof covers the body, where that does not follow from the rest.
    pub covers_body: Option<bool>,
}

/// The text of an equality that must hold beside the proof.
#[derive(Debug, Clone, Default)]
pub struct BindText<'a> {
    /// Location of the value.
    pub at: &'a str,
    /// Template of what it must be.
    pub equals: &'a str,
    /// For which bodies it is not asked: `form`, or `empty`, and then the value must be absent.
    pub unless: Option<&'a str>,
}

/// An equality that must hold beside the proof.
#[derive(Debug, Clone)]
pub(super) struct Bind {
    pub(super) at: Slot,
    pub(super) equals: Template,
    unless: Option<Unless>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unless {
    Form,
    Empty,
}

impl Bind {
    fn new(text: &BindText<'_>, fields: &mut Fields) -> Result<Self, Error> {
        let unless = match text.unless {
            None => None,
            Some("form") => Some(Unless::Form),
            Some("empty") => Some(Unless::Empty),
            Some(other) => {
                return Err(Error::Word { what: "unless", text: other.to_owned(), known: "form, empty" });
            }
        };
        let at = fields.want_signed(text.at.parse()?);
        Ok(Self { at, equals: Template::signed(text.equals, fields)?, unless })
    }

    /// Tells whether the equality is asked of a request.
    pub(super) fn applies(&self, values: &Values<'_>) -> bool {
        let request = values.request();
        match self.unless {
            None => true,
            Some(Unless::Form) => !request.is_form(),
            Some(Unless::Empty) => !request.body.is_empty(),
        }
    }

    /// Tells whether the value must not be there: it was made for a body, and there is none.
    pub(super) fn forbids(&self, values: &Values<'_>) -> bool {
        self.unless == Some(Unless::Empty)
            && values.request().body.is_empty()
            && values.get(self.at).is_some()
    }
}

/// A compiled scheme.
///
/// # Examples
///
/// A connector in code whose provider signs in a style of its own: `X-Acme-Proof: t=<unix>,s=<base64>`, HMAC-SHA512 over
/// `{timestamp}.{body}`. It compiles the scheme once, and verifies each request with it:
///
/// ```
/// use std::time::Duration;
///
/// use hookkeeper::connector::{InboundCtx, RawInbound, Rejection};
/// use hookkeeper::secrets::Secret;
/// use hookkeeper::signature::{Error, Fields, Key, Request, Scheme, Text, Values, Window};
///
/// struct Style {
///     scheme: Scheme,
///     fields: Fields,
/// }
///
/// impl Style {
///     fn new() -> Result<Self, Error> {
///         let text = Text {
///             sig: vec!["header:X-Acme-Proof"],
///             syntax: vec!["t={timestamp},s={sig}"],
///             alg: Some("hmac-sha512"),
///             encoding: Some("base64"),
///             content: vec!["{timestamp}.{body}"],
///             ..Text::default()
///         };
///         let mut fields = Fields::new(None);
///         Ok(Self { scheme: Scheme::new(&text, &mut fields)?, fields })
///     }
///
///     /// Returns which secret verifies the request. A secret that cannot serve is left out.
///     fn verify(&self, raw: &RawInbound, secrets: &[Secret], ctx: InboundCtx<'_>) -> Result<usize, Rejection> {
///         let keys: Vec<Key> = secrets.iter().filter_map(|it| self.scheme.key(it.expose()).ok()).collect();
///         let (method, url, headers, body) = (&raw.method, &raw.url, &raw.headers, &raw.body);
///         let request = Request { method, url, public_url: None, headers, body };
///         let window = Window { now: ctx.now, tolerance: Some(Duration::from_secs(300)) };
///         let proof = self.scheme.verify(&keys, &Values::new(&self.fields, request), window);
///         proof.map(|it| it.key_index).map_err(|it| Rejection::new(it.reason(), it.to_string()))
///     }
/// }
///
/// let style = Style::new()?;
/// let raw = RawInbound {
///     method: "POST".to_owned(),
///     url: "/hooks/acme".to_owned(),
///     headers: vec![(
///         "x-acme-proof".to_owned(),
///         "t=1700000000,s=QirkPPEugJMA8qmVZ4OMF4Csql5eHH2WPPHCny91Ii5r\
///          ehJhhKypmcboH4F3d+N49ecfFGNur5milsalubOrOg==".into(),
///     )],
///     body: "{}".into(),
///     received_at: "2023-11-14T22:13:20Z".parse()?,
///     peer: None,
/// };
/// let trigger_id = "shop".parse()?;
/// let ctx = InboundCtx { trigger_id: &trigger_id, now: raw.received_at, armed: false, keys: &[], audit: &|_| () };
/// let verified = style.verify(&raw, &[Secret::new("an old one"), Secret::new("hunter2hunter2")], ctx);
/// assert_eq!(verified, Ok(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Scheme {
    pub(super) sigs: Vec<Slot>,
    pub(super) syntax: Syntax,
    pub(super) algorithm: Algorithm,
    pub(super) algs: Vec<Alg>,
    pub(super) encoding: Encoding,
    pub(super) contents: Vec<Template>,
    key: Vec<Filter>,
    pub(super) timestamp: Option<Slot>,
    pub(super) unit: Unit,
    pub(super) key_id: Option<Slot>,
    pub(super) must_sign: Vec<String>,
    pub(super) must_claim: Vec<TimeClaim>,
    pub(super) ids: Vec<Slot>,
    pub(super) binds: Vec<Bind>,
    each: bool,
    covers_body: bool,
}

impl Scheme {
    /// Compiles a scheme; the locations that it names are added to `fields`.
    ///
    /// # Errors
    ///
    /// If a part of the text cannot be read, or if the scheme has a signed time that it does not sign.
    pub fn new(text: &Text<'_>, fields: &mut Fields) -> Result<Self, Error> {
        if text.sig.is_empty() {
            return Err(Error::Location(String::new()));
        }
        let algorithm = text.alg.map_or(Ok(Algorithm::default()), str::parse)?;
        let default = if algorithm == Algorithm::Token { "{secret}" } else { "{body}" };
        let content = if text.content.is_empty() { &[default][..] } else { &text.content[..] };
        let contents: Vec<Template> =
            content.iter().map(|text| Template::signed(text, fields)).collect::<Result<_, Error>>()?;
        let mut slot = |location: &str| Ok(fields.want_signed(location.parse()?));
        let sigs = text.sig.iter().map(|location| slot(location)).collect::<Result<_, Error>>()?;
        let ids = text.id.iter().map(|location| slot(location)).collect::<Result<_, Error>>()?;
        let timestamp = text.timestamp.map(&mut slot).transpose()?;
        let key_id = text.key_id.map(slot).transpose()?;
        let binds = text.binds.iter().map(|text| Bind::new(text, fields)).collect::<Result<_, Error>>()?;
        let mut scheme = Self {
            sigs,
            syntax: Syntax::new(&text.syntax, text.list)?,
            algorithm,
            algs: text.algs.iter().map(|alg| alg.parse()).collect::<Result<_, Error>>()?,
            encoding: text.encoding.map_or(Ok(algorithm.encoding()), str::parse)?,
            contents,
            key: Filter::pipe(text.key.unwrap_or_default())?,
            timestamp,
            unit: text.unit.map_or(Ok(Unit::default()), str::parse)?,
            key_id,
            must_sign: text.must_sign.iter().map(|name| (*name).to_owned()).collect(),
            must_claim: text.must_claim.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            ids,
            binds,
            each: text.each,
            covers_body: false,
        };
        if matches!(fields.location(scheme.sigs[0]), Location::Header(name) if name == "authorization") {
            scheme.syntax.ignore_case_of_first_word();
        }
        scheme.covers_body = text.covers_body.unwrap_or_else(|| scheme.derive_covers_body(fields));
        scheme.validate(content[0], fields)?;
        Ok(scheme)
    }

    /// Holds what would make the scheme worthless.
    fn validate(&self, content: &str, fields: &Fields) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::Template { text: content.to_owned(), what: what.to_owned() });
        if self.has_unsigned_timestamp(fields) {
            return wrong("the timestamp is not part of it, so anybody could renew it");
        }
        if self.contents.iter().any(|content| content.lists().next().is_some()) == self.must_sign.is_empty() {
            return wrong("`must_sign` belongs to a list of signed headers, and a list needs it");
        }
        let needs_secret = matches!(self.algorithm, Algorithm::Digest(_) | Algorithm::Token);
        if needs_secret && !self.contents.iter().all(Template::covers_secret) {
            return wrong("the secret is not part of it, so anybody could make the proof");
        }
        if self.algorithm == Algorithm::Jwt && self.algs.is_empty() {
            return wrong("`algs` must say which algorithms of tokens are accepted");
        }
        if self.algorithm != Algorithm::Jwt && !self.must_claim.is_empty() {
            return wrong("`must_claim` belongs to tokens");
        }
        let shared = self.algs.iter().filter(|alg| alg.public().is_none()).count();
        if shared > 0 && shared < self.algs.len() {
            return wrong("`algs` mixes shared secrets and public keys, and a public key is no secret");
        }
        Ok(())
    }

    fn derive_covers_body(&self, fields: &Fields) -> bool {
        let is_token = self.algorithm == Algorithm::Jwt;
        if is_token && self.sigs.iter().all(|slot| *fields.location(*slot) == Location::Body) {
            return true;
        }
        let is_proven = |slot: Slot| match fields.location(slot) {
            Location::Claim(_) => true,
            Location::Query(_) => self.contents.iter().all(Template::covers_query),
            _ => self.contents.iter().all(|content| content.slots().any(|signed| signed == slot)),
        };
        let is_bound = self.binds.iter().any(|bind| bind.equals.covers_body() && is_proven(bind.at));
        is_bound || !is_token && self.contents.iter().all(Template::covers_body)
    }

    fn has_unsigned_timestamp(&self, fields: &Fields) -> bool {
        let Some(slot) = self.timestamp else {
            return self.syntax.has_timestamp() && !self.contents.iter().all(Template::covers_timestamp);
        };
        let location = fields.location(slot);
        let is_covered = |content: &Template| {
            content.covers_timestamp()
                || content.slots().any(|signed| signed == slot)
                || in_body(location) && content.covers_body()
                || self.carries(content, location, fields)
        };
        !matches!(location, Location::Claim(_)) && !self.contents.iter().all(is_covered)
    }

    /// Tells whether a content covers what stands in a place that it does not name: among the headers that it lists,
    /// or in the head of the proof.
    fn carries(&self, content: &Template, location: &Location, fields: &Fields) -> bool {
        match location {
            Location::Header(name) => {
                let is_named = self.must_sign.iter().any(|known| known.eq_ignore_ascii_case(name));
                is_named && content.lists().next().is_some()
            }
            Location::Packed(name, _) => {
                let is_proof = |place: &Location| matches!(place, Location::Header(known) if known == name);
                content.covers_head() && self.places(fields).all(is_proof)
            }
            _ => false,
        }
    }

    /// Prepares a key of a secret. Where the provider signs with a private key, the secret is its public
    /// one.
    ///
    /// # Errors
    ///
    /// If the secret protects nothing, or does not have the form that the scheme needs.
    pub fn key(&self, secret: &[u8]) -> Result<Key, KeyError> {
        let bytes = self.key_bytes(secret)?;
        let key = Key::new(self.algorithm, &self.algs, &bytes)?;
        Ok(Key { secret: self.secret_of(&bytes), ..key })
    }

    /// Returns the bytes of the key that a secret stands for.
    ///
    /// # Errors
    ///
    /// As for [`key`](Self::key).
    pub fn key_bytes(&self, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if secret.iter().all(|b| *b == 0 || b.is_ascii_whitespace()) {
            return Err(KeyError::Blank);
        }
        let is_public = self.takes_public_key() && PublicKey::is_self_describing(secret);
        let pipe = if is_public { &[][..] } else { &self.key[..] };
        let key = Filter::apply_all(pipe, secret).ok_or(KeyError::Form)?;
        // An HMAC pads its key with NUL, so that a key of NUL is the empty key.
        if key.iter().all(|b| *b == 0) { Err(KeyError::Blank) } else { Ok(Zeroizing::new(key.into_owned())) }
    }

    /// Prepares a key of bytes that did not go through the scheme's key pipe, to find out how a
    /// signature was made that does not verify.
    pub fn key_of_bytes(&self, bytes: &[u8]) -> Option<Key> {
        let key = Key::new(self.algorithm, &self.algs, bytes).ok()?;
        Some(Key { secret: self.secret_of(bytes), ..key })
    }

    /// Takes one of the provider's public keys; `secret` is the operator's value that is signed with the
    /// content, where there is one. Nothing comes of a key that does not fit the scheme.
    pub fn key_of_public(&self, key: &PublicKey, secret: Option<&[u8]>) -> Option<Key> {
        let key = Key::of_public(self.algorithm, &self.algs, key)?;
        Some(Key { secret: secret.and_then(|secret| self.secret_of(secret)), ..key })
    }

    fn secret_of(&self, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.needs_secret().then(|| Zeroizing::new(bytes.to_vec()))
    }

    /// Tells whether what is signed includes the secret.
    pub fn needs_secret(&self) -> bool {
        self.contents.iter().any(Template::covers_secret)
    }

    /// Tells whether the provider signs with a private key, or may.
    pub fn takes_public_key(&self) -> bool {
        self.private_scheme().is_some()
    }

    /// Returns how a private key signs, where the provider signs with one.
    pub fn private_scheme(&self) -> Option<super::public_key::Scheme> {
        self.algorithm.public().or_else(|| self.algs.iter().find_map(|alg| alg.public()))
    }

    /// Tells whether whoever sees the proof once can send other requests with it.
    pub fn is_bearer(&self) -> bool {
        self.algorithm == Algorithm::Token
    }

    /// Tells whether each element of a batch carries a proof of its own.
    pub fn is_each(&self) -> bool {
        self.each
    }

    /// Returns where the proof may stand.
    pub fn places<'f>(&self, fields: &'f Fields) -> impl Iterator<Item = &'f Location> {
        self.sigs.iter().map(|slot| fields.location(*slot))
    }

    /// Tells whether the proof covers the body.
    pub fn covers_body(&self) -> bool {
        self.covers_body
    }

    /// Tells whether the proof covers the URL or its path.
    pub fn covers_url(&self) -> bool {
        let bound = self.binds.iter().map(|bind| &bind.equals);
        self.contents.iter().chain(bound).any(Template::covers_url)
    }

    /// Returns the same scheme with its signatures in another encoding, to find out how a signature was
    /// written that does not verify.
    pub fn with_encoding(&self, encoding: Encoding) -> Self {
        Self { encoding, ..self.clone() }
    }

    /// Returns the same scheme with its signed time in another unit, to find out how it was written.
    pub fn with_unit(&self, unit: Unit) -> Self {
        Self { unit, ..self.clone() }
    }

    /// Returns the algorithms of tokens that are accepted, for people.
    pub fn accepted_algorithms(&self) -> String {
        self.algs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Tells whether the proof covers the delivery's id.
    pub fn covers_id(&self) -> bool {
        self.contents.iter().any(Template::covers_id)
    }

    /// Tells whether the scheme needs the URL under which the provider knows the trigger.
    pub fn needs_public_url(&self) -> bool {
        let mut templates = self.contents.iter().chain(self.binds.iter().map(|bind| &bind.equals));
        templates.any(Template::needs_public_url)
    }

    /// Says what the proof's text looks like, such as `sha256=<hex>`.
    pub fn form(&self) -> String {
        let signature = match self.algorithm {
            Algorithm::Jwt => "<token>".to_owned(),
            Algorithm::Token if self.encoding == Encoding::Text => "<secret>".to_owned(),
            _ => format!("<{}>", self.encoding),
        };
        self.syntax.write(&signature, "<timestamp>", "<id>", "<base64url>")
    }

    /// Tells whether signing anew also renews the signed time: it does not where there is none, or
    /// where it stands in the body.
    pub fn renews_timestamp(&self, fields: &Fields) -> bool {
        let renewed = self.timestamp.is_some_and(|slot| {
            matches!(fields.location(slot), Location::Header(_) | Location::Claim(_) | Location::Packed(..))
        });
        renewed || self.syntax.has_timestamp() || self.algorithm == Algorithm::Jwt
    }

    /// Returns the lower-case names of the headers that [`sign`](Self::sign) writes.
    pub fn signed_headers<'f>(&self, fields: &'f Fields) -> Vec<&'f str> {
        let slots = self.sigs.iter().take(1).copied().chain(self.timestamp);
        let names = slots.filter_map(|slot| match fields.location(slot) {
            Location::Header(name) | Location::Packed(name, _) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// Returns the header that carries the delivery's id, if it is a header.
    pub fn id_header<'f>(&self, fields: &'f Fields) -> Option<&'f str> {
        self.ids.iter().find_map(|slot| match fields.location(*slot) {
            Location::Header(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Prepares what signs with a shared secret.
    ///
    /// # Errors
    ///
    /// As for [`key`](Self::key), and for schemes that sign with a private key.
    pub fn signing_key(&self, secret: &[u8]) -> Result<SigningKey, KeyError> {
        let key = self.key(secret)?;
        if matches!(&key.material, Material::Public(_) | Material::Jwt(super::jwt::JwtKey::Public(_))) {
            return Err(KeyError::Form);
        }
        Ok(SigningKey { bytes: self.key_bytes(secret)?, with: SignsWith::Shared(Box::new(key)) })
    }

    /// Prepares what signs with a private key that stands for the provider's; `secret` is the operator's
    /// value that is signed with the content, where there is one. Nothing comes of a key that does not
    /// fit the scheme.
    pub fn private_signing_key(&self, private: PrivateKey, secret: Option<&[u8]>) -> Option<SigningKey> {
        self.key_of_public(&private.public(), secret)?;
        let bytes = Zeroizing::new(secret.unwrap_or_default().to_vec());
        Some(SigningKey { bytes, with: SignsWith::Private(private) })
    }
}

/// What signs as the provider does.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The shared key's bytes, or the operator's value that is signed with the content.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) with: SignsWith,
}

#[derive(Clone, Debug)]
pub(super) enum SignsWith {
    Shared(Box<Key>),
    Private(PrivateKey),
}

/// Tells whether a value is covered with the body that it is part of.
pub(super) fn in_body(location: &Location) -> bool {
    matches!(location, Location::Json(_) | Location::Form(_) | Location::Item(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiles(content: &str, timestamp: &str, must_sign: &[&'static str]) -> bool {
        let text = Text {
            sig: vec!["header:X-Sig"],
            syntax: vec!["{head}..{sig}"],
            content: vec![content],
            timestamp: Some(timestamp),
            must_sign: must_sign.to_vec(),
            ..Text::default()
        };
        Scheme::new(&text, &mut Fields::default()).is_ok()
    }

    #[test]
    fn a_list_of_signed_headers_says_which_must_be_on_it() {
        let listed = "{headers:header:X-List}{body}";
        assert!(compiles(listed, "header:X-Time", &["x-time"]));
        assert!(!compiles(listed, "header:X-Time", &["x-list"]), "the time may be left out");
        assert!(!compiles(listed, "header:X-Time", &[]));
        assert!(!compiles("{body}{timestamp}", "header:X-Time", &["x-time"]), "there is no list");
    }

    #[test]
    fn what_is_packed_is_signed_with_the_head_that_packs_it() {
        assert!(compiles("{head}.{body}", "packed:X-Sig/ts", &[]));
        assert!(!compiles("{body}", "packed:X-Sig/ts", &[]));
        assert!(!compiles("{head}.{body}", "packed:X-Other/ts", &[]));
    }
}
