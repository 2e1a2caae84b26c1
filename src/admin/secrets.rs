//! What operators do to kept secrets: set, remove, reveal, and rotate.
//!
//! A rotation puts a new secret in the place of a kept one, which stays in force beside it until deliveries verify
//! with the new one, and for a while beyond. What it writes is decided here as records, so that a command does
//! the same to a stopped server's folder.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::act::{Act, Done, Nothing, audit, audit_line, blocking, fields, ok};
use super::view::{View, shown};
use super::{AUDIT_ADMIN, AdminState, Problem};
use crate::catalog::SIGNING_SECRET;
use crate::config::{SecretRef, Trigger, is_store_name, parse_duration};
use crate::connector::{SECRETS_MAX, TriggerSettings, Verifier};
use crate::event::Timestamp;
use crate::event_log::record::{Audit, Record, Sealed, SecretChange, SecretNews};
use crate::secrets::{SealError, Secret, previous_name};

/// Longest secret that is kept, in bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// How long a replaced secret stays in force at least: deliveries that are under way, or sent again within the day,
/// may be signed with it.
pub const KEEP_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest that a replaced secret may be kept in force.
const KEEP_FOR_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSecret {
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    value: Option<String>,
    keep_for: Option<String>,
    #[serde(default)]
    finish: bool,
}

/// Opens a secret that is kept, for instance a captured handshake token: the one way by which one leaves.
pub(super) async fn reveal(state: &AdminState, act: &Act, name: &str) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    let sealed = sealed(state.view(), name)?;
    let (vault, owned) = (Arc::clone(&state.0.vault), name.to_owned());
    let secret =
        blocking(move || vault.unseal(&owned, &sealed).map_err(|error| sealed_otherwise(&error))).await?;
    // No secret leaves before the device has the line that says so.
    audit(state, act, None, "secret_revealed", name).await?;
    ok(json!({"name": name, "value": String::from_utf8_lossy(secret.expose())}))
}

pub(super) async fn set(state: &AdminState, act: &Act, name: &str) -> Result<Done, Problem> {
    check_name(name)?;
    // Serde's own text might repeat the value.
    let given = SetSecret::deserialize(&act.body);
    let given =
        given.map_err(|_| Problem::bad("invalid_body", "send {\"value\": \"…\"} and nothing else"))?;
    let secret = secret(given.value)?;
    let (vault, owned) = (Arc::clone(&state.0.vault), name.to_owned());
    let sealed = blocking(move || vault.seal(&owned, &secret).map_err(not_sealed)).await?;
    let record = Record::Sealed(Sealed { name: name.to_owned(), at: state.view().clock.now(), sealed });
    let line = audit_line(state, act, None, "secret_set", name);
    write(state, name, vec![record, line]).await
}

/// Says why a secret cannot be kept; a key that is not there is for the operator to put back.
fn not_sealed(error: SealError) -> Problem {
    match error {
        SealError::NoKey { .. } => Problem::conflict("no_master_key", error.to_string()),
        error => Problem::internal(&error),
    }
}

pub(super) async fn remove(state: &AdminState, act: &Act, name: &str) -> Result<Done, Problem> {
    fields::<Nothing>(&act.body)?;
    sealed(state.view(), name)?;
    let mut records = removal(state.view(), name);
    records.push(audit_line(state, act, None, "secret_removed", name));
    write(state, name, records).await
}

/// Puts a new secret in the place of a kept one, or ends a rotation that is under way.
pub(super) async fn rotate(state: &AdminState, act: &Act, given: &str) -> Result<Done, Problem> {
    let name = rotated_name(state.view(), given)?;
    let asked = Rotate::deserialize(&act.body).map_err(|_| {
        Problem::bad("invalid_body", "send {\"value\": \"…\", \"keep_for\": \"24h\"}, or {\"finish\": true}")
    })?;
    let (view, owned) = (state.view().clone(), name.clone());
    let peer = act.peer;
    let records = blocking(move || match asked {
        Rotate { finish: true, value: None, keep_for: None } => finish(&view, &owned),
        Rotate { finish: false, value: Some(value), keep_for } => {
            start(&view, &owned, value, keep_for.as_deref())
        }
        _ => {
            Err(Problem::bad("invalid_body", "send either `value`, with `keep_for` or without, or `finish`"))
        }
    });
    let mut records = records.await?;
    for record in &mut records {
        if let Record::Audit(line) = record {
            line.peer = peer;
        }
    }
    write(state, &name, records).await
}

