//! What a configuration brings to a client, put into its entry's texts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::base_url::{ClientBase, base_settings, read_base, within_host};
use super::github_app::{is_app_id, is_installation_id, validate_app_key};
use crate::catalog::{BodyKind, ClientAuth, ClientMethod, ClientSpec, ProviderEntry};
use crate::secrets::Secret;

/// What a configuration says of a provider's client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Where the API is, in place of what the entry says: of one's own installation, or a test's.
    pub base_url: Option<String>,
    /// Settings by the entry's names.
    pub settings: BTreeMap<String, String>,
    /// Names of the secrets that there are.
    pub secrets: BTreeSet<String>,
}

/// Why a client cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientBuildError {
    /// The entry says nothing of the provider's API.
    #[error("provider {0} has no client: describe its API in a [client] of a [[providers]] entry")]
    NoClient(String),
    /// A secret or setting is given that the entry does not know.
    #[error("unknown {what} {name:?}; the client of {provider} takes {known}")]
    Unknown {
        /// `secret` or `setting`.
        what: &'static str,
        /// The provider.
        provider: String,
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No way of authentication has all that it needs.
    #[error("the client of {provider} needs {needs}")]
    Missing {
        /// The provider.
        provider: String,
        /// What is needed.
        needs: String,
    },
    /// A setting has another form than the provider's.
    #[error("the setting {name} of the client of {provider} is no {expected}")]
    Setting {
        /// The provider.
        provider: String,
        /// The setting.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// What the entry says itself, without a setting, has another form than the provider's.
    #[error("the {key} that the entry of {provider} names is no {expected}")]
    Fixed {
        /// The provider.
        provider: String,
        /// The key within the entry's authentication.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// With the settings put in, there is no URL.
    #[error("the base URL of {provider} is no https URL with a host, and without user, query and fragment")]
    BaseUrl {
        /// The provider.
        provider: String,
        /// The first setting that it is made of.
        setting: Option<String>,
    },
}

impl ClientBuildError {
    /// Returns the setting that is wrong, where it is one.
    pub fn setting(&self) -> Option<&str> {
        match self {
            ClientBuildError::Setting { name, .. } => Some(name),
            ClientBuildError::BaseUrl { setting, .. } => setting.as_deref(),
            _ => None,
        }
    }
}

/// A client's texts with the settings put in.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) base: Url,
    /// Who calls; nothing for an API that asks nobody.
    pub(super) auth: Option<ClientAuth>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: BodyKind,
    /// Every method, with all that it takes.
    pub(super) methods: BTreeMap<String, ClientMethod>,
    /// The names of the methods, as the entry has them.
    pub(super) names: Vec<String>,
}

impl Plan {
    /// Puts the settings in.
    ///
    /// # Errors
    ///
    /// If something is missing or unknown, or there is no URL.
    pub(super) fn new(entry: &ProviderEntry, given: &ClientSettings) -> Result<Self, ClientBuildError> {
        let provider = entry.id.to_string();
        let client = entry.client.as_ref().ok_or_else(|| ClientBuildError::NoClient(provider.clone()))?;
        known_only(&provider, client, given)?;
        let settings = completed(client, &given.settings);
        let auth = choose(client, given, &settings)
            .ok_or_else(|| ClientBuildError::Missing { provider: provider.clone(), needs: needs(client) })?;
        let fill = |text: &str| filled(text, &settings);
        // What stands in no authentication must be there in any case.
        let fill_all = |text: &str| {
            fill(text)
                .ok_or_else(|| ClientBuildError::Missing { provider: provider.clone(), needs: needs(client) })
        };
        let base = match &given.base_url {
            Some(url) => url.clone(),
            None => {
                within_host(&provider, client, &settings)?;
                fill_all(&client.base_url)?
            }
        };
        let base = read_base(&base).ok_or_else(|| {
            let setting = base_settings(client, given).into_iter().next();
            ClientBuildError::BaseUrl { provider: provider.clone(), setting }
        })?;
        let headers = client.headers.iter().filter_map(|(name, value)| Some((name.clone(), fill(value)?)));
        let headers = headers.filter(|(_, value)| !value.is_empty()).collect();
        let mut methods = BTreeMap::new();
        for mut method in client.all_methods() {
            method.request = fill_all(&method.request)?;
            methods.insert(method.name.clone(), method);
        }
        if let Some(auth) = auth {
            validate_app(&provider, client, given, (auth, &with_settings(auth, &fill)))?;
        }
        let auth = auth.map(|auth| with_settings(auth, &fill));
        Ok(Self { base, auth, headers, body: client.body, methods, names: client.method_names() })
    }
}

fn known_only(provider: &str, client: &ClientSpec, given: &ClientSettings) -> Result<(), ClientBuildError> {
    let secrets: Vec<&str> = client.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let settings: Vec<&str> = client.settings.iter().map(|setting| setting.name.as_str()).collect();
    let unknown = |what, name: &String, known: &[&str]| ClientBuildError::Unknown {
        what,
        provider: provider.to_owned(),
        name: name.clone(),
        known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
    };
    if let Some(name) = given.secrets.iter().find(|name| !secrets.contains(&name.as_str())) {
        return Err(unknown("secret", name, &secrets));
    }
    match given.settings.keys().find(|name| !settings.contains(&name.as_str())) {
        Some(name) => Err(unknown("setting", name, &settings)),
        None => Ok(()),
    }
}

/// Returns the settings in effect, defaults included.
fn completed(client: &ClientSpec, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = given.clone();
    for setting in &client.settings {
        if let Some(default) = &setting.default
            && !settings.contains_key(&setting.name)
            && let Some(value) = filled(default, &settings)
        {
            settings.insert(setting.name.clone(), value);
        }
    }
    settings
}

/// Puts settings into a text; nothing where one is missing.
fn filled(text: &str, settings: &BTreeMap<String, String>) -> Option<String> {
    let mut parts = text.split("${");
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}')?;
        out.push_str(settings.get(name)?);
        out.push_str(rest);
    }
    Some(out)
}

