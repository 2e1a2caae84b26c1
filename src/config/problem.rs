//! What is wrong in a configuration, and where.

use std::fmt;

/// One thing that is wrong, or for a warning: risky, in a configuration.
///
/// No field ever holds the text of a secret: what stands where a reference belongs is masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The key, such as `triggers.github.path`; empty where the text is not TOML.
    pub key: String,
    /// The value found there, where it is short and no secret.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The known word nearest to the one found.
    pub nearest: Option<String>,
    /// The line itself, secrets masked, and how many characters of it are meant.
    pub snippet: Option<(String, usize)>,
}

/// What is risky in a configuration that works.
pub type Warning = Problem;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}
