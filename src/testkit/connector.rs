//! What must hold of every connector, be it code or the interpreter of an entry.
//!
//! All runs on a thread of its own without an async runtime: only what a connector may await is awaited on one.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::audit::{Judged, Told};
use super::effects;
use super::fixture::{Fixture, changed_secrets, malformed};
use super::suite::{Check, Outcome, Report};
use super::vector::{State, Vector};
use crate::catalog::{ProviderMetadata, TriggerKind};
use crate::clock::Clock;
use crate::connector::{
    ClientError, Connector, ConnectorCtx, ConnectorError, ConnectorLog, ConnectorMetrics,
    DEDUPE_KEY_BYTES_MAX, InboundCtx, KIND_BYTES_MAX, NormalizeResult, Normalized, TriggerBinding,
    TriggerSettings,
};
use crate::event::{SignatureStatus, Timestamp, TriggerId};
use crate::outbound;
use crate::permits::RateLimiterFactory;
use crate::secrets::Chain;
use crate::settings::Outbound;

/// Most bytes of a body that are changed one after the other; of a longer one, as many are chosen evenly.
const CHANGED_BYTES_MAX: usize = 256;
/// How long a connector has to shut down; the call may take twice as long before it counts as stuck.
const SHUTDOWN_DEADLINE: Duration = Duration::from_millis(500);
/// A name that no client has.
const NO_METHOD: &str = "no method has this name";

/// A connector that is code, and what the suite needs to check it.
pub struct Subject<'a> {
    /// Builds the connector, as the factory in a registry does. It is called many times.
    pub build: &'a (dyn Fn() -> Box<dyn Connector> + Sync),
    /// What the catalogue says of the provider.
    pub metadata: &'a ProviderMetadata,
    /// Requests, and what must become of them.
    pub vectors: &'a [Vector],
}

/// Checks all that must hold of a connector that is code, and what must become of its vectors.
///
/// The checks are the same whichever way the connector came about: its metadata; what it does when it is
/// initialized, activated and shut down; that changed requests and foreign secrets do not verify; that
/// nothing a sender may send is a panic or an error; that verifying has no effects; and each vector. What of
/// effects can be seen, and what not, is told in the module's documentation.
///
/// Blocks; may be called inside of an async runtime or without one.
pub fn run_connector(subject: &Subject<'_>) -> Report {
    let mut report = Report { provider: subject.metadata.id.clone(), checks: Vec::new() };
    let fixtures: Result<Vec<Fixture>, String> = subject.vectors.iter().map(Fixture::of).collect();
    let mut checks = vec![("vectors show a good and a bad request", good_and_bad(subject.vectors))];
    match fixtures {
        Err(what) => checks.push(("vectors are requests", Err(what))),
        Ok(fixtures) => {
            let under_test = UnderTest { build: subject.build, fixtures: &fixtures };
            checks.extend(alone(|| {
                let mut checks = vec![("the catalogue says the same", metadata(subject))];
                checks.extend(under_test.checks());
                checks.extend([
                    ("a changed byte does not verify", under_test.changed_bytes()),
                    ("a foreign secret does not verify", under_test.foreign_secrets()),
                    ("every secret of a list verifies", under_test.rotation_list()),
                ]);
                checks
            }));
        }
    }
    report.checks.extend(checks.into_iter().map(|(name, outcome)| Check::of(name, outcome)));
    for vector in subject.vectors {
        let checked = alone(|| check_vector(subject.build, vector));
        let checked = checked.map_err(|what| format!("{what} (source: {})", vector.source));
        report.checks.push(Check::of(&format!("vector: {}", vector.what), checked.map(|()| Outcome::Passed)));
    }
    report
}

/// Checks of a connector what needs no knowledge of it, with the given requests.
pub(super) fn shared_checks(
    build: &(dyn Fn() -> Box<dyn Connector> + Sync),
    fixtures: &[Fixture],
) -> Vec<(&'static str, Result<Outcome, String>)> {
    alone(|| UnderTest { build, fixtures }.checks())
}

/// Runs something on a thread that has no async runtime. What needs one finds none and panics.
fn alone<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn good_and_bad(vectors: &[Vector]) -> Result<Outcome, String> {
    let has = |states: &[State]| vectors.iter().any(|vector| states.contains(&vector.expect.state));
    match has(&[State::Verified, State::Unsigned]) && has(&[State::Rejected]) {
        true => Ok(Outcome::Passed),
        false => Err("at least one must become an event, and one be rejected".to_owned()),
    }
}

