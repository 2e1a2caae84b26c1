//! Names and values of `application/x-www-form-urlencoded` text: query strings and form bodies.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let read: Vec<_> = pairs(b"a=1&b=x+y%26&&c&=d&a=2").collect();
        let expected = [("a", "1"), ("b", "x y&"), ("c", ""), ("", "d"), ("a", "2")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
