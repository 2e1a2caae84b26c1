//! The strictness of verification, rule by rule, over every entry that a rule applies to. Each test names
//! a way in which verifiers are too kind; how many entries it looked at is held, too.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hookkeeper::catalog::{ProviderCatalog, SIGNING_SECRET, Signature};
use hookkeeper::connector::{RawInbound, Rendered, TriggerSettings, Verifier, render};
use hookkeeper::event::{RejectReason, Timestamp};
use hookkeeper::secrets::Secret;
use hookkeeper::signature::{Encoding, Hash, Syntax};
use hookkeeper::testkit::{Pair, Refused};
use serde_json::Value;

/// The order of the group that Ed25519 computes in (RFC 8032, section 5.1), least byte first.
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// Points of small order (RFC 7748, section 7 names them): keys under which one signature fits many messages.
const SMALL_ORDER: [&str; 4] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
];

/// A delivery of one provider, and where in it the proof stands.
struct Case {
    pair: Pair,
    raw: RawInbound,
    /// Index of the header with the proof.
    header: usize,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let catalog = ProviderCatalog::built_in();
    let pairs = catalog.entries().filter_map(|entry| Pair::of(entry, &[7; 32]).unwrap());
    pairs.filter_map(Case::of).collect()
});

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

impl Case {
    /// Returns nothing for a provider whose proof stands elsewhere than in a header, or holds several
    /// signatures, of which one that is good is enough.
    fn of(pair: Pair) -> Option<Self> {
        let name = pair.signer().renewed_headers().first()?.to_string();
        let signature = pair.entry().signature.as_ref()?;
        if tags(signature).count() > 1 {
            return None;
        }
        let place = &signature.sig;
        let is_sig = place.to_ascii_lowercase() == format!("header:{name}") || place.contains("${");
        let raw = pair.sample_delivery(now()).ok().filter(|_| is_sig)?;
        let header = raw.headers.iter().position(|(known, _)| *known == name)?;
        Some(Self { pair, raw, header })
    }

    fn id(&self) -> &str {
        self.pair.entry().id.as_str()
    }

    fn signature(&self) -> &Signature {
        self.pair.entry().signature.as_ref().unwrap()
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.signature().alg.as_deref() {
            Some("token" | "jwt") => None,
            _ => self.signature().encoding.as_deref().unwrap_or("hex").parse().ok(),
        }
    }

    fn proof(&self) -> &str {
        std::str::from_utf8(&self.raw.headers[self.header].1).unwrap()
    }

    /// Splits the proof's text around the signature in it, its longest run of signature characters.
    fn around_signature(&self) -> (&str, &str, &str) {
        let proof = self.proof();
        let encoding = self.encoding().expect("only encoded signatures are looked for");
        let is_digit = |c: char| match encoding {
            Encoding::Hex => c.is_ascii_hexdigit(),
            _ => c.is_ascii_alphanumeric() || "+/-_=".contains(c),
        };
        let mut longest = (0, 0);
        let mut start = 0;
        for (at, c) in proof.char_indices().chain([(proof.len(), ' ')]) {
            // What stands before a signature may end in `=`, as in `v1=`.
            let is_prefix_end = c == '=' && at - start < 12;
            if !is_digit(c) || is_prefix_end {
                if at - start > longest.1 - longest.0 {
                    longest = (start, at);
                }
                start = at + c.len_utf8();
            }
        }
        (&proof[..longest.0], &proof[longest.0..longest.1], &proof[longest.1..])
    }

    fn with_proof(&self, proof: String) -> RawInbound {
        let mut raw = self.raw.clone();
        raw.headers[self.header].1 = proof.into();
        raw
    }

    fn with_signature(&self, signature: &str) -> RawInbound {
        let (before, _, after) = self.around_signature();
        self.with_proof(format!("{before}{signature}{after}"))
    }

    /// Judges a request; the reason why it is refused, or nothing.
    fn refusal(&self, raw: &RawInbound) -> Option<RejectReason> {
        self.refusal_at(raw, now())
    }

    fn refusal_at(&self, raw: &RawInbound, at: Timestamp) -> Option<RejectReason> {
        match self.pair.judge(raw, at) {
            Ok(_) => None,
            Err(Refused::Rejected(rejection)) => Some(rejection.reason),
            Err(Refused::Handshake) => panic!("{}: taken for a handshake", self.id()),
        }
    }

    fn accepts(&self, raw: &RawInbound) {
        assert_eq!(self.refusal(raw), None, "{}: {:?}", self.id(), raw.headers[self.header]);
    }

