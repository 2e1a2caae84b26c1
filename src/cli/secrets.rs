//! `secrets`: what hookkeeper keeps sealed.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::Client;
use super::render::{self, BOLD, Cell, RED, Table, YELLOW, note, out, paint, text, time};
use super::source::{Source, items, local_client, own_settings, post, problem, view};
use super::{Reach, Usage, settings};
use crate::admin::{self, AUDIT_ADMIN, Query};
use crate::app;
use crate::catalog::SIGNING_SECRET;
use crate::config::{Scope, SecretRef, is_store_name};
use crate::connector::generate_secret;
use crate::event_log::record::{Audit, Record, Sealed};
use crate::event_log::{Log, Options};
use crate::secrets::{MASTER_KEY_FILE, Secret, generate};

/// Longest secret that is read, in bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// How long closing the log may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a secret is kept.
enum Place {
    /// By a running server.
    Server(Client),
    /// In a stopped server's folder.
    Folder(PathBuf),
}

/// `secrets`.
#[derive(Subcommand)]
pub(super) enum Secrets {
    /// List secrets with what leads to them and when they last verified a delivery; never their values
    List(List),
    /// Keep a secret, read from stdin, for `store:NAME` references
    Set(Set),
    /// Put a new secret in the place of a kept one, which verifies beside it until the new one was seen
    Rotate(Rotate),
    /// Forget a secret
    Remove(Name),
    /// Print a secret that is kept, such as a captured handshake token; this is audited
    Reveal(Name),
    /// Change the master key: seal everything anew, while the server is stopped
    Rekey(Rekey),
}

/// `secrets list`.
#[derive(Args)]
#[command(after_help = "\
STATE is `current` for the first of a trigger's list, `previous` for the others, `replaced` for one that `rotate` \
put another in the place of, and `unused` for what is kept and no trigger, function or client refers to. FIRST and LAST SEEN say \
when a delivery verified with it, a minute late at most where the server is stopped. Warned of are old secrets in use, \
new ones that no delivery verified with while they verify with an old one, and those that cannot be had.")]
pub(super) struct List {
    /// Print {"items": […], "next_cursor": null}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// `secrets set`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pass github-webhook | hookkeeper secrets set github/signing_secret
  hookkeeper secrets set github/signing_secret < secret.txt

Then refer to it in the configuration: secrets = { signing_secret = \"store:github/signing_secret\" }")]
pub(super) struct Set {
    #[command(flatten)]
    name: Name,
}

/// `secrets rotate`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pass new-webhook-secret | hookkeeper secrets rotate github/signing_secret
  hookkeeper secrets rotate github --generate     make one, print it, and set it at the provider

The new secret is read from stdin, or made where the provider lets you choose it. Both secrets verify until \
deliveries have verified with the new one on every trigger that uses it, and until --keep-for is over; then \
the old one is dropped. `secrets list` shows how far that is; --finish drops the old one at once.")]
pub(super) struct Rotate {
    /// The kept secret's name, or the trigger whose current secret it is
    name: String,
    /// Make the new secret in the provider's form, and print it on stdout
    #[arg(long, conflicts_with = "finish")]
    generate: bool,
    /// How long the old secret verifies at least
    #[arg(long, value_name = "DURATION", default_value = "24h", conflicts_with = "finish")]
    keep_for: String,
    /// End a rotation: drop the old secret now, whether the new one was seen or not
    #[arg(long)]
    finish: bool,
    #[command(flatten)]
    reach: Reach,
}

/// `secrets rekey`.
#[derive(Args)]
#[command(after_help = "\
The key that hookkeeper made itself (master.key in the data folder) is replaced by a new one. Where the key is \
given from outside (HOOKKEEPER_MASTER_KEY, HOOKKEEPER_MASTER_KEY_FILE or the systemd credential \
hookkeeper-master-key), put the new one in front there, `NEW,OLD` or on a line each, run this with it, then \
take the old one out. A key given from outside for the first time takes over from master.key likewise, which is \
deleted when everything is sealed anew.

It may be killed at any time: everything opens, and running it again goes on. What is sealed in the quarantine \
is sealed anew too. Backups, and what the log has of earlier secrets, stay under the old key.")]
pub(super) struct Rekey {
    #[command(flatten)]
    reach: Reach,
}

/// A secret's name.
#[derive(Args)]
pub(super) struct Name {
    /// The secret's name, such as github/signing_secret
    #[arg(value_parser = store_name)]
    name: String,
    #[command(flatten)]
    reach: Reach,
}

/// Reads a name that `store:` references can have.
fn store_name(text: &str) -> Result<String, &'static str> {
    let remedy = "use letters, digits, `_`, `-`, `.` and `/`, such as github/signing_secret";
    if is_store_name(text) { Ok(text.to_owned()) } else { Err(remedy) }
}

