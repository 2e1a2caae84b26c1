//! `send` as every provider of the catalogue, to one server that has a trigger of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookkeeper::catalog::{ProviderCatalog, ProviderEntry, SIGNING_SECRET, Sample, TriggerKind};
use hookkeeper::connector::{generate_secret, private_scheme};
use hookkeeper::signature::{PrivateKey, PublicScheme};
use serde_json::Value;

use crate::support::Server;

/// Commands that run at once.
const AT_ONCE: usize = 4;

fn entries() -> Vec<std::sync::Arc<ProviderEntry>> {
    // Nobody calls the triggers of other kinds.
    let is_called = |entry: &&std::sync::Arc<ProviderEntry>| entry.kinds.contains(&TriggerKind::Webhook);
    ProviderCatalog::built_in().entries().filter(is_called).cloned().collect()
}

fn settings(entry: &ProviderEntry) -> BTreeMap<String, String> {
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    open.map(|setting| (setting.name.clone(), "X-Signature".to_owned())).collect()
}

fn scheme(entry: &std::sync::Arc<ProviderEntry>) -> Option<PublicScheme> {
    private_scheme(entry, &settings(entry)).unwrap()
}

/// Lays a test key pair where `send` looks for it. Making an RSA key takes long: one serves them all.
fn lay_test_key(server: &Server, id: &str, scheme: PublicScheme, made: &mut Vec<PrivateKey>) {
    let key = match made.iter().find(|key| key.public().fits(scheme)) {
        Some(key) => key.clone(),
        None => {
            made.push(PrivateKey::generate(scheme));
            made.last().unwrap().clone()
        }
    };
    let folder = server.data().join("test-keys");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{id}.pem")), key.to_pem()).unwrap();
    std::fs::write(folder.join(format!("{id}.pub.pem")), key.public_pem()).unwrap();
}

/// Writes a trigger of a provider, with secrets of its form, or trusting the test key.
fn trigger(server: &Server, entry: &std::sync::Arc<ProviderEntry>, made: &mut Vec<PrivateKey>) -> String {
    let id = &entry.id;
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut trigger = format!("[[triggers]]\nid = \"{id}\"\nprovider = \"{id}\"\n");
    let mut secrets = BTreeMap::new();
    for spec in &entry.secrets {
        let secret = generate_secret(spec, &[7; 32]);
        let secret = String::from_utf8(secret.expose().to_vec()).unwrap();
        secrets.insert(spec.name.as_str(), format!("literal:{secret}"));
    }
    let signature = entry.signature.as_ref();
    if let Some(scheme) = scheme(entry) {
        lay_test_key(server, id.as_str(), scheme, made);
        let public = format!("file:data/test-keys/{id}.pub.pem");
        if signature.is_some_and(|text| text.keys.is_none() && text.public_keys.is_empty()) {
            secrets.insert(SIGNING_SECRET, public);
        } else {
            writeln!(trigger, "public_keys = [{}]", text(&public)).unwrap();
        }
    }
    let table = |pairs: Vec<(&str, &str)>| {
        let pairs: Vec<_> =
            pairs.into_iter().map(|(name, value)| format!("{name} = {}", text(value))).collect();
        format!("{{ {} }}", pairs.join(", "))
    };
    let settings = settings(entry);
    let secrets = table(secrets.iter().map(|(name, value)| (*name, value.as_str())).collect());
    let settings = table(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect());
    writeln!(trigger, "secrets = {secrets}\nsettings = {settings}").unwrap();
    trigger
}

/// Starts a server that has a trigger of every provider. Beside its configuration lies one for each
/// provider, which a command reads faster.
fn start() -> Server {
    let mut server = Server::prepare("");
    let head = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
                public_url = \"https://hooks.example.com\"\n\n";
    let mut whole = head.to_owned();
    let mut made = Vec::new();
    for entry in entries() {
        let trigger = trigger(&server, &entry, &mut made);
        std::fs::write(own_config(&server, &entry), format!("{head}{trigger}")).unwrap();
        whole.push_str(&trigger);
    }
    std::fs::write(server.folder.path().join("hookkeeper.toml"), whole).unwrap();
    server.restart();
    server
}

fn own_config(server: &Server, entry: &ProviderEntry) -> std::path::PathBuf {
    server.folder.path().join(format!("only-{}.toml", entry.id))
}

/// Runs `send` and returns how the delivery was answered.
fn send(server: &Server, entry: &ProviderEntry, args: &[&str]) -> Result<Value, String> {
    let config = own_config(server, entry);
    let fixed = ["send", entry.id.as_str(), "--json", "--config", config.to_str().unwrap()];
    let output = server.run(&[&fixed, args].concat());
    let told = || String::from_utf8_lossy(&output.stderr).into_owned();
    let answers: Value = serde_json::from_slice(&output.stdout).map_err(|_| told())?;
    if output.status.success() {
        Ok(answers["items"][0].clone())
    } else {
        Err(format!("{answers} {}", told()))
    }
}

/// Sends a sample; the answer is what the provider demands, and the event is stored with the sample's kind.
fn check_sample(server: &Server, entry: &ProviderEntry, sample: &Sample) -> Result<(), String> {
    let answer = send(server, entry, &["--event", &sample.kind])?;
    let said = (answer["status"].as_u64(), answer["answer"].as_str());
    let demanded = (Some(u64::from(entry.ack.status)), Some(entry.ack.body.as_str()));
    if said != demanded {
        return Err(format!("answered {said:?}, not {demanded:?}"));
    }
    let ids = answer["event_id"].as_str().ok_or("no event id")?;
    let id = ids.split(',').next().unwrap_or(ids);
    let event = server.get(&format!("/api/v1/events/{id}")).json();
    if (event["kind"].as_str(), event["trigger_id"].as_str()) != (Some(&sample.kind), Some(entry.id.as_str()))
    {
        return Err(format!("stored as {} of {}", event["kind"], event["trigger_id"]));
    }
    let state = if entry.signature.is_some() { "verified" } else { "unsigned" };
    if event["signature_status"]["state"] != state {
        return Err(format!("stored as {}", event["signature_status"]));
    }
    Ok(())
}

/// Runs a check for each item on a few threads; all failures are told, so that one does not hide the others.
fn for_each<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(failure) = check(item) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_provider_is_sent_as_and_answered_as_it_demands() {
    let server = start();
    let entries = entries();
    let samples: Vec<_> =
        entries.iter().flat_map(|entry| entry.samples.iter().map(move |sample| (entry, sample))).collect();
    for_each(&samples, |(entry, sample)| {
        check_sample(&server, entry, sample).map_err(|why| format!("{} {}: {why}", entry.id, sample.kind))
    });
    // Bad signatures of providers that sign at all.
    let signing: Vec<_> = entries.iter().filter(|entry| entry.signature.is_some()).collect();
    for_each(&signing, |entry| {
        let refused = send(&server, entry, &["--invalid"]).map_err(|why| format!("{}: {why}", entry.id))?;
        let refused = (refused["status"].as_u64(), refused["answer"].as_str());
        match refused {
            (Some(401), Some("{\"error\":\"invalid_signature\"}")) => Ok(()),
            other => Err(format!("{}: a bad signature is answered {other:?}", entry.id)),
        }
    });
}