/// Writes records and has everybody resolve the secret anew.
async fn write(state: &AdminState, name: &str, records: Vec<Record>) -> Result<Done, Problem> {
    state.view().log.append_durable(records).await?;
    state.0.runtime.secret_changed(name).await;
    let rotation = state.view().log.state().rotations().get(name).copied();
    ok(match rotation {
        None => json!({"name": name}),
        Some(rotation) => json!({"name": name, "rotated_at": rotation.at, "keep_until": rotation.keep_until}),
    })
}

fn sealed(view: &View, name: &str) -> Result<Bytes, Problem> {
    let sealed = view.log.state().sealed(name).filter(|sealed| !sealed.is_empty() && is_store_name(name));
    sealed.ok_or_else(|| Problem::not_found("secret", shown(name)))
}

fn sealed_otherwise(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(409, "sealed_otherwise", error.to_string())
}

fn check_name(name: &str) -> Result<(), Problem> {
    if is_store_name(name) {
        return Ok(());
    }
    let detail =
        "a secret's name has letters, digits, `_`, `-`, `.` and `/`, and begins with a letter or digit";
    Err(Problem::bad("invalid_name", detail))
}

fn secret(value: String) -> Result<Secret, Problem> {
    let secret = Secret::new(value);
    if secret.is_blank() || secret.expose().len() > SECRET_BYTES_MAX {
        return Err(Problem::bad("invalid_body", "`value`: 1 byte to 64 KiB, not blank"));
    }
    Ok(secret)
}

/// Returns the records that remove a kept secret, and what it replaced.
pub(crate) fn removal(view: &View, name: &str) -> Vec<Record> {
    let at = view.clock.now();
    let empty = |name: String| Record::Sealed(Sealed { name, at, sealed: Bytes::new() });
    let mut records = vec![empty(name.to_owned())];
    if view.log.state().rotations().contains_key(name) {
        let change = SecretChange::Retired { name: name.to_owned() };
        records.extend([Record::Secret(SecretNews { at, change }), empty(previous_name(name))]);
    }
    records
}

/// Finds the kept secret that is meant: by its name, or by the trigger whose current secret it is.
///
/// # Errors
///
/// If there is none, or the trigger's current secret is not hookkeeper's to change.
pub(crate) fn rotated_name(view: &View, given: &str) -> Result<String, Problem> {
    if sealed(view, given).is_ok() {
        return Ok(given.to_owned());
    }
    let triggers = view.config.as_ref().map(|config| config.triggers.as_slice()).unwrap_or_default();
    let Some(trigger) = triggers.iter().find(|trigger| trigger.id.as_str() == given) else {
        let detail = format!(
            "there is neither a kept secret nor a trigger {}; `hookkeeper secrets list` lists them, \
             `hookkeeper secrets set` keeps one",
            shown(given)
        );
        return Err(Problem::new(404, "not_found", detail));
    };
    match trigger.secrets.get(SIGNING_SECRET).and_then(|list| list.first()) {
        Some(SecretRef::Store(name)) => Ok(name.clone()),
        Some(other) => Err(Problem::conflict(
            "not_kept",
            format!(
                "the current secret of trigger {} is {other}, which is not hookkeeper's to change: put the new one \
                 in front of it in the trigger's list, or keep it here with `hookkeeper secrets set`",
                trigger.id
            ),
        )),
        None => Ok(crate::provider::sealed_name(&trigger.id, SIGNING_SECRET)),
    }
}

