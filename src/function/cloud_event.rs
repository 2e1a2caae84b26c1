//! An event as CloudEvents 1.0 says it (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::StoredEvent;

/// Content type of one CloudEvents JSON.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";

/// The version of the specification.
pub(super) const SPEC_VERSION: &str = "1.0";

/// What the HTTP binding has encoded in header values, beside what is not ASCII.
const HEADER_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Returns the `source` attribute.
pub(super) fn source(event: &StoredEvent) -> String {
    format!("/triggers/{}", event.content.trigger_id)
}

/// Returns the `type` attribute.
pub(super) fn kind(event: &StoredEvent) -> String {
    format!("{}.{}", event.content.provider, event.content.kind)
}

/// Returns the `time` attribute: when it happened, or was received where the provider does not say.
pub(super) fn time(event: &StoredEvent) -> String {
    event.content.occurred_at.unwrap_or(event.content.received_at).to_string()
}

/// Encodes an attribute for a header of binary mode.
pub(super) fn header_value(attribute: &str) -> String {
    utf8_percent_encode(attribute, HEADER_VALUE).to_string()
}

/// The JSON of structured mode. The body stands in it as it is, not parsed and written anew.
#[derive(Serialize)]
struct Structured<'a> {
    specversion: &'a str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Returns one CloudEvents JSON: `data` where the body is JSON, else `data_base64`.
pub(super) fn structured(event: &StoredEvent, body: &[u8]) -> Bytes {
    let data: Option<&RawValue> = serde_json::from_slice(body).ok();
    let is_opaque = data.is_none() && !body.is_empty();
    let content_type = event.content.header("content-type");
    let json = serde_json::to_vec(&Structured {
        specversion: SPEC_VERSION,
        id: event.id.to_string(),
        source: source(event),
        kind: kind(event),
        time: time(event),
        // Data that is JSON stands as JSON, whatever the provider called it.
        datacontenttype: if data.is_some() { Some("application/json") } else { content_type.as_deref() },
        data,
        data_base64: is_opaque.then(|| STANDARD.encode(body)),
    });
    json.expect("strings and raw JSON serialize").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::tests::event;

    #[test]
    fn json_stands_in_data_byte_for_byte() {
        let body = "{\"b\": 1.50,  \"a\":\"\\u00e4\"}";
        let json = structured(&event("push", body), body.as_bytes());
        let text = std::str::from_utf8(&json).unwrap();
        assert!(text.contains(&format!("\"data\":{body}")), "{text}");
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["specversion"], "1.0");
        assert_eq!(value["source"], "/triggers/github");
        assert_eq!(value["type"], "github.push");
        assert_eq!(value["time"], "2026-11-23T14:00:00.123456Z");
        assert_eq!(value["datacontenttype"], "application/json");
        assert!(value.get("data_base64").is_none());
    }

    #[test]
    fn what_is_not_json_stands_in_base64() {
        let json = structured(&event("push", ""), b"a=1&b=\xff");
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["data_base64"], "YT0xJmI9/w==");
        assert!(value.get("data").is_none());
        let empty: serde_json::Value = serde_json::from_slice(&structured(&event("push", ""), b"")).unwrap();
        assert!(empty.get("data").is_none() && empty.get("data_base64").is_none());
    }

    #[test]
    fn attributes_are_encoded_for_headers() {
        assert_eq!(header_value("github.push"), "github.push");
        assert_eq!(header_value("a b%\"ä"), "a%20b%25%22%C3%A4");
    }
}
