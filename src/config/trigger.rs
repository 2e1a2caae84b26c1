//! Reads `[[triggers]]` and `[[providers]]`.

mod uncalled;

use std::collections::BTreeMap;
use std::time::Duration;

use self::uncalled::EVERY;
use super::SecretRef;
use super::cron::CRON_KEYS;
use super::document::{Node, Section};
use super::knowledge::{CRON, POLL, Proof, ProviderFacts, SIGNING_SECRET, WEBHOOK};
use super::raw::{Reader, Scope, optional, or_default};
use super::units::format_duration;
use super::{Dedupe, RateLimit, Trigger, TriggerKind};
use crate::event::{ProviderId, TriggerId};

/// Longest path of a trigger, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// A part of a path that is as long as this and holds digits is taken for one that nobody guesses.
const SECRET_PART_CHARS_MIN: usize = 20;

const KEYS: [&str; 15] = [
    "id",
    "provider",
    "kind",
    "path",
    "secrets",
    "tolerance",
    "dedupe_window",
    "dedupe",
    "rate_limit",
    "settings",
    "public_keys",
    "schedule",
    "timezone",
    "catchup",
    EVERY,
];

const LATER: [(&str, &str); 1] = [("expect_every", "the silence alarm is")];

/// Reads the user's own catalogue entries: their texts, and the facts on them.
pub(super) fn read_providers(
    reader: &Reader<'_>,
    root: &Section<'_>,
) -> (Option<Vec<String>>, Vec<ProviderFacts>) {
    let Some(node) = root.get("providers") else { return (Some(Vec::new()), Vec::new()) };
    let Some(items) = node.array("[[providers]] tables") else { return (None, Vec::new()) };
    // The same text read once more, as values: what is wanted is each table's own text.
    let document: toml::Table = toml::from_str(&reader.findings.source().text).unwrap_or_default();
    let (mut texts, mut facts) = (Vec::new(), Vec::<ProviderFacts>::new());
    let mut complete = true;
    for (i, item) in items.iter().enumerate() {
        let table = document.get("providers").and_then(|list| list.get(i));
        let text = table.and_then(|table| toml::to_string(table).ok()).unwrap_or_default();
        match reader.knowledge.read_provider(&text) {
            Ok(fact) if facts.iter().any(|other| other.id == fact.id) => {
                item.wrong(format!("provider `{}` is defined twice", fact.id), "give each an id of its own");
                complete = false;
            }
            Ok(fact) => {
                let replaces = |id: &str| reader.knowledge.provider(id).is_some_and(|it| !it.is_placeholder);
                if fact.is_placeholder && replaces(&fact.id) {
                    item.risky(
                        format!("this takes the place of the catalogue's `{}` and is a placeholder: nothing can use it", fact.id),
                        "remove connector = \"code\", give it an id of its own, or run a program that registers its connector",
                    );
                }
                facts.push(fact);
            }
            Err(reason) => {
                item.wrong(
                    format!("this is no catalogue entry: {reason}"),
                    "see `hookkeeper providers show github --json` for an example",
                );
                complete = false;
            }
        }
        texts.push(text);
    }
    (complete.then_some(texts), facts)
}

/// Reads all triggers; beside them the ids of all that have one, also of broken ones.
pub(super) fn read_triggers(
    reader: &Reader<'_>,
    root: &Section<'_>,
    own: &[ProviderFacts],
    has_public_url: bool,
) -> (Option<Vec<Trigger>>, Vec<String>) {
    let Some(node) = root.get("triggers") else { return (Some(Vec::new()), Vec::new()) };
    let Some(items) = node.array("[[triggers]] tables") else { return (None, Vec::new()) };
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut paths: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut triggers = Vec::new();
    for item in &items {
        let trigger = item.section().and_then(|mut section| {
            let id = read_id(&mut section, "triggers", &mut ids);
            let id = id.and_then(|id| id.parse().ok());
            let path = claimed_path(&section, id.as_ref());
            let name = id.as_ref().map_or_else(|| section.key.clone(), ToString::to_string);
            let trigger = Table { reader, own, has_public_url }.read(&section, id);
            // Of a broken trigger it counts as well, so that a second run finds nothing new.
            let looks_called = !looks_scheduled(&section) && section.get(EVERY).is_none();
            let claims = trigger.as_ref().map_or(looks_called, |it| !it.path.is_empty());
            if let Some(path) = path.filter(|_| claims)
                && let Some((other, line)) = paths.insert(path.clone(), (name, section.line()))
            {
                let message = format!("path {path} is taken by trigger `{other}` (line {line})");
                match section.get("path") {
                    Some(node) => node.wrong(message, "give each trigger a path of its own"),
                    None => section.missing("path", message, "give each trigger a path of its own"),
                }
                return None;
            }
            trigger
        });
        triggers.push(trigger);
    }
    (triggers.into_iter().collect(), ids.into_keys().collect())
}

