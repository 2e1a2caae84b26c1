//! What an entry says, in words: for people who read it, not for code.
//!
//! Locations, templates and conditions are read here as loosely as a person would; what they mean exactly is
//! `signature`'s to say. A text that has no words of its own is shown as it is.

use super::{Condition, Confidence, Family};

impl Family {
    /// Every family, in the order in which they are told.
    pub const ALL: [Family; 13] = [
        Family::Hmac,
        Family::HmacTimestamped,
        Family::StandardWebhooks,
        Family::HmacUrl,
        Family::HmacFields,
        Family::Digest,
        Family::Token,
        Family::Basic,
        Family::Ed25519,
        Family::Ecdsa,
        Family::Rsa,
        Family::Jwt,
        Family::None,
    ];

    /// Returns the family's word, as entries have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Hmac => "hmac",
            Family::HmacTimestamped => "hmac-timestamped",
            Family::StandardWebhooks => "standard-webhooks",
            Family::HmacUrl => "hmac-url",
            Family::HmacFields => "hmac-fields",
            Family::Digest => "digest",
            Family::Token => "token",
            Family::Basic => "basic",
            Family::Ed25519 => "ed25519",
            Family::Ecdsa => "ecdsa",
            Family::Rsa => "rsa",
            Family::Jwt => "jwt",
            Family::None => "none",
        }
    }

    /// Says what kind of proof it is.
    pub fn in_words(self) -> &'static str {
        match self {
            Family::Hmac => "keyed hash (HMAC) of the body",
            Family::HmacTimestamped => "keyed hash (HMAC) of the body and a signed time",
            Family::StandardWebhooks => "keyed hash (HMAC) of id, time and body, as Standard Webhooks has it",
            Family::HmacUrl => "keyed hash (HMAC) that covers URL, query, form or headers",
            Family::HmacFields => "keyed hash (HMAC) of chosen fields",
            Family::Digest => "hash of a text that contains the secret",
            Family::Token => "the secret itself, as a token",
            Family::Basic => "user name and password",
            Family::Ed25519 => "Ed25519 signature",
            Family::Ecdsa => "ECDSA signature (P-256, P-521)",
            Family::Rsa => "RSA signature",
            Family::Jwt => "signed token (JWT)",
            Family::None => "no proof at all",
        }
    }
}

impl Confidence {
    /// Every degree, the best first.
    pub const ALL: [Confidence; 5] = [
        Confidence::SdkSource,
        Confidence::Docs,
        Confidence::Secondary,
        Confidence::Experimental,
        Confidence::Own,
    ];

    /// Returns the degree's word, as entries have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::SdkSource => "sdk-source",
            Confidence::Docs => "docs",
            Confidence::Secondary => "secondary",
            Confidence::Experimental => "experimental",
            Confidence::Own => "own",
        }
    }

    /// Says how well the facts are known.
    pub fn in_words(self) -> &'static str {
        match self {
            Confidence::SdkSource => "read in the source of the provider's own library",
            Confidence::Docs => "read in the provider's own documentation",
            Confidence::Secondary => "read in somebody else's verifier, not confirmed by the provider",
            Confidence::Experimental => "not confirmed by the provider: try it with a real delivery",
            Confidence::Own => "whatever the trigger or its entry says: there is nothing to confirm",
        }
    }

    /// Tells whether nobody has confirmed the facts at the provider.
    pub fn is_unconfirmed(self) -> bool {
        matches!(self, Confidence::Secondary | Confidence::Experimental)
    }
}

/// Says where a location leads: `header:X-Sig` is `header X-Sig`.
pub fn place(location: &str) -> String {
    let Some((kind, name)) = location.split_once(':') else {
        return if location == "body" { "the body itself".to_owned() } else { location.to_owned() };
    };
    match (kind, name) {
        ("header", name) => format!("header {name}"),
        ("query", name) => format!("query parameter {name}"),
        ("form", name) => format!("form field {name}"),
        ("json", "") => "the body".to_owned(),
        ("json", pointer) => format!("body field {pointer}"),
        ("item", "") => "the item".to_owned(),
        ("item", pointer) => format!("item field {pointer}"),
        ("claim", name) => format!("the token's claim {name}"),
        ("packed", name) => match name.split_once('/') {
            Some((header, pointer)) => format!("field /{pointer} in header {header}"),
            None => location.to_owned(),
        },
        _ => location.to_owned(),
    }
}

