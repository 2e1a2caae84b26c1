//! What one trigger does with a request: handshake, proof, normalization. Pure; built once per
//! trigger, shared by all workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::keys::{self, FetchedKey, KeyRequest};
use super::plan::{BuildError, Form, Handshake, KeySource, Plan, list};
use super::{BatchPart, NormalizeResult, Normalized, RawInbound, Rejection, Reply};
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::event::{RejectReason, SignatureStatus, Timestamp};
use crate::secrets::Secret;
use crate::settings::Dedupe;
use crate::signature::{Context, Encoding, Key, Named, Problem, Request, Scheme, Template, Values, Window};

/// Longest kind, in bytes; the rest is cut off.
pub const KIND_BYTES_MAX: usize = 256;
/// Longest dedupe key, in bytes; a longer one is replaced by its SHA-256.
pub const DEDUPE_KEY_BYTES_MAX: usize = 512;
/// The kind of a delivery that does not say one.
pub const UNKNOWN_KIND: &str = "unknown";

/// What a trigger adds to its provider's entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerSettings {
    /// Secrets by the name that the entry gives them; of each list the first is current.
    pub secrets: BTreeMap<String, Vec<Secret>>,
    /// Overrides the provider's tolerance.
    pub tolerance: Option<Duration>,
    /// The trigger's URL as it is registered at the provider, without its query; for schemes that sign it.
    pub public_url: Option<String>,
    /// Values for what the entry leaves open.
    pub settings: BTreeMap<String, String>,
    /// What identifies a delivery.
    pub dedupe: Dedupe,
    /// Public keys as text that stand in place of those that the provider publishes.
    pub public_keys: Vec<String>,
}

impl TriggerSettings {
    /// Returns the settings of a trigger that has these main secrets and nothing else.
    pub fn of_secrets(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let secrets = BTreeMap::from([(SIGNING_SECRET.to_owned(), secrets.into_iter().collect())]);
        Self { secrets, ..Self::default() }
    }
}

/// What a request is judged with, beside itself.
#[derive(Debug, Clone, Copy)]
pub struct Judging<'a> {
    /// The present.
    pub now: Timestamp,
    /// Whether a handshake may bring a secret now.
    pub armed: bool,
    /// The keys that [`Verifier::wanted_keys`] asked for.
    pub keys: &'a [FetchedKey],
}

impl Judging<'_> {
    /// Judges at a time, without keys of the provider and not armed.
    pub fn at(now: Timestamp) -> Self {
        Self { now, armed: false, keys: &[] }
    }
}

/// Verifies and normalizes the requests of one trigger.
#[derive(Debug, Clone)]
pub struct Verifier {
    plan: Arc<Plan>,
    /// For each form of the proof its keys.
    keys: Vec<Vec<Key>>,
    /// Whether [`keys`](Self::keys) are one for each secret of the main list, in its order.
    keys_are_secrets: bool,
    secrets: BTreeMap<String, Vec<Secret>>,
    named: Named,
    tolerance: Option<Duration>,
    public_url: Option<String>,
    dedupe: Dedupe,
}

/// A proof that holds, and the form that it has.
struct Proven {
    key_index: Option<usize>,
    covers_body: bool,
}

