//! A page for people: titles, labelled lines, wrapped text.

use crate::cli::render::BOLD;

/// Longest line, in characters; a longer word stays whole.
const LINE_CHARS_MAX: usize = 100;
/// Where the text behind labels begins.
const LABEL_CHARS: usize = 14;

/// Text under way.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a page.
    pub(super) fn titled(title: &str) -> Self {
        Self(format!("{BOLD}{title}{BOLD:#}\n"))
    }

    /// Begins a part of the page.
    pub(super) fn part(&mut self, title: &str) {
        self.0.push_str(&format!("\n{BOLD}{title}{BOLD:#}\n"));
    }

    /// Writes a labelled text; nothing where the text is empty.
    pub(super) fn line(&mut self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        for (i, line) in wrapped(text, LINE_CHARS_MAX - LABEL_CHARS - 2).iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            self.0.push_str(&format!("  {label:<LABEL_CHARS$}{line}\n"));
        }
    }

    /// Writes a point of a list.
    pub(super) fn point(&mut self, text: &str) {
        for (i, line) in wrapped(text, LINE_CHARS_MAX - 4).iter().enumerate() {
            let mark = if i == 0 { "-" } else { " " };
            self.0.push_str(&format!("  {mark} {line}\n"));
        }
    }

    /// Writes lines that are to be copied: they stay as they are.
    pub(super) fn verbatim(&mut self, text: &str) {
        text.lines().for_each(|line| {
            let line = format!("    {line}");
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        });
    }

    /// Leaves a line free.
    pub(super) fn gap(&mut self) {
        self.0.push('\n');
    }

    /// Ends the page.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Breaks a text into lines at its blanks.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_behind_their_label() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("longer word", 3), ["longer", "word"]);
        let mut page = Page::default();
        page.line("label", &"word ".repeat(30));
        page.line("nothing", "");
        let text = page.into_text();
        assert!(text.starts_with("  label         word word"), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("                word"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= LINE_CHARS_MAX) && !text.contains("nothing"));
    }
}
