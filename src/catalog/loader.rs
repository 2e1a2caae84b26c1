//! Reads entries: TOML text, `like` resolved, unknown fields refused.
//!
//! `like = "<id>"` copies another entry's `signature`, `event`, `ack`, `handshakes`, `secrets`,
//! `settings` and the like, and lets the entry override any field of them; what an entry says of
//! itself (id, name, source, gotchas, samples) is never copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::{Table, Value};

use super::client::check;
use super::{Family, ProviderEntry, SIGNING_SECRET, SecretSpec, Signature};

/// Longest chain of `like`.
const LIKE_DEPTH_MAX: usize = 4;

/// What an entry says of itself alone.
const OWN_FIELDS: [&str; 10] =
    ["id", "name", "variant_of", "confidence", "docs", "source", "read_on", "gotchas", "samples", "like"];

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("provider entry {entry}: {message}")]
pub struct Error {
    /// The entry's id or place.
    pub entry: String,
    /// What is wrong, with the line where there is one.
    pub message: String,
    /// The key concerned, where there is one.
    pub key: Option<String>,
}

type Entries = BTreeMap<String, Arc<ProviderEntry>>;

/// Reads entries, each with a name for errors, on top of known ones.
pub(super) fn load(texts: &[(&str, &str)], known: &Entries) -> Result<Entries, Error> {
    let mut tables = BTreeMap::new();
    for (name, text) in texts {
        let table: Table = toml::from_str(text).map_err(|error| problem(name, error.to_string()))?;
        let id = table.get("id").and_then(Value::as_str).unwrap_or(name).to_owned();
        if tables.insert(id.clone(), table).is_some() {
            return Err(problem(&id, "stands there twice".to_owned()));
        }
    }
    let mut entries = known.clone();
    for (id, table) in &tables {
        let table = resolved(id, table, &tables, known, 0)?;
        let mut entry: ProviderEntry =
            table.try_into().map_err(|error: toml::de::Error| problem(id, error.to_string()))?;
        complete(&mut entry);
        validate(&entry)?;
        entries.insert(id.clone(), Arc::new(entry));
    }
    Ok(entries)
}

/// Returns the table with what `like` brings filled in.
fn resolved(
    id: &str,
    table: &Table,
    tables: &BTreeMap<String, Table>,
    known: &Entries,
    depth: usize,
) -> Result<Table, Error> {
    let mut own = table.clone();
    let Some(like) = own.remove("like") else { return Ok(own) };
    let like = like.as_str().ok_or_else(|| problem(id, "like is the id of an entry".to_owned()))?.to_owned();
    if depth == LIKE_DEPTH_MAX {
        return Err(problem(id, format!("like = {like:?}: the chain is longer than {LIKE_DEPTH_MAX}")));
    }
    // A user's entry may be like the built-in one that it replaces.
    let base = match tables.get(&like) {
        Some(base) if like != id => resolved(&like, base, tables, known, depth + 1)?,
        _ => {
            let entry =
                known.get(&like).ok_or_else(|| problem(id, format!("like = {like:?}: no such entry")))?;
            Table::try_from(entry.as_ref()).map_err(|error| problem(id, error.to_string()))?
        }
    };
    let namespace = base.get("id").cloned();
    let mut merged: Table = base.into_iter().filter(|(key, _)| !OWN_FIELDS.contains(&key.as_str())).collect();
    move_secrets(&mut merged, namespace.as_ref(), id);
    if let Some(client) = merged.get_mut("client").and_then(Value::as_table_mut) {
        move_secrets(client, namespace.as_ref(), id);
        // It follows from the methods of the client that comes out.
        merged.remove("outbound");
    }
    merge(&mut merged, own);
    Ok(merged)
}

