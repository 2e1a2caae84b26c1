//! Values as URLs and forms have them. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

/// What a segment of a path is written without: all but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns a value as one segment of a path has it, so that it cannot leave its segment.
pub(super) fn segment(value: &str) -> String {
    utf8_percent_encode(value, SEGMENT).to_string()
}

/// Returns a scalar as forms, paths and headers have it; nothing for what is none.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(word) => Some(word.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// How what is nested is written in a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// `a[b]=1`, `a[0]=2`.
    Brackets,
    /// `a[b]=1`, but items of arrays under the array's own name, again and again.
    Repeated,
    /// As JSON text.
    Json,
}

/// Returns fields as names and values; null has an empty value.
pub(super) fn pairs(fields: &Map<String, Value>, nesting: Nesting) -> Vec<(String, String)> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| add(name.clone(), value, nesting, &mut out));
    out
}

// The depth of values is bounded where arguments are read.
fn add(name: String, value: &Value, nesting: Nesting, out: &mut Vec<(String, String)>) {
    match value {
        Value::Array(_) | Value::Object(_) if nesting == Nesting::Json => out.push((name, value.to_string())),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let is_repeated = nesting == Nesting::Repeated;
                let name = if is_repeated { name.clone() } else { format!("{name}[{i}]") };
                add(name, item, nesting, out);
            }
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| add(format!("{name}[{field}]"), value, nesting, out));
        }
        scalar_value => out.push((name, scalar(scalar_value).unwrap_or_default())),
    }
}

/// Returns names and values as a form or query has them.
pub(super) fn form(pairs: &[(String, String)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(value: Value, nesting: Nesting, expected: &[(&str, &str)]) {
        let found = pairs(value.as_object().unwrap(), nesting);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nested_values_are_written_as_the_provider_has_them() {
        let value = json!({"a": {"b": 1, "c": [true, {"d": "x"}]}, "e": null});
        check(
            value.clone(),
            Nesting::Brackets,
            &[("a[b]", "1"), ("a[c][0]", "true"), ("a[c][1][d]", "x"), ("e", "")],
        );
        check(json!({"a": ["x", "y"]}), Nesting::Repeated, &[("a", "x"), ("a", "y")]);
        check(value, Nesting::Json, &[("a", "{\"b\":1,\"c\":[true,{\"d\":\"x\"}]}"), ("e", "")]);
    }

    proptest! {
        #[test]
        fn a_segment_holds_any_text_and_nothing_else(text in "\\PC{0,20}", odd in any::<String>()) {
            for text in [text, odd] {
                let encoded = segment(&text);
                prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
                let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
                prop_assert_eq!(decoded, text);
            }
        }

        #[test]
        fn forms_are_read_back_as_they_were_written(fields in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..8)) {
            let written: Map<String, Value> = fields.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            let text = form(&pairs(&written, Nesting::Brackets));
            let read: std::collections::BTreeMap<String, String> =
                url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
            prop_assert_eq!(read, fields);
        }
    }
}