/// Returns the first way of authentication that has all that it needs; an entry without any asks for none.
fn choose<'c>(
    client: &'c ClientSpec,
    given: &ClientSettings,
    settings: &BTreeMap<String, String>,
) -> Option<Option<&'c ClientAuth>> {
    if client.auth.is_empty() {
        return Some(None);
    }
    let is_given = |auth: &&ClientAuth| {
        auth.secrets().iter().all(|name| given.secrets.contains(*name))
            && auth.settings().iter().all(|name| settings.contains_key(*name))
    };
    client.auth.iter().find(is_given).map(Some)
}

/// Says what ways of authentication, and the rest, need.
fn needs(client: &ClientSpec) -> String {
    let open: Vec<&str> = client
        .settings
        .iter()
        .filter(|setting| setting.default.is_none())
        .map(|setting| setting.name.as_str())
        .collect();
    let by_auth: BTreeSet<&str> = client.auth.iter().flat_map(|auth| auth.settings()).collect();
    let ways = client.auth.iter().map(|auth| {
        let secrets = auth.secrets().into_iter().map(|name| format!("the secret {name}"));
        let settings = auth.settings().into_iter().filter(|name| open.contains(name));
        secrets.chain(settings.map(|name| format!("the setting {name}"))).collect::<Vec<_>>().join(" and ")
    });
    let ways = ways.filter(|way| !way.is_empty()).collect::<Vec<_>>().join(", or ");
    let rest = open.iter().filter(|name| !by_auth.contains(*name)).map(|name| format!("the setting {name}"));
    let all: Vec<String> = (!ways.is_empty()).then_some(ways).into_iter().chain(rest).collect();
    all.join("; and ")
}

/// Validates what an app is known by, as the entry has it written and with the settings put in.
fn validate_app(
    provider: &str,
    client: &ClientSpec,
    given: &ClientSettings,
    (written, meant): (&ClientAuth, &ClientAuth),
) -> Result<(), ClientBuildError> {
    let ids = |auth: &ClientAuth| match auth {
        ClientAuth::GithubApp { app_id, installation_id, .. } => {
            Some([app_id.clone(), installation_id.clone()])
        }
        _ => None,
    };
    let (Some(written), Some([app_id, installation_id])) = (ids(written), ids(meant)) else { return Ok(()) };
    let (key, text, expected) = if !is_app_id(&app_id) {
        ("app_id", &written[0], APP_ID)
    } else if !installation_id.is_empty() && !is_installation_id(&installation_id) {
        ("installation_id", &written[1], INSTALLATION_ID)
    } else {
        return Ok(());
    };
    let provider = provider.to_owned();
    let of_given = client.settings_of(text, |name| given.settings.contains_key(name));
    // Without one that is given it is a default of the entry that is wrong.
    let of_entry = client.settings_of(text, |_| true);
    Err(match of_given.first().or(of_entry.first()) {
        Some(name) => ClientBuildError::Setting { provider, name: (*name).to_owned(), expected },
        None => ClientBuildError::Fixed { provider, key, expected },
    })
}

