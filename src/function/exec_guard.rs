//! The process between hookkeeper and a function's command: sees to it that nothing of the command outlives
//! hookkeeper, not even when hookkeeper is killed with SIGKILL.
//!
//! hookkeeper starts itself as `hookkeeper exec-guard -- PROGRAM ARGS…`, as the leader of a new process group.
//! The guard's standard input carries the body's length (8 bytes, big endian), the body, and then nothing more:
//! it stays open for as long as hookkeeper lives, so that its end means hookkeeper's. The guard then kills its
//! whole group, itself included. Standard output and standard error go to the command as they are.
//!
//! What a command moves into a session of its own (`setsid`) is out of reach.

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Signal, kill_process_group};

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "exec-guard";
/// Exit code when the command cannot be started, as shells have it.
const EXIT_NOT_STARTED: u8 = 127;
/// Added to a signal's number where a signal ended the command, as shells have it.
const EXIT_SIGNAL_BASE: i32 = 128;

/// Runs as the guard; `args` are those after [`SUBCOMMAND`]: `--`, program, its arguments.
///
/// Returns the command's exit code; 127 if it cannot be started, 128 and the signal's number if one ended it.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut args = args.into_iter().skip_while(|arg| arg == "--");
    let Some(program) = args.next() else {
        return not_started("no command given");
    };
    let Some(body) = read_body(&mut std::io::stdin().lock()) else {
        return not_started("hookkeeper ended before the body was read");
    };
    let child = Command::new(&program).args(args).stdin(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return not_started(&format!("cannot start {}: {error}", program.to_string_lossy())),
    };
    let mut stdin = child.stdin.take().expect("asked for above");
    std::thread::spawn(move || {
        // A command that does not read its input is free not to.
        let _ = stdin.write_all(&body);
    });
    std::thread::spawn(watch);
    match child.wait() {
        Ok(status) => exit_code(status),
        Err(error) => not_started(&format!("cannot wait for the command: {error}")),
    }
}

/// Reads the length and the body, or nothing if the input ends before.
fn read_body(input: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 8];
    input.read_exact(&mut length).ok()?;
    let length = u64::from_be_bytes(length);
    let mut body = Vec::new();
    let read = input.take(length).read_to_end(&mut body).ok()?;
    (read as u64 == length).then_some(body)
}

/// Waits for hookkeeper's end, then ends the group.
fn watch() {
    let mut byte = [0; 1];
    loop {
        match std::io::stdin().lock().read(&mut byte) {
            Ok(0) => break,
            Err(error) if error.kind() != ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    // A guard that leads no group was not started by hookkeeper: it then ends nobody but itself.
    if rustix::process::getpgrp() == rustix::process::getpid() {
        let _ = kill_process_group(rustix::process::getpid(), Signal::KILL);
    }
    std::process::exit(EXIT_SIGNAL_BASE + Signal::KILL.as_raw());
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| EXIT_SIGNAL_BASE + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

#[allow(clippy::print_stderr, reason = "the guard's standard error is what hookkeeper keeps of an attempt")]
fn not_started(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(EXIT_NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cut_short_is_no_body() {
        let check = |input: &[u8], expected: Option<&[u8]>| {
            assert_eq!(read_body(&mut &*input).as_deref(), expected);
        };
        check(&[0, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'], Some(b"hi"));
        check(&[0, 0, 0, 0, 0, 0, 0, 0], Some(b""));
        check(&[0, 0, 0, 0, 0, 0, 0, 3, b'h', b'i'], None);
        check(&[0, 0, 0], None);
    }
}
