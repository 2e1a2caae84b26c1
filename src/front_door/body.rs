//! Reads request bodies: raw, bounded while they stream, large ones to a file.
//!
//! Bodies are never decompressed: signatures cover the bytes on the wire.

use std::time::Duration;

use actix_web::web::{self, Payload};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::event_log::{self, INLINE_BODY_BYTES_MAX, Log, SpoolWriter};

/// How long a body may take to arrive. Longer would let slow senders hold connections for nothing:
/// providers give up on a delivery within seconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes read to no purpose before an answer, so that the connection can go on. What is longer
/// costs more to read than a new connection costs.
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// How long reading to no purpose may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that arrived.
pub(super) enum Received {
    /// In memory.
    Inline(Bytes),
    /// In a file, not flushed yet.
    Spooled(SpoolWriter),
}

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("body over the limit")]
    TooLarge,
    #[error("body took too long")]
    TooSlow,
    #[error("body broke off")]
    Broken,
    #[error("body could not be spooled")]
    Spool(#[source] event_log::Error),
}

/// Reads a body of at most `bytes_max` bytes; `declared` is its `Content-Length`, where there is one.
pub(super) async fn receive(
    payload: &mut Payload,
    declared: Option<u64>,
    bytes_max: u64,
    log: &Log,
) -> Result<Received, Error> {
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Error::TooLarge);
    }
    let reading = read(payload, declared, bytes_max, log);
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(Error::TooSlow))
}

async fn read(
    payload: &mut Payload,
    declared: Option<u64>,
    bytes_max: u64,
    log: &Log,
) -> Result<Received, Error> {
    // A body in one chunk, as most are, is taken as it is.
    let Some(first) = payload.next().await.transpose().map_err(|_| Error::Broken)? else {
        return Ok(Received::Inline(Bytes::new()));
    };
    if first.len() as u64 > bytes_max {
        return Err(Error::TooLarge);
    }
    if declared == Some(first.len() as u64) && first.len() <= INLINE_BODY_BYTES_MAX {
        return Ok(Received::Inline(first));
    }
    let expected = declared.unwrap_or(0).min(INLINE_BODY_BYTES_MAX as u64) as usize;
    let mut buffer = BytesMut::with_capacity(expected.max(first.len()));
    buffer.extend_from_slice(&first);
    let mut spool: Option<SpoolWriter> = None;
    let mut total = first.len() as u64;
    loop {
        if buffer.len() > INLINE_BODY_BYTES_MAX {
            spool = Some(spill(spool, buffer.split().freeze(), log).await?);
        }
        let Some(chunk) = payload.next().await.transpose().map_err(|_| Error::Broken)? else { break };
        total += chunk.len() as u64;
        if total > bytes_max {
            return Err(Error::TooLarge);
        }
        buffer.extend_from_slice(&chunk);
    }
    match spool {
        None => Ok(Received::Inline(buffer.freeze())),
        Some(spool) => spill(Some(spool), buffer.freeze(), log).await.map(Received::Spooled),
    }
}

/// Writes `bytes` to the spool on a blocking thread, beginning the spool where there is none.
async fn spill(spool: Option<SpoolWriter>, bytes: Bytes, log: &Log) -> Result<SpoolWriter, Error> {
    let log = log.clone();
    let written = web::block(move || {
        let mut spool = match spool {
            Some(spool) => spool,
            None => log.spool().create()?,
        };
        spool.write(&bytes)?;
        Ok(spool)
    });
    match written.await {
        Ok(result) => result.map_err(Error::Spool),
        Err(_) => Err(Error::Broken),
    }
}

/// Reads what is left of a small body. Tells whether the body is at its end, so that the connection
/// can serve the next request; if not, the answer must close it.
pub(super) async fn drain(payload: &mut Payload, declared: Option<u64>) -> bool {
    if declared.is_some_and(|bytes| bytes > DRAIN_BYTES_MAX as u64) {
        return false;
    }
    let reading = async {
        let mut total = 0;
        while let Some(chunk) = payload.next().await {
            let Ok(chunk) = chunk else { return false };
            total += chunk.len();
            if total > DRAIN_BYTES_MAX {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DRAIN_TIMEOUT, reading).await.unwrap_or(false)
}
