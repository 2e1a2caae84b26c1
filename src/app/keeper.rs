//! Follows secrets while the server runs: files that change, and secrets that were replaced and may go.
//!
//! One task that waits: for the folders of secret files, for word that a secret verified its first delivery
//! or was replaced, and for the time until which a replaced one is kept. What it finds changed it tells the
//! providers and functions, and a replaced secret goes only once its successor was seen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::functions::FunctionSecrets;
use crate::admin::AUDIT_ADMIN;
use crate::clock::Clock;
use crate::config::{Config, SecretRef};
use crate::event::{Fingerprint, Timestamp};
use crate::event_log::record::{Audit, Record, Sealed, SecretChange, SecretNews};
use crate::event_log::{Log, Rotation};
use crate::provider::{Providers, SecretSlot};
use crate::secrets::{FINGERPRINT_KEY, FileWatch, Fingerprints, Secret, Vault, previous_name};

/// How long a change of files may go on until they are read: programs write and rename several.
const SETTLE: Duration = Duration::from_millis(50);
/// How long it takes until something that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long the start waits for the key of fingerprints to be kept.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the keeper works with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) log: Log,
    pub(super) clock: Clock,
    pub(super) vault: Arc<Vault>,
    pub(super) providers: Arc<Providers>,
    pub(super) functions: Arc<FunctionSecrets>,
    /// The admin token, where there is one.
    pub(super) token: Option<(SecretRef, Arc<ArcSwap<Secret>>)>,
    /// Told when there may be something to do.
    pub(super) news: Arc<Notify>,
}

/// Makes sure that there is a key for fingerprints. Where it cannot be kept there are no timelines until the next
/// start, which costs no delivery.
pub(super) async fn keep_fingerprint_key(log: &Log, vault: &Vault, clock: &Clock) {
    let state = log.state();
    if state.sealed(FINGERPRINT_KEY).is_some()
        && vault.fingerprints(&|name: &str| state.sealed(name)).is_some()
    {
        return;
    }
    let made = Fingerprints::random().and_then(|made| vault.seal(FINGERPRINT_KEY, made.key()));
    let kept = async {
        let sealed = Sealed { name: FINGERPRINT_KEY.to_owned(), at: clock.now(), sealed: made? };
        log.append_durable(vec![Record::Sealed(sealed)]).await.map(drop).map_err(anyhow::Error::from)
    };
    // A disk without room must not keep the server from starting.
    let kept = tokio::time::timeout(KEEP_TIMEOUT, kept).await;
    if let Err(error) = kept.map_err(anyhow::Error::from).flatten() {
        tracing::warn!(%error, "it is not noted when secrets verify: the key for that could not be kept");
    }
}

