//! What a provider's answer says: a value, or why there is none. Pure.

use std::time::Duration;

use serde_json::Value;

use super::ClientError;
use crate::catalog::ClientErrors;
use crate::event::Timestamp;
use crate::outbound::{Answer, HeaderMap};

/// How long a caller waits where the provider names no time: GitHub and others ask for a minute at least.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Longest wait that is passed on; a provider that names a longer one is asked again then.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Most characters of the provider's own words in an error.
const MESSAGE_CHARS_MAX: usize = 300;

/// Reads an answer.
///
/// # Errors
///
/// If the provider refused, or the answer is not what its API promises.
pub(super) fn read(errors: &ClientErrors, answer: &Answer, now: Timestamp) -> Result<Value, ClientError> {
    let value = match answer.body.trim_ascii() {
        [] => Some(Value::Null),
        body => serde_json::from_slice(body).ok(),
    };
    let is_good = (200..300).contains(&answer.status);
    match value {
        Some(value) if is_good && !says_failed(errors, &value) => Ok(value),
        None if is_good => Err(ClientError::Malformed("expected JSON".to_owned())),
        value => Err(refusal(errors, answer, &value.unwrap_or_default(), now)),
    }
}

/// Tells whether a body says that it is a failure, where the status does not.
fn says_failed(errors: &ClientErrors, value: &Value) -> bool {
    let is_not_ok =
        errors.ok.as_ref().is_some_and(|pointer| value.pointer(pointer) != Some(&Value::Bool(true)));
    let fails = errors.failed.as_ref().and_then(|pointer| value.pointer(pointer));
    let has_failed = match fails {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    };
    is_not_ok || has_failed
}

fn refusal(errors: &ClientErrors, answer: &Answer, value: &Value, now: Timestamp) -> ClientError {
    let code = first_text(&errors.code, value).unwrap_or_default();
    let sentence = first_text(&errors.message, value).unwrap_or_default();
    let is_code = |codes: &[String]| codes.contains(&code);
    let status = answer.status;
    if status == 429
        || is_code(&errors.limited_codes)
        || (status == 403 && is_limit(errors, answer, &sentence))
    {
        let said = retry_after(&answer.headers, now).or_else(|| said_in_body(errors, value));
        let retry_after = said.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX);
        return ClientError::RateLimited { retry_after };
    }
    let message = message(&code, &sentence, value);
    if status == 401 || is_code(&errors.credential_codes) {
        return ClientError::Credentials(format!("the provider refused them: {message}"));
    }
    ClientError::Refused { status, message }
}

/// Tells whether a 403 is a rate limit.
fn is_limit(errors: &ClientErrors, answer: &Answer, sentence: &str) -> bool {
    let sentence = sentence.to_lowercase();
    header(&answer.headers, "retry-after").is_some()
        || header(&answer.headers, "x-ratelimit-remaining") == Some("0")
        || errors.limited_texts.iter().any(|part| sentence.contains(part.as_str()))
}

