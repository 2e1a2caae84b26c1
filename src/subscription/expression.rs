//! CEL over `event`: compiled once, evaluated per event within a budget.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, SourceInfo};
use cel::common::types::{CelBool, CelDouble, CelInt, CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, Value};
use sha2::{Digest, Sha256};

use super::meter;
use super::view::{EventView, Fields};

/// Longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// Deepest nesting of `all`, `exists`, `map`, `filter` and the like. Each level multiplies the cost by the
/// length of a list; the budget stops what is too much, this says so before it ever runs.
const LOOPS_NESTED_MAX: usize = 4;
/// What one evaluation may spend, in units of about 50 ns.
const COST_MAX: i64 = 500_000;
/// Bytes of body that add one unit to what an evaluation may spend: looking through a large body a few times is
/// never too much.
const BODY_BYTES_PER_UNIT: usize = 2;
/// Longest key in bytes; a longer one is replaced by its SHA-256.
const KEY_BYTES_MAX: usize = 128;

/// Names of types, which are values in CEL.
const TYPES: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "optional",
    "string",
    "type",
    "uint",
];
/// Functions beside the operators; macros are expanded before names are looked at.
const FUNCTIONS: [&str; 20] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "value",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    meter::declare(&mut env).expect("the standard library declares no name with an @");
    Arc::new(env)
});

/// The value of a flow control's `key`.
pub type Key = Arc<str>;

/// A compiled expression.
pub struct Expression {
    source: Box<str>,
    root: IdedExpr,
    fields: Fields,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The expression errs on the event.
    Error(String),
    /// It would cost more than the limit.
    Cost,
}

impl Expression {
    /// See [`Subscription::compile`](super::Subscription::compile).
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("1:1: longer than {EXPRESSION_BYTES_MAX} bytes"));
        }
        let program = ENV.compile(source).map_err(|errors| {
            let errors = errors.errors.iter().map(|error| {
                let message = error.msg.lines().next().unwrap_or_default();
                format!("{}:{}: {message}", error.pos.0, error.pos.1)
            });
            errors.collect::<Vec<_>>().join("; ")
        })?;
        let mut names = Names { info: program.source_info(), scope: Vec::new(), fields: Fields::default() };
        names.look(program.expression())?;
        let fields = names.fields;
        let mut root = program.expression().clone();
        meter::meter(&mut root);
        Ok(Self { source: source.into(), root, fields })
    }

    /// Tells whether evaluating needs the event's body.
    pub fn reads_payload(&self) -> bool {
        self.fields.has_payload()
    }

    /// Evaluates a condition.
    pub(super) fn holds(&self, event: &EventView<'_>) -> Result<bool, Failure> {
        self.evaluate(event, |value| {
            let bool = value.downcast_ref::<CelBool>().map(|bool| *bool.inner());
            bool.ok_or_else(|| Failure::Error(format!("yields {}, not bool", value.get_type().name())))
        })
    }

    /// Evaluates a key; absent where the expression errs, yields no simple value, or would cost too much.
    pub fn key(&self, event: &EventView<'_>) -> Option<Key> {
        let key = self.evaluate(event, |value| {
            simple_text(value).ok_or_else(|| Failure::Error(format!("yields {}", value.get_type().name())))
        });
        key.ok().map(|key| if key.len() > KEY_BYTES_MAX { digest(&key) } else { key.into() })
    }

    fn evaluate<T>(
        &self,
        event: &EventView<'_>,
        read: impl FnOnce(&dyn Val) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let variable = event.to_cel(self.fields).map_err(|_| Failure::Cost)?;
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_as_val("event", Box::new(variable));
        let allowance = event.body_bytes() / BODY_BYTES_PER_UNIT;
        meter::allow(COST_MAX.saturating_add(i64::try_from(allowance).unwrap_or(i64::MAX)));
        let value: Result<CowVal<'_, '_>, _> = Value::resolve_val(&self.root, &context);
        // An error that logic swallowed may have been the meter's.
        if meter::exhausted() {
            return Err(Failure::Cost);
        }
        read(value.map_err(|error| Failure::Error(error.to_string()))?.as_ref())
    }
}

