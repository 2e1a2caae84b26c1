//! A TOML text read value by value, each with its place, so that every problem is found in one run.
//!
//! Knows nothing of what the keys mean: that is `raw`. Serde is not used, as it stops at the first error.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest;
use super::problem::{Problem, Warning};

/// Longest value that a problem repeats, in characters.
const SHOWN_CHARS_MAX: usize = 60;
/// Longest line that a problem shows, in characters.
const SNIPPET_CHARS_MAX: usize = 200;

/// Keys whose values never are secrets, so that a line with a syntax error may be shown.
const HARMLESS_KEYS: [&str; 28] = [
    "admin",
    "admin_names",
    "allow_private",
    "body_limit",
    "ca",
    "catchup",
    "concurrency",
    "dedupe",
    "dedupe_window",
    "events",
    "format",
    "hosts",
    "id",
    "kind",
    "listen",
    "on",
    "path",
    "provider",
    "public_url",
    "rate_limit",
    "retry",
    "schedule",
    "stop_timeout",
    "timeout",
    "timezone",
    "tolerance",
    "when",
    "workers",
];

/// The text of a configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file as the user named it, for problems.
    pub name: String,
    /// The TOML text.
    pub text: String,
    /// The folder from which relative paths are taken; empty for the current one.
    pub base: PathBuf,
}

/// What is found wrong while a document is read.
pub(super) struct Findings<'a> {
    source: &'a Source,
    problems: RefCell<Vec<(Problem, usize)>>,
    warnings: RefCell<Vec<(Problem, usize)>>,
    masked: RefCell<Vec<Range<usize>>>,
    /// The text is not wholly TOML: what seems to be missing may be there.
    broken_lines: RefCell<BTreeSet<usize>>,
    broken: Cell<bool>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            masked: RefCell::default(),
            broken_lines: RefCell::default(),
            broken: Cell::new(false),
        }
    }

    pub(super) fn source(&self) -> &'a Source {
        self.source
    }

    /// Adds what the TOML parser says.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let message = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        let problem = self.problem(span.clone(), String::new(), message);
        self.broken.set(true);
        self.break_lines(problem.line);
        if !syntax_line_is_harmless(&self.source.text, span.start) {
            self.mask_line(span.start);
        }
        self.problems.borrow_mut().push((problem, span.len()));
    }

    /// Marks what means nothing after a syntax error: its line, and after the head of a table, the table.
    fn break_lines(&self, line: usize) {
        let is_head = |line: &&str| line.trim_start().starts_with('[');
        let mut lines = self.source.text.lines().skip(line - 1);
        let broken_head = lines.next().as_ref().is_some_and(is_head);
        let after = if broken_head { lines.take_while(|line| !is_head(line)).count() } else { 0 };
        self.broken_lines.borrow_mut().extend(line..=line + after);
    }

    /// Whether the text has syntax errors, so that absent keys may be there after all.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Hides a stretch of the text in every snippet.
    pub(super) fn mask(&self, span: Range<usize>) {
        self.masked.borrow_mut().push(span);
    }

    /// Hides the value of a key in every snippet.
    fn mask_value(&self, key: Range<usize>, value: Range<usize>) {
        if value.start >= key.end {
            self.mask(value);
        } else if value.start >= key.start {
            // The table that a dotted key makes spans that key alone: the value stands behind it.
            let line = &self.source.text[key.end..];
            self.mask(key.end..key.end + line.find('\n').unwrap_or(line.len()));
        }
        // Else it is the head of a table, which has no value.
    }

    fn mask_line(&self, at: usize) {
        let text = &self.source.text;
        let at = at.min(text.len());
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        self.mask(start..end);
    }

    fn problem(&self, span: Range<usize>, key: String, message: String) -> Problem {
        let (line, column) = place(&self.source.text, span.start);
        Problem {
            file: self.source.name.clone(),
            line,
            column,
            key,
            value: None,
            message,
            remedy: None,
            nearest: None,
            snippet: None,
        }
    }

    fn add(&self, problem: Problem, span: Range<usize>) {
        // Where the text is broken, what the parser made of that line means nothing.
        if !self.broken_lines.borrow().contains(&problem.line) {
            self.problems.borrow_mut().push((problem, span.len()));
        }
    }

    /// Returns all that was found, in the order of the text.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Warning>) {
        let masked = self.masked.into_inner();
        let finish = |found: Vec<(Problem, usize)>| {
            let mut found: Vec<Problem> = found
                .into_iter()
                .map(|(mut problem, len)| {
                    problem.snippet = snippet(&self.source.text, &problem, len, &masked);
                    problem
                })
                .collect();
            found.sort_by_key(|problem| (problem.line, problem.column));
            found
        };
        (finish(self.problems.into_inner()), finish(self.warnings.into_inner()))
    }
}

