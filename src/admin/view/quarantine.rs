//! What was refused, and why probably: found out when somebody looks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{View, page};
use crate::admin::Problem;
use crate::admin::query::Query;
use crate::catalog::{ProviderEntry, SIGNING_SECRET};
use crate::config::Config;
use crate::connector::{
    Credentials, FetchedKey, Judging, NormalizeResult, RawInbound, TriggerSettings, Verifier, explain,
};
use crate::event::REDACTED;
use crate::provider::trigger_settings;
use crate::quarantine::{BODY_BYTES_MAX, Error, Filter, Held, HeldId, ReleaseError};
use crate::secrets::Secret;

/// Parameters that say which deliveries are meant.
pub(in crate::admin) const FILTERS: [&str; 4] = ["trigger", "reason", "since", "until"];
/// Secrets of other triggers that are tried for a delivery. Each costs a hash of its body.
const OTHERS_MAX: usize = 64;

/// What looking found out.
enum Finding {
    /// It would verify now.
    Mended,
    /// This is probably why it does not.
    Cause { code: &'static str, text: String },
    /// Nothing that commonly goes wrong explains it.
    Unknown,
}

impl View {
    /// Lists what is in quarantine, newest first.
    pub(super) fn quarantined(&self, query: &Query) -> Result<Value, Problem> {
        query.only(&[FILTERS.as_slice(), &["limit", "cursor"]].concat())?;
        let filter = self.held_filter(query)?;
        let (found, next) = self.quarantine.list(&filter, query.cursor()?, query.limit()?)?;
        Ok(page(found.iter().map(item).collect(), next))
    }

    /// Reads a filter's parameters.
    pub(in crate::admin) fn held_filter(&self, query: &Query) -> Result<Filter, Problem> {
        let now = self.clock.now();
        Ok(Filter {
            trigger: query.get("trigger")?,
            reason: query.get("reason")?,
            since: query.time("since", now)?,
            until: query.time("until", now)?,
        })
    }

    /// Returns one delivery with its request, credentials redacted, and the likely cause. The body stays
    /// sealed: a handshake that was refused may carry a secret in it.
    pub(super) fn held(&self, id: HeldId) -> Result<Value, Problem> {
        let held = self.quarantine.get(id)?;
        let raw = self.quarantine.open(&held)?;
        let entry = self.catalog.get(held.provider.as_str());
        let (mends, cause) = match self.finding(&held, &raw) {
            Finding::Mended => (true, Value::Null),
            Finding::Cause { code, text } => (false, json!({"code": code, "text": text})),
            Finding::Unknown => (false, Value::Null),
        };
        let trigger = self.config.as_deref().and_then(|config| config.trigger(&held.trigger_id));
        let settings = trigger.map(|trigger| trigger.settings.clone()).unwrap_or_default();
        let (headers, url) = redacted(entry, &settings, &raw);
        let mut shown = item(&held);
        shown["verifies_now"] = json!(mends);
        shown["cause"] = cause;
        shown["request"] = json!({
            "method": raw.method,
            "url": url,
            "headers": headers,
            "body_bytes": held.body_bytes,
        });
        Ok(shown)
    }

    fn finding(&self, held: &Held, raw: &RawInbound) -> Finding {
        let cannot = |text: String| Finding::Cause { code: "cannot_tell", text };
        if !held.has_body {
            return cannot(format!("its body was not kept: it is larger than {BODY_BYTES_MAX} bytes"));
        }
        let Some(config) = self.config.as_deref() else {
            return cannot("this needs the configuration: name it with --config".to_owned());
        };
        let Some(trigger) = config.trigger(&held.trigger_id) else {
            return cannot(ReleaseError::NoTrigger(held.trigger_id.clone()).to_string());
        };
        let Some(entry) = self.catalog.get(trigger.provider.as_str()) else {
            return cannot(format!("the provider {} is not in the catalogue", trigger.provider));
        };
        if entry.is_coded {
            return cannot("its connector is code, which a release asks again".to_owned());
        }
        let sealed = |name: &str| self.log.state().sealed(name);
        let url = config.server.public_url.as_deref();
        match trigger_settings(entry, trigger, &self.vault, &sealed, url) {
            Ok(settings) => {
                let keys = |verifier: &Verifier| match &self.runtime {
                    Some(runtime) => runtime.known_keys(&held.trigger_id, verifier, raw),
                    None => Vec::new(),
                };
                look(entry, &settings, &self.other_secrets(config, held), (held, raw), keys)
            }
            Err(error) => cannot(error),
        }
    }

