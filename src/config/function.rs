//! Reads `[[functions]]`.

use std::collections::BTreeMap;

use super::document::{Node, Section};
use super::raw::{Reader, Scope, optional, or_default};
use super::trigger::read_id;
use super::{Backoff, Concurrency, Format, Function, Handler, ProviderFacts, Retry, Trigger};
use crate::event::{FunctionId, TriggerId};
use crate::settings::is_env_name;

const KEYS: [&str; 11] = [
    "id",
    "on",
    "events",
    "when",
    "handler",
    "timeout",
    "retry",
    "concurrency",
    "signing_secret",
    "sign_as",
    "format",
];

const LATER: [(&str, &str); 6] = [
    ("rate_limit", "a rate limit of functions is"),
    ("throttle", "`throttle` is"),
    ("debounce", "`debounce` is"),
    ("batch", "`batch` is"),
    ("priority", "`priority` is"),
    ("singleton", "`singleton` is"),
];

const LATER_HANDLERS: [(&str, &str); 3] = [
    ("pull", "handlers of the kind `pull` are"),
    ("native", "handlers of the kind `native` are"),
    ("app", "handlers of the kind `app` are"),
];

/// What to write as a handler.
const HANDLER_EXAMPLE: &str =
    "handler = { http = \"http://127.0.0.1:3000/\" } or handler = { exec = [\"./deploy.sh\"] }";

/// Reads all functions.
pub(super) fn read_functions(
    reader: &Reader<'_>,
    root: &Section<'_>,
    trigger_ids: &[String],
) -> Option<Vec<Function>> {
    let Some(node) = root.get("functions") else { return Some(Vec::new()) };
    let items = node.array("[[functions]] tables")?;
    let mut ids = BTreeMap::new();
    let read = |item: &Node<'_>| {
        let mut section = item.section()?;
        let id = read_id(&mut section, "functions", &mut ids);
        Table { reader, trigger_ids }.read(&section, id.and_then(|id| id.parse().ok()))
    };
    items.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

/// Warns of functions that are to sign as providers which nobody else can sign as.
pub(super) fn check_sign_as(
    reader: &Reader<'_>,
    root: &Section<'_>,
    triggers: &[Trigger],
    functions: &[Function],
    own: &[ProviderFacts],
) {
    let tables = root.get("functions").and_then(|node| node.array("[[functions]] tables"));
    for (function, table) in functions.iter().zip(tables.into_iter().flatten()) {
        let Some(mut section) = table.section().filter(|_| function.sign_as_provider) else { continue };
        section.rename(format!("functions.{}", function.id));
        let taken = |id: &TriggerId| function.on.is_empty() || function.on.contains(id);
        for trigger in triggers.iter().filter(|trigger| taken(&trigger.id)) {
            let id = trigger.provider.as_str();
            let facts = own.iter().find(|facts| facts.id == id).cloned();
            let facts = facts.or_else(|| reader.knowledge.provider(id));
            if let (Some(why), Some(node)) = (facts.and_then(|it| it.cannot_sign_as), section.get("sign_as"))
            {
                node.risky(
                    format!(
                        "nobody can sign as `{id}` (trigger `{}`): {why}; every attempt will fail",
                        trigger.id
                    ),
                    "name other triggers in `on`; `signing_secret` signs deliveries of every provider",
                );
            }
        }
    }
}

/// Reads one function.
struct Table<'a> {
    reader: &'a Reader<'a>,
    trigger_ids: &'a [String],
}

