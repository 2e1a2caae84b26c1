//! Waits for a time of day, as opposed to a length of time.
//!
//! Timers of the runtime run on a clock that stands still while the machine sleeps and does not notice
//! that the time was set. On Linux the kernel has the right one (`timerfd` on `CLOCK_REALTIME`): it wakes
//! at the time, and at once when the clock is set. Elsewhere, and where there is no such timer to be
//! had, the wait is cut into stretches.

use std::time::Duration;

use crate::event::Timestamp;

/// Longest stretch where the kernel does not tell that the clock was set: so late a tick may be then.
const STRETCH_MAX: Duration = Duration::from_secs(60);

/// Returns at `at`, or earlier when the clock is set.
pub(super) async fn wait(at: Timestamp, now: Timestamp) {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    if left.is_zero() {
        return;
    }
    #[cfg(target_os = "linux")]
    match kernel::wait(at).await {
        Ok(()) => return,
        Err(error) => tracing::debug!(%error, "no timer on the time of day; waiting in stretches"),
    }
    tokio::time::sleep(left.min(STRETCH_MAX)).await;
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::net::unix::pipe::Receiver;

    use crate::event::Timestamp;

    pub(super) async fn wait(at: Timestamp) -> io::Result<()> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let value = Timespec { tv_sec: at.as_second(), tv_nsec: at.subsec_nanosecond().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
        // Readable when the time has come or the clock was set. The runtime waits for a descriptor that it owns
        // as a pipe's end: what it would read from it does not matter.
        Receiver::from_owned_fd_unchecked(timer)?.readable().await?;
        Ok(())
    }
}
