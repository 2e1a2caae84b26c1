//! Why a request does not verify: the likely cause, found offline by trying what commonly goes wrong.
//!
//! For `verify` and the quarantine, when somebody looks; never on a request's way, for it costs many
//! hashes, and never shown to the sender.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::keys::{given_public_keys, keys, named};
use super::plan::{BuildError, Plan};
use super::{RawInbound, TriggerSettings};
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::event::Timestamp;
use crate::secrets::Secret;
use crate::signature::json_text::{self, Style};
use crate::signature::{Encoding, Filter, Key, Named, Problem, Request, Scheme, Values, Window};

/// Prefixes that people leave out of secrets, or paste too much of.
const PREFIXES: [&str; 4] = ["whsec_", "lin_wh_", "secret_", "sha256="];

/// What probably went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The proof stands in another header.
    OtherHeader {
        /// The header's lower-case name.
        name: String,
        /// Whether the proof in it holds; otherwise it only has the right form.
        holds: bool,
    },
    /// Another secret yields the signature.
    OtherSecret {
        /// What it was introduced as.
        name: String,
    },
    /// The secret yields the signature once it is read in another way.
    SecretForm {
        /// Its place in the list, counted from 1.
        number: usize,
        /// How it must be read.
        how: &'static str,
    },
    /// The signature is good, but written in another encoding.
    SignatureForm {
        /// In which.
        encoding: Encoding,
    },
    /// Another URL was signed than the one that is taken for signed here.
    Url {
        /// Which: with scheme and host, or the path alone where the scheme signs no more.
        signed: String,
    },
    /// The body was changed on the way.
    Body {
        /// What gives back the bytes that were signed.
        how: &'static str,
    },
    /// The signature holds; clocks differ, or the request is old.
    Clock {
        /// Signed time minus ours, in seconds.
        ahead_s: i64,
    },
}

impl Cause {
    /// Returns a stable code for the kind of cause.
    pub fn code(&self) -> &'static str {
        match self {
            Cause::OtherHeader { .. } => "other_header",
            Cause::OtherSecret { .. } => "other_secret",
            Cause::SecretForm { .. } => "secret_form",
            Cause::SignatureForm { .. } => "signature_form",
            Cause::Url { .. } => "other_url",
            Cause::Body { .. } => "body_changed",
            Cause::Clock { .. } => "clock",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::OtherHeader { name, holds: true } => {
                write!(f, "the signature is good, but stands in header {name}: something renames headers")
            }
            Cause::OtherHeader { name, holds: false } => {
                write!(f, "header {name} has the form of the signature; is this the right provider")
            }
            Cause::OtherSecret { name } => write!(f, "the secret {name} yields the signature"),
            Cause::SecretForm { number, how } => {
                write!(f, "secret number {number} yields the signature once it is {how}")
            }
            Cause::SignatureForm { encoding } => {
                write!(f, "the signature is good, but written in {encoding}")
            }
            Cause::Url { signed } => {
                write!(
                    f,
                    "the signature is good for the URL {signed}: is server.public_url what is registered"
                )
            }
            Cause::Body { how } => {
                write!(f, "the body was changed on the way: with {how} the signature holds")
            }
            Cause::Clock { ahead_s } => {
                let side = if *ahead_s < 0 { "behind" } else { "ahead of" };
                let by = ahead_s.unsigned_abs();
                write!(f, "the signature holds; its time is {by} s {side} our clock")
            }
        }
    }
}

