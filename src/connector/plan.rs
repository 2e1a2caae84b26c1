//! An entry compiled for one trigger: its settings put in, its texts turned into what can be run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{self, ProviderEntry};
use crate::signature::{self, Fields, KeyError, Scheme, Slot, Template, Text, Unit, Values};

/// Why an entry cannot be used with a trigger's settings and secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The trigger sets something that the entry does not leave open.
    #[error("unknown setting {name:?}; {provider} takes {known}")]
    UnknownSetting {
        /// The provider.
        provider: String,
        /// What was set.
        name: String,
        /// What could be set.
        known: String,
    },
    /// The entry leaves something open that the trigger must say.
    #[error("setting {name:?} is missing: {about}")]
    MissingSetting {
        /// What must be set.
        name: String,
        /// What it decides.
        about: String,
    },
    /// The trigger has a secret that the entry does not know.
    #[error("unknown secret {name:?}; {provider} takes {known}")]
    UnknownSecret {
        /// The provider.
        provider: String,
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A secret cannot serve.
    #[error("secret {name:?}, number {number} of its list: {why}; expected: {about}")]
    Secret {
        /// Its name.
        name: String,
        /// Its place in the list, counted from 1.
        number: usize,
        /// What is wrong with it.
        why: KeyError,
        /// What it should be.
        about: String,
    },
    /// A list of secrets is longer than is tried for each request.
    #[error("secret {name:?} has {count} values; at most {max} are tried")]
    TooManySecrets {
        /// Its name.
        name: String,
        /// How many there are.
        count: usize,
        /// How many are tried.
        max: usize,
    },
    /// A text of the entry, or a setting put into it, cannot be read.
    #[error("provider entry {provider}: {error}")]
    Entry {
        /// The provider.
        provider: String,
        /// What is wrong.
        error: signature::Error,
    },
}

/// What a handshake needs at run time.
#[derive(Debug, Clone)]
pub(super) struct Handshake {
    pub(super) methods: Vec<String>,
    pub(super) signed: bool,
    conditions: Vec<Condition>,
    pub(super) learn: Option<(String, Slot)>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) body: Template,
}

#[derive(Debug, Clone)]
struct Condition {
    at: Slot,
    equals: Option<String>,
    absent: bool,
}

/// A compiled entry.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entry: Arc<ProviderEntry>,
    pub(super) fields: Fields,
    pub(super) scheme: Option<Scheme>,
    pub(super) kinds: Vec<Template>,
    pub(super) deliveries: Vec<Slot>,
    pub(super) at: Option<(Slot, Unit)>,
    pub(super) handshakes: Vec<Handshake>,
}

