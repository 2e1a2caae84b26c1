//! A request to judge, and what may be made of it to see whether a connector holds.

use super::vector::Vector;
use crate::connector::{FetchedKey, RawInbound, TriggerSettings};
use crate::event::Timestamp;
use crate::secrets::Secret;

/// Most headers of a request that are changed, one after the other.
const CHANGED_HEADERS_MAX: usize = 16;
/// How many bodies are made of a request by changing bytes here and there.
const MIXED_UP_BODIES: u64 = 16;
/// Bytes of a value that is much longer than any that a provider sends.
const LONG_VALUE_BYTES: usize = 8 * 1024;
/// Brackets of a body that nests deeper than any that a provider sends.
const DEEP_NESTING: usize = 10_000;

/// A request, and the trigger that it comes in on.
#[derive(Clone)]
pub(super) struct Fixture {
    /// What it is.
    pub(super) what: String,
    /// The trigger.
    pub(super) trigger: TriggerSettings,
    /// The request.
    pub(super) raw: RawInbound,
    /// When it is judged.
    pub(super) now: Timestamp,
    /// Whether a handshake may bring a secret.
    pub(super) armed: bool,
    /// What is known of the provider's keys.
    pub(super) keys: Vec<FetchedKey>,
}

impl Fixture {
    /// Returns the request of a vector.
    pub(super) fn of(vector: &Vector) -> Result<Self, String> {
        let raw = vector.request().map_err(|what| format!("{}: {what}", vector.what))?;
        Ok(Self {
            what: vector.what.clone(),
            trigger: vector.trigger(),
            now: raw.received_at,
            raw,
            armed: vector.armed,
            keys: vector.known_keys(),
        })
    }

    /// Returns the same request with another body.
    pub(super) fn with_body(&self, body: Vec<u8>) -> Self {
        Self { raw: RawInbound { body: body.into(), ..self.raw.clone() }, ..self.clone() }
    }

    fn with(&self, change: impl FnOnce(&mut RawInbound)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.raw);
        changed
    }
}

/// Returns what a sender may make of a request, each with a few words on how.
pub(super) fn malformed(fixture: &Fixture) -> Vec<(String, Fixture)> {
    let mut found = vec![
        ("without headers".to_owned(), fixture.with(|raw| raw.headers.clear())),
        ("with every header twice".to_owned(), fixture.with(|raw| raw.headers.extend_from_within(..))),
        (
            "by GET with a strange query".to_owned(),
            fixture.with(|raw| {
                raw.method = "GET".to_owned();
                raw.url = "/hooks/x?challenge=%ff%00&a=%&b[]=1&=".to_owned();
            }),
        ),
        ("with an empty URL".to_owned(), fixture.with(|raw| raw.url.clear())),
    ];
    for at in 0..fixture.raw.headers.len().min(CHANGED_HEADERS_MAX) {
        let name = fixture.raw.headers[at].0.clone();
        found.push((format!("without the header {name}"), fixture.with(|raw| drop(raw.headers.remove(at)))));
        for (how, value) in [
            ("empty", Vec::new()),
            ("not UTF-8", vec![0xff, 0xfe, b',', b'=']),
            ("very long", vec![b'9'; LONG_VALUE_BYTES]),
            ("of separators", b",,;;==..::v1=,t=".to_vec()),
        ] {
            let changed = fixture.with(|raw| raw.headers[at].1 = value.into());
            found.push((format!("with the header {name} {how}"), changed));
        }
    }
    let body = &fixture.raw.body;
    let deep = "[".repeat(DEEP_NESTING).into_bytes();
    let kinds_of_json =
        [&b"null"[..], b"0", b"\"\"", b"[]", b"[[]]", b"{}", b"[{},1,null]", b"{\"a\":1e999}"];
    let bodies = [Vec::new(), body[..body.len() / 2].to_vec(), vec![0xff; 64], vec![0; 64], deep];
    for changed in bodies.into_iter().chain(kinds_of_json.map(<[u8]>::to_vec)).chain(mixed_up(body)) {
        let shown = String::from_utf8_lossy(&changed[..changed.len().min(16)]).into_owned();
        found.push((format!("with the body {shown:?}"), fixture.with_body(changed)));
    }
    found
}

/// Returns bodies with bytes changed here and there, the same ones each time.
fn mixed_up(body: &[u8]) -> Vec<Vec<u8>> {
    let mixed_up = |round: u64| {
        let mut changed = body.to_vec();
        let mut random = round;
        for _ in 0..round {
            // Knuth's linear congruential generator.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(random >> 33).unwrap_or(0) % changed.len();
            changed[at] = random.to_le_bytes()[3];
        }
        changed
    };
    if body.is_empty() { Vec::new() } else { (1..=MIXED_UP_BODIES).map(mixed_up).collect() }
}

/// Returns secrets that differ from a trigger's own by what `list` makes of each: it is given the secret, and one
/// of the same form that differs.
pub(super) fn changed_secrets(
    trigger: &TriggerSettings,
    list: impl Fn(Secret, Option<Secret>) -> Vec<Secret>,
) -> TriggerSettings {
    let of_list = |secrets: &Vec<Secret>| {
        secrets.iter().flat_map(|own| list(own.clone(), changed(own))).collect::<Vec<Secret>>()
    };
    let secrets = trigger.secrets.iter().map(|(name, secrets)| (name.clone(), of_list(secrets))).collect();
    TriggerSettings { secrets, ..trigger.clone() }
}

/// Returns another secret of the same form: what follows a prefix such as `whsec_` is changed, digits to digits
/// and letters to letters, hexadecimal ones to such.
fn changed(secret: &Secret) -> Option<Secret> {
    let text = std::str::from_utf8(secret.expose()).ok()?;
    let start = text.find('_').map_or(0, |at| at + 1);
    let next = |c: char| match c {
        '9' => '0',
        'f' => 'a',
        'F' => 'A',
        'z' => 'g',
        'Z' => 'G',
        c if c.is_ascii_alphanumeric() => char::from(c as u8 + 1),
        c => c,
    };
    let changed = text[..start].chars().chain(text[start..].chars().map(next)).collect::<String>();
    (changed != text).then(|| Secret::new(changed))
}
