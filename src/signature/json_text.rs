//! Writes JSON text in another style without touching its values, the order of keys or the spelling
//! of numbers, as a parse would.

/// Deepest nesting that is rewritten. Indentation grows with the square of the depth.
const DEPTH_MAX: usize = 128;

/// Where blanks stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nowhere.
    Compact,
    /// After each comma and colon.
    Spaced,
    /// One value per line, indented by two.
    Indented,
}

/// Returns the text in a style, or nothing if it is not JSON or nested unreasonably deep.
pub(crate) fn rewrite(text: &str, style: Style) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut out = String::with_capacity(text.len());
    let mut depth = 0;
    let mut raw = text.chars();
    while let Some(c) = raw.next() {
        match c {
            '"' => string(&mut raw, &mut out),
            '{' | '[' => {
                out.push(c);
                let empty = raw.as_str().trim_start().starts_with(['}', ']']);
                depth += 1;
                if depth > DEPTH_MAX {
                    return None;
                }
                if !empty {
                    line(&mut out, style, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                if !out.ends_with(['{', '[']) {
                    line(&mut out, style, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                if style == Style::Spaced {
                    out.push(' ');
                }
                line(&mut out, style, depth);
            }
            ':' => out.push_str(if style == Style::Compact { ":" } else { ": " }),
            _ if c.is_ascii_whitespace() => {}
            _ => out.push(c),
        }
    }
    Some(out)
}

fn line(out: &mut String, style: Style, depth: usize) {
    if style == Style::Indented {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

/// Copies the rest of a string, whose opening quote was read.
fn string(raw: &mut std::str::Chars<'_>, out: &mut String) {
    out.push('"');
    while let Some(c) = raw.next() {
        out.push(c);
        match c {
            '"' => return,
            '\\' => out.extend(raw.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(style: Style, text: &str, expected: &str) {
        assert_eq!(rewrite(text, style).as_deref(), Some(expected));
    }

    const TEXT: &str = r#" {"b" : [1, 2.50] ,"a":{ } , "s":"x, \" : {" ,"e":[ ]} "#;

    #[test]
    fn blanks_move_and_nothing_else() {
        check(Style::Compact, TEXT, r#"{"b":[1,2.50],"a":{},"s":"x, \" : {","e":[]}"#);
        check(Style::Spaced, TEXT, r#"{"b": [1, 2.50], "a": {}, "s": "x, \" : {", "e": []}"#);
        let indented =
            "{\n  \"b\": [\n    1,\n    2.50\n  ],\n  \"a\": {},\n  \"s\": \"x, \\\" : {\",\n  \"e\": []\n}";
        check(Style::Indented, TEXT, indented);
        assert_eq!(rewrite("no json", Style::Compact), None);
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(rewrite(&deep(DEPTH_MAX), Style::Indented).is_some());
        assert_eq!(rewrite(&deep(DEPTH_MAX + 1), Style::Indented), None);
    }
}