fn simple_text(value: &dyn Val) -> Option<String> {
    if let Some(string) = value.downcast_ref::<CelString<'_>>() {
        Some(string.inner().to_owned())
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        Some(int.inner().to_string())
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        Some(uint.inner().to_string())
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        Some(double.inner().to_string())
    } else {
        value.downcast_ref::<CelBool>().map(|bool| bool.inner().to_string())
    }
}

fn digest(key: &str) -> Key {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(key.as_bytes()) {
        text.push_str(&format!("{byte:02x}"));
    }
    text.into()
}

/// Looks at every name: finds what is unknown, and which fields of `event` are read.
struct Names<'a> {
    info: &'a SourceInfo,
    /// Variables of the loops around; two entries each, so that its length tells their depth.
    scope: Vec<&'a str>,
    fields: Fields,
}

impl<'a> Names<'a> {
    fn look(&mut self, node: &'a IdedExpr) -> Result<(), String> {
        match &node.expr {
            Expr::Ident(name) if self.scope.contains(&name.as_str()) => Ok(()),
            Expr::Ident(name) if name == "event" => {
                self.fields.add_all();
                Ok(())
            }
            Expr::Ident(name) if TYPES.contains(&name.as_str()) => Ok(()),
            Expr::Ident(name) => Err(self.at(node, &format!("unknown name `{name}`, expected `event`"))),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if name == "event" && !self.scope.contains(&"event") => {
                    self.fields.add(&select.field);
                    Ok(())
                }
                _ => self.look(&select.operand),
            },
            Expr::Call(call) => {
                let known = !call.func_name.starts_with(|c: char| c.is_ascii_alphabetic())
                    || FUNCTIONS.contains(&call.func_name.as_str());
                if !known {
                    return Err(self.at(node, &format!("unknown function `{}`", call.func_name)));
                }
                call.target.iter().try_for_each(|target| self.look(target))?;
                call.args.iter().try_for_each(|argument| self.look(argument))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.look(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.look_entry(&entry.expr)),
            Expr::Struct(new) => Err(self.at(node, &format!("unknown type `{}`", new.type_name))),
            Expr::Comprehension(comprehension) => {
                self.look(&comprehension.iter_range)?;
                self.look(&comprehension.accu_init)?;
                self.scope.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                if self.scope.len() > 2 * LOOPS_NESTED_MAX {
                    return Err(
                        self.at(node, &format!("loops are nested deeper than {LOOPS_NESTED_MAX} levels"))
                    );
                }
                self.look(&comprehension.loop_cond)?;
                self.look(&comprehension.loop_step)?;
                self.look(&comprehension.result)?;
                self.scope.truncate(self.scope.len() - 2);
                Ok(())
            }
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn look_entry(&mut self, entry: &'a EntryExpr) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.look(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.look(&entry.key)?;
                self.look(&entry.value)
            }
        }
    }

    /// Puts line and column, both counted from 1, before a message.
    fn at(&self, node: &IdedExpr, message: &str) -> String {
        let offset = self.info.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let before: String = self.info.source.chars().take(offset).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{line}:{column}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::super::tests::event;
    use super::*;

    const BODY: &str = r#"{"ref": "refs/heads/main", "number": 7, "big": 18446744073709551615, "half": 0.5,
        "none": null, "yes": true, "commits": [{"id": "a", "message": "fix"}, {"id": "b"}],
        "repository": {"full_name": "a/b"}}"#;

    fn evaluate(source: &str, body: &str) -> Result<bool, Failure> {
        let event = event("push", body);
        Expression::compile(source).unwrap().holds(&EventView::of(&event))
    }

    fn check(source: &str, expected: bool) {
        assert_eq!(evaluate(source, BODY), Ok(expected), "{source}");
    }