impl Verifier {
    /// Compiles an entry for a trigger.
    ///
    /// A trigger may have no secret yet: then every request that carries a proof is refused with
    /// `invalid_signature`, and a handshake that brings the secret is still answered.
    ///
    /// # Errors
    ///
    /// If a secret is blank, has not the provider's form or is not known to the entry, or if a
    /// setting is missing, unknown, or makes no sense.
    pub fn new(entry: &Arc<ProviderEntry>, trigger: &TriggerSettings) -> Result<Self, BuildError> {
        let plan = Plan::new(entry, &trigger.settings)?;
        let known = |name: &str| entry.secrets.iter().any(|secret| secret.name == name);
        if let Some(name) = trigger.secrets.keys().find(|name| !known(name)) {
            return Err(BuildError::UnknownSecret {
                provider: entry.id.to_string(),
                name: name.clone(),
                known: list(entry.secrets.iter().map(|secret| secret.name.as_str())),
            });
        }
        if let Some((name, _)) = trigger.secrets.iter().find(|(_, list)| list.iter().any(Secret::is_blank)) {
            return Err(keys::blank(&plan, name, &trigger.secrets[name]));
        }
        let secrets = trigger.secrets.get(SIGNING_SECRET).map(Vec::as_slice).unwrap_or_default();
        let public = keys::given_public_keys(&trigger.public_keys)?;
        let keys = plan
            .forms
            .iter()
            .map(|form| keys::keys(&plan, form, secrets, public.as_deref()))
            .collect::<Result<_, _>>()?;
        let keys_are_secrets =
            plan.main_form().is_some_and(|form| keys::are_secrets(form, public.as_deref()));
        Ok(Self {
            keys,
            keys_are_secrets,
            plan: Arc::new(plan),
            named: keys::named(&trigger.secrets),
            secrets: trigger.secrets.clone(),
            tolerance: trigger.tolerance,
            public_url: trigger.public_url.clone(),
            dedupe: trigger.dedupe,
        })
    }

    /// Returns the provider's entry.
    pub fn entry(&self) -> &Arc<ProviderEntry> {
        &self.plan.entry
    }

    /// Tells whether there is a secret to verify with, or none is needed.
    pub fn has_secret(&self) -> bool {
        self.plan.main_form().is_some_and(|form| form.keys.is_some())
            || self.keys.last().is_some_and(|keys| !keys.is_empty())
    }

    /// Tells whether a delivery says with which secret of the main list it verified.
    pub fn tells_secrets(&self) -> bool {
        self.keys_are_secrets
    }

    /// Returns the methods that the trigger's path takes: POST, and what handshakes come with.
    pub fn methods(&self) -> Vec<&str> {
        let mut methods = vec!["POST"];
        for method in self.plan.handshakes.iter().flat_map(|handshake| &handshake.methods) {
            if !methods.contains(&method.as_str()) {
                methods.push(method);
            }
        }
        methods
    }

    fn request<'a>(&'a self, raw: &'a RawInbound) -> Request<'a> {
        Request {
            method: &raw.method,
            url: &raw.url,
            public_url: self.public_url.as_deref(),
            headers: &raw.headers,
            body: &raw.body,
        }
    }

    fn values<'a>(&'a self, raw: &'a RawInbound) -> Values<'a> {
        Values::new(&self.plan.fields, self.request(raw)).with_named(&self.named)
    }

    /// Says which of the provider's public keys a request must be verified with, where they come from
    /// the network; the caller fetches them and hands them to [`normalize_inbound`](Self::normalize_inbound).
    /// A request whose proof does not have the provider's form asks for none.
    pub fn wanted_keys(&self, raw: &RawInbound) -> Option<KeyRequest> {
        self.key_request(raw, KeyRequest::new)
    }

    /// Says which of the provider's public keys a request must be verified with, where they would come from
    /// the network, for whoever has them: what only the fetch takes may be missing.
    pub fn named_keys(&self, raw: &RawInbound) -> Option<KeyRequest> {
        self.key_request(raw, KeyRequest::named)
    }

