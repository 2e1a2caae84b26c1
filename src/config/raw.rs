//! Configuration as typed: reads the document, applies defaults, and finds every problem in one run.
//!
//! One reader per table; what concerns several tables (duplicate ids, unknown triggers) is found on the way.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::SecretRef;
use super::clients::read_clients;
use super::document::{Findings, Node, Section, Source};
use super::function::{check_sign_as, read_functions};
use super::knowledge::Knowledge;
use super::outbound::read_outbound;
use super::problem::{Problem, Warning};
use super::trigger::{read_providers, read_triggers};
use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::{Config, Log, Outbound, Secrets, Server, Tls};

/// How much of its surroundings a configuration is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything, as `check` wants it: variables are set, files readable, programs there.
    Full,
    /// Everything, as `serve` wants it: a trigger's secret whose file is not there yet is no reason not to start.
    Serve,
    /// Only the text itself, as commands want it that look up an address or a folder.
    Text,
}

/// What readers of tables share.
pub(super) struct Reader<'a> {
    pub(super) findings: &'a Findings<'a>,
    pub(super) knowledge: &'a dyn Knowledge,
    pub(super) scope: Scope,
}

/// Reads a configuration.
///
/// # Errors
///
/// If anything is wrong: every problem, in the order of the text.
pub fn load(
    source: &Source,
    knowledge: &dyn Knowledge,
    scope: Scope,
) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let findings = Findings::new(source);
    errors.iter().for_each(|error| findings.syntax(error));

    let config = {
        let reader = Reader { findings: &findings, knowledge, scope };
        reader.config(&Section::root(&findings, &document))
    };
    let (problems, warnings) = findings.finish();
    match config {
        Some(config) if problems.is_empty() => Ok((config, warnings)),
        _ => {
            debug_assert!(!problems.is_empty(), "a configuration without problems is complete");
            Err(problems)
        }
    }
}