/// Returns line and column of a byte offset, both counted from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Returns the problem's line, what is masked replaced by `*`, and the length to point at.
fn snippet(text: &str, problem: &Problem, len: usize, masked: &[Range<usize>]) -> Option<(String, usize)> {
    let start = text.split_inclusive('\n').take(problem.line - 1).map(str::len).sum::<usize>();
    let line = text[start..].lines().next()?;
    let hidden = |at: usize| masked.iter().any(|span| span.contains(&at));
    let shown: String = line
        .char_indices()
        .take(SNIPPET_CHARS_MAX)
        .map(|(i, c)| match c {
            _ if hidden(start + i) => '*',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    let room = shown.chars().count().saturating_sub(problem.column - 1);
    Some((shown, len.clamp(1, room.max(1))))
}

/// Tells whether a line with a syntax error may be shown: only where it cannot hold a secret, being the
/// head of a table or the value of a key that never is one.
fn syntax_line_is_harmless(text: &str, offset: usize) -> bool {
    let offset = text.floor_char_boundary(offset);
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim_start();
    if line.starts_with("[[")
        || line.strip_prefix('[').is_some_and(|rest| rest.starts_with(char::is_alphabetic))
    {
        return true;
    }
    let Some((key, value)) = line.split_once('=') else { return false };
    let suspicious =
        ["secret", "token", "literal:"].iter().any(|word| value.to_ascii_lowercase().contains(word));
    HARMLESS_KEYS.contains(&key.trim()) && !suspicious
}

/// One value of the document.
#[derive(Clone)]
pub(super) struct Node<'a> {
    findings: &'a Findings<'a>,
    value: &'a DeValue<'a>,
    span: Range<usize>,
    /// The path of keys that leads here.
    pub(super) key: String,
}

impl<'a> Node<'a> {
    fn new(findings: &'a Findings<'a>, value: &'a Spanned<DeValue<'a>>, key: String) -> Self {
        Self { findings, value: value.get_ref(), span: value.span(), key }
    }

    /// Reports that the value is wrong.
    pub(super) fn wrong(&self, message: impl Display, remedy: impl Display) {
        self.report(message, remedy, None, true);
    }

    /// Reports that the value is wrong without repeating it.
    pub(super) fn wrong_secret(&self, message: impl Display, remedy: impl Display) {
        self.findings.mask(self.span.clone());
        self.report(message, remedy, None, false);
    }

    /// Reports that the value is none of the words it may be.
    pub(super) fn unknown<'k>(
        &self,
        message: impl Display,
        known: impl IntoIterator<Item = &'k str>,
        remedy: impl Display,
    ) {
        let word = self.value.as_str().unwrap_or_default();
        self.report(message, remedy, nearest(word, known), true);
    }

    /// Reports what is risky but works.
    pub(super) fn risky(&self, message: impl Display, remedy: impl Display) {
        let mut warning = self.findings.problem(self.span.clone(), self.key.clone(), message.to_string());
        warning.remedy = Some(remedy.to_string());
        self.findings.warnings.borrow_mut().push((warning, self.span.len()));
    }

    /// Reports what is risky without showing the value.
    pub(super) fn risky_secret(&self, message: impl Display, remedy: impl Display) {
        self.findings.mask(self.span.clone());
        self.risky(message, remedy);
    }

    fn report(&self, message: impl Display, remedy: impl Display, nearest: Option<String>, show: bool) {
        let mut problem = self.findings.problem(self.span.clone(), self.key.clone(), message.to_string());
        let remedy = remedy.to_string();
        problem.remedy = (!remedy.is_empty()).then_some(remedy);
        problem.value = show.then(|| self.shown()).flatten();
        problem.nearest = nearest;
        self.findings.add(problem, self.span.clone());
    }

    fn shown(&self) -> Option<String> {
        let text = match self.value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(word) => word.to_string(),
            _ => return None,
        };
        (text.chars().count() <= SHOWN_CHARS_MAX && !text.contains(char::is_control)).then_some(text)
    }

    fn wrong_type(&self, wanted: &str) {
        self.wrong(format!("expected {wanted}, found {}", self.value.type_str()), "");
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    /// Reads a string; `wanted` says what kind, for the problem.
    pub(super) fn string(&self, wanted: &str) -> Option<&'a str> {
        let found = self.value.as_str();
        if found.is_none() {
            self.wrong_type(&format!("a string: {wanted}"));
        }
        found
    }

    /// Reads a whole number within a range.
    pub(super) fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let Some(number) = self.value.as_integer() else {
            self.wrong_type("a whole number");
            return None;
        };
        let found = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        if found.is_none() {
            self.wrong("number out of range", format!("use {} to {}", range.start(), range.end()));
        }
        found
    }

    /// Reads a number, with or without a fraction, above 0 and up to `max`.
    pub(super) fn positive(&self, max: f64) -> Option<f64> {
        let found = match self.value {
            DeValue::Integer(number) => number.to_string().parse::<f64>().ok(),
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        let found = found.filter(|number| *number > 0.0 && *number <= max);
        if found.is_none() {
            self.wrong("number out of range", format!("use a number above 0, at most {max}"));
        }
        found
    }

    pub(super) fn array(&self, wanted: &str) -> Option<Vec<Node<'a>>> {
        let Some(items) = self.value.as_array() else {
            self.wrong_type(&format!("a list: {wanted}"));
            return None;
        };
        let node = |(i, item)| Node::new(self.findings, item, format!("{}[{i}]", self.key));
        Some(items.iter().enumerate().map(node).collect())
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            self.wrong_type("a table");
            return None;
        };
        let section =
            Section { findings: self.findings, table, span: self.span.clone(), key: self.key.clone() };
        Some(section)
    }
}

