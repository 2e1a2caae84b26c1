//! Reads request bodies: raw, bounded while they stream, large ones to a file.
//!
//! Bodies are never decompressed: signatures cover the bytes on the wire.

use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Bytes of small bodies that may be in memory at once, of all connections together. What arrives
/// beyond it is spooled as large bodies are: slower, but nobody is refused for what others send.
const BUFFERED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How many bytes of small bodies are in memory.
#[derive(Default)]
pub(super) struct Buffered(AtomicUsize);

/// A body's part of [`Buffered`], given back when dropped.
pub(super) struct Share<'a> {
    whole: &'a Buffered,
    bytes: usize,
}

impl<'a> Share<'a> {
    fn new(whole: &'a Buffered) -> Self {
        Self { whole, bytes: 0 }
    }

    /// Counts further bytes; tells whether they are within the bound.
    fn grow(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.whole.0.fetch_add(bytes, Ordering::Relaxed) + bytes <= BUFFERED_BYTES_MAX
    }

    /// Gives everything back.
    fn clear(&mut self) {
        self.whole.0.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A body that arrived.
pub(super) enum Received<'a> {
    /// In memory.
    Inline(Bytes, Share<'a>),
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
pub(super) async fn receive<'a>(
    payload: &mut Payload,
    declared: Option<u64>,
    bytes_max: u64,
    log: &Log,
    buffered: &'a Buffered,
) -> Result<Received<'a>, Error> {
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Error::TooLarge);
    }
    let reading = read(payload, declared, bytes_max, log, Share::new(buffered));
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(Error::TooSlow))
}

async fn read<'a>(
    payload: &mut Payload,
    declared: Option<u64>,
    bytes_max: u64,
    log: &Log,
    mut share: Share<'a>,
) -> Result<Received<'a>, Error> {
    let mut buffer = BytesMut::new();
    let mut spool: Option<SpoolWriter> = None;
    let mut total = 0;
    while let Some(chunk) = payload.next().await.transpose().map_err(|_| Error::Broken)? {
        total += chunk.len() as u64;
        if total > bytes_max {
            return Err(Error::TooLarge);
        }
        let fits = share.grow(chunk.len());
        if buffer.is_empty() && spool.is_none() && fits && declared == Some(total) {
            // A body in one chunk, as most are, is taken as it is.
            if chunk.len() <= INLINE_BODY_BYTES_MAX {
                return Ok(Received::Inline(chunk, share));
            }
        }
        if buffer.is_empty() {
            let expected = declared.unwrap_or(0).min(INLINE_BODY_BYTES_MAX as u64) as usize;
            buffer.reserve(expected.max(chunk.len()));
        }
        buffer.extend_from_slice(&chunk);
        if buffer.len() > INLINE_BODY_BYTES_MAX || !fits {
            spool = Some(spill(spool, buffer.split().freeze(), log).await?);
            share.clear();
        }
    }
    match spool {
        None => Ok(Received::Inline(buffer.freeze(), share)),
        Some(spool) => spill(Some(spool), buffer.freeze(), log).await.map(Received::Spooled),
    }
}

/// Writes `bytes` to the spool on a blocking thread, beginning the spool where there is none.
async fn spill(spool: Option<SpoolWriter>, bytes: Bytes, log: &Log) -> Result<SpoolWriter, Error> {
    if spool.is_none() && log.is_full() {
        return Err(Error::Spool(event_log::Error::Full));
    }
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
