//! Requests that do not verify, and what is said about each.

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
    assert_eq!(explain(entry, &trigger, &others, &raw, raw.received_at, &[]).unwrap(), expected);
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
    assert_eq!(explain(entry, &trigger, &[], &raw, now, &[]).unwrap(), expected);
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

/// Signs the first sample of an entry as `with`, changes the request, and explains it for a trigger with `secrets`.
fn explained(
    entry: &Arc<ProviderEntry>,
    with: &TriggerSettings,
    configured: &TriggerSettings,
    change: impl Fn(&mut RawInbound),
) -> Option<String> {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let signer = Signer::new(entry, with).unwrap().unwrap();
    let (method, url, headers) = ("POST", "/", &[][..]);
    let request =
        SignRequest { method, url, headers, body: BODY.as_bytes(), now, delivery_id: "d", kind: None };
    let headers = signer.sign(request).unwrap().headers.into_iter();
    let mut raw = RawInbound {
        method: method.into(),
        url: url.into(),
        headers: headers.map(|(name, value)| (name, value.into())).collect(),
        body: BODY.into(),
        received_at: now,
        peer: None,
    };
    change(&mut raw);
    explain(entry, configured, &[], &raw, now, &[]).unwrap().map(|cause| cause.to_string())
}

fn own(text: &str) -> Arc<ProviderEntry> {
    let catalog = ProviderCatalog::with_user_entries(&[format!("id = \"acme\"\n{text}")]).unwrap();
    catalog.get("acme").unwrap().clone()
}

/// Explains for a trigger whose main secret is another text than the one that signs.
fn with_secrets(entry: &Arc<ProviderEntry>, good: &str, configured: &str) -> Option<String> {
    let of = |text: &str| TriggerSettings::of_secrets([Secret::new(text)]);
    explained(entry, &of(good), &of(configured), |_| ())
}

#[test]
fn users_and_passwords_are_told_apart() {
    let catalog = ProviderCatalog::built_in();
    let basic = catalog.get("chargebee").unwrap();
    for (good, configured, part) in [
        ("ann:hunter2", "hunter2", "it is the password alone"),
        ("ann:hunter2", "ann", "it is the user alone"),
        ("ann:hunter2", "bob:hunter2", "given the user that the sender sends"),
        ("ann:hunter2", "ann:hunter2\n", "trimmed"),
    ] {
        let told = with_secrets(basic, good, configured).unwrap_or_default();
        assert!(told.contains(part), "{configured}: {told}");
        assert!(!told.contains("hunter2") && !told.contains("ann"), "{told}");
    }
    assert_eq!(with_secrets(basic, "ann:hunter2", "bob:hunter3"), None);
}

#[test]
fn tokens_may_have_a_word_before_them() {
    let bearer =
        own("[signature]\nsig = \"header:Authorization\"\nsyntax = [\"Bearer {sig}\"]\nalg = \"token\"");
    let bare = own("[signature]\nsig = \"header:X-Token\"\nalg = \"token\"");
    let trigger = TriggerSettings::of_secrets([Secret::new("hunter2")]);
    let sent = |entry: &Arc<ProviderEntry>, text: &'static str| {
        explained(entry, &trigger, &trigger, |raw| raw.headers[0].1 = text.into()).unwrap_or_default()
    };
    assert!(sent(&bearer, "hunter2").contains("once `Bearer ` stands before it"));
    assert!(sent(&bare, "bearer hunter2").contains("without `Bearer ` before it"));
    assert!(sent(&bare, "\"hunter2\"").contains("without the quotes"));
    assert_eq!(sent(&bare, "hunter3"), "");
    // The word may also have been pasted into the secret.
    assert!(with_secrets(&bearer, "hunter2", "Bearer hunter2").unwrap().contains("stripped of its prefix"));
    let catalog = ProviderCatalog::built_in();
    let github = catalog.get("github").unwrap();
    let bare_hex = |raw: &mut RawInbound| {
        let header = raw.headers.iter_mut().find(|(name, _)| name == "x-hub-signature-256").unwrap();
        header.1 = header.1.slice("sha256=".len()..);
    };
    assert!(
        explained(github, &trigger, &trigger, bare_hex).unwrap().contains("once `sha256=` stands before it")
    );
}

