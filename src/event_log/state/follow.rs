//! The thread that folds what is committed, and writes what the fold changed.
//!
//! An error ends it, and a panic counts as one: the log goes on, and says that it fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Progress, Shared};
use crate::event_log::Error;
use crate::event_log::Seq;
use crate::event_log::frame::Frame;

/// How long a change may wait before it is written. A crash costs folding that much of the log again.
const WRITE_AFTER: Duration = Duration::from_millis(200);
/// How many changed keys are written at once. A batch stops all other writes of the store while it is
/// applied, so a larger one makes acknowledgements wait; a smaller one merges fewer changes of one run.
const WRITE_KEYS: usize = 512;

/// How long a round of the fold takes at least: woken for each of some thousand commits a second, it would take more
/// of a processor by waking than by folding, and from those who commit.
const ROUND_MIN: Duration = Duration::from_millis(1);

impl Shared {
    /// Folds everything from the mark to the log's tail.
    pub(super) fn catch_up(&self) -> Result<(), Error> {
        let from = self.core.lock().mark.next.frame();
        self.progress.send_replace(Progress { frame: from.saturating_sub(1), failed: false });
        self.reader.scan(from, |frame| {
            self.fold(&frame)?;
            if self.core.lock().changed() >= WRITE_KEYS {
                self.write()?;
            }
            Ok(true)
        })
    }

    fn fold(&self, frame: &Frame) -> Result<(), Error> {
        let expected = self.core.lock().mark.next.frame();
        if frame.seq() != expected {
            let reason = format!("it follows where frame {expected} was expected");
            return Err(Error::Damaged { frame: frame.seq(), reason });
        }
        self.core.lock().apply(frame)?;
        self.progress.send_replace(Progress { frame: frame.seq(), failed: false });
        Ok(())
    }

    /// Writes the changes as one batch. Reads and the fold go on meanwhile.
    pub(super) fn write(&self) -> Result<(), Error> {
        let batch = self.core.lock().take_batch();
        batch.write(&*self.table)?;
        self.core.lock().rows.written();
        Ok(())
    }

    /// Folds the whole log anew.
    pub(crate) fn rebuild(&self) -> Result<(), Error> {
        self.core.lock().reset()?;
        self.catch_up()?;
        self.write()?;
        self.table.sync()
    }

    /// Returns once the fold has come to a frame.
    pub(crate) async fn folded(&self, frame: Seq) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.frame >= frame || progress.failed).await;
        match reached {
            Ok(progress) if progress.failed => {
                let failure = self.failure.lock().clone();
                Err(failure.unwrap_or_else(|| Error::Failing("the fold has stopped".to_owned())))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Closed),
        }
    }

    fn changed(&self) -> usize {
        self.core.lock().changed()
    }
}

/// Follows the commits in a thread.
pub(crate) struct Follower {
    goal: Arc<Goal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Goal {
    to: Mutex<To>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct To {
    tail: Seq,
    end: bool,
}

impl Follower {
    /// Starts the thread.
    pub(crate) fn start(state: Arc<Shared>) -> Self {
        let goal = Arc::<Goal>::default();
        let thread = {
            let goal = Arc::clone(&goal);
            let run = move || {
                let followed = catch_unwind(AssertUnwindSafe(|| follow(&state, &goal)));
                let followed = followed.unwrap_or_else(|panic| Err(Error::of_panic("the fold", &*panic)));
                if let Err(error) = followed {
                    tracing::error!(%error, "the fold of the log stopped");
                    *state.failure.lock() = Some(error);
                    state.progress.send_modify(|progress| progress.failed = true);
                }
            };
            std::thread::Builder::new().name("log-fold".to_owned()).spawn(run)
        };
        Self { goal, thread: Some(thread.expect("the system has room for a thread at start")) }
    }

    /// Tells that the log has grown.
    pub(crate) fn committed(&self, tail: Seq) {
        self.goal.to.lock().tail = tail;
        self.goal.changed.notify_one();
    }

    /// Folds and writes what is committed, and ends the thread.
    pub(crate) fn end(&mut self) {
        self.goal.to.lock().end = true;
        self.goal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

fn follow(state: &Shared, goal: &Goal) -> Result<(), Error> {
    let mut write_at: Option<Instant> = None;
    loop {
        let to = wait(state, goal, write_at);
        let begun = Instant::now();
        let mut next = state.progress.borrow().frame + 1;
        while next <= to.tail {
            let missing = || Error::Damaged { frame: next, reason: "it is not there".to_owned() };
            let frame = state.reader.frame(next)?.ok_or_else(missing)?;
            state.fold(&frame)?;
            next += 1;
            if state.changed() >= WRITE_KEYS {
                state.write()?;
                write_at = None;
            }
        }
        let changed = state.changed() > 0;
        if changed && (to.end || write_at.is_some_and(|at| at <= Instant::now())) {
            state.write()?;
            write_at = None;
        } else if changed && write_at.is_none() {
            write_at = Some(Instant::now() + WRITE_AFTER);
        }
        if to.end && next > goal.to.lock().tail {
            return state.table.sync();
        }
        std::thread::sleep(ROUND_MIN.saturating_sub(begun.elapsed()));
    }
}

/// Waits until there is something to fold, to write, or the end.
fn wait(state: &Shared, goal: &Goal, write_at: Option<Instant>) -> To {
    let done = state.progress.borrow().frame;
    let mut to = goal.to.lock();
    while to.tail <= done && !to.end {
        match write_at {
            None => goal.changed.wait(&mut to),
            Some(at) => {
                if goal.changed.wait_until(&mut to, at).timed_out() {
                    break;
                }
            }
        }
    }
    *to
}
