//! Over a real log and actor: rate limits that outlive both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Arbiter;
use tempfile::TempDir;

use super::*;
use crate::catalog::ProviderCatalog;
use crate::connector::ConnectorRegistry;
use crate::event::Timestamp;
use crate::event_log::{Options, PermitsState};
use crate::permits::{Budget, Lane, Profile, RateLimiter, RateLimiterFactory};
use crate::provider::{Callbacks, ProviderHandle};
use crate::secrets::Vault;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// The provider `github` over a log, with one limiter of it.
struct House {
    folder: TempDir,
    clock: Clock,
    log: Log,
    provider: ProviderHandle,
    limiter: RateLimiter,
}

impl House {
    fn open(folder: TempDir, clock: Clock) -> Self {
        let log = Log::open(Options { clock: clock.clone(), ..Options::new(folder.path()) }).unwrap();
        let permits = RateLimiterFactory::new(clock.clone());
        let entry = ProviderCatalog::built_in().get("github").unwrap().clone();
        permits.register(&entry.id, Profile::new(Budget { per_second: 1.0, burst: 5 }));
        let id = entry.id.clone();
        let deps = Deps {
            log: log.clone(),
            clock: clock.clone(),
            entry,
            vault: Arc::new(Vault::new(folder.path())),
            permits: permits.clone(),
            public_url: None,
            secret_news: Default::default(),
            outbound: Arc::new(crate::outbound::Client::new(&Default::default()).unwrap()),
            registry: ConnectorRegistry::new(ProviderCatalog::built_in()),
            callbacks: Callbacks::on(Arbiter::current()),
            triggers: Vec::new(),
        };
        let provider = ProviderHandle::start(deps, &Arbiter::current());
        Self { folder, clock, log, provider, limiter: permits.limiter(&id, "installation-1") }
    }

    /// Ends the process, as it should end or not, and starts it again.
    async fn reopen(self, clean: bool) -> Self {
        let Self { folder, clock, log, provider, limiter } = self;
        provider.stop(Duration::from_secs(1)).await;
        if clean {
            provider.close_permits().await;
        }
        log.close(Instant::now() + Duration::from_secs(60)).await;
        drop((log, provider, limiter));
        // The actor's future holds the log until the arbiter has dropped it.
        while Log::open_reader(folder.path()).is_err() {
            tokio::task::yield_now().await;
        }
        Self::open(folder, clock)
    }

    fn state(&self) -> PermitsState {
        self.log.state().permits(self.provider.id())
    }

    async fn until(&self, done: impl Fn(&PermitsState) -> bool) {
        let mut tail = self.log.tail();
        while !done(&self.state()) {
            let moved = tokio::time::timeout(Duration::from_secs(30), tail.changed()).await;
            moved.expect("the log has it within 30 s").unwrap();
            let seen = *tail.borrow_and_update();
            self.log.folded(seen).await.unwrap();
        }
    }

    /// Makes a call that gets the given answer.
    async fn call(&self, status: u16, retry_after: &str) {
        let permit = self.limiter.acquire(Lane::Live, self.clock.now()).await.unwrap();
        permit.observe(status, [("retry-after", retry_after.as_bytes())], self.clock.now());
    }

    async fn wait(&self) -> Option<u64> {
        let acquired = self.limiter.acquire(Lane::Live, self.clock.now()).await;
        acquired.err().map(|limited| limited.retry_after.as_secs())
    }
}

#[actix::test]
async fn a_cool_down_is_kept_by_the_actor_and_outlives_the_process() {
    let house = House::open(TempDir::new().unwrap(), Clock::fixed(at(0)));
    house.call(403, "60").await;
    house.until(|state| state.open && state.scopes.len() == 1).await;
    let house = house.reopen(false).await;
    assert_eq!(house.wait().await, Some(60));
    house.clock.set(at(60));
    assert_eq!(house.wait().await, None);
}

#[actix::test]
async fn a_rebuilt_actor_keeps_the_buckets_and_goes_on_writing() {
    let house = House::open(TempDir::new().unwrap(), Clock::fixed(at(0)));
    house.call(429, "30").await;
    while !house.provider.is_running() {
        tokio::task::yield_now().await;
    }
    assert!(house.provider.crash());
    assert_eq!(house.wait().await, Some(30));
    house.clock.set(at(40));
    house.call(429, "50").await;
    house.until(|state| state.scopes.values().any(|scope| scope.blocked_until == at(90))).await;
}

#[actix::test]
async fn after_a_clean_end_tokens_are_as_they_were_and_after_a_crash_they_are_spent() {
    let house = House::open(TempDir::new().unwrap(), Clock::fixed(at(0)));
    for _ in 0..3 {
        house.call(200, "").await;
    }
    house.until(|state| state.open).await;
    let house = house.reopen(true).await;
    assert!(!house.state().open);
    assert_eq!((house.wait().await, house.wait().await, house.wait().await), (None, None, Some(1)));
    house.until(|state| state.open).await;
    house.clock.set(at(1_000));
    let house = house.reopen(false).await;
    assert_eq!(house.wait().await, Some(1));
}
