//! Form bodies and query strings: urlencoded ones are read as another reader reads them, and of
//! multipart ones nothing comes that is not there.
//!
//! Input: the content type, a line feed, the body.

#![no_main]

use std::collections::BTreeSet;

use bytes::Bytes;
use hookkeeper::event::Header;
use hookkeeper::signature::{Context, Fields, Location, Request, Template, Values};
use hookkeeper_fuzz::line;
use libfuzzer_sys::fuzz_target;

const FIELD: &str = "payload";

fuzz_target!(|data: &[u8]| {
    let (content_type, body) = line(data);
    let headers: [Header; 1] = [("content-type".to_owned(), Bytes::copy_from_slice(content_type))];
    let url = format!("/x?{}", String::from_utf8_lossy(body));
    let mut fields = Fields::new(Some(FIELD.to_owned()));
    let template = Template::new("{form.sorted}", &mut fields).expect("a template");
    let field = fields.want(Location::Form(FIELD.to_owned()));
    let json = fields.want("json:/a/0/b".parse().expect("a location"));
    let query = fields.want(Location::Query(FIELD.to_owned()));
    let request = Request { method: "POST", url: &url, public_url: None, headers: &headers, body };
    let values = Values::new(&fields, request);
    let sorted = template.fill(&Context::of(&values)).expect("a form is always there");
    let value = values.get(field);
    values.get(json);

    let of_url: Vec<_> = form_urlencoded::parse(url[3..].as_bytes()).collect();
    let first = of_url.iter().find(|(name, _)| name == FIELD).map(|(_, value)| value.as_bytes());
    assert_eq!(values.get(query).as_deref(), first);

    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        let pairs: BTreeSet<_> = form_urlencoded::parse(body).into_owned().collect();
        let expected: String = pairs.iter().flat_map(|(name, value)| [name.as_str(), value]).collect();
        assert_eq!(sorted, expected.into_bytes());
        let mut pairs = form_urlencoded::parse(body);
        let expected = pairs.find(|(name, _)| name == FIELD).map(|(_, value)| value.into_owned());
        assert_eq!(value.as_deref(), expected.as_deref().map(str::as_bytes));
    } else if let Some(value) = value
        && let Ok(text) = std::str::from_utf8(&value)
        && !text.contains('\u{fffd}')
    {
        let mut windows = body.windows(text.len().max(1));
        assert!(text.is_empty() || windows.any(|window| window == text.as_bytes()));
    }
});