/// What an app's id looks like.
const APP_ID: &str = "id of a GitHub App: expected the number that its page shows as App ID, or its Client ID, which \
                      begins with Iv";
/// What an installation's id looks like.
const INSTALLATION_ID: &str = "id of an installation of a GitHub App: expected the number that its events have as \
                               installation.id, or none at all";

fn with_settings(auth: &ClientAuth, fill: &impl Fn(&str) -> Option<String>) -> ClientAuth {
    let fill = |text: &str| fill(text).unwrap_or_default();
    match auth {
        ClientAuth::Bearer { .. } => auth.clone(),
        ClientAuth::Header { name, value } => ClientAuth::Header { name: name.clone(), value: fill(value) },
        ClientAuth::Query { name, value } => ClientAuth::Query { name: name.clone(), value: fill(value) },
        ClientAuth::Basic { user, password } => {
            ClientAuth::Basic { user: fill(user), password: fill(password) }
        }
        ClientAuth::Path { prefix } => ClientAuth::Path { prefix: fill(prefix) },
        ClientAuth::GithubApp { secret, app_id, installation_id } => ClientAuth::GithubApp {
            secret: secret.clone(),
            app_id: fill(app_id),
            installation_id: fill(installation_id),
        },
    }
}

/// Validates what a configuration says of a provider's client, and returns where its calls go.
///
/// # Errors
///
/// If no client can be made of it.
pub fn validate_client(
    entry: &ProviderEntry,
    given: &ClientSettings,
) -> Result<ClientBase, ClientBuildError> {
    let plan = Plan::new(entry, given)?;
    let settings = entry.client.as_ref().map(|client| base_settings(client, given)).unwrap_or_default();
    Ok(ClientBase { url: plan.base.into(), settings })
}

