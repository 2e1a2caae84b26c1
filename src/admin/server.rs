//! The edge to actix-web: reads requests, asks `view` or `actions`, writes answers.

use std::time::Duration;

use actix_web::http::header::{self, HeaderName};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::web::{self, Bytes, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::act::{Act, Done, blocking};
use super::actions;
use super::guard::Caller;
use super::query::Query;
use super::view::{PATHS, event_id};
use super::{AdminState, MEDIA_TYPE, Problem, TriggerStatus};
use crate::config::{format_duration, parse_duration};
use crate::event_log::Condition;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest that a body may take to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest that a request may wait for events that are not there yet.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most triggers of a kind that `/readyz` names as failing; `triggers` has all.
const FAILING_TOLD_MAX: usize = 20;
/// Where the API begins.
const BASE: &str = "/api/v1";

/// Registers the admin API as everything that an application answers.
pub fn configure(state: AdminState) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.app_data(web::Data::new(state)).default_service(web::to(handle));
    }
}

async fn handle(request: HttpRequest, payload: Payload, state: web::Data<AdminState>) -> HttpResponse {
    let of = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let caller = Caller {
        method: request.method().as_str(),
        path: request.path(),
        host: of(header::HOST),
        origin: of(header::ORIGIN),
        sec_fetch_site: of(HeaderName::from_static("sec-fetch-site")),
        authorization: of(header::AUTHORIZATION),
    };
    // Not a byte is read for whoever may not talk to us.
    if let Err(problem) = state.0.guard.check(caller) {
        let length = of(header::CONTENT_LENGTH);
        let has_body = length.is_some_and(|length| length != "0")
            || request.headers().contains_key(header::TRANSFER_ENCODING);
        let response = problem_response(&problem);
        return if has_body { closing(response) } else { response };
    }
    let body = match tokio::time::timeout(BODY_TIME_MAX, read_body(payload)).await {
        Ok(Ok(body)) => body,
        Ok(Err(problem)) => return closing(problem_response(&problem)),
        Err(_) => {
            let problem = Problem::new(
                408,
                "body_too_slow",
                format!("the body did not come within {} s", BODY_TIME_MAX.as_secs()),
            );
            return closing(problem_response(&problem));
        }
    };
    match answer(&request, caller, &body, &state).await {
        Ok(answer) => answer,
        Err(problem) => problem_response(&problem),
    }
}

/// Closes the connection behind an answer: the rest of the request's body is not read.
fn closing(mut response: HttpResponse) -> HttpResponse {
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

fn problem_response(problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, MEDIA_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    let wait_ms = problem.members.iter().find(|(name, _)| *name == "retry_after_ms");
    if let Some(wait_ms) = wait_ms.and_then(|(_, value)| value.as_u64()) {
        response.insert_header((header::RETRY_AFTER, wait_ms.div_ceil(1000).to_string()));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, "5"));
    }
    response.body(problem.to_json().to_string())
}

fn json_response(status: StatusCode, value: &Value) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(value.to_string())
}

async fn answer(
    request: &HttpRequest,
    caller: Caller<'_>,
    body: &Bytes,
    state: &AdminState,
) -> Result<HttpResponse, Problem> {
    let path = percent_encoding::percent_decode_str(caller.path).decode_utf8();
    let path = path.map_err(|_| Problem::bad("invalid_path", "the path is not UTF-8"))?;

    let reads = matches!(caller.method, "GET" | "HEAD");
    match path.trim_end_matches('/') {
        "/healthz" if reads => Ok(json_response(StatusCode::OK, &json!({"status": "ok"}))),
        "/readyz" if reads => Ok(ready(state)),
        "" if reads => {
            let text = "hookkeeper's admin API: see /api/v1\n";
            Ok(HttpResponse::Ok()
                .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
                .body(text))
        }
        BASE if reads => Ok(json_response(StatusCode::OK, &json!({"paths": PATHS}))),
        "/healthz" | "/readyz" | "" | BASE => Ok(method_not_allowed(&["GET", "HEAD"])),
        path => match path.strip_prefix(BASE).and_then(|rest| rest.strip_prefix('/')) {
            Some(path) => api(request, path, body, state).await,
            None => Err(Problem::new(404, "not_found", "there is no such path; the API is at /api/v1")),
        },
    }
}

async fn api(
    request: &HttpRequest,
    path: &str,
    body: &Bytes,
    state: &AdminState,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string())?;
    let method = request.method().as_str();
    let parts: Vec<&str> = path.split('/').collect();
    if matches!(method, "GET" | "HEAD") {
        if actions::is_write_only(&parts) {
            return Ok(method_not_allowed(actions::methods(&parts)));
        }
        return match parts.as_slice() {
            ["events", id, "body"] => raw_body(state, id, &query).await,
            ["replays"] => query.only(&[]).map(|()| json_response(StatusCode::OK, &state.0.replays.list())),
            ["replays", id] => {
                query.only(&[])?;
                Ok(json_response(StatusCode::OK, &state.0.replays.get(id)?))
            }
            _ => read(state, path, query).await,
        };
    }
    let allowed = actions::methods(&parts);
    if !allowed.contains(&method) {
        // What cannot be read either is not there at all.
        if allowed.is_empty() {
            read(state, path, query).await?;
        }
        let reads: &[&str] = if actions::is_write_only(&parts) { &[] } else { &["GET", "HEAD"] };
        return Ok(method_not_allowed(&[reads, allowed].concat()));
    }
    let act = Act {
        method: request.method().clone(),
        path: path.to_owned(),
        query,
        body: json_body(request, body)?,
        peer: request.peer_addr().map(|address| address.ip()),
    };
    let Done { status, value } = actions::act(state, act).await?;
    Ok(json_response(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), &value))
}

