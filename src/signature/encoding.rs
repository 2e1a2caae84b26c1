//! How the bytes of a signature are written as text. Decoding is strict: one text per value, but for
//! the case of hex digits.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::Error;

/// An encoding of bytes as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Two digits per byte; either case is read, lower case is written.
    #[default]
    Hex,
    /// RFC 4648, section 4, padded.
    Base64,
    /// RFC 4648, section 5, without padding.
    Base64Url,
    /// The bytes are the text: tokens.
    Text,
}

impl Encoding {
    /// Decodes a signature, or returns nothing if the text is not the canonical form of 1 to
    /// `bytes_max` bytes.
    pub fn decode(self, text: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
        if text.len() > bytes_max.saturating_mul(2) {
            return None;
        }
        let bytes = match self {
            Encoding::Hex => unhex(text)?,
            Encoding::Base64 => STANDARD.decode(text).ok()?,
            Encoding::Base64Url => URL_SAFE_NO_PAD.decode(text).ok()?,
            Encoding::Text => text.to_vec(),
        };
        (1..=bytes_max).contains(&bytes.len()).then_some(bytes)
    }

    /// Writes bytes as text.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Hex => hex(bytes),
            Encoding::Base64 => STANDARD.encode(bytes),
            Encoding::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
            Encoding::Text => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "hex" => Ok(Encoding::Hex),
            "base64" => Ok(Encoding::Base64),
            "base64url" => Ok(Encoding::Base64Url),
            "text" => Ok(Encoding::Text),
            _ => Err(Error::Word {
                what: "encoding",
                text: text.to_owned(),
                known: "hex, base64, base64url, text",
            }),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
            Encoding::Base64Url => "base64url",
            Encoding::Text => "text",
        })
    }
}

/// Writes bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reads hex of either case.
pub(super) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoding: Encoding, text: &str, expected: Option<&[u8]>) {
        assert_eq!(encoding.decode(text.as_bytes(), 64).as_deref(), expected, "{encoding} {text:?}");
    }

    #[test]
    fn hex_is_read_in_either_case() {
        check(Encoding::Hex, "00fFAb", Some(&[0, 255, 171]));
        for bad in ["0", "0g", " 00", "00 ", "+0", "0x00", &"00".repeat(65), "é"] {
            check(Encoding::Hex, bad, None);
        }
    }

    #[test]
    fn base64_is_read_in_its_canonical_form_only() {
        check(Encoding::Base64, "AQ==", Some(&[1]));
        for bad in ["AQ", "AQ=", "AR==", "AQ===", "AQ==\n", "A-==", " AQ=="] {
            check(Encoding::Base64, bad, None);
        }
        check(Encoding::Base64Url, "-_8", Some(&[251, 255]));
        for bad in ["-_8=", "-_9", "+/8"] {
            check(Encoding::Base64Url, bad, None);
        }
    }

    #[test]
    fn what_is_longer_than_any_tag_is_refused() {
        check(Encoding::Base64, &STANDARD.encode([7; 65]), None);
        check(Encoding::Base64, &STANDARD.encode([7; 64]), Some(&[7; 64]));
    }
}
