//! The front door: where a provider's request becomes a stored event, or hears why not.
//!
//! It finds the trigger by path, reads the body as raw bytes, has the trigger's published snapshot
//! verify and normalize it on the worker that holds the request, or beside it where that may take long, and answers
//! 2xx only after the log has the event on the device. It knows no provider and no function; what changes a provider's
//! state is a message to its actor.

mod address_limit;
mod answer;
mod body;
mod content;
mod judge;
mod release;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::connector::{Connector, ConnectorError, NormalizeResult, Normalized, RawInbound, Rejection};
use crate::event::{Body, EventContent, RejectReason, SignatureStatus};
use crate::event_log::{IngestError, Ingested, Log, NewEvent, SpoolWriter};
use crate::provider::{ProviderHandle, Providers, TriggerSnapshot, shortened};
use crate::quarantine::{Quarantine, Refused};

use address_limit::AddressLimit;
use body::{Buffered, Received};
use judge::{Judged, Judgement, NoVerdict};
pub use tls::{Error as TlsError, load as load_tls};

/// Part of a provider's ack deadline that a request may wait for room in the log.
const DEADLINE_SHARE: f64 = 0.7;
/// What a sender is asked to wait after a 503.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Memory for spooled bodies while they are verified, in KiB. Whoever finds it taken waits.
const LARGE_BODIES_KIB: u32 = 64 * 1024;

/// What every request shares.
pub struct Door {
    providers: Arc<Providers>,
    log: Log,
    quarantine: Quarantine,
    clock: Clock,
    addresses: AddressLimit,
    large_bodies: Semaphore,
    buffered: Buffered,
}

/// A request with its body, on its way to the log.
struct Delivery {
    raw: RawInbound,
    /// The body's file, where it was spooled; `raw` has the bytes all the same.
    spool: Option<SpoolWriter>,
    peer: IpAddr,
    deadline: Instant,
}

impl Door {
    /// Opens the door to `providers`, with `log` behind it, and `quarantine` for what is refused.
    pub fn new(providers: Arc<Providers>, log: Log, quarantine: Quarantine, clock: Clock) -> Self {
        let large_bodies = Semaphore::new(LARGE_BODIES_KIB as usize);
        let (addresses, buffered) = (AddressLimit::default(), Buffered::default());
        Self { providers, log, quarantine, clock, addresses, large_bodies, buffered }
    }

    /// Answers one request.
    async fn answer(&self, request: &HttpRequest, payload: &mut Payload) -> HttpResponse {
        let declared = declared_length(request);
        let Some((provider, trigger)) = self.providers.route(request.path()) else {
            return refuse_unread(payload, declared, answer::not_found()).await;
        };
        let snapshot = provider.trigger(trigger);
        if !snapshot.fixed.methods.iter().any(|method| method == request.method().as_str()) {
            let refusal = answer::method_not_allowed(&snapshot.fixed.methods);
            return refuse_unread(payload, declared, refusal).await;
        }
        let Some(engine) = &snapshot.engine else {
            return refuse_unread(payload, declared, answer::unavailable("not_activated", RETRY_AFTER)).await;
        };
        let received =
            body::receive(payload, declared, snapshot.fixed.body_limit, &self.log, &self.buffered).await;
        let received = match received {
            Ok(received) => received,
            Err(error) => return refuse_partly_read(error),
        };
        let deadline = Instant::now() + snapshot.fixed.ack_deadline.mul_f64(DEADLINE_SHARE);
        let mut delivery = self.delivery(request, deadline);
        // Both are held until the body is stored or refused: the bytes are in memory that long.
        let (_share, _permit) = match received {
            Received::Inline(bytes, share) => {
                delivery.raw.body = bytes;
                (Some(share), None)
            }
            Received::Spooled(spool) => {
                let kib = (spool.bytes() / 1024 + 1).min(u64::from(LARGE_BODIES_KIB)) as u32;
                let waiting = tokio::time::timeout_at(deadline.into(), self.large_bodies.acquire_many(kib));
                let Ok(Ok(permit)) = waiting.await else {
                    return answer::unavailable("overloaded", RETRY_AFTER);
                };
                let Ok(Ok((spool, bytes))) = web::block(move || spool.read().map(|b| (spool, b))).await
                else {
                    return answer::unavailable("log_failing", RETRY_AFTER);
                };
                delivery.raw.body = bytes;
                delivery.spool = Some(spool);
                (None, Some(permit))
            }
        };
        self.decide(provider, &snapshot, &engine.connector, delivery).await
    }

