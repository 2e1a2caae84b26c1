//! Threads for connectors in code: how long one takes over a delivery, nobody knows, and it holds up no other
//! provider's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use crate::supervise;

/// A connector judges one delivery at once for so many processors: what it takes of them, whatever it does, leaves
/// most to others.
const PROCESSORS_EACH: usize = 2;
/// Fewest deliveries judged at once: one that comes to no end holds up no other of its provider.
const AT_ONCE_MIN: usize = 2;
/// How long a thread that has nothing to do is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// One provider's turns at judging deliveries, each on a thread of its own that gives way to the door.
pub struct Turns {
    free: Arc<Semaphore>,
    /// Nothing once it is dropped, which must not wait for a connector that comes to no end.
    threads: Option<Runtime>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = (processors / PROCESSORS_EACH).max(AT_ONCE_MIN);
        let threads = Builder::new_current_thread()
            .thread_name("judging")
            .max_blocking_threads(at_once)
            .thread_keep_alive(KEEP_ALIVE)
            .on_thread_start(|| {
                supervise::give_way_to_the_door();
                leave_processors();
            })
            .build()
            .expect("threads that wait for nothing of the system's need nothing of it");
        Self { free: Arc::new(Semaphore::new(at_once)), threads: Some(threads) }
    }

    /// Works in a turn; returns nothing where there was none to be had, or the work was not done, by `deadline`.
    /// Work that comes to no end keeps its turn.
    pub async fn work<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let deadline = deadline.into();
        let turn = timeout_at(deadline, self.free.clone().acquire_owned()).await.ok()?.ok()?;
        let working = self.threads.as_ref()?.spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        timeout_at(deadline, working).await.ok()?.ok()
    }
}

/// Keeps the calling thread to its part of the processors, the last ones, so that connectors that keep them busy
/// leave one to the door, the log, and the system's own threads, without which no flush of the device ends.
#[cfg(target_os = "linux")]
fn leave_processors() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let kept = sched_getaffinity(None).and_then(|allowed| {
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        let mut kept = CpuSet::new();
        all.iter().rev().take((all.len() / PROCESSORS_EACH).max(1)).for_each(|cpu| kept.set(*cpu));
        sched_setaffinity(None, &kept)
    });
    if let Err(error) = kept {
        tracing::debug!(%error, "a thread for a connector in code may run on every processor");
    }
}

#[cfg(not(target_os = "linux"))]
fn leave_processors() {}

impl Drop for Turns {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_without_an_end_keeps_its_turn_and_holds_up_nobody_who_waits_for_it() {
        let turns = Turns::new();
        let mut ends = Vec::new();
        for _ in 0..turns.free.available_permits() {
            let (end, ended) = mpsc::sync_channel::<()>(1);
            ends.push(end);
            let (begin, begun) = tokio::sync::oneshot::channel();
            let hanging = turns.work(far(), move || (begin.send(()), ended.recv()).1.is_ok());
            tokio::select! {
                _ = hanging => panic!("it hangs"),
                begun = begun => begun.unwrap(),
            }
        }
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(turns.work(soon, || 1).await, None, "all turns are taken");
        ends.pop();
        assert_eq!(turns.work(far(), || 2).await, Some(2), "one has ended");
        let soon = Instant::now() + Duration::from_millis(20);
        let (_end, ended) = mpsc::sync_channel::<()>(1);
        assert_eq!(turns.work(soon, move || ended.recv().is_ok()).await, None, "it is not done");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn judging_leaves_half_of_the_processors_to_others() {
        use rustix::thread::sched_getaffinity;

        let allowed = sched_getaffinity(None).unwrap();
        let judging = Turns::new().work(far(), || sched_getaffinity(None).unwrap()).await.unwrap();
        assert_eq!(judging.count(), (allowed.count() / 2).max(1));
        assert_eq!(sched_getaffinity(None).unwrap(), allowed, "who waits for it may run as before");
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }
}
