//! The fold of what became of secrets: a timeline for each trigger, and which secrets are being replaced.

use std::collections::{BTreeMap, HashMap};

use super::keys::{ROTATION, SECRET_TIMES as TIMES, name_of_key, tagged};
use crate::event::{Timestamp, TriggerId};
use crate::event_log::codec::{DecodeError, SecretTimesV1, decode, micros, timestamp};
use crate::event_log::record::{SecretChange, SecretNews, SecretTimes};

/// Most secrets of one trigger whose times are kept; beyond it those go that were seen longest ago. Several years
/// of a secret that is replaced each month.
pub const SECRETS_KEPT_MAX: usize = 64;

/// A secret that is being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// When the new one took its place.
    pub at: Timestamp,
    /// Until when the old one is in force, whether the new one was seen or not.
    pub keep_until: Timestamp,
}

/// What is known of secrets.
#[derive(Debug, Default)]
pub(super) struct SecretStates {
    pub(super) times: HashMap<TriggerId, Vec<SecretTimes>>,
    pub(super) rotations: BTreeMap<String, Rotation>,
}

/// A row that a record changed; without a value it is to be removed.
pub(super) type ChangedRow = (Vec<u8>, Option<Vec<u8>>);

/// The prefixes of its rows.
pub(super) fn prefixes() -> [Vec<u8>; 2] {
    [vec![TIMES], vec![ROTATION]]
}

impl SecretStates {
    /// Takes a row of the table; tells whether it is one of these.
    pub(super) fn load(&mut self, key: &[u8], value: &[u8]) -> Result<bool, DecodeError> {
        let Some(name) = name_of_key(key) else { return Ok(false) };
        match key.first() {
            Some(&TIMES) => {
                let rows = decode::<Vec<SecretTimesV1<'_>>>(value)?;
                let times = rows.into_iter().map(SecretTimesV1::into_domain).collect::<Result<_, _>>()?;
                if let Ok(id) = name.parse() {
                    self.times.insert(id, times);
                }
            }
            Some(&ROTATION) => {
                let (at, keep_until) = decode::<(i64, i64)>(value)?;
                let rotation = Rotation { at: timestamp(at)?, keep_until: timestamp(keep_until)? };
                self.rotations.insert(name.to_owned(), rotation);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Folds a record.
    pub(super) fn apply(&mut self, news: SecretNews) -> ChangedRow {
        match news.change {
            SecretChange::Seen { trigger_id, secrets } => {
                let times = self.times.entry(trigger_id.clone()).or_default();
                secrets.into_iter().for_each(|seen| merge(times, seen));
                let rows: Vec<_> = times.iter().map(SecretTimesV1::of).collect();
                let value = postcard::to_stdvec(&rows).expect("rows serialize");
                (tagged(TIMES, trigger_id.as_str().as_bytes()), Some(value))
            }
            SecretChange::Rotated { name, keep_until } => {
                let row = (micros(news.at), micros(keep_until));
                let key = tagged(ROTATION, name.as_bytes());
                self.rotations.insert(name, Rotation { at: news.at, keep_until });
                (key, Some(postcard::to_stdvec(&row).expect("rows serialize")))
            }
            SecretChange::Retired { name } => {
                self.rotations.remove(&name);
                (tagged(ROTATION, name.as_bytes()), None)
            }
        }
    }
}

/// Adds what was seen to what is known: in whatever order, and however often, records come to the same.
fn merge(times: &mut Vec<SecretTimes>, seen: SecretTimes) {
    let same = |it: &&mut SecretTimes| it.name == seen.name && it.fingerprint == seen.fingerprint;
    if let Some(known) = times.iter_mut().find(same) {
        known.added_at = known.added_at.min(seen.added_at);
        known.first_success = [known.first_success, seen.first_success].into_iter().flatten().min();
        known.last_success = known.last_success.max(seen.last_success);
        (known.reference, known.index) = (seen.reference, seen.index);
        return;
    }
    times.push(seen);
    if times.len() > SECRETS_KEPT_MAX {
        let oldest = (0..times.len()).min_by_key(|at| times[*at].last_success.max(Some(times[*at].added_at)));
        times.remove(oldest.expect("it is not empty"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Fingerprint;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn times(fingerprint: u64, added: i64, success: Option<(i64, i64)>) -> SecretTimes {
        SecretTimes {
            name: "signing_secret".to_owned(),
            fingerprint: Fingerprint::from_bytes(fingerprint.to_be_bytes()),
            reference: format!("env:S{fingerprint}"),
            index: 0,
            added_at: at(added),
            first_success: success.map(|it| at(it.0)),
            last_success: success.map(|it| at(it.1)),
        }
    }

    fn seen(states: &mut SecretStates, secrets: Vec<SecretTimes>) -> ChangedRow {
        let change = SecretChange::Seen { trigger_id: "gh".parse().unwrap(), secrets };
        states.apply(SecretNews { at: at(0), change })
    }

    #[test]
    fn times_come_to_the_same_in_whatever_order_they_come() {
        let parts = [times(1, 5, None), times(1, 9, Some((20, 30))), times(1, 7, Some((10, 15)))];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut states = SecretStates::default();
            for index in order {
                seen(&mut states, vec![parts[index].clone()]);
                seen(&mut states, vec![parts[index].clone()]);
            }
            assert_eq!(states.times["gh"], [times(1, 5, Some((10, 30)))]);
        }
    }

    #[test]
    fn those_seen_longest_ago_give_way() {
        let mut states = SecretStates::default();
        seen(&mut states, vec![times(0, 0, Some((1, 1_000_000)))]);
        for number in 1..500 {
            seen(&mut states, vec![times(number, number as i64, None)]);
        }
        let kept = &states.times["gh"];
        assert_eq!(kept.len(), SECRETS_KEPT_MAX);
        assert_eq!(kept[0], times(0, 0, Some((1, 1_000_000))), "one that still verifies stays");
        assert_eq!(kept.last(), Some(&times(499, 499, None)));
    }

    #[test]
    fn rows_are_read_back() {
        let mut states = SecretStates::default();
        let rotated = SecretChange::Rotated { name: "gh/secret".to_owned(), keep_until: at(9) };
        let rows = [
            seen(&mut states, vec![times(1, 5, None), times(2, 6, Some((7, 8)))]),
            states.apply(SecretNews { at: at(1), change: rotated }),
        ];
        let mut other = SecretStates::default();
        for (key, value) in &rows {
            assert!(other.load(key, value.as_ref().unwrap()).unwrap());
        }
        assert!(!other.load(b"pgh", b"").unwrap());
        assert_eq!((&other.times, &other.rotations), (&states.times, &states.rotations));
        let retired = SecretChange::Retired { name: "gh/secret".to_owned() };
        assert_eq!(states.apply(SecretNews { at: at(2), change: retired }), (rows[1].0.clone(), None));
        assert!(states.rotations.is_empty());
    }
}
