//! Which functions an event starts, and why not the others: pure.
//!
//! The router asks; it reads nothing and records nothing here. What an expression may see of an event is
//! made in `expression`, which also bounds what it may cost; `glob` matches kinds.

mod expression;
mod glob;
mod meter;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config;
use crate::event::{FunctionId, SkipReason, TriggerId};

use self::expression::Failure;
pub use self::expression::{Expression, Key};
pub use self::glob::Glob;
pub use self::view::EventView;

/// All functions' subscriptions, in configured order; replaced as a whole when the configuration is.
pub type Subscriptions = Arc<ArcSwap<Vec<Subscription>>>;

/// What a function asks to run on: its `on`, `events` and `when`, ready to be asked.
#[derive(Debug)]
pub struct Subscription {
    function: FunctionId,
    on: Vec<TriggerId>,
    events: Vec<Glob>,
    when: Option<Expression>,
}

impl Subscription {
    /// Makes a function's subscription ready.
    ///
    /// # Errors
    ///
    /// If `when` is no expression; the text says where and why. Configuration is validated with
    /// [`compile`](Self::compile) before it gets here.
    pub fn new(function: &config::Function) -> Result<Self, String> {
        Ok(Self {
            function: function.id.clone(),
            on: function.on.clone(),
            events: function.events.iter().map(|glob| Glob::new(glob)).collect(),
            when: function.when.as_deref().map(Self::compile).transpose()?,
        })
    }

    /// Compiles a CEL expression over `event`: a `when`, or a flow control's `key`.
    ///
    /// # Errors
    ///
    /// If the text does not parse, names something other than `event`, calls an unknown function, or nests
    /// loops deeper than allowed. The text of the error begins with line and column.
    pub fn compile(expression: &str) -> Result<Expression, String> {
        Expression::compile(expression)
    }

    /// Returns the function that asks.
    pub fn function(&self) -> &FunctionId {
        &self.function
    }

    /// Tells whether `on` and `events` select an event of the trigger and kind: all that can be said without the
    /// rest of it.
    ///
    /// # Errors
    ///
    /// The reason, if they do not.
    pub fn selects(&self, trigger: &TriggerId, kind: &str) -> Result<(), SkipReason> {
        if !self.on.is_empty() && !self.on.contains(trigger) {
            return Err(SkipReason::On);
        }
        if !self.events.is_empty() && !self.events.iter().any(|glob| glob.matches(kind)) {
            return Err(SkipReason::Events);
        }
        Ok(())
    }

    /// Tells whether there is a `when`: without one, [`selects`](Self::selects) is the decision.
    pub fn is_conditional(&self) -> bool {
        self.when.is_some()
    }

    /// Tells whether deciding needs the event's body.
    pub fn reads_payload(&self) -> bool {
        self.when.as_ref().is_some_and(Expression::reads_payload)
    }

    /// Tells whether the function wants the event.
    ///
    /// # Errors
    ///
    /// The reason, if it does not.
    pub fn wants(&self, event: &EventView<'_>) -> Result<(), SkipReason> {
        let content = &event.stored().content;
        self.selects(&content.trigger_id, &content.kind)?;
        #[cfg(test)]
        assert_ne!(content.kind, tests::POISON, "a kind on which tests see a panic");
        let Some(when) = &self.when else { return Ok(()) };
        match when.holds(event) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SkipReason::When),
            Err(Failure::Error(_)) => Err(SkipReason::WhenError),
            Err(Failure::Cost) => Err(SkipReason::WhenCost),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Body, EventContent, EventId, Origin, Position, SignatureStatus, StoredEvent};

    /// A kind whose judging panics.
    pub(crate) const POISON: &str = "poison";

    /// An event of trigger `github` with the given kind and body.
    pub(crate) fn event(kind: &str, body: &str) -> StoredEvent {
        StoredEvent {
            id: EventId::new(1_700_000_000_000, Position::new(1, 0), 7),
            content: EventContent {
                provider: "github".parse().unwrap(),
                trigger_id: "github".parse().unwrap(),
                kind: kind.to_owned(),
                received_at: "2026-11-23T14:00:00.123456Z".parse().unwrap(),
                occurred_at: None,
                dedupe_key: Some("72d3162e".to_owned()),
                trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
                origin: Origin::Live,
                held: false,
                method: "POST".to_owned(),
                url: "/hooks/github".to_owned(),
                headers: vec![
                    ("content-type".to_owned(), Bytes::from_static(b"application/json")),
                    ("x-github-event".to_owned(), Bytes::from_static(b"push")),
                ],
                body: Body::Inline(Bytes::copy_from_slice(body.as_bytes())),
                batch: None,
                schema: "GitHubEventPayload".to_owned(),
                signature_status: SignatureStatus::Verified { covers_body: true },
            },
        }
    }

    /// A function `f` with defaults that the test then changes.
    pub(crate) fn function() -> config::Function {
        config::Function {
            id: "f".parse().unwrap(),
            on: Vec::new(),
            events: Vec::new(),
            when: None,
            handler: config::Handler::Http { url: "http://127.0.0.1:1/".to_owned() },
            timeout: std::time::Duration::from_secs(30),
            retry: config::Retry { attempts: 8, backoff: config::Backoff::Standard },
            concurrency: config::Concurrency { limit: 4, key: None },
            signing_secret: Vec::new(),
            sign_as_provider: false,
            format: config::Format::Binary,
        }
    }

    fn check(on: &[&str], events: &[&str], when: Option<&str>, expected: Result<(), SkipReason>) {
        let subscription = Subscription::new(&config::Function {
            on: on.iter().map(|id| id.parse().unwrap()).collect(),
            events: events.iter().map(|&glob| glob.to_owned()).collect(),
            when: when.map(str::to_owned),
            ..function()
        })
        .unwrap();
        let event = event("push", r#"{"ref": "refs/heads/main"}"#);
        assert_eq!(subscription.wants(&EventView::of(&event)), expected, "{on:?} {events:?} {when:?}");
    }

    #[test]
    fn the_first_of_on_events_and_when_that_says_no_is_the_reason() {
        check(&[], &[], None, Ok(()));
        check(&["stripe", "github"], &["pull_request.*", "push"], None, Ok(()));
        check(&["stripe"], &["nothing"], Some("false"), Err(SkipReason::On));
        check(&[], &["pull_request.*"], Some("false"), Err(SkipReason::Events));
        check(&[], &[], Some("false"), Err(SkipReason::When));
    }

    #[test]
    fn a_when_that_errs_or_is_no_bool_does_not_match_and_says_so() {
        check(&[], &[], Some(r#"event.payload.ref == "refs/heads/main""#), Ok(()));
        check(&[], &[], Some("event.payload.missing == 1"), Err(SkipReason::WhenError));
        check(&[], &[], Some("event.payload.ref"), Err(SkipReason::WhenError));
        check(&[], &[], Some("1 / 0 == 1"), Err(SkipReason::WhenError));
    }
}
