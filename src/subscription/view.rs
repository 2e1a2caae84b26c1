//! What an expression sees of an event, made only as far as it asks.

use std::cell::OnceCell;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::Value;

use crate::event::{Body, StoredEvent, TriggerEvent};

/// Most JSON values that a body may hold to be read by expressions, counted generously. Parsed values take
/// about 100 bytes each, so this bounds the memory that one event can claim; a larger body is over the cost
/// limit for every expression that reads the payload.
const PAYLOAD_VALUES_MAX: usize = 500_000;
/// Bodies of at most this many bytes cannot hold too many values and are not counted.
const PAYLOAD_BYTES_UNCOUNTED: usize = PAYLOAD_VALUES_MAX;

/// Fields of `event`, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields(u16);

/// Names of the fields of `event`, in the order of their bits.
const NAMES: [&str; 14] = [
    "payload",
    "provider_payload",
    "headers",
    "id",
    "provider",
    "trigger_id",
    "kind",
    "received_at",
    "occurred_at",
    "dedupe_key",
    "trace_id",
    "tenant_id",
    "origin",
    "signature_status",
];

impl Fields {
    pub(super) const ALL: Fields = Fields((1 << NAMES.len()) - 1);
    const PAYLOAD: Fields = Fields(0b11);

    /// Adds a field; an unknown one changes nothing, as reading it is an error in any case.
    pub(super) fn add(&mut self, name: &str) {
        if let Some(bit) = NAMES.iter().position(|known| *known == name) {
            self.0 |= 1 << bit;
        }
    }

    pub(super) fn add_all(&mut self) {
        *self = Self::ALL;
    }

    pub(super) fn has_payload(self) -> bool {
        self.0 & Self::PAYLOAD.0 != 0
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}

/// One event as expressions see it. The body is parsed once, and only if an expression reads it.
#[derive(Debug)]
pub struct EventView<'a> {
    event: &'a StoredEvent,
    body: Option<&'a [u8]>,
    payload: OnceCell<Payload>,
}

#[derive(Debug)]
enum Payload {
    Json(Value),
    NotJson,
    TooLarge,
}

/// The payload is too large to be read by expressions.
pub(super) struct TooLarge;

impl<'a> EventView<'a> {
    /// Returns the view of an event whose body is in its record; the body of another counts as absent.
    pub fn of(event: &'a StoredEvent) -> Self {
        let body = match &event.content.body {
            Body::Inline(body) => Some(body.as_ref()),
            Body::Spooled(_) => None,
        };
        Self { event, body, payload: OnceCell::new() }
    }

    /// Returns the view of an event whose body was read from its file.
    pub fn with_body(event: &'a StoredEvent, body: &'a [u8]) -> Self {
        Self { event, body: Some(body), payload: OnceCell::new() }
    }

