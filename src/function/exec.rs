//! Functions that are commands: the body on standard input, the result on standard output, never a shell.
//!
//! Each attempt is a process group of its own, which ends with the attempt: when the command has exited, when
//! the attempt is dropped at its timeout, and, through [`exec_guard`](super::exec_guard), when hookkeeper dies.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::{Answer, Handler, Invocation, RESULT_BYTES_MAX, Verdict, cloud_event, exec_guard};
use crate::config::Format;

/// Exit code with which a command refuses for good.
const EXIT_FINAL: i32 = 100;
/// How much of the end of standard error is kept, in bytes.
const STDERR_BYTES_MAX: usize = 4 * 1024;
/// How long output is still read after the command has exited: something that left its group may hold it open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// `PATH` where hookkeeper itself has none.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// Environment variables that every command gets, beside those that the handler names.
const ENV_ALWAYS: [&str; 3] = ["PATH", "HOME", "LANG"];

/// The handler of one exec function.
#[derive(Debug)]
pub struct ExecHandler {
    command: Vec<String>,
    env: Vec<(String, OsString)>,
    format: Format,
    guard: Option<PathBuf>,
}

impl ExecHandler {
    /// Builds the handler of a command: program and arguments. `env` names further environment variables to
    /// pass on; their values are read here, once. `guard` is hookkeeper's own binary; without it a command
    /// ends at its timeout all the same, but may outlive a hookkeeper that is killed.
    ///
    /// # Errors
    ///
    /// If the command is empty.
    pub fn new(
        command: &[String],
        env: &[String],
        format: Format,
        guard: Option<PathBuf>,
    ) -> Result<Self, String> {
        if command.first().is_none_or(String::is_empty) {
            return Err("expected a program to run".to_owned());
        }
        let names = ENV_ALWAYS.into_iter().chain(env.iter().map(String::as_str));
        let mut passed: Vec<_> =
            names.filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?))).collect();
        if !passed.iter().any(|(name, _)| name == "PATH") {
            passed.push(("PATH".to_owned(), PATH_DEFAULT.into()));
        }
        Ok(Self { command: command.to_vec(), env: passed, format, guard })
    }

    fn command(&self, invocation: &Invocation) -> Command {
        let mut command = match &self.guard {
            Some(guard) => {
                let mut command = Command::new(guard);
                command.arg(exec_guard::SUBCOMMAND).arg("--").args(&self.command);
                command
            }
            None => {
                let mut command = Command::new(&self.command[0]);
                command.args(&self.command[1..]);
                command
            }
        };
        let content = &invocation.event.content;
        command
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("HOOKKEEPER_EVENT_ID", invocation.event.id.to_string())
            // A kind may come from the sender; what no environment can carry would fail the start.
            .env("HOOKKEEPER_EVENT_KIND", content.kind.replace('\0', ""))
            .env("HOOKKEEPER_TRIGGER", content.trigger_id.as_str())
            .env("HOOKKEEPER_RUN_ID", invocation.run.to_string())
            .env("HOOKKEEPER_ATTEMPT", invocation.attempt.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        command
    }
}

#[async_trait]
impl Handler for ExecHandler {
    async fn call(&self, invocation: Invocation) -> Answer {
        let body = match self.format {
            Format::Binary => invocation.body.clone(),
            Format::Structured => cloud_event::structured(&invocation.event, &invocation.body),
        };
        let child = match self.command(&invocation).spawn() {
            Ok(child) => child,
            Err(error) => return not_run(&format!("cannot start {}: {error}", self.command[0])),
        };
        match run(child, body, self.guard.is_some()).await {
            Ok(ended) => judge(ended),
            Err(error) => not_run(&format!("cannot follow {}: {error}", self.command[0])),
        }
    }
}

/// A process group that ends when this is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // That nobody is left is the usual case.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// What is known of a command that has ended.
struct Ended {
    status: ExitStatus,
    stdout: Bytes,
    stderr: Bytes,
}

async fn run(mut child: Child, body: Bytes, guarded: bool) -> io::Result<Ended> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let group = Group(pid.ok_or_else(|| io::Error::other("the process has no id"))?);
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("the process has no pipes"));
    };
    let mut out = Vec::new();
    let mut err = Vec::new();
    let exit = async {
        let mut input = std::pin::pin!(feed(stdin, &body, guarded));
        // A guard takes the end of its input for our death, so the pipe is held until the exit.
        let mut held = None;
        loop {
            tokio::select! {
                status = child.wait() => return status,
                pipe = &mut input, if held.is_none() => held = Some(pipe),
            }
        }
    };
    let status = {
        let mut output =
            std::pin::pin!(async { tokio::join!(keep_head(stdout, &mut out), keep_tail(stderr, &mut err)) });
        let mut exit = std::pin::pin!(exit);
        let mut is_read = false;
        let status = loop {
            tokio::select! {
                status = &mut exit => break status?,
                _ = &mut output, if !is_read => is_read = true,
            }
        };
        drop(group);
        if !is_read {
            let _ = tokio::time::timeout(OUTPUT_TIMEOUT, output).await;
        }
        status
    };
    Ok(Ended { status, stdout: out.into(), stderr: err.into() })
}

/// Writes the body; a command may exit without reading it. Returns the pipe where it must stay open.
async fn feed(mut stdin: ChildStdin, body: &[u8], guarded: bool) -> Option<ChildStdin> {
    if guarded {
        let length = (body.len() as u64).to_be_bytes();
        let _ = stdin.write_all(&length).await;
    }
    let _ = stdin.write_all(body).await;
    let _ = stdin.flush().await;
    guarded.then_some(stdin)
}

