//! The conformance kit: what must hold of every provider, checked of an entry alone or with vectors.
//!
//! For whoever adds a provider, as a file of the catalogue or as a `[[providers]]` table; the catalogue's own
//! tests and `providers test` run the same suite. It needs no server and no network.
//!
//! - [`run`] checks an entry: it compiles, its samples sign, verify and have their kinds, a changed byte or
//!   a foreign secret does not verify, the window is exact to the second, every secret of a rotation list
//!   serves, and each [`Vector`] has its outcome.
//! - [`run_connector`] checks a [`Connector`](crate::connector::Connector) that is code, with vectors as its
//!   fixtures; what does not depend on how a connector came about, [`run`] checks as well.
//! - [`Vector`] is one captured request and what must become of it; its fields are the form of
//!   `vectors.toml`.
//! - [`Pair`] signs as the provider does and verifies as a trigger does, for tests of one's own.
//!
//! # Effects
//!
//! Verifying and normalizing have no effects: time, keys, secrets and the audit sink are handed in, and the same request is judged
//! the same whenever and wherever it is. What of that is enforced:
//!
//! - Requests are judged on a thread without an async runtime: a task, a timer or a socket of tokio's panics there.
//! - The thread's counters must not move: reads and writes (of files, pipes, the terminal; asking DNS reads files) and
//!   waits (for the network, a device, a timer, another thread). Linux has them; elsewhere the check is skipped.
//! - The clock that the connector was given jumps by a year between two judgements of the same request, which must be
//!   equal, as must that of another connector built anew. Vectors are mostly years old: a connector that
//!   asks the system for the time finds their signatures outdated.
//! - Nothing may be appended to the connector's log.
//! - A rejection is told to the sink that was handed in, or to nobody: with the reason that the sender hears, and no secret.
//!
//! Not seen is: the system's clock where no signed time depends on it, environment variables, a packet sent
//! without waiting for anything, a thread of the connector's own, and what only a request that no vector shows sets off.
//!
//! # Examples
//!
//! ```
//! use hookkeeper::catalog::ProviderCatalog;
//! use hookkeeper::testkit;
//!
//! let catalog = ProviderCatalog::with_user_entries(&[r#"
//!     id = "acme"
//!     [signature]
//!     sig = "header:X-Acme-Signature"
//!     syntax = ["sha256={sig}"]
//!     [event]
//!     kind = ["{json:/type}"]
//!     delivery = ["json:/id"]
//!     [[samples]]
//!     kind = "order.paid"
//!     body = '{"type":"order.paid","id":"@id@"}'
//! "#])?;
//! let vectors = testkit::Vector::parse(r#"
//!     [[vectors]]
//!     what = "nobody signed it"
//!     source = "ours"
//!     secrets = ["hunter2"]
//!     headers = []
//!     body = "{}"
//!     at = 1700000000
//!     expect = { state = "rejected", reason = "missing_header" }
//!
//!     [[vectors]]
//!     what = "an order was paid"
//!     source = "made with Python's hmac"
//!     secrets = ["hunter2"]
//!     headers = [["X-Acme-Signature", "sha256=87fe5626ec2f2a429777b7075eaf3b88c7f30162366a8ff7195ae046743f9e07"]]
//!     body = '{"type":"order.paid","id":"1"}'
//!     at = 1700000000
//!     expect = { state = "verified", kind = "order.paid", dedupe_key = "1" }
//! "#)?;
//! let report = testkit::run(catalog.get("acme").expect("it was just defined"), &vectors);
//! assert!(report.passed(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod audit;
mod connector;
mod effects;
mod fixture;
mod pair;
mod suite;
mod vector;

pub use connector::{Subject, run_connector};
pub use pair::{Pair, Refused};
pub use suite::{Check, Outcome, Report, run};
pub use vector::{At, Expect, ExpectedEvent, ExpectedLearn, ExpectedReply, State, Vector, VectorError};
