//! All scopes of all providers.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::bucket::Bucket;
use super::budget::{Budget, Rate};
use super::headers::{HeaderOverrides, HeaderRules};
use super::scope::{RateLimiter, Scope, nanos};
use super::store::{ProviderPermits, Unwritten};
use crate::clock::Clock;
use crate::event::ProviderId;

/// Most scopes of one provider. Beyond it, those that nobody holds and that are full make room; one that
/// cools down or lacks tokens never does, since it would be forgotten what it owes. Where none makes room,
/// further scopes share one bucket: they are slower than they could be, never faster.
pub const SCOPES_MAX: usize = 16_384;
/// Longest scope key, in bytes; a longer one is kept as its SHA-256.
pub const SCOPE_BYTES_MAX: usize = 128;
/// How often at most a full table of scopes is searched for some that can go, in nanoseconds.
const SWEEP_EVERY: i64 = super::budget::SECOND;
/// The key of the bucket that is shared by the scopes which find no room. No client's scope has it.
const OVERFLOW: &str = "\0overflow";

/// What is known of a provider's limits before it said anything.
///
/// # Examples
///
/// ```
/// use hookkeeper::permits::{Budget, HeaderOverrides, Profile};
///
/// let profile = Profile::new(Budget { per_second: 1.0, burst: 60 });
/// assert_eq!(profile.headers, HeaderOverrides::default());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// What each of its scopes may spend.
    pub budget: Budget,
    /// Headers that are called otherwise than the built-in rules say.
    pub headers: HeaderOverrides,
}

impl Profile {
    /// Returns a profile of the given budget, whose headers are as the built-in rules say.
    pub fn new(budget: Budget) -> Self {
        Self { budget, headers: HeaderOverrides::default() }
    }
}

/// Where every client's [`RateLimiter`] comes from. Cheap to clone; all clones share their buckets.
///
/// # Examples
///
/// ```
/// use hookkeeper::clock::Clock;
/// use hookkeeper::permits::{Lane, RateLimiterFactory};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let clock = Clock::system();
/// let factory = RateLimiterFactory::new(clock.clone());
/// let github = "github".parse().unwrap();
/// // One budget for each installation: that is what GitHub counts by.
/// let limiter = factory.limiter(&github, "installation-4711");
/// let permit = limiter.acquire(Lane::Live, clock.now()).await.unwrap();
/// # drop(permit);
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimiterFactory {
    clock: Clock,
    providers: Arc<Mutex<HashMap<ProviderId, Arc<Provider>>>>,
}

/// What the scopes of one provider share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    profile: ArcSwap<Compiled>,
    pub(super) unwritten: Unwritten,
}

/// A profile in the form that is worked with.
pub(super) struct Compiled {
    pub(super) rate: Rate,
    pub(super) headers: HeaderRules,
}

impl Compiled {
    fn of(provider: &ProviderId, profile: Profile) -> Self {
        let headers = HeaderRules::of(provider).overridden(profile.headers);
        Self { rate: profile.budget.into(), headers }
    }
}

impl Shared {
    pub(super) fn profile(&self) -> Guard<Arc<Compiled>> {
        self.profile.load()
    }
}

/// One provider's scopes.
pub(super) struct Provider {
    pub(super) shared: Arc<Shared>,
    scopes: Mutex<Scopes>,
}

#[derive(Default)]
struct Scopes {
    by_key: HashMap<Box<str>, Arc<Scope>>,
    swept_at: Option<i64>,
    /// Since when buckets fill that nobody knows of; full ones, where nothing was spent before.
    empty_at: Option<i64>,
}

impl RateLimiterFactory {
    /// Returns a factory without scopes.
    pub fn new(clock: Clock) -> Self {
        Self { clock, providers: Arc::default() }
    }

    /// Says what is known of a provider; its scopes go by it from now on. Without it, they have the default
    /// [`Budget`].
    pub fn register(&self, provider: &ProviderId, profile: Profile) {
        let compiled = Compiled::of(provider, profile);
        self.of(provider).shared.profile.store(Arc::new(compiled));
    }

