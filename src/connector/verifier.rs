//! What one trigger does with a request: handshake, proof, normalization. Pure; built once per
//! trigger, shared by all workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::plan::{BuildError, Handshake, Plan, list};
use super::{NormalizeResult, Normalized, RawInbound, Rejection, Reply};
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::config::Dedupe;
use crate::event::{RejectReason, SignatureStatus, Timestamp};
use crate::secrets::Secret;
use crate::signature::{Context, Encoding, Key, Problem, Proof, Request, Template, Values, Window};

/// Most secrets of one list that are tried for a request. A forged request costs one hash of its body
/// for each.
pub const SECRETS_MAX: usize = 8;
/// Longest kind, in bytes; the rest is cut off.
pub const KIND_BYTES_MAX: usize = 256;
/// Longest dedupe key, in bytes; a longer one is replaced by its SHA-256.
pub const DEDUPE_KEY_BYTES_MAX: usize = 512;
/// The kind of a delivery that does not say one.
pub const UNKNOWN_KIND: &str = "unknown";

/// What a trigger adds to its provider's entry.
#[derive(Debug, Clone, Default)]
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
}

/// Verifies and normalizes the requests of one trigger.
#[derive(Debug, Clone)]
pub struct Verifier {
    plan: Arc<Plan>,
    keys: Vec<Key>,
    tolerance: Option<Duration>,
    public_url: Option<String>,
    dedupe: Dedupe,
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
        if let Some(name) =
            trigger.secrets.keys().find(|name| !entry.secrets.iter().any(|s| s.name == **name))
        {
            return Err(BuildError::UnknownSecret {
                provider: entry.id.to_string(),
                name: name.clone(),
                known: list(entry.secrets.iter().map(|secret| secret.name.as_str())),
            });
        }
        let secrets = trigger.secrets.get(SIGNING_SECRET).map(Vec::as_slice).unwrap_or_default();
        let entry_tolerance = entry.signature.as_ref().and_then(|signature| signature.tolerance_s);
        Ok(Self {
            keys: keys(&plan, secrets)?,
            plan: Arc::new(plan),
            tolerance: trigger.tolerance.or(entry_tolerance.map(Duration::from_secs)),
            public_url: trigger.public_url.clone(),
            dedupe: trigger.dedupe,
        })
    }

    /// Returns the provider's entry.
    pub fn entry(&self) -> &Arc<ProviderEntry> {
        &self.plan.entry
    }

    /// Tells whether there is a secret to verify with.
    pub fn has_secret(&self) -> bool {
        !self.keys.is_empty()
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

    /// Tells whether a header's value, by its lower-case name, is a credential, to be kept out of
    /// every record.
    pub fn is_credential(&self, header: &str) -> bool {
        matches!(header, "authorization" | "proxy-authorization" | "cookie")
            || self.plan.entry.credential_headers.iter().any(|name| name.eq_ignore_ascii_case(header))
    }

    /// Verifies a request and says what it is.
    ///
    /// Handshakes that carry no proof come first, then the proof, then handshakes that carry one. A
    /// verified delivery is always an event, whatever its body: what is not JSON, or has another
    /// shape, has the kind that its headers tell, or [`UNKNOWN_KIND`].
    ///
    /// `armed` says whether a handshake may bring a secret now.
    pub fn normalize_inbound(&self, raw: &RawInbound, now: Timestamp, armed: bool) -> NormalizeResult {
        let request = Request {
            method: &raw.method,
            url: &raw.url,
            public_url: self.public_url.as_deref(),
            headers: &raw.headers,
            body: &raw.body,
        };
        let values = Values::new(&self.plan.fields, request);
        if let Some(handshake) = self.handshake(false, &values) {
            return self.answer(handshake, &values, armed);
        }
        let proof = match self.verify(&values, now) {
            Ok(proof) => proof,
            Err(problem) => {
                return NormalizeResult::Reject(Rejection {
                    reason: problem.reason(),
                    hint: problem.to_string(),
                });
            }
        };
        match self.handshake(true, &values) {
            Some(handshake) => self.answer(handshake, &values, armed),
            None => NormalizeResult::Event(self.normalize(&values, proof)),
        }
    }

    fn handshake(&self, signed: bool, values: &Values<'_>) -> Option<&Handshake> {
        self.plan.handshakes.iter().find(|handshake| handshake.signed == signed && handshake.is(values))
    }

    fn answer(&self, handshake: &Handshake, values: &Values<'_>, armed: bool) -> NormalizeResult {
        let learn = match &handshake.learn {
            Some((name, slot)) => match self.learned(name, values.text(*slot), armed) {
                Ok(secret) => Some((name.clone(), secret)),
                Err(hint) => {
                    let (reason, hint) = (RejectReason::MissingHeader, hint.to_owned());
                    return NormalizeResult::Reject(Rejection { reason, hint });
                }
            },
            None => None,
        };
        let text = |template| String::from_utf8_lossy(&fill(template, values)).into_owned();
        let reply = Reply {
            status: handshake.status,
            headers: handshake.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            body: fill(&handshake.body, values),
        };
        NormalizeResult::Immediate { reply, events: Vec::new(), learn }
    }

    /// Takes the secret that a handshake brings, if it may be taken and could serve: one that cannot
    /// must not get in the way of the true one.
    fn learned(&self, name: &str, value: Option<String>, armed: bool) -> Result<Secret, &'static str> {
        if !armed {
            return Err("a handshake brought a secret while the trigger is not armed; arm it and start the \
                        handshake again");
        }
        let secret = Secret::new(value.unwrap_or_default());
        let serves = match &self.plan.scheme {
            Some(scheme) if name == SIGNING_SECRET => scheme.key(secret.expose()).is_ok(),
            _ => !secret.is_blank(),
        };
        if serves { Ok(secret) } else { Err("a handshake brought a secret that cannot serve") }
    }

    fn verify(&self, values: &Values<'_>, now: Timestamp) -> Result<Option<Proof>, Problem> {
        let Some(scheme) = &self.plan.scheme else { return Ok(None) };
        scheme.verify(&self.keys, values, Window { now, tolerance: self.tolerance }).map(Some)
    }

    fn normalize(&self, values: &Values<'_>, proof: Option<Proof>) -> Normalized {
        let plan = &self.plan;
        let kind = plan.kinds.iter().find_map(|template| template.text(values));
        let delivery = plan.deliveries.iter().find_map(|slot| values.text(*slot));
        let at = plan.at.and_then(|(slot, unit)| unit.parse(&values.text(slot)?));
        let covers_body = plan.scheme.as_ref().is_some_and(|scheme| scheme.covers_body());
        Normalized {
            kind: kind.map_or_else(|| UNKNOWN_KIND.to_owned(), tidy_kind),
            dedupe_key: delivery.map(tidy_key).or_else(|| self.body_key(values.request().body)),
            occurred_at: at.and_then(|at| Timestamp::from_microsecond(at.as_microsecond()).ok()),
            signature_status: match proof {
                Some(_) => SignatureStatus::Verified { covers_body },
                None => SignatureStatus::Unsigned,
            },
            secret_index: proof.map(|proof| proof.key_index),
        }
    }

    fn body_key(&self, body: &[u8]) -> Option<String> {
        (self.dedupe == Dedupe::Body).then(|| sha256_key(body))
    }
}

