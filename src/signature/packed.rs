//! The JSON that a header carries in base64 beside or around a signature: read where it is wanted, written where
//! requests are signed.

use serde_json::{Value, json};

use super::json::VALUE_BYTES_MAX;
use super::syntax::TEST_KEY_ID;
use super::{Context, Encoding, Fields, Location, Pointer, Scheme, Slot, Template, Values};

/// Reads what a header carries: all of it, or, as in a JWS, what stands before its first dot.
pub(super) fn read(text: &[u8]) -> Option<Value> {
    let json = match text.iter().position(|byte| *byte == b'.') {
        Some(end) => Encoding::Base64Url.decode(&text[..end], VALUE_BYTES_MAX),
        None => Encoding::Base64.decode(text, VALUE_BYTES_MAX),
    };
    serde_json::from_slice(&json?).ok()
}

/// What a header carries when a request is signed.
pub(super) struct Packed {
    pub(super) header: String,
    json: Value,
}

impl Packed {
    /// Puts a value to where a pointer leads.
    pub(super) fn put(&mut self, pointer: &Pointer, value: Value) {
        put(&mut self.json, pointer.tokens(), value);
    }

    /// Writes it as a whole header.
    pub(super) fn whole(&self) -> String {
        Encoding::Base64.encode(self.json.to_string().as_bytes())
    }

    /// Writes it as the head of a JWS.
    pub(super) fn head(&self) -> String {
        Encoding::Base64Url.encode(self.json.to_string().as_bytes())
    }
}

fn put(into: &mut Value, path: &[String], value: Value) {
    match path {
        [] => *into = value,
        // Lists of one value are all that entries name.
        [token, rest @ ..] if token == "0" => {
            *into = json!([null]);
            put(&mut into[0], rest, value);
        }
        [token, rest @ ..] => {
            if !into.is_object() {
                *into = json!({});
            }
            put(&mut into[token], rest, value);
        }
    }
}

impl Scheme {
    /// Returns what the provider packs into the proof's header beside the signature: what is bound, its key's name, the
    /// signed time, and which headers are signed.
    pub(super) fn packed(&self, fields: &Fields, values: &Values<'_>, time: &str) -> Option<Packed> {
        let bound = self.binds.iter().filter_map(|bind| {
            let text = bind.equals.fill(&Context::of(values)).ok()?;
            Some((bind.at, constant(String::from_utf8_lossy(&text).into_owned())))
        });
        let number = time.parse::<i64>().map(Value::from);
        let time = self.timestamp.map(|slot| (slot, number.unwrap_or_else(|_| json!(time))));
        let key_id = self.key_id.map(|slot| (slot, json!(TEST_KEY_ID)));
        let lists = self.contents.iter().flat_map(Template::lists);
        let listed = lists.map(|slot| (slot, json!(self.must_sign.join(","))));
        let all: Vec<(Slot, Value)> = bound.chain(time).chain(key_id).chain(listed).collect();
        let places = self.sigs.iter().chain(all.iter().map(|(slot, _)| slot));
        let header =
            places.filter_map(|slot| in_header(fields, *slot)).map(|(name, _)| name.clone()).next()?;
        let mut packed = Packed { header, json: json!({}) };
        for (slot, value) in all {
            if let Some((_, pointer)) = in_header(fields, slot) {
                packed.put(pointer, value);
            }
        }
        Some(packed)
    }
}

fn in_header(fields: &Fields, slot: Slot) -> Option<(&String, &Pointer)> {
    match fields.location(slot) {
        Location::Packed(name, pointer) => Some((name, pointer)),
        _ => None,
    }
}

/// A bound value as providers write it.
fn constant(text: String) -> Value {
    text.parse().map_or(Value::String(text), Value::Bool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read() {
        let mut packed = Packed { header: "x".to_owned(), json: json!({}) };
        for (pointer, value) in [("/alg", json!("RS256")), ("/crit/0", json!("b64")), ("/b64", json!(false))]
        {
            packed.put(&pointer.parse().unwrap(), value);
        }
        let expected = Some(json!({"alg": "RS256", "b64": false, "crit": ["b64"]}));
        assert_eq!(read(packed.whole().as_bytes()), expected);
        assert_eq!(read(format!("{}..sig", packed.head()).as_bytes()), expected);
    }

    #[test]
    fn only_canonical_base64_is_read() {
        assert_eq!(read(b"e30="), Some(json!({})));
        assert_eq!(read(b"e30.x"), Some(json!({})));
        for bad in ["e30", "e30=.x", "e31=", "", ".e30", "e30 .x", "bm8="] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