    /// Returns the limiter of a provider's scope: what the provider counts calls by. The key is written to
    /// the log, so it is an id, never a credential.
    pub fn limiter(&self, provider: &ProviderId, scope: &str) -> RateLimiter {
        let provider = self.of(provider);
        let key = bounded(scope);
        RateLimiter::new(provider.scope(key.as_deref().unwrap_or(scope)))
    }

    /// Returns the permits of a provider, for whoever keeps what they know. What is learned is kept from now on,
    /// and must be taken with [`ProviderPermits::changed`].
    pub fn provider(&self, provider: &ProviderId) -> ProviderPermits {
        let provider = self.of(provider);
        provider.shared.unwritten.keep();
        ProviderPermits(provider)
    }

    fn of(&self, provider: &ProviderId) -> Arc<Provider> {
        let mut providers = self.providers.lock();
        if let Some(provider) = providers.get(provider) {
            return provider.clone();
        }
        let profile = ArcSwap::from_pointee(Compiled::of(provider, Profile::default()));
        let shared = Shared { clock: self.clock.clone(), profile, unwritten: Unwritten::default() };
        let new = Arc::new(Provider { shared: Arc::new(shared), scopes: Mutex::default() });
        providers.insert(provider.clone(), new.clone());
        new
    }
}

impl Provider {
    fn scope(&self, key: &str) -> Arc<Scope> {
        let now = nanos(self.shared.clock.now());
        let mut scopes = self.scopes.lock();
        if let Some(scope) = scopes.by_key.get(key) {
            return scope.clone();
        }
        let key = if scopes.make_room(now) { key } else { OVERFLOW };
        let rate = self.shared.profile().rate;
        let full_at = scopes.empty_at.map_or(i64::MIN, |at| at.saturating_add(rate.capacity()));
        let new = || Arc::new(Scope::new(key, self.shared.clone(), Bucket::new(rate, full_at)));
        scopes.by_key.entry(key.into()).or_insert_with(new).clone()
    }

    /// Has all buckets that are made from now on start empty at `now`.
    pub(super) fn start_empty(&self, now: i64) {
        self.scopes.lock().empty_at = Some(now);
    }

    /// Puts a scope as it was kept, unless there is one or no room.
    pub(super) fn restored(&self, key: &str, bucket: Bucket) -> Option<Arc<Scope>> {
        let mut scopes = self.scopes.lock();
        if scopes.by_key.contains_key(key) || scopes.by_key.len() >= SCOPES_MAX {
            return None;
        }
        let scope = Arc::new(Scope::new(key, self.shared.clone(), bucket));
        scopes.by_key.insert(key.into(), scope.clone());
        Some(scope)
    }

    /// Returns all scopes.
    pub(super) fn scopes(&self) -> Vec<Arc<Scope>> {
        self.scopes.lock().by_key.values().cloned().collect()
    }
}

impl Scopes {
    /// Tells whether there is room for one more, after those went that can.
    fn make_room(&mut self, now: i64) -> bool {
        if self.by_key.len() < SCOPES_MAX {
            return true;
        }
        if self.swept_at.is_some_and(|at| (at..at.saturating_add(SWEEP_EVERY)).contains(&now)) {
            return false;
        }
        self.swept_at = Some(now);
        // With the table locked, nobody gets hold of one that nobody holds.
        self.by_key
            .retain(|_, scope| Arc::strong_count(scope) > 1 || !scope.state.lock().bucket.is_full(now));
        self.by_key.len() < SCOPES_MAX
    }
}

/// Returns what stands for a key that is too long.
fn bounded(scope: &str) -> Option<String> {
    if scope.len() <= SCOPE_BYTES_MAX && !scope.starts_with('\0') {
        return None;
    }
    Some(Sha256::digest(scope.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
