//! What senders hear: the one place that knows our statuses. Nothing of a request is echoed.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::connector::Reply;
use crate::event::{EventId, RejectReason};

const EVENT_ID: HeaderName = HeaderName::from_static("x-hookkeeper-event-id");
const EVENT_COUNT: HeaderName = HeaderName::from_static("x-hookkeeper-event-count");
/// Most ids that an answer names. Proxies refuse answers whose headers are longer than a few KiB, and the
/// delivery would be sent again for ever.
const IDS_MAX: usize = 100;
const DUPLICATE: HeaderName = HeaderName::from_static("x-hookkeeper-duplicate");

/// The answer to a delivery that is stored, now or since an earlier one.
pub(super) fn stored(ack: Option<&Reply>, ids: &[EventId], duplicate: bool) -> HttpResponse {
    let mut answer = match ack {
        None => HttpResponse::Ok(),
        Some(reply) => with_headers(reply),
    };
    if let Some((first, more)) = ids.split_first() {
        let mut text = first.to_string();
        for id in &more[..more.len().min(IDS_MAX - 1)] {
            text.push(',');
            text.push_str(&id.to_string());
        }
        let value = HeaderValue::try_from(text).expect("ids are ASCII letters and digits");
        answer.insert_header((EVENT_ID, value));
        if ids.len() > IDS_MAX {
            answer.insert_header((EVENT_COUNT, HeaderValue::from(ids.len())));
        }
    }
    if duplicate {
        answer.insert_header((DUPLICATE, HeaderValue::from_static("true")));
    }
    match ack {
        None => answer.finish(),
        Some(reply) => with_body(answer, reply),
    }
}

/// The answer that a handshake or a connector demands.
pub(super) fn reply(reply: &Reply) -> HttpResponse {
    with_body(with_headers(reply), reply)
}

/// Ends an answer. What stands behind one whose status has no body would be read as the next answer.
fn with_body(mut answer: HttpResponseBuilder, reply: &Reply) -> HttpResponse {
    match reply.status {
        204 | 205 | 304 => answer.finish(),
        _ => answer.body(reply.body.clone()),
    }
}

fn with_headers(reply: &Reply) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut answer = HttpResponse::build(status);
    for (name, value) in &reply.headers {
        answer.append_header((name.as_str(), value.as_str()));
    }
    answer
}

/// 401, or the status that the connector wants, with the reason's code and nothing else.
pub(super) fn rejected(reason: RejectReason, status: Option<u16>) -> HttpResponse {
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    error(status.unwrap_or(StatusCode::UNAUTHORIZED), reason.as_str())
}

/// 404.
pub(super) fn not_found() -> HttpResponse {
    error(StatusCode::NOT_FOUND, "not_found")
}

/// 405 with the methods that would do.
pub(super) fn method_not_allowed(methods: &[String]) -> HttpResponse {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    if let Ok(allow) = HeaderValue::try_from(methods.join(", ")) {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}

/// 413.
pub(super) fn too_large() -> HttpResponse {
    error(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
}

/// 408.
pub(super) fn too_slow() -> HttpResponse {
    error(StatusCode::REQUEST_TIMEOUT, "body_too_slow")
}

/// 400, for a body that broke off.
pub(super) fn broken() -> HttpResponse {
    error(StatusCode::BAD_REQUEST, "body_incomplete")
}

/// 429.
pub(super) fn over_limit(wait: Duration) -> HttpResponse {
    later(error(StatusCode::TOO_MANY_REQUESTS, "rate_limited"), wait)
}

/// 503.
pub(super) fn unavailable(code: &'static str, wait: Duration) -> HttpResponse {
    later(error(StatusCode::SERVICE_UNAVAILABLE, code), wait)
}

/// 500, for a panic in a connector.
pub(super) fn internal() -> HttpResponse {
    error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
}

fn error(status: StatusCode, code: &'static str) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(format!("{{\"error\":\"{code}\"}}"))
}

fn later(mut answer: HttpResponse, wait: Duration) -> HttpResponse {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}
