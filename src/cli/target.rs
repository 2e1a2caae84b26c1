//! What a delivery is signed with and where it goes, for `send` and `bench`.
//!
//! Against a local server it needs neither URL nor secret: both stand in the configuration that the
//! server was started with. A secret is read from where the configuration says; none comes over the
//! network but sealed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::client::Client;
use super::render::{note, text};
use super::settings::{self, Settings};
use super::source::{addresses, local_client, reachable};
use super::test_key::{self, TestKey};
use super::{ConfigFile, Usage, providers};
use crate::admin::Query;
use crate::catalog::{PLACEHOLDER, ProviderEntry, SIGNING_SECRET, Sample, TriggerKind};
use crate::config::{Scope, SecretRef, Trigger, nearest};
use crate::connector::{Rendered, SignRequest, Signer, TriggerSettings, generate_secret, private_scheme};
use crate::event::{Header, Timestamp};
use crate::secrets::{Secret, Vault};
use crate::signature::{PrivateKey, PublicScheme, with_query};

/// What is needed to sign and post.
pub(super) struct Target {
    pub(super) url: reqwest::Url,
    pub(super) signer: Option<Signer>,
    pub(super) entry: Arc<ProviderEntry>,
    /// The local server's admin API, where it is a local server.
    pub(super) admin: Option<Client>,
    /// The certificate of a local server is its own: it is not held against the address.
    pub(super) accept_any_certificate: bool,
    /// The public half of the test key that signs, where one does.
    pub(super) test_key: Option<PathBuf>,
}

/// A request, signed.
pub(super) struct Signed {
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: Bytes,
}

/// How a target is named on the command line; `bench` has the same words.
pub(super) struct Wanted<'a> {
    pub(super) provider: &'a str,
    pub(super) url: Option<&'a str>,
    pub(super) secret: Option<&'a str>,
    pub(super) invalid: bool,
    pub(super) trigger: Option<&'a str>,
    pub(super) config: &'a ConfigFile,
}

impl Target {
    /// Finds URL, secret and settings: as named, else those of the configured trigger.
    pub(super) async fn find(wanted: Wanted<'_>) -> anyhow::Result<Self> {
        let settings = settings::load(wanted.config, Scope::Text)?;
        let entry = Arc::clone(providers::entry(&settings.catalog, wanted.provider)?);
        if !entry.kinds.contains(&TriggerKind::Webhook) {
            let told =
                "nobody sends what a schedule starts: see its next tick with `hookkeeper triggers list`";
            return Err(Usage(format!("`{}` has no webhooks: {told}", entry.id)).into());
        }
        let trigger = find_trigger(&settings, &wanted)?;
        let private = private_scheme(&entry, &BTreeMap::new()).ok().flatten();
        let needs_secret = entry.secrets.iter().any(|spec| spec.name == SIGNING_SECRET) && private.is_none();
        let lacks_secret = needs_secret && wanted.secret.is_none() && !wanted.invalid;
        if trigger.is_none() && (wanted.url.is_none() || lacks_secret) {
            return Err(no_trigger(&settings, &entry, private)?.into());
        }
        if entry.is_placeholder() {
            note(format_args!(
                "{} is a placeholder, signed for as its entry's data says: {PLACEHOLDER}",
                entry.id
            ));
        }
        let url = match (wanted.url, trigger) {
            (Some(url), _) => given_url(url)?,
            (None, Some(trigger)) => local_url(&settings, trigger)?,
            (None, None) => unreachable!("refused above"),
        };
        let admin = if wanted.url.is_none() { Some(local_client(&settings.config)?) } else { None };
        let scheme = TriggerSettings {
            secrets: secrets(&settings, &entry, trigger, &wanted, admin.as_ref()).await?,
            public_url: match trigger {
                Some(trigger) => {
                    settings.config.server.public_url.as_ref().map(|base| format!("{base}{}", trigger.path))
                }
                None => url.as_str().split(['?', '#']).next().map(str::to_owned),
            },
            settings: trigger.map(|trigger| trigger.settings.clone()).unwrap_or_default(),
            ..TriggerSettings::default()
        };
        let (signer, test_key) = match Signer::new(&entry, &scheme)? {
            Some(signer) => (Some(signer), None),
            None => private_signer(&settings, &entry, scheme, &wanted)?,
        };
        let accept_any_certificate = wanted.url.is_none() && settings.config.server.tls.is_some();
        Ok(Self { url, signer, entry, admin, accept_any_certificate, test_key })
    }