    /// Returns the event.
    pub fn stored(&self) -> &'a StoredEvent {
        self.event
    }

    /// Returns the body's length in bytes as far as expressions can see it.
    pub(super) fn body_bytes(&self) -> usize {
        self.body.map_or(0, <[u8]>::len)
    }

    fn payload(&self) -> &Payload {
        self.payload.get_or_init(|| {
            let body = self.body.unwrap_or_default();
            if body.len() > PAYLOAD_BYTES_UNCOUNTED && values(body) > PAYLOAD_VALUES_MAX {
                return Payload::TooLarge;
            }
            serde_json::from_slice(body).map_or(Payload::NotJson, Payload::Json)
        })
    }

    /// Returns `event` with the given fields.
    ///
    /// # Errors
    ///
    /// If the payload is among them and too large.
    pub(super) fn to_cel(&self, fields: Fields) -> Result<CelMap<'_>, TooLarge> {
        let mut map = HashMap::new();
        for name in fields.names() {
            if let Some(value) = self.field(name)? {
                map.insert(CelMapKey::from(name), value);
            }
        }
        Ok(CelMap::from(map))
    }

    /// Returns one field, or nothing where it is absent: a payload that is not JSON.
    fn field(&self, name: &str) -> Result<Option<Box<dyn Val + '_>>, TooLarge> {
        let content = &self.event.content;
        let value = match name {
            "payload" => match self.payload() {
                Payload::Json(value) => json(value),
                Payload::NotJson => return Ok(None),
                Payload::TooLarge => return Err(TooLarge),
            },
            "provider_payload" => self.provider_payload()?,
            "headers" => self.headers(),
            "id" => owned(self.event.id.to_string()),
            "provider" => text(content.provider.as_str()),
            "trigger_id" => text(content.trigger_id.as_str()),
            "kind" => text(&content.kind),
            "received_at" => owned(content.received_at.to_string()),
            "occurred_at" => content.occurred_at.map_or_else(null, |at| owned(at.to_string())),
            "dedupe_key" => content.dedupe_key.as_deref().map_or_else(null, text),
            "trace_id" => text(&content.trace_id),
            // Everything else is as rare as it is small: the JSON that users see is asked.
            _ => match self.without_payload().get(name) {
                Some(value) => json_owned(value),
                None => null(),
            },
        };
        Ok(Some(value))
    }

    fn provider_payload(&self) -> Result<Box<dyn Val + '_>, TooLarge> {
        let mut map: HashMap<CelMapKey<'_>, Box<dyn Val + '_>> = HashMap::new();
        map.insert("schema".into(), text(&self.event.content.schema));
        match self.payload() {
            Payload::Json(value) => map.insert("raw".into(), json(value)),
            Payload::NotJson => {
                map.insert("raw_base64".into(), owned(STANDARD.encode(self.body.unwrap_or_default())))
            }
            Payload::TooLarge => return Err(TooLarge),
        };
        Ok(Box::new(CelMap::from(map)))
    }

    fn headers(&self) -> Box<dyn Val + '_> {
        let joined = self.without_payload_event().headers;
        let map = joined.into_iter().map(|(name, value)| (CelMapKey::from(name), owned(value)));
        Box::new(CelMap::from(map.collect::<HashMap<_, _>>()))
    }

    fn without_payload_event(&self) -> TriggerEvent {
        self.event.to_trigger_event(b"null")
    }

    fn without_payload(&self) -> Value {
        serde_json::to_value(self.without_payload_event()).unwrap_or_default()
    }
}

/// Counts what could be a value: each begins the body, or follows one of these bytes.
fn values(body: &[u8]) -> usize {
    1 + body.iter().filter(|byte| matches!(byte, b',' | b':' | b'[')).count()
}

fn text<'v>(text: &'v str) -> Box<dyn Val + 'v> {
    Box::new(CelString::from(text))
}

fn owned<'v>(text: String) -> Box<dyn Val + 'v> {
    Box::new(CelString::from(text))
}

fn null<'v>() -> Box<dyn Val + 'v> {
    Box::new(CelNull)
}

/// Converts JSON, borrowing its strings. Whole numbers are ints wherever they fit, so that `n + 1` works.
fn json(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => null(),
        Value::Bool(bool) => Box::new(CelBool::from(*bool)),
        Value::Number(number) => {
            if let Some(int) = number.as_i64() {
                Box::new(CelInt::from(int))
            } else if let Some(uint) = number.as_u64() {
                Box::new(CelUInt::from(uint))
            } else {
                Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
            }
        }
        Value::String(string) => text(string),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(json).collect::<Vec<_>>())),
        Value::Object(entries) => {
            let map = entries.iter().map(|(key, value)| (CelMapKey::from(key.as_str()), json(value)));
            Box::new(CelMap::from(map.collect::<HashMap<_, _>>()))
        }
    }
}

/// Converts a small JSON value into one that borrows nothing.
fn json_owned<'v>(value: &Value) -> Box<dyn Val + 'v> {
    match value {
        Value::String(string) => owned(string.clone()),
        Value::Bool(bool) => Box::new(CelBool::from(*bool)),
        Value::Object(entries) => {
            let map = entries.iter().map(|(key, value)| (CelMapKey::from(key.clone()), json_owned(value)));
            Box::new(CelMap::from(map.collect::<HashMap<_, _>>()))
        }
        _ => null(),
    }
}
