//! The syntax of signature headers: patterns as an entry has them, texts as anybody sends them.
//!
//! Input: a separator (or nothing), a line feed, a pattern, a line feed, the header's text.

#![no_main]

use std::sync::LazyLock;

use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::signature::{Field, Syntax};
use libfuzzer_sys::fuzz_target;

static BUILT_IN: LazyLock<Vec<Syntax>> = LazyLock::new(|| {
    let catalog = ProviderCatalog::built_in();
    let signatures = catalog.entries().filter_map(|entry| entry.signature.as_ref());
    signatures.filter_map(|text| Syntax::new(&text.syntax, text.list.as_deref()).ok()).collect()
});

/// Reads a text; whatever is found must be a part of it.
fn read<'t>(syntax: &Syntax, text: &'t [u8]) -> Vec<(Field, &'t [u8])> {
    let mut found = Vec::new();
    syntax.read(text, |field, value| found.push((field, value)));
    let bounds = text.as_ptr_range();
    for (_, value) in &found {
        let part = value.as_ptr_range();
        assert!(value.is_empty() || (bounds.start <= part.start && part.end <= bounds.end));
    }
    found
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (separator, pattern, text) = (part(), part(), part());
    for syntax in BUILT_IN.iter() {
        read(syntax, text);
    }
    let (Ok(separator), Ok(pattern)) = (std::str::from_utf8(separator), std::str::from_utf8(pattern)) else {
        return;
    };
    if let Ok(syntax) = Syntax::new(&[pattern], Some(separator)) {
        read(&syntax, text);
        read(&syntax, syntax.write("5257a869e7ec", "1614265330", "id1", "eyJhbGciOiJSUzI1NiJ9").as_bytes());
    }
});
