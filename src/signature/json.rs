//! Reads the few values that are wanted out of a JSON body, in one pass over its bytes.
//!
//! The rest of the body is skipped, not kept: the cost is that of a syntax check, and nothing is
//! allocated but the wanted texts. Where a key stands twice, the last one counts, as it does for
//! those who read the event's payload later.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Pointer;
use super::location::ANY_CHILD;

/// Longest value that is taken out of a body, in bytes; what is longer counts as absent. Kinds, ids
/// and challenges are far shorter, and a longer limit would let a sender choose how much is kept.
pub const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Longest value that is taken out of a body because it is signed itself, in bytes. Messages of Amazon
/// SNS, the longest such values, have a quarter of it.
pub const SIGNED_VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Whole numbers up to here are exact in a JSON number that is written with a fraction or exponent.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes a number that has a fraction or an exponent, or is too large for a whole one; nothing comes of one
/// that is not exact: two different ids must not become one.
pub(super) fn float_text(number: f64) -> Option<String> {
    (number.abs() < EXACT_MAX).then(|| number.to_string())
}

/// What stands at a wanted pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extract {
    /// One value, as text.
    Text(String),
    /// An object or an array, of which no more is kept.
    Composite,
}

/// The wanted pointers as a tree; node 0 is the whole document.
#[derive(Debug, Clone)]
pub(super) struct Tree(Vec<Node>);

#[derive(Debug, Clone, Default)]
struct Node {
    /// Where the value goes, if it is wanted itself, and its greatest length in bytes.
    slot: Option<(usize, usize)>,
    /// Keys or array indexes on the way to wanted values.
    children: Vec<(String, usize)>,
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Tree {
    /// Wants the value at a pointer for the given slot, if it has no more than `bytes_max` bytes.
    pub(super) fn want(&mut self, pointer: &Pointer, slot: usize, bytes_max: usize) {
        let leaf = pointer.tokens().iter().fold(0, |node, token| self.child(node, token));
        let known = self.0[leaf].slot.map_or(0, |(_, known)| known);
        self.0[leaf].slot = Some((slot, bytes_max.max(known)));
    }

    fn child(&mut self, node: usize, token: &str) -> usize {
        if let Some((_, child)) = self.0[node].children.iter().find(|(key, _)| key == token) {
            return *child;
        }
        let child = self.0.len();
        self.0.push(Node::default());
        self.0[node].children.push((token.to_owned(), child));
        child
    }

    /// Tells whether nothing is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// Fills the wanted values in; a body that is not JSON has none.
    pub(super) fn extract(&self, body: &[u8], out: &mut [Option<Extract>]) {
        let mut json = serde_json::Deserializer::from_slice(body);
        let seed = Seed { tree: self, node: 0, out };
        if seed.deserialize(&mut json).and_then(|()| json.end()).is_err() {
            self.clear(0, out);
        }
    }

    fn clear(&self, node: usize, out: &mut [Option<Extract>]) {
        if let Some((slot, _)) = self.0[node].slot {
            out[slot] = None;
        }
        for (_, child) in &self.0[node].children {
            self.clear(*child, out);
        }
    }
}

struct Seed<'t, 'o> {
    tree: &'t Tree,
    node: usize,
    out: &'o mut [Option<Extract>],
}

impl Seed<'_, '_> {
    fn keep(self, value: impl AsRef<str> + Into<String>) {
        if let Some((slot, bytes_max)) = self.tree.0[self.node].slot
            && value.as_ref().len() <= bytes_max
        {
            self.out[slot] = Some(Extract::Text(value.into()));
        }
    }

    fn keep_composite(&mut self) {
        if let Some((slot, _)) = self.tree.0[self.node].slot {
            self.out[slot] = Some(Extract::Composite);
        }
    }

