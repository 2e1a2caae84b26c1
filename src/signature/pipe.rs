//! Filters between bytes and bytes, written `a|b|c`: how a secret becomes a key, and how a value is
//! put into a template.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{percent_decode, percent_encode_byte};
use unicode_normalization::UnicodeNormalization as _;

use super::Error;
use super::encoding::{hex, unhex};
use super::hash::Hash;
use super::json_text::{self, Style};

/// Most filters in one pipe: each of them may cost a pass over a body.
const FILTERS_MAX: usize = 8;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// People paste keys with and without padding; the value is the same.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const KEY_BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

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
    /// URL-safe base64, padded or not, to bytes.
    Unbase64Url,
    /// The hash of the bytes, raw.
    Digest(Hash),
    /// The HMAC of the bytes under the trigger's current key, raw.
    Hmac(Hash),
    /// CRC-32 (IEEE) of the bytes, in decimal.
    Crc32,
    /// ASCII letters to lower case.
    Lower,
    /// ASCII letters to upper case.
    Upper,
    /// Unicode's compatibility decomposition of the text.
    Nfkd,
    /// Blanks around it taken away.
    Trim,
    /// A JSON string literal of the text, quotes included.
    Json,
    /// JSON text without the blanks between its tokens.
    JsonMinify,
    /// Takes a prefix away, if it is there.
    Strip(String),
    /// Everything but letters, digits, `-._~` and the given characters percent-encoded.
    Percent(String),
    /// Percent-decodes the given characters, or all where none are given.
    PercentDecode(String),
}

impl Filter {
    /// Reads a pipe; empty text is the empty pipe.
    ///
    /// # Errors
    ///
    /// If a filter is unknown, or there are too many.
    pub fn pipe(text: &str) -> Result<Vec<Filter>, Error> {
        let pipe: Vec<Filter> =
            text.split('|').filter(|filter| !filter.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        if pipe.len() > FILTERS_MAX {
            return Err(Error::Word { what: "pipe", text: text.to_owned(), known: "up to 8 filters" });
        }
        Ok(pipe)
    }

    /// Sends bytes through a pipe that needs no key; nothing comes out if a filter cannot read what it
    /// is given.
    pub fn apply_all<'b>(pipe: &[Filter], bytes: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        Self::apply_keyed(pipe, None, bytes)
    }

    /// Sends bytes through a pipe whose keyed filters use `key`.
    pub(super) fn apply_keyed<'b>(
        pipe: &[Filter],
        key: Option<&[u8]>,
        bytes: &'b [u8],
    ) -> Option<Cow<'b, [u8]>> {
        pipe.iter().try_fold(Cow::Borrowed(bytes), |bytes, filter| filter.apply(key, &bytes).map(Cow::Owned))
    }

    /// Returns what a pipe costs at most, in passes over what it is given: filters may lengthen it.
    pub(super) fn passes(pipe: &[Filter]) -> usize {
        let cost = |(passes, length): (usize, usize), filter: &Filter| {
            let longer = length * filter.growth();
            (passes + length.max(longer), longer)
        };
        pipe.iter().fold((0, 1), cost).0
    }

    /// Returns how many times as long as its input the filter's output may be; a hash has a length of its own.
    fn growth(&self) -> usize {
        match self {
            Filter::Digest(_) | Filter::Hmac(_) | Filter::Crc32 => 0,
            Filter::Hex | Filter::Base64 | Filter::Base64Url => 2,
            Filter::Percent(_) => 3,
            // A control character becomes `\u0000`.
            Filter::Json => 6,
            // One character of three bytes becomes eighteen with 33.
            Filter::Nfkd => 11,
            Filter::Unhex
            | Filter::Unbase64
            | Filter::Unbase64Url
            | Filter::Lower
            | Filter::Upper
            | Filter::Trim
            | Filter::JsonMinify
            | Filter::Strip(_)
            | Filter::PercentDecode(_) => 1,
        }
    }

    /// Tells whether the filter needs a key.
    pub(super) fn is_keyed(&self) -> bool {
        matches!(self, Filter::Hmac(_))
    }

    fn apply(&self, key: Option<&[u8]>, bytes: &[u8]) -> Option<Vec<u8>> {
        let text = || std::str::from_utf8(bytes).ok();
        Some(match self {
            Filter::Hex => hex(bytes).into_bytes(),
            Filter::Unhex => unhex(bytes)?,
            Filter::Base64 => STANDARD.encode(bytes).into_bytes(),
            Filter::Base64Url => URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
            Filter::Unbase64 => KEY_BASE64.decode(bytes).ok()?,
            Filter::Unbase64Url => KEY_BASE64_URL.decode(bytes).ok()?,
            Filter::Digest(hash) => hash.digest(bytes),
            Filter::Hmac(hash) => hash.hmac(key?, bytes),
            Filter::Crc32 => crc32fast::hash(bytes).to_string().into_bytes(),
            Filter::Lower => bytes.to_ascii_lowercase(),
            Filter::Upper => bytes.to_ascii_uppercase(),
            Filter::Nfkd => text()?.nfkd().collect::<String>().into_bytes(),
            Filter::Trim => bytes.trim_ascii().to_vec(),
            Filter::Json => serde_json::to_vec(text()?).ok()?,
            Filter::JsonMinify => json_text::rewrite(text()?, Style::Compact)?.into_bytes(),
            Filter::Strip(prefix) => bytes.strip_prefix(prefix.as_bytes()).unwrap_or(bytes).to_vec(),
            Filter::Percent(kept) => encode_except(bytes, kept.as_bytes()),
            Filter::PercentDecode(only) if only.is_empty() => percent_decode(bytes).collect(),
            Filter::PercentDecode(only) => decode_only(bytes, only.as_bytes()),
        })
    }
}

