//! Commands of functions under the guard: the binary between hookkeeper and the command.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookkeeper::config::Format;
use hookkeeper::event::{
    Body, EventContent, EventId, Origin, Position, RunId, SignatureStatus, StoredEvent, Timestamp,
};
use hookkeeper::function::{Answer, ExecHandler, Handler, Invocation, Verdict};

const BINARY: &str = env!("CARGO_BIN_EXE_hookkeeper");

/// An attempt for a request with this body.
pub(crate) fn invocation(body: &[u8]) -> Invocation {
    let id = EventId::new(1, Position::new(1, 0), 0);
    let content = EventContent {
        provider: "github".parse().unwrap(),
        trigger_id: "github".parse().unwrap(),
        kind: "push".to_owned(),
        received_at: Timestamp::UNIX_EPOCH,
        occurred_at: None,
        dedupe_key: None,
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        origin: Origin::Live,
        held: false,
        method: "POST".to_owned(),
        url: "/hooks/github".to_owned(),
        headers: Vec::new(),
        body: Body::Inline(Bytes::copy_from_slice(body)),
        batch: None,
        schema: "GitHubEventPayload".to_owned(),
        signature_status: SignatureStatus::Unsigned,
    };
    Invocation {
        run: RunId { event: id, function: "f".parse().unwrap(), generation: 1 },
        attempt: 1,
        event: Arc::new(StoredEvent { id, content }),
        body: Bytes::copy_from_slice(body),
        now: Timestamp::UNIX_EPOCH,
        timeout: Duration::from_secs(30),
    }
}

fn handler(script: &str) -> ExecHandler {
    let command = ["sh", "-c", script].map(str::to_owned);
    ExecHandler::new(&command, &[], Format::Binary, Some(PathBuf::from(BINARY))).unwrap()
}

async fn call(script: &str, body: &[u8]) -> Answer {
    handler(script).call(invocation(body)).await
}

/// Waits until the process has ended; a zombie has.
fn assert_ends(pid: &str) {
    let started = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "process {pid} lives on");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn body_result_and_exit_code_pass_through_the_guard() {
    let body = vec![b'x'; 3 << 20];
    let answered = call("wc -c; echo seen >&2", &body).await;
    assert_eq!((answered.verdict, answered.status), (Verdict::Done, Some(0)));
    assert_eq!(String::from_utf8_lossy(&answered.answer).trim(), body.len().to_string());
    assert_eq!(answered.note, "seen");
    let refused = call("exit 100", &body).await;
    assert_eq!((refused.verdict, refused.status), (Verdict::Fail, Some(100)));
    let empty = call("cat", b"").await;
    assert_eq!((empty.verdict, empty.answer), (Verdict::Done, Bytes::new()));
}

#[tokio::test]
async fn a_command_that_cannot_start_says_so() {
    let command = ["/nonexistent/command".to_owned()];
    let handler = ExecHandler::new(&command, &[], Format::Binary, Some(PathBuf::from(BINARY))).unwrap();
    let answered = handler.call(invocation(b"{}")).await;
    assert_eq!((answered.verdict, answered.status), (Verdict::Retry { after: None }, Some(127)));
    assert!(answered.note.contains("cannot start /nonexistent/command"), "{}", answered.note);
}

#[tokio::test]
async fn a_dropped_attempt_ends_the_guard_and_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", file.display());
    let handler = handler(&script);
    let mut call = handler.call(invocation(b"{}"));
    let pids = loop {
        if let Ok(pids) = std::fs::read_to_string(&file) {
            break pids;
        }
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut call).await.is_err());
    };
    drop(call);
    pids.split_whitespace().for_each(assert_ends);
}

#[test]
fn the_death_of_hookkeeper_ends_the_whole_group() {
    let mut guard = Command::new(BINARY)
        .args(["exec-guard", "--", "sh", "-c", "sleep 1000 & echo $$ $!; wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut stdin = guard.stdin.take().unwrap();
    stdin.write_all(&2_u64.to_be_bytes()).unwrap();
    stdin.write_all(b"{}").unwrap();
    let mut pids = String::new();
    BufReader::new(guard.stdout.take().unwrap()).read_line(&mut pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
    // The kernel closes a dead process's pipes, however it died.
    drop(stdin);
    pids.split_whitespace().for_each(assert_ends);
    assert!(!guard.wait().unwrap().success());
}
