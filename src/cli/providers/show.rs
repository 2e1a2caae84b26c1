//! `providers show`: one entry, as a person wants to read it: what to register, what to paste, what proves
//! a delivery, what comes, what is answered, what surprises.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::client;
use super::page::Page;
use crate::catalog::{
    Handshake, NetworkKeys, PLACEHOLDER, ProviderEntry, RuntimeKind, SecretSpec, Signature, TriggerKind,
    whole, words,
};
use crate::cli::render::{self, out};
use crate::cli::{ConfigFile, settings};
use crate::config::{Config, Scope, format_duration};
use crate::connector::{Credentials, SchemeFacts};

/// `providers show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper providers show slack         what to set up, and where
  hookkeeper providers show github --json the catalogue entry, a model for your own [[providers]]")]
pub(in crate::cli) struct Show {
    /// The provider's id
    provider: String,
    /// Print the whole catalogue entry as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let settings = settings::load(&self.config, Scope::Text)?;
        let entry = super::entry(&settings.catalog, &self.provider)?;
        if self.json {
            return render::json(&whole(entry)?);
        }
        Ok(write!(out(), "{}", told(entry, &settings.config))?)
    }
}

/// Tells an entry.
fn told(entry: &Arc<ProviderEntry>, config: &Config) -> String {
    let mut page = Page::titled(&format!("{} ({})", entry.name, entry.id));
    let in_code = entry.signature.is_none() && entry.runtime() != RuntimeKind::Builtin;
    page.line("proof", if in_code { "in its connector's code" } else { entry.family.in_words() });
    page.line("facts", entry.confidence.in_words());
    match entry.runtime() {
        RuntimeKind::Builtin => {}
        RuntimeKind::Registered => {
            page.line("runtime", "registered: a connector in code of this program serves it")
        }
        RuntimeKind::Placeholder => page.line("runtime", &format!("placeholder: {PLACEHOLDER}")),
    }
    if let Some(main) = &entry.variant_of {
        page.line("variant", &format!("another scheme of the provider of `{main}`"));
    }
    page.line("docs", &entry.docs);
    set_up(&mut page, entry, config);
    proof(&mut page, entry);
    handshakes(&mut page, entry);
    events(&mut page, entry);
    answer(&mut page, entry);
    client::tell(&mut page, entry);
    if !entry.gotchas.is_empty() {
        page.part("Mind");
        entry.gotchas.iter().for_each(|gotcha| page.point(gotcha));
    }
    page.part("Source");
    page.line("read", &entry.source);
    page.line("on", &entry.read_on);
    page.into_text()
}

fn set_up(page: &mut Page, entry: &ProviderEntry, config: &Config) {
    page.part("Set up");
    if entry.kinds == [TriggerKind::Cron] {
        return set_up_schedule(page, entry, config);
    }
    let base = config.server.public_url.as_deref();
    let triggers: Vec<_> = config.triggers.iter().filter(|trigger| trigger.provider == entry.id).collect();
    for trigger in &triggers {
        if let Some(poll) = trigger.poll() {
            page.line("polled", &format!("every {} (trigger {})", format_duration(poll.every), trigger.id));
            continue;
        }
        let url = match base {
            Some(base) => format!("{base}{} (trigger {})", trigger.path, trigger.id),
            None => format!(
                "{} at your public URL (trigger {}); with server.public_url the whole URL stands here",
                trigger.path, trigger.id
            ),
        };
        page.line("register", &url);
    }
    if triggers.is_empty() && !is_scheduled(entry) {
        let base = base.unwrap_or("https://<your public name>");
        page.line("register", &format!("{base}/hooks/{}, once there is a trigger", entry.id));
    }
    for secret in &entry.secrets {
        let how = if secret.learned { "; brought by a handshake while the trigger is armed" } else { "" };
        page.line("secret", &format!("{}{how}: {}", secret.name, secret.about));
    }
    for setting in &entry.settings {
        let default = match setting.default.as_deref() {
            None => "; must be set".to_owned(),
            Some("") => String::new(),
            Some(text) => format!(", {text:?} unless set"),
        };
        page.line("setting", &format!("{}{default}: {}", setting.name, setting.about));
    }
    page.gap();
    page.verbatim(&example(entry));
}

/// Tells whether no request starts the provider's events.
fn is_scheduled(entry: &ProviderEntry) -> bool {
    !entry.kinds.contains(&TriggerKind::Webhook)
}

