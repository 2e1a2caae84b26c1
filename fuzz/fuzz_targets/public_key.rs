//! Public keys and certificates as providers publish them, and signatures under keys of anybody's making.
//!
//! Input: what is read (`jwks`, `x509`, `pem`, `json` or the name of an algorithm), a line feed, the text;
//! for an algorithm a key in hex, a line feed, and a signature.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use hookkeeper::catalog::KeyDocument;
use hookkeeper::connector::{FetchedKey, KeyRequest};
use hookkeeper::event::Header;
use hookkeeper::signature::{
    Curve, Encoding, Fields, Hash, PublicKey, PublicScheme, Request, Scheme, Text, Values, Window,
};
use hookkeeper_fuzz::{line, now};
use libfuzzer_sys::fuzz_target;

/// Most keys of one answer.
const KEYS_MAX: usize = 64;
const KINDS: [PublicScheme; 4] = [
    PublicScheme::Ed25519,
    PublicScheme::Ecdsa { curve: Curve::P256, hash: Hash::Sha256, der: true },
    PublicScheme::Ecdsa { curve: Curve::P521, hash: Hash::Sha512, der: true },
    PublicScheme::RsaPkcs1(Hash::Sha256),
];

fn check(key: &PublicKey) {
    assert_eq!(KINDS.iter().filter(|kind| key.fits(**kind)).count(), 1);
}

fn read_answer(from: KeyDocument, answer: &[u8]) {
    let request = KeyRequest {
        from,
        url: "https://keys.example.com/".to_owned(),
        hosts: vec!["keys.example.com".to_owned()],
        method: "GET".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        pointer: "/key".to_owned(),
        key_id: Some("k".to_owned()),
        cache: Duration::from_secs(60),
        lacks: None,
    };
    let keys = request.read(answer, now());
    assert!(keys.len() <= KEYS_MAX);
    assert!(request.pick(&keys).len() <= keys.len());
    keys.iter().for_each(|fetched| check(&fetched.key));
    if let Ok(value) = serde_json::from_slice(answer) {
        FetchedKey::read("k", &value).iter().for_each(|fetched| check(&fetched.key));
    }
}

/// Verifies what the input says is a signature with what it says is a key. It may even hold: anybody can
/// make a pair.
fn verify(algorithm: &str, text: &[u8]) -> Option<bool> {
    let mut fields = Fields::default();
    let sig = vec!["header:x-sig"];
    let text_of = Text { sig, alg: Some(algorithm), key: Some("unhex"), ..Text::default() };
    let scheme = Scheme::new(&text_of, &mut fields).ok().filter(Scheme::takes_public_key)?;
    let (key, signature) = line(text);
    let key = scheme.key(key).ok()?;
    let signature = Encoding::Hex.encode(signature);
    let headers: [Header; 1] = [("x-sig".to_owned(), Bytes::from(signature))];
    let request = Request { method: "POST", url: "/x", public_url: None, headers: &headers, body: b"body" };
    let window = Window { now: now(), tolerance: None };
    Some(scheme.verify(&[key], &Values::new(&fields, request), window).is_ok())
}

fuzz_target!(|data: &[u8]| {
    let (kind, text) = line(data);
    match kind {
        b"jwks" => read_answer(KeyDocument::Jwks, text),
        b"x509" => read_answer(KeyDocument::X509, text),
        b"pem" => read_answer(KeyDocument::Pem, text),
        b"json" => read_answer(KeyDocument::Json, text),
        algorithm => {
            if let Ok(algorithm) = std::str::from_utf8(algorithm) {
                verify(algorithm, text);
            }
        }
    }
});
