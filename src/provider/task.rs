//! Tasks beside a provider's actor, which end with it, and it with them where one panics.
//!
//! They are no futures of the actor's, because it lives as long as one of those: whoever stops it waits for no call
//! of a connector. So the actor's supervisor does not see that one is gone; the task tells the actor.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use actix::WeakAddr;
use futures_util::FutureExt as _;

use super::ProviderActor;
use super::actor::TaskPanicked;

/// A task that goes on as long as this is not dropped.
pub(super) struct Task(tokio::task::JoinHandle<()>);

impl Task {
    /// Starts a task of an actor; a panic in it ends the actor, which is then rebuilt with all its tasks.
    pub(super) fn start(owner: WeakAddr<ProviderActor>, work: impl Future<Output = ()> + 'static) -> Self {
        Self(actix::spawn(async move {
            let panicked = AssertUnwindSafe(work).catch_unwind().await.is_err();
            if let Some(actor) = owner.upgrade().filter(|_| panicked) {
                // Waits for room in the mailbox. An actor that is gone already needs to be told nothing.
                let _ = actor.send(TaskPanicked).await;
            }
        }))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
