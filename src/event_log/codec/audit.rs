//! The stored form of audit lines.

use serde::{Deserialize, Serialize};

use super::super::record::Audit;
use super::{DecodeError, micros, name, timestamp};

#[derive(Serialize, Deserialize)]
pub(super) struct AuditV1<'a> {
    topic: &'a str,
    at: i64,
    trigger: Option<&'a str>,
    peer: Option<PeerV1>,
    code: &'a str,
    detail: &'a str,
    count: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) enum PeerV1 {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl<'a> AuditV1<'a> {
    pub(super) fn of(it: &'a Audit) -> Self {
        Self {
            topic: &it.topic,
            at: micros(it.at),
            trigger: it.trigger_id.as_ref().map(|id| id.as_str()),
            peer: it.peer.map(|peer| match peer {
                std::net::IpAddr::V4(ip) => PeerV1::V4(ip.octets()),
                std::net::IpAddr::V6(ip) => PeerV1::V6(ip.octets()),
            }),
            code: &it.code,
            detail: &it.detail,
            count: it.count,
        }
    }

    pub(super) fn into_domain(self) -> Result<Audit, DecodeError> {
        Ok(Audit {
            topic: self.topic.to_owned(),
            at: timestamp(self.at)?,
            trigger_id: self.trigger.map(name).transpose()?,
            peer: self.peer.map(|peer| match peer {
                PeerV1::V4(octets) => octets.into(),
                PeerV1::V6(octets) => octets.into(),
            }),
            code: self.code.to_owned(),
            detail: self.detail.to_owned(),
            count: self.count,
        })
    }
}
