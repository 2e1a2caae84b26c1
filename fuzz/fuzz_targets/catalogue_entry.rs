//! Entries as users write them: whatever loads and compiles can be shown, verified with and signed with.
//!
//! Input: the TOML of one entry.

#![no_main]

use std::collections::BTreeMap;

use hookkeeper::catalog::{ProviderCatalog, ProviderEntry, ProviderMetadata};
use hookkeeper::connector::{
    ClientSettings, Credentials, Judging, RawInbound, Rendered, SchemeFacts, SignRequest, Signer,
    TriggerSettings, Verifier, generate_secret, render, validate_client, validate_entry,
};
use hookkeeper_fuzz::{now, secret_of};
use libfuzzer_sys::fuzz_target;

fn settings(entry: &ProviderEntry, input: &[u8]) -> TriggerSettings {
    let secrets = entry.secrets.iter().map(|spec| {
        let secret = generate_secret(spec, &secret_of(input));
        (spec.name.clone(), vec![secret])
    });
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    TriggerSettings {
        secrets: secrets.collect(),
        settings: open.map(|setting| (setting.name.clone(), "X-Any".to_owned())).collect(),
        public_url: Some("https://hooks.example.com/hooks/x".to_owned()),
        ..TriggerSettings::default()
    }
}

/// Sends the entry's first sample, signed where that is possible.
fn deliver(entry: &ProviderEntry, verifier: &Verifier, signer: Option<&Signer>) {
    let Some(sample) = entry.samples.first() else { return };
    let Rendered { method, query, mut headers, body } = render(sample, "id-1", now());
    let url = format!("/hooks/x{query}");
    let request = SignRequest {
        method: &method,
        url: &url,
        headers: &headers,
        body: &body,
        now: now(),
        delivery_id: "id-1",
        kind: Some(&sample.kind),
    };
    if let Some(signed) = signer.and_then(|signer| signer.sign(request).ok()) {
        headers.extend(signed.headers.into_iter().map(|(name, value)| (name, value.into())));
    }
    let raw = RawInbound { method, url, headers, body: body.into(), received_at: now(), peer: None };
    verifier.wanted_keys(&raw);
    verifier.normalize_inbound(&raw, Judging { armed: true, ..Judging::at(now()) });
}

/// Sets up the entry's client with all that it takes, and with nothing.
fn set_up_client(entry: &ProviderEntry) {
    let Some(client) = &entry.client else { return };
    assert_eq!(client.method_names(), entry.outbound, "one truth about methods");
    assert_eq!(client.all_methods().len(), entry.outbound.len());
    let settings = client.settings.iter().map(|setting| (setting.name.clone(), "x".to_owned()));
    let given = ClientSettings {
        base_url: None,
        settings: settings.collect(),
        secrets: client.secrets.iter().map(|secret| secret.name.clone()).collect(),
    };
    validate_client(entry, &given).ok();
    validate_client(entry, &ClientSettings::default()).ok();
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(catalog) = ProviderCatalog::with_user_entries(&[text]) else { return };
    let built_in = ProviderCatalog::built_in();
    let is_new = |entry: &&std::sync::Arc<ProviderEntry>| built_in.get(entry.id.as_str()) != Some(entry);
    for entry in catalog.entries().filter(is_new) {
        ProviderMetadata::of(entry);
        set_up_client(entry);
        let compiles = validate_entry(entry).is_ok();
        assert_eq!(SchemeFacts::of_any(entry).is_ok(), compiles, "facts follow from what compiles");
        let settings = settings(entry, data);
        let verifier = Verifier::new(entry, &settings);
        assert!(compiles || verifier.is_err(), "an entry that does not compile verifies");
        if let Ok(verifier) = verifier {
            Credentials::of(entry, &settings.settings).expect("the entry compiles");
            let signer = Signer::new(entry, &settings).ok().flatten();
            deliver(entry, &verifier, signer.as_ref());
        }
        Credentials::of(entry, &BTreeMap::new()).ok();
    }
});
