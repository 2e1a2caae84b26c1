//! JSON bodies: the single pass that takes values out of them finds what a full parse finds, elements of
//! a batch keep their bytes, and rewriting moves blanks only.
//!
//! Input: a JSON pointer, a line feed, the body.

#![no_main]

use hookkeeper::signature::{Fields, Filter, Location, Pointer, Request, Values, items};
use hookkeeper_fuzz::line;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Numbers up to here are exact although they are written with a fraction or exponent.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Longer values are not taken.
const VALUE_BYTES_MAX: usize = 8 * 1024;

fn expected(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.abs() >= EXACT_MAX => return None,
            Some(float) => float.to_string(),
            None => number.to_string(),
        },
        _ => return None,
    };
    (text.len() <= VALUE_BYTES_MAX).then_some(text)
}

fn extracted(pointer: &Pointer, body: &[u8]) -> Option<String> {
    let mut fields = Fields::default();
    let slot = fields.want(Location::Json(pointer.clone()));
    // Something beside it, so that the pass has more than one way to go.
    fields.want("json:/a/0/b".parse().expect("a location"));
    let request = Request { method: "POST", url: "/", public_url: None, headers: &[], body };
    let values = Values::new(&fields, request);
    values.get(slot).map(|value| String::from_utf8(value.into_owned()).expect("JSON is UTF-8"))
}

fuzz_target!(|data: &[u8]| {
    let (pointer, body) = line(data);
    let Some(pointer) = std::str::from_utf8(pointer).ok().and_then(|text| text.parse::<Pointer>().ok())
    else {
        return;
    };
    let extracted = extracted(&pointer, body);
    let value: Result<Value, _> = serde_json::from_slice(body);
    // The first child is the first as it stands in the text for one, the first by name for the other. What
    // is skipped may hold numbers that no full parse takes.
    if let Ok(value) = &value
        && !pointer.tokens().iter().any(|token| token == "*")
    {
        assert_eq!(extracted, pointer.of(value).and_then(expected), "{pointer}");
    }
    let Ok(text) = std::str::from_utf8(body) else { return };
    if let Some(items) = items(text, &pointer) {
        let mut end = text.as_ptr() as usize;
        for item in &items {
            assert!(item.as_ptr() as usize >= end, "elements stand one behind the other");
            end = item.as_ptr() as usize + item.len();
        }
        assert!(end <= text.as_ptr() as usize + text.len());
        if let Ok(value) = &value
            && !pointer.tokens().iter().any(|token| token == "*")
        {
            let list = pointer.of(value).and_then(Value::as_array).expect("a batch is an array");
            let items = items.iter().map(|item| serde_json::from_str::<Value>(item).expect("an element"));
            assert!(items.eq(list.iter().cloned()));
        }
    }
    let minify = Filter::pipe("json-minify").expect("a filter");
    if let (Ok(value), Some(rewritten)) = (&value, Filter::apply_all(&minify, body)) {
        assert_eq!(serde_json::from_slice::<Value>(&rewritten).as_ref().ok(), Some(value));
        assert_eq!(Filter::apply_all(&minify, &rewritten).as_deref(), Some(&*rewritten));
    }
});
