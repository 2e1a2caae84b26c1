//! Cron expressions as text: what is written wrong, in which field, and what to write instead.
//!
//! croner reads them; what it takes silently but nobody means (a month's name among the hours) is
//! refused before, and what it refuses is told by the field.

use croner::Cron;
use croner::parser::{CronParser, Year};

/// Longest expression, in bytes: a list of every second, and more, fits.
const EXPRESSION_BYTES_MAX: usize = 1024;
/// The words that stand for an expression.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"];
const SHAPE: &str = "write minute, hour, day of the month, month and day of the week, such as \"0 3 * * *\"; seconds may stand in front";

/// One field of an expression.
struct Field {
    name: &'static str,
    takes: &'static str,
    words: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", takes: "0 to 59", words: &[] },
    Field { name: "minute", takes: "0 to 59", words: &[] },
    Field { name: "hour", takes: "0 to 23", words: &[] },
    Field { name: "day of the month", takes: "1 to 31, L for the last", words: &["L", "W", "LW"] },
    Field { name: "month", takes: "1 to 12 or JAN to DEC", words: MONTHS },
    Field { name: "day of the week", takes: "0 to 7 or SUN to SAT, 0 and 7 being Sunday", words: DAYS },
];

/// What is wrong with an expression, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn never(expression: &str) -> Self {
        let remedy =
            "name a day that the month has; given both, a day of the month and one of the week each start it";
        Self::new(format!("no time ever matches `{}`", shown(expression)), remedy)
    }
}

/// Returns a text, shortened, for a message.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Cron, Problem> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(Problem::new(
            "the schedule is too long",
            format!("at most {EXPRESSION_BYTES_MAX} bytes"),
        ));
    }
    let expression = spelled_out(text.trim())?;
    let parts: Vec<&str> = expression.split_whitespace().collect();
    if !(5..=6).contains(&parts.len()) {
        return Err(Problem::new(format!("the schedule has {} fields, not 5 or 6", parts.len()), SHAPE));
    }
    for (part, field) in parts.iter().zip(&FIELDS[FIELDS.len() - parts.len()..]) {
        field.check(part)?;
    }
    parser(&parts.join(" ")).map_err(|reason| Problem::new(reason, SHAPE))
}

fn parser(expression: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().year(Year::Disallowed).build();
    parser.parse(expression).map_err(|error| error.to_string().trim_end_matches('.').to_lowercase())
}

/// Replaces a word by what it stands for.
fn spelled_out(text: &str) -> Result<&str, Problem> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let found = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    let words: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
    found.map(|(_, stands_for)| *stands_for).ok_or_else(|| {
        Problem::new(
            format!("`{}` is no word for a schedule", shown(text)),
            format!("one of {}", words.join(", ")),
        )
    })
}

impl Field {
    fn check(&self, part: &str) -> Result<(), Problem> {
        let wrong = || {
            Problem::new(
                format!("`{}` is no {}", shown(part), self.name),
                format!("{}; lists 1,3, ranges 1-5 and steps */5 or 1-9/2 are taken", self.takes),
            )
        };
        // croner skips it, and whoever wrote `1,,3` or `1,` left something out.
        if part.split(',').any(str::is_empty) {
            return Err(wrong());
        }
        let letters = part.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        for word in letters {
            // `FRIL` is the month's last Friday.
            let word = word.to_uppercase();
            let bare = word.strip_suffix('L').filter(|bare| !bare.is_empty()).unwrap_or(&word);
            if !self.words.contains(&bare) && !self.words.contains(&word.as_str()) {
                return Err(wrong());
            }
        }
        // Alone among fields that are right, so that it must be this one that is not.
        let place =
            FIELDS.iter().position(|field| field.name == self.name).expect("the field is one of them");
        let mut alone = ["*"; FIELDS.len()];
        alone[place] = part;
        parser(&alone.join(" ")).map(drop).map_err(|_| self.backwards(part).unwrap_or_else(wrong))
    }

    /// Says which range of a field that was refused ends before it begins, if one does.
    fn backwards(&self, part: &str) -> Option<Problem> {
        let range = part.split(',').filter_map(|item| item.split('/').next()).find(|range| {
            let ends = range.split_once('-').map(|(from, to)| (self.number(from), self.number(to)));
            matches!(ends, Some((Some(from), Some(to))) if from > to)
        })?;
        let (from, to) = range.split_once('-')?;
        Some(Problem::new(
            format!("the range `{}` of the {} runs backwards", shown(range), self.name),
            format!(
                "ranges go upward: write `{}`, or two ranges for one that goes over the end; {}",
                shown(&format!("{to}-{from}")),
                self.takes
            ),
        ))
    }

    /// Returns the number that a value or word of the field stands for.
    fn number(&self, text: &str) -> Option<usize> {
        let first = usize::from(self.name == "month");
        // The names of months and days; the letters beside them stand for no one number.
        let is_it = |word: &&str| word.len() == 3 && word.eq_ignore_ascii_case(text);
        let word = self.words.iter().position(is_it).map(|place| place + first);
        word.or_else(|| text.parse().ok())
    }
}

/// Tells whether a `*` stands among seconds, minutes and hours.
pub(super) fn has_star_in_time(cron: &Cron) -> bool {
    let fields: Vec<_> = cron.pattern.as_str().split_whitespace().collect();
    fields.iter().rev().skip(3).any(|field| field.contains('*'))
}
