//! Reads triggers that nobody calls: those that tick, and those whose provider is asked.

use std::collections::BTreeMap;

use super::super::cron::{CRON_KEYS, read_cron};
use super::super::document::Section;
use super::super::knowledge::ProviderFacts;
use super::super::raw::or_default;
use super::super::{Dedupe, Poll, Trigger, TriggerKind};
use super::{KEYS, Table};
use crate::event::{ProviderId, TriggerId};

/// The one key that only poll triggers have.
pub(super) const EVERY: &str = "every";
/// The keys of a poll trigger.
const POLL_KEYS: [&str; 7] = ["id", "provider", "kind", "secrets", "settings", "dedupe_window", EVERY];

impl Table<'_> {
    /// Reads a cron trigger.
    pub(super) fn read_scheduled(
        &self,
        section: &Section<'_>,
        id: Option<TriggerId>,
        provider: Option<(ProviderId, ProviderFacts)>,
    ) -> Option<Trigger> {
        let own: Vec<_> = ["id", "provider", "kind"].into_iter().chain(CRON_KEYS).collect();
        for key in KEYS.into_iter().filter(|key| !own.contains(key) && section.get(key).is_some()) {
            let why = if key == EVERY { "its schedule says when" } else { "nobody calls it" };
            let message = format!("a cron trigger has no `{key}`: {why}");
            section.unknown_name(key, message, [], "remove the key");
        }
        let cron = read_cron(section);
        Some(Trigger {
            id: id?,
            provider: provider?.0,
            kind: TriggerKind::Cron(Box::new(cron?)),
            path: String::new(),
            secrets: BTreeMap::new(),
            tolerance: None,
            dedupe_window: Trigger::DEDUPE_WINDOW,
            dedupe: Dedupe::default(),
            rate_limit: None,
            settings: BTreeMap::new(),
            public_keys: Vec::new(),
        })
    }

    /// Reads a poll trigger.
    pub(super) fn read_polled(
        &self,
        section: &Section<'_>,
        id: Option<TriggerId>,
        provider: Option<(ProviderId, ProviderFacts)>,
    ) -> Option<Trigger> {
        for key in KEYS.into_iter().filter(|key| !POLL_KEYS.contains(key) && section.get(key).is_some()) {
            let message = format!("a poll trigger has no `{key}`: its provider is asked, and calls nobody");
            section.unknown_name(key, message, [], "remove the key");
        }
        let facts = provider.as_ref().map(|(_, facts)| facts);
        let secrets = self.secrets(section, facts);
        let settings = self.settings(section, facts);
        let dedupe_window =
            or_default(section.get("dedupe_window"), Trigger::DEDUPE_WINDOW, |node| self.window(node, None));
        let every =
            or_default(section.get(EVERY), Poll::EVERY, |node| self.reader.duration(node, Poll::EVERY_RANGE));
        Some(Trigger {
            id: id?,
            provider: provider.as_ref()?.0.clone(),
            kind: TriggerKind::Poll(Poll { every: every? }),
            path: String::new(),
            secrets: secrets?,
            tolerance: None,
            dedupe_window: dedupe_window?,
            dedupe: Dedupe::default(),
            rate_limit: None,
            settings: settings?,
            public_keys: Vec::new(),
        })
    }
}
