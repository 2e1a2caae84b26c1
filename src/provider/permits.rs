//! Keeps in the log what the permits of one provider know: a task that the provider's actor starts, and that
//! ends with it. The buckets live beside the actor, and survive it.

use crate::clock::Clock;
use crate::event::{PermitsChange, ProviderId};
use crate::event_log::record::{Permits, Record};
use crate::event_log::{self, Log};
use crate::permits::{Known, ProviderPermits};

use super::Deps;

/// Pause after the log did not take what is known.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// What a provider's permits are kept by.
#[derive(Clone)]
pub(super) struct Keeper {
    log: Log,
    clock: Clock,
    provider: ProviderId,
    permits: ProviderPermits,
}

impl Keeper {
    pub(super) fn new(deps: &Deps) -> Self {
        let provider = deps.entry.id.clone();
        let permits = deps.permits.provider(&provider);
        Self { log: deps.log.clone(), clock: deps.clock.clone(), provider, permits }
    }

    /// Takes back what was kept. For the start of the process.
    pub(super) fn restore(&self) {
        let known = self.log.state().permits(&self.provider);
        self.permits.restore(Known { open: known.open, cool_downs: known.scopes.into_values().collect() });
    }

    /// Keeps what there is to be kept, until it is dropped.
    pub(super) async fn run(self) {
        // An actor that was here before may have taken something and not written it.
        self.permits.again();
        loop {
            let change = self.permits.changed().await;
            match self.log.append(vec![self.record(change)]).await {
                Ok(()) => {}
                Err(event_log::Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(provider = %self.provider, %error, "rate limits could not be written; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                    self.permits.again();
                }
            }
        }
    }

    /// Writes what is known at the end, so that the next start assumes nothing.
    pub(super) async fn close(&self) -> Result<(), event_log::Error> {
        let records = self.permits.close().into_iter().map(|change| self.record(change)).collect();
        self.log.append(records).await
    }

    fn record(&self, change: PermitsChange) -> Record {
        Record::Permits(Permits { at: self.clock.now(), provider: self.provider.clone(), change })
    }
}

#[cfg(test)]
mod tests;