/// Says what a template is made of, part after part: `{timestamp}.{body}` is `the signed time, ".", the raw body`.
pub fn content(template: &str) -> String {
    let parts: Vec<String> = parts(template).iter().map(Part::in_words).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// Says what a location or template is made of.
pub fn value(text: &str) -> String {
    if text.contains('{') { content(text) } else { place(text) }
}

/// Says what a condition asks of a request.
pub fn condition(condition: &Condition) -> String {
    let at = place(&condition.at);
    match (&condition.secret, &condition.equals, condition.absent) {
        (Some(secret), _, _) => format!("{at} that is the trigger's {secret}"),
        (None, Some(value), _) => format!("{at} = {value:?}"),
        (None, None, true) => format!("no {at}"),
        (None, None, false) if condition.word => format!("{at} that is one word"),
        (None, None, false) => at,
    }
}

enum Part {
    Text(String),
    Value(String),
    /// `[` or `]`: what stands between may be left out as a whole.
    Optional(Vec<Part>),
    /// `{(` and `)|filters}`: filters for several parts as one.
    Group(Vec<Part>, String),
}

impl Part {
    fn in_words(&self) -> String {
        match self {
            Part::Text(text) => format!("{text:?}"),
            Part::Value(name) => placeholder(name),
            Part::Optional(parts) => {
                let parts: Vec<String> = parts.iter().map(Part::in_words).collect();
                match parts.as_slice() {
                    [one] => format!("{one} or nothing"),
                    parts => format!("if there: ({})", parts.join(", ")),
                }
            }
            Part::Group(parts, filters) => {
                let parts: Vec<String> = parts.iter().map(Part::in_words).collect();
                filtered(format!("({})", parts.join(", ")), filters)
            }
        }
    }
}

/// Takes a template apart; what is doubled is meant literally.
fn parts(template: &str) -> Vec<Part> {
    let mut levels: Vec<Vec<Part>> = vec![Vec::new()];
    let mut literal = String::new();
    let mut rest = template.chars().peekable();
    let mut in_group = false;
    while let Some(c) = rest.next() {
        if c == ')' && in_group && matches!(rest.peek(), Some('|' | '}')) {
            let mut inner = levels.pop().unwrap_or_default();
            if !literal.is_empty() {
                inner.push(Part::Text(std::mem::take(&mut literal)));
            }
            let filters = rest.by_ref().take_while(|c| *c != '}').collect();
            levels.last_mut().expect("the outermost level stays").push(Part::Group(inner, filters));
            in_group = false;
            continue;
        }
        if matches!(c, '{' | '}' | '[' | ']') && rest.next_if_eq(&c).is_some() {
            literal.push(c);
            continue;
        }
        // `${name}` is a setting's place and has no words of its own.
        if c == '}' || c == '{' && literal.ends_with('$') || !matches!(c, '{' | '[' | ']') {
            literal.push(c);
            continue;
        }
        let last = levels.last_mut().expect("the outermost level stays");
        if !literal.is_empty() {
            last.push(Part::Text(std::mem::take(&mut literal)));
        }
        match c {
            '{' if rest.next_if_eq(&'(').is_some() => {
                in_group = true;
                levels.push(Vec::new());
            }
            '{' => last.push(Part::Value(rest.by_ref().take_while(|c| *c != '}').collect())),
            '[' => levels.push(Vec::new()),
            _ if levels.len() > 1 => {
                let inner = levels.pop().unwrap_or_default();
                levels.last_mut().expect("the outermost level stays").push(Part::Optional(inner));
            }
            _ => literal.push(c),
        }
    }
    let mut all: Vec<Part> = levels.into_iter().flatten().collect();
    if !literal.is_empty() {
        all.push(Part::Text(literal));
    }
    all
}

fn placeholder(text: &str) -> String {
    let (source, filters) = text.split_once('|').unwrap_or((text, ""));
    let source = match source {
        "body" => "the raw body".to_owned(),
        "timestamp" => "the signed time".to_owned(),
        "id" => "the delivery's id".to_owned(),
        "key_id" => "the key's id".to_owned(),
        "head" => "the head of the proof".to_owned(),
        "url" => "the registered URL with its query".to_owned(),
        "url.with-port" => "the registered URL with its port and query".to_owned(),
        "url.without-port" => "the registered URL with its query, without a port".to_owned(),
        "host" => "the registered host".to_owned(),
        "path" => "the path".to_owned(),
        "target" => "path and query".to_owned(),
        "query" => "the query".to_owned(),
        "query.sorted" => "the query, sorted by names".to_owned(),
        "method" => "the method".to_owned(),
        "form.sorted" => "all form fields, sorted by names".to_owned(),
        "secret" => "the secret".to_owned(),
        other => match other.split_once(':') {
            Some(("secret", name)) => format!("the trigger's {name}"),
            Some(("headers", list)) => format!("the headers that {} lists", place(list)),
            Some(("headers.lines", list)) => format!("the headers that {} lists, as lines", place(list)),
            Some(("form.php", field)) => {
                format!("all form fields but {field}, sorted, as PHP serializes them")
            }
            Some(("body.keyed", pointer)) => {
                format!("the raw body with the secret in the place of field {pointer}")
            }
            _ => place(other),
        },
    };
    filtered(source, filters)
}

fn filtered(source: String, filters: &str) -> String {
    match filters.trim_start_matches('|') {
        "" => source,
        filters => format!("{source} as {}", filters.replace('|', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_the_one_that_entries_have() {
        for family in Family::ALL {
            assert_eq!(serde_json::to_value(family).unwrap(), family.as_str());
        }
        for confidence in Confidence::ALL {
            assert_eq!(serde_json::to_value(confidence).unwrap(), confidence.as_str());
        }
    }

    #[test]
    fn templates_are_told_part_after_part() {
        for (template, expected) in [
            ("{body}", "the raw body"),
            ("{timestamp}.{body}", r#"the signed time, ".", the raw body"#),
            ("{body|sha256|hex}", "the raw body as sha256 hex"),
            (
                "{header:X-GitHub-Event}[.{json:/action}]",
                r#"header X-GitHub-Event, if there: (".", body field /action)"#,
            ),
            ("[{json:/a}]:", r#"body field /a or nothing, ":""#),
            ("{{\"a\":{json:/b|json}}}", r#""{\"a\":", body field /b as json, "}""#),
            ("${kind}", r#""${kind}""#),
            ("{({secret}:{body})|sha256|hex}!", r#"(the secret, ":", the raw body) as sha256 hex, "!""#),
            ("{headers:packed:X-Sig/h}", "the headers that field /h in header X-Sig lists"),
            ("{secret:topic}{url}", "the trigger's topic, the registered URL with its query"),
            ("", "nothing"),
        ] {
            assert_eq!(content(template), expected, "{template}");
        }
        assert_eq!(value("item:/a/b"), "item field /a/b");
        assert_eq!(value("json:"), "the body");
    }

    #[test]
    fn conditions_are_told() {
        let of = |text: &str| condition(&toml::from_str(text).unwrap());
        assert_eq!(of("at = \"json:/type\"\nequals = \"1\""), "body field /type = \"1\"");
        assert_eq!(of("at = \"header:X\"\nabsent = true"), "no header X");
        assert_eq!(
            of("at = \"query:t\"\nsecret = \"token\""),
            "query parameter t that is the trigger's token"
        );
        assert_eq!(of("at = \"query:t\"\nword = true"), "query parameter t that is one word");
        assert_eq!(of("at = \"query:t\""), "query parameter t");
    }
}
