//! The binary: arguments, mode, exit code.

fn main() {}
