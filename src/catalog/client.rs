//! What an entry says of its provider's API, field by field. The engine that calls it is
//! `connector::client`; what the types cannot say is held by `check`.

pub(super) mod check;
mod method;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

pub use self::method::{
    ArgPlace, ArgType, ClientArg, ClientCode, ClientMethod, ClientPages, PageKind, PathPart,
};
use self::method::{implied, page_args, raw_method};
use super::{Confidence, Setting};

/// The method with which anything of a REST API can be asked.
pub const RAW_METHOD: &str = "request";
/// Arguments that a method with pages has beside its own.
pub const PAGE_ARGS: [&str; 3] = ["limit", "all", "cursor"];
/// The argument that chooses the installation of an app.
pub const INSTALLATION_ARG: &str = "installation_id";

/// A provider's API: where it is, who may call it, and what can be asked.
///
/// `${name}` in a text stands for the setting of that name, `{secret:name}` in an authentication for a
/// secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSpec {
    /// Where the API is: https, without a trailing slash.
    pub base_url: String,
    /// How well the facts are known.
    #[serde(default)]
    pub confidence: Confidence,
    /// What was read for this client: page, package and version. Built-in entries have it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The day of reading, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub read_on: String,
    /// Ways to show who calls; the first one whose secrets and settings are given counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<ClientAuth>,
    /// The secrets that ways of authentication need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ClientSecret>,
    /// What a configuration may set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// Headers of every request, such as the API's version; one whose value is empty is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How bodies are written where a method says nothing.
    #[serde(default)]
    pub body: BodyKind,
    /// The header that tells a repeated request from a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_header: Option<String>,
    /// What the provider counts requests by.
    #[serde(default)]
    pub limits: ClientLimits,
    /// How errors look.
    #[serde(default)]
    pub errors: ClientErrors,
    /// Further hosts to which the API hands out URLs that are called, such as for uploads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Whether there is a method `request` for whatever is not listed.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub raw: bool,
    /// What can be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<ClientMethod>,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// A secret that calls need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSecret {
    /// Its name in a configuration's `secrets`.
    pub name: String,
    /// The namespace that it lives under: the entry's id, which is the default.
    #[serde(default)]
    pub namespace: String,
    /// Where people find it at the provider, and what it looks like.
    pub about: String,
}

/// How a request shows who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientAuth {
    /// `Authorization: Bearer` and the secret.
    Bearer {
        /// The secret's name.
        secret: String,
    },
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// User name and password.
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A part of the URL's path, before that of the method.
    Path {
        /// The part, with its leading slash.
        prefix: String,
    },
    /// A GitHub App: a signed token of the app buys tokens of its installations.
    GithubApp {
        /// Name of the secret that is the app's private key, PEM.
        secret: String,
        /// The app's id, or its client id.
        app_id: String,
        /// The installation where a call names none; may be empty.
        installation_id: String,
    },
}

impl ClientAuth {
    /// Returns the texts that may name settings and secrets.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            ClientAuth::Bearer { .. } => Vec::new(),
            ClientAuth::Header { value, .. } | ClientAuth::Query { value, .. } => vec![value],
            ClientAuth::Basic { user, password } => vec![user, password],
            ClientAuth::Path { prefix } => vec![prefix],
            ClientAuth::GithubApp { app_id, installation_id, .. } => vec![app_id, installation_id],
        }
    }

    /// Returns the names of the secrets that it needs.
    pub fn secrets(&self) -> Vec<&str> {
        match self {
            ClientAuth::Bearer { secret } | ClientAuth::GithubApp { secret, .. } => vec![secret],
            _ => self.texts().into_iter().flat_map(|text| placeholders(text, "{secret:")).collect(),
        }
    }

    /// Returns the names of the settings that its texts name.
    pub fn settings(&self) -> Vec<&str> {
        self.texts().into_iter().flat_map(|text| placeholders(text, "${")).collect()
    }

    /// Returns the kind's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            ClientAuth::Bearer { .. } => "bearer",
            ClientAuth::Header { .. } => "header",
            ClientAuth::Basic { .. } => "basic",
            ClientAuth::Query { .. } => "query",
            ClientAuth::Path { .. } => "path",
            ClientAuth::GithubApp { .. } => "github-app",
        }
    }
}