    fn below(&mut self, child: usize) -> Seed<'_, '_> {
        self.tree.clear(child, self.out);
        Seed { tree: self.tree, node: child, out: self.out }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.keep(value.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.keep(value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        if let Some(text) = float_text(value) {
            self.keep(text);
        }
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.keep(value.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.keep_composite();
        let tree = self.tree;
        let children = &tree.0[self.node].children;
        let mut is_first = true;
        while let Some(child) = map.next_key_seed(Key { children, is_first })? {
            match child {
                Some(child) => map.next_value_seed(self.below(child))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            is_first = false;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.keep_composite();
        let tree = self.tree;
        let children = &tree.0[self.node].children;
        for index in 0_usize.. {
            let is = |key: &str| key.parse() == Ok(index) || index == 0 && key == ANY_CHILD;
            let wanted = children.iter().find(|(key, _)| is(key));
            let more = match wanted {
                Some((_, child)) => seq.next_element_seed(self.below(*child))?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Looks a key up without keeping it.
struct Key<'t> {
    children: &'t [(String, usize)],
    is_first: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let is = |name: &str| name == key || self.is_first && name == ANY_CHILD;
        Ok(self.children.iter().find(|(name, _)| is(name)).map(|(_, child)| *child))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::signature::Location;

    fn read(body: &str, pointers: &[&str]) -> Vec<Option<String>> {
        let mut tree = Tree::default();
        for (slot, pointer) in pointers.iter().enumerate() {
            let Ok(Location::Json(pointer)) = format!("json:{pointer}").parse() else { panic!("{pointer}") };
            tree.want(&pointer, slot, VALUE_BYTES_MAX);
        }
        let mut out = vec![None; pointers.len()];
        tree.extract(body.as_bytes(), &mut out);
        let text = |value| match value {
            Some(Extract::Text(text)) => Some(text),
            Some(Extract::Composite) | None => None,
        };
        out.into_iter().map(text).collect()
    }

    fn check(body: &str, pointer: &str, expected: Option<&str>) {
        assert_eq!(read(body, &[pointer]), [expected.map(str::to_owned)], "{pointer} of {body}");
    }

    #[test]
    fn scalars_are_read_at_their_pointer() {
        let body = r#"{"type": "a.b", "n": 17, "neg": -3, "half": 1.5, "yes": true, "nil": null,
                       "event": {"type": "x", "list": [{"id": "first"}, {"id": "second"}]}}"#;
        check(body, "/type", Some("a.b"));
        check(body, "/n", Some("17"));
        check(body, "/neg", Some("-3"));
        check(body, "/half", Some("1.5"));
        check(body, "/yes", Some("true"));
        check(body, "/event/type", Some("x"));
        check(body, "/event/list/1/id", Some("second"));
        check(body, "/event/list/*/id", Some("first"));
        check(r#"{"only": {"id": 3}}"#, "/*/id", Some("3"));
        for absent in ["/nil", "/event", "/event/list", "/event/list/2/id", "/type/x", "/none"] {
            check(body, absent, None);
        }
    }

    #[test]
    fn several_pointers_are_read_in_one_pass() {
        let values =
            read(r#"{"event": {"type": "t", "ts": 1}, "id": "i"}"#, &["/event/type", "/id", "/event/ts"]);
        assert_eq!(values, ["t", "i", "1"].map(|text| Some(text.to_owned())));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        check(r#"{"type": "a", "type": "b"}"#, "/type", Some("b"));
        check(r#"{"event": {"type": "a"}, "event": {}}"#, "/event/type", None);
    }

    #[test]
    fn what_is_not_json_has_no_values() {
        for body in ["", "plain", r#"{"type": "a""#, r#"{"type": "a"} x"#, "\u{feff}{\"type\": \"a\"}"] {
            check(body, "/type", None);
        }
    }

    #[test]
    fn values_of_unreasonable_length_count_as_absent() {
        let of = |len: usize| format!(r#"{{"type": "{}"}}"#, "x".repeat(len));
        check(&of(VALUE_BYTES_MAX), "/type", Some(&"x".repeat(VALUE_BYTES_MAX)));
        check(&of(VALUE_BYTES_MAX + 1), "/type", None);
    }

    #[test]
    fn ids_beyond_a_numbers_precision_do_not_become_one() {
        check(r#"{"id": 18446744073709551615}"#, "/id", Some("18446744073709551615"));
        check(r#"{"id": 18446744073709551616}"#, "/id", None);
    }

    /// Any JSON whose keys are those that the pointers below ask for, so that they meet.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ab]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    const POINTERS: [&str; 5] = ["/a", "/a/b", "/b/0", "/b/1/a", "/a/a/a"];

    proptest! {
        #[test]
        fn agrees_with_a_whole_parse(json in any_json()) {
            let expected = POINTERS.map(|pointer| match json.pointer(pointer)? {
                Value::String(text) => Some(text.clone()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            });
            prop_assert_eq!(read(&json.to_string(), &POINTERS), expected);
        }

        #[test]
        fn reading_never_panics(body in any::<String>(), noise in "[ab\"{}\\[\\]:,0-9. \\\\]{0,60}") {
            read(&body, &POINTERS);
            read(&noise, &POINTERS);
        }
    }
}