    fn delivery(&self, request: &HttpRequest, deadline: Instant) -> Delivery {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
        let headers = request.headers().iter();
        let raw = RawInbound {
            method: request.method().as_str().to_owned(),
            url: request.uri().path_and_query().map_or_else(String::new, |url| url.as_str().to_owned()),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes())))
                .collect(),
            body: Bytes::new(),
            received_at: self.clock.now(),
            peer: Some(peer),
        };
        Delivery { raw, spool: None, peer, deadline }
    }

    /// Verifies a delivery, and does what its verdict asks for.
    async fn decide(
        &self,
        provider: &ProviderHandle,
        snapshot: &TriggerSnapshot,
        connector: &Arc<dyn Connector>,
        delivery: Delivery,
    ) -> HttpResponse {
        let now = delivery.raw.received_at;
        let (trigger_id, sent) = (&snapshot.trigger_id, (delivery.peer, now));
        let armed = snapshot.is_armed(now);
        let judged = Judged { connector, trigger_id, raw: &delivery.raw, armed, turns: provider.turns() };
        let Judgement { result, told } = match judged.judge(provider.keys(), delivery.deadline).await {
            Ok(judgement) => judgement,
            Err(NoVerdict::Panicked) => {
                tracing::error!(%trigger_id, "connector panicked on a delivery");
                provider.failed(trigger_id, sent, "connector_panicked", "");
                return answer::internal();
            }
            Err(NoVerdict::Failed(ConnectorError::Inactive(_))) => {
                return answer::unavailable("not_activated", RETRY_AFTER);
            }
            Err(NoVerdict::Failed(error)) => {
                let error = shortened(error.to_string());
                tracing::error!(%trigger_id, error, "connector failed on a delivery");
                provider.failed(trigger_id, sent, "connector_failed", &error);
                return answer::internal();
            }
            Err(NoVerdict::Busy) => return answer::unavailable("overloaded", RETRY_AFTER),
            Err(NoVerdict::NoKeys(unavailable)) => {
                provider.unavailable(trigger_id, sent, "key_unavailable", &unavailable);
                return answer::unavailable("key_unavailable", judge::wait(&unavailable));
            }
        };
        match result {
            NormalizeResult::Event(event) => {
                provider.verified_with(snapshot, event.secret_index, now);
                self.store(snapshot, delivery, vec![event], None).await
            }
            NormalizeResult::Batch(events) => {
                provider.verified_with(snapshot, events.first().and_then(|event| event.secret_index), now);
                self.store(snapshot, delivery, events, None).await
            }
            NormalizeResult::Immediate { reply, events, learn, call } => {
                if let Some((url, hosts)) = call {
                    let deadline = judge::fetch_deadline(delivery.deadline);
                    let called = provider.call(trigger_id, sent, (&url, &hosts), deadline).await;
                    if let Err(unavailable) = called {
                        provider.unavailable(trigger_id, sent, "handshake_call_failed", &unavailable);
                        return answer::unavailable("handshake_call_failed", judge::wait(&unavailable));
                    }
                }
                if let Some((name, secret)) = learn
                    && provider.learn(&snapshot.trigger_id, name, secret, delivery.peer).await.is_err()
                {
                    return answer::unavailable("not_learned", RETRY_AFTER);
                }
                if events.is_empty() {
                    return answer::reply(&reply);
                }
                self.store(snapshot, delivery, events, Some(reply)).await
            }
            NormalizeResult::Reject(rejection) => {
                let audited = told.as_ref().unwrap_or(&rejection);
                self.reject(provider, snapshot, audited, &delivery, (rejection.reason, rejection.status))
            }
        }
    }

    /// Refuses a delivery with this code and status; `rejection` is for the operator's eyes.
    fn reject(
        &self,
        provider: &ProviderHandle,
        snapshot: &TriggerSnapshot,
        rejection: &Rejection,
        delivery: &Delivery,
        (answered, status): (RejectReason, Option<u16>),
    ) -> HttpResponse {
        let (peer, now) = (delivery.peer, delivery.raw.received_at);
        snapshot.fixed.counters.count_rejected();
        let limited = self.addresses.refused(peer, now);
        provider.rejected(snapshot, rejection, peer, now, limited.is_err());
        self.quarantine.keep(Refused {
            trigger_id: &snapshot.trigger_id,
            provider: &snapshot.provider,
            id_locations: &snapshot.fixed.entry.event.delivery,
            rejection,
            raw: &delivery.raw,
        });
        match limited {
            Ok(()) => answer::rejected(answered, status),
            Err(wait) => answer::over_limit(wait),
        }
    }

    /// Stores the events of a verified delivery and answers once they are on the device.
    async fn store(
        &self,
        snapshot: &TriggerSnapshot,
        delivery: Delivery,
        events: Vec<Normalized>,
        reply: Option<crate::connector::Reply>,
    ) -> HttpResponse {
        let fixed = &snapshot.fixed;
        let now = delivery.raw.received_at;
        let is_verified =
            |event: &Normalized| matches!(event.signature_status, SignatureStatus::Verified { .. });
        if events.iter().any(is_verified) {
            self.quarantine.verified(&snapshot.trigger_id, delivery.peer);
        }
        if let Some(bucket) = &fixed.bucket
            && let Err(wait) = bucket.try_take(now.as_microsecond())
        {
            return answer::over_limit(wait);
        }
        let Delivery { raw, spool, deadline, .. } = delivery;
        let body = match spool {
            None => Body::Inline(raw.body.clone()),
            Some(spool) => match web::block(move || spool.finish()).await {
                Ok(Ok(spooled)) => Body::Spooled(spooled),
                _ => return answer::unavailable("log_failing", RETRY_AFTER),
            },
        };
        let held = snapshot.is_paused;
        let contents = content::contents(snapshot, raw, body, events, held);
        let new = |content: EventContent| NewEvent { content, window: fixed.dedupe_window };
        let stored = self.log.ingest(contents.into_iter().map(new).collect(), deadline).await;
        match stored {
            Ok(ingested) => {
                let duplicate = ingested.iter().all(|i| matches!(i, Ingested::Duplicate(_)));
                let ids: Vec<_> = ingested.iter().map(|i| i.id()).collect();
                if duplicate {
                    fixed.counters.count_duplicate();
                } else {
                    fixed.counters.count_accepted(now);
                }
                let ack = reply.as_ref().or(fixed.ack.as_ref());
                answer::stored(ack, &ids, duplicate && !ids.is_empty())
            }
            Err(IngestError::Overloaded) => answer::unavailable("overloaded", RETRY_AFTER),
            Err(IngestError::Full) => answer::unavailable("disk_full", RETRY_AFTER),
            Err(IngestError::Failing(_)) => answer::unavailable("log_failing", RETRY_AFTER),
        }
    }
}

