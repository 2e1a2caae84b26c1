//! The text of a proof: `sha256={sig}`, or a list such as `t={timestamp},v1={sig}`.
//!
//! A syntax is a set of patterns and, where the text is a list, its separator. Items are trimmed and
//! matched against the patterns in order; an item that fits none is skipped, so that a version that
//! is not known here never verifies. Where every pattern is a bare placeholder, items are matched by
//! position, and the last pattern repeats.

use super::Error;

/// Placeholders in one pattern.
const FIELDS_MAX: usize = 4;

/// What proofs that are made here call their key.
pub(super) const TEST_KEY_ID: &str = "test";

/// What a placeholder of a syntax stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `{sig}`: a signature; there may be several, and any good one is enough.
    Signature,
    /// `{timestamp}`: the signed time.
    Timestamp,
    /// `{id}`: the delivery's id.
    Id,
    /// `{key_id}`: which of the sender's keys was used.
    KeyId,
    /// `{head}`: what the proof itself says and is signed, in unpadded URL-safe base64: the protected header of
    /// a JWS (RFC 7515).
    Head,
    /// `{_}`: a part that does not matter.
    Ignored,
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        match name {
            "sig" => Some(Field::Signature),
            "timestamp" => Some(Field::Timestamp),
            "id" => Some(Field::Id),
            "key_id" => Some(Field::KeyId),
            "head" => Some(Field::Head),
            "_" => Some(Field::Ignored),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field),
}

/// How a proof's text is read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    patterns: Vec<Vec<Part>>,
    separator: Option<String>,
    positional: bool,
    ignores_case: bool,
}

impl Syntax {
    /// Compiles patterns and a separator; no patterns mean that the whole text is the signature.
    ///
    /// A pattern may also show a whole list, `t={timestamp},v1={sig}`: it is taken apart at the separator.
    ///
    /// # Errors
    ///
    /// If a pattern names an unknown placeholder, has two without text between them, or if no
    /// pattern has `{sig}`.
    pub fn new(patterns: &[impl AsRef<str>], separator: Option<&str>) -> Result<Self, Error> {
        let separator = separator.filter(|text| !text.is_empty()).map(str::to_owned);
        let items = patterns.iter().flat_map(|text| match &separator {
            Some(separator) => text.as_ref().split(separator.as_str()).collect(),
            None => vec![text.as_ref()],
        });
        let mut patterns = items.map(pattern).collect::<Result<Vec<_>, _>>()?;
        if patterns.is_empty() {
            patterns.push(vec![Part::Field(Field::Signature)]);
        }
        if !patterns.iter().flatten().any(|part| *part == Part::Field(Field::Signature)) {
            return Err(Error::Syntax { text: String::new(), what: "no pattern has {sig}" });
        }
        let bare = |pattern: &Vec<Part>| matches!(pattern[..], [Part::Field(_)]);
        let positional = separator.is_some() && patterns.len() > 1 && patterns.iter().all(bare);
        Ok(Self { patterns, separator, positional, ignores_case: false })
    }

    /// Reads a pattern's first word in any case: that of an `Authorization` header has none (RFC 9110,
    /// section 11.1).
    pub(super) fn ignore_case_of_first_word(&mut self) {
        self.ignores_case = true;
    }

    /// Reads a proof's text and hands out what its placeholders stand for, in the order of the text.
    pub fn read<'t>(&self, text: &'t [u8], mut found: impl FnMut(Field, &'t [u8])) {
        let Some(separator) = &self.separator else {
            self.read_item(text.trim_ascii(), &self.patterns, &mut found);
            return;
        };
        for (position, item) in split(text, separator.as_bytes()).enumerate() {
            let patterns = if self.positional {
                std::slice::from_ref(&self.patterns[position.min(self.patterns.len() - 1)])
            } else {
                &self.patterns[..]
            };
            self.read_item(item.trim_ascii(), patterns, &mut found);
        }
    }

    fn read_item<'t>(&self, item: &'t [u8], patterns: &[Vec<Part>], found: &mut impl FnMut(Field, &'t [u8])) {
        for pattern in patterns {
            if let Some(fields) = match_item(pattern, item, self.ignores_case) {
                fields.into_iter().flatten().for_each(|(field, value)| found(field, value));
                return;
            }
        }
    }

