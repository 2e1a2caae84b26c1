//! An entry compiled for one trigger: its settings put in, its texts turned into what can be run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{self, KeyDocument, ProviderEntry};
use crate::signature::{
    self, BindText, Fields, KeyError, PublicKey, Scheme, Slot, Template, Text, Unit, Values,
};

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
    /// A public key that was given in place of the provider's cannot be read.
    #[error("this is no public key: expected PEM, a JWK, or the key's bytes in base64 or hex")]
    PublicKey,
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
    pub(super) call: Option<(Template, Vec<String>)>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) body: Template,
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    at: Slot,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    Absent,
    Equals(String),
    /// Equals a secret of this name.
    Secret(String),
    /// Is one word.
    Word,
}

/// Longest value that counts as a word, in bytes: challenges are shorter, bodies longer.
const WORD_BYTES_MAX: usize = 256;

fn is_word(text: &str) -> bool {
    text.len() <= WORD_BYTES_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_.-".contains(&b))
}

/// A form of the proof, and how far its time may be from now.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) scheme: Scheme,
    pub(super) tolerance: Option<Duration>,
    when: Vec<Condition>,
    /// Keys that the entry itself has.
    pub(super) public_keys: Vec<PublicKey>,
    pub(super) keys: Option<KeySource>,
    /// The equalities that must hold beside the proof, as location and template, for people.
    pub(super) binds: Vec<(String, String)>,
}

/// Where public keys are fetched from.
#[derive(Debug)]
pub(super) struct KeySource {
    pub(super) from: KeyDocument,
    pub(super) url: Template,
    pub(super) hosts: Vec<String>,
    pub(super) method: String,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) body: Template,
    pub(super) pointer: String,
    pub(super) cache: Duration,
}

/// What identifies a delivery: a place, or a template of several.
#[derive(Debug)]
pub(super) enum Identity {
    Place(Slot),
    Joined(Template),
}

impl Identity {
    fn new(text: &str, fields: &mut Fields) -> Result<Self, signature::Error> {
        if text.contains('{') {
            return Template::new(text, fields).map(Identity::Joined);
        }
        Ok(Identity::Place(fields.want(text.parse()?)))
    }

    pub(super) fn of(&self, values: &Values<'_>) -> Option<String> {
        match self {
            Identity::Place(slot) => values.text(*slot),
            Identity::Joined(template) => template.text(values),
        }
    }
}

/// A compiled entry.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entry: Arc<ProviderEntry>,
    pub(super) fields: Fields,
    /// Forms of the proof that only some requests have, then the one of all others; none for a provider
    /// that sends no proof.
    pub(super) forms: Vec<Form>,
    pub(super) kinds: Vec<Template>,
    pub(super) deliveries: Vec<Identity>,
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

    /// Returns the form of the proof that most requests have.
    pub(super) fn main_form(&self) -> Option<&Form> {
        self.forms.last()
    }

    /// Returns the index of the form that a request's proof must have.
    pub(super) fn form_of(&self, values: &Values<'_>) -> Option<usize> {
        self.forms.iter().position(|form| form.when.iter().all(|condition| condition.holds(values)))
    }

    /// Tells whether the trigger's public URL must be known.
    pub(super) fn needs_public_url(&self) -> bool {
        let replies = self.handshakes.iter().map(|handshake| &handshake.body);
        self.forms.iter().any(|form| form.scheme.needs_public_url())
            || replies.chain(&self.kinds).any(Template::needs_public_url)
    }
}

fn compile(entry: &Arc<ProviderEntry>, settings: &Settings) -> Result<Plan, signature::Error> {
    let event = &entry.event;
    let batch = match settings.one(event.items.as_deref()) {
        Some(text) => Some(text.strip_prefix("json:").unwrap_or(&text).parse()?),
        None => None,
    };
    let mut fields = Fields::new(event.unwrap.clone()).with_batch(batch);
    let deliveries = settings.all(&event.delivery);
    let mut forms = Vec::new();
    if let Some(text) = &entry.signature {
        for variant in &text.variants {
            let varied = text.varied(variant).map_err(|error| signature::Error::Template {
                text: "variants".to_owned(),
                what: error.to_string(),
            })?;
            forms.push(compile_form(&varied, &variant.when, &deliveries, settings, &mut fields)?);
        }
        forms.push(compile_form(text, &[], &deliveries, settings, &mut fields)?);
    }
    let kinds = settings
        .all(&event.kind)
        .iter()
        .map(|text| Template::new(text, &mut fields))
        .collect::<Result<_, _>>()?;
    let deliveries =
        deliveries.iter().map(|text| Identity::new(text, &mut fields)).collect::<Result<_, _>>()?;
    let at = match settings.one(event.at.as_deref()) {
        Some(text) => Some((fields.want(text.parse()?), unit(settings.one(event.unit_at.as_deref()))?)),
        None => None,
    };
    let handshakes = entry
        .handshakes
        .iter()
        .map(|text| compile_handshake(text, settings, &mut fields))
        .collect::<Result<_, _>>()?;
    Ok(Plan { entry: entry.clone(), fields, forms, kinds, deliveries, at, handshakes })
}