fn metadata(subject: &Subject<'_>) -> Result<Outcome, String> {
    let (connector, known) = ((subject.build)(), subject.metadata);
    let same = |what: &str, connector: &dyn std::fmt::Debug, catalogue: &dyn std::fmt::Debug| {
        let (connector, catalogue) = (format!("{connector:?}"), format!("{catalogue:?}"));
        match connector == catalogue {
            true => Ok(()),
            false => Err(format!("{what}: {connector}; the catalogue says {catalogue}")),
        }
    };
    same("provider", connector.provider_id(), &known.id)?;
    same("payload schema", &connector.payload_schema().name(), &known.payload_schema.as_str())?;
    let kinds = |kinds: &[TriggerKind]| kinds.iter().map(|kind| format!("{kind:?}")).collect::<BTreeSet<_>>();
    same("kinds", &kinds(connector.kinds()), &kinds(&known.kinds))?;
    let methods: Vec<String> = connector.client().methods();
    let named: BTreeSet<&str> = methods.iter().map(String::as_str).collect();
    same("methods", &named, &known.outbound_methods.iter().map(String::as_str).collect::<BTreeSet<_>>())?;
    if connector.kinds().is_empty() || connector.payload_schema().name().is_empty() {
        return Err("it has no kind of trigger, or its schema has no name".to_owned());
    }
    if named.len() != methods.len() || named.contains("") {
        return Err(format!("methods need names, each one its own: {methods:?}"));
    }
    match known.required_secrets.iter().find(|secret| secret.namespace != known.id.as_str()) {
        Some(secret) => Err(format!("secret {:?} lives under {:?}", secret.name, secret.namespace)),
        None => Ok(Outcome::Passed),
    }
}

/// Counts the lines that a connector leaves.
#[derive(Default)]
struct CountedLog(AtomicUsize);

impl ConnectorLog for CountedLog {
    fn append(&self, _: &'static str, _: String) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connector that is initialized, and activated with one trigger.
struct Active {
    connector: Box<dyn Connector>,
    trigger: TriggerId,
    clock: Clock,
    log: Arc<CountedLog>,
    runtime: Runtime,
}

impl Active {
    fn new(build: &dyn Fn() -> Box<dyn Connector>, settings: &TriggerSettings) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        let (clock, log) = (Clock::fixed(Timestamp::UNIX_EPOCH), Arc::<CountedLog>::default());
        let http = outbound::Client::new(&Outbound::default()).map_err(|error| error.to_string())?;
        let ctx = ConnectorCtx {
            event_log: log.clone(),
            secrets: Arc::new(Chain::new(Vec::new())),
            rate_limiter: RateLimiterFactory::new(clock.clone()),
            metrics: ConnectorMetrics::default(),
            http: Arc::new(http),
            clock: clock.clone(),
        };
        let mut connector = build();
        runtime.block_on(connector.init(ctx)).map_err(|error| in_words("init", &error))?;
        let trigger = TriggerId::new("testkit").expect("it is an id");
        let active = Self { connector, trigger, clock, log, runtime };
        active.activate(Some(settings)).map_err(|error| in_words("activate", &error))?;
        Ok(active)
    }

    fn activate(&self, settings: Option<&TriggerSettings>) -> Result<usize, ConnectorError> {
        let binding = |settings: &TriggerSettings| TriggerBinding {
            trigger_id: self.trigger.clone(),
            kind: TriggerKind::Webhook,
            settings: settings.clone(),
        };
        let bindings: Vec<_> = settings.map(binding).into_iter().collect();
        let handle = self.runtime.block_on(self.connector.activate(&bindings))?;
        match handle.provider_id() == self.connector.provider_id() {
            true => Ok(handle.active_bindings()),
            false => Err(ConnectorError::other("the handle is of another provider")),
        }
    }

    fn judge(&self, fixture: &Fixture) -> Result<NormalizeResult, String> {
        self.judge_audited(fixture).map(|judged| judged.result)
    }

    fn judge_audited(&self, fixture: &Fixture) -> Result<Judged, String> {
        let (trigger_id, now, armed) = (&self.trigger, fixture.now, fixture.armed);
        let told = Told::default();
        let judge = || {
            let ctx = InboundCtx { trigger_id, now, armed, keys: &[], audit: &|_| () };
            let wanted = self.connector.wanted_keys(&fixture.raw, ctx);
            let keys: Vec<_> = wanted.iter().flat_map(|wanted| wanted.pick_named(&fixture.keys)).collect();
            self.connector.normalize_inbound(&fixture.raw, InboundCtx { keys: &keys, audit: &told, ..ctx })
        };
        match catch_unwind(AssertUnwindSafe(judge)) {
            Ok(Ok(result)) => Ok(Judged::new(result, told)),
            Ok(Err(error)) => Err(in_words("normalize_inbound", &error)),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Err(format!("normalize_inbound panics: {text}"))
            }
        }
    }