/// Checks that an entry's texts mean something, for entries that no trigger uses yet.
///
/// # Errors
///
/// If a location, template, pipe or syntax of it cannot be read.
pub fn check_entry(entry: &Arc<ProviderEntry>) -> Result<(), BuildError> {
    // What the entry leaves open is filled with a header's name, which every place for a name takes.
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    let settings = open.map(|setting| (setting.name.clone(), "X-Any".to_owned())).collect();
    Plan::new(entry, &settings).map(drop)
}

/// Prepares the keys of a list of secrets.
pub(super) fn keys(plan: &Plan, secrets: &[Secret]) -> Result<Vec<Key>, BuildError> {
    let name = || SIGNING_SECRET.to_owned();
    if secrets.len() > SECRETS_MAX {
        return Err(BuildError::TooManySecrets { name: name(), count: secrets.len(), max: SECRETS_MAX });
    }
    let Some(scheme) = &plan.scheme else { return Ok(Vec::new()) };
    let spec = plan.entry.secrets.iter().find(|spec| spec.name == SIGNING_SECRET);
    let about = || spec.map_or_else(String::new, |spec| spec.about.clone());
    let key = |(index, secret): (usize, &Secret)| {
        scheme.key(secret.expose()).map_err(|why| BuildError::Secret {
            name: name(),
            number: index + 1,
            why,
            about: about(),
        })
    };
    secrets.iter().enumerate().map(key).collect()
}

