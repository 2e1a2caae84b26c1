//! Secrets as they are used: what leads to them, and when they verified deliveries. Never their values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{View, shown, whole};
use crate::admin::Problem;
use crate::config::{Config, SecretRef, Trigger, is_store_name};
use crate::event::Timestamp;
use crate::event_log::record::SecretTimes;
use crate::provider::{Activation, LastGood, TriggerSecrets, trigger_secrets};

/// How long after its last success a secret that is not the current one counts as in use.
const IN_USE_FOR: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// One secret, as it is listed.
#[derive(Debug, Clone, Default)]
struct Item {
    trigger: Option<String>,
    function: Option<String>,
    /// The provider that is called with it.
    client: Option<String>,
    name: String,
    reference: String,
    /// `current`, `previous` or `unused`; nothing where that is not known.
    state: Option<&'static str>,
    /// Another secret took its place under the same reference.
    is_replaced: bool,
    keep_until: Option<Timestamp>,
    times: Option<SecretTimes>,
    problem: Option<String>,
    warnings: Vec<String>,
}

impl Item {
    fn last(&self) -> Option<Timestamp> {
        self.times.as_ref().and_then(|times| times.last_success)
    }

    fn into_json(self) -> Value {
        let times = self.times.as_ref();
        json!({
            "trigger": self.trigger,
            "function": self.function,
            "client": self.client,
            "name": self.name,
            "reference": self.reference,
            "state": self.state,
            "replaced": self.is_replaced,
            "keep_until": self.keep_until,
            "fingerprint": times.map(|times| times.fingerprint.to_string()),
            "added_at": times.map(|times| times.added_at),
            "first_success_at": times.and_then(|times| times.first_success),
            "last_success_at": self.last(),
            "problem": self.problem,
            "warnings": self.warnings,
        })
    }
}

impl View {
    /// Lists secrets: those of triggers, functions and clients, and those that are kept and nobody refers to.
    pub(super) fn secrets(&self) -> Value {
        let mut items = Vec::new();
        if let Some(config) = self.config.as_deref() {
            for trigger in &config.triggers {
                items.extend(self.secrets_of_trigger(trigger));
            }
            items.extend(self.secrets_without_trigger(config));
        }
        let is_listed = |name: &String| items.iter().any(|item| item.reference == format!("store:{name}"));
        let names = self.log.state().sealed_names();
        let unused =
            names.into_iter().filter(|name| is_store_name(name) && !is_listed(name)).map(|name| Item {
                reference: format!("store:{name}"),
                state: self.config.as_ref().map(|_| "unused"),
                name,
                ..Item::default()
            });
        let unused: Vec<_> = unused.collect();
        items.extend(unused);
        whole(items.into_iter().map(Item::into_json).collect())
    }

    /// Tells whether the running server takes a trigger's deliveries, which it does only with every secret that the
    /// configuration names, found now or before; nothing of a server that does not run.
    fn is_active(&self, trigger: &Trigger) -> Option<bool> {
        let statuses = self.runtime.as_ref()?.triggers();
        let status = statuses.iter().find(|status| status.id == trigger.id)?;
        Some(matches!(status.activation, Activation::Active | Activation::Paused))
    }

    fn secrets_of_trigger(&self, trigger: &Trigger) -> Vec<Item> {
        let Some(entry) = self.catalog.get(trigger.provider.as_str()) else { return Vec::new() };
        let state = self.log.state();
        let sealed = |name: &str| state.sealed(name);
        let TriggerSecrets { found, unresolved } =
            trigger_secrets(entry, trigger, &self.vault, &sealed, &LastGood::default());
        let times = self.times(trigger);
        let rotations = state.rotations();
        let base = || Item { trigger: Some(trigger.id.to_string()), ..Item::default() };
        let fingerprints = self.vault.fingerprints(&sealed);
        let mut items = Vec::new();
        for secret in found {
            let fingerprint = fingerprints.map(|fingerprints| fingerprints.of(&secret.secret));
            let same = |it: &&SecretTimes| it.name == secret.name && Some(it.fingerprint) == fingerprint;
            let kept = secret.reference.strip_prefix("store:");
            let rotation = kept.and_then(|name| rotations.get(name)).filter(|_| secret.is_replaced);
            items.push(Item {
                state: Some(if secret.index == 0 { "current" } else { "previous" }),
                is_replaced: secret.is_replaced,
                keep_until: rotation.map(|rotation| rotation.keep_until),
                times: times.iter().find(same).cloned(),
                name: secret.name,
                reference: secret.reference,
                ..base()
            });
        }
        let served_on = match self.is_active(trigger) {
            Some(true) => "what it was before goes on serving",
            Some(false) => "until it can, deliveries get 503",
            None => "as seen from here",
        };
        for missing in unresolved {
            let is_it = |reference: &SecretRef| reference.to_string() == missing.reference;
            let list = trigger.secrets.get(&missing.name).map(Vec::as_slice).unwrap_or_default();
            let is_current = list.first().is_none_or(is_it);
            let of_reference =
                |it: &&SecretTimes| it.name == missing.name && it.reference == missing.reference;
            items.push(Item {
                state: Some(if is_current { "current" } else { "previous" }),
                times: times.iter().filter(of_reference).max_by_key(|it| it.added_at).cloned(),
                warnings: vec![format!("it cannot be had: {}; {served_on}", missing.why)],
                problem: Some(missing.why),
                name: missing.name,
                reference: missing.reference,
                ..base()
            });
        }
        let warnings: Vec<_> = items.iter().map(|item| warning(item, &items, self.clock.now())).collect();
        for (item, warning) in items.iter_mut().zip(warnings) {
            item.warnings.extend(warning);
        }
        items
    }