fn compile_form(
    text: &catalog::Signature,
    when: &[catalog::Condition],
    deliveries: &[String],
    settings: &Settings,
    fields: &mut Fields,
) -> Result<Form, signature::Error> {
    let public_key = |text: &String| {
        PublicKey::read(text.as_bytes()).ok_or_else(|| signature::Error::Template {
            text: text.clone(),
            what: "this is no public key".to_owned(),
        })
    };
    Ok(Form {
        scheme: compile_scheme(text, deliveries, settings, fields)?,
        tolerance: text.tolerance_s.map(Duration::from_secs),
        when: compile_conditions(when, settings, fields)?,
        public_keys: text.public_keys.iter().map(public_key).collect::<Result<_, _>>()?,
        keys: text.keys.as_ref().map(|keys| compile_keys(keys, settings, fields)).transpose()?,
        binds: text.binds.iter().map(|bind| (settings.fill(&bind.at), settings.fill(&bind.equals))).collect(),
    })
}

fn compile_scheme(
    text: &catalog::Signature,
    deliveries: &[String],
    settings: &Settings,
    fields: &mut Fields,
) -> Result<Scheme, signature::Error> {
    let sigs: Vec<String> =
        std::iter::once(&text.sig).chain(&text.also).map(|location| settings.fill(location)).collect();
    let (syntax, algs) = (settings.all(&text.syntax), settings.all(&text.algs));
    let one = |text: &Option<String>| settings.one(text.as_deref());
    let (list, alg, encoding, key) = (one(&text.list), one(&text.alg), one(&text.encoding), one(&text.key));
    let mut content = settings.all(&text.content_also);
    // Without further forms the scheme has a default of its own.
    let main = one(&text.content).or_else(|| (!content.is_empty()).then(|| "{body}".to_owned()));
    content.splice(0..0, main);
    let (timestamp, unit, key_id) = (one(&text.timestamp), one(&text.unit), one(&text.key_id));
    let filled = |bind: &catalog::Bind| (settings.fill(&bind.at), settings.fill(&bind.equals));
    let binds: Vec<(String, String)> = text.binds.iter().map(filled).collect();
    Scheme::new(
        &Text {
            sig: sigs.iter().map(String::as_str).collect(),
            syntax: syntax.iter().map(String::as_str).collect(),
            list: list.as_deref(),
            alg: alg.as_deref(),
            algs: algs.iter().map(String::as_str).collect(),
            encoding: encoding.as_deref(),
            content: content.iter().map(String::as_str).collect(),
            key: key.as_deref(),
            timestamp: timestamp.as_deref(),
            unit: unit.as_deref(),
            key_id: key_id.as_deref(),
            must_sign: text.must_sign.iter().map(String::as_str).collect(),
            must_claim: text.must_claim.iter().map(String::as_str).collect(),
            // What is put together of several values is no part of a signature.
            id: deliveries.iter().map(String::as_str).filter(|text| !text.contains('{')).collect(),
            binds: binds
                .iter()
                .zip(&text.binds)
                .map(|((at, equals), bind)| BindText { at, equals, unless: bind.unless.as_deref() })
                .collect(),
            each: text.each,
            covers_body: text.covers_body,
        },
        fields,
    )
}