fn fill(template: &Template, values: &Values<'_>) -> Bytes {
    let mut out = Vec::new();
    let context = Context { values, timestamp: None, id: None };
    let filled = template.write(&context, &mut |bytes| out.extend_from_slice(bytes));
    filled.map(|()| Bytes::from(out)).unwrap_or_default()
}

/// A kind is shown, matched and logged: it has a bounded length and no control characters.
fn tidy_kind(mut kind: String) -> String {
    if kind.len() > KIND_BYTES_MAX {
        kind.truncate(kind.floor_char_boundary(KIND_BYTES_MAX));
    }
    if kind.contains(char::is_control) { kind.replace(char::is_control, "\u{fffd}") } else { kind }
}

fn tidy_key(key: String) -> String {
    if key.len() > DEDUPE_KEY_BYTES_MAX { sha256_key(key.as_bytes()) } else { key }
}

fn sha256_key(bytes: &[u8]) -> String {
    format!("sha256:{}", Encoding::Hex.encode(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;
    use crate::event::Header;

    /// Seconds since 1970 of "now" in these tests.
    const NOW: i64 = 1_700_000_000;
    const HELLO: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn trigger(secrets: &[&str]) -> TriggerSettings {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        let secrets = BTreeMap::from([(SIGNING_SECRET.to_owned(), secrets)]);
        TriggerSettings { secrets, ..TriggerSettings::default() }
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
        outcome(verifier("github", &["It's a Secret to Everybody"]).normalize_inbound(
            &raw(headers, "Hello, World!"),
            now(),
            false,
        ))
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
        let event = outcome(list.normalize_inbound(
            &raw(&[("x-hub-signature-256", HELLO)], "Hello, World!"),
            now(),
            false,
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
        let result = verifier("github", &[]).normalize_inbound(
            &raw(&[("x-hub-signature-256", HELLO)], "Hello, World!"),
            now(),
            false,
        );
        let NormalizeResult::Reject(rejection) = result else { panic!("{result:?}") };
        assert_eq!(rejection.reason, RejectReason::InvalidSignature);
        assert!(rejection.hint.contains("no secret"), "{}", rejection.hint);
    }

    #[test]
    fn a_handshake_cannot_teach_a_secret_that_protects_nothing() {
        let learn = |token: &str, armed| {
            let body = format!(r#"{{"verification_token": "{token}"}}"#);
            verifier("notion", &[]).normalize_inbound(&raw(&[], &body), now(), armed)
        };
        assert!(matches!(learn("secret_abc", true), NormalizeResult::Immediate { learn: Some(_), .. }));
        for (token, armed) in [("secret_abc", false), ("\\u0000\\u0000", true), (" ", true)] {
            assert_eq!(outcome(learn(token, armed)), Err(RejectReason::MissingHeader), "{token}");
        }
    }

    #[test]
    fn every_entry_compiles() {
        for entry in ProviderCatalog::built_in().entries() {
            check_entry(entry).unwrap();
        }
        let broken = "like = \"github\"\n[signature]\ncontent = \"{nope}\"";
        let text = format!("id = \"acme\"\n{broken}");
        let catalog = ProviderCatalog::with_user_entries(&[text]).unwrap();
        let error = check_entry(catalog.get("acme").unwrap()).unwrap_err().to_string();
        assert!(error.contains("acme") && error.contains("{nope}"), "{error}");
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
        assert_eq!(tidy_key("k".into()), "k");
        assert_eq!(tidy_key("k".repeat(DEDUPE_KEY_BYTES_MAX + 1)).len(), "sha256:".len() + 64);
    }

    #[test]
    fn a_body_may_be_its_own_identity() {
        let entry = ProviderCatalog::built_in();
        let settings = TriggerSettings { dedupe: Dedupe::Body, ..trigger(&["It's a Secret to Everybody"]) };
        let verifier = Verifier::new(entry.get("github").unwrap(), &settings).unwrap();
        let event = outcome(verifier.normalize_inbound(
            &raw(&[("x-hub-signature-256", HELLO)], "Hello, World!"),
            now(),
            false,
        ));
        let key = event.unwrap().dedupe_key.unwrap();
        assert_eq!(key, "sha256:dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f");
    }
}
