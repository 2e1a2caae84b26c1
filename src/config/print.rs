//! Writes a configuration back as TOML, defaults included: `check --print`.

use std::fmt::{self, Display, Write as _};

use super::units::{format_duration, format_size};
use super::{Client, Config, Dedupe, Format, Function, Handler, Outbound, SecretRef, Server, Trigger};

impl Display for Config {
    /// Writes the configuration in effect as TOML, without secrets: a literal one reads `literal:[redacted]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        server(f, &self.server)?;
        writeln!(f, "\n[log]\npath = {}", quoted(&self.log.path.display()))?;
        if let Some(dir) = &self.secrets.dir {
            writeln!(f, "\n[secrets]\ndir = {}", quoted(&dir.display()))?;
        }
        outbound(f, &self.outbound)?;
        for trigger in &self.triggers {
            write_trigger(f, trigger)?;
        }
        for function in &self.functions {
            write_function(f, function)?;
        }
        for client in &self.clients {
            write_client(f, client)?;
        }
        let entries =
            self.providers.iter().filter_map(|text| toml::from_str(text).ok()).collect::<Vec<toml::Table>>();
        if !entries.is_empty() {
            let document = std::collections::BTreeMap::from([("providers", entries)]);
            write!(f, "\n{}", toml::to_string(&document).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// Returns a TOML string.
fn quoted(text: &impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

fn secrets(references: &[SecretRef]) -> String {
    match references {
        [one] => quoted(one),
        all => list(all),
    }
}

fn server(f: &mut fmt::Formatter<'_>, server: &Server) -> fmt::Result {
    writeln!(f, "[server]\nlisten = {}", quoted(&server.listen))?;
    if let Some(url) = &server.public_url {
        writeln!(f, "public_url = {}", quoted(url))?;
    }
    writeln!(f, "admin = {}", quoted(&server.admin))?;
    if let Some(token) = &server.admin_token {
        writeln!(f, "admin_token = {}", quoted(token))?;
    }
    writeln!(f, "admin_names = {}", list(&server.admin_names))?;
    if let Some(tls) = &server.tls {
        let (cert, key) = (quoted(&tls.cert.display()), quoted(&tls.key.display()));
        writeln!(f, "tls = {{ cert = {cert}, key = {key} }}")?;
    }
    writeln!(f, "body_limit = {}", quoted(&format_size(server.body_limit)))?;
    writeln!(f, "stop_timeout = {}", quoted(&format_duration(server.stop_timeout)))?;
    writeln!(f, "workers = {}", server.workers)
}

fn outbound(f: &mut fmt::Formatter<'_>, outbound: &Outbound) -> fmt::Result {
    writeln!(f, "\n[outbound]\nallow_private = {}", list(&outbound.allow_private))?;
    let hosts = outbound.hosts.iter().map(|(name, address)| (name.as_str(), quoted(address)));
    writeln!(f, "hosts = {}", table(hosts))?;
    match &outbound.ca {
        Some(path) => writeln!(f, "ca = {}", quoted(&path.display())),
        None => Ok(()),
    }
}

fn write_trigger(f: &mut fmt::Formatter<'_>, trigger: &Trigger) -> fmt::Result {
    writeln!(f, "\n[[triggers]]\nid = {}", quoted(&trigger.id))?;
    writeln!(f, "provider = {}", quoted(&trigger.provider))?;
    writeln!(f, "kind = {}", quoted(&trigger.kind.as_str()))?;
    if let Some(cron) = trigger.cron() {
        let (expression, zone) = (cron.schedule.expression(), cron.schedule.zone());
        writeln!(f, "schedule = {}\ntimezone = {}", quoted(&expression), quoted(&zone))?;
        return writeln!(f, "catchup = {}", quoted(&cron.catchup.as_str()));
    }
    match trigger.poll() {
        Some(poll) => writeln!(f, "every = {}", quoted(&format_duration(poll.every)))?,
        None => writeln!(f, "path = {}", quoted(&trigger.path))?,
    }
    let entries = trigger.secrets.iter().map(|(name, list)| (name.as_str(), secrets(list)));
    writeln!(f, "secrets = {}", table(entries))?;
    if let Some(tolerance) = trigger.tolerance {
        writeln!(f, "tolerance = {}", quoted(&format_duration(tolerance)))?;
    }
    writeln!(f, "dedupe_window = {}", quoted(&format_duration(trigger.dedupe_window)))?;
    if trigger.poll().is_none() {
        let dedupe = match trigger.dedupe {
            Dedupe::Delivery => "delivery",
            Dedupe::Body => "body",
        };
        writeln!(f, "dedupe = {}", quoted(&dedupe))?;
    }
    if let Some(limit) = trigger.rate_limit {
        writeln!(f, "rate_limit = {{ per_second = {:?}, burst = {} }}", limit.per_second, limit.burst)?;
    }
    let entries = trigger.settings.iter().map(|(name, value)| (name.as_str(), quoted(value)));
    writeln!(f, "settings = {}", table(entries))?;
    if !trigger.public_keys.is_empty() {
        writeln!(f, "public_keys = {}", list(&trigger.public_keys))?;
    }
    Ok(())
}

fn write_client(f: &mut fmt::Formatter<'_>, client: &Client) -> fmt::Result {
    writeln!(f, "\n[clients.{}]", client.provider)?;
    let entries = client.secrets.iter().map(|(name, list)| (name.as_str(), secrets(list)));
    writeln!(f, "secrets = {}", table(entries))?;
    let entries = client.settings.iter().map(|(name, value)| (name.as_str(), quoted(value)));
    writeln!(f, "settings = {}", table(entries))?;
    match &client.base_url {
        Some(url) => writeln!(f, "base_url = {}", quoted(url)),
        None => Ok(()),
    }
}

/// Returns an inline table of values that are TOML already.
fn table<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let is_bare =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let mut text = String::new();
    for (key, value) in entries {
        let key = if is_bare(key) { key.to_owned() } else { quoted(&key) };
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{key} = {value}").expect("writing to a string succeeds");
    }
    if text.is_empty() { "{}".to_owned() } else { format!("{{ {text} }}") }
}

fn write_function(f: &mut fmt::Formatter<'_>, function: &Function) -> fmt::Result {
    writeln!(f, "\n[[functions]]\nid = {}", quoted(&function.id))?;
    // An empty `on` or `events` means all, and would be refused if written.
    if !function.on.is_empty() {
        writeln!(f, "on = {}", list(&function.on))?;
    }
    if !function.events.is_empty() {
        writeln!(f, "events = {}", list(&function.events))?;
    }
    if let Some(when) = &function.when {
        writeln!(f, "when = {}", quoted(when))?;
    }
    match &function.handler {
        Handler::Http { url } => writeln!(f, "handler = {{ http = {} }}", quoted(url))?,
        Handler::Exec { command, env } => {
            writeln!(f, "handler = {{ exec = {}, env = {} }}", list(command), list(env))?;
        }
    }
    writeln!(f, "timeout = {}", quoted(&format_duration(function.timeout)))?;
    let backoff = quoted(&function.retry.backoff.as_str());
    writeln!(f, "retry = {{ attempts = {}, backoff = {backoff} }}", function.retry.attempts)?;
    let key = function.concurrency.key.as_ref().map(|key| format!(", key = {}", quoted(key)));
    writeln!(f, "concurrency = {{ limit = {}{} }}", function.concurrency.limit, key.unwrap_or_default())?;
    if !function.signing_secret.is_empty() {
        writeln!(f, "signing_secret = {}", secrets(&function.signing_secret))?;
    }
    if function.sign_as_provider {
        writeln!(f, "sign_as = \"provider\"")?;
    }
    let format = match function.format {
        Format::Binary => "binary",
        Format::Structured => "structured",
    };
    writeln!(f, "format = {}", quoted(&format))
}
