//! What the system's refusals and the panics of threads are to the log.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Error;

impl Error {
    /// Returns what a panic of one of the log's threads amounts to: a failure of the store.
    pub(crate) fn of_panic(thread: &str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Failing(format!("{thread} panicked: {}", text.unwrap_or("no reason given")))
    }

    /// Returns a closure that turns an I/O error into one of the log, saying what was tried with which path.
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io { what, source: Arc::new(source) },
        }
    }
}