    fn shut_down(&self) -> Result<(), String> {
        let shutdown = self.connector.shutdown(SHUTDOWN_DEADLINE);
        let ended =
            self.runtime.block_on(async { tokio::time::timeout(SHUTDOWN_DEADLINE * 2, shutdown).await });
        ended.map_err(|_| "shutdown takes longer than its deadline".to_owned())
    }
}

fn in_words(what: &str, error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{what}: {error}: {source}"),
        None => format!("{what}: {error}"),
    }
}

struct UnderTest<'a> {
    build: &'a (dyn Fn() -> Box<dyn Connector> + Sync),
    fixtures: &'a [Fixture],
}

impl UnderTest<'_> {
    fn checks(&self) -> Vec<(&'static str, Result<Outcome, String>)> {
        vec![
            ("it is initialized, activated and shut down", self.lifecycle()),
            ("an unknown method is told", self.unknown_method()),
            ("what comes of requests is within the limits", self.results()),
            ("malformed requests are no panic and no error", self.malformed_requests()),
            ("a rejection is audited as what it is", self.audited()),
            ("effects: the same request is judged the same", self.repeated()),
            ("effects: no files, no network and no waiting", self.effects()),
        ]
    }

    /// Judges each request with a connector of its trigger.
    fn each(
        &self,
        mut check: impl FnMut(&Active, &Fixture) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        if self.fixtures.is_empty() {
            return Ok(Outcome::Skipped("there is neither a vector nor a sample".to_owned()));
        }
        for fixture in self.fixtures {
            let active = Active::new(self.build, &fixture.trigger)?;
            check(&active, fixture).map_err(|what| format!("{}: {what}", fixture.what))?;
        }
        Ok(Outcome::Passed)
    }

    /// Judges each request that verifies with a connector of its trigger.
    fn each_verified(
        &self,
        mut check: impl FnMut(&Active, &Fixture, &Normalized) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let mut found = false;
        self.each(|active, fixture| match first_event(active.judge(fixture)?) {
            Some(event) if matches!(event.signature_status, SignatureStatus::Verified { .. }) => {
                found = true;
                check(active, fixture, &event)
            }
            _ => Ok(()),
        })
        .map(|outcome| if found { outcome } else { Outcome::Skipped("no request verifies".to_owned()) })
    }

    fn lifecycle(&self) -> Result<Outcome, String> {
        self.each(|active, fixture| {
            let activated =
                active.activate(Some(&fixture.trigger)).map_err(|error| in_words("activate", &error))?;
            if activated != 1 {
                return Err(format!("of one binding {activated} are active"));
            }
            let activated = active.activate(None).map_err(|error| in_words("activate", &error))?;
            if activated != 0 {
                return Err(format!("without bindings {activated} are active"));
            }
            if active.judge(fixture).is_ok_and(|result| first_event(result).is_some()) {
                return Err("a trigger that is no longer active still makes events".to_owned());
            }
            active.shut_down()
        })
    }

    fn unknown_method(&self) -> Result<Outcome, String> {
        let trigger =
            self.fixtures.first().map_or_else(TriggerSettings::default, |first| first.trigger.clone());
        // Where it cannot be activated another check tells why.
        let Ok(active) = Active::new(self.build, &trigger) else {
            return Ok(Outcome::Skipped("it is not active".to_owned()));
        };
        match active.runtime.block_on(active.connector.client().call(NO_METHOD, Value::Null)) {
            Err(ClientError::UnknownMethod { method, .. }) if method == NO_METHOD => Ok(Outcome::Passed),
            other => Err(format!("calling a method that there is not gives {other:?}")),
        }
    }

    fn results(&self) -> Result<Outcome, String> {
        self.each(|active, fixture| within_limits(&active.judge(fixture)?))
    }

    fn malformed_requests(&self) -> Result<Outcome, String> {
        self.each(|active, fixture| {
            for (how, changed) in malformed(fixture) {
                let result = active.judge(&changed).and_then(|result| within_limits(&result));
                result.map_err(|what| format!("{how}: {what}"))?;
            }
            Ok(())
        })
    }

    fn audited(&self) -> Result<Outcome, String> {
        self.each(|active, fixture| {
            let provider = active.connector.provider_id();
            for (how, request) in
                [("as it is".to_owned(), fixture.clone())].into_iter().chain(malformed(fixture))
            {
                // What ends in a panic or an error, another check tells.
                let Ok(judged) = active.judge_audited(&request) else { continue };
                judged.check_audit(provider, &request).map_err(|what| format!("{how}: {what}"))?;
            }
            Ok(())
        })
    }

    fn repeated(&self) -> Result<Outcome, String> {
        self.each(|active, fixture| {
            let lines = active.log.0.load(Ordering::Relaxed);
            let first = active.judge_audited(fixture)?;
            // The clock of the world goes on; what is handed in does not.
            active.clock.set(fixture.now + Duration::from_secs(86_400 * 365));
            let elsewhere = Active::new(self.build, &fixture.trigger)?;
            if active.judge_audited(fixture)? != first || elsewhere.judge_audited(fixture)? != first {
                return Err("the second time it is judged otherwise".to_owned());
            }
            match active.log.0.load(Ordering::Relaxed) == lines {
                true => Ok(()),
                false => Err("judging it leaves a line in the event log".to_owned()),
            }
        })
    }

    fn effects(&self) -> Result<Outcome, String> {
        let mut told = true;
        let outcome = self.each(|active, fixture| {
            let Some(seen) = effects::of(|| drop(active.judge_audited(fixture))) else {
                told = false;
                return Ok(());
            };
            match (seen.transfers, seen.waits) {
                (0, 0) => Ok(()),
                (0, waits) => Err(format!("judging it waits {waits} times")),
                (transfers, _) => Err(format!("judging it reads or writes {transfers} times")),
            }
        })?;
        let unseen = || Outcome::Skipped("this system does not count a thread's effects".to_owned());
        Ok(if told { outcome } else { unseen() })
    }

    fn changed_bytes(&self) -> Result<Outcome, String> {
        self.each_verified(|active, fixture, event| {
            if event.signature_status != (SignatureStatus::Verified { covers_body: true }) {
                return Ok(());
            }
            let body = &fixture.raw.body;
            let step = body.len().div_ceil(CHANGED_BYTES_MAX).max(1);
            for at in (0..body.len()).step_by(step) {
                let mut changed = body.to_vec();
                changed[at] ^= 1;
                if first_event(active.judge(&fixture.with_body(changed))?).is_some() {
                    return Err(format!("with byte {at} changed it verifies"));
                }
            }
            match first_event(active.judge(&fixture.with_body([body, &b" "[..]].concat()))?) {
                Some(_) => Err("with a byte more it verifies".to_owned()),
                None => Ok(()),
            }
        })
    }

    fn foreign_secrets(&self) -> Result<Outcome, String> {
        let mut tried = false;
        let outcome = self.each_verified(|_, fixture, _| {
            let trigger = changed_secrets(&fixture.trigger, |own, foreign| vec![foreign.unwrap_or(own)]);
            // Where a changed secret has not the form of one, there is nothing to try.
            let Ok(foreign) = Active::new(self.build, &trigger) else { return Ok(()) };
            tried |= !fixture.trigger.secrets.is_empty();
            match foreign.judge(fixture)? {
                NormalizeResult::Reject(_) => Ok(()),
                _ if fixture.trigger.secrets.is_empty() => Ok(()),
                _ => Err("it verifies".to_owned()),
            }
        })?;
        Ok(if tried { outcome } else { Outcome::Skipped("no secret could be changed".to_owned()) })
    }

    fn rotation_list(&self) -> Result<Outcome, String> {
        let mut tried = false;
        let outcome = self.each_verified(|_, fixture, _| {
            let trigger =
                changed_secrets(&fixture.trigger, |own, foreign| foreign.into_iter().chain([own]).collect());
            let Ok(rotated) = Active::new(self.build, &trigger) else { return Ok(()) };
            if fixture.trigger.secrets.is_empty() {
                return Ok(());
            }
            tried = true;
            let event =
                first_event(rotated.judge(fixture)?).ok_or("behind another secret it does not verify")?;
            match event.secret_index {
                None | Some(1..) => Ok(()),
                Some(0) => Err("the second secret is told as the first".to_owned()),
            }
        })?;
        Ok(if tried { outcome } else { Outcome::Skipped("no secret could be changed".to_owned()) })
    }
}

