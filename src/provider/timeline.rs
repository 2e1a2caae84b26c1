//! Which secret of a trigger verifies deliveries, and since when.
//!
//! Workers leave the time in a [`SecretUse`], which costs them a look at two numbers; at most once a minute,
//! and at the stop, the actor writes what is new to the log. A kill loses a minute of it, at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::published::Published;
use super::settings::TriggerSecret;
use super::{Deps, TriggerSnapshot};
use crate::catalog::SIGNING_SECRET;
use crate::event::{Fingerprint, Timestamp};
use crate::event_log::record::{Record, SecretChange, SecretNews, SecretTimes};
use crate::secrets::Fingerprints;

/// How exactly the time of a success is kept, in milliseconds: workers do not write to the same place for every
/// delivery.
const RESOLUTION_MS: i64 = 1_000;

/// A secret that a trigger verifies with.
#[derive(Debug, Clone)]
pub struct SecretSlot {
    /// Its name in the provider's entry.
    pub name: String,
    /// The reference that led to it, such as `env:NAME`.
    pub reference: String,
    /// Whether another one took its place, and it stays in force beside that.
    pub is_replaced: bool,
    /// Its place in the list of its name, 0 being the current one.
    pub index: u32,
    /// Which secret it is.
    pub fingerprint: Fingerprint,
    /// Shared by all snapshots that have the secret.
    usage: Arc<SecretUse>,
}

/// How a secret was used.
#[derive(Debug, Default)]
struct SecretUse {
    first_ms: AtomicI64,
    last_ms: AtomicI64,
    /// There is news that the log has not.
    has_news: AtomicBool,
    /// The log has it, as it is now.
    is_known: AtomicBool,
    /// The log has a success of it.
    is_proven: AtomicBool,
}

/// Whether the actor is to hear of a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// It knows already.
    Nothing,
    /// In a while is soon enough.
    News,
    /// It is the secret's first success ever.
    First,
}

impl SecretSlot {
    /// Notes that a delivery verified.
    pub(super) fn succeeded(&self, at: Timestamp) -> Tell {
        let (usage, at) = (&*self.usage, at.as_millisecond());
        if usage.has_news.load(Ordering::Relaxed)
            && at < usage.last_ms.load(Ordering::Relaxed) + RESOLUTION_MS
        {
            return Tell::Nothing;
        }
        usage.last_ms.fetch_max(at, Ordering::Relaxed);
        let _ = usage.first_ms.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
        match usage.has_news.swap(true, Ordering::AcqRel) {
            true => Tell::Nothing,
            false if usage.is_proven.load(Ordering::Relaxed) => Tell::News,
            false => Tell::First,
        }
    }

    /// The actor could not be told: the next success tries again.
    pub(super) fn not_told(&self) {
        self.usage.has_news.store(false, Ordering::Release);
    }

    /// Tells whether it is of the list that deliveries verify with.
    pub fn is_main(&self) -> bool {
        self.name == SIGNING_SECRET
    }

    /// Returns when a delivery last verified with it since the start.
    pub fn last_success(&self) -> Option<Timestamp> {
        time(&self.usage.last_ms)
    }

    /// Takes what the log has not yet, if anything.
    fn take_news(&self, now: Timestamp) -> Option<SecretTimes> {
        let (usage, news) = (&*self.usage, self.usage.has_news.swap(false, Ordering::AcqRel));
        let is_known = usage.is_known.swap(true, Ordering::Relaxed);
        if !news && is_known {
            return None;
        }
        let (first_success, last_success) = (time(&usage.first_ms), self.last_success());
        usage.is_proven.fetch_or(last_success.is_some(), Ordering::Relaxed);
        Some(SecretTimes {
            name: self.name.clone(),
            fingerprint: self.fingerprint,
            reference: self.reference.clone(),
            index: self.index,
            // The log keeps the earliest one.
            added_at: now,
            first_success,
            last_success,
        })
    }
}

fn time(ms: &AtomicI64) -> Option<Timestamp> {
    let ms = ms.load(Ordering::Relaxed);
    (ms > 0).then(|| Timestamp::from_millisecond(ms).ok()).flatten()
}

/// Returns the slots of a trigger's secrets, those of the main list in front and in its order: the index with which a
/// delivery verified finds its slot. What the snapshot before has of the same secrets goes on.
pub(super) fn slots(
    secrets: &[TriggerSecret],
    before: &[SecretSlot],
    fingerprints: &Fingerprints,
    known: &[SecretTimes],
) -> Vec<SecretSlot> {
    let (main, other): (Vec<_>, Vec<_>) = secrets.iter().partition(|secret| secret.name == SIGNING_SECRET);
    let slot = |found: &TriggerSecret| {
        let fingerprint = fingerprints.of(&found.secret);
        let same = |it: &&SecretSlot| it.name == found.name && it.fingerprint == fingerprint;
        let usage = before.iter().find(same).map_or_else(Arc::default, |slot| slot.usage.clone());
        let known = known.iter().find(|it| it.name == found.name && it.fingerprint == fingerprint);
        let is_known = known.is_some_and(|it| it.index == found.index && it.reference == found.reference);
        usage.is_known.store(is_known, Ordering::Relaxed);
        usage.is_proven.fetch_or(known.is_some_and(|it| it.first_success.is_some()), Ordering::Relaxed);
        SecretSlot {
            name: found.name.clone(),
            reference: found.reference.clone(),
            is_replaced: found.is_replaced,
            index: found.index,
            fingerprint,
            usage,
        }
    };
    main.into_iter().chain(other).map(slot).collect()
}