/// Returns the records that put a new secret in the place of a kept one, an audit line among them.
///
/// # Errors
///
/// If there is none to replace, a rotation is under way already, or a trigger could not verify with the new one.
pub(crate) fn start(
    view: &View,
    name: &str,
    value: String,
    keep_for: Option<&str>,
) -> Result<Vec<Record>, Problem> {
    let state = view.log.state();
    if let Some(rotation) = state.rotations().get(name) {
        let detail = format!(
            "{name} is being rotated since {}: the secret before it is in force until deliveries verify with the new \
             one, at least until {}; see `hookkeeper secrets list`, or end it now with `hookkeeper secrets rotate \
             {name} --finish`",
            rotation.at, rotation.keep_until
        );
        return Err(Problem::conflict("rotation_under_way", detail));
    }
    let keep_for = keep_for.map_or(Some(KEEP_FOR), parse_duration).filter(|it| *it <= KEEP_FOR_MAX);
    let keep_for =
        keep_for.ok_or_else(|| Problem::bad("invalid_body", "`keep_for`: a duration, 0s to 90d"))?;
    let (at, new) = (view.clock.now(), secret(value)?);
    let old = view.vault.unseal(name, &sealed(view, name)?).map_err(|error| sealed_otherwise(&error))?;
    if old == new {
        return Err(Problem::conflict("same_secret", format!("{name} has this value already")));
    }
    for trigger in view.config.iter().flat_map(|config| &config.triggers) {
        check_trigger(view, trigger, name, &new)?;
    }
    let seal = |name: &str, secret| view.vault.seal(name, secret).map_err(not_sealed);
    let keep_until = at.checked_add(keep_for).map_err(|error| Problem::internal(&error))?;
    let previous = previous_name(name);
    let (sealed_old, sealed_new) = (seal(&previous, &old)?, seal(name, &new)?);
    let change = SecretChange::Rotated { name: name.to_owned(), keep_until };
    // In this order nothing is lost wherever it is cut off: the old one is kept before the new one takes its place.
    Ok(vec![
        Record::Secret(SecretNews { at, change }),
        Record::Sealed(Sealed { name: previous, at, sealed: sealed_old }),
        Record::Sealed(Sealed { name: name.to_owned(), at, sealed: sealed_new }),
        line(
            at,
            "secret_rotated",
            format!("{name}; the one before stays in force at least until {keep_until}"),
        ),
    ])
}

/// Returns the records that end a rotation at once, an audit line among them.
///
/// # Errors
///
/// If none is under way.
pub(crate) fn finish(view: &View, name: &str) -> Result<Vec<Record>, Problem> {
    if !view.log.state().rotations().contains_key(name) {
        return Err(Problem::conflict("no_rotation", format!("{name} is not being rotated")));
    }
    let at = view.clock.now();
    let change = SecretChange::Retired { name: name.to_owned() };
    Ok(vec![
        Record::Secret(SecretNews { at, change }),
        Record::Sealed(Sealed { name: previous_name(name), at, sealed: Bytes::new() }),
        line(
            at,
            "secret_retired",
            format!("{name}: the secret that was replaced was dropped by an operator"),
        ),
    ])
}

/// Makes sure that a trigger can verify with a new secret, and with the one before as well.
fn check_trigger(view: &View, trigger: &Trigger, name: &str, new: &Secret) -> Result<(), Problem> {
    let reference = SecretRef::Store(name.to_owned());
    let uses = trigger.secrets.iter().find(|(_, list)| list.contains(&reference));
    let (Some((secret_name, list)), Some(entry)) = (uses, view.catalog.get(trigger.provider.as_str())) else {
        return Ok(());
    };
    let rotations = view.log.state().rotations();
    let replaced =
        list.iter().filter(|it| matches!(it, SecretRef::Store(name) if rotations.contains_key(name)));
    if list.len() + replaced.count() + 1 > SECRETS_MAX {
        let detail = format!(
            "trigger {} would have more than {SECRETS_MAX} secrets in force: take one out of its list first",
            trigger.id
        );
        return Err(Problem::conflict("too_many_secrets", detail));
    }
    let settings = TriggerSettings {
        secrets: [(secret_name.clone(), vec![new.clone()])].into(),
        settings: trigger.settings.clone(),
        ..TriggerSettings::default()
    };
    let fits = Verifier::new(entry, &settings);
    fits.map(drop).map_err(|error| Problem::bad("invalid_secret", format!("trigger {}: {error}", trigger.id)))
}

fn line(at: Timestamp, code: &str, detail: String) -> Record {
    Record::Audit(Audit {
        topic: AUDIT_ADMIN.to_owned(),
        at,
        trigger_id: None,
        peer: None,
        code: code.to_owned(),
        detail,
        count: 1,
    })
}
