//! What is kept of a rejected delivery, and its stored form.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::connector::RawInbound;
use crate::event::{Header, ProviderId, RejectReason, Timestamp, TriggerId};

/// Longest hint that is kept, in bytes: it names a header and a form.
const HINT_BYTES_MAX: usize = 512;
/// Bits of an id below the milliseconds: room for a thousand deliveries in each.
const ID_COUNTER_BITS: u32 = 20;
/// First byte of each sealed part: its format.
const FORMAT: u8 = 1;

/// The id of a kept delivery: `q` and 16 hex digits, growing with the time of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldId(u64);

impl HeldId {
    /// Returns the first id of the millisecond of `at` that is greater than `last`.
    pub(super) fn after(last: Option<HeldId>, at: Timestamp) -> Self {
        let first = (at.as_millisecond().max(0) as u64) << ID_COUNTER_BITS;
        Self(last.map_or(first, |last| first.max(last.0 + 1)))
    }
}

impl fmt::Display for HeldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("q{:016x}", self.0))
    }
}

impl Serialize for HeldId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is not the id of a kept delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of a delivery in quarantine is q and 16 hex digits, such as q0197c1f4e2a00000")]
pub struct ParseHeldIdError;

impl FromStr for HeldId {
    type Err = ParseHeldIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('q').ok_or(ParseHeldIdError)?;
        if digits.len() != 16 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseHeldIdError);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| ParseHeldIdError)
    }
}

/// How near a rejected delivery came to being one. Greater is kept longer; what counts most stands first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nearness {
    /// It carries a signature of the provider's form.
    pub has_form: bool,
    /// Its sender's address sent deliveries that verified.
    pub is_known: bool,
    /// It carries the provider's header with the delivery's id.
    pub has_id: bool,
}

impl Nearness {
    pub(super) fn bits(self) -> u8 {
        u8::from(self.has_form) << 2 | u8::from(self.is_known) << 1 | u8::from(self.has_id)
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self { has_form: bits & 4 != 0, is_known: bits & 2 != 0, has_id: bits & 1 != 0 }
    }
}

/// What is told of a kept delivery without opening its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: HeldId,
    /// The trigger that refused it.
    pub trigger_id: TriggerId,
    /// The trigger's provider.
    pub provider: ProviderId,
    /// When it was read completely.
    pub received_at: Timestamp,
    /// The sender's address.
    pub peer: IpAddr,
    /// What the sender heard.
    pub reason: RejectReason,
    /// What the audit says.
    pub hint: String,
    /// How near it came.
    pub nearness: Nearness,
    /// Length of its body.
    pub body_bytes: u64,
    /// Whether the body was kept; without it the delivery cannot be verified again.
    pub has_body: bool,
    /// What it takes on the disk.
    pub file_bytes: u64,
}

/// A delivery on its way into the quarantine.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) trigger_id: TriggerId,
    pub(super) provider: ProviderId,
    pub(super) reason: RejectReason,
    pub(super) hint: String,
    pub(super) nearness: Nearness,
    pub(super) peer: IpAddr,
    pub(super) received_at: Timestamp,
    pub(super) body_bytes: u64,
    pub(super) request: Request,
}

/// A kept request: only ever stored within the seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: Option<Bytes>,
}

impl Request {
    /// Copies a request; of its body at most `body_bytes_max`, or nothing. What it holds then is all that
    /// it holds: no part of a larger buffer stays alive behind it.
    pub(super) fn copy(raw: &RawInbound, body_bytes_max: usize) -> Self {
        let fits = raw.body.len() <= body_bytes_max;
        Self {
            method: raw.method.clone(),
            url: raw.url.clone(),
            headers: raw.headers.clone(),
            body: fits.then(|| Bytes::copy_from_slice(&raw.body)),
        }
    }

    /// Returns about how many bytes of memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD);
        let body = self.body.as_ref().map_or(0, Bytes::len);
        self.method.len() + self.url.len() + headers.sum::<usize>() + body
    }

    /// Encodes the request for sealing.
    pub(super) fn encode(&self) -> Vec<u8> {
        with_format(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(&[FORMAT])?).ok()
    }
}

/// What a header takes beside its text.
const HEADER_OVERHEAD: usize = 64;

/// The stored form of a [`Held`], without its id and size, which the file's name and length say.
#[derive(Serialize, Deserialize)]
struct Head {
    trigger_id: TriggerId,
    provider: ProviderId,
    received_us: i64,
    peer: IpAddr,
    reason: String,
    hint: String,
    nearness: u8,
    body_bytes: u64,
    has_body: bool,
}

/// Encodes what is told of a delivery, for sealing.
pub(super) fn encode_head(rejected: &Rejected) -> Vec<u8> {
    with_format(&Head {
        trigger_id: rejected.trigger_id.clone(),
        provider: rejected.provider.clone(),
        received_us: rejected.received_at.as_microsecond(),
        peer: rejected.peer,
        reason: rejected.reason.as_str().to_owned(),
        hint: rejected.hint.clone(),
        nearness: rejected.nearness.bits(),
        body_bytes: rejected.body_bytes,
        has_body: rejected.request.body.is_some(),
    })
}

