//! What people read: tables, colours, local and relative times. Machines get `--json`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::clock::Clock;
use crate::event::Timestamp;

/// Longest cell of a table, in characters; only on a terminal.
const CELL_CHARS_MAX: usize = 64;

/// Bold.
pub(super) const BOLD: Style = Style::new().bold();
/// Dim.
pub(super) const DIM: Style = Style::new().dimmed();
/// Bad news.
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
/// Good news.
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
/// News that may want attention.
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Work under way.
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Returns stdout for data. Colours are dropped where it is no terminal.
pub(super) fn out() -> impl Write {
    anstream::stdout().lock()
}

/// Returns stderr for all else.
pub(super) fn err() -> impl Write {
    anstream::stderr().lock()
}

/// Writes a line for people to stderr. Nobody may be there to read it.
pub(super) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(err(), "{text}");
}

/// Writes an error with its causes to stderr.
pub(super) fn error(error: &anyhow::Error) {
    note(format_args!("{RED}error:{RED:#} {}", with_causes(error)));
}

/// Joins an error and its causes. What a text already ends with is not told again: some errors name their cause.
fn with_causes(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let join = |told: String, cause: String| match told.ends_with(&cause) {
        true => told,
        false => format!("{told}: {cause}"),
    };
    causes.reduce(join).unwrap_or_default()
}

/// Prints JSON, one value with line breaks.
pub(super) fn json(value: &Value) -> anyhow::Result<()> {
    let mut out = out();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Paints a text.
pub(super) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns the colour of a state's word.
pub(super) fn state_style(state: &str) -> Style {
    match state {
        "succeeded" | "done" | "active" | "verified" | "ok" => GREEN,
        "dead" | "failed" | "rejected" | "failing" => RED,
        "pending" | "running" | "open" => CYAN,
        "waiting" | "held" | "paused" | "armed" => YELLOW,
        _ => DIM,
    }
}

/// A table with a head; columns are as wide as their widest cell.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One cell.
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Returns a cell in the given style.
    pub(super) fn styled(style: Style, text: impl std::fmt::Display) -> Self {
        Self { text: text.to_string(), style }
    }

    /// Returns a cell with the word of a state.
    pub(super) fn state(state: &str) -> Self {
        Self::styled(state_style(state), state)
    }
}

impl<T: std::fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(Style::new(), text)
    }
}

impl Table {
    pub(super) fn new(head: impl Into<Vec<&'static str>>) -> Self {
        Self { head: head.into(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table to stdout, the head only where there are rows.
    pub(super) fn print(self) -> anyhow::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let most = if io::stdout().is_terminal() { CELL_CHARS_MAX } else { usize::MAX };
        Ok(out().write_all(self.layout(most).as_bytes())?)
    }

    fn layout(self, most: usize) -> String {
        let head = self.head.iter().map(|text| Cell::styled(DIM, text)).collect();
        let mut rows = vec![head];
        rows.extend(self.rows);
        for cell in rows.iter_mut().flatten() {
            cell.text = one_line(&cell.text, most);
        }
        let columns = self.head.len();
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| chars(&c.text)).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &rows {
            // Nothing follows the last cell that holds anything.
            let length = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (i, cell) in row[..length].iter().enumerate() {
                let last = i + 1 == length;
                let gap = if last { 0 } else { widths[i] - chars(&cell.text) + 2 };
                let style = cell.style;
                write!(text, "{style}{}{style:#}{:gap$}", cell.text, "")
                    .expect("writing to a string succeeds");
            }
            text.push('\n');
        }
        text
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Returns a text without control characters, so that nothing that was sent to us moves a terminal's
/// cursor, cut to `most` characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    if chars(text) <= most {
        return clean.collect();
    }
    clean.take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Returns a text of several lines whose control characters, but newline and tab, are replaced.
pub(super) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Returns an instant as local time with its distance from now: `2026-11-23 14:00:03 (2m ago)`.
pub(super) fn when(at: Timestamp) -> String {
    format!("{} ({})", local(at), relative(at, Clock::system().now()))
}

/// Returns an instant as local time, to the second.
pub(super) fn local(at: Timestamp) -> String {
    jiff::ZonedDateTime::new(at, jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns the distance of an instant from now in its largest unit.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    let (number, unit) = match seconds.unsigned_abs() {
        0 => return "now".to_owned(),
        s @ 1..=119 => (s, "s"),
        s @ 120..=7_199 => (s / 60, "m"),
        s @ 7_200..=172_799 => (s / 3_600, "h"),
        s => (s / 86_400, "d"),
    };
    if seconds < 0 { format!("in {number}{unit}") } else { format!("{number}{unit} ago") }
}

/// Returns microseconds in a unit that people grasp: `850 us`, `12.3 ms`, `1.25 s`.
pub(super) fn micros(us: u64) -> String {
    let us = us as f64;
    if us < 1e3 {
        format!("{us} us")
    } else if us < 1e6 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// Returns a size in a unit that people grasp.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} KB", bytes as f64 / 1e3),
        10_000_000..=9_999_999_999 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Returns the text at a JSON pointer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the number at a JSON pointer; 0 where there is none.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// Returns the instant at a JSON pointer as people read it; empty where there is none.
pub(super) fn time(value: &Value, pointer: &str) -> String {
    text(value, pointer).parse().map(when).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_in_their_largest_unit() {
        let now: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
        for (at, expected) in [
            ("2026-11-23T14:00:00.9Z", "now"),
            ("2026-11-23T13:59:48Z", "12s ago"),
            ("2026-11-23T13:45:00Z", "15m ago"),
            ("2026-11-23T11:00:00Z", "3h ago"),
            ("2026-11-20T11:00:00Z", "3d ago"),
            ("2026-11-23T14:05:00Z", "in 5m"),
        ] {
            assert_eq!(relative(at.parse().unwrap(), now), expected);
        }
    }

    #[test]
    fn a_cause_that_was_told_already_is_not_told_again() {
        let error =
            anyhow::anyhow!("no such file").context("cannot read s: no such file").context("no secret");
        assert_eq!(with_causes(&error), "no secret: cannot read s: no such file");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(["ID", "STATE"]);
        table.row(["a".into(), Cell::state("done")]);
        table.row(["longer".into(), Cell::state("dead")]);
        table.row(["b".into(), "".into()]);
        let plain = anstream::adapter::strip_str(&table.layout(80)).to_string();
        assert_eq!(plain, "ID      STATE\na       done\nlonger  dead\nb\n");
    }

    #[test]
    fn what_was_sent_cannot_move_the_cursor() {
        assert_eq!(one_line("a\u{1b}[2Jb\n", 80), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(tame("a\n\tb\r\u{1b}"), "a\n\tb\u{fffd}\u{fffd}");
    }
}