/// Returns the files that a configuration's references name.
pub(super) fn secret_files(config: &Config) -> Vec<PathBuf> {
    let of_triggers = config
        .triggers
        .iter()
        .flat_map(|trigger| trigger.secrets.values().flatten().chain(&trigger.public_keys));
    let of_functions = config.functions.iter().flat_map(|function| &function.signing_secret);
    let all = of_triggers.chain(of_functions).chain(&config.server.admin_token);
    let files = all.filter_map(|reference| match reference {
        SecretRef::File(path) => Some(path.clone()),
        SecretRef::Env(_) | SecretRef::Store(_) | SecretRef::Literal(_) => None,
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.dedup();
    files
}

/// Starts the keeper; it ends when the handle is aborted.
pub(super) fn start(parts: Parts, files: Vec<PathBuf>) -> JoinHandle<()> {
    actix::spawn(async move {
        let mut watch = FileWatch::new(files);
        loop {
            let wake_at = parts.retire().await;
            let due = async {
                match wake_at {
                    Some(at) => parts.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = parts.news.notified() => {}
                () = due => {}
                () = watch.changed() => {
                    tokio::time::sleep(SETTLE).await;
                    watch.follow();
                    parts.refresh().await;
                }
            }
        }
    })
}

impl Parts {
    /// Has everybody resolve secrets anew. What cannot be read goes on as it was.
    pub(super) async fn refresh(&self) {
        for provider in self.providers.iter() {
            if let Err(error) = provider.refresh().await {
                tracing::warn!(provider = %provider.id(), %error, "provider takes the changed secret when it is rebuilt");
            }
        }
        let parts = self.clone();
        // Reading files blocks.
        let read = tokio::task::spawn_blocking(move || {
            let state = parts.log.state();
            let sealed = |name: &str| state.sealed(name);
            parts.functions.refresh(&parts.vault, &sealed);
            if let Some((reference, token)) = &parts.token {
                match parts.vault.resolve(reference, &sealed) {
                    Ok(secret) => token.store(Arc::new(secret)),
                    Err(error) => tracing::warn!(%error, "the admin token stays as it was"),
                }
            }
        });
        if let Err(error) = read.await {
            tracing::error!(%error, "could not read changed secrets");
        }
        self.news.notify_one();
    }

    /// Retires replaced secrets that may go; returns when to look again, whatever happens until then.
    async fn retire(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let mut wake_at: Option<Timestamp> = None;
        let mut retired = false;
        for (name, rotation) in self.log.state().rotations() {
            let at = match self.verdict(&name, &rotation, now) {
                Verdict::Wait => continue,
                Verdict::Until(at) => at,
                Verdict::Retire => match self.log.append_durable(retirement(&name, now)).await {
                    Ok(_) => {
                        tracing::info!(name, "a replaced secret is in force no more: its successor was seen");
                        retired = true;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(name, %error, "a replaced secret could not be retired");
                        now.checked_add(RETRY_AFTER).unwrap_or(now)
                    }
                },
            };
            wake_at = Some(wake_at.map_or(at, |earliest| earliest.min(at)));
        }
        if retired {
            // It tells itself, and comes back here.
            self.refresh().await;
        }
        wake_at
    }

    fn verdict(&self, name: &str, rotation: &Rotation, now: Timestamp) -> Verdict {
        let reference = SecretRef::Store(name.to_owned());
        let state = self.log.state();
        let sealed = |name: &str| state.sealed(name);
        // What cannot be told is waited for.
        let Some(fingerprints) = self.vault.fingerprints(&sealed) else { return Verdict::Wait };
        let Ok(current) = self.vault.resolve(&reference, &sealed) else { return Verdict::Wait };
        let current = fingerprints.of(&current);
        let reference = reference.to_string();
        let mut uses = Vec::new();
        for snapshot in self.providers.iter().flat_map(|provider| provider.triggers().collect::<Vec<_>>()) {
            let tells = snapshot.tells_secrets();
            let slots = snapshot.secrets.iter().filter(|slot| slot.reference == reference && slot.is_main());
            let known = state.secret_times(&snapshot.trigger_id);
            let success = |slot: &SecretSlot| {
                let of_log =
                    known.iter().find(|it| it.name == slot.name && it.fingerprint == slot.fingerprint);
                slot.last_success().max(of_log.and_then(|it| it.last_success))
            };
            uses.extend(
                slots.filter(|slot| tells && !slot.is_replaced).map(|slot| (slot.fingerprint, success(slot))),
            );
        }
        verdict(rotation, current, &uses, now)
    }
}

/// What becomes of a secret that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It stays until something happens.
    Wait,
    /// It stays until then at least.
    Until(Timestamp),
    /// It may go.
    Retire,
}

/// Decides on a replaced secret. Each use is that of a trigger: which secret it takes for the current one, and when
/// that verified last. It stays until its successor verified a delivery of each of these triggers, and for the
/// time that it was given.
fn verdict(
    rotation: &Rotation,
    current: Fingerprint,
    uses: &[(Fingerprint, Option<Timestamp>)],
    now: Timestamp,
) -> Verdict {
    let is_seen = |(fingerprint, success): &(Fingerprint, Option<Timestamp>)| {
        *fingerprint == current && *success >= Some(rotation.at)
    };
    if !uses.iter().all(is_seen) {
        Verdict::Wait
    } else if now < rotation.keep_until {
        Verdict::Until(rotation.keep_until)
    } else {
        Verdict::Retire
    }
}

/// Returns the records with which a replaced secret goes.
fn retirement(name: &str, at: Timestamp) -> Vec<Record> {
    let line = Audit {
        topic: AUDIT_ADMIN.to_owned(),
        at,
        trigger_id: None,
        peer: None,
        code: "secret_retired".to_owned(),
        detail: format!("{name}: the secret that was replaced is in force no more; its successor was seen"),
        count: 1,
    };
    let change = SecretChange::Retired { name: name.to_owned() };
    vec![
        Record::Secret(SecretNews { at, change }),
        Record::Sealed(Sealed { name: previous_name(name), at, sealed: bytes::Bytes::new() }),
        Record::Audit(line),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_goes_once_its_successor_was_seen_everywhere_and_its_time_is_over() {
        let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let rotation = Rotation { at: at(100), keep_until: at(200) };
        let (new, old) = (Fingerprint::from_bytes([1; 8]), Fingerprint::from_bytes([2; 8]));
        let check = |uses: &[(Fingerprint, Option<i64>)], now, expected| {
            let uses: Vec<_> = uses.iter().map(|(which, success)| (*which, success.map(at))).collect();
            assert_eq!(verdict(&rotation, new, &uses, at(now)), expected, "{uses:?} {now}");
        };
        check(&[(new, None)], 1_000, Verdict::Wait);
        check(&[(new, Some(150))], 199, Verdict::Until(at(200)));
        check(&[(new, Some(150))], 200, Verdict::Retire);
        check(&[(new, Some(150)), (new, None)], 200, Verdict::Wait);
        check(&[(new, Some(99))], 200, Verdict::Wait);
        // A trigger that could not take the new one verifies with the old one still.
        check(&[(old, Some(150))], 200, Verdict::Wait);
        // Nobody can see it: the time alone counts.
        check(&[], 199, Verdict::Until(at(200)));
        check(&[], 200, Verdict::Retire);
    }
}