    #[test]
    fn every_field_of_the_event_can_be_read() {
        check(r#"event.payload.ref == "refs/heads/main""#, true);
        check("event.provider_payload.raw.ref == event.payload.ref", true);
        check(r#"event.provider_payload.schema == "GitHubEventPayload""#, true);
        check(r#"event.headers["x-github-event"] == "push""#, true);
        check(r#"event.kind == "push" && event.provider == "github" && event.trigger_id == "github""#, true);
        check(r#"event.id.size() == 26 && event.trace_id.size() == 32"#, true);
        check(r#"event.received_at.startsWith("2026-11-23T14:00:00.123456")"#, true);
        check(r#"event.occurred_at == null && event.tenant_id == null"#, true);
        check(r#"event.dedupe_key == "72d3162e" && event.origin == "live""#, true);
        check(r#"event.signature_status.state == "verified" && event.signature_status.covers_body"#, true);
        check(r#"event["payload"]["repository"]["full_name"] == "a/b""#, true);
        check("has(event.payload.ref) && !has(event.payload.missing)", true);
        check("has(event.payload)", true);
        check(r#"event.payload.?missing.orValue("x") == "x""#, true);
    }

    #[test]
    fn numbers_compute_as_one_expects() {
        check("event.payload.number + 1 == 8", true);
        check("event.payload.number > 6 && event.payload.half < 1.0", true);
        check("event.payload.big > 1", true);
        check("type(event.payload.number) == int", true);
    }

    #[test]
    fn loops_and_texts_work_under_the_meter() {
        check(r#"event.payload.commits.exists(c, c.id == "b")"#, true);
        check(r#"event.payload.commits.all(c, c.id in ["a", "b"])"#, true);
        check(r#"event.payload.commits.all(c, c.id == "a")"#, false);
        check(r#"event.payload.commits.exists_one(c, has(c.message))"#, true);
        check(r#"event.payload.commits.map(c, c.id) == ["a", "b"]"#, true);
        check(r#"event.payload.commits.map(c, c.id == "b", c.id + "!") == ["b!"]"#, true);
        check(r#"event.payload.commits.filter(c, has(c.message)).size() == 1"#, true);
        check(r#"event.payload.ref.matches("^refs/heads/(main|master)$")"#, true);
        check(r#"event.payload.ref.endsWith("main") && event.payload.ref.contains("heads")"#, true);
        check("[1, 2, 3].map(x, [x, x].map(y, y * 2)).size() == 3", true);
        check(r#"{"a": event.payload.number}.a == 7"#, true);
        check("[[1, 2], [3]].exists(event, event.size() == 1)", true);
    }

    #[test]
    fn errors_of_later_items_do_not_hide_an_answer() {
        check(r#"event.payload.commits.exists(c, c.message == "fix")"#, true);
        assert!(matches!(
            evaluate(r#"event.payload.commits.exists(c, c.message == "x")"#, BODY),
            Err(Failure::Error(_))
        ));
    }

    #[test]
    fn what_errs_on_an_event_is_an_error() {
        for source in
            ["event.payload.missing", "event.nothing == 1", "1 / 0 == 1", "event.payload.ref + 1 == 2"]
        {
            assert!(matches!(evaluate(source, BODY), Err(Failure::Error(_))), "{source}");
        }
        assert!(matches!(evaluate("event.payload.ref == 1", "not json"), Err(Failure::Error(_))));
        assert_eq!(evaluate("has(event.provider_payload.raw_base64)", "not json"), Ok(true));
    }

    #[test]
    fn the_body_is_needed_only_where_the_payload_is_read() {
        let reads = |source| Expression::compile(source).unwrap().reads_payload();
        assert!(!reads(r#"event.kind == "push""#));
        assert!(!reads(r#"event.headers["x"] == "push""#));
        assert!(reads("event.payload.a == 1"));
        assert!(reads("event.provider_payload.raw.a == 1"));
        assert!(reads(r#"event["payload"] == 1"#));
        assert!(reads("[event].all(e, e.payload == 1)"));
    }

    fn refused(source: &str, expected: &str) {
        let error = Expression::compile(source).unwrap_err();
        assert!(error.starts_with(expected), "{source}: {error}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        refused("event.kind ==", "1:14: ");
        refused("evnt.kind == \"x\"", "1:1: unknown name `evnt`");
        refused("true &&\n  evnt.kind == \"x\"", "2:3: unknown name `evnt`");
        refused("event.kind.startWith(\"x\")", "1:21: unknown function `startWith`");
        refused("Foo{a: 1} == 1", "1:");
        refused("", "1:");
        refused(&"(".repeat(500), "");
        refused(&format!("{} == 1", "1 + ".repeat(20_000)), "1:1: longer than");
        let nested = (0..5).fold("true".to_owned(), |inner, i| format!("[1].all(x{i}, {inner})"));
        refused(&nested, "1:");
    }

    fn too_much(source: &str, body: &str) {
        let started = Instant::now();
        assert_eq!(evaluate(source, body), Err(Failure::Cost), "{source}");
        let took = started.elapsed();
        // Far from what it takes where nothing else runs, and from what it would take without the limit.
        assert!(took < Duration::from_secs(5), "{took:?} for {source}");
    }

    #[test]
    fn the_cost_limit_holds() {
        let numbers: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        let body = format!(
            r#"{{"l": [{}], "s": "{}", "o": {{"a": [{}]}}}}"#,
            numbers.join(","),
            "s".repeat(100_000),
            numbers.join(",")
        );
        let l = "event.payload.l";
        too_much(&format!("{l}.all(a, {l}.all(b, {l}.all(c, a + b + c >= 0)))"), &body);
        too_much(&format!("{l}.all(a, {l}.all(b, {l}.all(c, a.x == b || true)))"), &body);
        too_much(&format!("{l}.map(a, {l}.map(b, {l}.map(c, c))).size() > 0"), &body);
        too_much(&format!("{l}.map(a, {l}.map(b, event.payload.o)).size() > 0"), &body);
        too_much(&format!("{l}.map(a, event.payload.s + event.payload.s).size() > 0"), &body);
        too_much(&format!("{l}.all(a, {l}.all(b, event.payload == event.payload))"), &body);
        too_much(&format!("{l}.all(a, {l}.all(b, event.payload.s.contains(\"x\") || true))"), &body);
        too_much(&format!("{l}.exists(a, \"x\".matches(\"(a{{1000}}){{20}}\") || a < 0)"), &body);
    }

    #[test]
    fn ordinary_loops_over_large_events_are_within_the_limit() {
        let commits: Vec<_> = (0..2_000)
            .map(|n| format!(r#"{{"id": "{n}", "message": "{}", "added": ["a", "b"]}}"#, "m".repeat(400)))
            .collect();
        let body = format!(r#"{{"commits": [{}]}}"#, commits.join(","));
        assert_eq!(evaluate(r#"event.payload.commits.exists(c, c.message.contains("x"))"#, &body), Ok(false));
        let pattern = r#"event.payload.commits.all(c, c.message.matches("^m+$"))"#;
        assert_eq!(evaluate(pattern, &body), Ok(true));
        let nested = r#"event.payload.commits.all(c, c.added.exists(f, f.startsWith("b")))"#;
        assert_eq!(evaluate(nested, &body), Ok(true));
    }

    #[test]
    fn a_payload_of_too_many_values_is_over_the_limit_and_not_parsed() {
        let body = format!("[{}1]", "1,".repeat(600_000));
        too_much("event.payload.size() > 0", &body);
        assert_eq!(evaluate(r#"event.kind == "push""#, &body), Ok(true));
    }

    #[test]
    fn keys_are_simple_values() {
        let event = event("push", BODY);
        let key = |source: &str| Expression::compile(source).unwrap().key(&EventView::of(&event));
        assert_eq!(key("event.payload.repository.full_name").as_deref(), Some("a/b"));
        assert_eq!(key("event.payload.number").as_deref(), Some("7"));
        assert_eq!(key("event.payload.yes").as_deref(), Some("true"));
        assert_eq!(key("event.payload.commits"), None);
        assert_eq!(key("event.payload.missing"), None);
        let long = ["event.trace_id"; 5].join(" + ");
        assert_eq!(key(&long).unwrap().len(), 64, "a long key is its hash");
    }

    proptest! {
        #[test]
        fn compiling_anything_never_panics(source in ".{0,60}") {
            let _ = Expression::compile(&source);
        }

        #[test]
        fn compiling_what_looks_like_cel_never_panics(
            parts in prop::collection::vec(prop::sample::select(vec![
                "event", ".payload", "[", "]", "(", ")", "==", "\"a\"", "1", ".all(x, ", "x", "{", "}", ":", "?", "&&",
                ".?a", "-", "!", "has(", ",", "in", "b\"\\xff\"", "size(",
            ]), 0..12),
        ) {
            if let Ok(expression) = Expression::compile(&parts.join(" ")) {
                let event = event("push", BODY);
                let _ = expression.holds(&EventView::of(&event));
            }
        }
    }
}