/// Reads the `id` of a table, names the table after it, and reports a second use.
pub(super) fn read_id(
    section: &mut Section<'_>,
    list: &str,
    seen: &mut BTreeMap<String, usize>,
) -> Option<String> {
    let node = section.require("id", "give it an id, such as id = \"github\"")?;
    let id = node.string("an id")?;
    // All kinds of ids have one alphabet.
    if let Err(error) = TriggerId::new(id) {
        node.wrong("this does not serve as an id", error);
        return None;
    }

    if let Some(line) = seen.insert(id.to_owned(), section.line()) {
        node.wrong(
            format!("id `{id}` is used twice, first in the table of line {line}"),
            "give each an id of its own",
        );
        return None;
    }
    section.rename(format!("{list}.{id}"));
    Some(id.to_owned())
}

/// Returns the path that a trigger asks for, whatever else is wrong with it.
fn claimed_path(section: &Section<'_>, id: Option<&TriggerId>) -> Option<String> {
    match section.get("path") {
        Some(node) if node.is_string() => {
            node.string("a path").filter(|path| path.starts_with('/')).map(str::to_owned)
        }
        Some(_) => None,
        None => id.map(|id| format!("/hooks/{id}")),
    }
}

/// Tells whether a table says that its provider is asked.
fn is_asked(section: &Section<'_>) -> bool {
    section
        .get("kind")
        .is_some_and(|node| node.is_string() && node.string("a kind").is_some_and(|kind| kind == POLL))
}

/// Tells whether a table has a key of cron triggers.
fn looks_scheduled(section: &Section<'_>) -> bool {
    CRON_KEYS.iter().any(|key| section.get(key).is_some())
}

/// Reads one trigger.
struct Table<'a> {
    reader: &'a Reader<'a>,
    own: &'a [ProviderFacts],
    has_public_url: bool,
}