/// Copied secrets live under the copying entry's namespace.
fn move_secrets(table: &mut Table, from: Option<&Value>, to: &str) {
    let secrets = table.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_table_mut) {
        if secret.get("namespace") == from {
            secret.insert("namespace".to_owned(), Value::String(to.to_owned()));
        }
    }
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// Fills in what follows from the rest.
fn complete(entry: &mut ProviderEntry) {
    if entry.name.is_empty() {
        entry.name = entry.id.to_string();
    }
    if entry.family == Family::default() {
        entry.family = family(entry.signature.as_ref());
    }
    if needs_main_secret(entry) && entry.secrets.is_empty() {
        entry.secrets.push(SecretSpec::main_of(&entry.id));
    }
    if let Some(client) = &mut entry.client {
        for secret in client.secrets.iter_mut().filter(|secret| secret.namespace.is_empty()) {
            secret.namespace = entry.id.to_string();
        }
        if entry.outbound.is_empty() {
            entry.outbound = client.method_names();
        }
    }
}

/// Returns the kind of proof that an entry has which names none.
fn family(signature: Option<&Signature>) -> Family {
    let Some(signature) = signature else { return Family::None };
    match signature.alg.as_deref().unwrap_or_default() {
        "token" => Family::Token,
        "jwt" => Family::Jwt,
        "ed25519" => Family::Ed25519,
        alg if alg.starts_with("ecdsa-") => Family::Ecdsa,
        alg if alg.starts_with("rsa-") => Family::Rsa,
        // Of a setting it is not known yet what it says.
        alg if alg.is_empty() || alg.starts_with("hmac-") || alg.contains("${") => Family::Hmac,
        _ => Family::Digest,
    }
}

/// Tells whether deliveries are verified with a secret, and not with keys that the provider publishes.
fn needs_main_secret(entry: &ProviderEntry) -> bool {
    entry.signature.as_ref().is_some_and(|text| text.keys.is_none() && text.public_keys.is_empty())
}

/// Holds what the types cannot say.
fn validate(entry: &ProviderEntry) -> Result<(), Error> {
    let id = entry.id.as_str();
    let of_client = entry.client.iter().flat_map(|client| &client.secrets);
    let of_client = of_client.map(|secret| (&secret.name, &secret.namespace));
    let of_triggers = entry.secrets.iter().map(|secret| (&secret.name, &secret.namespace));
    for (name, namespace) in of_triggers.chain(of_client) {
        if namespace != id {
            return Err(problem(id, format!("secret {name:?} must live under namespace {id:?}")));
        }
    }
    if let Some(client) = &entry.client {
        check::validate(client).map_err(|message| problem(id, message))?;
        if entry.outbound != client.method_names() {
            return Err(problem(id, "outbound follows from client.methods: remove it".to_owned()));
        }
    }
    if needs_main_secret(entry) && !entry.secrets.iter().any(|secret| secret.name == SIGNING_SECRET) {
        return Err(problem(id, format!("the main secret must be called {SIGNING_SECRET:?}")));
    }
    for learn in entry.handshakes.iter().filter_map(|handshake| handshake.learn.as_ref()) {
        if !entry.secrets.iter().any(|secret| secret.name == learn.secret && secret.learned) {
            let message = format!("a handshake brings {:?}, which is no learned secret", learn.secret);
            return Err(problem(id, message));
        }
    }
    Ok(())
}

