//! The one place that asks what time it is and waits for one, so that tests can make time jump.

mod alarm;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::event::Timestamp;

/// A source of the current time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<watch::Sender<i64>>>);

impl Clock {
    /// Returns the system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// Returns a clock that stands at `now` until [`set`](Self::set).
    pub fn fixed(now: Timestamp) -> Self {
        Self(Some(Arc::new(watch::Sender::new(now.as_microsecond()))))
    }

    /// Returns the current time, in microseconds' precision.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    pub fn now(&self) -> Timestamp {
        let micros = match &self.0 {
            None => Timestamp::now().as_microsecond(),
            Some(fixed) => *fixed.borrow(),
        };
        Timestamp::from_microsecond(micros).expect("a clock's reading is in jiff's range")
    }

    /// Returns the current time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }

    /// Returns the time in a while, in the precision of [`now`](Self::now): a finer one would never quite come.
    pub fn after(&self, pause: Duration) -> Timestamp {
        let now = self.now();
        let then = now.checked_add(pause).unwrap_or(now);
        Timestamp::from_microsecond(then.as_microsecond()).expect("it is in jiff's range, less a fraction")
    }

    /// Moves a fixed clock; the system's clock stays as it is.
    pub fn set(&self, now: Timestamp) {
        if let Some(fixed) = &self.0 {
            fixed.send_replace(now.as_microsecond());
        }
    }

    /// As [`sleep_until`](Self::sleep_until), for many short waits: costs no descriptor, and looks at the length of
    /// the wait alone, so that it returns late where the clock is set forward meanwhile.
    pub async fn pause_until(&self, at: Timestamp) {
        match &self.0 {
            None => {
                let left = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
                tokio::time::sleep(left).await;
            }
            Some(_) => self.sleep_until(at).await,
        }
    }

    /// Returns when the clock comes to `at`, at once where it has. May return earlier, as when the clock
    /// was set: the caller looks at it again. Cancelling it costs nothing.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &self.0 {
            None => alarm::wait(at, self.now()).await,
            Some(fixed) => {
                let mut moved = fixed.subscribe();
                let reached = moved.wait_for(|now| *now >= at.as_microsecond()).await;
                reached.expect("the sender is held by this clock");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn a_time_in_a_while_comes_exactly() {
        let clock = Clock::fixed(Timestamp::from_second(100).unwrap());
        let at = clock.after(Duration::from_nanos(1_500));
        clock.set(at);
        assert_eq!(clock.now(), at);
    }

    #[tokio::test]
    async fn a_fixed_clock_wakes_who_waits_for_where_it_is_set() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let clock = Clock::fixed(at(100));
        clock.sleep_until(at(100)).await;
        let mut waiting = pin!(clock.sleep_until(at(200)));
        let mut poll = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll(), Poll::Pending);
        clock.set(at(199));
        assert_eq!(poll(), Poll::Pending);
        clock.set(at(300));
        assert_eq!(poll(), Poll::Ready(()));
    }

    #[tokio::test]
    async fn the_systems_clock_wakes_at_the_time_and_not_before() {
        let clock = Clock::system();
        clock.sleep_until(clock.now() - Duration::from_secs(1)).await;
        let at = clock.now() + Duration::from_millis(20);
        clock.sleep_until(at).await;
        assert!(clock.now() >= at);
    }
}