/// Reads to the end and keeps the first [`RESULT_BYTES_MAX`] bytes.
async fn keep_head(mut pipe: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let room = RESULT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

/// Reads to the end and keeps the last [`STDERR_BYTES_MAX`] bytes.
async fn keep_tail(mut pipe: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut buffer = vec![0; STDERR_BYTES_MAX];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
}

/// Says what an exit means for the run.
fn judge(ended: Ended) -> Answer {
    use std::os::unix::process::ExitStatusExt;
    let code = ended.status.code();
    let verdict = match code {
        Some(0) => Verdict::Done,
        Some(EXIT_FINAL) => Verdict::Fail,
        _ => Verdict::Retry { after: None },
    };
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let how = match (code, ended.status.signal()) {
        (Some(0), _) => String::new(),
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let note = match (how.is_empty(), stderr.trim_end()) {
        (_, "") => how,
        (true, stderr) => stderr.to_owned(),
        (false, stderr) => format!("{how}: {stderr}"),
    };
    Answer { verdict, status: code, note, answer: ended.stdout }
}

fn not_run(note: &str) -> Answer {
    Answer {
        verdict: Verdict::Retry { after: None },
        status: None,
        note: note.to_owned(),
        answer: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::tests::invocation;
    use super::*;

    /// How long a process may take to end, on however busy a machine.
    const FAR: Duration = Duration::from_secs(30);

    fn handler(command: &[&str]) -> ExecHandler {
        let command: Vec<_> = command.iter().map(|&part| part.to_owned()).collect();
        ExecHandler::new(&command, &[], Format::Binary, None).unwrap()
    }

    async fn check(
        script: &str,
        body: &str,
        verdict: Verdict,
        status: Option<i32>,
        note: &str,
        answer: &str,
    ) {
        let answered = handler(&["sh", "-c", script]).call(invocation(body)).await;
        let expected = Answer { verdict, status, note: note.into(), answer: answer.to_owned().into() };
        assert_eq!(answered, expected, "{script}");
    }

    const RETRY: Verdict = Verdict::Retry { after: None };

    #[tokio::test]
    async fn the_exit_code_decides_and_the_output_is_kept() {
        check("cat; echo log >&2", "body\n", Verdict::Done, Some(0), "log", "body\n").await;
        check("echo no >&2; exit 100", "", Verdict::Fail, Some(100), "exited with 100: no", "").await;
        check("exit 3", "", RETRY, Some(3), "exited with 3", "").await;
        check("kill -TERM $$", "", RETRY, None, "ended by signal 15", "").await;
    }

    #[tokio::test]
    async fn the_environment_is_cleared_but_for_what_is_named() {
        let answered = handler(&["env"]).call(invocation("")).await;
        let text = String::from_utf8(answered.answer.to_vec()).unwrap();
        for line in text.lines() {
            let name = line.split('=').next().unwrap();
            assert!(ENV_ALWAYS.contains(&name) || name.starts_with("HOOKKEEPER_"), "{line}");
        }
        for expected in ["HOOKKEEPER_EVENT_KIND=push", "HOOKKEEPER_TRIGGER=github", "HOOKKEEPER_ATTEMPT=2"] {
            assert!(text.lines().any(|line| line == expected), "{expected} in {text}");
        }
    }

    #[tokio::test]
    async fn a_command_that_does_not_exist_is_tried_again() {
        let answered = handler(&["/nonexistent/command"]).call(invocation("")).await;
        assert_eq!(answered.verdict, RETRY);
        assert!(answered.note.starts_with("cannot start /nonexistent/command"), "{}", answered.note);
    }

    #[tokio::test]
    async fn output_beyond_what_is_kept_is_drained() {
        let script = "yes | head -c 1000000; yes no | head -c 1000000 >&2; exit 3";
        let answered = handler(&["sh", "-c", script]).call(invocation("")).await;
        assert_eq!(answered.status, Some(3));
        assert_eq!(answered.answer.len(), RESULT_BYTES_MAX);
        assert!(answered.note.len() <= STDERR_BYTES_MAX + 20);
    }

    #[tokio::test]
    async fn a_large_body_that_is_not_read_blocks_nothing() {
        let body = "x".repeat(4 << 20);
        let answered = handler(&["true"]).call(invocation(&body)).await;
        assert_eq!(answered.verdict, Verdict::Done);
        let answered = handler(&["wc", "-c"]).call(invocation(&body)).await;
        assert_eq!(String::from_utf8_lossy(&answered.answer).trim(), body.len().to_string());
    }

    fn is_alive(pid: &str) -> bool {
        // A process that has ended but was not reaped by its parent yet is not alive.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
    }

    fn assert_ends(pid: &str) {
        let started = Instant::now();
        while is_alive(pid) {
            assert!(started.elapsed() < FAR, "the grandchild lives on");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn dropping_the_attempt_ends_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let handler = handler(&["sh", "-c", &script]);
        let mut call = handler.call(invocation(""));
        let pid = loop {
            if let Ok(pid) = std::fs::read_to_string(&file) {
                break pid;
            }
            assert!(tokio::time::timeout(Duration::from_millis(10), &mut call).await.is_err());
        };
        drop(call);
        assert_ends(pid.trim());
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_ends_with_it() {
        let started = Instant::now();
        let answered = handler(&["sh", "-c", "sleep 1000 & echo $!"]).call(invocation("")).await;
        assert_eq!(answered.verdict, Verdict::Done);
        assert!(started.elapsed() < FAR);
        assert_ends(String::from_utf8_lossy(&answered.answer).trim());
    }
}