/// Takes what the log has not yet of all triggers' secrets, a record for each trigger.
pub(super) fn news(triggers: impl Iterator<Item = Arc<TriggerSnapshot>>, now: Timestamp) -> Vec<Record> {
    let of_trigger = |snapshot: Arc<TriggerSnapshot>| {
        let secrets: Vec<_> = snapshot.secrets.iter().filter_map(|slot| slot.take_news(now)).collect();
        let trigger_id = snapshot.trigger_id.clone();
        let change = SecretChange::Seen { trigger_id, secrets };
        let is_news = matches!(&change, SecretChange::Seen { secrets, .. } if !secrets.is_empty());
        is_news.then_some(Record::Secret(SecretNews { at: now, change }))
    };
    triggers.filter_map(of_trigger).collect()
}

/// Writes what is new of the secrets' use, and tells who waits for it.
pub(super) async fn write(deps: Deps, published: Arc<Published>) {
    let records = news(published.all(), deps.clock.now());
    if records.is_empty() {
        return;
    }
    match deps.log.append_durable(records).await {
        Ok(_) => deps.secret_news.notify_one(),
        Err(error) => tracing::warn!(%error, "could not write when secrets were used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    fn found(secret: &str, name: &str, index: u32) -> TriggerSecret {
        TriggerSecret {
            name: name.to_owned(),
            reference: format!("env:{secret}"),
            is_replaced: false,
            index,
            secret: Secret::new(secret),
        }
    }

    #[test]
    fn the_index_of_a_delivery_finds_the_slot_of_its_secret() {
        let fingerprints = Fingerprints::random().unwrap();
        let secrets =
            [found("c", "client_id", 0), found("a", SIGNING_SECRET, 0), found("b", SIGNING_SECRET, 1)];
        let slots = slots(&secrets, &[], &fingerprints, &[]);
        let names: Vec<_> = slots.iter().map(|slot| (slot.reference.as_str(), slot.index)).collect();
        assert_eq!(names, [("env:a", 0), ("env:b", 1), ("env:c", 0)]);
    }

    #[test]
    fn the_actor_hears_of_the_first_success_and_of_one_each_time_it_wrote() {
        let fingerprints = Fingerprints::random().unwrap();
        let slot = slots(&[found("a", SIGNING_SECRET, 0)], &[], &fingerprints, &[]).remove(0);
        let added = slot.take_news(at(0)).unwrap();
        assert_eq!((added.added_at, added.first_success), (at(0), None));
        assert_eq!(slot.take_news(at(1)), None, "there is no news");
        assert_eq!(slot.succeeded(at(10)), Tell::First);
        for ms in 11..5_000 {
            assert_eq!(slot.succeeded(at(ms)), Tell::Nothing);
        }
        let seen = slot.take_news(at(5_000)).unwrap();
        assert_eq!(seen.first_success, Some(at(10)));
        assert!(seen.last_success.unwrap() > at(5_000 - RESOLUTION_MS - 1));
        assert_eq!(slot.succeeded(at(6_000)), Tell::News);
        // A full mailbox loses nothing.
        slot.not_told();
        assert_eq!(slot.succeeded(at(6_001)), Tell::News);
        assert_eq!(slot.take_news(at(7_000)).unwrap().last_success, Some(at(6_001)));
    }

    #[test]
    fn a_secret_goes_on_where_it_was_in_a_later_snapshot_and_after_a_restart() {
        let fingerprints = Fingerprints::random().unwrap();
        let before = slots(&[found("a", SIGNING_SECRET, 0)], &[], &fingerprints, &[]);
        before[0].succeeded(at(10));
        let known = before[0].take_news(at(20)).unwrap();
        // A new one is put in front.
        let secrets = [found("new", SIGNING_SECRET, 0), found("a", SIGNING_SECRET, 1)];
        let after = slots(&secrets, &before, &fingerprints, std::slice::from_ref(&known));
        assert_eq!((after[0].last_success(), after[1].last_success()), (None, Some(at(10))));
        assert!(after[0].take_news(at(30)).is_some() && after[1].take_news(at(30)).is_some(), "it moved");
        let restarted = slots(&[found("a", SIGNING_SECRET, 0)], &[], &fingerprints, &[known]);
        assert_eq!(restarted[0].take_news(at(40)), None);
        assert_eq!(restarted[0].succeeded(at(50)), Tell::News, "its first success is known");
    }
}