impl Secrets {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Secrets::List(command) => command.run().await,
            Secrets::Set(command) => command.name.set().await,
            Secrets::Rotate(command) => command.run().await,
            Secrets::Remove(command) => command.remove().await,
            Secrets::Reveal(command) => command.reveal().await,
            Secrets::Rekey(command) => command.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let listing = Source::open(&self.reach).await?.get("secrets", &Query::default()).await?;
        if self.json {
            return render::json(&listing);
        }
        let mut table = Table::new(["OF", "NAME", "REFERENCE", "STATE", "ADDED", "FIRST SEEN", "LAST SEEN"]);
        for item in items(&listing) {
            let of = [text(item, "/trigger"), text(item, "/function"), text(item, "/client")].concat();
            let state = if item["replaced"] == true { "replaced" } else { text(item, "/state") };
            table.row([
                Cell::styled(BOLD, of),
                text(item, "/name").into(),
                text(item, "/reference").into(),
                if item["problem"].is_null() { state.into() } else { Cell::styled(RED, "cannot be had") },
                time(item, "/added_at").into(),
                time(item, "/first_success_at").into(),
                time(item, "/last_success_at").into(),
            ]);
        }
        if table.is_empty() {
            note("no secret is configured or kept");
        }
        table.print()?;
        for item in items(&listing) {
            for warning in item["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let of = [text(item, "/trigger"), text(item, "/function"), text(item, "/client")].concat();
                let (name, reference) = (text(item, "/name"), text(item, "/reference"));
                note(format_args!("{} {of} {name} {reference}: {warning}", paint(YELLOW, "warning")));
            }
        }
        Ok(())
    }
}

/// Reads a secret from stdin.
fn read_secret() -> anyhow::Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        note("type the secret, then Enter and Ctrl-D (it shows: a pipe or file is better)");
    }
    // A buffer that grew would leave its earlier content behind.
    let mut secret = Zeroizing::new(String::with_capacity(SECRET_BYTES_MAX + 1));
    std::io::stdin().take(SECRET_BYTES_MAX as u64 + 1).read_to_string(&mut secret)?;
    if secret.len() > SECRET_BYTES_MAX {
        return Err(Usage(format!("a secret has at most {SECRET_BYTES_MAX} bytes")).into());
    }
    // One trailing newline is the shell's, not the secret's.
    for end in ['\n', '\r'] {
        if secret.ends_with(end) {
            secret.pop();
        }
    }
    if secret.trim().is_empty() {
        return Err(Usage("stdin holds no secret".to_owned()).into());
    }
    Ok(secret)
}

impl Rotate {
    async fn run(self) -> anyhow::Result<()> {
        let target = Name { name: self.name.clone(), reach: self.reach.clone() };
        let place = target.place().await?;
        let value = match (self.finish, self.generate) {
            (true, _) => None,
            (false, true) => Some(self.made()?),
            (false, false) => Some(read_secret()?),
        };
        let done = match place {
            Place::Server(client) => {
                let body = match &value {
                    None => json!({"finish": true}),
                    Some(value) => json!({"value": value.as_str(), "keep_for": self.keep_for}),
                };
                post(&client, &format!("{}/rotate", target.path()), &body).await?
            }
            Place::Folder(data) => self.in_folder(&data, value.as_ref()).await?,
        };
        match &value {
            None => note(format_args!("{}: the old secret is dropped", text(&done, "/name"))),
            Some(value) => {
                let (name, until) = (text(&done, "/name"), time(&done, "/keep_until"));
                note(format_args!(
                    "{name}: both secrets verify now, the old one until deliveries verify with the new one, at least \
                     until {until}; set the new one at the provider"
                ));
                if self.generate {
                    writeln!(out(), "{}", value.as_str())?;
                }
            }
        }
        Ok(())
    }

    /// Makes a secret of the form that the provider's secrets have, where it is known which provider that is.
    fn made(&self) -> anyhow::Result<Zeroizing<String>> {
        let settings = settings::load(&self.reach.config, Scope::Text).ok();
        let kept = SecretRef::Store(self.name.clone());
        let spec = settings.as_ref().and_then(|settings| {
            let mut triggers = settings.config.triggers.iter();
            let (trigger, name) = triggers.find_map(|trigger| {
                let named = trigger.secrets.iter().find(|(_, list)| list.contains(&kept));
                let name = named.map(|(name, _)| name.as_str());
                let name = name.or_else(|| (trigger.id.as_str() == self.name).then_some(SIGNING_SECRET))?;
                Some((trigger, name))
            })?;
            let entry = settings.catalog.get(trigger.provider.as_str())?;
            entry.secrets.iter().find(|spec| spec.name == name)
        });
        let secret = match spec {
            None => generate()?,
            Some(spec) => {
                let mut random = Zeroizing::new([0; 32]);
                getrandom::fill(random.as_mut())
                    .map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
                generate_secret(spec, &random)
            }
        };
        Ok(Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned()))
    }

    async fn in_folder(&self, data: &Path, value: Option<&Zeroizing<String>>) -> anyhow::Result<Value> {
        let log = Log::open(Options::new(data))?;
        let view = view(log, data, own_settings(&self.reach, data));
        let name = admin::rotated_name(&view, &self.name).map_err(problem)?;
        let records = match value {
            None => admin::finish(&view, &name),
            Some(value) => {
                admin::start(&view, &name, value.as_str().to_owned(), Some(self.keep_for.as_str()))
            }
        };
        view.log.append_durable(records.map_err(problem)?).await?;
        let keep_until = view.log.state().rotations().get(&name).map(|rotation| rotation.keep_until);
        view.log.close(Instant::now() + CLOSE_TIMEOUT).await;
        Ok(json!({"name": name, "keep_until": keep_until}))
    }
}

