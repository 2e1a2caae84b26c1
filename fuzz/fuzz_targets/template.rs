//! Templates of what is signed, of kinds and of answers, filled from requests as anybody sends them.
//!
//! Input: the template, a line feed, a request.

#![no_main]

use hookkeeper::signature::{Context, Fields, Request, Template, Values};
use hookkeeper_fuzz::{line, request};
use libfuzzer_sys::fuzz_target;

/// A filled template is at most this many times as long as what it is filled from.
const GROWTH_MAX: usize = 32;

fuzz_target!(|data: &[u8]| {
    let (text, rest) = line(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut fields = Fields::new(Some("payload".to_owned()));
    let Ok(template) = Template::new(text, &mut fields) else { return };
    let raw = request(rest);
    let request = Request {
        method: &raw.method,
        url: &raw.url,
        public_url: Some("https://hooks.example.com/hooks/x"),
        headers: &raw.headers,
        body: &raw.body,
    };
    let values = Values::new(&fields, request);
    let context = Context {
        timestamp: Some(b"1700000000"),
        id: Some(b"id-1"),
        key_id: None,
        secret: Some(b"secret"),
        key: Some(b"key"),
        ..Context::of(&values)
    };
    let mut pieces = Vec::new();
    let written = template.write(&context, &mut |bytes| pieces.extend_from_slice(bytes));
    assert_eq!(template.fill(&context), written.map(|()| pieces.clone()));
    assert!(pieces.len() <= GROWTH_MAX * (data.len() + 256), "{} of {}", pieces.len(), data.len());
    if let Some(text) = template.text(&values) {
        template.headers_of(&text, &fields);
    }
});
