//! What a provider's answer says: a value, or why there is none. Pure.

use std::time::Duration;

use serde_json::Value;

use super::ClientError;
use crate::catalog::ClientErrors;
use crate::outbound::Answer;
use crate::permits::Correction;

/// How long a caller waits where the provider names no time, and no rule is known of it.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Longest wait that is passed on; a provider that names a longer one is asked again then.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Most characters of the provider's own words in an error.
const MESSAGE_CHARS_MAX: usize = 300;

/// What an answer says.
pub(super) struct Read {
    /// The value, or why there is none: the provider refused, or the answer is not what its API promises.
    pub(super) result: Result<Value, ClientError>,
    /// What it teaches of the provider's limits.
    pub(super) taught: Correction,
}

impl Read {
    /// Settles how long a refusal holds that names no time. `own` is the provider's own rule, which grows from one
    /// refusal to the next; without one it holds as long as any caller is told.
    pub(super) fn settle(&mut self, own: impl FnOnce() -> Option<Duration>) {
        if !self.taught.refused || self.taught.wait.is_some() {
            return;
        }
        match own() {
            Some(wait) => self.result = Err(ClientError::RateLimited { retry_after: wait }),
            None => self.taught.wait = Some(RETRY_AFTER),
        }
    }
}

/// Reads an answer. `taught` says what its headers teach, with its status, or without one where its body says that it
/// was refused for its rate.
pub(super) fn read(
    errors: &ClientErrors,
    answer: &Answer,
    taught: impl Fn(Option<u16>) -> Correction,
) -> Read {
    let value = match answer.body.trim_ascii() {
        [] => Some(Value::Null),
        body => serde_json::from_slice(body).ok(),
    };
    let is_good = (200..300).contains(&answer.status);
    let by_status = taught(Some(answer.status));
    match value {
        Some(value) if is_good && !says_failed(errors, &value) => {
            Read { result: Ok(value), taught: by_status }
        }
        None if is_good => Read { result: Err(ClientError::Malformed(no_json(answer))), taught: by_status },
        value => refusal(errors, answer, &value.unwrap_or_default(), by_status, || taught(None)),
    }
}