/// Looks for the cause why a request does not verify; `None` if it does, or if no cause was found.
///
/// `others` are further secrets to try, such as those of other triggers, with names for people.
///
/// # Errors
///
/// If the entry cannot be compiled with the trigger's settings and secrets.
pub fn explain(
    entry: &Arc<ProviderEntry>,
    trigger: &TriggerSettings,
    others: &[(String, Secret)],
    raw: &RawInbound,
    now: Timestamp,
) -> Result<Option<Cause>, BuildError> {
    let plan = Plan::new(entry, &trigger.settings)?;
    let secrets = trigger.secrets.get(SIGNING_SECRET).map(Vec::as_slice).unwrap_or_default();
    let Some(form) = plan.main_form() else { return Ok(None) };
    let given = given_public_keys(&trigger.public_keys)?;
    let keys = keys(&plan, form, secrets, given.as_deref())?;
    let named = named(&trigger.secrets);
    let case = Case { plan: &plan, scheme: &form.scheme, trigger, named: &named, raw };
    let window = Window { now, tolerance: trigger.tolerance.or(form.tolerance) };
    Ok(match case.verify(&keys, raw, window) {
        Ok(()) | Err(Problem::Conflict { .. }) => None,
        Err(Problem::OutOfWindow { ahead_s, .. }) => Some(Cause::Clock { ahead_s }),
        Err(Problem::Missing { .. }) => case.other_header(&keys).or_else(|| case.url(&keys)),
        Err(_) => case
            .other_secret(others)
            .or_else(|| case.secret_form(secrets))
            .or_else(|| case.signature_form(&keys))
            .or_else(|| case.url(&keys))
            .or_else(|| case.body(&keys)),
    })
}

struct Case<'a> {
    plan: &'a Plan,
    scheme: &'a Scheme,
    trigger: &'a TriggerSettings,
    named: &'a Named,
    raw: &'a RawInbound,
}

impl Case<'_> {
    fn verify(&self, keys: &[Key], raw: &RawInbound, window: Window) -> Result<(), Problem> {
        self.verify_at(self.trigger.public_url.as_deref(), keys, raw, window)
    }

    /// Verifies as if the trigger were registered under another URL.
    fn verify_at(
        &self,
        public_url: Option<&str>,
        keys: &[Key],
        raw: &RawInbound,
        window: Window,
    ) -> Result<(), Problem> {
        let request = Request {
            method: &raw.method,
            url: &raw.url,
            public_url,
            headers: &raw.headers,
            body: &raw.body,
        };
        let values = Values::new(&self.plan.fields, request).with_named(self.named);
        self.scheme.verify(keys, &values, window).map(drop)
    }

    /// Verifies at any time.
    fn holds(&self, keys: &[Key], raw: &RawInbound) -> bool {
        self.verify(keys, raw, self.any_time()).is_ok()
    }

    fn any_time(&self) -> Window {
        Window { now: self.raw.received_at, tolerance: None }
    }

    fn other_header(&self, keys: &[Key]) -> Option<Cause> {
        let signed = self.scheme.signed_headers(&self.plan.fields);
        let place = (*signed.first()?).to_owned();
        let candidates = self.raw.headers.iter().filter(|(name, _)| !signed.contains(&name.as_str()));
        let judged = candidates.filter_map(|(name, value)| {
            let mut raw = self.raw.clone();
            raw.headers.push((place.clone(), value.clone()));
            let name = name.clone();
            match self.verify(keys, &raw, self.any_time()) {
                Ok(()) => Some(Cause::OtherHeader { name, holds: true }),
                Err(Problem::Mismatch { .. } | Problem::NoKey) => {
                    Some(Cause::OtherHeader { name, holds: false })
                }
                Err(_) => None,
            }
        });
        let judged: Vec<Cause> = judged.collect();
        let good = judged.iter().find(|cause| matches!(cause, Cause::OtherHeader { holds: true, .. }));
        good.or(judged.first()).cloned()
    }

    fn other_secret(&self, others: &[(String, Secret)]) -> Option<Cause> {
        let found = others.iter().find(|(_, secret)| {
            self.scheme.key(secret.expose()).is_ok_and(|key| self.holds(&[key], self.raw))
        })?;
        Some(Cause::OtherSecret { name: found.0.clone() })
    }

    fn secret_form(&self, secrets: &[Secret]) -> Option<Cause> {
        secrets.iter().enumerate().find_map(|(index, secret)| {
            let found = readings(secret.expose()).into_iter().find(|(_, bytes)| {
                let as_is = self.scheme.key_of_bytes(bytes);
                let piped = self.scheme.key(bytes).ok();
                let keys: Vec<Key> = as_is.into_iter().chain(piped).collect();
                self.holds(&keys, self.raw)
            });
            found.map(|(how, _)| Cause::SecretForm { number: index + 1, how })
        })
    }

    fn signature_form(&self, keys: &[Key]) -> Option<Cause> {
        let found = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url].into_iter().find(|encoding| {
            let scheme = self.scheme.with_encoding(*encoding);
            Case { scheme: &scheme, ..*self }.holds(keys, self.raw)
        })?;
        Some(Cause::SignatureForm { encoding: found })
    }

    fn url(&self, keys: &[Key]) -> Option<Cause> {
        if !self.scheme.covers_url() {
            return None;
        }
        let (path, query) = match self.raw.url.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (self.raw.url.as_str(), String::new()),
        };
        let bases = bases(self.raw, self.trigger.public_url.as_deref());
        let tried = bases.iter().flat_map(|base| paths(path).map(|path| (base, path)));
        let mut tried = tried.flat_map(|(base, path)| [&*query, ""].map(|query| (base, path.clone(), query)));
        tried.find_map(|(base, path, query)| {
            let public_url = base.as_ref().map(|base| format!("{base}{path}"));
            let raw = RawInbound { url: format!("{path}{query}"), ..self.raw.clone() };
            let verified = self.verify_at(public_url.as_deref(), keys, &raw, self.any_time());
            verified
                .ok()
                .map(|()| Cause::Url { signed: format!("{}{path}{query}", base.as_deref().unwrap_or("")) })
        })
    }

    fn body(&self, keys: &[Key]) -> Option<Cause> {
        bodies(&self.raw.body).into_iter().find_map(|(how, body)| {
            let raw = RawInbound { body, ..self.raw.clone() };
            self.holds(keys, &raw).then_some(Cause::Body { how })
        })
    }
}

