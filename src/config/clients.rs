//! Reads `[clients.<provider>]`.

use std::collections::BTreeMap;

use super::document::{Node, Section};
use super::knowledge::{ClientFacts, ClientFault, ClientGiven, ClientPlace, ClientUrl, ProviderFacts};
use super::raw::{Reader, optional};
use super::{Client, Outbound, Scope, SecretRef};
use crate::event::ProviderId;

/// Reads all clients.
pub(super) fn read_clients(
    reader: &Reader<'_>,
    root: &Section<'_>,
    own: &[ProviderFacts],
    outbound: Option<&Outbound>,
) -> Option<Vec<Client>> {
    let Some(node) = root.get("clients") else { return Some(Vec::new()) };
    let section = node.section()?;
    let read = |(name, node): (&str, Node<'_>)| {
        let (provider, facts) = provider(reader, &section, own, name)?;
        Table { reader, provider, facts, outbound }.read(&node)
    };
    // All are read before the first failure counts, so that each is reported.
    section.entries().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn provider(
    reader: &Reader<'_>,
    section: &Section<'_>,
    own: &[ProviderFacts],
    name: &str,
) -> Option<(ProviderId, ClientFacts)> {
    let of_own = own.iter().find(|facts| facts.id == name).cloned();
    let found = of_own.or_else(|| reader.knowledge.provider(name));
    let (Ok(id), Some(facts)) = (ProviderId::new(name), found) else {
        let known = reader.knowledge.provider_ids();
        let all = known.iter().map(String::as_str).chain(own.iter().map(|facts| facts.id.as_str()));
        let remedy = "see `hookkeeper providers list`, or describe your own in a [[providers]] table";
        section.unknown_name(name, "unknown provider", all, remedy);
        return None;
    };
    if let Some((message, remedy)) = facts.placeholder() {
        section.unknown_name(name, message, [], remedy);
        return None;
    }
    match facts.client {
        Some(client) => Some((id, client)),
        None => {
            let message = format!("nothing is known of the API of `{name}`");
            let remedy = "describe it in the [client] of a [[providers]] table, with like for the rest";
            section.unknown_name(name, message, [], remedy);
            None
        }
    }
}

/// Reads one client.
struct Table<'a> {
    reader: &'a Reader<'a>,
    provider: ProviderId,
    facts: ClientFacts,
    /// Nothing where that section has problems of its own.
    outbound: Option<&'a Outbound>,
}

