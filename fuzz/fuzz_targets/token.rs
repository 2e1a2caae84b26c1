//! JSON Web Tokens as proofs: none that anybody sends verifies, and none that is signed here fails.
//!
//! Input: a token, a line feed, a body; or a JSON object of claims alone, which is signed first.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use hookkeeper::event::Header;
use hookkeeper::signature::{
    BindText, Curve, Fields, Hash, Key, Named, PrivateKey, Problem, PublicScheme, Request, Scheme, Text,
    Values, Window,
};
use hookkeeper_fuzz::{line, now, secret_of};
use libfuzzer_sys::fuzz_target;

const SHARED: [&str; 3] = ["HS256", "HS384", "HS512"];
const PUBLIC: [&str; 8] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "EdDSA"];
/// Of RFC 7517, appendix A.1.
const RSA: &str = r#"{"kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#;
const ES256: PublicScheme = PublicScheme::Ecdsa { curve: Curve::P256, hash: Hash::Sha256, der: false };
static WINDOW: LazyLock<Window> = LazyLock::new(|| Window { now: now(), tolerance: None });

struct Case {
    fields: Fields,
    scheme: Scheme,
    /// None: the secret of the input.
    keys: Option<Vec<Key>>,
}

/// Tokens of both kinds in a header, bound to their sender and to the body; and tokens that are the body.
static CASES: LazyLock<[Case; 4]> = LazyLock::new(|| {
    let equals = |at, equals| BindText { at, equals, unless: None };
    let in_header = Text {
        sig: vec!["header:x-token"],
        syntax: vec!["Bearer {sig}"],
        binds: vec![equals("claim:iss", "acme"), equals("claim:sha256", "{body|sha256|hex}")],
        ..Text::default()
    };
    let in_body = Text { sig: vec!["body"], ..Text::default() };
    [case(&in_body, &SHARED), case(&in_body, &PUBLIC), case(&in_header, &SHARED), case(&in_header, &PUBLIC)]
});

fn case(text: &Text<'static>, algs: &[&'static str]) -> Case {
    let mut fields = Fields::default();
    let text = Text { alg: Some("jwt"), algs: algs.to_vec(), timestamp: Some("claim:iat"), ..text.clone() };
    let scheme = Scheme::new(&text, &mut fields).expect("a scheme");
    let pem = |scheme| PrivateKey::generate(scheme).public_pem();
    let texts = || [RSA.to_owned(), pem(PublicScheme::Ed25519), pem(ES256)];
    let key = |text: String| scheme.key(text.as_bytes()).expect("a key");
    let keys = scheme.takes_public_key().then(|| texts().map(key).to_vec());
    Case { fields, scheme, keys }
}

fn verify(case: &Case, keys: &[Key], headers: &[Header], body: &[u8]) -> Result<(), Problem> {
    let request = Request { method: "POST", url: "/x", public_url: None, headers, body };
    let values = Values::new(&case.fields, request);
    case.scheme.claimed_key_id(&values);
    case.scheme.verify(keys, &values, *WINDOW).map(drop)
}

/// Nothing but the holder of a key makes a token that verifies.
fn forge(data: &[u8]) {
    let (token, body) = line(data);
    let header = [&b"Bearer "[..], token].concat();
    let headers = [("x-token".to_owned(), Bytes::from(header))];
    for case in CASES.iter() {
        let own = || vec![case.scheme.key(&secret_of(data)).expect("a secret is a key")];
        let keys = case.keys.clone().unwrap_or_else(own);
        verify(case, &keys, &headers, body).expect_err("a forged token verifies");
        verify(case, &keys, &[], token).expect_err("a forged token verifies");
    }
}

/// What is signed verifies, and changed by one bit it does not.
fn sign(claims: &[u8]) {
    let (case, secret) = (&CASES[0], secret_of(claims));
    let key = case.scheme.signing_key(&secret).expect("a secret is a key");
    let request = Request { method: "POST", url: "/x", public_url: None, headers: &[], body: claims };
    let Ok(signed) = case.scheme.sign(&case.fields, &key, request, &Named::new(), now()) else { return };
    let mut token = signed.body.expect("the token is the body");
    let keys = [case.scheme.key(&secret).expect("a secret is a key")];
    match verify(case, &keys, &[], &token) {
        // Claims may say that the token holds at another time, or not when it was made.
        Ok(()) | Err(Problem::OutOfWindow { .. } | Problem::Malformed { .. }) => {}
        Err(problem) => panic!("{problem}"),
    }
    let at = usize::from(secret[0]) % token.len();
    token[at] ^= 1;
    verify(case, &keys, &[], &token).expect_err("a changed token verifies");
}

fuzz_target!(|data: &[u8]| {
    match data {
        [b'{', ..] => sign(data),
        _ => forge(data),
    }
});