/// Schemes and hosts that a provider may have called: those of the request, and those that are configured. None
/// stands for schemes that sign the path alone.
fn bases(raw: &RawInbound, public_url: Option<&str>) -> Vec<Option<String>> {
    let headers = ["x-forwarded-host", "x-original-host", "host"];
    let sent = headers.into_iter().filter_map(|name| raw.header_values(name).next());
    let sent = sent.filter_map(|host| std::str::from_utf8(host).ok()).map(str::trim);
    let configured = public_url.and_then(|url| url.split_once("://")?.1.split('/').next());
    let mut hosts: Vec<&str> = Vec::new();
    for host in configured.into_iter().chain(sent) {
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        hosts.extend([host, bare]);
    }
    let mut bases = vec![None];
    for base in hosts.iter().flat_map(|host| [format!("https://{host}"), format!("http://{host}")]) {
        if !bases.contains(&Some(base.clone())) {
            bases.push(Some(base));
        }
    }
    bases
}

/// A path as it is, and with its last slash the other way.
fn paths(path: &str) -> [String; 2] {
    let other = match path.strip_suffix('/') {
        Some(bare) => bare.to_owned(),
        None => format!("{path}/"),
    };
    [path.to_owned(), other]
}

/// Other ways to read a secret.
fn readings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut readings = vec![
        ("trimmed: a blank or line end belongs to it", secret.trim_ascii().to_vec()),
        ("given a line end", [secret, b"\n"].concat()),
        ("used as text, not decoded", secret.to_vec()),
    ];
    for prefix in PREFIXES {
        match secret.strip_prefix(prefix.as_bytes()) {
            Some(rest) => readings.push(("stripped of its prefix", rest.to_vec())),
            None => readings.push(("given its prefix", [prefix.as_bytes(), secret].concat())),
        }
    }
    let stripped =
        PREFIXES.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes())).unwrap_or(secret);
    for (how, filter) in [("decoded from hex", Filter::Unhex), ("decoded from base64", Filter::Unbase64)] {
        let read = Filter::apply_all(std::slice::from_ref(&filter), stripped);
        readings.extend(read.map(|bytes| (how, bytes.into_owned())));
    }
    readings
}