impl Table<'_> {
    fn read(self, table: &Node<'_>) -> Option<Client> {
        let section = &table.section()?;
        section.only(&["secrets", "settings", "base_url"], &[]);
        let base_url = optional(section.get("base_url"), |node| self.base_url(node));
        let secrets = self.secrets(section);
        let settings = self.settings(section);
        let secrets = secrets?;
        let given = ClientGiven {
            base_url: base_url.clone().flatten(),
            settings: settings.clone().unwrap_or_default(),
            secrets: secrets.keys().cloned().collect(),
        };
        // Before the rest counts as failed, so that each problem is reported.
        self.try_secrets(section, &given, &secrets);
        let (base_url, settings) = (base_url?, settings?);
        match self.reader.knowledge.validate_client(&self.facts, &given) {
            // One that stands in the table was judged where it stands.
            Ok(_) if base_url.is_some() => {}
            Ok(url) => self.judge(table, url)?,
            Err(fault) => {
                self.report(table, fault);
                return None;
            }
        }
        Some(Client { provider: self.provider, secrets, settings, base_url })
    }

    fn report(&self, table: &Node<'_>, ClientFault { place, reason }: ClientFault) {
        let remedy = format!("see `hookkeeper providers show {}`", self.provider);
        match (place, table.section()) {
            (ClientPlace::Secrets, Some(section)) => section.missing("secrets", reason, remedy),
            (ClientPlace::Setting(name), _) => setting(table, &name).wrong(reason, remedy),
            (ClientPlace::Entry | ClientPlace::Secrets, _) => table.wrong(reason, remedy),
        }
    }

    /// Holds the base URL that the entry and the settings make against what may be called.
    fn judge(&self, table: &Node<'_>, ClientUrl { url, settings }: ClientUrl) -> Option<()> {
        let (Some(url), Some(outbound)) = (url, self.outbound) else { return Some(()) };
        let Err(reason) = self.reader.knowledge.try_url(&url, outbound) else { return Some(()) };
        let place = settings.first().map_or_else(|| table.clone(), |name| setting(table, name));
        let made = match settings.as_slice() {
            [] => format!("the base URL {url} is not called"),
            names => format!("the base URL {url}, made of {}, is not called", names.join(" and ")),
        };
        place.wrong(made, reason);
        None
    }

    fn base_url(&self, node: &Node<'_>) -> Option<String> {
        let url = self.reader.url(node)?;
        if !url.starts_with("https://") || url.contains(['?', '#']) {
            node.wrong(
                "a provider's API is called over https, at a URL without query and fragment",
                "write it as the provider has it, such as https://github.example.com/api/v3",
            );
            return None;
        }
        if let Some(outbound) = self.outbound
            && let Err(reason) = self.reader.knowledge.try_url(&url, outbound)
        {
            node.wrong("this address is not called", reason);
            return None;
        }
        Some(url.trim_end_matches('/').to_owned())
    }

    fn secrets(&self, section: &Section<'_>) -> Option<BTreeMap<String, Vec<SecretRef>>> {
        let Some(node) = section.get("secrets") else { return Some(BTreeMap::new()) };
        if !node.is_table() {
            node.wrong_secret("expected a table of secrets by name", "secrets = { token = \"env:NAME\" }");
            return None;
        }
        let table = node.section()?;
        let mut complete = true;
        let mut secrets = BTreeMap::new();
        for (name, node) in table.entries() {
            let known = &self.facts.secrets;
            if !known.iter().any(|known| known == name) {
                let remedy = match known.as_slice() {
                    [] => "remove it: the client has no secrets".to_owned(),
                    known => format!("the client's secrets: {}", known.join(", ")),
                };
                let message = "the client has no secret of this name";
                table.unknown_name(name, message, known.iter().map(String::as_str), remedy);
                complete = false;
            }
            match self.reader.client_secrets(&node) {
                Some(list) => drop(secrets.insert(name.to_owned(), list)),
                None => complete = false,
            }
        }
        complete.then_some(secrets)
    }

    /// Reports what is there and does not serve. It keeps no server from starting: it may be mended while that runs.
    fn try_secrets(
        &self,
        section: &Section<'_>,
        given: &ClientGiven,
        secrets: &BTreeMap<String, Vec<SecretRef>>,
    ) {
        let Some(table) = section.get("secrets").and_then(|node| node.section()) else { return };
        if self.reader.scope != Scope::Full {
            return;
        }
        // Clients use the first of a list.
        let used = secrets.iter().filter_map(|(name, list)| Some((name, list.first()?, table.get(name)?)));
        for (name, secret, node) in used {
            if let Err(reason) = self.reader.knowledge.try_client_secret(&self.facts, given, name, secret) {
                node.wrong_secret(format!("the secret of {secret} does not serve"), reason);
            }
        }
    }

    fn settings(&self, section: &Section<'_>) -> Option<BTreeMap<String, String>> {
        let Some(node) = section.get("settings") else { return Some(BTreeMap::new()) };
        let table = node.section()?;
        let mut complete = true;
        let mut settings = BTreeMap::new();
        for (name, node) in table.entries() {
            let known = &self.facts.settings;
            if !known.iter().any(|known| known == name) {
                let remedy = match known.as_slice() {
                    [] => "remove it: the client has no settings".to_owned(),
                    known => format!("the client's settings: {}", known.join(", ")),
                };
                let message = "the client has no setting of this name";
                table.unknown_name(name, message, known.iter().map(String::as_str), remedy);
                complete = false;
            }
            match node.string("a setting") {
                Some(value) => drop(settings.insert(name.to_owned(), value.to_owned())),
                None => complete = false,
            }
        }
        complete.then_some(settings)
    }
}

/// Returns a setting of a client; the client's table where it is not there.
fn setting<'a>(table: &Node<'a>, name: &str) -> Node<'a> {
    let found = || table.section()?.get("settings")?.section()?.get(name);
    found().unwrap_or_else(|| table.clone())
}
