//! The command line: one file per subcommand, `render` for what people read.
//!
//! Data goes to stdout, all else to stderr. Commands that list things get the same JSON items from a
//! running server's admin API and from a stopped server's folder (`source`), and only render them.

mod arguments;
mod bench;
mod call;
mod check;
mod client;
mod dead_letters;
mod doctor;
mod events;
mod functions;
mod init;
mod knowledge;
mod log;
mod print_event;
mod providers;
mod quarantine;
mod render;
mod replay;
mod runs;
mod secrets;
mod send;
mod serve;
mod settings;
mod source;
mod target;
mod test_key;
mod triggers;
mod verify;
mod why;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::connector::ConnectorRegistry;
use crate::function::exec_guard;

/// A durable webhook runtime: every delivery is verified, stored before it is acknowledged, and handed to
/// functions that are retried, dead-lettered and replayable.
#[derive(Parser)]
#[command(name = "hookkeeper", version, propagate_version = true, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  hookkeeper serve                    run the built-in quick start in this folder
  hookkeeper send github              in a second shell: send a signed sample event
  hookkeeper events list              see what came in; `why ID` tells its whole account
  hookkeeper init                     write a commented hookkeeper.toml to start from

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Write a commented starter configuration
    Init(init::Init),
    /// Validate a configuration: every problem in one run
    Check(check::Check),
    /// Send a delivery, signed exactly as the provider signs it
    Send(send::Send),
    /// Check a captured request offline, and explain a failure
    Verify(verify::Verify),
    /// What came in
    #[command(subcommand)]
    Events(events::Events),
    /// What functions did with it
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Runs that used up their attempts or failed for good
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Deliveries that were refused, kept sealed
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// Start new runs of stored events
    Replay(replay::Replay),
    /// Tell the whole account of an event or run
    Why(why::Why),
    /// Services whose webhooks are understood
    #[command(subcommand)]
    Providers(providers::Providers),
    /// Call a method of a provider's API; without one, list them
    Call(call::Call),
    /// Configured activations of providers
    #[command(subcommand)]
    Triggers(triggers::Triggers),
    /// What runs on events
    #[command(subcommand)]
    Functions(functions::Functions),
    /// Secrets that hookkeeper keeps sealed
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Read the log itself
    #[command(subcommand)]
    Log(log::Log),
    /// Look for what is wrong with a stopped server's folder
    Doctor(doctor::Doctor),
    /// Load a running server with signed deliveries; throughput and latency
    Bench(bench::Bench),
    /// Print one line for the event on stdin: the quick start's function
    #[command(hide = true)]
    PrintEvent,
    /// End a command's process group when hookkeeper dies
    #[command(hide = true)]
    ExecGuard(ExecGuard),
}

/// What the guard passes through.
#[derive(Args)]
struct ExecGuard {
    /// The guard's own arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// How a command reaches what it talks about.
#[derive(Args, Clone, Default)]
struct Reach {
    /// Admin API of a running server [default: the configuration's address]
    #[arg(
        long,
        value_name = "URL",
        env = "HOOKKEEPER_ADMIN",
        hide_env_values = true,
        help_heading = "Where"
    )]
    admin: Option<String>,
    /// Data folder of a stopped server
    #[arg(long, value_name = "FOLDER", help_heading = "Where")]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Which configuration a command reads.
#[derive(Args, Clone, Default)]
struct ConfigFile {
    /// Configuration file [default: hookkeeper.toml, if there is one]
    #[arg(
        long = "config",
        short = 'c',
        value_name = "FILE",
        env = "HOOKKEEPER_CONFIG",
        help_heading = "Where"
    )]
    path: Option<PathBuf>,
}

/// Wrong usage or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// A failure that has been told already: only the exit code is left.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
struct Told(u8);

/// As [`main`], with connectors in code: a program of one's own that is hookkeeper and more.
///
/// `register` is called whenever a catalogue has been read; what it registers can be used in configurations
/// like any provider, and is served, checked and listed.
///
/// # Examples
///
/// ```no_run
/// use hookkeeper::catalog::ProviderCatalog;
/// use hookkeeper::connector::CatalogConnector;
///
/// fn main() -> std::process::ExitCode {
///     hookkeeper::cli::main_with(|registry| {
///         let github = ProviderCatalog::built_in().get("github").unwrap().clone();
///         // A connector of your own stands here.
///         registry.register(move || Box::new(CatalogConnector::new(github.clone())));
///     })
/// }
/// ```
///
/// # Panics
///
/// If it is called twice.
pub fn main_with(register: impl Fn(&mut ConnectorRegistry) + Send + Sync + 'static) -> ExitCode {
    main_with_arguments(std::env::args_os(), register)
}

/// As [`main_with`], for a program that is hookkeeper only when it is told to: `arguments` begin with the
/// program's name.
///
/// # Panics
///
/// If it is called twice.
pub fn main_with_arguments(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    register: impl Fn(&mut ConnectorRegistry) + Send + Sync + 'static,
) -> ExitCode {
    let is_first = settings::REGISTER.set(Box::new(register)).is_ok();
    assert!(is_first, "a program has one command line");
    perform(Cli::parse_from(arguments))
}

/// Reads the arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    perform(Cli::parse())
}

fn perform(cli: Cli) -> ExitCode {
    match cli.command {
        // The command's exit code is the guard's own.
        Command::ExecGuard(guard) => exec_guard::main(guard.arguments),
        command => match run(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit_code(&error),
        },
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Check(command) => block_on(command.run()),
        Command::Send(command) => block_on(command.run()),
        Command::Verify(command) => command.run(),
        Command::Events(command) => block_on(command.run()),
        Command::Runs(command) => block_on(command.run()),
        Command::DeadLetters(command) => block_on(command.run()),
        Command::Quarantine(command) => block_on(command.run()),
        Command::Replay(command) => block_on(command.run()),
        Command::Why(command) => block_on(command.run()),
        Command::Providers(command) => block_on(command.run()),
        Command::Call(command) => block_on(command.run()),
        Command::Triggers(command) => block_on(command.run()),
        Command::Functions(command) => block_on(command.run()),
        Command::Secrets(command) => block_on(command.run()),
        Command::Log(command) => block_on(command.run()),
        Command::Doctor(command) => command.run(),
        Command::Bench(command) => block_on(command.run()),
        Command::PrintEvent => print_event::run(),
        Command::ExecGuard(_) => unreachable!("the caller takes it"),
    }
}

/// Runs a command that waits for the network.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Tells what went wrong, and returns the exit code for it.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(Told(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    // Who closed the pipe has read enough: `events list | head`.
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    render::error(error);
    if error.downcast_ref::<Usage>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            for argument in command.get_arguments() {
                let help = argument.get_help();
                assert!(help.is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        Cli::command().get_subcommands().for_each(walk);
    }

    #[test]
    fn what_stands_below_a_help_is_broken_into_lines_by_the_terminal_alone() {
        fn walk(command: &clap::Command) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
            let lines: Vec<_> = text.lines().collect();
            for pair in lines.windows(2).filter(|pair| !pair[0].ends_with(':')) {
                assert!(!is_prose(pair[0]) || !is_prose(pair[1]), "{}: {pair:?}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