/// Bodies that may have been the signed one before something on the way changed it.
fn bodies(body: &Bytes) -> Vec<(&'static str, Bytes)> {
    let text = String::from_utf8_lossy(body);
    let mut bodies = vec![
        ("the blanks around it removed", Bytes::copy_from_slice(body.trim_ascii())),
        ("a line end behind it", [&body[..], b"\n"].concat().into()),
        ("its line ends as LF", text.replace("\r\n", "\n").into()),
        ("its line ends as CRLF", text.replace("\r\n", "\n").replace('\n', "\r\n").into()),
    ];
    for (how, style) in [
        ("its JSON written without blanks", Style::Compact),
        ("its JSON written with a blank after commas and colons", Style::Spaced),
        ("its JSON indented by two", Style::Indented),
    ] {
        bodies.extend(json_text::rewrite(&text, style).map(|text| (how, text.into())));
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;
    use crate::connector::{SignRequest, Signer};

    const BODY: &str = "{\n  \"id\": \"evt_1\",\n  \"n\": [1, 2]\n}";

    /// Signs `signed` with `good`, then explains what becomes of `received` with `configured`.
    fn check(
        provider: &str,
        (good, configured): (&str, &str),
        (signed, received): (&str, &str),
        change: impl Fn(&mut RawInbound),
        expected: Option<Cause>,
    ) {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let catalog = ProviderCatalog::built_in();
        let entry = catalog.get(provider).unwrap();
        let signer = Signer::new(entry, &TriggerSettings::of_secrets([Secret::new(good)])).unwrap().unwrap();
        let request = SignRequest {
            method: "POST",
            url: "/",
            headers: &[],
            body: signed.as_bytes(),
            now,
            delivery_id: "d",
            kind: None,
        };
        let headers = signer.sign(request).unwrap().headers.into_iter();
        let mut raw = RawInbound {
            method: "POST".into(),
            url: "/".into(),
            headers: headers.map(|(name, value)| (name, value.into())).collect(),
            body: received.to_owned().into(),
            received_at: now,
            peer: None,
        };
        change(&mut raw);
        let trigger = TriggerSettings::of_secrets([Secret::new(configured)]);
        let others = [("of trigger old".to_owned(), Secret::new("retired"))];
        assert_eq!(explain(entry, &trigger, &others, &raw, raw.received_at).unwrap(), expected);
    }

    fn form(how: &'static str) -> Option<Cause> {
        Some(Cause::SecretForm { number: 1, how })
    }

    #[test]
    fn secrets_are_tried_in_other_forms() {
        let same = (BODY, BODY);
        check("stripe", ("whsec_abc", "whsec_abc"), same, |_| (), None);
        check("stripe", ("whsec_abc", "abc"), same, |_| (), form("given its prefix"));
        check("stripe", ("abc", "whsec_abc"), same, |_| (), form("stripped of its prefix"));
        check("github", ("abc", "abc\n"), same, |_| (), form("trimmed: a blank or line end belongs to it"));
        check("github", ("hi!", "686921"), same, |_| (), form("decoded from hex"));
        check("github", ("hi!", "aGkh"), same, |_| (), form("decoded from base64"));
        check("github", ("one", "two"), same, |_| (), None);
        let other = Some(Cause::OtherSecret { name: "of trigger old".into() });
        check("github", ("retired", "new"), same, |_| (), other);
    }

    #[test]
    fn bodies_are_tried_as_they_may_have_been() {
        let secret = ("s", "s");
        let body = |how| Some(Cause::Body { how });
        let compact = r#"{"id":"evt_1","n":[1,2]}"#;
        check("github", secret, (compact, BODY), |_| (), body("its JSON written without blanks"));
        let indented = "{\n  \"id\": \"evt_1\",\n  \"n\": [\n    1,\n    2\n  ]\n}";
        check("github", secret, (indented, compact), |_| (), body("its JSON indented by two"));
        check("github", secret, ("x", "x\n"), |_| (), body("the blanks around it removed"));
        check("github", secret, ("x\n", "x"), |_| (), body("a line end behind it"));
        check("github", secret, ("x", "y"), |_| (), None);
    }

    /// Signs with the generic scheme and some settings, for one URL; explains what arrives at another with others.
    fn check_generic(
        (signed_with, at): (&[(&str, &str)], &str),
        (received_with, public_url, url): (&[(&str, &str)], Option<&str>, &str),
        expected: Option<Cause>,
    ) {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let catalog = ProviderCatalog::built_in();
        let entry = catalog.get("hmac").unwrap();
        let trigger = |pairs: &[(&str, &str)], public_url: Option<&str>| {
            let pairs = [("header", "X-Sig")].iter().chain(pairs);
            TriggerSettings {
                settings: pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                public_url: public_url.map(str::to_owned),
                ..TriggerSettings::of_secrets([Secret::new("s")])
            }
        };
        let path = at.split_once("://").map_or(at, |(_, rest)| &rest[rest.find('/').unwrap()..]);
        let base = at.split('?').next();
        let signer = Signer::new(entry, &trigger(signed_with, base)).unwrap().unwrap();
        let request = SignRequest {
            method: "POST",
            url: path,
            headers: &[],
            body: BODY.as_bytes(),
            now,
            delivery_id: "d",
            kind: None,
        };
        let mut headers = signer.sign(request).unwrap().headers;
        headers.push(("host".into(), "hooks.example:8443".into()));
        let raw = RawInbound {
            method: "POST".into(),
            url: url.into(),
            headers: headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
            body: BODY.into(),
            received_at: now,
            peer: None,
        };
        let trigger = trigger(received_with, public_url);
        assert_eq!(explain(entry, &trigger, &[], &raw, now).unwrap(), expected);
    }

    #[test]
    fn urls_are_tried_as_they_may_have_been_called() {
        let with_url: &[_] = &[("content", "{url}{body}")];
        let check = |signed: &str, public_url: Option<&str>, found: bool| {
            let cause = found.then(|| Cause::Url { signed: signed.to_owned() });
            check_generic((with_url, signed), (with_url, public_url, "/hooks/x?a=1"), cause);
        };
        check("https://a.example/hooks/x?a=1", Some("https://a.example/hooks/x"), false);
        check("https://a.example/hooks/x?a=1", Some("http://a.example/hooks/x"), true);
        check("https://a.example/hooks/x/?a=1", Some("https://a.example/hooks/x"), true);
        check("https://a.example/hooks/x", Some("https://a.example/hooks/x"), true);
        check("https://hooks.example/hooks/x?a=1", Some("https://a.example/hooks/x"), true);
        check("https://hooks.example:8443/hooks/x?a=1", None, true);
        check("https://elsewhere.example/hooks/x?a=1", Some("https://a.example/hooks/x"), false);
        let with_path: &[_] = &[("content", "{path}{body}")];
        let slash = Cause::Url { signed: "/hooks/x/".into() };
        check_generic((with_path, "/hooks/x/"), (with_path, None, "/hooks/x"), Some(slash));
    }

    #[test]
    fn signatures_are_read_in_other_encodings() {
        let (hex, base64): (&[_], &[_]) = (&[], &[("encoding", "base64")]);
        let form = |encoding| Some(Cause::SignatureForm { encoding });
        check_generic((base64, "/"), (hex, None, "/"), form(Encoding::Base64));
        check_generic((hex, "/"), (base64, None, "/"), form(Encoding::Hex));
    }

    #[test]
    fn headers_and_clocks_are_looked_at() {
        let same = (BODY, BODY);
        let renamed = |raw: &mut RawInbound| raw.headers[1].0 = "x-forwarded-signature".into();
        let other = |holds| Some(Cause::OtherHeader { name: "x-forwarded-signature".into(), holds });
        check("github", ("s", "s"), same, renamed, other(true));
        check("github", ("s", "t"), same, renamed, other(false));
        let late = |raw: &mut RawInbound| raw.received_at = Timestamp::from_second(1_700_003_600).unwrap();
        check("stripe", ("s", "s"), same, late, Some(Cause::Clock { ahead_s: -3600 }));
    }
}
