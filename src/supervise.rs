//! Keeps actors alive: rebuilds one that panicked from its factory, with backoff.
//!
//! actix's own supervisor (0.13) restarts an actor after `ctx.stop()` with the same value; after a
//! panic it does not restart, and the address is dead. Here a supervisor task holds the factory and
//! waits for the actor's [`Lifeline`] to drop, which happens however the actor ends. What must
//! survive a panic lives outside of the actor: in the log, or in what the factory captures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message};
use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, oneshot};

/// First pause before a rebuild; doubled with each end in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause before a rebuild. Longer would leave pauses and secrets unchangeable for no gain.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// An actor that lived this long starts with the first pause again.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// How long [`Supervised::ask`] waits for an actor that is being rebuilt.
const REBUILD_WAIT: Duration = Duration::from_secs(15);

/// How much less than ingest the threads behind the log count for the scheduler; commands of exec
/// functions inherit it. With more, a flood leaves functions less than a third of what it brings in; with
/// less, acknowledgements become fewer than they need be.
const NICE: i32 = 12;

/// How much less those count that work for one provider only: enough for others' deliveries to go past, and
/// little enough to get on beside them.
const NICE_AT_THE_DOOR: i32 = 5;

/// Lowers the priority of the calling thread, on Linux of this thread alone: an acknowledgement has a
/// deadline, a delivery can wait in the log. A thread that is not allowed to goes on as it was.
pub fn give_way_to_ingest() {
    give_way(NICE);
}

/// Lowers the priority of a thread that works for one provider's ingest, which may take all that it gets.
pub fn give_way_to_the_door() {
    give_way(NICE_AT_THE_DOOR);
}

fn give_way(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        tracing::debug!(%error, "a thread that should give way runs at normal priority");
    }
}

/// Held by a supervised actor as a field; its drop tells the supervisor that the actor ended.
#[derive(Debug)]
pub struct Lifeline {
    _ended: oneshot::Sender<()>,
}

/// The actor is being rebuilt, or was stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor is not running")]
pub struct NotRunning;

struct Shared<A: Actor> {
    name: String,
    current: ArcSwapOption<Addr<A>>,
    rebuilt: Notify,
    stopping: AtomicBool,
    stop: Notify,
    rebuilds: AtomicU64,
}

/// A handle to an actor across its rebuilds. Cheap to clone.
pub struct Supervised<A: Actor>(Arc<Shared<A>>);

impl<A: Actor> Clone for Supervised<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor<Context = Context<A>>> Supervised<A> {
    /// Starts an actor on `arbiter` and keeps it alive until [`stop`](Self::stop).
    ///
    /// `factory` is called on the arbiter for each life and must hand the lifeline to the actor. A
    /// factory that panics counts as an actor that ended at once.
    pub fn start<F>(name: impl Into<String>, arbiter: &ArbiterHandle, factory: F) -> Self
    where
        F: FnMut(Lifeline) -> A + Send + 'static,
        A: Send,
    {
        let shared = Arc::new(Shared {
            name: name.into(),
            current: ArcSwapOption::empty(),
            rebuilt: Notify::new(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            rebuilds: AtomicU64::new(0),
        });
        if !arbiter.spawn(keep_alive(shared.clone(), factory)) {
            tracing::error!(actor = shared.name, "could not start actor: its arbiter has ended");
        }
        Self(shared)
    }

    /// Returns how often the actor was rebuilt.
    pub fn rebuilds(&self) -> u64 {
        self.0.rebuilds.load(Ordering::Relaxed)
    }

    /// Tells whether the actor runs now.
    pub fn is_running(&self) -> bool {
        self.0.current.load().as_ref().is_some_and(|addr| addr.connected())
    }

    /// Hands over a message without waiting; tells whether it was taken. Not taken means that the
    /// mailbox is full or the actor is being rebuilt: the caller counts it or does without.
    pub fn tell<M>(&self, message: M) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.0.current.load().as_ref().is_some_and(|addr| addr.try_send(message).is_ok())
    }

