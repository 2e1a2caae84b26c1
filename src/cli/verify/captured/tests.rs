//! Captured requests in every form in which they may be written.

use super::*;

fn judged(line: Value) -> Result<Value, String> {
    let now = "2026-11-23T14:00:00Z".parse().unwrap();
    let captured = Captured::read(line.to_string().as_bytes(), now)?;
    captured.judge(&ProviderCatalog::built_in(), now).map(|judged| judged.verdict)
}

const SECRET: &str = "It's a Secret to Everybody";
const HELLO: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn hello(changes: Value) -> Value {
    let mut line = json!({"provider": "github", "secret": SECRET, "body": "Hello, World!",
                          "headers": {"X-Hub-Signature-256": HELLO, "X-GitHub-Event": "push"}});
    for (name, value) in changes.as_object().unwrap() {
        line[name] = value.clone();
    }
    line
}

#[test]
fn githubs_published_example_is_verified_in_every_form() {
    for changes in [
        json!({}),
        json!({"secret": null, "secrets": {"signing_secret": SECRET}, "tolerance": null, "settings": null}),
        json!({"secret": null, "secrets": {"signing_secret": ["another", SECRET]}}),
        json!({"secret": ["another", SECRET]}),
        json!({"headers": [["X-Hub-Signature-256", HELLO], ["x-github-event", "push"]]}),
        json!({"headers": {"x-hub-signature-256": [HELLO], "X-GITHUB-EVENT": ["push"]}}),
        json!({"headers": [["X-Hub-Signature-256", [HELLO]], ["x-github-event", "push"]]}),
        json!({"body": null, "body_base64": STANDARD.encode("Hello, World!")}),
        json!({"method": "post", "url": "https://hooks.example.com/hooks/github?a=1"}),
        json!({"url": "/hooks/github", "public_url": "https://hooks.example.com/x"}),
    ] {
        let verdict = judged(hello(changes)).unwrap();
        assert_eq!((&verdict["state"], &verdict["kind"]), (&json!("verified"), &json!("push")), "{verdict}");
        assert!(verdict["reason"].is_null() && verdict["reply"].is_null());
    }
}

#[test]
fn instants_are_read_as_they_are_written() {
    let now: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
    let at = |value: Value| instant(&value, now).map(|at| at.to_string());
    let expected = Some("2023-11-14T22:13:20Z".to_owned());
    for value in [
        json!(1_700_000_000),
        json!(1_700_000_000.0),
        json!("1700000000"),
        json!(1_700_000_000_000_i64),
        json!("2023-11-14T22:13:20Z"),
        json!(" 2023-11-14T23:13:20+01:00 "),
    ] {
        assert_eq!(at(value.clone()), expected, "{value}");
    }
    assert_eq!(at(json!("2h")).as_deref(), Some("2026-11-23T12:00:00Z"));
    assert_eq!(at(json!(-1)).as_deref(), Some("1969-12-31T23:59:59Z"));
    for bad in [json!("yesterday"), json!(true), json!([1]), json!(1e300)] {
        assert_eq!(at(bad.clone()), None, "{bad}");
    }
}

#[test]
fn settings_may_stand_among_the_secrets() {
    for (secrets, settings) in [
        (json!({"signing_secret": SECRET, "header": "X-Hub-Signature-256", "prefix": "sha256="}), json!({})),
        (json!({"signing_secret": SECRET}), json!({"header": "X-Hub-Signature-256", "prefix": "sha256="})),
    ] {
        let changes = json!({"provider": "hmac", "secret": null, "secrets": secrets, "settings": settings});
        assert_eq!(judged(hello(changes)).unwrap()["state"], "verified");
    }
}

#[test]
fn the_only_secret_of_a_provider_needs_no_name() {
    for given in [json!({"secret": "topic"}), json!({"secrets": {"signing_secret": "topic"}})] {
        let mut line = json!({"provider": "aws-sns", "headers": {}, "body": "{}"});
        line.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        assert_eq!(judged(line).unwrap()["reason"], "missing_header");
    }
    // Where there is nothing to verify, a secret changes nothing.
    let line = json!({"provider": "docker-hub", "secret": "x", "body": "{}"});
    assert_eq!(judged(line).unwrap()["state"], "unsigned");
}

