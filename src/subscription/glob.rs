//! Globs over kinds: `*` matches any run of characters, dots too, and nothing else is special.

/// A pattern such as `pull_request.*`, cut at its stars.
///
/// Matching looks for each piece once, from left to right, so its cost is linear in pattern and text whatever
/// they hold: the leftmost place of a piece is never worse than a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// What the text begins with.
    prefix: Box<str>,
    /// What follows the stars; absent where the pattern has no star.
    rest: Option<Rest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rest {
    /// Pieces between two stars, none of them empty.
    middle: Box<[Box<str>]>,
    /// What the text ends with.
    suffix: Box<str>,
}

impl Glob {
    /// Reads a pattern; every text is one.
    pub fn new(pattern: &str) -> Self {
        let mut pieces: Vec<Box<str>> = pattern.split('*').map(Box::from).collect();
        let suffix = if pieces.len() > 1 { pieces.pop() } else { None };
        let mut pieces = pieces.into_iter();
        let prefix = pieces.next().expect("split yields at least one piece");
        let middle = pieces.filter(|piece| !piece.is_empty()).collect();
        Self { prefix, rest: suffix.map(|suffix| Rest { middle, suffix }) }
    }

    /// Tells whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let Some(mut text) = text.strip_prefix(&*self.prefix) else { return false };
        let Some(Rest { middle, suffix }) = &self.rest else { return text.is_empty() };
        for piece in middle {
            let Some(at) = text.find(&**piece) else { return false };
            text = &text[at + piece.len()..];
        }
        text.ends_with(&**suffix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} on {text}");
    }

    #[test]
    fn a_star_matches_any_run_of_characters_dots_too() {
        check("*", "", true);
        check("*", "pull_request.opened", true);
        check("pull_request.*", "pull_request.opened", true);
        check("pull_request.*", "pull_request.", true);
        check("pull_request.*", "pull_request", false);
        check("*.opened", "pull_request.opened", true);
        check("customer.*.created", "customer.subscription.trial.created", true);
        check("a*b*c", "aXbYc", true);
        check("a*b*c", "aXcYb", false);
        check("aa*aa", "aaa", false);
        check("**a**", "bab", true);
    }

    #[test]
    fn without_a_star_the_whole_text_must_be_equal() {
        check("push", "push", true);
        check("push", "pushed", false);
        check("", "", true);
        check("", "x", false);
        check("p?sh", "push", false);
        check("[a]", "a", false);
    }

    #[test]
    fn a_hostile_pattern_stays_linear() {
        let pattern = "*a".repeat(2_000) + "b";
        let text = "a".repeat(200_000);
        let started = std::time::Instant::now();
        check(&pattern, &text, false);
        // Backtracking would take longer than anybody waits.
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    }

    /// The definition, as slow as it is plain.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| by_definition(rest, &text[skip..])),
            Some((c, rest)) => text.first() == Some(c) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab.*ä]{0,7}", text in "[ab.ä]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&pattern).matches(&text), by_definition(&chars(&pattern), &chars(&text)));
        }
    }
}