fn first_event(result: NormalizeResult) -> Option<Normalized> {
    match result {
        NormalizeResult::Event(event) => Some(event),
        NormalizeResult::Batch(events) | NormalizeResult::Immediate { events, .. } => {
            events.into_iter().next()
        }
        NormalizeResult::Reject(_) => None,
    }
}

fn within_limits(result: &NormalizeResult) -> Result<(), String> {
    let events: &[Normalized] = match result {
        NormalizeResult::Event(event) => std::slice::from_ref(event),
        NormalizeResult::Batch(events) if events.is_empty() => return Err("the batch is empty".to_owned()),
        NormalizeResult::Batch(events) | NormalizeResult::Immediate { events, .. } => events,
        NormalizeResult::Reject(_) => &[],
    };
    match result {
        NormalizeResult::Immediate { reply, .. } => reply.problem().map_or(Ok(()), Err)?,
        NormalizeResult::Reject(crate::connector::Rejection { status: Some(status), .. })
            if !(400..=599).contains(status) =>
        {
            return Err(format!("a rejection has a status from 400 to 599, not {status}"));
        }
        _ => {}
    }
    for event in events {
        if event.kind.is_empty() || event.kind.len() > KIND_BYTES_MAX {
            return Err(format!("a kind has 1 to {KIND_BYTES_MAX} bytes, not {}", event.kind.len()));
        }
        if event.dedupe_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > DEDUPE_KEY_BYTES_MAX) {
            return Err(format!("a dedupe key has 1 to {DEDUPE_KEY_BYTES_MAX} bytes"));
        }
    }
    own_keys(events)
}