#[test]
fn public_keys_are_read_in_every_form() {
    use crate::connector::{SignRequest, Signer};
    use crate::signature::{PrivateKey, PublicScheme};
    let catalog = ProviderCatalog::built_in();
    let entry = catalog.get("discord").unwrap();
    let key = PrivateKey::generate(PublicScheme::Ed25519);
    let pem = key.public_pem();
    let signer = Signer::with_private_key(entry, &TriggerSettings::default(), key).unwrap().unwrap();
    let body = r#"{"event":{"type":"APPLICATION_AUTHORIZED"},"type":1}"#;
    let now = "2026-11-23T14:00:00Z".parse().unwrap();
    let (method, url, headers) = ("POST", "/", &[][..]);
    let request =
        SignRequest { method, url, headers, body: body.as_bytes(), now, delivery_id: "d", kind: None };
    let headers = signer.sign(request).unwrap().headers;
    for given in [
        json!({"secret": pem}),
        json!({"secrets": {"signing_secret": pem}}),
        json!({"keys": {"application": pem}}),
        json!({"keys": pem}),
    ] {
        let mut line = json!({"provider": "discord", "headers": headers, "body": body});
        line.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        assert_eq!(judged(line).unwrap()["kind"], "APPLICATION_AUTHORIZED", "{given}");
    }
    let unarmored: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let line = json!({"provider": "discord", "secret": unarmored, "headers": headers, "body": body});
    let verdict = judged(line).unwrap();
    let hint = verdict["hint"].as_str().unwrap();
    assert!(hint.ends_with("what was given is such a key, but written in base64"), "{hint}");
}

#[test]
fn one_key_or_set_needs_no_name() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    for given in [
        jwk.clone(),
        json!({"keys": [jwk]}),
        json!([jwk]),
        json!({"a": jwk}),
        json!(jwk.to_string()),
        json!({"a": {"keys": [jwk]}}),
    ] {
        let keys = keys(&given).unwrap();
        let read: Vec<_> = keys.iter().flat_map(|(name, value)| FetchedKey::read(name, value)).collect();
        assert_eq!(read.len(), 1, "{given}");
        assert_eq!(key_texts(&keys), [jwk.to_string()], "{given}");
    }
}

