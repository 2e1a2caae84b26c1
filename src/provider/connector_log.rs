//! The lines that a connector leaves for operators, in a topic of its own, and bounded: what a connector
//! writes for every request must not fill the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::connector::ConnectorLog;
use crate::event::ProviderId;
use crate::event_log::Log;
use crate::event_log::record::{Audit, Record};
use crate::flow::TokenBucket;

/// Lines per second that a connector may write.
const LINES_PER_SECOND: f64 = 1.0;
/// Such lines at once.
const LINES_BURST: u32 = 100;
/// Longest detail of a line; the rest is cut off.
const DETAIL_BYTES_MAX: usize = 1_024;
/// How long counted lines wait until they are written as one.
const COUNTED_AFTER: Duration = Duration::from_secs(60);

/// The log of one provider's connector. It outlives the connector and its actor.
pub(super) struct BoundedLog {
    log: Log,
    clock: Clock,
    topic: String,
    runtime: Handle,
    lines: TokenBucket,
    counted: AtomicU32,
    /// Somebody waits to write what was counted.
    due: AtomicBool,
}

impl BoundedLog {
    /// Writes on the runtime that this is called on.
    pub(super) fn new(log: Log, clock: Clock, provider: &ProviderId) -> Arc<Self> {
        Arc::new(Self {
            log,
            clock,
            topic: format!("connector.{provider}"),
            runtime: Handle::current(),
            lines: TokenBucket::new(LINES_PER_SECOND, LINES_BURST),
            counted: AtomicU32::new(0),
            due: AtomicBool::new(false),
        })
    }

    async fn write(&self, code: &str, detail: String, count: u32) {
        let line = Audit {
            topic: self.topic.clone(),
            at: self.clock.now(),
            trigger_id: None,
            peer: None,
            code: code.to_owned(),
            detail,
            count,
        };
        if let Err(error) = self.log.append(vec![Record::Audit(line)]).await {
            tracing::warn!(topic = self.topic, %error, "could not write a connector's line");
        }
    }

    /// Writes the number of lines that were left out, if there are any.
    pub(super) async fn flush(&self) {
        // First: what is counted from here on asks anew.
        self.due.store(false, Ordering::SeqCst);
        let count = self.counted.swap(0, Ordering::SeqCst);
        if count > 0 {
            self.write("lines_left_out", "the connector wrote more lines than are kept".to_owned(), count)
                .await;
        }
    }
}

/// What the connector holds.
pub(super) struct Lines(pub(super) Arc<BoundedLog>);

impl ConnectorLog for Lines {
    fn append(&self, code: &'static str, mut detail: String) {
        let log = self.0.clone();
        if log.lines.try_take(log.clock.now().as_microsecond()).is_ok() {
            detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
            self.0.runtime.spawn(async move { log.write(code, detail, 1).await });
            return;
        }
        log.counted.fetch_add(1, Ordering::SeqCst);
        if !log.due.swap(true, Ordering::SeqCst) {
            self.0.runtime.spawn(async move {
                tokio::time::sleep(COUNTED_AFTER).await;
                log.flush().await;
            });
        }
    }
}