    /// Signs a request as a delivery of its own.
    pub(super) fn sign(
        &self,
        rendered: Rendered,
        kind: Option<&str>,
        delivery_id: &str,
        now: Timestamp,
    ) -> anyhow::Result<Signed> {
        let Rendered { method, query, mut headers, mut body } = rendered;
        let path = match self.url.query() {
            Some(own) => format!("{}?{own}{}", self.url.path(), query.replace('?', "&")),
            None => format!("{}{query}", self.url.path()),
        };
        let request = SignRequest {
            method: &method,
            url: &path,
            headers: &headers,
            body: &body,
            now,
            delivery_id,
            kind,
        };
        let added = self.signer.as_ref().map(|signer| signer.sign(request)).transpose()?.unwrap_or_default();
        headers.retain(|(name, _)| !added.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)));
        headers.extend(added.headers.into_iter().map(|(name, value)| (name, Bytes::from(value))));
        if let Some(with_proof) = added.body {
            body = with_proof;
        }
        Ok(Signed { method, path: with_query(&path, &added.query), headers, body: body.into() })
    }
}

/// Collects the secrets to sign with: the given one, else those of the trigger.
async fn secrets(
    settings: &Settings,
    entry: &Arc<ProviderEntry>,
    trigger: Option<&Trigger>,
    wanted: &Wanted<'_>,
    admin: Option<&Client>,
) -> anyhow::Result<BTreeMap<String, Vec<Secret>>> {
    let mut secrets = BTreeMap::new();
    for spec in &entry.secrets {
        let is_main = spec.name == SIGNING_SECRET;
        let secret = match (wanted.secret, trigger) {
            _ if is_main && wanted.invalid => wrong_secret(entry)?,
            (Some(given), _) if is_main && !is_private_key(given) => Some(given_secret(given)?),
            // A public key signs nothing; it may stand in a file that is made with the first delivery.
            (_, Some(trigger)) if is_main && signs_with_own_key(entry, trigger) => None,
            (_, Some(trigger)) => trigger_secret(settings, trigger, &spec.name, admin).await?,
            (_, None) => None,
        };
        secrets.extend(secret.map(|secret| (spec.name.clone(), vec![secret])));
    }
    Ok(secrets)
}

/// Says what to configure, so that there is a trigger to send to; where the provider signs with a key of
/// its own, with a test key in its place.
fn no_trigger(
    settings: &Settings,
    entry: &Arc<ProviderEntry>,
    private: Option<PublicScheme>,
) -> anyhow::Result<Usage> {
    let id = &entry.id;
    if entry.is_placeholder() {
        return Ok(Usage(format!(
            "{id} is a placeholder, of which there can be no trigger here: {PLACEHOLDER}"
        )));
    }
    let Some(private) = private else {
        return Ok(Usage(format!(
            "no trigger of `{id}` is configured here: give --url and --secret, or name another configuration with --config"
        )));
    };
    let TestKey { public, .. } = test_key::of_provider(&settings.config.log.path, id, private)?;
    Ok(Usage(format!(
        "no trigger of `{id}` is configured here. {} signs with a key that it alone has; a test key stands for it.\n\
         Add a trigger that trusts it to hookkeeper.toml, start the server anew, and send again:\n\n{}\n",
        entry.name,
        test_key::trigger(entry, &public)
    )))
}

/// Tells whether the provider signs with a private key, and what triggers have as secret is its public key.
fn signs_with_own_key(entry: &Arc<ProviderEntry>, trigger: &Trigger) -> bool {
    test_key::secret_is_public_key(entry)
        && private_scheme(entry, &trigger.settings).is_ok_and(|scheme| scheme.is_some())
}

/// Builds what signs with a private key, where the provider signs with one: the given key, else the
/// data folder's test key, whose public half is named.
fn private_signer(
    settings: &Settings,
    entry: &Arc<ProviderEntry>,
    mut scheme: TriggerSettings,
    wanted: &Wanted<'_>,
) -> anyhow::Result<(Option<Signer>, Option<PathBuf>)> {
    let Some(private) = private_scheme(entry, &scheme.settings)? else { return Ok((None, None)) };
    let (key, public) = match wanted.secret {
        _ if wanted.invalid => (PrivateKey::generate(private), None),
        Some(given) if is_private_key(given) => {
            (test_key::read(&String::from_utf8_lossy(given_secret(given)?.expose()))?, None)
        }
        _ => {
            let made = test_key::of_provider(&settings.config.log.path, &entry.id, private)?;
            (made.key, Some(made.public))
        }
    };
    if test_key::secret_is_public_key(entry) {
        // The secret is the provider's public key: nothing of it is signed.
        scheme.secrets.remove(SIGNING_SECRET);
    }
    Ok((Signer::with_private_key(entry, &scheme, key)?, public))
}

/// Tells whether what is given on the command line is, or leads to, a private key.
fn is_private_key(given: &str) -> bool {
    given_secret(given).is_ok_and(|secret| secret.expose().windows(11).any(|part| part == b"PRIVATE KEY"))
}