impl Table<'_> {
    fn read(&self, section: &Section<'_>, id: Option<TriggerId>) -> Option<Trigger> {
        section.only(&KEYS, &LATER);
        let named = section.require("provider", "name a provider of `hookkeeper providers list`");
        let provider = named.as_ref().and_then(|node| self.provider(node));
        let kind = self.kind(section, provider.as_ref().map(|(_, facts)| facts));
        // Of a wrong kind, the rest is read all the same, as what it looks like.
        let looks = if looks_scheduled(section) { CRON } else { WEBHOOK };
        let trigger = match kind.unwrap_or(looks) {
            CRON => self.read_scheduled(section, id, provider),
            POLL => self.read_polled(section, id, provider),
            _ => self.read_called(section, id, provider),
        };
        kind.and(trigger)
    }

    /// Reads a webhook trigger.
    fn read_called(
        &self,
        section: &Section<'_>,
        id: Option<TriggerId>,
        provider: Option<(ProviderId, ProviderFacts)>,
    ) -> Option<Trigger> {
        for key in CRON_KEYS.into_iter().filter(|key| section.get(key).is_some()) {
            let message = format!("a webhook trigger has no `{key}`: its provider decides when");
            let remedy = "remove the key; for a schedule: provider = \"cron\", kind = \"cron\"";
            section.unknown_name(key, message, [], remedy);
        }
        // Who asks for a poll that the provider does not have has been told so, and wrote what a poll needs.
        if section.get(EVERY).is_some() && !is_asked(section) {
            let message = "a webhook trigger has no `every`: its provider decides when";
            section.unknown_name(EVERY, message, [], "remove the key, or add kind = \"poll\"");
        }
        let path = match (section.get("path"), &id) {
            (Some(node), _) => self.path(&node),
            (None, Some(id)) => Some(format!("/hooks/{id}")),
            (None, None) => None,
        };
        let facts = provider.as_ref().map(|(_, facts)| facts);
        let secrets = self.secrets(section, facts);
        let settings = self.settings(section, facts);
        let tolerance = optional(section.get("tolerance"), |node| {
            if facts.is_some_and(|facts| !facts.timestamped) {
                node.risky("this provider signs no time: `tolerance` has no effect", "remove the key");
            }
            self.reader.duration(node, Trigger::TOLERANCE_RANGE)
        });
        let default_window =
            facts.and_then(|facts| facts.retries_for).unwrap_or_default().max(Trigger::DEDUPE_WINDOW);
        let dedupe_window =
            or_default(section.get("dedupe_window"), default_window, |node| self.window(node, facts));
        let dedupe = or_default(section.get("dedupe"), Dedupe::default(), |node| self.dedupe(node));
        let rate_limit = optional(section.get("rate_limit"), |node| self.rate_limit(node));
        let public_keys =
            or_default(section.get("public_keys"), Vec::new(), |node| self.reader.trigger_secrets(node));
        if let (Some(facts), Some(settings), Some(node)) = (facts, &settings, &section.get("provider")) {
            self.scheme(section, node, facts.clone(), settings, path.as_deref());
            self.fit(section, facts, settings);
        }
        Some(Trigger {
            id: id?,
            provider: provider.as_ref()?.0.clone(),
            kind: TriggerKind::Webhook,
            path: path?,
            secrets: secrets?,
            tolerance: tolerance?,
            dedupe_window: dedupe_window?,
            dedupe: dedupe?,
            rate_limit: rate_limit?,
            settings: settings?,
            public_keys: public_keys?,
        })
    }

    /// Holds each secret against the form that the provider's secrets have.
    fn fit(&self, section: &Section<'_>, facts: &ProviderFacts, settings: &BTreeMap<String, String>) {
        let table = section.get("secrets").filter(Node::is_table).and_then(|node| node.section());
        if self.reader.scope == Scope::Text {
            return;
        }
        for (name, node) in table.iter().flat_map(Section::entries) {
            let list = if node.is_array() { node.array("secret references") } else { None };
            for item in list.unwrap_or_else(|| vec![node]).iter().filter(|item| item.is_string()) {
                let text = item.string("a secret reference").unwrap_or_default();
                let Ok(secret) = SecretRef::parse(text, &self.reader.findings.source().base) else {
                    continue;
                };
                // What is in a file may be mended while the server runs.
                if self.reader.scope == Scope::Serve && matches!(secret, SecretRef::File(_)) {
                    continue;
                }
                if let Err(reason) = self.reader.knowledge.try_secret(facts, settings, name, &secret) {
                    item.wrong_secret(format!("the secret of {secret} does not serve"), reason);
                }
            }
        }
    }

    /// Holds what follows from the provider's scheme with the trigger's settings, and tells how far it is to
    /// be trusted.
    fn scheme(
        &self,
        section: &Section<'_>,
        provider: &Node<'_>,
        facts: ProviderFacts,
        settings: &BTreeMap<String, String>,
        path: Option<&str>,
    ) {
        let id = facts.id.clone();
        let facts = match self.reader.knowledge.with_settings(facts, settings) {
            Ok(facts) => facts,
            Err(reason) => {
                let remedy = format!("see `hookkeeper providers show {id}` for what each setting takes");
                return section.missing("settings", format!("the settings make no sense: {reason}"), remedy);
            }
        };
        if facts.needs_public_url && !self.has_public_url {
            section.missing(
                "provider",
                "this provider signs the URL, and `server.public_url` is missing",
                "set public_url in [server] to the URL as registered with the provider",
            );
        }
        if facts.is_unconfirmed {
            provider.risky(
                format!(
                    "what is known of `{id}` is experimental: nobody has confirmed it at the provider, \
                     so that good deliveries may be refused"
                ),
                format!(
                    "try a real delivery before you rely on it: `hookkeeper verify {id}` checks a captured one, and \
                     `quarantine list` shows what was refused"
                ),
            );
        }
        match facts.proof {
            Proof::Body => {}
            Proof::Fields => provider.risky(
                "the proof does not cover the body as a whole: what it leaves out can be changed on the way",
                format!("see `hookkeeper providers show {id}` for what it covers, and rely on nothing else"),
            ),
            Proof::SenderOnly => provider.risky(
                "the proof does not cover the body: whoever has seen one delivery can send another body with it",
                "take deliveries over https alone, and ask the provider before you act on what matters",
            ),
            Proof::None if path.is_some_and(is_secret_path) => {}
            Proof::None => provider.risky(
                "the provider proves nothing: whoever knows the URL can send what they like",
                "give the trigger a path that nobody guesses, such as path = \"/hooks/x-\" and 32 random hex digits",
            ),
        }
    }

    /// Returns the trigger's kind as a word that is known.
    fn kind(&self, section: &Section<'_>, facts: Option<&ProviderFacts>) -> Option<&'static str> {
        let kinds = facts.map_or_else(Vec::new, ProviderFacts::kinds);
        let Some(node) = section.get("kind") else {
            return Some(match kinds.first() {
                Some(&CRON) => CRON,
                Some(&POLL) => POLL,
                _ => WEBHOOK,
            });
        };
        let known = [WEBHOOK, CRON, POLL];
        let text = node.string("webhook, cron or poll")?;
        let Some(kind) = known.into_iter().find(|kind| *kind == text) else {
            node.unknown("unknown kind of trigger", known, "one of webhook, cron, poll");
            return None;
        };
        if let Some(facts) = facts.filter(|_| !kinds.contains(&kind)) {
            let remedy = match kind {
                CRON => "use provider = \"cron\" for a schedule".to_owned(),
                POLL => format!("only connectors in code are asked; its kinds: {}", kinds.join(", ")),
                _ => format!("its kinds: {}", kinds.join(", ")),
            };
            node.wrong(format!("provider `{}` has no {kind} triggers", facts.id), remedy);
            return None;
        }
        Some(kind)
    }

    fn provider(&self, node: &Node<'_>) -> Option<(ProviderId, ProviderFacts)> {
        let text = node.string("a provider's id")?;
        let own = self.own.iter().find(|facts| facts.id == text).cloned();
        let found = own.or_else(|| self.reader.knowledge.provider(text));
        match (ProviderId::new(text), found) {
            (Ok(id), Some(facts)) => match facts.placeholder() {
                None => Some((id, facts)),
                Some((message, remedy)) => {
                    node.wrong(message, remedy);
                    None
                }
            },
            _ => {
                let known = self.reader.knowledge.provider_ids();
                let all =
                    known.iter().map(String::as_str).chain(self.own.iter().map(|facts| facts.id.as_str()));
                node.unknown(
                    "unknown provider",
                    all,
                    "see `hookkeeper providers list`, or describe your own in a [[providers]] table",
                );
                None
            }
        }
    }

    fn path(&self, node: &Node<'_>) -> Option<String> {
        let text = node.string("a path such as /hooks/github")?;
        let problem = if !text.starts_with('/') {
            "the path does not begin with /"
        } else if text.contains(['?', '#', '{', '}']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "the path has characters that a trigger's path cannot have"
        } else if text.split('/').any(|part| part == "." || part == "..") {
            "the path has a part of dots"
        } else if text.len() > PATH_BYTES_MAX {
            "the path is too long"
        } else {
            return Some(text.to_owned());
        };
        node.wrong(problem, "write it as providers will call it, such as /hooks/github");
        None
    }

    fn secrets(
        &self,
        section: &Section<'_>,
        facts: Option<&ProviderFacts>,
    ) -> Option<BTreeMap<String, Vec<SecretRef>>> {
        let example = "secrets = { signing_secret = \"env:NAME\" }";
        let given = section.get("secrets");
        let table = match &given {
            Some(node) if !node.is_table() => {
                node.wrong_secret("expected a table of secrets by name", example);
                return None;
            }
            Some(node) => Some(node.section()?),
            None => None,
        };
        let mut complete = true;
        let mut secrets = BTreeMap::new();
        for (name, node) in table.iter().flat_map(Section::entries) {
            match self.reader.trigger_secrets(&node) {
                Some(list) => drop(secrets.insert(name.to_owned(), list)),
                None => complete = false,
            }
            if let (Some(facts), Some(table)) = (facts, &table)
                && !facts.is_coded
                && !facts.secrets.iter().any(|fact| fact.name == name)
            {
                let known = facts.secrets.iter().map(|fact| fact.name.as_str());
                let all: Vec<_> = known.clone().collect();
                let remedy = match all.as_slice() {
                    [] => "remove it: the provider has no secrets".to_owned(),
                    all => format!("the provider's secrets: {}", all.join(", ")),
                };
                table.unknown_name(name, "the provider has no secret of this name", known, remedy);
            }
        }
        for fact in facts.into_iter().flat_map(|facts| &facts.secrets) {
            let given = table.as_ref().is_some_and(|table| table.get(&fact.name).is_some());
            // What a poll brings is not signed.
            let is_of_use = !is_asked(section) || fact.name != SIGNING_SECRET;
            if fact.required && !fact.learned && !given && is_of_use {
                let remedy = format!(
                    "add secrets = {{ {} = \"env:NAME\" }}, or \"file:PATH\", or \"store:NAME\"",
                    fact.name
                );
                section.missing("secrets", format!("the secret `{}` is missing", fact.name), remedy);
                complete = false;
            }
        }
        complete.then_some(secrets)
    }

    fn settings(
        &self,
        section: &Section<'_>,
        facts: Option<&ProviderFacts>,
    ) -> Option<BTreeMap<String, String>> {
        let table = match section.get("settings") {
            Some(node) => Some(node.section()?),
            None => None,
        };
        let mut complete = true;
        let mut settings = BTreeMap::new();
        for (name, node) in table.iter().flat_map(Section::entries) {
            let fact = facts.and_then(|facts| facts.settings.iter().find(|fact| fact.name == name));
            if let Some(facts) = facts.filter(|facts| fact.is_none() && !facts.is_coded) {
                let known: Vec<_> = facts.settings.iter().map(|fact| fact.name.as_str()).collect();
                let remedy = match known.as_slice() {
                    [] => "remove it: the provider has no settings".to_owned(),
                    known => format!("the provider's settings: {}", known.join(", ")),
                };
                if let Some(table) = &table {
                    table.unknown_name(name, "the provider has no setting of this name", known, remedy);
                }
                complete = false;
                continue;
            }
            let Some(value) = node.string("a setting") else {
                complete = false;
                continue;
            };
            settings.insert(name.to_owned(), value.to_owned());
            let values = fact.map(|fact| fact.values.as_slice()).unwrap_or_default();
            if !values.is_empty() && !values.iter().any(|known| known == value) {
                let known = values.iter().map(String::as_str);
                node.unknown("unknown value", known, format!("one of {}", values.join(", ")));
            }
        }
        for fact in facts.into_iter().flat_map(|facts| &facts.settings) {
            let given = table.as_ref().is_some_and(|table| table.get(&fact.name).is_some());
            if fact.required && !given {
                let remedy = format!("add settings = {{ {} = \"…\" }}", fact.name);
                section.missing("settings", format!("the setting `{}` is missing", fact.name), remedy);
                complete = false;
            }
        }
        complete.then_some(settings)
    }

    fn window(&self, node: &Node<'_>, facts: Option<&ProviderFacts>) -> Option<Duration> {
        let window = self.reader.duration(node, Trigger::DEDUPE_WINDOW_RANGE)?;
        if let Some(retries_for) = facts.and_then(|facts| facts.retries_for)
            && window < retries_for
        {
            let (window, retries) = (format_duration(window), format_duration(retries_for));
            node.risky(
                format!("the provider may send a delivery again for {retries}, which {window} do not cover"),
                format!("use {retries} or more, or duplicates become events of their own"),
            );
        }
        Some(window)
    }

    fn dedupe(&self, node: &Node<'_>) -> Option<Dedupe> {
        match node.string("delivery or body")? {
            "delivery" => Some(Dedupe::Delivery),
            "body" => Some(Dedupe::Body),
            _ => {
                node.unknown("unknown way to tell duplicates", ["delivery", "body"], "one of delivery, body");
                None
            }
        }
    }

    fn rate_limit(&self, node: &Node<'_>) -> Option<RateLimit> {
        let section = node.section()?;
        section.only(&["per_second", "burst"], &[]);
        let example = "rate_limit = { per_second = 500, burst = 1000 }";
        let per_second = section.require("per_second", example);
        let per_second = per_second.and_then(|node| node.positive(RateLimit::PER_SECOND_MAX));
        let burst = optional(section.get("burst"), |node| node.integer(1..=RateLimit::BURST_MAX));
        let (per_second, burst) = (per_second?, burst?);
        let burst = burst.unwrap_or(per_second.ceil().max(1.0) as u64);
        Some(RateLimit { per_second, burst: u32::try_from(burst).ok()? })
    }
}

/// Tells whether a path has a part that looks like one that nobody guesses.
fn is_secret_path(path: &str) -> bool {
    let is_random =
        |part: &str| part.len() >= SECRET_PART_CHARS_MIN && part.contains(|c: char| c.is_ascii_digit());
    path.split('/').any(is_random)
}
