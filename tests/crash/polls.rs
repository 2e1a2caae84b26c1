//! A poll trigger under SIGKILL: nothing that its provider has is lost, asked for again once the cursor has passed
//! it, or stored twice.
//!
//! The server is this test binary itself, started again with a variable set: a program of one's own with a
//! connector in code. Its provider never runs dry; item `n` is the same whenever it is asked for.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use async_trait::async_trait;
use hookkeeper::connector::{InboundCtx, PollCtx, Polled, PolledEvent};
use hookkeeper::{
    ActivationHandle, Connector, ConnectorError, NormalizeResult, ProviderId, ProviderPayloadSchema,
    RawInbound, TriggerBinding, TriggerKind,
};

use crate::load::{cycles, seed, stored_events};
use crate::powercut::Random;
use crate::support::Server;

/// Set in the server: the file that says with which cursor each poll was made.
const ASKED: &str = "HOOKKEEPER_POLLS_ASKED";
/// Items of one poll: more than are stored at once, so that a kill may come between them.
const ITEMS: u64 = 150;
/// How long the provider takes to answer.
const ANSWERS_AFTER: Duration = Duration::from_millis(5);
/// Kills come within this time of a poll's begin: about as long as two polls take.
const KILLED_WITHIN_MS: usize = 60;

/// The cursor is how many items came.
struct Tickets {
    id: ProviderId,
    asked: PathBuf,
}

#[async_trait]
impl Connector for Tickets {
    fn provider_id(&self) -> &ProviderId {
        &self.id
    }

    fn kinds(&self) -> &[TriggerKind] {
        &[TriggerKind::Poll]
    }

    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        Ok(ActivationHandle::new(self.id.clone(), bindings.len()))
    }

    fn normalize_inbound(
        &self,
        _: &RawInbound,
        _: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        unreachable!("nobody calls a poll trigger")
    }

    async fn poll_tick(&self, ctx: PollCtx<'_>) -> Result<Polled, ConnectorError> {
        let from: u64 = ctx.cursor.map_or(0, |cursor| cursor.parse().unwrap());
        // One write, so that a kill leaves no half of a line.
        let mut asked = File::options().create(true).append(true).open(&self.asked).unwrap();
        asked.write_all(format!("{from}\n").as_bytes()).unwrap();
        tokio::time::sleep(ANSWERS_AFTER).await;
        let come = from + ITEMS;
        Ok(Polled {
            events: (from + 1..=come).map(ticket).collect(),
            cursor: Some(come.to_string()),
            more: true,
        })
    }

    fn payload_schema(&self) -> ProviderPayloadSchema {
        ProviderPayloadSchema::named("TicketPayload")
    }
}

fn ticket(number: u64) -> PolledEvent {
    PolledEvent {
        kind: "ticket.opened".to_owned(),
        dedupe_key: key(number),
        occurred_at: None,
        body: format!("{{\"number\":{number}}}").into(),
        content_type: "application/json".to_owned(),
    }
}

fn key(number: u64) -> String {
    format!("ticket-{number}")
}

/// The server. Does nothing in a normal test run.
#[test]
fn polling_server_when_started_again() {
    let Some(asked) = std::env::var_os(ASKED).map(PathBuf::from) else { return };
    let ended = hookkeeper::cli::main_with_arguments(["hookkeeper", "serve"], move |registry| {
        let asked = asked.clone();
        registry.register(move || Box::new(Tickets { id: "acme".parse().unwrap(), asked: asked.clone() }));
    });
    assert_eq!(ended, ExitCode::SUCCESS);
}

fn start(server: &mut Server, asked: &Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["polls::polling_server_when_started_again", "--exact", "--nocapture"]).env(ASKED, asked);
    server.restart_as(server.here(command));
}

/// Returns the cursor of each poll, in order.
fn asked(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Returns the cursor that is stored.
fn cursor(server: &Server) -> u64 {
    let triggers = server.get("/api/v1/triggers").json();
    triggers["items"][0]["poll"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap())
}

/// Checks that what the cursor has passed is stored, and that nothing is stored twice; returns the cursor.
fn check(server: &Server) -> u64 {
    // First the cursor: what is polled meanwhile only adds events.
    let cursor = cursor(server);
    let stored = stored_events(server);
    for number in 1..=cursor {
        assert!(stored.contains_key(&key(number)), "the cursor is at {cursor}, and item {number} is lost");
    }
    for (key, ids) in &stored {
        assert_eq!(ids.len(), 1, "{key} is stored once, not as {ids:?}");
    }
    cursor
}

#[test]
fn what_a_provider_has_is_neither_lost_nor_stored_twice_by_sigkill() {
    let mut random = Random(seed("polls, sigkill") | 1);
    let mut server = Server::prepare(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n\
         [[triggers]]\nid = \"tickets\"\nprovider = \"acme\"\nkind = \"poll\"\nevery = \"1s\"\n",
    );
    let file = server.folder.path().join("asked");
    let (mut again, mut polls) = (0, 0);
    // A cycle waits for a poll, so there are fewer; with too few, no kill would come between.
    for _ in 0..cycles().max(20) / 2 {
        start(&mut server, &file);
        let cursor = check(&server);
        server.wait("a poll", |_| asked(&file).len() > polls);
        std::thread::sleep(Duration::from_millis(random.below(KILLED_WITHIN_MS) as u64));
        server.kill();
        let asked = asked(&file);
        assert_eq!(asked[polls], cursor, "it goes on from where the log says");
        assert!(asked.is_sorted(), "nothing behind the cursor is asked for again: {asked:?}");
        again += usize::from(polls > 0 && asked[polls - 1] == cursor);
        polls = asked.len();
    }
    start(&mut server, &file);
    let (come, polled) = (check(&server), asked(&file).len());
    assert!(again > 0, "some kill came between a poll and its cursor");
    assert!(come > 0, "some poll got through");
    server.wait("more polls", |server| asked(&file).len() > polled + 1 && cursor(server) > come);
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    eprintln!("{polls} polls, {come} items, {again} times asked again");
}