    /// Tells whether the text carries the signed time.
    pub fn has_timestamp(&self) -> bool {
        self.patterns.iter().flatten().any(|part| *part == Part::Field(Field::Timestamp))
    }

    /// Tells whether the text carries something of its own that is signed.
    pub(super) fn has_head(&self) -> bool {
        self.patterns.iter().flatten().any(|part| *part == Part::Field(Field::Head))
    }

    /// Writes a proof's text: every pattern of a list, else the first one.
    pub fn write(&self, signature: &str, timestamp: &str, id: &str, head: &str) -> String {
        let item = |pattern: &Vec<Part>| -> String {
            let text = |part: &Part| match part {
                Part::Literal(text) => text.clone(),
                Part::Field(Field::Signature) => signature.to_owned(),
                Part::Field(Field::Timestamp) => timestamp.to_owned(),
                Part::Field(Field::Id) => id.to_owned(),
                Part::Field(Field::KeyId) => TEST_KEY_ID.to_owned(),
                Part::Field(Field::Head) => head.to_owned(),
                Part::Field(Field::Ignored) => String::new(),
            };
            pattern.iter().map(text).collect()
        };
        match &self.separator {
            None => item(&self.patterns[0]),
            Some(separator) => self.patterns.iter().map(item).collect::<Vec<_>>().join(separator),
        }
    }
}

fn split<'t>(mut rest: &'t [u8], separator: &[u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let end = find(rest, separator);
        done = end.is_none();
        let item = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + separator.len()..]);
        Some(item)
    })
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

type Fields<'t> = [Option<(Field, &'t [u8])>; FIELDS_MAX];

/// Matches one item: a placeholder takes what stands before the next literal, the last one all.
fn match_item<'t>(pattern: &[Part], item: &'t [u8], ignores_case: bool) -> Option<Fields<'t>> {
    let mut fields = Fields::default();
    let mut slots = fields.iter_mut();
    let mut rest = item;
    let mut parts = pattern.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Part::Literal(text) if ignores_case && rest.len() == item.len() => {
                let (word, after) = rest.split_at_checked(text.len())?;
                if !word.eq_ignore_ascii_case(text.as_bytes()) {
                    return None;
                }
                rest = after;
            }
            Part::Literal(text) => rest = rest.strip_prefix(text.as_bytes())?,
            Part::Field(field) => {
                let end = match parts.peek() {
                    Some(Part::Literal(next)) => find(rest, next.as_bytes())?,
                    _ => rest.len(),
                };
                if *field == Field::Head && !is_head(&rest[..end]) {
                    return None;
                }
                *slots.next()? = Some((*field, &rest[..end]));
                rest = &rest[end..];
            }
        }
    }
    rest.is_empty().then_some(fields)
}

/// Tells whether a text may be a head. One with a dot in it would take a part of what is signed behind it.
fn is_head(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
}