fn set_up_schedule(page: &mut Page, entry: &ProviderEntry, config: &Config) {
    for trigger in config.triggers.iter().filter(|trigger| trigger.provider == entry.id) {
        if let Some(cron) = trigger.cron() {
            page.line(
                "trigger",
                &format!("{}: {}, catchup {}", trigger.id, cron.schedule, cron.catchup.as_str()),
            );
        }
    }
    page.line("schedule", "minute, hour, day of the month, month, day of the week; six fields begin with the second; or a word such as @hourly");
    page.line("timezone", "an IANA name, UTC unless set");
    page.line("catchup", "what becomes of ticks that were missed: skip (unless set), latest or all");
    page.gap();
    page.verbatim(&format!(
        "[[triggers]]\nid = \"nightly\"\nprovider = \"{}\"\nkind = \"cron\"\nschedule = \"0 3 * * *\"\ntimezone = \"Europe/Zurich\"\n",
        entry.id
    ));
}

/// Writes a trigger to copy.
fn example(entry: &ProviderEntry) -> String {
    let id = &entry.id;
    let needs_public_url = SchemeFacts::of_any(&Arc::new(entry.clone())).is_ok_and(|it| it.needs_public_url);
    let mut text = String::new();
    if needs_public_url {
        text.push_str(
            "[server]\npublic_url = \"https://hooks.example.com\"   # the URL is part of the proof\n\n",
        );
    }
    text.push_str(&format!("[[triggers]]\nid = \"{id}\"\nprovider = \"{id}\"\n"));
    if is_scheduled(entry) {
        text.push_str("kind = \"poll\"\nevery = \"1m\"\n");
    }
    if entry.signature.is_none() && entry.runtime() == RuntimeKind::Builtin {
        text.push_str(&format!("path = \"/hooks/{id}-<random text that nobody guesses>\"\n"));
    }
    let secret = |spec: &SecretSpec| format!("{} = \"env:{}\"", spec.name, variable(spec));
    let given: Vec<_> = entry.secrets.iter().filter(|spec| !spec.learned).map(secret).collect();
    if !given.is_empty() {
        text.push_str(&format!("secrets = {{ {} }}\n", given.join(", ")));
    }
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    let open: Vec<_> = open.map(|setting| format!("{} = \"…\"", setting.name)).collect();
    if !open.is_empty() {
        text.push_str(&format!("settings = {{ {} }}\n", open.join(", ")));
    }
    text
}

/// Returns the name of an environment variable for a secret, such as `GITHUB_SECRET`.
fn variable(spec: &SecretSpec) -> String {
    let name = if spec.name == crate::catalog::SIGNING_SECRET { "secret" } else { &spec.name };
    format!("{}_{name}", spec.namespace).to_ascii_uppercase().replace('-', "_")
}

fn proof(page: &mut Page, entry: &Arc<ProviderEntry>) {
    page.part("Proof");
    let Some(signature) = &entry.signature else {
        if is_scheduled(entry) {
            return page.line("none", "no request starts these events: there is nothing to forge");
        }
        if entry.runtime() != RuntimeKind::Builtin {
            return page.line("in code", "what proves a delivery is its connector's own affair");
        }
        page.line(
            "none",
            "whoever knows the URL can send what they like: keep the path secret, and treat \
                           what comes as a hint",
        );
        return;
    };
    form(page, signature);
    variants(page, signature);
    let covers_body = SchemeFacts::of_any(entry).ok().and_then(|facts| facts.covers_body);
    match covers_body {
        Some(false) if signature.covers_fields() => page.line(
            "WEAK",
            "the proof does not cover the body as a whole: what is not named above can be changed by whoever \
             has seen one delivery. Take deliveries over https alone, and ask the provider before you act on \
             what matters",
        ),
        Some(false) => page.line(
            "WEAK",
            "the proof does not cover the body: whoever has seen one delivery can send another body with it. \
             Take deliveries over https alone, and ask the provider before you act on what matters",
        ),
        _ => {}
    }
    if let Ok(credentials) = Credentials::of(entry, &defaults(entry)) {
        let query = credentials.query.iter().map(|name| format!("query parameter {name}"));
        let all: Vec<String> = credentials.headers.iter().cloned().chain(query).collect();
        page.line(
            "not kept",
            &format!("{} (credentials are redacted before an event is stored)", all.join(", ")),
        );
    }
}

/// Fills what an entry leaves open with the name of a header, so that it compiles.
fn defaults(entry: &ProviderEntry) -> std::collections::BTreeMap<String, String> {
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    open.map(|setting| (setting.name.clone(), format!("x-{}", setting.name))).collect()
}