fn method_not_allowed(allowed: &[&str]) -> HttpResponse {
    let allowed = allowed.join(", ");
    let problem = Problem::new(405, "method_not_allowed", format!("this path takes {allowed}"));
    let mut response = problem_response(&problem);
    if let Ok(value) = header::HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Tells that the server works, and which triggers do not: they are no reason to send no deliveries to the others.
/// Only their ids, for nobody shows a token here; why they fail is told by `triggers`.
fn working(state: &AdminState) -> Value {
    let statuses = state.0.runtime.triggers();
    let of = |fails: fn(&TriggerStatus) -> bool| -> Vec<_> {
        let failing = statuses.iter().filter(|status| fails(status)).take(FAILING_TOLD_MAX);
        failing.map(|status| status.id.clone()).collect()
    };
    let activations = of(|status| status.failure.is_some());
    let polls = of(|status| status.polling.failure.is_some());
    match (activations.is_empty(), polls.is_empty()) {
        (true, true) => json!({"status": "ok"}),
        _ => json!({"status": "ok", "failing": {"activations": activations, "polls": polls}}),
    }
}

fn ready(state: &AdminState) -> HttpResponse {
    let health = state.view().log.health();
    let (word, reason) = match health.condition {
        Condition::Ok => return json_response(StatusCode::OK, &working(state)),
        Condition::Full => {
            ("full", "the disk of the data folder is full: events are refused until there is room")
        }
        Condition::Failing(_) => {
            ("failing", "the log takes nothing more until the server is started again; its own log says why")
        }
    };
    json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": word, "reason": reason}))
}

/// Reads a view on a thread where blocking is fine.
async fn read(state: &AdminState, path: &str, query: Query) -> Result<HttpResponse, Problem> {
    let (mut query, wait) = take_wait(query)?;
    let deadline = tokio::time::Instant::now() + wait;
    let mut tail = state.view().log.tail();
    loop {
        tail.borrow_and_update();
        let (view, owned_path, owned_query) = (state.view().clone(), path.to_owned(), query.clone());
        let value = blocking(move || view.get(&owned_path, &owned_query)).await?;
        let empty = value["items"].as_array().is_some_and(Vec::is_empty);
        if wait.is_zero() || !empty || tokio::time::timeout_at(deadline, tail.changed()).await.is_err() {
            return Ok(json_response(StatusCode::OK, &value));
        }
        // What was looked at in vain need not be looked at again.
        if let Some(next) = value["next_cursor"].as_str() {
            query.set("after", next);
        }
    }
}

/// Takes the parameter `wait` out, which only makes sense for events `after` a position.
fn take_wait(query: Query) -> Result<(Query, Duration), Problem> {
    let Some(text) = query.text("wait") else { return Ok((query, Duration::ZERO)) };
    let wait = parse_duration(text).filter(|wait| *wait <= WAIT_MAX);
    let wait = wait.filter(|_| query.text("after").is_some()).ok_or_else(|| {
        let most = format_duration(WAIT_MAX);
        let detail = format!("parameter `wait`: a duration up to {most}, together with `after`");
        Problem::bad("invalid_parameter", detail)
    })?;
    Ok((query.without("wait"), wait))
}

/// Answers with an event's body, byte for byte, in a way that no browser runs it.
async fn raw_body(state: &AdminState, id: &str, query: &Query) -> Result<HttpResponse, Problem> {
    query.only(&[])?;
    let id = event_id(id)?;
    let view = state.view().clone();
    let (body, content_type) = blocking(move || view.body(id)).await?;
    let content_type = content_type.and_then(|text| header::HeaderValue::from_str(&text).ok());
    let content_type = content_type.unwrap_or(header::HeaderValue::from_static("application/octet-stream"));
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}\"")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body))
}

async fn read_body(mut payload: Payload) -> Result<Bytes, Problem> {
    let mut body = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| Problem::bad("invalid_body", format!("the body ended early: {error}")))?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(Problem::new(
                413,
                "body_too_large",
                format!("a request's body has at most {BODY_BYTES_MAX} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads a JSON body; an absent one is an empty object.
fn json_body(request: &HttpRequest, body: &Bytes) -> Result<Value, Problem> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(415, "unsupported_media_type", "send JSON as application/json"));
    }
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad(
            "invalid_json",
            format!("the body is not JSON: line {}, column {}", error.line(), error.column()),
        )
    })
}
