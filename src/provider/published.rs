//! What all lives of a provider's actor share: the snapshots that requests read, and how far the
//! bindings that were asked for are in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::connector_log::BoundedLog;
use super::{Deps, TriggerSnapshot};
use crate::connector::{Connector, ConnectorMetrics};

/// How long who changed a secret waits until it is in force. A connector that takes longer is activated
/// all the same.
const IN_FORCE_WAIT: Duration = Duration::from_secs(5);

/// The published state of one provider.
pub(super) struct Published {
    /// One for each trigger, in the order of [`Deps::triggers`].
    snapshots: Vec<ArcSwap<TriggerSnapshot>>,
    /// Where the connector leaves its lines.
    log: Arc<BoundedLog>,
    /// What the connector counts.
    metrics: ConnectorMetrics,
    /// The connector that was begun last.
    begun: Mutex<Option<Arc<dyn Connector>>>,
    /// The number of the last request to look at the bindings anew; the first is the start's.
    wanted: watch::Sender<u64>,
    /// What failed is to be tried again before its pause is over.
    at_once: AtomicBool,
    /// The number of the last request after which they were looked at, whatever came of it.
    done: watch::Sender<u64>,
}

impl Published {
    /// Returns the state of a provider whose actor has not started yet.
    pub(super) fn new(deps: &Deps) -> Self {
        let snapshot =
            |(trigger, fixed): &(Arc<_>, Arc<_>)| ArcSwap::from_pointee(TriggerSnapshot::new(trigger, fixed));
        Self {
            snapshots: deps.triggers.iter().map(snapshot).collect(),
            log: BoundedLog::new(deps.log.clone(), deps.clock.clone(), &deps.entry.id),
            metrics: ConnectorMetrics::default(),
            begun: Mutex::default(),
            wanted: watch::Sender::new(1),
            at_once: AtomicBool::new(false),
            done: watch::Sender::new(0),
        }
    }

    /// Returns a trigger's snapshot.
    pub(super) fn load(&self, index: usize) -> Guard<Arc<TriggerSnapshot>> {
        self.snapshots[index].load()
    }

    /// Returns all snapshots.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<TriggerSnapshot>> + '_ {
        self.snapshots.iter().map(ArcSwap::load_full)
    }

    /// Publishes a trigger's snapshot with a change. Only the provider's actor calls it.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut TriggerSnapshot)) {
        let mut snapshot = TriggerSnapshot::clone(&self.snapshots[index].load());
        change(&mut snapshot);
        self.snapshots[index].store(Arc::new(snapshot));
    }

    /// Returns where the connector leaves its lines.
    pub(super) fn log(&self) -> &Arc<BoundedLog> {
        &self.log
    }

    /// Returns what the connector counts.
    pub(super) fn metrics(&self) -> &ConnectorMetrics {
        &self.metrics
    }

    /// Says that the provider stops.
    pub(super) fn drain(&self) {
        (0..self.snapshots.len()).for_each(|index| self.update(index, |it| it.is_draining = true));
    }

    /// Notes a connector that was begun; returns the one before it.
    pub(super) fn begin(&self, connector: Arc<dyn Connector>) -> Option<Arc<dyn Connector>> {
        self.begun.lock().replace(connector)
    }

    /// Returns the connector that was begun last.
    pub(super) fn connector(&self) -> Option<Arc<dyn Connector>> {
        self.begun.lock().clone()
    }

    /// Takes the connector that was begun last.
    pub(super) fn take_begun(&self) -> Option<Arc<dyn Connector>> {
        self.begun.lock().take()
    }

    /// Asks for the bindings to be looked at anew; returns the request's number.
    pub(super) fn request(&self) -> u64 {
        self.wanted.send_modify(|number| *number += 1);
        *self.wanted.borrow()
    }

    /// Has the next look try what failed, whatever pause is left.
    pub(super) fn end_pause(&self) {
        self.at_once.store(true, Ordering::Release);
    }

    /// Tells whether the pause after a failure was ended, once.
    pub(super) fn is_pause_ended(&self) -> bool {
        self.at_once.swap(false, Ordering::AcqRel)
    }

    /// Returns the numbers of requests, as they come.
    pub(super) fn requests(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// Says that the bindings were looked at after this request.
    pub(super) fn done(&self, request: u64) {
        self.done.send_modify(|done| *done = request.max(*done));
    }

    /// Returns what tells when the bindings were looked at.
    pub(super) fn looks(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Waits until the bindings were looked at after this request, or for long enough.
    pub(super) async fn in_force(&self, request: u64) {
        let mut done = self.done.subscribe();
        let _ = tokio::time::timeout(IN_FORCE_WAIT, done.wait_for(|done| *done >= request)).await;
    }

    /// Waits until the first activation has ended, whatever came of it.
    pub(super) async fn settled(&self) {
        let _ = self.done.subscribe().wait_for(|done| *done > 0).await;
    }
}
