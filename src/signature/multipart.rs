//! The text fields of `multipart/form-data` bodies (RFC 7578). Files and nested parts are passed over:
//! providers that use the form put their JSON into a plain field.

/// Most parts that are looked at.
const PARTS_MAX: usize = 64;

/// Reads the fields in the order sent, as far as the body has the form. `content_type` is the
/// header's value, which names the boundary.
pub(super) fn fields(content_type: &[u8], body: &[u8]) -> Vec<(String, String)> {
    let Some(boundary) = boundary(content_type) else { return Vec::new() };
    let delimiter = [b"\r\n--", &boundary[..]].concat();
    // The first delimiter may stand at the body's very beginning.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => match find(body, &delimiter) {
            Some(at) => &body[at + delimiter.len()..],
            None => return Vec::new(),
        },
    };
    let mut fields = Vec::new();
    for _ in 0..PARTS_MAX {
        let Some(part) = rest.strip_prefix(b"\r\n") else { break };
        let Some(end) = find(part, &delimiter) else { break };
        fields.extend(field(&part[..end]));
        rest = &part[end + delimiter.len()..];
    }
    fields
}

/// Returns the boundary of a multipart content type.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let mut parts = text.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim())
    })?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    // RFC 2046, section 5.1.1.
    (1..=70).contains(&value.len()).then(|| value.as_bytes().to_vec())
}

/// Reads one part: its name and text, if it is a field and no file.
fn field(part: &[u8]) -> Option<(String, String)> {
    let (head, value) = match part.strip_prefix(b"\r\n") {
        Some(value) => (&part[..0], value),
        None => {
            let end = find(part, b"\r\n\r\n")?;
            (&part[..end], &part[end + 4..])
        }
    };
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.trim())
    })?;
    if parameter(disposition, "filename").is_some() {
        return None;
    }
    let name = parameter(disposition, "name")?;
    Some((name, String::from_utf8_lossy(value).into_owned()))
}

fn parameter(disposition: &str, wanted: &str) -> Option<String> {
    disposition.split(';').skip(1).find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        let value = value.trim().trim_matches('"').to_owned();
        name.trim().eq_ignore_ascii_case(wanted).then_some(value)
    })
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=\"x y\"";

    fn check(body: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(fields(TYPE, body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn fields_are_read_and_files_passed_over() {
        let part = |rest: &str| format!("--x y\r\nContent-Disposition: form-data; name=\"{rest}\r\n");
        check(&format!("{}--x y--\r\n", part("json\"\r\n\r\n{\"a\":1}")), &[("json", "{\"a\":1}")]);
        let body = format!(
            "preamble\r\n{}{}--x y--",
            part("a\"; filename=\"f\"\r\n\r\nfile"),
            part("b\"\r\n\r\n\r\n")
        );
        check(&body, &[("b", "\r\n")]);
    }

    #[test]
    fn what_is_no_form_has_no_fields() {
        for body in ["", "--x y", "--x y--", "--x y\r\nno head", "--x y\r\nA: b\r\n\r\nvalue\r\n--x y--"] {
            check(body, &[]);
        }
        assert!(fields(b"text/plain", b"--x y\r\n\r\n").is_empty());
        assert!(fields(b"multipart/form-data", b"--\r\n").is_empty());
    }

    proptest! {
        #[test]
        fn fields_that_are_written_are_read_back(
            written in prop::collection::vec(("[a-z]{1,8}", "[^-]{0,40}"), 1..8), preamble in "[^-]{0,20}"
        ) {
            let part = |(name, value): &(String, String)| {
                format!("\r\n--x y\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}")
            };
            let body = format!("{preamble}{}\r\n--x y--\r\n", written.iter().map(part).collect::<String>());
            prop_assert_eq!(fields(TYPE, body.as_bytes()), written);
        }
    }
}