fn problem(entry: &str, message: String) -> Error {
    let key = message.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`'));
    Error {
        entry: entry.to_owned(),
        key: key.map(|(key, _)| key.to_owned()),
        message: message.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Confidence, Family, ProviderCatalog};

    const MINIMAL: &str = "id = \"acme\"";

    fn check(extra: &str, expected: Result<&str, &str>) {
        let text = format!("{MINIMAL}\n{extra}");
        match (ProviderCatalog::with_user_entries(&[text]), expected) {
            (Ok(catalog), Ok(sig)) => {
                assert_eq!(catalog.get("acme").unwrap().signature.as_ref().unwrap().sig, sig);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{extra}: {got:?}"),
        }
    }

    #[test]
    fn an_entry_may_be_like_another_and_override_single_fields() {
        check(r#"like = "github""#, Ok("header:X-Hub-Signature-256"));
        check("like = \"github\"\n[signature]\nsig = \"header:X-Acme\"", Ok("header:X-Acme"));
    }

    #[test]
    fn copied_secrets_live_under_the_entrys_own_namespace() {
        let catalog = ProviderCatalog::with_user_entries(&[format!("{MINIMAL}\nlike = \"stripe\"")]).unwrap();
        let entry = catalog.get("acme").unwrap();
        assert_eq!(entry.secrets[0].namespace, "acme");
        assert!(
            entry.samples.is_empty() && entry.gotchas.is_empty(),
            "what Stripe says of itself stays there"
        );
        assert_eq!(entry.signature.as_ref().unwrap().tolerance_s, Some(300));
    }

    #[test]
    fn the_kind_of_proof_follows_from_the_algorithm() {
        for (signature, expected) in [
            ("", Family::None),
            ("[signature]\nsig = \"header:x\"", Family::Hmac),
            ("[signature]\nsig = \"header:x\"\nalg = \"ed25519\"", Family::Ed25519),
            ("[signature]\nsig = \"header:x\"\nalg = \"rsa-pss-sha256\"", Family::Rsa),
            ("[signature]\nsig = \"header:x\"\nalg = \"token\"", Family::Token),
            (
                "[signature]\nsig = \"header:x\"\nalg = \"sha256\"\ncontent = \"{secret}{body}\"",
                Family::Digest,
            ),
            ("family = \"hmac-url\"\n[signature]\nsig = \"header:x\"", Family::HmacUrl),
        ] {
            let catalog = ProviderCatalog::with_user_entries(&[format!("{MINIMAL}\n{signature}")]).unwrap();
            assert_eq!(catalog.get("acme").unwrap().family, expected, "{signature}");
        }
    }

    #[test]
    fn a_users_entry_needs_an_id_and_what_is_special_about_it() {
        let text = format!("{MINIMAL}\n[signature]\nsig = \"header:X-Acme\"");
        let catalog = ProviderCatalog::with_user_entries(&[text]).unwrap();
        let entry = catalog.get("acme").unwrap();
        assert_eq!((entry.name.as_str(), entry.confidence), ("acme", Confidence::Own));
        assert_eq!(entry.secrets[0].name, "signing_secret");
    }

    #[test]
    fn mistakes_are_named() {
        check("like = \"githbu\"", Err("no such entry"));
        check("like = \"github\"\nsignatur = 1", Err("unknown field `signatur`"));
        check("like = \"github\"\n[signature]\nsigg = \"x\"", Err("unknown field `sigg`"));
        check(
            "like = \"github\"\n[[secrets]]\nname = \"signing_secret\"\nnamespace = \"other\"\nabout = \"\"",
            Err("namespace"),
        );
        check(
            "like = \"github\"\n[[secrets]]\nname = \"key\"\nnamespace = \"acme\"\nabout = \"\"",
            Err("signing_secret"),
        );
        check("[event", Err("providers[0]"));
    }

    #[test]
    fn the_unknown_key_is_given_for_suggestions() {
        let error = ProviderCatalog::with_user_entries(&[format!("{MINIMAL}\nsignatur = 1")]).unwrap_err();
        assert_eq!(error.key.as_deref(), Some("signatur"));
    }

    #[test]
    fn a_user_may_replace_a_built_in_entry() {
        let text =
            MINIMAL.replace("acme", "github") + "\nlike = \"github\"\n[signature]\nsig = \"header:X-Mine\"";
        let catalog = ProviderCatalog::with_user_entries(&[text]).unwrap();
        assert_eq!(catalog.get("github").unwrap().signature.as_ref().unwrap().sig, "header:X-Mine");
    }
}
