//! The known word that somebody may have meant.

/// Least likeness, from 0 to 1, at which a known word is offered in place of an unknown one.
const LIKENESS_MIN: f64 = 0.6;

/// Returns the word of `known` that is nearest to `word`, if any is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_near() {
        let known = ["tolerance", "path", "secrets"];
        for (word, expected) in
            [("tolerence", Some("tolerance")), ("Path", Some("path")), ("zebra", None), ("", None)]
        {
            assert_eq!(nearest(word, known).as_deref(), expected, "{word}");
        }
    }
}
