//! Reads secret references. Resolving them is the job of `secrets`.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a secret is found.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is not part of the secret.
    File(PathBuf),
    /// Kept sealed in the data folder under this name.
    Store(String),
    /// The secret itself: for examples and tests.
    Literal(String),
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretRef {
    /// Shows the reference; never a literal secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{}", path.display()),
            SecretRef::Store(name) => write!(f, "store:{name}"),
            SecretRef::Literal(_) => f.write_str("literal:[redacted]"),
        }
    }
}

/// Why a text is not a secret reference. Never holds the text: it may be the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// It has none of the prefixes.
    #[error("a secret must not stand in the configuration itself")]
    NoPrefix,
    /// It names a variable in shell style.
    #[error("variables are not expanded here")]
    ShellVariable,
    /// Nothing follows the prefix.
    #[error("nothing follows the prefix")]
    Empty,
    /// The name of a stored secret or of a variable has characters that names do not have.
    #[error("the name has characters that names do not have")]
    BadName,
}

impl RefError {
    /// Returns what to write instead.
    pub fn remedy(self) -> &'static str {
        match self {
            RefError::NoPrefix => {
                "refer to it with \"env:NAME\", \"file:PATH\" or \"store:NAME\" (see `hookkeeper secrets set`)"
            }
            RefError::ShellVariable => "write \"env:NAME\" without a dollar sign",
            RefError::Empty => "name the variable, file or stored secret after the colon",
            RefError::BadName => "use letters, digits, and `_`; for stored secrets also `-`, `.` and `/`",
        }
    }
}

/// Longest name of a stored secret, in bytes: it is part of a key in the store.
pub const STORE_NAME_BYTES_MAX: usize = 128;

/// Tells whether `name` may name a stored secret: letters, digits, `_ - . /`, at most
/// [`STORE_NAME_BYTES_MAX`] bytes, the first a letter or digit. It is part of a URL's path, so no part of it is
/// empty or of dots.
pub fn is_store_name(name: &str) -> bool {
    name.len() <= STORE_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// Tells whether `name` may name an environment variable.
pub fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl SecretRef {
    /// Reads a reference; a relative path of a `file:` is taken from `base`.
    ///
    /// # Errors
    ///
    /// If the text is no reference; the error never repeats it.
    pub fn parse(text: &str, base: &Path) -> Result<Self, RefError> {
        let Some((prefix, rest)) = text.split_once(':') else {
            return Err(if text.starts_with('$') { RefError::ShellVariable } else { RefError::NoPrefix });
        };
        if !matches!(prefix, "env" | "file" | "store" | "literal") {
            return Err(RefError::NoPrefix);
        }
        if rest.is_empty() {
            return Err(RefError::Empty);
        }
        match prefix {
            "env" if rest.starts_with('$') => Err(RefError::ShellVariable),
            "env" if !is_env_name(rest) => Err(RefError::BadName),
            "env" => Ok(SecretRef::Env(rest.to_owned())),
            "file" => Ok(SecretRef::File(base.join(rest))),
            "store" if !is_store_name(rest) => Err(RefError::BadName),
            "store" => Ok(SecretRef::Store(rest.to_owned())),
            _ => Ok(SecretRef::Literal(rest.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, RefError>) {
        let found = SecretRef::parse(text, Path::new("/etc/hookkeeper")).map(|found| found.to_string());
        assert_eq!(found, expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn references_are_told_by_their_prefix() {
        check("env:GITHUB_SECRET", Ok("env:GITHUB_SECRET"));
        check("file:secret.txt", Ok("file:/etc/hookkeeper/secret.txt"));
        check("file:/run/secret", Ok("file:/run/secret"));
        check("store:notion/signing_secret", Ok("store:notion/signing_secret"));
        check("literal:hunter2", Ok("literal:[redacted]"));
    }

    #[test]
    fn everything_else_is_refused() {
        check("hunter2", Err(RefError::NoPrefix));
        check("whsec:abc", Err(RefError::NoPrefix));
        check("$GITHUB_SECRET", Err(RefError::ShellVariable));
        check("env:${GITHUB_SECRET}", Err(RefError::ShellVariable));
        check("env:", Err(RefError::Empty));
        check("env:A B", Err(RefError::BadName));
        check("store:../x", Err(RefError::BadName));
    }

    #[test]
    fn a_literal_shows_nothing_of_itself() {
        let reference = SecretRef::parse("literal:hunter2", Path::new("")).unwrap();
        assert!(!format!("{reference:?} {reference}").contains("hunter2"));
    }
}