/// Validates that a secret has the form that the client's way of authentication needs, if it uses it.
///
/// # Errors
///
/// If it has another one; the text says what is expected, and does not repeat the secret. What else may be wrong with
/// the client is left to [`validate_client`].
pub fn validate_client_secret(
    entry: &ProviderEntry,
    given: &ClientSettings,
    name: &str,
    secret: &Secret,
) -> Result<(), String> {
    let Some(client) = &entry.client else { return Ok(()) };
    let of_this = || client.auth.iter().find(|auth| auth.secrets().contains(&name));
    // With a setting missing no way is complete yet: then it is the one that this secret is for.
    let chosen = choose(client, given, &completed(client, &given.settings)).unwrap_or_else(of_this);
    match chosen {
        Some(ClientAuth::GithubApp { secret: key, .. }) if key == name => validate_app_key(secret),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    const ENTRY: &str = "id = \"acme\"\n[client]\nbase_url = \"https://${site}.acme.example\"\n\
        headers = { X-Version = \"${version}\", X-Account = \"${account}\" }\n\
        [[client.auth]]\nkind = \"bearer\"\nsecret = \"token\"\n\
        [[client.auth]]\nkind = \"basic\"\nuser = \"${user}\"\npassword = \"{secret:password}\"\n\
        [[client.secrets]]\nname = \"token\"\nabout = \"x\"\n\
        [[client.secrets]]\nname = \"password\"\nabout = \"x\"\n\
        [[client.settings]]\nname = \"site\"\nabout = \"x\"\n\
        [[client.settings]]\nname = \"user\"\nabout = \"x\"\n\
        [[client.settings]]\nname = \"account\"\nabout = \"x\"\ndefault = \"\"\n\
        [[client.settings]]\nname = \"version\"\nabout = \"x\"\ndefault = \"1\"\n";

    fn plan(secrets: &[&str], settings: &[(&str, &str)], base_url: Option<&str>) -> Result<Plan, String> {
        let catalog = ProviderCatalog::with_user_entries(&[ENTRY]).unwrap();
        let given = ClientSettings {
            base_url: base_url.map(str::to_owned),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        };
        Plan::new(catalog.get("acme").unwrap(), &given).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_put_in_and_the_first_complete_authentication_counts() {
        let found = plan(&["password"], &[("site", "my"), ("user", "ann")], None).unwrap();
        assert_eq!(found.base.as_str(), "https://my.acme.example/");
        assert_eq!(found.headers, [("X-Version".to_owned(), "1".to_owned())], "an empty one is left out");
        let basic = ClientAuth::Basic { user: "ann".into(), password: "{secret:password}".into() };
        assert_eq!(found.auth, Some(basic));
        let both = plan(&["token", "password"], &[("site", "my"), ("user", "ann")], None).unwrap();
        assert!(matches!(both.auth, Some(ClientAuth::Bearer { .. })));
        let moved = plan(&["token"], &[], Some("https://acme.internal:8443/api/")).unwrap();
        assert_eq!(moved.base.as_str(), "https://acme.internal:8443/api");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let check = |secrets: &[&str], settings: &[(&str, &str)], base_url, expected: &str| {
            assert_eq!(plan(secrets, settings, base_url).unwrap_err(), expected);
        };
        let needs = "the client of acme needs the secret token, or the secret password and the setting user; \
                     and the setting site";
        check(&[], &[("site", "my")], None, needs);
        check(&["password"], &[("site", "my")], None, needs);
        check(&["token"], &[], None, needs);
        check(&["tokn"], &[], None, "unknown secret \"tokn\"; the client of acme takes token, password");
        check(
            &["token"],
            &[("siet", "my")],
            None,
            "unknown setting \"siet\"; the client of acme takes site, user, account, version",
        );
        for bad in ["http://a.example", "https://", "https://u@a.example", "https://a.example/?x", "a"] {
            check(
                &["token"],
                &[],
                Some(bad),
                "the base URL of acme is no https URL with a host, and without user, query and fragment",
            );
        }
        check(
            &["token"],
            &[("site", "a b")],
            None,
            "the base URL of acme is no https URL with a host, and without user, query and fragment",
        );
        for bad in ["evil.example/?", "https://my.acme.example", "evil.example/", "x@evil", "a\\b", "a#"] {
            let expected = "the setting site of the client of acme is no host or part of one: expected neither \
                            https:// nor a slash";
            check(&["token"], &[("site", bad)], None, expected);
        }
    }

    /// Says what is wrong with the app of an entry, and which setting it is, where it is one.
    fn app_fault(
        app_id: &str,
        installation_id: &str,
        given: &[(&str, &str)],
    ) -> Option<(Option<String>, String)> {
        let settings = ["number", "installation"].map(|name| {
            let is_used = app_id.contains(name) || installation_id.contains(name);
            let setting = format!("[[client.settings]]\nname = \"{name}\"\nabout = \"x\"\ndefault = \"\"\n");
            if is_used { setting } else { String::new() }
        });
        let entry = format!(
            "id = \"acme\"\n[client]\nbase_url = \"https://acme.example\"\n[[client.auth]]\nkind = \"github-app\"\n\
             secret = \"key\"\napp_id = \"{app_id}\"\ninstallation_id = \"{installation_id}\"\n\
             [[client.secrets]]\nname = \"key\"\nabout = \"x\"\n{}",
            settings.concat()
        );
        let catalog = ProviderCatalog::with_user_entries(&[&entry]).unwrap();
        let given = ClientSettings {
            settings: given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            secrets: ["key".to_owned()].into(),
            ..ClientSettings::default()
        };
        let error = validate_client(catalog.get("acme").unwrap(), &given).err()?;
        Some((error.setting().map(str::to_owned), error.to_string()))
    }

    #[test]
    fn what_an_app_is_known_by_is_told_by_the_setting_that_it_comes_from() {
        let check = |fault: Option<(Option<String>, String)>, setting: Option<&str>, expected: &str| {
            let (found, told) = fault.unwrap();
            assert_eq!(found.as_deref(), setting, "{told}");
            assert!(told.starts_with(expected), "{told}");
        };
        let wrong = "the setting number of the client of acme is no id of a GitHub App: expected the number";
        check(app_fault("${number}", "", &[("number", "my-app")]), Some("number"), wrong);
        check(app_fault("Iv1.${number}", "", &[("number", "my-app")]), Some("number"), wrong);
        check(app_fault("${number}", "", &[]), Some("number"), wrong);
        let fixed = "the app_id that the entry of acme names is no id of a GitHub App";
        check(app_fault("my-app", "", &[]), None, fixed);
        let wrong = "the setting installation of the client of acme is no id of an installation";
        check(app_fault("1", "${installation}", &[("installation", "acme")]), Some("installation"), wrong);
        check(app_fault("1", "7a", &[]), None, "the installation_id that the entry of acme names is no id");
        for (installation, given) in
            [("", vec![]), ("7", vec![]), ("${installation}", vec![("installation", "7")])]
        {
            assert_eq!(app_fault("1", installation, &given), None, "{installation}");
        }
        assert_eq!(app_fault("1", "${installation}", &[]), None, "it may be left out");
    }
}