fn form(page: &mut Page, signature: &Signature) {
    let places: Vec<_> =
        std::iter::once(&signature.sig).chain(&signature.also).map(|at| words::place(at)).collect();
    let each = if signature.each { ", in every item of the batch" } else { "" };
    page.line("stands in", &format!("{}{each}", places.join(", or ")));
    let list = signature.list.as_deref().filter(|list| !list.starts_with("${"));
    let list = list.map(|list| format!("; a list, separated by {list:?}")).unwrap_or_default();
    if !signature.syntax.is_empty() {
        page.line("looks like", &format!("{}{list}", signature.syntax.join(" and ")));
    }
    page.line("computed", &computed(signature));
    if let Some(content) = signature.signed_content() {
        page.line("covers", &words::content(content));
    }
    for content in &signature.content_also {
        page.line("or", &words::content(content));
    }
    for bind in &signature.binds {
        let unless = match bind.unless.as_deref() {
            Some(what) => format!(", unless the body is {}", if what == "form" { "a form" } else { "empty" }),
            None => String::new(),
        };
        page.line(
            "must equal",
            &format!("{}: {}{unless}", words::place(&bind.at), words::content(&bind.equals)),
        );
    }
    page.line("time", &time(signature));
    if !signature.public_keys.is_empty() {
        page.line("keys", "the provider's public keys are part of the entry");
    }
    if let Some(keys) = &signature.keys {
        page.line("keys", &network_keys(keys));
    }
}

fn computed(signature: &Signature) -> String {
    let alg = signature.alg.as_deref().unwrap_or("hmac-sha256");
    let key = signature.key.as_deref().filter(|key| !key.is_empty() && !key.starts_with("${"));
    let key = key.map(|key| format!("; the key is the secret after {}", key.replace('|', ", then ")));
    let how = match alg {
        "token" => "not at all: it is compared as it is".to_owned(),
        "jwt" => format!("JSON Web Token, {}", signature.algs.join(" or ")),
        other => other.to_owned(),
    };
    let default = if matches!(alg, "token" | "jwt") { "text" } else { "hex" };
    let encoding = match signature.encoding.as_deref().unwrap_or(default) {
        "text" => String::new(),
        encoding => format!(", written in {encoding}"),
    };
    format!("{how}{encoding}{}", key.unwrap_or_default())
}

fn time(signature: &Signature) -> String {
    let place = match &signature.timestamp {
        Some(at) if at.contains("${") => format!("where the setting says ({at})"),
        Some(at) => words::place(at),
        None if signature.syntax.iter().any(|pattern| pattern.contains("{timestamp}")) => {
            "in the proof".to_owned()
        }
        None => return "none is signed".to_owned(),
    };
    match signature.tolerance_s {
        Some(seconds) => format!("{place}; at most {} from now, in both directions", long(seconds)),
        None => format!("{place}; any time is taken"),
    }
}