    /// Returns when a trigger's secrets verified: what the log has, and what a running server has not written yet.
    fn times(&self, trigger: &Trigger) -> Vec<SecretTimes> {
        let mut times = self.log.state().secret_times(&trigger.id);
        let live = self.runtime.as_ref().map(|runtime| runtime.secret_successes(&trigger.id));
        for (fingerprint, at) in live.unwrap_or_default() {
            let same = |it: &&mut SecretTimes| {
                it.fingerprint == fingerprint && it.name == crate::catalog::SIGNING_SECRET
            };
            if let Some(known) = times.iter_mut().find(same) {
                known.first_success = known.first_success.or(Some(at));
                known.last_success = known.last_success.max(Some(at));
            }
        }
        times
    }

    /// Lists the secrets of functions, clients and of the server itself. Nobody tells with which of them it verified.
    fn secrets_without_trigger(&self, config: &Config) -> Vec<Item> {
        let base = Item::default;
        let functions = config.functions.iter().flat_map(|function| {
            let of = Item { function: Some(function.id.to_string()), ..base() };
            self.in_order(of, "signing_secret", &function.signing_secret)
        });
        let clients = config.clients.iter().flat_map(|client| {
            let of = move || Item { client: Some(client.provider.to_string()), ..base() };
            client.secrets.iter().flat_map(move |(name, list)| self.in_order(of(), name, list))
        });
        let token = self.in_order(base(), "admin_token", config.server.admin_token.as_slice());
        functions.chain(clients).chain(token).collect()
    }

    /// Returns one user's secret of a name: the first reference of the list is the current one.
    fn in_order(&self, of: Item, name: &str, list: &[SecretRef]) -> Vec<Item> {
        let state = self.log.state();
        let sealed = |name: &str| state.sealed(name);
        let item = |(index, reference): (usize, &SecretRef)| {
            let problem = self.vault.resolve(reference, &sealed).err().map(|error| error.to_string());
            Item {
                name: name.to_owned(),
                reference: reference.to_string(),
                state: Some(if index == 0 { "current" } else { "previous" }),
                warnings: problem.iter().map(|why| format!("it cannot be had: {why}")).collect(),
                problem,
                ..of.clone()
            }
        };
        list.iter().enumerate().map(item).collect()
    }

    /// Returns a secret as it is kept: sealed. Only who has the master key can open it.
    pub(super) fn sealed(&self, name: &str) -> Result<Value, Problem> {
        let sealed = self.log.state().sealed(name).filter(|sealed| !sealed.is_empty());
        let sealed = sealed.ok_or_else(|| Problem::not_found("secret", shown(name)))?;
        Ok(json!({"name": name, "sealed_base64": STANDARD.encode(sealed)}))
    }
}

/// Says what is wrong with how a secret is used beside the others of its trigger.
fn warning(item: &Item, all: &[Item], now: Timestamp) -> Option<String> {
    let list: Vec<_> = all.iter().filter(|other| other.name == item.name).collect();
    let current = list.iter().find(|other| other.state == Some("current"))?;
    if item.state == Some("current") {
        let added_at = item.times.as_ref()?.added_at;
        let other =
            list.iter().filter(|other| other.state == Some("previous")).filter_map(|other| other.last());
        let verifies = other.max().filter(|last| *last >= added_at)?;
        return item.last().is_none().then(|| {
            format!(
                "no delivery verified with it since it was added at {added_at}, while one verified with another of \
                 the list at {verifies}: is it set at the provider?"
            )
        });
    }
    let last = item.last()?;
    let is_recent = now.checked_sub(IN_USE_FOR).is_ok_and(|since| last >= since);
    let is_in_use = current.last().is_none_or(|newer| newer < last) || is_recent;
    is_in_use.then(|| format!("deliveries still verify with it, the last one at {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Fingerprint;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn item(state: &'static str, added: i64, last: Option<i64>) -> Item {
        let times = SecretTimes {
            name: "signing_secret".to_owned(),
            fingerprint: Fingerprint::from_bytes([0; 8]),
            reference: String::new(),
            index: 0,
            added_at: at(added),
            first_success: last.map(at),
            last_success: last.map(at),
        };
        Item { name: "signing_secret".to_owned(), state: Some(state), times: Some(times), ..Item::default() }
    }

    #[test]
    fn old_secrets_in_use_and_new_ones_never_seen_are_told() {
        let day = 86_400;
        let check = |new: Option<i64>, old: Option<i64>, now, expected: [Option<&str>; 2]| {
            let list = [item("current", 100, new), item("previous", 0, old)];
            for (item, expected) in list.iter().zip(expected) {
                let told = warning(item, &list, at(now));
                let fits = told
                    .as_deref()
                    .map_or(expected.is_none(), |told| expected.is_some_and(|it| told.contains(it)));
                assert!(fits, "{new:?} {old:?} {now}: {told:?}");
            }
        };
        check(None, None, 200, [None, None]);
        check(None, Some(50), 3 * day, [None, Some("still verify")]);
        check(None, Some(150), 200, [Some("set at the provider"), Some("still verify")]);
        check(Some(150), Some(120), 200, [None, Some("still verify")]);
        check(Some(150), Some(120), 3 * day, [None, None]);
        check(Some(150), Some(2 * day), 9 * day, [None, Some("still verify")]);
        check(Some(150), None, 200, [None, None]);
    }
}