fn first_text(pointers: &[String], value: &Value) -> Option<String> {
    pointers.iter().find_map(|pointer| match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn message(code: &str, sentence: &str, value: &Value) -> String {
    match (code, sentence) {
        ("", "") if value.is_null() => "without a reason that can be read".to_owned(),
        ("", "") => shortened(&value.to_string()),
        (one, "") | ("", one) => shortened(one),
        (code, sentence) => shortened(&format!("{code}: {sentence}")),
    }
}

/// Returns a text as one line that is not too long, and moves no cursor.
pub(super) fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.take(MESSAGE_CHARS_MAX).collect();
    if text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

fn said_in_body(errors: &ClientErrors, value: &Value) -> Option<Duration> {
    let seconds = value.pointer(errors.wait_s.as_ref()?)?.as_f64()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Returns how long to wait, as the headers say: `Retry-After`, else when the window begins anew.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(text) = header(headers, "retry-after").map(str::trim) {
        return match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => until(jiff::fmt::rfc2822::parse(text).ok()?.timestamp(), now),
        };
    }
    let reset = header(headers, "x-ratelimit-reset")?.trim().parse::<i64>().ok()?;
    // Some name the time, others what is left until then.
    let is_distance = reset < 1_000_000_000;
    if is_distance {
        return u64::try_from(reset).ok().map(Duration::from_secs);
    }
    until(Timestamp::from_second(reset).ok()?, now)
}

fn until(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn errors() -> ClientErrors {
        let text = "ok = \"/ok\"\ncode = [\"/error\"]\nmessage = [\"/message\"]\nlimited_codes = [\"ratelimited\"]\nwait_s = \"/parameters/retry_after\"\n\
            limited_texts = [\"secondary rate limit\"]\ncredential_codes = [\"invalid_auth\"]";
        toml::from_str(text).unwrap()
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Answer { status, headers: headers.collect(), body: body.to_owned().into() }
    }

    #[track_caller]
    fn check(answer: Answer, expected: &str) {
        let read = read(&errors(), &answer, now());
        let told = read.map_or_else(|error| error.to_string(), |value| value.to_string());
        assert_eq!(told, expected);
    }

    #[test]
    fn good_answers_are_values() {
        check(answer(200, &[], "{\"ok\":true,\"a\":1}"), "{\"a\":1,\"ok\":true}");
        let plain = ClientErrors::default();
        assert_eq!(read(&plain, &answer(204, &[], ""), now()).unwrap(), Value::Null);
        assert_eq!(read(&plain, &answer(201, &[], "[1]"), now()).unwrap(), json!([1]));
    }

    #[test]
    fn a_refusal_tells_the_providers_own_words() {
        check(
            answer(422, &[], "{\"message\":\"Validation Failed\",\"error\":\"custom\"}"),
            "the provider refused with status 422: custom: Validation Failed",
        );
        check(
            answer(200, &[], "{\"ok\":false,\"error\":\"channel_not_found\"}"),
            "the provider refused with status 200: channel_not_found",
        );
        check(
            answer(500, &[], "<html>"),
            "the provider refused with status 500: without a reason that can be read",
        );
        check(
            answer(400, &[], "{\"why\":\"a\\nb\"}"),
            "the provider refused with status 400: {\"why\":\"a\\nb\"}",
        );
        check(
            answer(404, &[], "{\"message\":\"a\\u001b[2Jb\"}"),
            "the provider refused with status 404: a [2Jb",
        );
        let long = format!("{{\"message\":\"{}\"}}", "x".repeat(1000));
        let told = read(&errors(), &answer(404, &[], &long), now()).unwrap_err().to_string();
        assert!(told.len() < 400 && told.ends_with('…'));
    }

    #[test]
    fn refused_credentials_are_told_apart() {
        for bad in [
            answer(401, &[], "{\"message\":\"Bad credentials\"}"),
            answer(200, &[], "{\"ok\":false,\"error\":\"invalid_auth\"}"),
        ] {
            let error = read(&errors(), &bad, now()).unwrap_err();
            assert!(matches!(error, ClientError::Credentials(_)), "{error}");
        }
    }

    #[test]
    fn rate_limits_are_known_in_every_form() {
        let wait = |answer: Answer| match read(&errors(), &answer, now()).unwrap_err() {
            ClientError::RateLimited { retry_after } => retry_after.as_secs(),
            other => panic!("{other}"),
        };
        let limited = "{\"ok\":false,\"error\":\"ratelimited\"}";
        assert_eq!(wait(answer(429, &[], "")), 60);
        assert_eq!(wait(answer(429, &[("retry-after", "7")], "<html>")), 7);
        assert_eq!(wait(answer(429, &[("retry-after", "0.5")], "")), 0);
        assert_eq!(wait(answer(429, &[("retry-after", "Fri, 15 Jan 2027 08:00:30 GMT")], "")), 30);
        assert_eq!(wait(answer(429, &[("retry-after", "99999999999")], "")), 86_400);
        assert_eq!(wait(answer(429, &[("retry-after", "-1")], "")), 60);
        assert_eq!(wait(answer(429, &[], "{\"parameters\":{\"retry_after\":12}}")), 12);
        assert_eq!(wait(answer(200, &[("retry-after", "30")], limited)), 30);
        let reset = (NOW + 90).to_string();
        let window = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
        assert_eq!(wait(answer(403, &window, "{\"message\":\"API rate limit exceeded\"}")), 90);
        assert_eq!(wait(answer(403, &[("retry-after", "5")], "{}")), 5);
        let secondary = "{\"message\":\"You have exceeded a secondary rate limit.\"}";
        assert_eq!(wait(answer(403, &[("x-ratelimit-remaining", "10")], secondary)), 60);
        let forbidden = read(&errors(), &answer(403, &[], "{\"message\":\"no\"}"), now()).unwrap_err();
        assert!(matches!(forbidden, ClientError::Refused { status: 403, .. }), "{forbidden}");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in ["<html>", "{\"ok\":true", "\u{0}"] {
            check(answer(200, &[], body), "the answer makes no sense: expected JSON");
        }
        check(answer(200, &[], "{}"), "the provider refused with status 200: {}");
    }

    #[test]
    fn errors_of_graphql_are_refusals() {
        let errors: ClientErrors =
            toml::from_str("failed = \"/errors\"\nmessage = [\"/errors/0/message\"]").unwrap();
        let told = |body| read(&errors, &answer(200, &[], body), now()).map_err(|error| error.to_string());
        assert_eq!(
            told("{\"data\":null,\"errors\":[{\"message\":\"Entity not found\"}]}").unwrap_err(),
            "the provider refused with status 200: Entity not found"
        );
        assert!(told("{\"data\":{},\"errors\":[]}").is_ok());
        assert!(told("{\"data\":{}}").is_ok());
    }
}
