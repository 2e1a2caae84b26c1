//! Filters between bytes and bytes, written `a|b|c`: how a secret becomes a key, and how a value is
//! put into a template.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256, Sha512};

use super::Error;
use super::encoding::{hex, unhex};

/// People paste keys with and without padding; the value is the same.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One step of a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Bytes to lower-case hex.
    Hex,
    /// Hex of either case to bytes.
    Unhex,
    /// Bytes to padded base64.
    Base64,
    /// Bytes to unpadded URL-safe base64.
    Base64Url,
    /// Base64, padded or not, to bytes.
    Unbase64,
    /// SHA-256 of the bytes.
    Sha256,
    /// SHA-512 of the bytes.
    Sha512,
    /// ASCII letters to lower case.
    Lower,
    /// A JSON string literal of the text, quotes included.
    Json,
    /// Takes a prefix away, if it is there.
    Strip(String),
}

impl Filter {
    /// Reads a pipe; empty text is the empty pipe.
    ///
    /// # Errors
    ///
    /// If a filter is unknown.
    pub fn pipe(text: &str) -> Result<Vec<Filter>, Error> {
        text.split('|').filter(|filter| !filter.is_empty()).map(str::parse).collect()
    }

    /// Sends bytes through a pipe; nothing comes out if a filter cannot read what it is given.
    pub fn apply_all<'b>(pipe: &[Filter], bytes: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        pipe.iter().try_fold(Cow::Borrowed(bytes), |bytes, filter| filter.apply(&bytes).map(Cow::Owned))
    }

    /// Sends bytes through the filter.
    pub fn apply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Filter::Hex => hex(bytes).into_bytes(),
            Filter::Unhex => {
                let mut out = vec![0; bytes.len() / 2];
                unhex(bytes, &mut out)?;
                out
            }
            Filter::Base64 => STANDARD.encode(bytes).into_bytes(),
            Filter::Base64Url => URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
            Filter::Unbase64 => KEY_BASE64.decode(bytes).ok()?,
            Filter::Sha256 => Sha256::digest(bytes).to_vec(),
            Filter::Sha512 => Sha512::digest(bytes).to_vec(),
            Filter::Lower => bytes.to_ascii_lowercase(),
            Filter::Json => serde_json::to_vec(std::str::from_utf8(bytes).ok()?).ok()?,
            Filter::Strip(prefix) => bytes.strip_prefix(prefix.as_bytes()).unwrap_or(bytes).to_vec(),
        })
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(prefix) = text.strip_prefix("strip:") {
            return Ok(Filter::Strip(prefix.to_owned()));
        }
        Ok(match text {
            "hex" => Filter::Hex,
            "unhex" => Filter::Unhex,
            "base64" => Filter::Base64,
            "base64url" => Filter::Base64Url,
            "unbase64" => Filter::Unbase64,
            "sha256" => Filter::Sha256,
            "sha512" => Filter::Sha512,
            "lower" => Filter::Lower,
            "json" => Filter::Json,
            _ => {
                return Err(Error::Word {
                    what: "filter",
                    text: text.to_owned(),
                    known: "hex, unhex, base64, base64url, unbase64, sha256, sha512, lower, json, strip:PREFIX",
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pipe: &str, input: &str, expected: Option<&str>) {
        let out = Filter::apply_all(&Filter::pipe(pipe).unwrap(), input.as_bytes());
        assert_eq!(out.as_deref(), expected.map(str::as_bytes), "{pipe} of {input}");
    }

    #[test]
    fn pipes_apply_from_left_to_right() {
        check("", "as is", Some("as is"));
        check("strip:whsec_|unbase64", "whsec_aGk=", Some("hi"));
        check("strip:whsec_|unbase64", "aGk", Some("hi"));
        check("strip:whsec_|unbase64", "whsec_a", None);
        check("unhex", "6869", Some("hi"));
        check("unhex", "686", None);
        check("hex|base64", "hi", Some("Njg2OQ=="));
        check("json", "a\"b", Some(r#""a\"b""#));
        check(
            "lower|sha256|hex",
            "ABC",
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        );
    }

    #[test]
    fn an_unknown_filter_is_refused() {
        assert!(Filter::pipe("hex|rot13").is_err());
    }
}