    fn refuses(&self, raw: &RawInbound) {
        assert_ne!(self.refusal(raw), None, "{}: {:?}", self.id(), raw.headers[self.header]);
    }

    fn is_public(&self) -> bool {
        !self.pair.is_shared()
    }
}

/// Looks at all entries that a rule applies to, of which there must be so many.
fn for_each(at_least: usize, applies: impl Fn(&Case) -> bool, check: impl Fn(&Case)) {
    let cases: Vec<&Case> = CASES.iter().filter(|case| applies(case)).collect();
    assert!(cases.len() >= at_least, "the rule is looked at in {} entries only", cases.len());
    cases.into_iter().for_each(check);
}

fn decoded(case: &Case) -> Vec<u8> {
    let (_, text, _) = case.around_signature();
    let bytes = case.encoding().unwrap().decode(text.as_bytes(), 1024);
    bytes.unwrap_or_else(|| panic!("{}: {text:?} in {:?} is no signature", case.id(), case.proof()))
}

#[test]
fn different_values_of_the_proofs_header_are_refused_and_equal_ones_are_one() {
    for_each(
        200,
        |_| true,
        |case| {
            let (name, value) = case.raw.headers[case.header].clone();
            let twice = |first: &Bytes, second: &Bytes| {
                let mut raw = case.raw.clone();
                raw.headers[case.header].1 = first.clone();
                raw.headers.push((name.clone(), second.clone()));
                raw
            };
            let other = Bytes::from([&value[..value.len() - 1], b"!"].concat());
            case.accepts(&twice(&value, &value));
            for raw in [twice(&value, &other), twice(&other, &value)] {
                assert_eq!(case.refusal(&raw), Some(RejectReason::InvalidHeader), "{}", case.id());
            }
        },
    );
}

#[test]
fn base64_is_accepted_in_its_canonical_form_only() {
    let is_base64 = |case: &Case| matches!(case.encoding(), Some(Encoding::Base64 | Encoding::Base64Url));
    for_each(60, is_base64, |case| {
        let (_, text, _) = case.around_signature();
        let bare = text.trim_end_matches('=');
        let mut others = vec![format!("{text}="), format!("{text} "), format!("{bare}===")];
        if bare != text {
            others.push(bare.to_owned());
        }
        // The last digit has bits that are no part of the bytes.
        if bare.len() % 4 != 0 {
            let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let last = bare.chars().last().unwrap().to_string().replace('-', "+").replace('_', "/");
            let next = digits.find(&last).unwrap() + 1;
            let stray = &digits[next..=next];
            others.push(format!("{}{stray}{}", &bare[..bare.len() - 1], &text[bare.len()..]));
        }
        others.retain(|other| other.trim() == other || !case.proof().ends_with(text));
        others.iter().for_each(|other| case.refuses(&case.with_signature(other)));
    });
}

#[test]
fn hex_has_no_case_and_literal_text_has_one() {
    let is_hex = |case: &Case| case.encoding() == Some(Encoding::Hex);
    for_each(90, is_hex, |case| {
        let (before, text, _) = case.around_signature();
        case.accepts(&case.with_signature(&text.to_ascii_uppercase()));
        for bad in [format!("0x{text}"), format!("{}g", &text[1..])] {
            case.refuses(&case.with_signature(&bad));
        }
        let is_scheme = case.signature().sig.eq_ignore_ascii_case("header:Authorization");
        let tag = tags(case.signature()).find(|tag| before.ends_with(tag)).unwrap_or_default();
        if tag.contains(|c: char| c.is_ascii_lowercase()) && !is_scheme {
            let (upper, after) = (tag.to_ascii_uppercase(), &case.proof()[before.len()..]);
            let other = before.len() - tag.len();
            case.refuses(&case.with_proof(format!("{}{upper}{after}", &before[..other])));
        }
    });
}

#[test]
fn a_longer_or_shorter_signature_is_no_signature() {
    for_each(
        200,
        |case| case.encoding().is_some(),
        |case| {
            let (encoding, right) = (case.encoding().unwrap(), decoded(case));
            case.accepts(&case.with_signature(&encoding.encode(&right)));
            let longer = [&right[..], &[0]].concat();
            for wrong in [&longer, &right[..right.len() - 1], &right[1..], &[]] {
                case.refuses(&case.with_signature(&encoding.encode(wrong)));
            }
        },
    );
}

