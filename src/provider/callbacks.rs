//! Calls what a connector does on a thread of its own choice: bounded in time, panics contained.
//!
//! The actor waits for the answer and never runs connector code itself, so that a connector that blocks its
//! thread, hangs or panics disturbs nothing but itself.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

/// Why a call brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfinished {
    #[error("the connector panicked")]
    Panicked,
    #[error("the connector did not finish within {} s", .0.as_secs_f64())]
    CutOff(Duration),
}

/// Where the calls run.
#[derive(Clone)]
pub struct Callbacks {
    arbiter: ArbiterHandle,
    /// Where polls run, if not there: poll triggers have them in turn.
    polls: Arc<[ArbiterHandle]>,
}

impl Callbacks {
    /// Runs calls on the given thread. Connectors that may block it should share it with nobody.
    pub fn on(arbiter: ArbiterHandle) -> Self {
        Self { arbiter, polls: Arc::new([]) }
    }

    /// Runs polls on these threads: one that blocks its own holds up neither other calls nor polls on others.
    #[must_use]
    pub fn with_polls_on(self, polls: Vec<ArbiterHandle>) -> Self {
        Self { polls: polls.into(), ..self }
    }

    /// Returns where the polls of a provider's poll trigger run, by its number among them.
    pub(super) fn of_poll(&self, number: usize) -> Self {
        let own = number.checked_rem(self.polls.len()).map(|at| self.polls[at].clone());
        Self::on(own.unwrap_or_else(|| self.arbiter.clone()))
    }

    /// Makes a call; it is dropped when it takes longer than `limit`, and when this future is dropped.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Unfinished> {
        let (mut done, result) = oneshot::channel();
        self.arbiter.spawn(async move {
            tokio::select! {
                outcome = AssertUnwindSafe(call).catch_unwind() => drop(done.send(outcome)),
                () = done.closed() => {}
            }
        });
        match tokio::time::timeout(limit, result).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(_) => Err(Unfinished::Panicked),
            Err(_) => Err(Unfinished::CutOff(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::Arbiter;

    use super::*;

    /// For calls that come to no end.
    const LIMIT: Duration = Duration::from_millis(50);
    /// For those that do, on however busy a machine.
    const FAR: Duration = Duration::from_secs(10);

    #[actix::test]
    async fn a_call_is_bounded_and_its_panic_contained() {
        let callbacks = Callbacks::on(Arbiter::new().handle());
        assert_eq!(callbacks.call(FAR, async { 1 }).await, Ok(1));
        let panicked = callbacks.call(FAR, async { panic!("on purpose") }).await;
        assert_eq!(panicked, Err::<(), _>(Unfinished::Panicked));
        let (dropped, was_dropped) = oneshot::channel::<()>();
        let hanging = async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        };
        assert_eq!(callbacks.call(LIMIT, hanging).await, Err(Unfinished::CutOff(LIMIT)));
        assert!(was_dropped.await.is_err(), "what was cut off is dropped");
        assert_eq!(callbacks.call(FAR, async { 2 }).await, Ok(2));
    }

    #[actix::test]
    async fn a_call_that_blocks_its_thread_holds_up_nobody_else() {
        let callbacks = Callbacks::on(Arbiter::new().handle());
        let (release, blocked) = std::sync::mpsc::sync_channel::<()>(0);
        let blocking = async move { assert!(blocked.recv().is_err()) };
        assert_eq!(callbacks.call(LIMIT, blocking).await, Err(Unfinished::CutOff(LIMIT)));
        drop(release);
    }
}
