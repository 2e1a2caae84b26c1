//! The elements of a batch, each with its place in the body, so that nothing of it is changed on the
//! way into an event of its own.

use serde_json::value::RawValue;

use super::Pointer;

/// Most elements of one batch; a longer one stays one event. Providers send up to a few hundred.
pub const ITEMS_MAX: usize = 4096;

/// Finds the array at a pointer and returns the text of each of its elements, in order. Nothing comes
/// of text that is no JSON, of an absent or empty array, and of one with too many elements.
pub fn items<'t>(text: &'t str, pointer: &Pointer) -> Option<Vec<&'t str>> {
    let items: Vec<&RawValue> = serde_json::from_str(text_at(text, pointer)?).ok()?;
    (1..=ITEMS_MAX).contains(&items.len()).then(|| items.into_iter().map(RawValue::get).collect())
}

/// Returns a JSON body with another text in the place of the string at a pointer, between its quotes; nothing else
/// of it changes. Nothing comes of a body that has no such string, or has it in another spelling than its own.
pub(super) fn with_string_at(body: &[u8], pointer: &Pointer, text: &[u8]) -> Option<Vec<u8>> {
    let json = std::str::from_utf8(body).ok()?;
    let old = text_at(json, pointer)?.strip_prefix('"')?.strip_suffix('"')?;
    let start = old.as_ptr() as usize - json.as_ptr() as usize;
    (!old.contains('\\')).then(|| [&body[..start], text, &body[start + old.len()..]].concat())
}

/// Returns the text of the value that a pointer leads to.
fn text_at<'t>(text: &'t str, pointer: &Pointer) -> Option<&'t str> {
    pointer.tokens().iter().try_fold(text, |text, token| child(text, token))
}

fn child<'t>(text: &'t str, token: &str) -> Option<&'t str> {
    if let Ok(index) = token.parse::<usize>()
        && let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(text)
    {
        return list.get(index).map(|value| value.get());
    }
    let members: Members<'t> = serde_json::from_str(text).ok()?;
    // Where a key stands twice, the last one counts, as everywhere else.
    members.0.into_iter().rev().find(|(name, _)| name == token).map(|(_, value)| value.get())
}

/// An object's members in their order.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, pointer: &str, expected: Option<&[&str]>) {
        assert_eq!(items(text, &pointer.parse().unwrap()).as_deref(), expected, "{pointer} of {text}");
    }

    #[test]
    fn elements_keep_their_bytes() {
        check(r#" [ {"a": 1.50} ,2, "x" ] "#, "", Some(&[r#"{"a": 1.50}"#, "2", "\"x\""]));
        check(r#"{"events": [{ "id":1 }], "more": []}"#, "/events", Some(&[r#"{ "id":1 }"#]));
        check(r#"{"a": [{"b": [7]}]}"#, "/a/0/b", Some(&["7"]));
        check(r#"{"a": [1], "a": [2]}"#, "/a", Some(&["2"]));
    }

    #[test]
    fn one_string_is_replaced_and_no_byte_beside_it() {
        let check = |body: &str, expected: Option<&str>| {
            let replaced = with_string_at(body.as_bytes(), &"/a/b".parse().unwrap(), b"NEW");
            assert_eq!(replaced.as_deref(), expected.map(str::as_bytes), "{body}");
        };
        check(r#"{"b":"x", "a" : {"c":"x","b": "x" }} "#, Some(r#"{"b":"x", "a" : {"c":"x","b": "NEW" }} "#));
        check(r#"{"a":{"b":"x","b":""}}"#, Some(r#"{"a":{"b":"x","b":"NEW"}}"#));
        for other in [r#"{"a":{"b":1}}"#, r#"{"a":{}}"#, r#"{"a":{"b":"\u0078"}}"#, "", "{"] {
            check(other, None);
        }
    }

    #[test]
    fn what_is_no_batch_has_none() {
        for (text, pointer) in
            [("", ""), ("{}", ""), ("[]", ""), ("[1", ""), (r#"{"events": {}}"#, "/events"), ("{}", "/a")]
        {
            check(text, pointer, None);
        }
        let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(items(&many(ITEMS_MAX), &"".parse().unwrap()).is_some());
        check(&many(ITEMS_MAX + 1), "", None);
    }
}