fn compile_keys(
    text: &catalog::NetworkKeys,
    settings: &Settings,
    fields: &mut Fields,
) -> Result<KeySource, signature::Error> {
    let headers = text.headers.iter();
    let url = settings.fill(&text.url);
    let hosts = match text.hosts.as_slice() {
        [] => vec![constant_host(&url)?],
        hosts => hosts.to_vec(),
    };
    Ok(KeySource {
        from: text.from,
        url: Template::new(&url, fields)?,
        hosts,
        method: text.method.clone(),
        headers: headers
            .map(|(name, value)| Ok((name.clone(), Template::new(&settings.fill(value), fields)?)))
            .collect::<Result<_, signature::Error>>()?,
        body: Template::new(&settings.fill(&text.body), fields)?,
        pointer: text.pointer.clone(),
        cache: Duration::from_secs(text.cache_s),
    })
}

/// Returns the host of a URL that is the same for every request.
fn constant_host(url: &str) -> Result<String, signature::Error> {
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?']).next());
    let host = host.filter(|host| !host.is_empty() && !host.contains('{'));
    host.map(str::to_owned).ok_or_else(|| signature::Error::Template {
        text: url.to_owned(),
        what: "`hosts` must say which hosts may be asked".to_owned(),
    })
}

fn compile_conditions(
    texts: &[catalog::Condition],
    settings: &Settings,
    fields: &mut Fields,
) -> Result<Vec<Condition>, signature::Error> {
    let condition = |text: &catalog::Condition| {
        let test = match (&text.secret, &text.equals, text.absent) {
            (Some(name), _, _) => Test::Secret(name.clone()),
            (None, Some(value), _) => Test::Equals(settings.fill(value)),
            (None, None, false) if text.word => Test::Word,
            (None, None, true) => Test::Absent,
            (None, None, false) => Test::Present,
        };
        Ok(Condition { at: fields.want(settings.fill(&text.at).parse()?), test })
    };
    texts.iter().map(condition).collect()
}

fn compile_handshake(
    text: &catalog::Handshake,
    settings: &Settings,
    fields: &mut Fields,
) -> Result<Handshake, signature::Error> {
    let conditions = compile_conditions(&text.when, settings, fields)?;
    let learn = match &text.learn {
        Some(learn) => Some((learn.secret.clone(), fields.want(learn.from.parse()?))),
        None => None,
    };
    let call = match &text.call {
        Some(url) => Some((Template::new(&settings.fill(url), fields)?, text.call_hosts.clone())),
        None => None,
    };
    let content_type = text.reply.content_type.iter().map(|value| ("content-type", value));
    let headers = text.reply.headers.iter().map(|(name, value)| (name.as_str(), value));
    let headers = content_type
        .chain(headers)
        .map(|(name, value)| Ok((name.to_ascii_lowercase(), Template::new(&settings.fill(value), fields)?)))
        .collect::<Result<_, signature::Error>>()?;
    Ok(Handshake {
        methods: text.methods.clone(),
        signed: text.signed,
        conditions,
        learn,
        call,
        status: text.reply.status,
        headers,
        body: Template::new(&settings.fill(&text.reply.body), fields)?,
    })
}

fn unit(text: Option<String>) -> Result<Unit, signature::Error> {
    text.map_or(Ok(Unit::default()), |text| text.parse())
}

impl Handshake {
    /// Tells whether a request is this handshake, apart from the secrets that it must bring.
    pub(super) fn is(&self, values: &Values<'_>) -> bool {
        let method = values.request().method;
        self.methods.iter().any(|known| known == method) && self.conditions.iter().all(|c| c.holds(values))
    }

    /// Tells whether the request brings the secrets that it must; `is_secret` compares.
    pub(super) fn brings_secrets(
        &self,
        values: &Values<'_>,
        is_secret: impl Fn(&str, &[u8]) -> bool,
    ) -> Result<(), String> {
        for condition in &self.conditions {
            if let Test::Secret(name) = &condition.test
                && !values.get(condition.at).is_some_and(|value| is_secret(name, &value))
            {
                return Err(format!("{} is not the trigger's {name}", values.location(condition.at)));
            }
        }
        Ok(())
    }

    /// Tells whether the answer is computed with the trigger's key.
    pub(super) fn is_keyed(&self) -> bool {
        self.body.is_keyed() || self.headers.iter().any(|(_, value)| value.is_keyed())
    }
}

impl Condition {
    fn holds(&self, values: &Values<'_>) -> bool {
        match &self.test {
            Test::Present => values.is_present(self.at),
            Test::Absent => !values.is_present(self.at),
            Test::Equals(expected) => values.text(self.at).as_ref() == Some(expected),
            Test::Secret(_) => true,
            Test::Word => values.text(self.at).is_some_and(|text| is_word(&text)),
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
