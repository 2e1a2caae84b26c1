//! Providers, triggers, functions and health: short listings.

use serde_json::{Map, Value, json};

use super::{View, unknown_provider, whole};
use crate::admin::Problem;
use crate::config::{Config, Cron, Function, Handler, Trigger, format_duration};
use crate::event::RunState;
use crate::event_log::Condition;
use crate::provider::Activation;

impl View {
    fn configured(&self) -> Result<&Config, Problem> {
        self.config.as_deref().ok_or_else(|| {
            Problem::new(409, "no_configuration", "this needs the configuration: name it with --config")
        })
    }

    /// Lists the providers of the catalogue.
    pub(super) fn providers(&self) -> Value {
        let statuses = self.runtime.as_ref().map(|runtime| runtime.providers()).unwrap_or_default();
        let items = self.catalog.list_providers().into_iter().map(|provider| {
            let triggers = self.config.iter().flat_map(|config| &config.triggers);
            let own = triggers.filter(|trigger| trigger.provider == provider.id).map(|trigger| &trigger.id);
            let own: Vec<_> = own.collect();
            let mut item = json!(provider);
            item["triggers"] = json!(own);
            if let Some(status) = statuses.iter().find(|status| status.id == provider.id) {
                item["states"] = json!(status.triggers);
                item["metrics"] = json!(status.metrics);
                item["rebuilds"] = json!(status.rebuilds);
            }
            item
        });
        whole(items.collect())
    }

    /// Returns one provider's catalogue entry.
    pub(super) fn provider(&self, id: &str) -> Result<Value, Problem> {
        let entry = self.catalog.get(id).ok_or_else(|| unknown_provider(&self.catalog, id))?;
        crate::catalog::whole(entry).map_err(|error| Problem::internal(&error))
    }

    /// Lists the triggers with their state.
    pub(super) fn triggers(&self) -> Result<Value, Problem> {
        let config = self.configured()?;
        let statuses = self.runtime.as_ref().map(|runtime| runtime.triggers()).unwrap_or_default();
        let items = config.triggers.iter().map(|trigger| {
            let mut item = self.trigger_item(config, trigger);
            let Some(status) = statuses.iter().find(|status| status.id == trigger.id) else { return item };
            if !matches!(status.activation, Activation::Active | Activation::Paused) {
                item["state"] = json!(status.activation.as_str());
            }
            if let Some(failure) = &status.failure {
                item["reason"] = json!(failure.reason);
                item["attempts"] = json!(failure.attempts);
                item["next_attempt_at"] = json!(failure.next_at);
            }
            if trigger.poll().is_some() {
                let polling = &status.polling;
                item["poll"]["last_success_at"] = json!(polling.last_success_at);
                item["poll"]["next_at"] = json!(polling.next_at);
                item["poll"]["failures"] = json!(polling.failures);
                item["poll"]["last_error"] = json!(polling.failure.as_ref().map(|(reason, _)| reason));
                item["poll"]["last_error_at"] = json!(polling.failure.as_ref().map(|(_, at)| at));
            }
            item["accepted"] = json!(status.accepted);
            item["duplicates"] = json!(status.duplicates);
            item["rejected"] = json!(status.rejected);
            item["last_accepted_at"] = json!(status.last_accepted_at);
            item["rebuilds"] = json!(status.rebuilds);
            item
        });
        Ok(whole(items.collect()))
    }

    fn trigger_item(&self, config: &Config, trigger: &Trigger) -> Value {
        let state = self.log.state().trigger(&trigger.id);
        let armed_until = state.armed_until.filter(|until| *until > self.clock.now());
        let names: Map<String, Value> = trigger
            .secrets
            .iter()
            .map(|(name, list)| {
                (name.clone(), json!(list.iter().map(ToString::to_string).collect::<Vec<_>>()))
            })
            .collect();
        let path = Some(&trigger.path).filter(|path| !path.is_empty());
        let base = config.server.public_url.as_ref();
        let mut item = json!({
            "id": trigger.id,
            "provider": trigger.provider,
            "kind": trigger.kind.as_str(),
            "path": path,
            "url": path.zip(base).map(|(path, base)| format!("{base}{path}")),
            "state": if state.paused { "paused" } else { "active" },
            "armed_until": armed_until,
            "secrets": names,
            "dedupe_window": format_duration(trigger.dedupe_window),
        });
        if let Some(cron) = trigger.cron() {
            item["cron"] = self.cron_item(trigger, cron);
        }
        if let Some(poll) = trigger.poll() {
            let cursor = self.log.state().cursor(&trigger.id);
            item["poll"] = json!({
                "every": format_duration(poll.every),
                "cursor": cursor.as_ref().map(|it| &it.cursor),
                "cursor_at": cursor.as_ref().map(|it| it.at),
            });
        }
        item
    }