/// One table of the document.
#[derive(Clone)]
pub(super) struct Section<'a> {
    findings: &'a Findings<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    /// The path of keys that leads here; empty for the document.
    pub(super) key: String,
}

impl<'a> Section<'a> {
    /// Returns the whole document.
    pub(super) fn root(findings: &'a Findings<'a>, document: &'a Spanned<DeTable<'a>>) -> Self {
        Self { findings, table: document.get_ref(), span: 0..0, key: String::new() }
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// Reports keys that are neither `known` nor to come `later`.
    pub(super) fn only(&self, known: &[&str], later: &[(&str, &str)]) {
        for (key, value) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let mut problem = self.findings.problem(key.span(), self.path(name), String::new());
            match later.iter().find(|(word, _)| *word == name) {
                Some((_, what)) => {
                    problem.message = format!("{what} not supported by this version");
                    problem.remedy = Some("remove the key".to_owned());
                }
                None => {
                    problem.message = format!("unknown key `{}`", name.escape_debug());
                    problem.nearest = nearest(name, known.iter().copied());
                    if problem.nearest.is_none() {
                        problem.remedy = Some(format!("known here: {}", known.join(", ")));
                    }
                }
            }
            // Nobody knows what an unknown key holds: it may be a misspelt `secrets`.
            if !problem.nearest.as_deref().is_some_and(|near| HARMLESS_KEYS.contains(&near)) {
                self.findings.mask_value(key.span(), value.span());
            }
            self.findings.add(problem, key.span());
        }
    }

    /// Returns the value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.table.get(key)?;
        Some(Node::new(self.findings, value, self.path(key)))
    }

    /// Returns all keys with their values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> + '_ {
        self.table.iter().map(|(key, value)| {
            let name = key.get_ref().as_ref();
            (name, Node::new(self.findings, value, self.path(name)))
        })
    }

    /// Reports a name that is none of the `known` ones, at the name itself.
    pub(super) fn unknown_name<'k>(
        &self,
        name: &str,
        message: impl Display,
        known: impl IntoIterator<Item = &'k str>,
        remedy: impl Display,
    ) {
        let found = self.table.get_key_value(name);
        let span = found.map_or(self.span.clone(), |(key, _)| key.span());
        let mut problem = self.findings.problem(span.clone(), self.path(name), message.to_string());
        problem.nearest = nearest(name, known);
        problem.remedy = Some(remedy.to_string());
        // What has the wrong name or stands in the wrong table may be a secret all the same.
        if let Some((key, value)) = found.filter(|_| !HARMLESS_KEYS.contains(&name)) {
            self.findings.mask_value(key.span(), value.span());
        }
        self.findings.add(problem, span);
    }

    /// Returns the value of a key; reports its absence.
    pub(super) fn require(&self, key: &str, remedy: impl Display) -> Option<Node<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(key, format!("`{key}` is missing"), remedy);
        }
        found
    }

    /// Reports that something is absent from this table.
    pub(super) fn missing(&self, key: &str, message: impl Display, remedy: impl Display) {
        if self.findings.is_broken() {
            return;
        }
        let mut problem = self.findings.problem(self.span.clone(), self.path(key), message.to_string());
        problem.remedy = Some(remedy.to_string());
        self.findings.add(problem, self.span.clone());
    }

    /// Gives the table a better name in problems than its number: `triggers.github`.
    pub(super) fn rename(&mut self, key: String) {
        self.key = key;
    }

    pub(super) fn line(&self) -> usize {
        place(&self.findings.source.text, self.span.start).0
    }
}
