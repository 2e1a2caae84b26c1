//! What can be asked of an API: methods, what they take, and how their listings go on.

use serde::{Deserialize, Serialize};

use super::{BodyKind, PAGE_ARGS, RAW_METHOD};

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
    /// The method for whatever is not listed; entries have it without saying so.
    #[serde(skip)]
    Raw,
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
    /// The parameter that takes the number of items of a page; empty where the provider alone decides.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub size: String,
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

/// Makes an argument that every method of its kind has.
pub(super) fn implied(name: &str, kind: ArgType, about: &str) -> ClientArg {
    let (name, about) = (name.to_owned(), about.to_owned());
    ClientArg { name, about, kind, required: false, place: None, at: None, values: Vec::new() }
}

/// Returns the arguments that follow from pages.
pub(super) fn page_args(pages: &ClientPages) -> [ClientArg; 3] {
    let [limit, all, cursor] = PAGE_ARGS;
    let up_to = if pages.size.is_empty() { String::new() } else { format!(", of up to {}", pages.size_max) };
    let size = format!("stops at so many, the last page whole; default: one page{up_to}");
    [
        implied(limit, ArgType::Integer, &size),
        implied(all, ArgType::Boolean, "true goes on to the end, within bounds"),
        implied(cursor, ArgType::String, "the `next_cursor` where an earlier result ended"),
    ]
}

/// Returns the method for whatever is not listed.
pub(super) fn raw_method() -> ClientMethod {
    let verbs = ["GET", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned);
    let verb = implied("method", ArgType::String, "default: GET, or POST where there is a body");
    let path =
        implied("path", ArgType::String, "path behind the base URL, percent-encoded, such as /users/me");
    ClientMethod {
        name: RAW_METHOD.to_owned(),
        about: "Asks for whatever is not listed".to_owned(),
        request: "GET /".to_owned(),
        args: vec![
            ClientArg { values: verbs.to_vec(), ..verb },
            ClientArg { required: true, ..path },
            implied("query", ArgType::Object, "parameters of the query"),
            implied("body", ArgType::Any, "the body's JSON, or the fields of a form"),
        ],
        body: None,
        fixed: toml::Table::new(),
        document: String::new(),
        result: String::new(),
        pages: None,
        idempotent: false,
        code: Some(ClientCode::Raw),
    }
}