    fn key_request(
        &self,
        raw: &RawInbound,
        request: impl FnOnce(&KeySource, &Values<'_>, Option<String>) -> Option<KeyRequest>,
    ) -> Option<KeyRequest> {
        if self.plan.forms.iter().all(|form| form.keys.is_none()) {
            return None;
        }
        let values = self.values(raw);
        if self.handshake(false, &values).is_some() {
            return None;
        }
        let index = self.plan.form_of(&values)?;
        let form = &self.plan.forms[index];
        // Keys that the operator gave stand in place of the provider's.
        let source = form.keys.as_ref().filter(|_| self.keys[index].is_empty())?;
        request(source, &values, form.scheme.claimed_key_id(&values)?)
    }

    /// Verifies a request and says what it is.
    ///
    /// Handshakes that carry no proof come first, then the proof, then handshakes that carry one. A
    /// verified delivery is always an event, whatever its body: what is not JSON, or has another
    /// shape, has the kind that its headers tell, or [`UNKNOWN_KIND`].
    pub fn normalize_inbound(&self, raw: &RawInbound, judging: Judging<'_>) -> NormalizeResult {
        let values = self.values(raw);
        if let Some(handshake) = self.handshake(false, &values) {
            return self.answer(handshake, &values, judging.armed);
        }
        let proven = match self.verify(&values, judging) {
            Ok(proven) => proven,
            Err(problem) => return reject(problem.reason(), problem.to_string()),
        };
        if let Some(handshake) = self.handshake(true, &values) {
            return self.answer(handshake, &values, judging.armed);
        }
        self.events(raw, &values, proven.as_ref())
    }

    fn handshake(&self, signed: bool, values: &Values<'_>) -> Option<&Handshake> {
        self.plan.handshakes.iter().find(|handshake| handshake.signed == signed && handshake.is(values))
    }

    fn answer(&self, handshake: &Handshake, values: &Values<'_>, armed: bool) -> NormalizeResult {
        if let Err(hint) = handshake.brings_secrets(values, |name, value| self.is_secret(name, value)) {
            return reject(RejectReason::InvalidSignature, hint);
        }
        let learn = match &handshake.learn {
            Some((name, slot)) => match self.learned(name, values.text(*slot), armed) {
                Ok(secret) => Some((name.clone(), secret)),
                Err(hint) => return reject(RejectReason::MissingHeader, hint.to_owned()),
            },
            None => None,
        };
        let current = self.secrets.get(SIGNING_SECRET).and_then(|list| list.first());
        let key = match (handshake.is_keyed(), current, self.plan.main_form()) {
            (true, Some(secret), Some(form)) => form.scheme.key_bytes(secret.expose()).ok(),
            _ => None,
        };
        let context = Context {
            secret: current.map(Secret::expose),
            key: key.as_ref().map(|key| key.as_slice()),
            ..Context::of(values)
        };
        let fill = |template: &Template| template.fill(&context);
        let text = |template| fill(template).map(|text| String::from_utf8_lossy(&text).into_owned());
        let headers: Result<Vec<_>, String> =
            handshake.headers.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect();
        let call = handshake.call.as_ref().map(|(url, hosts)| Ok((text(url)?, hosts.clone()))).transpose();
        match (headers, fill(&handshake.body), call) {
            (Ok(headers), Ok(body), Ok(call)) => NormalizeResult::Immediate {
                reply: Reply { status: handshake.status, headers, body: body.into() },
                events: Vec::new(),
                learn,
                call,
            },
            (Err(place), ..) | (_, Err(place), _) | (.., Err(place)) => reject(
                RejectReason::MissingHeader,
                format!("the handshake cannot be answered without {place}"),
            ),
        }
    }

    fn is_secret(&self, name: &str, value: &[u8]) -> bool {
        let list = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        // The tokens of handshakes are compared as hashes, so that not even their length shows.
        let hash = Sha256::digest(value);
        list.iter().any(|secret| Sha256::digest(secret.expose()).ct_eq(&hash).into())
    }

    /// Takes the secret that a handshake brings, if it may be taken and could serve: one that cannot
    /// must not get in the way of the true one.
    fn learned(&self, name: &str, value: Option<String>, armed: bool) -> Result<Secret, &'static str> {
        if !armed {
            return Err("a handshake brought a secret while the trigger is not armed; arm it and start the \
                        handshake again");
        }
        let secret = Secret::new(value.unwrap_or_default());
        let serves = match self.plan.main_form() {
            Some(form) if name == SIGNING_SECRET => form.scheme.key(secret.expose()).is_ok(),
            _ => !secret.is_blank(),
        };
        if serves { Ok(secret) } else { Err("a handshake brought a secret that cannot serve") }
    }

