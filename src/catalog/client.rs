//! What an entry says of its provider's API, field by field. The engine that calls it is
//! `connector::client`; what the types cannot say is held by `client_check`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
}

fn token() -> String {
    "token".to_owned()
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { scope: token(), per_path: false }
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

/// Something that can be asked of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientMethod {
    /// Its name.
    pub name: String,
    /// What it does, in one line.
    pub about: String,
    /// Method and path: `POST /repos/{owner}/{repo}/issues`. An argument in braces is one segment or a part
    /// of one.
    pub request: String,
    /// What it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ClientArg>,
    /// How the body is written, where not as the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyKind>,
    /// Fields of the body that are always the same.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub fixed: toml::Table,
    /// The GraphQL document; variables are the arguments of the body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document: String,
    /// JSON pointer to the result in the answer; default: all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// How to go on where one answer is not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<ClientPages>,
    /// Whether doing it twice is the same as doing it once, for what is no GET.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// What is done in code, as one request cannot say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ClientCode>,
}

/// What is done in code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCode {
    /// Slack's upload: a URL is asked for, the file is sent there, and the upload is completed.
    SlackUpload,
}

/// One argument of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientArg {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// What values it takes.
    #[serde(default, rename = "type")]
    pub kind: ArgType,
    /// Whether it must be given. What stands in the path always must.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Where it goes. Default: into the path if that names it, else into the body, and of GET and DELETE
    /// into the query.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub place: Option<ArgPlace>,
    /// The provider's name for it, where it differs; in a JSON body a pointer, `""` being all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The values that there are, of a string.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What values an argument takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArgType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// Any JSON.
    Any,
}

impl ArgType {
    /// Returns the type's word, as entries have it.
    pub fn as_str(self) -> &'static str {
        match self {
            ArgType::String => "string",
            ArgType::Integer => "integer",
            ArgType::Number => "number",
            ArgType::Boolean => "boolean",
            ArgType::Object => "object",
            ArgType::Array => "array",
            ArgType::Any => "any",
        }
    }
}

/// Where an argument goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArgPlace {
    /// The path.
    Path,
    /// The query.
    Query,
    /// The body.
    Body,
    /// A header.
    Header,
}

/// How a listing goes on. A method with pages also takes `limit`, `all` and `cursor`, and its result is
/// `{"items": […], "next_cursor": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientPages {
    /// Where the next page is named.
    pub by: PageKind,
    /// JSON pointer to the items of a page; default: the answer itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub items: String,
    /// JSON pointer to the cursor: in the answer, or for `last-item` in the last item.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// The parameter that takes the cursor, in the place of other arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub into: String,
    /// JSON pointer to what is `true` while there is more, where the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
    /// The parameter that takes the number of items of a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Most items of a page.
    #[serde(default = "one_hundred")]
    pub size_max: u64,
}

fn one_hundred() -> u64 {
    100
}

/// Where the next page is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageKind {
    /// In the header `Link`, with `rel="next"`.
    Link,
    /// In the answer.
    Cursor,
    /// In the last item.
    LastItem,
}

/// A piece of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPart<'a> {
    /// As it stands.
    Text(&'a str),
    /// An argument.
    Arg(&'a str),
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

    /// Returns the texts outside of authentication that may name settings.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.values().map(String::as_str);
        let paths = self.methods.iter().map(|method| method.request.as_str());
        std::iter::once(self.base_url.as_str()).chain(headers).chain(paths)
    }
}

impl ClientMethod {
    /// Returns the request's method, such as `POST`.
    pub fn verb(&self) -> &str {
        self.request.split_once(' ').map_or("", |(verb, _)| verb)
    }

    /// Returns the request's path, with arguments in braces.
    pub fn path(&self) -> &str {
        self.request.split_once(' ').map_or("", |(_, path)| path.trim_start())
    }

    /// Returns the path in pieces; nothing where its braces do not match.
    pub fn path_parts(&self) -> Option<Vec<PathPart<'_>>> {
        let mut parts = Vec::new();
        let mut rest = self.path();
        while let Some((text, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}')?;
            parts.extend([PathPart::Text(text), PathPart::Arg(name)]);
            rest = behind;
        }
        parts.push(PathPart::Text(rest));
        let closed = |part: &PathPart<'_>| !matches!(part, PathPart::Text(text) if text.contains(['{', '}']));
        parts.iter().all(closed).then_some(parts)
    }

    /// Tells whether the path names an argument.
    fn is_in_path(&self, name: &str) -> bool {
        self.path_parts().is_some_and(|parts| parts.contains(&PathPart::Arg(name)))
    }

    /// Returns where an argument goes.
    pub fn place_of(&self, arg: &ClientArg) -> ArgPlace {
        match arg.place {
            Some(place) => place,
            None if self.is_in_path(&arg.name) => ArgPlace::Path,
            None => self.usual_place(),
        }
    }

    /// Returns where arguments go of which nothing is said.
    pub fn usual_place(&self) -> ArgPlace {
        if matches!(self.verb(), "GET" | "DELETE") { ArgPlace::Query } else { ArgPlace::Body }
    }

    /// Tells whether an argument must be given.
    pub fn is_required(&self, arg: &ClientArg) -> bool {
        arg.required || self.place_of(arg) == ArgPlace::Path
    }
}