impl Table<'_> {
    fn read(&self, section: &Section<'_>, id: Option<FunctionId>) -> Option<Function> {
        section.only(&KEYS, &LATER);
        let on = or_default(section.get("on"), Vec::new(), |node| self.on(node));
        let events = or_default(section.get("events"), Vec::new(), |node| self.events(node));
        let when = optional(section.get("when"), |node| self.cel(node));
        let handler = section.require("handler", HANDLER_EXAMPLE).and_then(|node| self.handler(&node));
        let timeout = or_default(section.get("timeout"), Function::TIMEOUT, |node| {
            self.reader.duration(node, Function::TIMEOUT_RANGE)
        });
        let retry = or_default(section.get("retry"), Retry::default(), |node| self.retry(node));
        let concurrency =
            or_default(section.get("concurrency"), Concurrency::default(), |node| self.concurrency(node));
        let signing_secret =
            or_default(section.get("signing_secret"), Vec::new(), |node| self.reader.secrets(node));
        let sign_as_provider = or_default(section.get("sign_as"), false, |node| self.sign_as(node));
        let format = or_default(section.get("format"), Format::default(), |node| self.format(node));
        let (handler, sign_as_provider) = (handler?, sign_as_provider?);
        self.validate_signing(section, &handler, sign_as_provider, format);
        Some(Function {
            id: id?,
            on: on?,
            events: events?,
            when: when?,
            handler,
            timeout: timeout?,
            retry: retry?,
            concurrency: concurrency?,
            signing_secret: signing_secret?,
            sign_as_provider,
            format: format?,
        })
    }

    /// Reports keys that mean nothing for the handler, or contradict each other.
    fn validate_signing(
        &self,
        section: &Section<'_>,
        handler: &Handler,
        sign_as_provider: bool,
        format: Option<Format>,
    ) {
        if let Handler::Exec { .. } = handler {
            for key in ["signing_secret", "sign_as"] {
                if let Some(node) = section.get(key) {
                    node.wrong_secret("only http handlers are signed for", "remove the key");
                }
            }
        } else if sign_as_provider && format == Some(Format::Structured) {
            let node = section.get("format").expect("the default is binary");
            node.wrong(
                "a provider's signature covers its own body, which format = \"structured\" replaces",
                "remove `format` or `sign_as`",
            );
        }
    }

    fn on(&self, node: &Node<'_>) -> Option<Vec<TriggerId>> {
        let mut found = Vec::new();
        let items = node.array("ids of triggers")?;
        if items.is_empty() {
            node.wrong(
                "the list is empty: the function would never run",
                "name triggers, or leave `on` out for all",
            );
        }
        for item in &items {
            let Some(text) = item.string("a trigger's id") else { continue };
            if !self.trigger_ids.iter().any(|id| id == text) {
                let known = self.trigger_ids.iter().map(String::as_str);
                let remedy = match self.trigger_ids {
                    [] => "there are no triggers: add a [[triggers]] table".to_owned(),
                    ids => format!("triggers: {}", ids.join(", ")),
                };
                item.unknown("unknown trigger", known, remedy);
            } else if let Ok(id) = text.parse() {
                found.push(id);
            }
        }
        (found.len() == items.len()).then_some(found)
    }

    fn events(&self, node: &Node<'_>) -> Option<Vec<String>> {
        let globs = self.reader.names(node, "kinds, where * matches any run of characters")?;
        if globs.is_empty() {
            node.wrong(
                "the list is empty: the function would never run",
                "name kinds, or leave `events` out for all",
            );
        }
        for (item, glob) in node.array("kinds")?.iter().zip(&globs) {
            if glob.is_empty() || glob.chars().any(|c| c.is_whitespace() || c.is_control()) {
                item.wrong(
                    "no kind has this form",
                    "write kinds such as \"push\" or \"pull_request.*\"; * matches any run of characters",
                );
            }
        }
        Some(globs)
    }

    fn cel(&self, node: &Node<'_>) -> Option<String> {
        let text = node.string("a CEL expression over `event`")?;
        if let Err(reason) = self.reader.knowledge.compile_cel(text) {
            node.wrong(
                format!("this is no CEL expression: {reason}"),
                "for example: event.payload.ref == \"refs/heads/main\"",
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn handler(&self, node: &Node<'_>) -> Option<Handler> {
        let section = node.section()?;
        section.only(&["http", "exec", "env"], &LATER_HANDLERS);
        match (section.get("http"), section.get("exec")) {
            (Some(_), Some(_)) => {
                node.wrong("a function has one handler, not two", HANDLER_EXAMPLE);
                None
            }
            (Some(url), None) => {
                if let Some(env) = section.get("env") {
                    env.wrong("only exec handlers have an environment", "remove `env`");
                }
                Some(Handler::Http { url: self.reader.url(&url)? })
            }
            (None, Some(exec)) => self.exec(&section, &exec),
            (None, None) => {
                if !LATER_HANDLERS.iter().any(|(kind, _)| section.get(kind).is_some()) {
                    section.missing("http", "the handler is missing", HANDLER_EXAMPLE);
                }
                None
            }
        }
    }

    fn exec(&self, section: &Section<'_>, node: &Node<'_>) -> Option<Handler> {
        if node.is_string() {
            node.wrong(
                "a command is a list: no shell takes it apart",
                "write [\"./deploy.sh\", \"argument\"]",
            );
            return None;
        }
        let mut command = self.reader.names(node, "program and arguments")?;
        let env = or_default(section.get("env"), Vec::new(), |node| self.env(node));
        let Some(program) = command.first_mut().filter(|program| !program.is_empty()) else {
            node.wrong("the command is empty", "name a program");
            return None;
        };
        // A path with a slash starts at the configuration's folder; a bare name is looked up on PATH.
        if program.contains('/') {
            *program = self.reader.findings.source().base.join(&*program).to_string_lossy().into_owned();
        }
        if self.reader.scope != Scope::Text && !self.reader.knowledge.program_exists(program) {
            node.risky(
                format!("there is no program {program}"),
                "attempts will fail and be retried until there is: check the path",
            );
        }
        Some(Handler::Exec { command, env: env? })
    }

    fn env(&self, node: &Node<'_>) -> Option<Vec<String>> {
        let names = self.reader.names(node, "names of environment variables")?;
        let mut complete = true;
        for (item, name) in node.array("names")?.iter().zip(&names) {
            if name.contains('=') {
                item.wrong_secret(
                    "names are wanted here, not values",
                    "write the name alone; its value is taken from hookkeeper's own environment",
                );
                complete = false;
            } else if !is_env_name(name) {
                item.wrong("this names no environment variable", "use letters, digits and _");
                complete = false;
            }
        }
        complete.then_some(names)
    }

    fn retry(&self, node: &Node<'_>) -> Option<Retry> {
        let section = node.section()?;
        section.only(&["attempts", "backoff"], &[]);
        let default = Retry::default();
        let attempts = or_default(section.get("attempts"), u64::from(default.attempts), |node| {
            node.integer(1..=Retry::ATTEMPTS_MAX)
        });
        let backoff = or_default(section.get("backoff"), default.backoff, |node| self.backoff(node));
        Some(Retry { attempts: u32::try_from(attempts?).ok()?, backoff: backoff? })
    }

    fn backoff(&self, node: &Node<'_>) -> Option<Backoff> {
        let text = node.string("standard, exponential, linear or none")?;
        let found = Backoff::ALL.into_iter().find(|backoff| backoff.as_str() == text);
        if found.is_none() {
            let known = Backoff::ALL.map(Backoff::as_str);
            node.unknown("unknown backoff", known, format!("one of {}", known.join(", ")));
        }
        found
    }

    fn concurrency(&self, node: &Node<'_>) -> Option<Concurrency> {
        let section = node.section()?;
        section.only(&["limit", "key"], &[]);
        let limit = or_default(section.get("limit"), u64::from(Concurrency::LIMIT), |node| {
            node.integer(1..=Concurrency::LIMIT_MAX)
        });
        let key = optional(section.get("key"), |node| self.cel(node));
        Some(Concurrency { limit: u32::try_from(limit?).ok()?, key: key? })
    }

    fn sign_as(&self, node: &Node<'_>) -> Option<bool> {
        if node.string("provider")? == "provider" {
            return Some(true);
        }
        node.unknown(
            "unknown way to sign",
            ["provider"],
            "the only one is \"provider\"; leave it out for none",
        );
        None
    }

    fn format(&self, node: &Node<'_>) -> Option<Format> {
        match node.string("binary or structured")? {
            "binary" => Some(Format::Binary),
            "structured" => Some(Format::Structured),
            _ => {
                node.unknown("unknown format", ["binary", "structured"], "one of binary, structured");
                None
            }
        }
    }
}