    /// Collects the secrets of all other triggers, and the further ones of the delivery's own; those that cannot
    /// be had are left out.
    fn other_secrets(&self, config: &Config, held: &Held) -> Vec<(String, Secret)> {
        let sealed = |name: &str| self.log.state().sealed(name);
        let mut others = Vec::new();
        for trigger in &config.triggers {
            let Some(entry) = self.catalog.get(trigger.provider.as_str()) else { continue };
            let settings = trigger_settings(entry, trigger, &self.vault, &sealed, None);
            let mut secrets: BTreeMap<_, _> = settings.map(|settings| settings.secrets).unwrap_or_default();
            if trigger.id == held.trigger_id {
                secrets.remove(SIGNING_SECRET);
            }
            for (name, list) in secrets {
                let named = |(index, secret)| {
                    (format!("{name} (number {}) of trigger {}", index + 1, trigger.id), secret)
                };
                others.extend(list.into_iter().enumerate().map(named));
            }
        }
        others.truncate(OTHERS_MAX);
        others
    }
}

/// Verifies a delivery as of its arrival, and looks for the cause where that fails.
fn look(
    entry: &Arc<ProviderEntry>,
    settings: &TriggerSettings,
    others: &[(String, Secret)],
    (held, raw): (&Held, &RawInbound),
    keys: impl Fn(&Verifier) -> Vec<FetchedKey>,
) -> Finding {
    let cannot =
        |error: &dyn std::fmt::Display| Finding::Cause { code: "cannot_tell", text: error.to_string() };
    let verifier = match Verifier::new(entry, settings) {
        Ok(verifier) => verifier,
        Err(error) => return cannot(&error),
    };
    let keys = keys(&verifier);
    if keys.is_empty() && verifier.wanted_keys(raw).is_some() {
        return cannot(
            &"it is verified with public keys that the provider publishes and that are not here \
                        now: a release fetches them",
        );
    }
    match verifier.normalize_inbound(raw, Judging { keys: &keys, ..Judging::at(held.received_at) }) {
        NormalizeResult::Reject(_) => {}
        NormalizeResult::Immediate { events, .. } if events.is_empty() => {
            let text = ReleaseError::Handshake.to_string();
            return Finding::Cause { code: "handshake", text };
        }
        _ => return Finding::Mended,
    }
    match explain(entry, settings, others, raw, held.received_at, &[]) {
        Ok(Some(cause)) => Finding::Cause { code: cause.code(), text: cause.to_string() },
        Ok(None) => Finding::Unknown,
        Err(error) => cannot(&error),
    }
}

/// Returns a delivery as listings show it.
fn item(held: &Held) -> Value {
    json!({
        "id": held.id,
        "trigger_id": held.trigger_id,
        "provider": held.provider,
        "received_at": held.received_at,
        "peer": held.peer,
        "reason": held.reason,
        "hint": held.hint,
        "near_miss": held.nearness.has_form,
        "known_address": held.nearness.is_known,
        "has_delivery_id": held.nearness.has_id,
        "body_bytes": held.body_bytes,
        "body_kept": held.has_body,
    })
}

/// Returns headers and URL with the values of credentials replaced; of a provider that is not known, all
/// values are.
fn redacted(
    entry: Option<&Arc<ProviderEntry>>,
    settings: &BTreeMap<String, String>,
    raw: &RawInbound,
) -> (Vec<[String; 2]>, String) {
    let shown =
        |(name, value): &(String, bytes::Bytes)| [name.clone(), String::from_utf8_lossy(value).into_owned()];
    match entry.and_then(|entry| Credentials::of(entry, settings).ok()) {
        Some(credentials) => {
            let headers = credentials.redact_headers(raw.headers.clone());
            (headers.iter().map(shown).collect(), credentials.redact_url(raw.url.clone()))
        }
        None => {
            let path = raw.url.split('?').next().unwrap_or_default();
            let headers = raw.headers.iter().map(|(name, _)| [name.clone(), REDACTED.to_owned()]);
            (headers.collect(), format!("{path}?{REDACTED}"))
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) => Self::new(404, "not_found", error.to_string()),
            Error::Busy(_) => Self::conflict("busy", error.to_string()),
            Error::Sealed(_) | Error::Seal(_) | Error::AllSealed(_) | Error::Newer(_) => {
                Self::conflict("sealed_otherwise", error.to_string())
            }
            Error::Io { .. } => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    #[test]
    fn credentials_are_not_shown() {
        let text = "id = \"acme\"\ncredentials = [\"header:X-Token\", \"query:sig\"]\n\
                    [signature]\nsig = \"header:X-Sig\"\n";
        let catalog = ProviderCatalog::with_user_entries(&[text.to_owned()]).unwrap();
        let raw = RawInbound {
            method: "POST".into(),
            url: "/x?a=1&s%69g=hunter2&b".into(),
            headers: ["x-token", "cookie", "x-other"].map(|name| (name.to_owned(), "v".into())).to_vec(),
            body: Default::default(),
            received_at: "2026-11-23T14:00:00Z".parse().unwrap(),
            peer: None,
        };
        let check = |entry, values: [&str; 3], shown_url: &str| {
            let (headers, url) = redacted(entry, &BTreeMap::new(), &raw);
            assert_eq!(headers.iter().map(|[_, value]| value.as_str()).collect::<Vec<_>>(), values);
            assert_eq!(url, shown_url);
        };
        check(catalog.get("acme"), [REDACTED, REDACTED, "v"], "/x?a=1&s%69g=[redacted]&b");
        check(None, [REDACTED; 3], "/x?[redacted]");
    }
}
