//! What several targets share: a request as text, and secrets that nobody can guess.

use bytes::Bytes;
use hookkeeper::connector::RawInbound;
use hookkeeper::event::{Header, Timestamp};
use hookkeeper::signature::Hash;

/// The time at which every input is judged.
///
/// # Panics
///
/// Never: it is a time.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

/// A secret that follows from the input, so that a crash can be repeated, and that no input can contain.
pub fn secret_of(input: &[u8]) -> [u8; 32] {
    let salted = [b"no input knows this", input].concat();
    Hash::Sha256.digest(&salted).try_into().expect("SHA-256 has 32 bytes")
}

/// Splits the text's first line off.
pub fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Reads a request written as `METHOD /path?query`, headers one a line, an empty line, and the body.
pub fn request(text: &[u8]) -> RawInbound {
    let (first, mut rest) = line(text);
    let first = String::from_utf8_lossy(first);
    let (method, url) = first.split_once(' ').unwrap_or(("POST", &first));
    let mut headers: Vec<Header> = Vec::new();
    loop {
        let (header, after) = line(rest);
        rest = after;
        let Some(colon) = header.iter().position(|byte| *byte == b':') else { break };
        let name = String::from_utf8_lossy(&header[..colon]).to_ascii_lowercase();
        headers.push((name, Bytes::copy_from_slice(header[colon + 1..].trim_ascii())));
    }
    RawInbound {
        method: method.to_owned(),
        url: url.to_owned(),
        headers,
        body: Bytes::copy_from_slice(rest),
        received_at: now(),
        peer: None,
    }
}