/// Holds that no event of a delivery passes for another one of it: of these only the first is stored.
fn own_keys(events: &[Normalized]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let repeated =
        events.iter().filter_map(|event| event.dedupe_key.as_deref()).find(|key| !seen.insert(*key));
    match repeated {
        Some(key) => {
            Err(format!("two events of one delivery have the dedupe key {key:?}: the second would be lost"))
        }
        None => Ok(()),
    }
}

fn check_vector(build: &dyn Fn() -> Box<dyn Connector>, vector: &Vector) -> Result<(), String> {
    let fixture = Fixture::of(vector)?;
    let active = Active::new(build, &fixture.trigger)?;
    vector.compare(&fixture.raw, active.judge(&fixture)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use base64::Engine as _;

    use super::*;
    use crate::catalog::ProviderCatalog;
    use crate::connector::{
        ActivationHandle, ProviderPayloadSchema, RawInbound, Rejection, Reply, SignatureRejected,
    };
    use crate::event::{ProviderId, RejectReason};

    /// What a connector of the tests does wrong.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Flaw {
        Nothing,
        Id,
        Schema,
        Panics,
        Errs,
        ReadsFile,
        Sleeps,
        Spawns,
        Forgets,
        AnySecret,
        AnyBody,
        EmptyKind,
        Counts,
        StaysActive,
        NeverEnds,
        TellsOther,
        TellsSecret,
        TellsOfAnother,
    }

    /// Takes `X-Sig: <secret> <body in base64>` as a proof.
    struct Flawed {
        id: ProviderId,
        flaw: Flaw,
        active: Mutex<BTreeMap<TriggerId, Vec<String>>>,
        calls: AtomicUsize,
    }

    impl Flawed {
        fn proof(&self, secret: &str, body: &[u8]) -> String {
            let body: &[u8] = if self.flaw == Flaw::AnyBody { &[] } else { body };
            format!("{secret} {}", base64::engine::general_purpose::STANDARD.encode(body))
        }

        fn tell(&self, rejection: &Rejection, secrets: &[String], raw: &RawInbound, ctx: InboundCtx<'_>) {
            let own = SignatureRejected {
                provider_id: self.id.clone(),
                reason: rejection.reason,
                hint: rejection.hint.clone(),
                at: ctx.now,
                peer: raw.peer,
            };
            ctx.audit.signature_rejected(match self.flaw {
                Flaw::TellsOther => SignatureRejected { reason: RejectReason::MissingHeader, ..own },
                Flaw::TellsSecret => SignatureRejected { hint: format!("not {secrets:?}"), ..own },
                Flaw::TellsOfAnother => {
                    SignatureRejected { provider_id: ProviderId::new("other").unwrap(), ..own }
                }
                _ => own,
            });
        }

        fn misbehave(&self, raw: &RawInbound) -> Result<(), ConnectorError> {
            match self.flaw {
                Flaw::Panics => assert!(raw.json_body().is_ok(), "it is always JSON"),
                Flaw::Errs => drop(raw.json_body()?),
                Flaw::ReadsFile => drop(std::fs::read("/proc/version")),
                Flaw::Sleeps => std::thread::sleep(Duration::from_micros(50)),
                Flaw::Spawns => drop(tokio::spawn(async {})),
                _ => {}
            }
            Ok(())
        }
    }

    #[async_trait]
    impl Connector for Flawed {
        fn provider_id(&self) -> &ProviderId {
            &self.id
        }
        fn kinds(&self) -> &[TriggerKind] {
            &[TriggerKind::Webhook]
        }
        async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
            let secrets = |binding: &TriggerBinding| {
                let list = binding.settings.secrets.get("signing_secret").cloned().unwrap_or_default();
                let list = list.iter().map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap());
                let list: Vec<String> =
                    if self.flaw == Flaw::Forgets { list.take(1).collect() } else { list.collect() };
                (binding.trigger_id.clone(), list)
            };
            let mut active = self.active.lock().unwrap();
            if self.flaw != Flaw::StaysActive {
                active.clear();
            }
            active.extend(bindings.iter().map(secrets));
            Ok(ActivationHandle::new(self.id.clone(), bindings.len()))
        }
        async fn shutdown(&self, _: Duration) {
            if self.flaw == Flaw::NeverEnds {
                std::future::pending().await
            }
        }
        fn normalize_inbound(
            &self,
            raw: &RawInbound,
            ctx: InboundCtx<'_>,
        ) -> Result<NormalizeResult, ConnectorError> {
            self.misbehave(raw)?;
            let active = self.active.lock().unwrap();
            let inactive = || ConnectorError::Inactive(ctx.trigger_id.clone());
            let secrets = active.get(ctx.trigger_id).ok_or_else(inactive)?;
            let sent = raw.header_values("x-sig").next().unwrap_or_default();
            let holds = |secret: &String| self.proof(secret, &raw.body).as_bytes() == sent;
            let index = match secrets.iter().position(holds) {
                None if self.flaw == Flaw::AnySecret && !sent.is_empty() => Some(0),
                found => found,
            };
            let Some(index) = index else {
                let rejection = Rejection::new(RejectReason::InvalidSignature, "x-sig");
                self.tell(&rejection, secrets, raw, ctx);
                return Ok(NormalizeResult::Reject(rejection));
            };
            let calls = self.calls.fetch_add(1, Ordering::Relaxed);
            let kind = match self.flaw {
                Flaw::EmptyKind => String::new(),
                Flaw::Counts => format!("call.{calls}"),
                _ => "order.paid".to_owned(),
            };
            Ok(NormalizeResult::Event(Normalized {
                kind,
                dedupe_key: None,
                occurred_at: None,
                signature_status: SignatureStatus::Verified { covers_body: true },
                secret_index: Some(index),
                part: None,
            }))
        }
        fn payload_schema(&self) -> ProviderPayloadSchema {
            ProviderPayloadSchema::named(if self.flaw == Flaw::Schema { "Other" } else { "AcmePayload" })
        }
    }

    const VECTORS: &str = "[[vectors]]\nwhat = \"good\"\nsource = \"ours\"\nsecrets = [\"hunter22\"]\n\
        headers = [[\"X-Sig\", \"hunter22 eyJhIjoxfQ==\"]]\nbody = '{\"a\":1}'\nat = 1\n\
        expect = { state = \"verified\" }\n[[vectors]]\nwhat = \"bad\"\nsource = \"ours\"\nsecrets = [\"hunter22\"]\n\
        headers = []\nbody = '{}'\nat = 1\nexpect = { state = \"rejected\" }\n";

    /// Runs the suite on a connector with a flaw.
    fn run(flaw: Flaw) -> Report {
        let entry = "id = \"acme\"\n[event]\nschema = \"AcmePayload\"\n";
        let catalog = ProviderCatalog::with_user_entries(&[entry]).unwrap();
        let metadata = ProviderMetadata::of(catalog.get("acme").unwrap());
        let id = if flaw == Flaw::Id { "other" } else { "acme" };
        let build = || -> Box<dyn Connector> {
            let (id, active) = (ProviderId::new(id).unwrap(), Mutex::default());
            Box::new(Flawed { id, flaw, active, calls: AtomicUsize::new(0) })
        };
        let vectors = Vector::parse(VECTORS).unwrap();
        run_connector(&Subject { build: &build, metadata: &metadata, vectors: &vectors })
    }

    /// Holds what fails of a connector with a flaw against a list.
    fn check(flaw: Flaw, failing: &[&str]) {
        let report = run(flaw);
        let failed: Vec<&str> = report.failures().map(|check| check.name.as_str()).collect();
        assert_eq!(failed, failing, "{flaw:?}: {report}");
    }

    #[test]
    fn a_connector_without_a_flaw_passes() {
        check(Flaw::Nothing, &[]);
    }

    #[test]
    fn every_flaw_is_found() {
        const EFFECTS: &str = "effects: no files, no network and no waiting";
        const MALFORMED: &str = "malformed requests are no panic and no error";
        check(Flaw::Id, &["the catalogue says the same"]);
        check(Flaw::Schema, &["the catalogue says the same"]);
        check(Flaw::Panics, &[MALFORMED, "a changed byte does not verify"]);
        check(Flaw::Errs, &[MALFORMED, "a changed byte does not verify"]);
        check(Flaw::ReadsFile, &[EFFECTS]);
        check(Flaw::Sleeps, &[EFFECTS]);
        check(Flaw::Forgets, &["every secret of a list verifies"]);
        check(Flaw::StaysActive, &["it is initialized, activated and shut down"]);
        check(Flaw::NeverEnds, &["it is initialized, activated and shut down"]);
    }

    #[test]
    fn a_runtime_a_kind_or_a_memory_of_its_own_is_found() {
        for (flaw, told) in [
            (Flaw::Spawns, "no reactor running"),
            (Flaw::EmptyKind, "a kind has 1 to"),
            (Flaw::Counts, "the second time it is judged otherwise"),
            (Flaw::AnySecret, "a foreign secret does not verify: FAILED: good: it verifies"),
            (Flaw::TellsOther, "the audit is told missing_header, and the sender invalid_signature"),
            (Flaw::TellsSecret, "the hint of a rejection shows a secret"),
            (Flaw::TellsOfAnother, "the audit is told another provider, time or sender"),
            (Flaw::AnyBody, "vector: good: FAILED"),
        ] {
            let report = run(flaw);
            assert!(!report.passed() && report.to_string().contains(told), "{flaw:?}: {report}");
        }
    }

    #[test]
    fn every_event_of_a_batch_has_a_key_of_its_own() {
        let event = |key: Option<&str>| Normalized {
            kind: "order.paid".to_owned(),
            dedupe_key: key.map(str::to_owned),
            occurred_at: None,
            signature_status: SignatureStatus::Unsigned,
            secret_index: None,
            part: None,
        };
        let batch = |keys: &[Option<&str>]| {
            within_limits(&NormalizeResult::Batch(keys.iter().copied().map(event).collect()))
        };
        assert_eq!(batch(&[Some("1"), None, Some("2"), None]), Ok(()));
        assert!(batch(&[Some("1"), Some("2"), Some("1")]).unwrap_err().contains("would be lost"));
    }

    #[test]
    fn a_reply_keeps_to_its_lines() {
        let reply = |status, value: &str| NormalizeResult::Immediate {
            reply: Reply { status, headers: vec![("x-a".to_owned(), value.to_owned())], body: "".into() },
            events: Vec::new(),
            learn: None,
            call: None,
        };
        assert_eq!(within_limits(&reply(200, "b")), Ok(()));
        assert!(within_limits(&reply(99, "b")).is_err());
        assert!(within_limits(&reply(200, "b\r\nx-c: d")).is_err());
        let reject = |status| {
            let rejection = Rejection::new(RejectReason::InvalidHeader, "x-sig");
            within_limits(&NormalizeResult::Reject(Rejection { status, ..rejection }))
        };
        assert_eq!((reject(None), reject(Some(410))), (Ok(()), Ok(())));
        assert!(reject(Some(200)).is_err());
    }
}