/// Returns what stands between `open` and the next closing brace, everywhere in a text.
pub(super) fn placeholders<'t>(text: &'t str, open: &str) -> Vec<&'t str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

/// How arguments become a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyKind {
    /// JSON.
    #[default]
    Json,
    /// A form; what is nested is written with brackets: `a[b]=1`, `a[0]=2`.
    Form,
    /// A form; what is nested is written as JSON text.
    FormJson,
    /// JSON with a `query` and the arguments as its `variables`.
    Graphql,
}

/// What a provider counts requests by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientLimits {
    /// Whose requests are counted together, such as `token` or `workspace`. Those of an app are counted by
    /// installation in any case.
    #[serde(default = "token")]
    pub scope: String,
    /// Whether each path is counted on its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_path: bool,
    /// Calls a second of each scope, where that is known; what the provider answers corrects it. With `burst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// Calls at once after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

fn token() -> String {
    "token".to_owned()
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { scope: token(), per_path: false, per_second: None, burst: None }
    }
}

/// How a provider says that it did not do what was asked for, beside the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientErrors {
    /// JSON pointer to what is `true` in every good answer, where the status does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<String>,
    /// JSON pointer to what is absent, null or empty in every good answer, where the status does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// JSON pointers to a code, the first one that leads somewhere counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<String>,
    /// JSON pointers to a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message: Vec<String>,
    /// JSON pointer to the seconds to wait, where no header says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<String>,
    /// Codes that mean that a rate limit was met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limited_codes: Vec<String>,
    /// Parts of sentences, in lower case, that mean the same where the status is 403.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limited_texts: Vec<String>,
    /// Codes that mean that the credentials do not serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credential_codes: Vec<String>,
}

impl ClientSpec {
    /// Returns the names of all methods, the raw one last.
    pub fn method_names(&self) -> Vec<String> {
        let listed = self.methods.iter().map(|method| method.name.clone());
        listed.chain(self.raw.then(|| RAW_METHOD.to_owned())).collect()
    }

    /// Tells whether calls may name an installation.
    pub fn has_installations(&self) -> bool {
        self.auth.iter().any(|auth| matches!(auth, ClientAuth::GithubApp { .. }))
    }

    /// Returns the names of the settings that a text is made of, as far as they are `given`; in place of another one
    /// stand those that its default is made of.
    pub fn settings_of<'t>(&'t self, text: &'t str, given: impl Fn(&str) -> bool) -> Vec<&'t str> {
        let mut open: VecDeque<&str> = placeholders(text, "${").into();
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        while let Some(name) = open.pop_front() {
            // A default that names itself would lead round in circles.
            if !seen.insert(name) {
                continue;
            }
            if given(name) {
                found.push(name);
            } else if let Some(setting) = self.settings.iter().find(|setting| setting.name == name) {
                open.extend(placeholders(setting.default.as_deref().unwrap_or_default(), "${"));
            }
        }
        found
    }

    /// Returns the texts outside of authentication that may name settings.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.values().map(String::as_str);
        let paths = self.methods.iter().map(|method| method.request.as_str());
        std::iter::once(self.base_url.as_str()).chain(headers).chain(paths)
    }
}

impl ClientSpec {
    /// Returns every method with all that it takes: the raw method, and the arguments that follow from pages
    /// and apps, included.
    pub fn all_methods(&self) -> Vec<ClientMethod> {
        let mut methods = self.methods.clone();
        methods.extend(self.raw.then(raw_method));
        for method in &mut methods {
            if let Some(pages) = &method.pages {
                method.args.extend(page_args(pages));
            }
            if self.has_installations() {
                let about = "the app's installation to call as; default: the configured one";
                method.args.push(implied(INSTALLATION_ARG, ArgType::Integer, about));
            }
        }
        methods
    }
}