impl Rekey {
    async fn run(self) -> anyhow::Result<()> {
        if self.reach.admin.is_some() {
            return Err(Usage(
                "the master key is changed in a stopped server's folder: name it with --data".to_owned(),
            )
            .into());
        }
        let data = match self.reach.data {
            Some(data) => data,
            None => settings::load(&self.reach.config, Scope::Text)?.config.log.path,
        };
        let own = data.join(MASTER_KEY_FILE);
        let had_own = own.exists();
        let done = app::rekey(&data, |_| ()).await?;
        note(format_args!(
            "sealed anew under the key of {}: {} secrets, {} files of the quarantine",
            done.origin, done.secrets, done.quarantined
        ));
        if had_own && !own.exists() {
            note(format_args!("{} is deleted: nothing in this folder needs it any more", own.display()));
        }
        for lost in &done.lost {
            note(format_args!("{lost} opens under none of the keys, and is left as it is"));
        }
        if done.has_more {
            note(format_args!("the other keys of {} are of no use any more: take them out", done.origin));
        }
        Ok(())
    }
}

impl Name {
    fn path(&self) -> String {
        let encode = |part| {
            percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        format!("secrets/{}", self.name.split('/').map(encode).collect::<Vec<_>>().join("/"))
    }

    async fn set(self) -> anyhow::Result<()> {
        let value = read_secret()?;
        match self.place().await? {
            Place::Server(client) => {
                let body = json!({"value": value.as_str()});
                client.change(Method::PUT, &self.path(), &Query::default(), &body).await?;
            }
            Place::Folder(data) => {
                self.keep(&data, Some(Secret::new(value.as_bytes())), "secret_set").await?
            }
        }
        note(format_args!("kept; refer to it as \"store:{}\"", self.name));
        Ok(())
    }

    async fn remove(self) -> anyhow::Result<()> {
        match self.place().await? {
            Place::Server(client) => {
                client.change(Method::DELETE, &self.path(), &Query::default(), &json!({})).await?;
            }
            Place::Folder(data) => self.keep(&data, None, "secret_removed").await?,
        }
        note(format_args!("{} is forgotten", self.name));
        Ok(())
    }

    /// Finds where the secret is kept: by a running server, else in the data folder itself.
    async fn place(&self) -> anyhow::Result<Place> {
        if let Some(data) = &self.reach.data {
            return Ok(Place::Folder(data.clone()));
        }
        if self.reach.admin.is_some() {
            return Ok(Place::Server(Source::server(&self.reach).await?));
        }
        let settings = settings::load(&self.reach.config, Scope::Text)?;
        let client = local_client(&settings.config)?;
        if client.answers().await {
            Ok(Place::Server(client))
        } else {
            Ok(Place::Folder(settings.config.log.path))
        }
    }

    /// Keeps or forgets a secret in a stopped server's folder, so that it is there at the first start.
    async fn keep(&self, data: &Path, secret: Option<Secret>, code: &str) -> anyhow::Result<()> {
        let log = Log::open(Options::new(data))?;
        let view = view(log, data, None);
        let at = view.clock.now();
        let mut records = match &secret {
            Some(secret) => {
                let sealed = view.vault.seal(&self.name, secret)?;
                vec![Record::Sealed(Sealed { name: self.name.clone(), at, sealed })]
            }
            None if view.log.state().sealed(&self.name).is_none_or(|sealed| sealed.is_empty()) => {
                anyhow::bail!("there is no secret {}", self.name);
            }
            None => admin::removal(&view, &self.name),
        };
        let audit = Audit {
            topic: AUDIT_ADMIN.to_owned(),
            at,
            trigger_id: None,
            peer: None,
            code: code.to_owned(),
            detail: format!("{}, while the server was stopped", self.name),
            count: 1,
        };
        records.push(Record::Audit(audit));
        view.log.append_durable(records).await?;
        view.log.close(Instant::now() + CLOSE_TIMEOUT).await;
        Ok(())
    }

    async fn reveal(self) -> anyhow::Result<()> {
        let client = Source::server(&self.reach).await?;
        let revealed = post(&client, &format!("{}/reveal", self.path()), &json!({})).await?;
        Ok(writeln!(out(), "{}", text(&revealed, "/value"))?)
    }
}
