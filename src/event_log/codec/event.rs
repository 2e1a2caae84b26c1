//! The stored form of events.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DecodeError, micros, name, timestamp};
use crate::event::{Batch, Body, EventContent, Origin, RejectReason, SignatureStatus, SpooledBody};

#[derive(Serialize, Deserialize)]
pub(super) struct EventV1<'a> {
    provider: &'a str,
    pub(super) trigger: &'a str,
    pub(super) kind: &'a str,
    received_at: i64,
    pub(super) occurred_at: Option<i64>,
    pub(super) dedupe_key: Option<&'a str>,
    trace_id: &'a str,
    origin: u8,
    pub(super) held: bool,
    method: &'a str,
    url: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a [u8])>,
    pub(super) spooled: Option<(&'a str, u64, [u8; 32])>,
    schema: &'a str,
    signature: SignatureV1,
}

/// The first fields of [`EventV1`], as they stand there.
#[derive(Deserialize)]
pub(super) struct EventHeadV1<'a> {
    _provider: &'a str,
    pub(super) trigger: &'a str,
    pub(super) kind: &'a str,
    _received_at: i64,
    pub(super) occurred_at: Option<i64>,
    _dedupe_key: Option<&'a str>,
    _trace_id: &'a str,
    _origin: u8,
    pub(super) held: bool,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum SignatureV1 {
    Verified(bool),
    Unsigned,
    MissingHeader,
    InvalidHeader,
    InvalidSignature,
    TimestampOutOfWindow,
}

impl<'a> EventV1<'a> {
    pub(super) fn of(it: &'a EventContent) -> Self {
        Self {
            provider: it.provider.as_str(),
            trigger: it.trigger_id.as_str(),
            kind: &it.kind,
            received_at: micros(it.received_at),
            occurred_at: it.occurred_at.map(micros),
            dedupe_key: it.dedupe_key.as_deref(),
            trace_id: &it.trace_id,
            origin: match it.origin {
                Origin::Live => 0,
                Origin::Backfill => 1,
                Origin::Quarantine => 2,
            },
            held: it.held,
            method: &it.method,
            url: &it.url,
            headers: it.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect(),
            spooled: match &it.body {
                Body::Inline(_) => None,
                Body::Spooled(body) => Some((&body.name, body.bytes, body.sha256)),
            },
            schema: &it.schema,
            signature: match it.signature_status {
                SignatureStatus::Verified { covers_body } => SignatureV1::Verified(covers_body),
                SignatureStatus::Unsigned => SignatureV1::Unsigned,
                SignatureStatus::Failed { reason } => match reason {
                    RejectReason::MissingHeader => SignatureV1::MissingHeader,
                    RejectReason::InvalidHeader => SignatureV1::InvalidHeader,
                    RejectReason::InvalidSignature => SignatureV1::InvalidSignature,
                    RejectReason::TimestampOutOfWindow => SignatureV1::TimestampOutOfWindow,
                },
            },
        }
    }

    pub(super) fn into_domain(self, body: &[u8]) -> Result<EventContent, DecodeError> {
        let failed = |reason| SignatureStatus::Failed { reason };
        let header = |(name, value): (&str, &[u8])| (name.to_owned(), Bytes::copy_from_slice(value));
        Ok(EventContent {
            provider: name(self.provider)?,
            trigger_id: name(self.trigger)?,
            kind: self.kind.to_owned(),
            received_at: timestamp(self.received_at)?,
            occurred_at: self.occurred_at.map(timestamp).transpose()?,
            dedupe_key: self.dedupe_key.map(str::to_owned),
            trace_id: self.trace_id.to_owned(),
            origin: match self.origin {
                0 => Origin::Live,
                1 => Origin::Backfill,
                2 => Origin::Quarantine,
                _ => return Err(DecodeError::Invalid("its origin is unknown")),
            },
            held: self.held,
            method: self.method.to_owned(),
            url: self.url.to_owned(),
            headers: self.headers.into_iter().map(header).collect(),
            body: match self.spooled {
                None => Body::Inline(Bytes::copy_from_slice(body)),
                Some((name, bytes, sha256)) => {
                    Body::Spooled(SpooledBody { name: name.to_owned(), bytes, sha256 })
                }
            },
            batch: None,
            schema: self.schema.to_owned(),
            signature_status: match self.signature {
                SignatureV1::Verified(covers_body) => SignatureStatus::Verified { covers_body },
                SignatureV1::Unsigned => SignatureStatus::Unsigned,
                SignatureV1::MissingHeader => failed(RejectReason::MissingHeader),
                SignatureV1::InvalidHeader => failed(RejectReason::InvalidHeader),
                SignatureV1::InvalidSignature => failed(RejectReason::InvalidSignature),
                SignatureV1::TimestampOutOfWindow => failed(RejectReason::TimestampOutOfWindow),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct BatchV1<'a> {
    index: u32,
    count: u32,
    lead: &'a [u8],
    tail: &'a [u8],
}

impl<'a> BatchV1<'a> {
    pub(super) fn of(it: &'a Batch) -> Self {
        Self { index: it.index, count: it.count, lead: &it.lead, tail: &it.tail }
    }

    pub(super) fn into_domain(self) -> Batch {
        Batch {
            index: self.index,
            count: self.count,
            lead: Bytes::copy_from_slice(self.lead),
            tail: Bytes::copy_from_slice(self.tail),
        }
    }
}