fn pattern(text: &str) -> Result<Vec<Part>, Error> {
    let bad = |what| Error::Syntax { text: text.to_owned(), what };
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, more) = rest.split_once('{').unwrap_or((rest, ""));
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        } else if matches!(parts.last(), Some(Part::Field(_))) {
            return Err(bad("two placeholders need text between them"));
        }
        if literal.contains('}') {
            return Err(bad("a closing brace without its opening one"));
        }
        if literal.len() == rest.len() {
            break;
        }
        let (name, after) = more.split_once('}').ok_or_else(|| bad("a brace is not closed"))?;
        let field = Field::named(name)
            .ok_or_else(|| bad("placeholders are {sig}, {timestamp}, {id}, {key_id}, {head} and {_}"))?;
        parts.push(Part::Field(field));
        rest = after;
    }
    let fields = parts.iter().filter(|part| matches!(part, Part::Field(_))).count();
    match fields {
        0 => Err(bad("a pattern needs a placeholder")),
        1..=FIELDS_MAX => Ok(parts),
        _ => Err(bad("too many placeholders")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(patterns: &[&str], separator: Option<&str>, text: &str, expected: &[(Field, &str)]) {
        let mut found = Vec::new();
        let syntax = Syntax::new(patterns, separator).unwrap();
        syntax.read(text.as_bytes(), |field, value| {
            found.push((field, String::from_utf8_lossy(value).into_owned()))
        });
        let expected: Vec<_> = expected.iter().map(|(field, value)| (*field, (*value).to_owned())).collect();
        assert_eq!(found, expected, "{text}");
    }

    const SIG: Field = Field::Signature;
    const TIME: Field = Field::Timestamp;

    #[test]
    fn a_single_pattern_is_matched_as_a_whole() {
        check(&[], None, "abc", &[(SIG, "abc")]);
        check(&["sha256={sig}"], None, "sha256=abc", &[(SIG, "abc")]);
        check(&["sha256={sig}"], None, " sha256=abc ", &[(SIG, "abc")]);
        check(&["sha256={sig}", "{sig}"], None, "abc", &[(SIG, "abc")]);
        check(&["{sig}:{timestamp};"], None, "a:1;", &[(SIG, "a"), (TIME, "1")]);
        check(&["{sig}:{timestamp};"], None, "a:1;x", &[]);
    }

    #[test]
    fn a_head_is_one_segment() {
        let both = [(Field::Head, "eyJ-_0"), (SIG, "a")];
        check(&["{head}..{sig}"], None, "eyJ-_0..a", &both);
        for bad in ["..a", "eyJ.x..a", "eyJ=..a", "eyJ.x.a", "eyJ.a"] {
            check(&["{head}..{sig}"], None, bad, &[]);
        }
    }

    #[test]
    fn literal_prefixes_are_case_sensitive() {
        check(&["sha256={sig}"], None, "SHA256=abc", &[]);
        check(&["sha256={sig}"], None, "sha1=abc", &[]);
        check(&["sha256={sig}"], None, "abc", &[]);
    }

    #[test]
    fn list_items_are_trimmed_and_unknown_versions_skipped() {
        let stripe = ["t={timestamp}", "v1={sig}"];
        check(&stripe, Some(","), "t=1,v1=a,v1=b,v0=c", &[(TIME, "1"), (SIG, "a"), (SIG, "b")]);
        check(&stripe, Some(","), "t=1, v1=a ,, junk", &[(TIME, "1"), (SIG, "a")]);
        check(&stripe, Some(","), "v0=c", &[]);
        check(&["v1,{sig}"], Some(" "), "v1,a v1a,b v2,c v1,d", &[(SIG, "a"), (SIG, "d")]);
    }

    #[test]
    fn bare_placeholders_match_by_position_and_the_last_repeats() {
        check(&["{timestamp}", "{sig}"], Some(","), "1,a,b", &[(TIME, "1"), (SIG, "a"), (SIG, "b")]);
        check(&["{_}", "{sig}"], Some("."), "x.a", &[(Field::Ignored, "x"), (SIG, "a")]);
    }

    #[test]
    fn patterns_that_would_need_guessing_are_refused() {
        for bad in ["", "v1=", "{sig}{timestamp}", "{sig", "sig}", "{nope}", "{sig}-{_}-{_}-{_}-{_}"] {
            assert!(Syntax::new(&[bad], None).is_err(), "{bad}");
        }
        assert!(Syntax::new(&["t={timestamp}"], None).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            for (patterns, separator) in [
                (&["t={timestamp}", "v1={sig}"][..], Some(",")),
                (&["{sig}:{timestamp};"], None),
                (&["{timestamp}", "{sig}"], Some("::")),
            ] {
                Syntax::new(patterns, separator).unwrap().read(&text, |_, _| ());
            }
        }

        #[test]
        fn what_is_written_is_read_back(sig in "[0-9a-f]{1,64}", time in "[0-9]{1,12}") {
            for (patterns, separator) in [
                (&["t={timestamp}", "v1={sig}"][..], Some(",")),
                (&["{timestamp}.{sig}"], None),
                (&["{timestamp}", "{sig}"], Some(" ")),
            ] {
                let syntax = Syntax::new(patterns, separator).unwrap();
                let mut found = Vec::new();
                let text = syntax.write(&sig, &time, "", "");
                syntax.read(text.as_bytes(), |field, value| found.push((field, value.to_vec())));
                prop_assert_eq!(found, [(TIME, time.clone().into_bytes()), (SIG, sig.clone().into_bytes())]);
            }
        }
    }
}