    fn verify(&self, values: &Values<'_>, judging: Judging<'_>) -> Result<Option<Proven>, Problem> {
        let Some(index) = self.plan.form_of(values) else { return Ok(None) };
        let form = &self.plan.forms[index];
        let fetched = self.fetched(form, judging.keys);
        let keys = if self.keys[index].is_empty() { &fetched } else { &self.keys[index] };
        let window = Window { now: judging.now, tolerance: self.tolerance.or(form.tolerance) };
        let verified = if form.scheme.is_each() {
            verify_each(&form.scheme, keys, values, window)
        } else {
            form.scheme.verify(keys, values, window).map(|proof| proof.key_index)
        };
        let key_index = verified.map_err(|problem| match problem {
            Problem::NoKey if form.keys.is_some() => Problem::NoPublicKey,
            problem => problem,
        })?;
        let key_index = self.keys_are_secrets.then_some(key_index);
        Ok(Some(Proven { key_index, covers_body: form.scheme.covers_body() }))
    }

    fn fetched(&self, form: &Form, fetched: &[FetchedKey]) -> Vec<Key> {
        let secret = self.secrets.get(SIGNING_SECRET).and_then(|list| list.first()).map(Secret::expose);
        fetched.iter().filter_map(|fetched| form.scheme.key_of_public(&fetched.key, secret)).collect()
    }

    fn events(&self, raw: &RawInbound, values: &Values<'_>, proven: Option<&Proven>) -> NormalizeResult {
        let text = match self.plan.entry.event.items {
            Some(_) => values.json_text(),
            None => None,
        };
        let items = text.as_deref().and_then(|text| values.items_of(text));
        let parts = text.as_deref().zip(items.as_deref());
        let parts = parts.and_then(|(text, items)| BatchPart::cut(&raw.body, text, items));
        let Some((items, parts)) = items.as_ref().zip(parts) else {
            return NormalizeResult::Event(self.normalize(values, proven, None));
        };
        let event = |(item, part)| self.normalize(&values.of_item(item), proven, Some(part));
        NormalizeResult::Batch(items.iter().copied().zip(parts).map(event).collect())
    }

    fn normalize(&self, values: &Values<'_>, proven: Option<&Proven>, part: Option<BatchPart>) -> Normalized {
        let plan = &self.plan;
        let kind = plan.kinds.iter().find_map(|template| template.text(values));
        let delivery = plan.deliveries.iter().find_map(|identity| identity.of(values));
        let at = plan.at.and_then(|(slot, unit)| unit.parse(&values.text(slot)?));
        let body = part.as_ref().map_or(values.request().body, |part| &part.body);
        Normalized {
            kind: kind.map_or_else(|| UNKNOWN_KIND.to_owned(), tidy_kind),
            dedupe_key: delivery.map(tidy_key).or_else(|| self.body_key(body)),
            occurred_at: at.and_then(|at| Timestamp::from_microsecond(at.as_microsecond()).ok()),
            signature_status: match proven {
                Some(proven) => SignatureStatus::Verified { covers_body: proven.covers_body },
                None => SignatureStatus::Unsigned,
            },
            secret_index: proven.and_then(|proven| proven.key_index),
            part,
        }
    }

    fn body_key(&self, body: &[u8]) -> Option<String> {
        (self.dedupe == Dedupe::Body).then(|| sha256_key(body))
    }
}

/// Verifies the proof of every element of a batch; returns the key of the last one.
pub(super) fn verify_each(
    scheme: &Scheme,
    keys: &[Key],
    values: &Values<'_>,
    window: Window,
) -> Result<usize, Problem> {
    let text = values.json_text().unwrap_or_default();
    let items = values.items_of(&text).ok_or_else(|| Problem::Missing {
        place: "the list of items".to_owned(),
        form: "each item carries its proof".to_owned(),
    })?;
    let mut last = 0;
    for item in items {
        last = scheme.verify(keys, &values.of_item(item), window)?.key_index;
    }
    Ok(last)
}

fn reject(reason: RejectReason, hint: String) -> NormalizeResult {
    NormalizeResult::Reject(Rejection::new(reason, hint))
}

