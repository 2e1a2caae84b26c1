//! The one place that asks what time it is, so that tests can make time jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::event::Timestamp;

/// A source of the current time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// Returns the system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// Returns a clock that stands at `now` until [`set`](Self::set).
    pub fn fixed(now: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now.as_microsecond()))))
    }

    /// Returns the current time, in microseconds' precision.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    pub fn now(&self) -> Timestamp {
        let micros = match &self.0 {
            None => Timestamp::now().as_microsecond(),
            Some(fixed) => fixed.load(Ordering::SeqCst),
        };
        Timestamp::from_microsecond(micros).expect("a clock's reading is in jiff's range")
    }

    /// Returns the current time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }

    /// Moves a fixed clock; the system's clock stays as it is.
    pub fn set(&self, now: Timestamp) {
        if let Some(fixed) = &self.0 {
            fixed.store(now.as_microsecond(), Ordering::SeqCst);
        }
    }
}