fn find_trigger<'a>(settings: &'a Settings, wanted: &Wanted<'_>) -> anyhow::Result<Option<&'a Trigger>> {
    let triggers = &settings.config.triggers;
    let Some(id) = wanted.trigger else {
        return Ok(triggers.iter().find(|trigger| trigger.provider.as_str() == wanted.provider));
    };
    let found = triggers.iter().find(|trigger| trigger.id.as_str() == id);
    match found {
        Some(trigger) if trigger.provider.as_str() != wanted.provider => {
            Err(Usage(format!("trigger `{id}` is of provider `{}`", trigger.provider)).into())
        }
        Some(trigger) => Ok(Some(trigger)),
        None => {
            let near = nearest(id, triggers.iter().map(|trigger| trigger.id.as_str()));
            let help = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(Usage(format!("there is no trigger `{id}`{help}")).into())
        }
    }
}

/// Reads a URL given on the command line.
fn given_url(text: &str) -> Result<reqwest::Url, Usage> {
    let url = text.parse::<reqwest::Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        Usage(format!("--url: {text:?} is no http or https URL: write it in full, such as https://hooks.example.com/hooks/github"))
    })
}

fn local_url(settings: &Settings, trigger: &Trigger) -> anyhow::Result<reqwest::Url> {
    let scheme = if settings.config.server.tls.is_some() { "https" } else { "http" };
    let front = reachable(addresses(&settings.config).0);
    Ok(format!("{scheme}://{front}{}", trigger.path).parse()?)
}

fn wrong_secret(entry: &ProviderEntry) -> anyhow::Result<Option<Secret>> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let spec = entry.secrets.iter().find(|spec| spec.name == SIGNING_SECRET);
    Ok(spec.map(|spec| generate_secret(spec, &random)))
}

/// Reads a secret given on the command line: a reference, or the secret itself.
pub(super) fn given_secret(text: &str) -> anyhow::Result<Secret> {
    match SecretRef::parse(text, Path::new("")) {
        Ok(SecretRef::Store(name)) => Err(Usage(format!(
            "store:{name} is opened by the server alone: leave out --secret, or give the secret"
        ))
        .into()),
        Ok(reference) => Ok(crate::secrets::resolve_without_store(&reference)?),
        Err(_) => Ok(Secret::new(text)),
    }
}

/// Finds the current secret of a configured trigger. What is kept sealed comes sealed from the server,
/// and is opened with the master key of the data folder.
async fn trigger_secret(
    settings: &Settings,
    trigger: &Trigger,
    name: &str,
    admin: Option<&Client>,
) -> anyhow::Result<Option<Secret>> {
    let configured = trigger.secrets.get(name).and_then(|list| list.first());
    let learned = SecretRef::Store(format!("{}/{name}", trigger.id));
    let reference = configured.unwrap_or(&learned);
    let SecretRef::Store(name) = reference else {
        let found = crate::secrets::resolve_without_store(reference);
        return found.map(Some).with_context(|| {
            if settings.is_quick_start {
                "the quick start's secret is made by its first start: run `hookkeeper serve` in this folder"
                    .to_owned()
            } else {
                format!("trigger `{}` has no secret to sign with", trigger.id)
            }
        });
    };
    let Some(admin) = admin else {
        return Err(Usage(format!(
            "the secret of trigger `{}` is kept by its server: give --secret",
            trigger.id
        ))
        .into());
    };
    let kept = admin.get(&format!("secrets/{name}/sealed"), &Query::default()).await?;
    let sealed = STANDARD.decode(text(&kept, "/sealed_base64"))?;
    Ok(Some(Vault::new(&settings.config.log.path).unseal(name, &sealed)?))
}

/// Returns a delivery id that no other one has: 128 random bits in the form of a UUID.
pub(super) fn fresh_id() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// Finds the sample of a kind, or says which there are.
pub(super) fn sample<'a>(entry: &'a ProviderEntry, kind: Option<&str>) -> anyhow::Result<&'a Sample> {
    let kinds: Vec<&str> = entry.samples.iter().map(|sample| sample.kind.as_str()).collect();
    let Some(kind) = kind else {
        let first = entry.samples.first();
        return first.ok_or_else(|| Usage(format!("{} has no samples: give --body", entry.id)).into());
    };
    entry.samples.iter().find(|sample| sample.kind == kind).ok_or_else(|| {
        let help = match nearest(kind, kinds.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", kinds.join(", ")),
        };
        Usage(format!("{} has no sample of kind `{kind}`; {help} (or give --body)", entry.id)).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    #[test]
    fn fresh_ids_are_uuids_of_version_4() {
        let id = fresh_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, fresh_id().unwrap());
    }

    #[test]
    fn unknown_samples_name_the_nearest() {
        let catalog = ProviderCatalog::built_in();
        let entry = catalog.get("github").unwrap();
        assert_eq!(sample(entry, None).unwrap().kind, entry.samples[0].kind);
        assert!(
            sample(entry, Some("pull_request.open")).unwrap_err().to_string().contains("pull_request.opened")
        );
    }
}