fn long(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

fn network_keys(keys: &NetworkKeys) -> String {
    let hosts = match keys.hosts.as_slice() {
        [] => String::new(),
        hosts => format!(" (hosts: {})", hosts.join(", ")),
    };
    let method = if keys.method == "GET" { "fetched from" } else { "asked for at" };
    let url = if keys.url.starts_with('{') { words::content(&keys.url) } else { keys.url.clone() };
    format!("{method} {url}{hosts}, over https, kept for {}", long(keys.cache_s))
}

/// Tells the other forms of the proof; those that differ in the same way are told together.
fn variants(page: &mut Page, main: &Signature) {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for variant in &main.variants {
        let Ok(varied) = main.varied(variant) else { continue };
        let when: Vec<_> = variant.when.iter().map(words::condition).collect();
        let (when, other) = (when.join(" and "), differences(main, &varied));
        match told.iter_mut().find(|(known, _)| *known == other) {
            Some((_, whens)) => whens.push(when),
            None => told.push((other, vec![when])),
        }
    }
    for (other, whens) in told {
        page.line("variant", &format!("with {}: {other}", whens.join(", or with ")));
    }
}

fn differences(main: &Signature, varied: &Signature) -> String {
    let mut other = Vec::new();
    if (&varied.sig, &varied.syntax) != (&main.sig, &main.syntax) {
        other.push(format!("it stands in {}", words::place(&varied.sig)));
    }
    if computed(varied) != computed(main) {
        other.push(format!("it is computed as {}", computed(varied)));
    }
    if varied.content != main.content {
        other.push(format!("it covers {}", varied.signed_content().map(words::content).unwrap_or_default()));
    }
    if other.is_empty() { "another form counts".to_owned() } else { other.join(", and ") }
}

fn handshakes(page: &mut Page, entry: &ProviderEntry) {
    if entry.handshakes.is_empty() {
        return;
    }
    page.part("Handshakes");
    entry.handshakes.iter().for_each(|handshake| page.point(&handshake_in_words(handshake)));
}

fn handshake_in_words(handshake: &Handshake) -> String {
    let when: Vec<_> = handshake.when.iter().map(words::condition).collect();
    let signed = if handshake.signed { "verified first" } else { "answered without a proof" };
    let mut text = format!(
        "{}: {} with {}; {signed}. ",
        handshake.name,
        handshake.methods.join(" or "),
        if when.is_empty() { "nothing else".to_owned() } else { when.join(" and ") },
    );
    if let Some(learn) = &handshake.learn {
        text.push_str(&format!(
            "It brings the secret {} ({}), which is taken while the trigger is armed: in its first hour, or \
             after `hookkeeper triggers arm ID --for 10m`. ",
            learn.secret,
            words::value(&learn.from)
        ));
    }
    if let Some(call) = &handshake.call {
        let (url, hosts) = (words::value(call), handshake.call_hosts.join(", "));
        text.push_str(&format!("hookkeeper calls {url} (hosts: {hosts}) before it answers. "));
    }
    let reply = &handshake.reply;
    let body = match reply.body.as_str() {
        "" => "an empty body".to_owned(),
        body => words::content(body),
    };
    text.push_str(&format!("The answer is {} with {body}", reply.status));
    for (name, value) in &reply.headers {
        text.push_str(&format!(", and header {name}: {}", words::content(value)));
    }
    text.push('.');
    text
}

fn events(page: &mut Page, entry: &ProviderEntry) {
    let event = &entry.event;
    page.part("Events");
    if event.kind.is_empty() && entry.runtime() != RuntimeKind::Builtin {
        return page.line("in code", "kinds, and what tells events apart, are its connector's own affair");
    }
    let kinds: Vec<_> = event.kind.iter().map(|kind| words::content(kind)).collect();
    page.line(
        "kind",
        if kinds.is_empty() { "always unknown".to_owned() } else { kinds.join("; else ") }.as_str(),
    );
    if let Some(items) = &event.items {
        page.line("batches", &format!("each element of {} is an event of its own", words::place(items)));
    }
    if let Some(field) = &event.unwrap {
        page.line("forms", &format!("of a form-encoded body, field {field} holds the JSON"));
    }
    let window = long(entry.dedupe_window_s);
    let dedupe = match event.delivery.iter().map(|at| words::value(at)).collect::<Vec<_>>() {
        places if places.is_empty() => {
            "the provider sends no id: a repeat is a new event, unless the trigger says \
                                        dedupe = \"body\""
                .to_owned()
        }
        places => format!("{}; remembered for {window}", places.join(", else ")),
    };
    page.line("told apart by", &dedupe);
    page.line("occurred", &event.at.as_deref().map(words::value).unwrap_or_default());
    if let Some(bytes) = entry.body_limit_bytes {
        page.line("largest", &format!("{} as the provider says", render::bytes(bytes)));
    }
    let samples: Vec<_> = entry.samples.iter().map(|sample| sample.kind.as_str()).collect();
    if !samples.is_empty() {
        page.line("samples", &format!("{} (hookkeeper send {})", samples.join(", "), entry.id));
    }
}

fn answer(page: &mut Page, entry: &ProviderEntry) {
    let ack = &entry.ack;
    page.part("Answer");
    if is_scheduled(entry) {
        return page.line("none", "nobody waits for one");
    }
    let body = match ack.body.as_str() {
        "" => "an empty body".to_owned(),
        body => format!("{body:?}"),
    };
    let content_type = ack.content_type.as_deref().map(|it| format!(" ({it})")).unwrap_or_default();
    page.line("accepted", &format!("{} with {body}{content_type}", ack.status));
    page.line("within", &ack.within_s.map(long).unwrap_or_default());
    page.line("retries", ack.retries.as_deref().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;
    use crate::cli::knowledge::BuiltIn;
    use crate::config::Source;
    use crate::connector::ConnectorRegistry;

    fn config(text: &str) -> Config {
        let source = Source { name: "x".into(), text: text.into(), base: Default::default() };
        crate::config::load(
            &source,
            &BuiltIn(ConnectorRegistry::new(ProviderCatalog::built_in())),
            Scope::Text,
        )
        .unwrap()
        .0
    }

    /// Tells an entry without colours; every part must be there.
    fn check(id: &str, parts: &[&str]) {
        check_entry(ProviderCatalog::built_in().get(id).unwrap(), parts);
    }

    fn check_entry(entry: &Arc<ProviderEntry>, parts: &[&str]) {
        let (id, config) = (&entry.id, config("[server]\npublic_url = \"https://hooks.example.com\"\n"));
        let text = told(entry, &config);
        let text = anstream::adapter::strip_str(&text).to_string();
        // Where a line is broken does not matter.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(flat.contains(part), "{id}: {part}\n{text}");
        }
    }

    #[test]
    fn every_family_reads_well() {
        check(
            "github",
            &[
                "stands in header X-Hub-Signature-256",
                "looks like sha256={sig}",
                "computed hmac-sha256, written in hex",
                "covers the raw body",
                "told apart by header X-GitHub-Delivery; remembered for 3d",
                "secrets = { signing_secret = \"env:GITHUB_SECRET\" }",
                "register https://hooks.example.com/hooks/github",
                "largest 26.2 MB",
            ],
        );
        check(
            "stripe",
            &[
                "covers the signed time, \".\", the raw body",
                "in the proof; at most 5m from now, in both directions",
            ],
        );
        check(
            "discord",
            &[
                "computed ed25519, written in hex; the key is the secret after unhex",
                "POST with body field /type = \"0\"; verified first. The answer is 204",
            ],
        );
        check(
            "aws-sns",
            &[
                "must equal body field /TopicArn: the trigger's topic_arn",
                "fetched from body field /SigningCertURL (hosts: sns.*.amazonaws.com",
                "variant with body field /SignatureVersion = \"2\"",
                "hookkeeper calls body field /SubscribeURL",
            ],
        );
        check("paypal", &["the trigger's webhook_id, \"|\", the raw body as crc32"]);
        check(
            "gitlab",
            &[
                "not at all: it is compared as it is",
                "WEAK the proof does not cover the body",
                "not kept authorization, proxy-authorization, cookie, x-gitlab-token",
            ],
        );
        check("plaid", &["JSON Web Token, ES256", "must equal the token's claim request_body_sha256"]);
        check(
            "meta",
            &[
                "GET with query parameter hub.mode = \"subscribe\"",
                "query parameter hub.verify_token that is the trigger's verify_token",
                "verify_token = \"env:META_VERIFY_TOKEN\"",
            ],
        );
        check(
            "adyen",
            &[
                "in every item of the batch",
                "the proof does not cover the body as a whole",
                "each element of body field /notificationItems",
                "[accepted]",
            ],
        );
        check("chargebee", &["user name and password", "WEAK"]);
        check(
            "docker-hub",
            &["no proof at all", "keep the path secret", "path = \"/hooks/docker-hub-<random"],
        );
        check("hmac", &["setting header; must be set", "settings = { header = \"…\" }"]);
        check(
            "twilio",
            &[
                "covers the registered URL with its query, all form fields, sorted by names",
                "public_url = \"https://hooks.example.com\" # the URL is part of the proof",
                "unless the body is a form",
            ],
        );
        check("notion", &["brings the secret signing_secret", "triggers arm ID"]);
    }

    #[test]
    fn of_a_connector_in_code_nothing_is_claimed_that_only_its_code_knows() {
        let coded = |kinds: &[TriggerKind]| {
            let mut entry = ProviderEntry::of_code("acme".parse().unwrap());
            (entry.is_coded, entry.kinds) = (true, kinds.to_vec());
            entry.outbound = vec!["get_account".to_owned(), "list_changes".to_owned()];
            Arc::new(entry)
        };
        check_entry(
            &coded(&[TriggerKind::Webhook, TriggerKind::Poll]),
            &[
                "proof in its connector's code",
                "register https://hooks.example.com/hooks/acme",
                "Events in code kinds, and what tells events apart",
                "methods get_account, list_changes (hookkeeper call acme)",
            ],
        );
        check_entry(
            &coded(&[TriggerKind::Poll]),
            &["Set up [[triggers]] id = \"acme\" provider = \"acme\" kind = \"poll\" every = \"1m\""],
        );
    }

    #[test]
    fn every_entry_can_be_told() {
        let config = config("");
        for entry in ProviderCatalog::built_in().entries() {
            let text = told(entry, &config);
            for part in ["Set up", "Proof", "Events", "Answer", "Source", "[[triggers]]"] {
                assert!(text.contains(part), "{}: {part}", entry.id);
            }
            assert!(!text.contains("\n\n\n"), "{}", entry.id);
        }
    }
}