/// The handler behind every path of the front door.
pub async fn handle(request: HttpRequest, mut payload: Payload, door: web::Data<Door>) -> HttpResponse {
    door.answer(&request, &mut payload).await
}

/// Refuses a request whose body was not looked at: a small one is read to its end, so that the
/// connection goes on; otherwise the answer closes it.
async fn refuse_unread(
    payload: &mut Payload,
    declared: Option<u64>,
    mut refusal: HttpResponse,
) -> HttpResponse {
    if !body::drain(payload, declared).await {
        close(&mut refusal);
    }
    refusal
}

/// Refuses a request whose body did not arrive whole; what is left of it is not read.
fn refuse_partly_read(error: body::Error) -> HttpResponse {
    let mut refusal = match error {
        body::Error::TooLarge => answer::too_large(),
        body::Error::TooSlow => answer::too_slow(),
        body::Error::Broken => answer::broken(),
        body::Error::Spool(crate::event_log::Error::Full) => answer::unavailable("disk_full", RETRY_AFTER),
        body::Error::Spool(error) => {
            tracing::error!(%error, "could not spool a request body");
            answer::unavailable("log_failing", RETRY_AFTER)
        }
    };
    close(&mut refusal);
    refusal
}

fn close(answer: &mut HttpResponse) {
    answer.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
}

fn declared_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
