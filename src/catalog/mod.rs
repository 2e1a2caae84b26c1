//! The one list of providers that code, API, CLI and docs read.
