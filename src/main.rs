//! The binary: arguments, mode, exit code.

fn main() -> std::process::ExitCode {
    hookkeeper::cli::main()
}