    fn cron_item(&self, trigger: &Trigger, cron: &Cron) -> Value {
        let schedule = &cron.schedule;
        let state = self.log.state().schedule(&trigger.id).unwrap_or_default();
        json!({
            "schedule": schedule.expression(),
            "timezone": schedule.zone(),
            "catchup": cron.catchup.as_str(),
            "next_tick": schedule.next(self.clock.now()),
            "last_tick": state.last_tick,
            "missed": state.missed,
        })
    }

    /// Lists the functions with their state and the sums of their runs.
    pub(super) fn functions(&self) -> Result<Value, Problem> {
        let config = self.configured()?;
        let counts = self.log.state().counts();
        let items = config.functions.iter().map(|function| {
            let mut item = self.function_item(function);
            let of = counts.runs.get(&function.id);
            let count = |state| of.and_then(|runs| runs.get(&state)).copied().unwrap_or(0);
            let runs: Map<String, Value> =
                RunState::ALL.into_iter().map(|state| (state.to_string(), json!(count(state)))).collect();
            item["runs"] = Value::Object(runs);
            item
        });
        Ok(whole(items.collect()))
    }

    fn function_item(&self, function: &Function) -> Value {
        let state = self.log.state().function(&function.id);
        let handler = match &function.handler {
            Handler::Http { url } => json!({"http": masked(url)}),
            Handler::Exec { command, env } => {
                let command: Vec<_> = command.iter().map(|part| masked(part)).collect();
                json!({"exec": command, "env": env})
            }
        };
        let word = match (state.paused, state.open_until) {
            (true, _) => "paused",
            (false, Some(_)) => "broken",
            (false, None) => "active",
        };
        json!({
            "id": function.id,
            "on": function.on,
            "events": function.events,
            "when": function.when,
            "handler": handler,
            "timeout": format_duration(function.timeout),
            "retry": {"attempts": function.retry.attempts, "backoff": function.retry.backoff.as_str()},
            "concurrency": {"limit": function.concurrency.limit, "key": function.concurrency.key},
            "state": word,
            "breaker": {"open_until": state.open_until, "opened": state.opened},
        })
    }

    /// Returns the log's condition and gauges.
    pub(in crate::admin) fn health(&self) -> Value {
        let health = self.log.health();
        let (condition, reason) = match &health.condition {
            Condition::Ok => ("ok", None),
            Condition::Full => ("full", Some("the disk of the data folder is full")),
            Condition::Failing(reason) => ("failing", Some(reason.as_str())),
        };
        let counts = self.log.state().counts();
        let quarantine = self.quarantine.gauges();
        json!({
            "condition": condition,
            "reason": reason,
            "frames": health.frames,
            "unfolded": health.unfolded,
            "flushes": health.flushes,
            "bytes": health.bytes,
            "queue_bytes": health.queue_bytes,
            "blobs": health.blobs,
            "events": counts.events,
            "duplicates": counts.duplicates,
            "quarantine": {
                "entries": quarantine.entries,
                "unreadable": quarantine.unreadable,
                "bytes": quarantine.bytes,
                "evicted": quarantine.evicted,
                "dropped": quarantine.dropped,
            },
        })
    }
}

/// Returns a text with the user and password of every URL in it masked.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        masked.push_str(before);
        let ends =
            |c: char| matches!(c, '/' | '\\' | '?' | '#' | '"' | '\'' | '<' | '>') || c.is_whitespace();
        let end = after.find(ends).unwrap_or(after.len());
        rest = after;
        if let Some(user_ends) = after[..end].rfind('@') {
            masked.push_str("***");
            rest = &after[user_ends..];
        }
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_url_signs_in_as_is_masked() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(masked(text), expected);
        }
        check("http://127.0.0.1:9000/run?to=a@b.example", "http://127.0.0.1:9000/run?to=a@b.example");
        check("https://user:p@ss@host/run", "https://***@host/run");
        check("https://token@host", "https://***@host");
        check("--db=postgres://u:p@h/db,redis://:p@h", "--db=postgres://***@h/db,redis://***@h");
        check("user@host", "user@host");
        check("://", "://");
    }
}
