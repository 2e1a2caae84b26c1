//! Named counters of a connector, shown where providers are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Most counters of one connector; what is counted under further names goes to [`OTHER_COUNTERS`].
pub const COUNTERS_MAX: usize = 32;
/// The counter of all names beyond [`COUNTERS_MAX`].
pub const OTHER_COUNTERS: &str = "other";

/// Counts what a connector does. Cheap to clone; the counts last as long as the process.
///
/// # Examples
///
/// ```
/// use hookkeeper::connector::ConnectorMetrics;
///
/// let metrics = ConnectorMetrics::default();
/// let refreshed = metrics.counter("tokens_refreshed");
/// refreshed.add(1);
/// metrics.counter("tokens_refreshed").add(1);
/// assert_eq!(metrics.counts(), [("tokens_refreshed", 2)].into());
/// ```
#[derive(Debug, Clone, Default)]
pub struct ConnectorMetrics(Arc<Mutex<BTreeMap<&'static str, Counter>>>);

/// One counter. Cheap to clone, and to add to from any thread.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl ConnectorMetrics {
    /// Returns the counter of a name, such as `tokens_refreshed`. Look it up once and keep it.
    pub fn counter(&self, name: &'static str) -> Counter {
        let mut counters = self.0.lock();
        let is_full = counters.len() >= COUNTERS_MAX && !counters.contains_key(name);
        counters.entry(if is_full { OTHER_COUNTERS } else { name }).or_default().clone()
    }

    /// Returns all counts by name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let count = |(name, counter): (&&'static str, &Counter)| (*name, counter.0.load(Ordering::Relaxed));
        self.0.lock().iter().map(count).collect()
    }
}

impl Counter {
    /// Adds to the count.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_beyond_the_bound_are_counted_together() {
        let metrics = ConnectorMetrics::default();
        let names: Vec<&'static str> = (0..100).map(|n| &*format!("counter_{n}").leak()).collect();
        names.iter().for_each(|name| metrics.counter(name).add(1));
        names.iter().for_each(|name| metrics.counter(name).add(1));
        let counts = metrics.counts();
        assert_eq!((counts.len(), counts["counter_0"]), (COUNTERS_MAX + 1, 2));
        assert_eq!(counts[OTHER_COUNTERS], 2 * (100 - COUNTERS_MAX as u64));
    }
}