impl Plan {
    pub(super) fn new(
        entry: &Arc<ProviderEntry>,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, BuildError> {
        let settings = Settings::new(entry, settings)?;
        compile(entry, &settings).map_err(|error| BuildError::Entry { provider: entry.id.to_string(), error })
    }
}

fn compile(entry: &Arc<ProviderEntry>, settings: &Settings) -> Result<Plan, signature::Error> {
    let event = &entry.event;
    let mut fields = Fields::new(event.unwrap.clone());
    let deliveries = settings.all(&event.delivery);
    let scheme = entry
        .signature
        .as_ref()
        .map(|text| compile_scheme(text, &deliveries, settings, &mut fields))
        .transpose()?;
    let kinds = settings
        .all(&event.kind)
        .iter()
        .map(|text| Template::new(text, &mut fields))
        .collect::<Result<_, _>>()?;
    let deliveries = deliveries
        .iter()
        .map(|text| Ok(fields.want(text.parse()?)))
        .collect::<Result<_, signature::Error>>()?;
    let at = match settings.one(event.at.as_deref()) {
        Some(text) => Some((fields.want(text.parse()?), unit(settings.one(event.unit_at.as_deref()))?)),
        None => None,
    };
    let handshakes = entry
        .handshakes
        .iter()
        .map(|text| compile_handshake(text, settings, &mut fields))
        .collect::<Result<_, _>>()?;
    Ok(Plan { entry: entry.clone(), fields, scheme, kinds, deliveries, at, handshakes })
}

fn compile_scheme(
    text: &catalog::Signature,
    deliveries: &[String],
    settings: &Settings,
    fields: &mut Fields,
) -> Result<Scheme, signature::Error> {
    let sigs: Vec<String> =
        std::iter::once(&text.sig).chain(&text.also).map(|location| settings.fill(location)).collect();
    let syntax = settings.all(&text.syntax);
    let one = |text: &Option<String>| settings.one(text.as_deref());
    let (list, alg, encoding) = (one(&text.list), one(&text.alg), one(&text.encoding));
    let (content, key) = (one(&text.content), one(&text.key));
    let (timestamp, unit) = (one(&text.timestamp), one(&text.unit));
    Scheme::new(
        &Text {
            sig: sigs.iter().map(String::as_str).collect(),
            syntax: syntax.iter().map(String::as_str).collect(),
            list: list.as_deref(),
            alg: alg.as_deref(),
            encoding: encoding.as_deref(),
            content: content.as_deref(),
            key: key.as_deref(),
            timestamp: timestamp.as_deref(),
            unit: unit.as_deref(),
            id: deliveries.iter().map(String::as_str).collect(),
        },
        fields,
    )
}

fn compile_handshake(
    text: &catalog::Handshake,
    settings: &Settings,
    fields: &mut Fields,
) -> Result<Handshake, signature::Error> {
    let conditions = text
        .when
        .iter()
        .map(|condition| {
            let at = fields.want(settings.fill(&condition.at).parse()?);
            Ok(Condition { at, equals: condition.equals.clone(), absent: condition.absent })
        })
        .collect::<Result<_, signature::Error>>()?;
    let learn = match &text.learn {
        Some(learn) => Some((learn.secret.clone(), fields.want(learn.from.parse()?))),
        None => None,
    };
    let content_type = text.reply.content_type.iter().map(|value| ("content-type", value));
    let headers = text.reply.headers.iter().map(|(name, value)| (name.as_str(), value));
    let headers = content_type
        .chain(headers)
        .map(|(name, value)| Ok((name.to_ascii_lowercase(), Template::new(value, fields)?)))
        .collect::<Result<_, signature::Error>>()?;
    Ok(Handshake {
        methods: text.methods.clone(),
        signed: text.signed,
        conditions,
        learn,
        status: text.reply.status,
        headers,
        body: Template::new(&text.reply.body, fields)?,
    })
}

fn unit(text: Option<String>) -> Result<Unit, signature::Error> {
    text.map_or(Ok(Unit::default()), |text| text.parse())
}

impl Handshake {
    /// Tells whether a request is this handshake.
    pub(super) fn is(&self, values: &Values<'_>) -> bool {
        let method = values.request().method;
        self.methods.iter().any(|known| known == method) && self.conditions.iter().all(|c| c.holds(values))
    }
}

impl Condition {
    fn holds(&self, values: &Values<'_>) -> bool {
        let value = values.text(self.at);
        match &self.equals {
            Some(expected) => value.as_ref() == Some(expected),
            None => value.is_none() == self.absent,
        }
    }
}

/// The settings of a trigger, defaults filled in.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn new(entry: &ProviderEntry, given: &BTreeMap<String, String>) -> Result<Self, BuildError> {
        if let Some(name) = given.keys().find(|name| !entry.settings.iter().any(|known| known.name == **name))
        {
            return Err(BuildError::UnknownSetting {
                provider: entry.id.to_string(),
                name: name.clone(),
                known: list(entry.settings.iter().map(|known| known.name.as_str())),
            });
        }
        let mut settings = Self(Vec::new());
        for known in &entry.settings {
            let value = match (given.get(&known.name), &known.default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => settings.fill(default),
                (None, None) => {
                    let (name, about) = (known.name.clone(), known.about.clone());
                    return Err(BuildError::MissingSetting { name, about });
                }
            };
            settings.0.push((known.name.clone(), value));
        }
        Ok(settings)
    }

    fn fill(&self, text: &str) -> String {
        let fill =
            |text: String, (name, value): &(String, String)| text.replace(&format!("${{{name}}}"), value);
        self.0.iter().fold(text.to_owned(), fill)
    }

    /// Fills a text in; one that becomes empty counts as absent.
    fn one(&self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.fill(text)).filter(|text| !text.is_empty())
    }

    fn all(&self, texts: &[String]) -> Vec<String> {
        texts.iter().filter_map(|text| self.one(Some(text))).collect()
    }
}

/// Writes names for an error.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