#[test]
fn what_a_token_must_say_is_named() {
    let entry = own("[signature]\nsig = \"header:X-Jwt\"\nalg = \"jwt\"\nalgs = [\"HS256\"]\n\
         binds = [{ at = \"claim:aud\", equals = \"{secret:audience}\" }]\n\
         [[secrets]]\nname = \"signing_secret\"\nnamespace = \"acme\"\nabout = \"\"\n\
         [[secrets]]\nname = \"audience\"\nnamespace = \"acme\"\nabout = \"\"");
    let trigger = |secret: &str, audience: &str| {
        let mut settings = TriggerSettings::of_secrets([Secret::new(secret)]);
        settings.secrets.insert("audience".into(), vec![Secret::new(audience)]);
        settings
    };
    let told = |configured| explained(&entry, &trigger("s", "a"), &configured, |_| ());
    assert_eq!(
        told(trigger("s", "b")).unwrap(),
        "the signature is good, but the token's claim aud is not the trigger's audience"
    );
    assert_eq!(told(trigger("s", "a")), None);
    assert!(told(trigger("s\n", "a")).unwrap().contains("trimmed"));
    let other = own("[signature]\nsig = \"header:X-Jwt\"\nalg = \"jwt\"\nalgs = [\"HS512\"]");
    let secret = TriggerSettings::of_secrets([Secret::new("s")]);
    let signer = Signer::new(&other, &secret).unwrap().unwrap();
    let (now, headers) = (Timestamp::from_second(1_700_000_000).unwrap(), &[][..]);
    let request =
        SignRequest { method: "POST", url: "/", headers, body: b"", now, delivery_id: "d", kind: None };
    let headers = signer.sign(request).unwrap().headers;
    let foreign =
        |raw: &mut RawInbound| raw.headers = headers.iter().cloned().map(|(n, v)| (n, v.into())).collect();
    let told = explained(&entry, &trigger("s", "a"), &trigger("s", "a"), foreign).unwrap();
    assert_eq!(told, "the token is signed with HS512; the provider's are HS256");
}

#[test]
fn a_body_that_a_claim_names_is_looked_for() {
    let entry = own("[signature]\nsig = \"header:X-Jwt\"\nalg = \"jwt\"\nalgs = [\"HS256\"]\n\
         binds = [{ at = \"claim:hash\", equals = \"{body|sha256|hex}\" }]");
    let trigger = TriggerSettings::of_secrets([Secret::new("s")]);
    let told = |body: &'static str| {
        explained(&entry, &trigger, &trigger, |raw| raw.body = body.into()).unwrap_or_default()
    };
    assert!(told("{\n  \"id\": \"evt_1\",\n  \"n\": [1, 2]\n}\n").contains("the blanks around it removed"));
    assert_eq!(
        told("x"),
        "the signature is good, but the token's claim hash is not the raw body as sha256 hex"
    );
}

#[test]
fn times_are_read_in_other_units() {
    let catalog = ProviderCatalog::built_in();
    let entry = catalog.get("hmac").unwrap();
    let trigger = |unit: &str| {
        let settings = [
            ("header", "X-Sig"),
            ("timestamp", "header:X-Time"),
            ("content", "{timestamp}.{body}"),
            ("unit", unit),
        ];
        TriggerSettings {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..TriggerSettings::of_secrets([Secret::new("s")])
        }
    };
    let told = |sent: &str, read: &str| explained(entry, &trigger(sent), &trigger(read), |_| ());
    assert!(told("ms", "s").unwrap().ends_with("its time is written as unix milliseconds"));
    assert!(told("s", "ms").unwrap().ends_with("its time is written as unix seconds"));
    assert!(told("rfc3339", "s").unwrap().ends_with("its time is written as an RFC 3339 time"));
    assert_eq!(told("s", "s"), None);
}

#[test]
fn keys_that_the_provider_publishes_are_used_where_they_are_known() {
    use crate::signature::{PrivateKey, PublicScheme};
    let entry = own("[signature]\nsig = \"header:X-Sig\"\nalg = \"ed25519\"\nencoding = \"base64\"\n\
         [signature.keys]\nfrom = \"pem\"\nurl = \"https://acme.example/key.pem\"");
    let key = PrivateKey::generate(PublicScheme::Ed25519);
    let fetched = [FetchedKey { id: None, key: key.public() }];
    let trigger = TriggerSettings::default();
    let signer = Signer::with_private_key(&entry, &trigger, key).unwrap().unwrap();
    let (now, headers) = (Timestamp::from_second(1_700_000_000).unwrap(), &[][..]);
    let request =
        SignRequest { method: "POST", url: "/", headers, body: b"x", now, delivery_id: "d", kind: None };
    let headers = signer.sign(request).unwrap().headers.into_iter();
    let raw = RawInbound {
        method: "POST".into(),
        url: "/".into(),
        headers: headers.map(|(name, value)| (name, value.into())).collect(),
        body: "x\n".into(),
        received_at: now,
        peer: None,
    };
    let cause = Cause::Body { how: "the blanks around it removed" };
    assert_eq!(explain(&entry, &trigger, &[], &raw, now, &fetched).unwrap(), Some(cause));
    assert_eq!(explain(&entry, &trigger, &[], &raw, now, &[]).unwrap(), None);
}