impl Reader<'_> {
    fn config(&self, root: &Section<'_>) -> Option<Config> {
        root.only(
            &["server", "log", "secrets", "outbound", "triggers", "functions", "providers", "clients"],
            &[],
        );
        let server = match root.get("server") {
            Some(node) => node.section().and_then(|section| self.server(&section)),
            None => Some(Server::default()),
        };
        let log = match root.get("log") {
            Some(node) => node.section().and_then(|section| self.log(&section)),
            None => Some(Log { path: self.findings.source().base.join(Log::default().path) }),
        };
        let secrets = match root.get("secrets") {
            Some(node) => node.section().and_then(|section| self.secrets_folder(&section)),
            None => Some(Secrets::default()),
        };
        let outbound = match root.get("outbound") {
            Some(node) => node.section().and_then(|section| read_outbound(self, &section)),
            None => Some(Outbound::default()),
        };
        let has_public_url = server.as_ref().is_none_or(|server| server.public_url.is_some());
        let (providers, own) = read_providers(self, root);
        let (triggers, trigger_ids) = read_triggers(self, root, &own, has_public_url);
        let functions = read_functions(self, root, &trigger_ids);
        if let (Some(triggers), Some(functions)) = (&triggers, &functions) {
            check_sign_as(self, root, triggers, functions, &own);
        }
        let clients = read_clients(self, root, &own, outbound.as_ref());
        Some(Config {
            server: server?,
            log: log?,
            secrets: secrets?,
            outbound: outbound?,
            triggers: triggers?,
            functions: functions?,
            providers: providers?,
            clients: clients?,
        })
    }

    fn server(&self, section: &Section<'_>) -> Option<Server> {
        section.only(
            &[
                "listen",
                "public_url",
                "admin",
                "admin_names",
                "admin_token",
                "tls",
                "body_limit",
                "stop_timeout",
                "workers",
            ],
            &[],
        );
        let default = Server::default();
        let listen = or_default(section.get("listen"), default.listen, |node| self.address(node));
        let admin = or_default(section.get("admin"), default.admin, |node| self.address(node));
        let public_url = optional(section.get("public_url"), |node| self.public_url(node));
        let admin_token = optional(section.get("admin_token"), |node| self.one_secret(node));
        let admin_names = or_default(section.get("admin_names"), Vec::new(), |node| self.host_names(node));
        let tls = optional(section.get("tls"), |node| self.tls(node));
        let body_limit = or_default(section.get("body_limit"), default.body_limit, |node| {
            self.size(node, Server::BODY_LIMIT_RANGE)
        });
        let stop_timeout = or_default(section.get("stop_timeout"), default.stop_timeout, |node| {
            self.duration(node, Server::STOP_TIMEOUT_RANGE)
        });
        let workers = or_default(section.get("workers"), default.workers, |node| {
            node.integer(1..=Server::WORKERS_MAX).and_then(|number| usize::try_from(number).ok())
        });
        check_listeners(section, listen, admin);
        Some(Server {
            listen: listen?,
            admin: admin?,
            admin_token: admin_token?,
            public_url: public_url?,
            admin_names: admin_names?,
            tls: tls?,
            body_limit: body_limit?,
            stop_timeout: stop_timeout?,
            workers: workers?,
        })
    }

    fn log(&self, section: &Section<'_>) -> Option<Log> {
        section
            .only(&["path"], &[("retention", "retention is"), ("size_limit", "a size limit of the log is")]);
        let default = self.findings.source().base.join(Log::default().path);
        let path = or_default(section.get("path"), default, |node| self.path(node, "a folder"))?;
        Some(Log { path })
    }

    fn secrets_folder(&self, section: &Section<'_>) -> Option<Secrets> {
        section.only(&["dir"], &[]);
        let dir = optional(section.get("dir"), |node| self.path(node, "a folder"))?;
        Some(Secrets { dir })
    }

    fn tls(&self, node: &Node<'_>) -> Option<Tls> {
        let section = node.section()?;
        section.only(&["cert", "key"], &[]);
        let remedy = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";
        let cert = section.require("cert", remedy).and_then(|node| self.readable(&node));
        let key = section.require("key", remedy).and_then(|node| self.readable(&node));
        let tls = Tls { cert: cert?, key: key? };
        if self.scope != Scope::Text
            && let Err(reason) = self.knowledge.try_tls(&tls)
        {
            node.wrong(
                reason,
                "give PEM files: of the certificate and its chain, and of the private key that belongs to it",
            );
            return None;
        }
        Some(tls)
    }

    pub(super) fn readable(&self, node: &Node<'_>) -> Option<PathBuf> {
        let path = self.path(node, "a PEM file")?;
        if self.scope != Scope::Text
            && let Err(reason) = self.knowledge.try_file(&path)
        {
            node.wrong(
                format!("cannot read {}: {reason}", path.display()),
                "give the path of a file that hookkeeper's user may read; relative paths start at the configuration's folder",
            );
            return None;
        }
        Some(path)
    }

    pub(super) fn path(&self, node: &Node<'_>, wanted: &str) -> Option<PathBuf> {
        let text = node.string(wanted)?;
        if text.is_empty() || text.contains('\0') {
            node.wrong("this is no path", format!("name {wanted}"));
            return None;
        }
        Some(self.findings.source().base.join(text))
    }

    pub(super) fn address(&self, node: &Node<'_>) -> Option<SocketAddr> {
        let text = node.string("an address such as 127.0.0.1:8080")?;
        let found = text.parse().ok().or_else(|| {
            let port = text.strip_prefix("localhost:")?.parse().ok()?;
            Some(SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port)))
        });
        if found.is_none() {
            let remedy = if text.parse::<IpAddr>().is_ok() {
                "add a port: 127.0.0.1:8080, or [::1]:8080"
            } else {
                "write an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080 for all, or [::1]:8080"
            };
            node.wrong("this is not an address", remedy);
        }
        found
    }

    fn public_url(&self, node: &Node<'_>) -> Option<String> {
        let text = self.url(node)?;
        if text.contains(['?', '#']) {
            node.wrong("the public URL has a query or fragment", "leave out what follows the path");
            return None;
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    /// Reads an http or https URL without credentials.
    pub(super) fn url(&self, node: &Node<'_>) -> Option<String> {
        let text = node.string("a URL")?;
        let uri: Option<http::Uri> = text.parse().ok();
        let (scheme, authority) =
            uri.as_ref().map(|uri| (uri.scheme_str(), uri.authority())).unwrap_or_default();
        match (scheme, authority) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                node.wrong_secret("the URL carries credentials", "leave out the part before the @");
                None
            }
            (Some("http" | "https"), Some(authority)) if !authority.host().is_empty() => {
                Some(text.to_owned())
            }
            _ => {
                // What stands before an @ may be a password, whatever is wrong with the rest.
                let told = if text.contains('@') { Node::wrong_secret } else { Node::wrong };
                told(
                    node,
                    "this is not an http or https URL",
                    "write it in full, such as https://hooks.example.com",
                );
                None
            }
        }
    }

    pub(super) fn duration(&self, node: &Node<'_>, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = node.string("a duration such as \"30s\"")?;
        let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
        match parse_duration(text) {
            None => {
                node.wrong(
                    "this is not a duration",
                    "write numbers with units: 500ms, 30s, 5m, 1h30m, 72h, 30d",
                );
                None
            }
            Some(found) if !range.contains(&found) => {
                node.wrong("duration out of range", format!("use {least} to {most}"));
                None
            }
            found => found,
        }
    }

    fn size(&self, node: &Node<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let text = node.string("a size such as \"25MB\"")?;
        match parse_size(text) {
            None => {
                node.wrong("this is not a size", "write a whole number with a unit: 512B, 64KiB, 25MB, 1GB");
                None
            }
            Some(found) if !range.contains(&found) => {
                let (least, most) = (format_size(*range.start()), format_size(*range.end()));
                node.wrong("size out of range", format!("use {least} to {most}"));
                None
            }
            found => found,
        }
    }

    /// Reads a list of strings.
    pub(super) fn names(&self, node: &Node<'_>, wanted: &str) -> Option<Vec<String>> {
        let items = node.array(wanted)?;
        items
            .iter()
            .map(|item| item.string(wanted).map(str::to_owned))
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    /// Reads names as they stand in a Host header, without the port.
    fn host_names(&self, node: &Node<'_>) -> Option<Vec<String>> {
        let wanted = "host names";
        let is_name = |name: &str| {
            !name.is_empty() && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
        };
        let names = self.names(node, wanted)?;
        for (item, name) in node.array(wanted)?.iter().zip(&names) {
            if !is_name(name) {
                item.wrong(
                    "this is no host name",
                    "write it without scheme and port, such as admin.example.com",
                );
            }
        }
        Some(names)
    }

    /// Reads one secret reference; a list is refused.
    pub(super) fn one_secret(&self, node: &Node<'_>) -> Option<SecretRef> {
        if node.is_array() {
            node.wrong_secret("one secret is wanted here, not a list", "name a single reference");
            return None;
        }
        self.secret(node, None)
    }

    /// Reads a secret reference or a list of them.
    pub(super) fn secrets(&self, node: &Node<'_>) -> Option<Vec<SecretRef>> {
        self.list_of_secrets(node, None)
    }

    /// Reads the secrets of a trigger, which may come while the server runs.
    pub(super) fn trigger_secrets(&self, node: &Node<'_>) -> Option<Vec<SecretRef>> {
        self.list_of_secrets(node, self.until_it_comes("deliveries get 503"))
    }

    /// Reads the secrets of a client, likewise.
    pub(super) fn client_secrets(&self, node: &Node<'_>) -> Option<Vec<SecretRef>> {
        self.list_of_secrets(node, self.until_it_comes("calls fail"))
    }

    /// What goes wrong without a file that may come while the server runs; nothing where it must be there.
    fn until_it_comes(&self, meanwhile: &'static str) -> Option<&'static str> {
        (self.scope == Scope::Serve).then_some(meanwhile)
    }

    fn list_of_secrets(&self, node: &Node<'_>, meanwhile: Option<&str>) -> Option<Vec<SecretRef>> {
        if node.is_string() {
            return Some(vec![self.secret(node, meanwhile)?]);
        }
        if !node.is_array() {
            node.wrong_secret(
                "expected a secret reference or a list of them",
                "write \"env:NAME\", \"file:PATH\" or \"store:NAME\"",
            );
            return None;
        }
        let items = node.array("secret references")?;
        if items.is_empty() {
            node.wrong_secret("the list of secrets is empty", "name at least one reference");
            return None;
        }
        // All are read before the first failure counts, so that each is reported.
        items.iter().map(|item| self.secret(item, meanwhile)).collect::<Vec<_>>().into_iter().collect()
    }

    fn secret(&self, node: &Node<'_>, meanwhile: Option<&str>) -> Option<SecretRef> {
        if !node.is_string() {
            node.wrong_secret(
                "expected a secret reference",
                "write \"env:NAME\", \"file:PATH\" or \"store:NAME\"",
            );
            return None;
        }
        let text = node.string("a secret reference")?;
        let found = match SecretRef::parse(text, &self.findings.source().base) {
            Ok(found) => found,
            Err(error) => {
                node.wrong_secret(error, error.remedy());
                return None;
            }
        };
        if let SecretRef::Literal(_) = &found {
            node.risky_secret(
                "a literal secret stands in the configuration",
                "fit for examples and tests only: refer to it with \"env:NAME\", \"file:PATH\" or \"store:NAME\"",
            );
        }
        if self.scope != Scope::Text {
            self.check_secret(node, &found, meanwhile);
        }
        Some(found)
    }

    /// Reports a reference to what is not there, cannot be read, or is blank; a file may come while the server
    /// runs where it is known what goes wrong `meanwhile`, and then is worth a warning.
    fn check_secret(&self, node: &Node<'_>, secret: &SecretRef, meanwhile: Option<&str>) {
        let blank = || {
            node.wrong_secret(
                format!("the secret of {secret} is blank"),
                "it would protect nothing: set it to what the provider shows",
            );
        };
        match secret {
            SecretRef::Env(name) if !self.knowledge.env_is_set(name) => node.wrong(
                format!("the environment variable {name} is not set"),
                format!("set it before hookkeeper starts: export {name}=…"),
            ),
            SecretRef::File(path) => match self.knowledge.try_file(path) {
                Ok(()) if self.knowledge.is_blank(secret) && meanwhile.is_none() => blank(),
                Ok(()) => {}
                Err(reason) => {
                    let message = format!("cannot read {}: {reason}", path.display());
                    let remedy = "create the file, readable by hookkeeper's user alone";
                    match meanwhile {
                        Some(harm) => node.risky(format!("{message}; until it is there, {harm}"), remedy),
                        None => node.wrong(message, remedy),
                    }
                }
            },
            secret if self.knowledge.is_blank(secret) => blank(),
            _ => {}
        }
    }
}

/// Reports what is wrong with the addresses together, as far as they could be read.
fn check_listeners(section: &Section<'_>, listen: Option<SocketAddr>, admin: Option<SocketAddr>) {
    let Some(admin) = admin else { return };
    if !admin.ip().is_loopback() && section.get("admin_token").is_none() {
        let node = section.get("admin").expect("the default is loopback");
        node.wrong(
            "the admin listener is reachable from other machines, and `admin_token` is missing",
            "set admin_token = \"env:HOOKKEEPER_ADMIN_TOKEN\", or listen on 127.0.0.1",
        );
    }
    let Some(listen) = listen else { return };
    let same_address =
        listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
    if listen.port() == admin.port() && listen.port() != 0 && same_address {
        let node = section.get("admin").or_else(|| section.get("listen")).expect("the defaults differ");
        node.wrong("`listen` and `admin` are the same address", "give the admin listener a port of its own");
    }
}

/// Returns the default where there is no value, and nothing where the value is wrong.
pub(super) fn or_default<'a, T>(
    node: Option<Node<'a>>,
    default: T,
    read: impl FnOnce(&Node<'a>) -> Option<T>,
) -> Option<T> {
    match node {
        None => Some(default),
        Some(node) => read(&node),
    }
}

/// Returns `Some(None)` where there is no value, and nothing where the value is wrong.
pub(super) fn optional<'a, T>(
    node: Option<Node<'a>>,
    read: impl FnOnce(&Node<'a>) -> Option<T>,
) -> Option<Option<T>> {
    match node {
        None => Some(None),
        Some(node) => read(&node).map(Some),
    }
}
