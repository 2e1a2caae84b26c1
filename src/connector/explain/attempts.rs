//! What is tried: other ways to read a secret, a proof, a URL or a body.

use bytes::Bytes;

use crate::connector::RawInbound;
use crate::signature::Filter;
use crate::signature::json_text::{self, Style};

/// Prefixes that people leave out of secrets, or paste too much of.
const PREFIXES: [&str; 7] = ["whsec_", "lin_wh_", "secret_", "sha256=", "Bearer ", "Token ", "Basic "];
/// What stands before a proof at some providers, and at others not.
const PROOF_PREFIXES: [&str; 8] =
    ["Bearer ", "Basic ", "Token ", "sha256=", "sha1=", "sha512=", "v1=", "v1,"];

/// Schemes and hosts that a provider may have called: those of the request, and those that are configured. None
/// stands for schemes that sign the path alone.
pub(super) fn bases(raw: &RawInbound, public_url: Option<&str>) -> Vec<Option<String>> {
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
pub(super) fn paths(path: &str) -> [String; 2] {
    let other = match path.strip_suffix('/') {
        Some(bare) => bare.to_owned(),
        None => format!("{path}/"),
    };
    [path.to_owned(), other]
}

/// Other ways to read a secret.
pub(super) fn readings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
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
pub(super) fn bodies(body: &Bytes) -> Vec<(&'static str, Bytes)> {
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

/// Other ways in which a sender may write a proof, each with what makes it one.
pub(super) fn proofs(text: &str) -> Vec<(String, String)> {
    let mut proofs = vec![(text.trim_matches('"').to_owned(), "without the quotes around it".to_owned())];
    for prefix in PROOF_PREFIXES {
        // The words of `Authorization` have no case.
        let is_there = text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        match is_there {
            true => proofs.push((text[prefix.len()..].to_owned(), format!("without `{prefix}` before it"))),
            false => proofs.push((format!("{prefix}{text}"), format!("once `{prefix}` stands before it"))),
        }
    }
    proofs
}

/// Other users and passwords that a secret may have been meant to be, given what the sender sends as
/// `user:password`.
pub(super) fn users(secret: &[u8], sent: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let Some(colon) = sent.iter().position(|byte| *byte == b':') else { return Vec::new() };
    let (user, password) = (&sent[..=colon], &sent[colon + 1..]);
    let own_password = secret.iter().position(|byte| *byte == b':').map(|at| &secret[at + 1..]);
    let mut users = vec![("given as user:password: it is the password alone", [user, secret].concat())];
    users.push(("given as user:password: it is the user alone", [secret, b":", password].concat()));
    users.extend(own_password.map(|own| ("given the user that the sender sends", [user, own].concat())));
    users
}