#[test]
fn keys_that_are_given_need_no_secrets_to_fetch_them_with() {
    use crate::connector::{SignRequest, Signer};
    use crate::signature::PrivateKey;
    let catalog = ProviderCatalog::built_in();
    let entry = catalog.get("plaid").unwrap();
    let scheme = private_scheme(entry, &BTreeMap::new()).unwrap().unwrap();
    let key = PrivateKey::generate(scheme);
    let pem = key.public_pem();
    let signer = Signer::with_private_key(entry, &TriggerSettings::default(), key).unwrap().unwrap();
    let now = "2026-11-23T14:00:00Z".parse().unwrap();
    let body = r#"{"webhook_type":"ITEM","webhook_code":"ERROR"}"#;
    let (method, url, headers) = ("POST", "/", &[][..]);
    let request =
        SignRequest { method, url, headers, body: body.as_bytes(), now, delivery_id: "d", kind: None };
    let headers = signer.sign(request).unwrap().headers;
    for secret in [Value::Null, json!("x")] {
        let mut line = json!({"provider": "plaid", "headers": headers, "body": body, "secret": secret});
        line["keys"] = json!({"key 1": pem});
        assert_eq!(judged(line.clone()).unwrap()["kind"], "ITEM.ERROR");
        line["keys"] = Value::Null;
        assert_eq!(judged(line).unwrap()["state"], "rejected");
    }
    // What a foreign host has is not the provider's key, whoever gives it.
    let line = json!({"provider": "aws-sns", "secret": "arn:aws:sns:us-east-1:1:a", "keys": {"x": pem},
        "body": r#"{"SigningCertURL":"https://evil.example/x.pem","Signature":"AAAA","SignatureVersion":"2"}"#});
    let verdict = judged(line).unwrap();
    assert_eq!(verdict["hint"], "the request names no public key of the provider that may be fetched");
}

#[test]
fn an_empty_id_is_none() {
    for (id, signature, expected) in [
        ("msg_1", "FvNWKi+N4x7QaqJn+wO8gZOr+a7snL0G+oOuI2yYicw=", Value::Null),
        ("", "ZMQbsW+Mb6/upgHVrk+GQBJOy59Wh0qcqdB3LwPatK8=", json!("missing_header")),
    ] {
        let line = json!({
            "provider": "standard-webhooks", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "body": "{}",
            "headers": {"webhook-id": id, "webhook-timestamp": "1795442400", "webhook-signature": format!("v1,{signature}")},
        });
        assert_eq!(judged(line).unwrap()["reason"], expected, "{id:?}");
    }
}

#[test]
fn a_secret_that_cannot_serve_verifies_nothing() {
    for secret in ["", " ", "\0\0"] {
        let verdict = judged(hello(json!({"secret": secret}))).unwrap();
        assert_eq!(
            (&verdict["state"], &verdict["reason"]),
            (&json!("rejected"), &json!("invalid_signature"))
        );
        assert!(verdict["hint"].as_str().unwrap().contains("empty or blank"), "{verdict}");
    }
}

#[test]
fn a_handshake_is_told_as_if_the_trigger_were_armed() {
    let line = |armed: Value| json!({"provider": "notion", "body": r#"{"verification_token":"secret_x"}"#, "armed": armed});
    assert_eq!(judged(line(Value::Null)).unwrap()["state"], "handshake");
    assert_eq!(judged(line(json!(false))).unwrap()["reason"], "missing_header");
}

#[test]
fn a_rejection_says_why() {
    let verdict = judged(hello(json!({"headers": {}}))).unwrap();
    assert_eq!((&verdict["state"], &verdict["reason"]), (&json!("rejected"), &json!("missing_header")));
    let verdict = judged(hello(json!({"secret": format!("{SECRET}\n")}))).unwrap();
    let hint = verdict["hint"].as_str().unwrap();
    let cause =
        "; secret number 1 yields the signature once it is trimmed: a blank or line end belongs to it";
    assert!(hint.ends_with(cause), "{hint}");
}

#[test]
fn questions_that_make_no_sense_are_told() {
    for (line, part) in [
        (json!([]), "no JSON object"),
        (json!({}), "`provider` is missing"),
        (json!({"provider": "gihub"}), "did you mean github"),
        (hello(json!({"body_base64": ""})), "not both"),
        (hello(json!({"at": "yesterday"})), "`at`"),
        (hello(json!({"colour": 1})), "unknown key `colour`"),
        (hello(json!({"header": {}})), "did you mean `headers`?"),
        (hello(json!({"headers": "x"})), "`headers`"),
        (hello(json!({"headers": ["x"]})), "no pair"),
        (hello(json!({"secrets": []})), "`secrets` is no object"),
        (hello(json!({"secrets": {"tokn": "x"}})), "unknown secret \"tokn\""),
        (hello(json!({"body": {"a": 1}})), "`body`"),
        (hello(json!({"armed": "yes"})), "`armed`"),
        (json!({"provider": "hmac", "secret": "x"}), "setting \"header\" is missing"),
    ] {
        let problem = judged(line.clone()).unwrap_err();
        assert!(problem.contains(part), "{line}: {problem}");
    }
    let now = "2026-11-23T14:00:00Z".parse().unwrap();
    let problem = Captured::read(b"hunter2 {", now).err().unwrap();
    assert!(problem.contains("no JSON") && !problem.contains("hunter2"), "{problem}");
}

#[test]
fn urls_are_split_into_what_is_registered_and_what_arrives() {
    for (url, base, rest) in [
        ("/hooks/x?a=1", None, "/hooks/x?a=1"),
        ("/hooks/x?next=https://a.example", None, "/hooks/x?next=https://a.example"),
        ("https://a.example/hooks?x", Some("https://a.example/hooks"), "/hooks?x"),
        ("https://a.example", Some("https://a.example"), "/"),
        ("https://a.example?x", Some("https://a.example"), "/?x"),
    ] {
        assert_eq!(split_url(url), (base.map(str::to_owned), rest.to_owned()), "{url}");
    }
}