    /// Sends a message and waits for the answer, also through one rebuild of the actor.
    ///
    /// # Errors
    ///
    /// If the actor stays away for long, ends while it handles this very message, or was stopped.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, NotRunning>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let addr = tokio::time::timeout(REBUILD_WAIT, self.running()).await.map_err(|_| NotRunning)??;
        addr.send(message).await.map_err(|_| NotRunning)
    }

    async fn running(&self) -> Result<Addr<A>, NotRunning> {
        loop {
            let rebuilt = self.0.rebuilt.notified();
            if self.0.stopping.load(Ordering::SeqCst) {
                return Err(NotRunning);
            }
            if let Some(addr) = self.0.current.load().as_ref().filter(|addr| addr.connected()) {
                return Ok(Addr::clone(addr));
            }
            rebuilt.await;
        }
    }

    /// Ends the supervision: the actor is dropped with its last address and not rebuilt.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.0.stop.notify_one();
        self.0.rebuilt.notify_waiters();
        self.0.current.store(None);
    }
}

async fn keep_alive<A, F>(shared: Arc<Shared<A>>, mut factory: F)
where
    A: Actor<Context = Context<A>>,
    F: FnMut(Lifeline) -> A + 'static,
{
    let mut backoff = BACKOFF_FIRST;
    while !shared.stopping.load(Ordering::SeqCst) {
        let (ended_tx, ended) = oneshot::channel();
        let born = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| factory(Lifeline { _ended: ended_tx }))) {
            Ok(actor) => {
                shared.current.store(Some(Arc::new(actor.start())));
                shared.rebuilt.notify_waiters();
                tokio::select! {
                    _ = ended => {}
                    () = shared.stop.notified() => break,
                }
            }
            Err(_) => tracing::error!(actor = shared.name, "actor could not be built: its factory panicked"),
        }
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        shared.current.store(None);
        shared.rebuilds.fetch_add(1, Ordering::Relaxed);
        if born.elapsed() >= STABLE_AFTER {
            backoff = BACKOFF_FIRST;
        }
        tracing::warn!(
            actor = shared.name,
            backoff_ms = backoff.as_millis() as u64,
            "actor ended; rebuilding it"
        );
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = shared.stop.notified() => break,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    shared.current.store(None);
}

#[cfg(test)]
mod tests {
    use actix::Arbiter;

    use super::*;

    struct Counter {
        count: u32,
        _lifeline: Lifeline,
    }
    impl Actor for Counter {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Add;
    impl Handler<Add> for Counter {
        type Result = u32;
        fn handle(&mut self, _: Add, _: &mut Self::Context) -> u32 {
            self.count += 1;
            self.count
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Panic;
    impl Handler<Panic> for Counter {
        type Result = ();
        fn handle(&mut self, _: Panic, _: &mut Self::Context) {
            panic!("on purpose");
        }
    }

    fn start() -> Supervised<Counter> {
        Supervised::start("counter", &Arbiter::current(), |lifeline| Counter {
            count: 0,
            _lifeline: lifeline,
        })
    }

    #[actix::test]
    async fn a_panicked_actor_is_rebuilt_from_its_factory() {
        let counter = start();
        assert_eq!(counter.ask(Add).await, Ok(1));
        assert_eq!(counter.ask(Panic).await, Err(NotRunning));
        assert_eq!(counter.ask(Add).await, Ok(1), "a new value from the factory answers");
        assert_eq!(counter.rebuilds(), 1);
    }

    #[actix::test]
    async fn asking_waits_for_the_rebuild() {
        let counter = start();
        counter.ask(Add).await.unwrap();
        assert!(counter.tell(Panic));
        tokio::task::yield_now().await;
        while counter.is_running() {
            tokio::task::yield_now().await;
        }
        assert_eq!(counter.ask(Add).await, Ok(1));
    }

    #[actix::test]
    async fn a_factory_that_panics_is_tried_again() {
        let mut builds = 0;
        let counter = Supervised::start("counter", &Arbiter::current(), move |lifeline| {
            builds += 1;
            assert!(builds > 2, "on purpose");
            Counter { count: builds, _lifeline: lifeline }
        });
        assert_eq!(counter.ask(Add).await, Ok(4));
        assert_eq!(counter.rebuilds(), 2);
    }

    #[actix::test]
    async fn a_stopped_actor_stays_stopped() {
        let counter = start();
        counter.ask(Add).await.unwrap();
        counter.stop();
        assert_eq!(counter.ask(Add).await, Err(NotRunning));
        assert!(!counter.is_running());
    }
}