#[test]
fn secrets_that_protect_nothing_are_refused() {
    let has_secret = |case: &Case| case.pair.trigger().secrets.contains_key(SIGNING_SECRET);
    for_each(200, has_secret, |case| {
        for blank in ["", " ", "\t\n", "\0", "\0\0\0\0"] {
            let mut trigger: TriggerSettings = case.pair.trigger().clone();
            trigger.secrets.insert(SIGNING_SECRET.to_owned(), vec![Secret::new(blank)]);
            assert!(Verifier::new(case.pair.entry(), &trigger).is_err(), "{}: {blank:?}", case.id());
            // Nor may it hide behind a good one.
            let good = case.pair.trigger().secrets[SIGNING_SECRET][0].clone();
            trigger.secrets.insert(SIGNING_SECRET.to_owned(), vec![good, Secret::new(blank)]);
            assert!(Verifier::new(case.pair.entry(), &trigger).is_err(), "{}: {blank:?}", case.id());
        }
    });
}

#[test]
fn a_signed_time_in_the_future_is_as_far_off_as_one_in_the_past() {
    let is_timed = |case: &Case| {
        let signature = case.signature();
        let is_own = signature.timestamp.as_deref().is_some_and(|at| at.contains("${"));
        signature.tolerance_s.is_some() && signature.alg.as_deref() != Some("jwt") && !is_own
    };
    for_each(60, is_timed, |case| {
        let tolerance = case.signature().tolerance_s.unwrap();
        for (seconds, expected) in
            [(tolerance, None), (tolerance + 1, Some(RejectReason::TimestampOutOfWindow))]
        {
            let distance = Duration::from_secs(seconds);
            assert_eq!(case.refusal_at(&case.raw, now() + distance), expected, "{}: past", case.id());
            assert_eq!(case.refusal_at(&case.raw, now() - distance), expected, "{}: future", case.id());
        }
    });
}

#[test]
fn the_signature_is_looked_at_before_the_clock() {
    // Whoever has a token's claims signed has the secret, and hears of its time first.
    let is_timed = |case: &Case| {
        let is_token = case.signature().alg.as_deref() == Some("jwt");
        case.signature().tolerance_s.is_some() && case.pair.covers_bytes() && !is_token
    };
    for_each(60, is_timed, |case| {
        let late = now() + Duration::from_secs(10 * case.signature().tolerance_s.unwrap() + 100);
        let mut forged = case.raw.clone();
        forged.body = [&forged.body[..], b" "].concat().into();
        let refusal = case.refusal_at(&forged, late);
        assert_eq!(refusal, Some(RejectReason::InvalidSignature), "{}", case.id());
    });
}

/// What stands in front of signatures: `v1=` of `t={timestamp},v1={sig}`.
fn tags(signature: &Signature) -> impl Iterator<Item = &str> {
    let separator = signature.list.as_deref().unwrap_or("\n");
    let patterns = signature.syntax.iter().flat_map(move |text| text.split(separator));
    patterns.filter_map(|pattern| pattern.split_once("{sig}")).map(|(tag, _)| tag)
}

fn version(case: &Case) -> Option<&str> {
    let is_version =
        |tag: &&str| tag.starts_with('v') && tag.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    tags(case.signature()).find(is_version)
}

#[test]
fn a_version_that_is_not_known_never_verifies() {
    for_each(
        40,
        |case| version(case).is_some(),
        |case| {
            let known = version(case).unwrap();
            let unknown = format!("v9{}", &known[2..]);
            assert!(case.proof().contains(known), "{}: {:?}", case.id(), case.proof());
            case.refuses(&case.with_proof(case.proof().replace(known, &unknown)));
            let Some(separator) = &case.signature().list else { return };
            // Beside a known one it does no harm.
            case.accepts(&case.with_proof(format!("{}{separator}{unknown}AAAA", case.proof())));
        },
    );
}

#[test]
fn items_of_a_list_are_trimmed() {
    let is_list = |case: &Case| matches!(case.signature().list.as_deref(), Some("," | ";"));
    for_each(20, is_list, |case| {
        let separator = case.signature().list.as_deref().unwrap();
        let spaced = case.proof().replace(separator, &format!(" {separator}  "));
        case.accepts(&case.with_proof(format!(" {spaced} ")));
    });
}

/// Whether the proof is a plain HMAC-SHA256 of a time in seconds and the body, so that it can be made by hand.
fn is_plain_timed(case: &Case) -> bool {
    let signature = case.signature();
    let content = signature.content.as_deref().unwrap_or_default();
    let rest = content.replacen("{timestamp}", "", 1).replacen("{body}", "", 1);
    content.contains("{timestamp}")
        && content.contains("{body}")
        && !rest.contains(['{', '['])
        && signature.alg.as_deref().unwrap_or("hmac-sha256") == "hmac-sha256"
        && signature.unit.as_deref().unwrap_or("s") == "s"
        && signature.key.is_none()
        && signature.content_also.is_empty()
        && signature.timestamp.as_deref().is_none_or(|at| at.starts_with("header:") && !at.contains("${"))
}

