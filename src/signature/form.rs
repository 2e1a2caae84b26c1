//! Names and values of `application/x-www-form-urlencoded` text: query strings and form bodies.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::percent_decode;

/// Reads the pairs in the order sent; what is not valid UTF-8 becomes the replacement character.
pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |b| *b == b'=');
        let mut half = || decode(halves.next().unwrap_or_default());
        (half(), half())
    })
}

fn decode(text: &[u8]) -> String {
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

/// Writes fields as PHP serializes an array of texts, in the order of names. Nothing comes of what PHP would
/// read as something else: a name that stands twice, or is no plain word.
pub(super) fn php(fields: impl Iterator<Item = (String, String)>) -> Option<String> {
    let mut sorted = BTreeMap::new();
    for (name, value) in fields {
        if !is_word(&name) || sorted.insert(name, value).is_some() {
            return None;
        }
    }
    let mut out = format!("a:{}:{{", sorted.len());
    for text in sorted.iter().flat_map(|(name, value)| [name, value]) {
        write!(out, "s:{}:\"{text}\";", text.len()).expect("a string takes any text");
    }
    out.push('}');
    Some(out)
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let read: Vec<_> = pairs(b"a=1&b=x+y%26&&c&=d&a=2").collect();
        let expected = [("a", "1"), ("b", "x y&"), ("c", ""), ("", "d"), ("a", "2")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn fields_are_written_as_php_serializes_them() {
        let written = |text: &str| php(pairs(text.as_bytes()));
        let expected = r#"a:3:{s:1:"A";s:0:"";s:1:"b";s:5:"Grüß";s:2:"b_";s:3:"x"y";}"#.replace("s:5", "s:6");
        assert_eq!(written("b=Gr%C3%BC%C3%9F&b_=x%22y&A="), Some(expected));
        assert_eq!(written(""), Some("a:0:{}".to_owned()));
        for other in ["a=1&a=1", "a%5B%5D=1", "1=a", "a.b=1", "=1"] {
            assert_eq!(written(other), None, "{other}");
        }
    }
}