/// The unreserved characters of RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Percent-encodes all but the unreserved characters and those in `kept`.
fn encode_except(bytes: &[u8], kept: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if is_unreserved(*byte) || kept.contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(percent_encode_byte(*byte).as_bytes());
        }
    }
    out
}

/// Percent-decodes the characters in `only` and leaves all else as it is.
fn decode_only(bytes: &[u8], only: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let decoded = (*first == b'%').then(|| after.get(..2).and_then(unhex)).flatten();
        match decoded.as_deref() {
            Some([byte]) if only.contains(byte) => {
                out.push(*byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(prefix) = text.strip_prefix("strip:") {
            return Ok(Filter::Strip(prefix.to_owned()));
        }
        if let Some(kept) = text.strip_prefix("percent:") {
            return Ok(Filter::Percent(kept.to_owned()));
        }
        if let Some(only) = text.strip_prefix("percent-decode:") {
            return Ok(Filter::PercentDecode(only.to_owned()));
        }
        if let Some(hash) = text.strip_prefix("hmac-") {
            return hash.parse().map(Filter::Hmac);
        }
        Ok(match text {
            "hex" => Filter::Hex,
            "unhex" => Filter::Unhex,
            "base64" => Filter::Base64,
            "base64url" => Filter::Base64Url,
            "unbase64" => Filter::Unbase64,
            "unbase64url" => Filter::Unbase64Url,
            "md5" | "sha1" | "sha256" | "sha384" | "sha512" => Filter::Digest(text.parse()?),
            "crc32" => Filter::Crc32,
            "lower" => Filter::Lower,
            "upper" => Filter::Upper,
            "nfkd" => Filter::Nfkd,
            "trim" => Filter::Trim,
            "json" => Filter::Json,
            "json-minify" => Filter::JsonMinify,
            "percent" => Filter::Percent(String::new()),
            "percent-decode" => Filter::PercentDecode(String::new()),
            _ => {
                return Err(Error::Word {
                    what: "filter",
                    text: text.to_owned(),
                    known: "hex, unhex, base64, base64url, unbase64, unbase64url, md5, sha1, sha256, sha384, \
                            sha512, hmac-HASH, crc32, lower, upper, nfkd, trim, json, json-minify, \
                            strip:PREFIX, percent[:CHARACTERS], percent-decode[:CHARACTERS]",
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pipe: &str, input: &str, expected: Option<&str>) {
        let out = Filter::apply_keyed(&Filter::pipe(pipe).unwrap(), Some(b"key"), input.as_bytes());
        assert_eq!(out.as_deref(), expected.map(str::as_bytes), "{pipe} of {input}");
    }

    #[test]
    fn pipes_apply_from_left_to_right() {
        check("", "as is", Some("as is"));
        check("strip:whsec_|unbase64", "whsec_aGk=", Some("hi"));
        check("strip:whsec_|unbase64", "aGk", Some("hi"));
        check("strip:whsec_|unbase64", "whsec_a", None);
        check("unbase64url|hex", "-_8", Some("fbff"));
        check("unhex", "6869", Some("hi"));
        check("unhex", "686", None);
        check("hex|base64", "hi", Some("Njg2OQ=="));
        check("json", "a\"b", Some(r#""a\"b""#));
        check("json-minify", r#"{"a" : [1, 2.50]}"#, Some(r#"{"a":[1,2.50]}"#));
        check("json-minify", "no", None);
        check("lower|upper|trim", " aBc ", Some("ABC"));
        check("nfkd", "ﬁ", Some("fi"));
        check("crc32", "123456789", Some("3421780262"));
        check("percent", "a b/ü~", Some("a%20b%2F%C3%BC~"));
        check("percent:/!", "a b/ü!", Some("a%20b/%C3%BC!"));
        check("percent-decode", "a%20b%2F", Some("a b/"));
        check("percent-decode:/:", "a%3A%2f%20%zz%2", Some("a:/%20%zz%2"));
        check("md5|hex", "abc", Some("900150983cd24fb0d6963f7d28e17f72"));
        check("sha1|hex", "abc", Some("a9993e364706816aba3e25717850c26c9cd0d89d"));
        check(
            "lower|sha256|hex",
            "ABC",
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        );
        check(
            "hmac-sha256|hex",
            "The quick brown fox jumps over the lazy dog",
            Some("f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"),
        );
    }

    #[test]
    fn no_filter_lengthens_by_more_than_it_says() {
        let pipes = ["hex", "base64", "base64url", "percent", "json", "nfkd", "lower", "upper", "trim"];
        for text in ["\u{0}", "\u{fdfa}", "\u{1f082}", "\"\\", "ß", "a b", "%25"] {
            let long = text.repeat(100);
            for pipe in pipes.map(|name| Filter::pipe(name).unwrap()) {
                let out = Filter::apply_all(&pipe, long.as_bytes()).unwrap();
                assert!(out.len() <= long.len() * pipe[0].growth() + 2, "{pipe:?} of {text:?}");
            }
        }
        assert_eq!(Filter::passes(&Filter::pipe("json|percent|sha256|hex").unwrap()), 6 + 18 + 18);
    }

    #[test]
    fn a_keyed_filter_without_a_key_yields_nothing() {
        assert_eq!(Filter::apply_all(&Filter::pipe("hmac-sha256").unwrap(), b"x"), None);
    }

    #[test]
    fn an_unknown_filter_and_an_endless_pipe_are_refused() {
        assert!(Filter::pipe("hex|rot13").is_err());
        assert!(Filter::pipe("hmac-rot13").is_err());
        assert!(Filter::pipe(&"hex|".repeat(9)).is_err());
    }
}
