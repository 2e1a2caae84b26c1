//! Changes the master key of a stopped server's folder: seals everything anew under another one.
//!
//! What is sealed opens at each moment, wherever the change is cut off: both keys are in force from before the
//! first thing is sealed anew until after the last one is on the device, and a change that broke off is
//! taken up again where it was. What the log held before stays in its history under the old key.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::admin::AUDIT_ADMIN;
use crate::clock::Clock;
use crate::event_log::record::{Audit, Record, Sealed};
use crate::event_log::{Log, Options};
use crate::quarantine;
use crate::secrets::{Keyring, Vault};

/// How long closing the log may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a change of the master key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// Secrets of the log that were sealed anew.
    pub secrets: usize,
    /// Files of the quarantine that were sealed anew.
    pub quarantined: usize,
    /// Names of secrets, and files of the quarantine, that open under no key that was given.
    pub lost: Vec<String>,
    /// Where the first key is.
    pub origin: String,
    /// Further keys are given from outside, and are of no use any more.
    pub has_more: bool,
}

/// How far a change of the master key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Both keys are in force.
    Begun,
    /// The log's secrets are sealed anew.
    Secrets,
    /// The quarantine is sealed anew, and everything is on the device.
    Quarantine,
    /// The old key is gone.
    Ended,
}

/// Seals everything in a data folder anew under another master key; `at` hears of each step.
///
/// # Errors
///
/// If a server runs on the folder, there is no second key to change to, or something cannot be written. All
/// secrets open as before then; doing it again goes on.
pub async fn rekey(data: &Path, mut at: impl FnMut(Step)) -> anyhow::Result<Rekeyed> {
    // First: whoever holds the log may seal.
    let log =
        Log::open(Options::new(data)).context("the master key is changed while the server is stopped")?;
    let ring = Keyring::begin_change(data)?;
    at(Step::Begun);
    let vault = Arc::new(Vault::with_ring(data, ring.clone()));
    let mut lost = Vec::new();
    let secrets = reseal_log(&log, &vault, &mut lost).await?;
    at(Step::Secrets);
    let resealed = quarantine::reseal(data, &vault)?;
    lost.extend(resealed.lost);
    // The folder is never flushed otherwise: what it lost was refused. Here it would be all of it.
    rustix::fs::sync();
    at(Step::Quarantine);
    let has_more = ring.end_change(data)?;
    at(Step::Ended);
    let detail = format!("{secrets} secrets and {} files of the quarantine", resealed.sealed);
    log.append_durable(vec![line("master_key_changed", detail)]).await?;
    log.close(Instant::now() + CLOSE_TIMEOUT).await;
    let origin = ring.origin().to_string();
    Ok(Rekeyed { secrets, quarantined: resealed.sealed, lost, origin, has_more })
}

/// Seals the log's secrets anew; returns how many once they are on the device.
async fn reseal_log(log: &Log, vault: &Vault, lost: &mut Vec<String>) -> anyhow::Result<usize> {
    let mut count = 0;
    for name in log.state().sealed_names() {
        let Some(sealed) = log.state().sealed(&name).filter(|sealed| !sealed.is_empty()) else { continue };
        match vault.reseal(&name, &sealed) {
            Ok(None) => {}
            Ok(Some(sealed)) => {
                let at = Clock::system().now();
                log.append_durable(vec![Record::Sealed(Sealed { name, at, sealed })]).await?;
                count += 1;
            }
            Err(error) => {
                tracing::warn!(%error, "a secret is left as it is");
                lost.push(name);
            }
        }
    }
    Ok(count)
}

fn line(code: &str, detail: String) -> Record {
    Record::Audit(Audit {
        topic: AUDIT_ADMIN.to_owned(),
        at: Clock::system().now(),
        trigger_id: None,
        peer: None,
        code: code.to_owned(),
        detail,
        count: 1,
    })
}