/// Reads what [`encode_head`] wrote.
pub(super) fn decode_head(id: HeldId, file_bytes: u64, bytes: &[u8]) -> Option<Held> {
    let head: Head = postcard::from_bytes(bytes.strip_prefix(&[FORMAT])?).ok()?;
    Some(Held {
        id,
        trigger_id: head.trigger_id,
        provider: head.provider,
        received_at: Timestamp::from_microsecond(head.received_us).ok()?,
        peer: head.peer,
        reason: head.reason.parse().ok()?,
        hint: head.hint,
        nearness: Nearness::from_bits(head.nearness),
        body_bytes: head.body_bytes,
        has_body: head.has_body,
        file_bytes,
    })
}

/// Encodes a stored part behind its format.
fn with_format(part: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(part, vec![FORMAT]).expect("plain data encodes into memory")
}

/// Cuts a hint to the length that is kept.
pub(super) fn short_hint(hint: &str) -> String {
    hint[..hint.floor_char_boundary(HINT_BYTES_MAX)].to_owned()
}

/// Returns what counts as one sender: an IPv4 address, or the /64 of an IPv6 address, which one host has whole.
pub(super) fn sender(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn rejected() -> Rejected {
        Rejected {
            trigger_id: "github".parse().unwrap(),
            provider: "github".parse().unwrap(),
            reason: RejectReason::InvalidSignature,
            hint: "no".to_owned(),
            nearness: Nearness { has_form: true, is_known: false, has_id: true },
            peer: IpAddr::from([192, 0, 2, 7]),
            received_at: Timestamp::from_second(1_700_000_000).unwrap(),
            body_bytes: 2,
            request: Request {
                method: "POST".to_owned(),
                url: "/hooks/github".to_owned(),
                headers: vec![("x-a".to_owned(), Bytes::from_static(b"\xff"))],
                body: Some(Bytes::from_static(b"{}")),
            },
        }
    }

    /// The stored form, byte by byte: a change of it needs a new format beside the old one.
    #[test]
    fn the_stored_form_is_fixed() {
        let head = encode_head(&rejected());
        let id: HeldId = "q0197c1f4e2a00000".parse().unwrap();
        let text = b"\x01\x06github\x06github\x80\x80\xf2\x81\x83\x89\x85\x06";
        assert_eq!(head[..text.len()], *text);
        assert_eq!(head[text.len()..], *b"\x00\xc0\x00\x02\x07\x11invalid_signature\x02no\x05\x02\x01");
        let held = decode_head(id, 512, &head).unwrap();
        assert_eq!((held.id, held.file_bytes, held.nearness.bits()), (id, 512, 5));
        assert_eq!((held.reason, held.has_body), (RejectReason::InvalidSignature, true));
        let request = rejected().request;
        let encoded = request.encode();
        assert_eq!(encoded, b"\x01\x04POST\x0d/hooks/github\x01\x03x-a\x01\xff\x01\x02{}");
        assert_eq!(Request::decode(&encoded).unwrap(), request);
        assert!(Request::decode(b"\x02").is_none() && decode_head(id, 0, b"").is_none());
    }

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let first = HeldId::after(None, at(1000));
        let second = HeldId::after(Some(first), at(1000));
        let third = HeldId::after(Some(second), at(10));
        assert!(first < second && second < third);
        assert!(HeldId::after(Some(third), at(1001)) > third);
        assert_eq!(third.to_string().parse(), Ok(third));
        for bad in ["", "q", "q0197C1F4E2A00000", "x0197c1f4e2a00000", "q../../../../passwd"] {
            assert_eq!(bad.parse::<HeldId>(), Err(ParseHeldIdError), "{bad}");
        }
    }

    #[test]
    fn a_signature_of_the_right_form_counts_most() {
        let by_bits: Vec<_> = (0..8).map(Nearness::from_bits).collect();
        assert!(by_bits.is_sorted(), "the order of the bits is the order of nearness");
        assert!((0..8).all(|bits| Nearness::from_bits(bits).bits() == bits));
    }

    #[test]
    fn one_host_is_one_sender() {
        let of = |text: &str| sender(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
    }

    #[test]
    fn a_body_over_the_limit_is_left_out() {
        let raw = RawInbound {
            method: "POST".to_owned(),
            url: "/".to_owned(),
            headers: Vec::new(),
            body: Bytes::from_static(b"12345"),
            received_at: Timestamp::from_second(0).unwrap(),
            peer: None,
        };
        assert_eq!(Request::copy(&raw, 5).body.unwrap(), raw.body);
        assert_eq!(Request::copy(&raw, 4).body, None);
    }

    proptest! {
        /// What stands in a file may be anything, under a key of anybody's.
        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<Index>()) {
            let garbage = [&[FORMAT], &bytes[..]].concat();
            let id = HeldId::after(None, Timestamp::UNIX_EPOCH);
            let _ = (Request::decode(&garbage), decode_head(id, 0, &garbage));
            let head = encode_head(&rejected());
            let short = &head[..cut.index(head.len())];
            prop_assert_eq!(decode_head(id, 0, short), None);
        }
    }
}