/// Signs the sample with a time's text that is not the one that we would write.
fn signed_by_hand(case: &Case, signed_time: &str, sent_time: &str) -> RawInbound {
    let signature = case.signature();
    let sample = case.pair.entry().samples.first().unwrap();
    let Rendered { body, .. } = render(sample, "id-1", now());
    let content = signature.content.as_deref().unwrap();
    let text = String::from_utf8(body).unwrap();
    let content = content.replacen("{timestamp}", signed_time, 1).replacen("{body}", &text, 1);
    let secret = &case.pair.trigger().secrets[SIGNING_SECRET][0];
    let proof = case.encoding().unwrap().encode(&Hash::Sha256.hmac(secret.expose(), content.as_bytes()));
    let syntax = Syntax::new(&signature.syntax, signature.list.as_deref()).unwrap();
    let mut raw = case.with_proof(syntax.write(&proof, sent_time, "id-1", ""));
    if let Some(name) = signature.timestamp.as_deref().and_then(|at| at.strip_prefix("header:")) {
        let name = name.to_ascii_lowercase();
        raw.headers.iter_mut().find(|(known, _)| *known == name).unwrap().1 = sent_time.to_owned().into();
    }
    raw
}

#[test]
fn the_timestamps_text_is_signed_verbatim() {
    for_each(10, is_plain_timed, |case| {
        let plain = now().as_second().to_string();
        let padded = format!("00{plain}");
        case.accepts(&signed_by_hand(case, &plain, &plain));
        case.accepts(&signed_by_hand(case, &padded, &padded));
        let refusal = case.refusal(&signed_by_hand(case, &plain, &padded));
        assert_eq!(refusal, Some(RejectReason::InvalidSignature), "{}", case.id());
    });
}

/// Returns the delivery with its token signed anew, its claims changed.
fn with_claims(case: &Case, change: impl Fn(&mut serde_json::Map<String, Value>)) -> RawInbound {
    let (scheme, token) =
        case.proof().rsplit_once(' ').map_or(("", case.proof()), |(scheme, token)| (scheme, token));
    let mut parts = token.split('.');
    let (header, claims) = (parts.next().unwrap(), parts.next().unwrap());
    let mut claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    change(&mut claims);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string()));
    let secret = case.pair.trigger().secrets[SIGNING_SECRET][0].expose();
    let signature = URL_SAFE_NO_PAD.encode(Hash::Sha256.hmac(secret, signed.as_bytes()));
    case.with_proof(format!("{scheme} {signed}.{signature}").trim_start().to_owned())
}

#[test]
fn a_token_that_never_expires_is_refused_where_the_providers_do() {
    let expires = |case: &Case| {
        let signature = case.signature();
        signature.must_claim.iter().any(|name| name == "exp")
            && signature.algs.iter().any(|alg| alg == "HS256")
    };
    for_each(3, expires, |case| {
        case.accepts(&with_claims(case, |_| ()));
        case.accepts(&with_claims(case, |claims| drop(claims.remove("nbf"))));
        let refusal = case.refusal(&with_claims(case, |claims| drop(claims.remove("exp"))));
        assert_eq!(refusal, Some(RejectReason::InvalidSignature), "{}", case.id());
    });
}

fn is_ed25519(case: &Case) -> bool {
    case.signature().alg.as_deref() == Some("ed25519")
}

#[test]
fn an_ed25519_signature_has_no_second_form() {
    for_each(4, is_ed25519, |case| {
        let mut signature = decoded(case);
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ED25519_ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(carry, 0, "the order added once fits");
        case.refuses(&case.with_signature(&case.encoding().unwrap().encode(&signature)));
    });
}

#[test]
fn an_ed25519_key_of_small_order_is_refused() {
    let takes_hex = |case: &Case| is_ed25519(case) && case.signature().key.as_deref() == Some("unhex");
    for_each(1, takes_hex, |case| {
        for point in SMALL_ORDER {
            let mut trigger = case.pair.trigger().clone();
            trigger.secrets.insert(SIGNING_SECRET.to_owned(), vec![Secret::new(point)]);
            assert!(Verifier::new(case.pair.entry(), &trigger).is_err(), "{}: {point}", case.id());
        }
    });
}

#[test]
fn a_signature_of_zeros_is_none() {
    for_each(8, Case::is_public, |case| {
        let Some(encoding) = case.encoding() else { return };
        let zeros = vec![0; decoded(case).len()];
        case.refuses(&case.with_signature(&encoding.encode(&zeros)));
    });
}