/// A kind is shown, matched and logged: it has a bounded length and no control characters.
pub(super) fn tidy_kind(mut kind: String) -> String {
    if kind.contains(char::is_control) {
        kind = kind.replace(char::is_control, "\u{fffd}");
    }
    // What stands in for a control character is longer than it.
    kind.truncate(kind.floor_char_boundary(KIND_BYTES_MAX));
    kind
}

pub(super) fn tidy_key(key: String) -> String {
    if key.len() > DEDUPE_KEY_BYTES_MAX { sha256_key(key.as_bytes()) } else { key }
}

fn sha256_key(bytes: &[u8]) -> String {
    format!("sha256:{}", Encoding::Hex.encode(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;
    use crate::connector::SECRETS_MAX;
    use crate::event::Header;

    /// Seconds since 1970 of "now" in these tests.
    const NOW: i64 = 1_700_000_000;
    const HELLO: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn trigger(secrets: &[&str]) -> TriggerSettings {
        TriggerSettings::of_secrets(secrets.iter().map(|text| Secret::new(*text)))
    }

    fn verifier(provider: &str, secrets: &[&str]) -> Verifier {
        Verifier::new(ProviderCatalog::built_in().get(provider).unwrap(), &trigger(secrets)).unwrap()
    }

    fn raw(headers: &[(&str, &str)], body: &str) -> RawInbound {
        let header =
            |(name, value): &(&str, &str)| -> Header { ((*name).to_owned(), (*value).to_owned().into()) };
        RawInbound {
            method: "POST".into(),
            url: "/hooks/x".into(),
            headers: headers.iter().map(header).collect(),
            body: body.to_owned().into(),
            received_at: now(),
            peer: None,
        }
    }

    fn github(headers: &[(&str, &str)]) -> Result<Normalized, RejectReason> {
        outcome(
            verifier("github", &["It's a Secret to Everybody"])
                .normalize_inbound(&raw(headers, "Hello, World!"), Judging::at(now())),
        )
    }

    fn outcome(result: NormalizeResult) -> Result<Normalized, RejectReason> {
        match result {
            NormalizeResult::Event(event) => Ok(event),
            NormalizeResult::Reject(rejection) => Err(rejection.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn githubs_published_example_verifies() {
        let event = github(&[
            ("x-hub-signature-256", HELLO),
            ("x-github-event", "push"),
            ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ])
        .unwrap();
        assert_eq!(event.kind, "push");
        assert_eq!(event.dedupe_key.as_deref(), Some("72d3162e-cc78-11e3-81ab-4c9367dc0958"));
        assert_eq!(event.signature_status, SignatureStatus::Verified { covers_body: true });
        assert_eq!(event.secret_index, Some(0));
    }

    #[test]
    fn each_defect_has_its_code() {
        let upper = HELLO.replace("757107ea", "757107EA");
        let wrong = HELLO.replace("757107ea", "757107eb");
        assert!(github(&[("x-hub-signature-256", &upper)]).is_ok(), "hex has no case");
        assert!(github(&[("x-hub-signature-256", HELLO), ("x-hub-signature-256", HELLO)]).is_ok());
        for (headers, expected) in [
            (vec![], RejectReason::MissingHeader),
            (vec![("x-hub-signature", HELLO)], RejectReason::MissingHeader),
            (vec![("x-hub-signature-256", "")], RejectReason::InvalidHeader),
            (vec![("x-hub-signature-256", &HELLO[7..])], RejectReason::InvalidHeader),
            (vec![("x-hub-signature-256", &HELLO.replace("sha256", "SHA256"))], RejectReason::InvalidHeader),
            (
                vec![("x-hub-signature-256", HELLO), ("x-hub-signature-256", &wrong)],
                RejectReason::InvalidHeader,
            ),
            (vec![("x-hub-signature-256", &wrong)], RejectReason::InvalidSignature),
            (vec![("x-hub-signature-256", &HELLO[..HELLO.len() - 2])], RejectReason::InvalidSignature),
        ] {
            assert_eq!(github(&headers).unwrap_err(), expected, "{headers:?}");
        }
    }

    #[test]
    fn every_secret_of_the_list_verifies_and_is_told() {
        let list = verifier("github", &["new", "It's a Secret to Everybody"]);
        let event =
            outcome(list.normalize_inbound(
                &raw(&[("x-hub-signature-256", HELLO)], "Hello, World!"),
                Judging::at(now()),
            ));
        assert_eq!(event.unwrap().secret_index, Some(1));
    }

    #[test]
    fn a_signed_body_of_any_shape_is_an_event() {
        let event = github(&[("x-hub-signature-256", HELLO)]).unwrap();
        assert_eq!(event.kind, UNKNOWN_KIND);
        assert_eq!(event.dedupe_key, None);
    }

    #[test]
    fn without_a_secret_nothing_verifies() {
        let result = verifier("github", &[])
            .normalize_inbound(&raw(&[("x-hub-signature-256", HELLO)], "Hello, World!"), Judging::at(now()));
        let NormalizeResult::Reject(rejection) = result else { panic!("{result:?}") };
        assert_eq!(rejection.reason, RejectReason::InvalidSignature);
        assert!(rejection.hint.contains("no secret"), "{}", rejection.hint);
    }

    #[test]
    fn a_handshake_cannot_teach_a_secret_that_protects_nothing() {
        let learn = |token: &str, armed| {
            let body = format!(r#"{{"verification_token": "{token}"}}"#);
            verifier("notion", &[])
                .normalize_inbound(&raw(&[], &body), Judging { armed, ..Judging::at(now()) })
        };
        assert!(matches!(learn("secret_abc", true), NormalizeResult::Immediate { learn: Some(_), .. }));
        for (token, armed) in [("secret_abc", false), ("\\u0000\\u0000", true), (" ", true)] {
            assert_eq!(outcome(learn(token, armed)), Err(RejectReason::MissingHeader), "{token}");
        }
    }

    #[test]
    fn secrets_that_protect_nothing_are_refused() {
        let entry = ProviderCatalog::built_in();
        for blank in ["", " \n", "\0\0"] {
            let error = Verifier::new(entry.get("github").unwrap(), &trigger(&["good", blank])).unwrap_err();
            assert!(error.to_string().contains("number 2"), "{error}");
        }
        for bad in ["whsec_", "whsec_AAAA", "whsec_not base64"] {
            assert!(
                Verifier::new(entry.get("standard-webhooks").unwrap(), &trigger(&[bad])).is_err(),
                "{bad}"
            );
        }
        let nine = ["x"; SECRETS_MAX + 1];
        assert!(Verifier::new(entry.get("github").unwrap(), &trigger(&nine)).is_err());
    }

    #[test]
    fn kinds_and_keys_are_bounded_and_clean() {
        assert_eq!(tidy_kind("a\nb".into()), "a\u{fffd}b");
        assert_eq!(tidy_kind("é".repeat(200)).len(), KIND_BYTES_MAX);
        assert_eq!(tidy_kind("\u{85}".repeat(128)).len(), 255);
        assert_eq!(tidy_key("k".into()), "k");
        assert_eq!(tidy_key("k".repeat(DEDUPE_KEY_BYTES_MAX + 1)).len(), "sha256:".len() + 64);
    }

    #[test]
    fn a_body_may_be_its_own_identity() {
        let entry = ProviderCatalog::built_in();
        let settings = TriggerSettings { dedupe: Dedupe::Body, ..trigger(&["It's a Secret to Everybody"]) };
        let verifier = Verifier::new(entry.get("github").unwrap(), &settings).unwrap();
        let event =
            outcome(verifier.normalize_inbound(
                &raw(&[("x-hub-signature-256", HELLO)], "Hello, World!"),
                Judging::at(now()),
            ));
        let key = event.unwrap().dedupe_key.unwrap();
        assert_eq!(key, "sha256:dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f");
    }
}