/// Says why a body cannot be read.
fn no_json(answer: &Answer) -> String {
    // None is asked for, so that no few bytes become many.
    match answer.headers.get("content-encoding").and_then(|coding| coding.to_str().ok()) {
        Some(coding) if !coding.eq_ignore_ascii_case("identity") => {
            format!("expected JSON as it is, found it compressed: {}", shortened(coding))
        }
        _ => "expected JSON".to_owned(),
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

fn refusal(
    errors: &ClientErrors,
    answer: &Answer,
    value: &Value,
    by_status: Correction,
    by_body: impl FnOnce() -> Correction,
) -> Read {
    let code = first_text(&errors.code, value).unwrap_or_default();
    let sentence = first_text(&errors.message, value).unwrap_or_default();
    let is_code = |codes: &[String]| codes.contains(&code);
    let status = answer.status;
    let is_limit = status == 429
        || is_code(&errors.limited_codes)
        || (status == 403 && (by_status.room == Some(0) || is_limit(errors, &sentence)));
    let mut taught = if is_limit && !by_status.refused { by_body() } else { by_status };
    if taught.refused {
        taught.wait = taught.wait.or_else(|| said_in_body(errors, value));
        let retry_after = taught.wait.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX);
        return Read { result: Err(ClientError::RateLimited { retry_after }), taught };
    }
    let message = message(&code, &sentence, value);
    let error = if status == 401 || is_code(&errors.credential_codes) {
        ClientError::Credentials(format!("the provider refused them: {message}"))
    } else {
        ClientError::Refused { status, message }
    };
    Read { result: Err(error), taught }
}

/// Tells whether the sentence of a 403 is about a rate limit.
fn is_limit(errors: &ClientErrors, sentence: &str) -> bool {
    let sentence = sentence.to_lowercase();
    errors.limited_texts.iter().any(|part| sentence.contains(part.as_str()))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{ProviderId, Timestamp};
    use crate::permits::{HeaderRules, learn};

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

    /// Reads as a client of the provider does.
    fn read_of(provider: &str, errors: &ClientErrors, answer: &Answer) -> Result<Value, ClientError> {
        let rules = HeaderRules::of(&provider.parse::<ProviderId>().unwrap());
        let headers = || answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        read(errors, answer, |status| learn(&rules, status.unwrap_or(429), headers(), now())).result
    }

    fn read_plain(errors: &ClientErrors, answer: &Answer) -> Result<Value, ClientError> {
        read_of("acme", errors, answer)
    }

    #[track_caller]
    fn check(answer: Answer, expected: &str) {
        let read = read_plain(&errors(), &answer);
        let told = read.map_or_else(|error| error.to_string(), |value| value.to_string());
        assert_eq!(told, expected);
    }

    #[test]
    fn good_answers_are_values() {
        check(answer(200, &[], "{\"ok\":true,\"a\":1}"), "{\"a\":1,\"ok\":true}");
        let plain = ClientErrors::default();
        assert_eq!(read_plain(&plain, &answer(204, &[], "")).unwrap(), Value::Null);
        assert_eq!(read_plain(&plain, &answer(201, &[], "[1]")).unwrap(), json!([1]));
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
        let told = read_plain(&errors(), &answer(404, &[], &long)).unwrap_err().to_string();
        assert!(told.len() < 400 && told.ends_with('…'));
    }

    #[test]
    fn refused_credentials_are_told_apart() {
        for bad in [
            answer(401, &[], "{\"message\":\"Bad credentials\"}"),
            answer(200, &[], "{\"ok\":false,\"error\":\"invalid_auth\"}"),
        ] {
            let error = read_plain(&errors(), &bad).unwrap_err();
            assert!(matches!(error, ClientError::Credentials(_)), "{error}");
        }
    }

    #[test]
    fn rate_limits_are_known_in_every_form() {
        let wait = |answer: Answer| match read_plain(&errors(), &answer).unwrap_err() {
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
        assert_eq!(wait(answer(503, &[("retry-after", "8")], "")), 8, "it says when to come again");
        let forbidden = read_plain(&errors(), &answer(403, &[], "{\"message\":\"no\"}")).unwrap_err();
        assert!(matches!(forbidden, ClientError::Refused { status: 403, .. }), "{forbidden}");
    }

    #[test]
    fn what_headers_say_of_limits_is_read_as_the_permits_read_it() {
        let wait = |provider: &str, status: u16, headers: &[(&'static str, &str)]| {
            let body = "{\"error\":\"ratelimited\"}";
            match read_of(provider, &errors(), &answer(status, headers, body)).unwrap_err() {
                ClientError::RateLimited { retry_after } => retry_after.as_secs(),
                other => panic!("{other}"),
            }
        };
        let (reset, in_ms) = ((NOW + 90).to_string(), (NOW * 1000 + 90_000).to_string());
        let of = |text| [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", text)];
        assert_eq!(wait("acme", 429, &of(&reset)), 90);
        assert_eq!(wait("acme", 429, &of(&in_ms)), 90, "milliseconds");
        assert_eq!(wait("acme", 429, &of("90")), 90, "a span");
        assert_eq!(wait("acme", 429, &of("1000000000")), 0, "long past");
        assert_eq!(wait("acme", 429, &of("garbage")), 60);
        assert_eq!(wait("acme", 429, &of("-5")), 60);
        assert_eq!(wait("acme", 429, &[("retry-after", "1000000000000")]), 86_400);
        assert_eq!(wait("acme", 429, &[("retry-after", "soon"), of(&reset)[0], of(&reset)[1]]), 90);
        assert_eq!(wait("acme", 429, &[("retry-after", "Sunday, 17-Jan-27 08:00:30 GMT")]), 86_400);
        assert_eq!(wait("acme", 429, &[("ratelimit", "\"default\";r=0;t=12")]), 12);
        let linear =
            [("x-ratelimit-requests-remaining", "0"), ("x-ratelimit-requests-reset", in_ms.as_str())];
        assert_eq!(wait("linear", 400, &linear), 90);
        let points =
            [("x-ratelimit-complexity-remaining", "0"), ("x-ratelimit-complexity-reset", in_ms.as_str())];
        assert_eq!(wait("linear", 400, &points), 90);
    }

    #[test]
    fn what_comes_compressed_is_told() {
        check(
            answer(200, &[("content-encoding", "gzip")], "\u{1f}\u{8b}"),
            "the answer makes no sense: expected JSON as it is, found it compressed: gzip",
        );
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
        let told = |body| read_plain(&errors, &answer(200, &[], body)).map_err(|error| error.to_string());
        assert_eq!(
            told("{\"data\":null,\"errors\":[{\"message\":\"Entity not found\"}]}").unwrap_err(),
            "the provider refused with status 200: Entity not found"
        );
        assert!(told("{\"data\":{},\"errors\":[]}").is_ok());
        assert!(told("{\"data\":{}}").is_ok());
    }
}
