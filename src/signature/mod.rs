//! Signature schemes, pure: bytes, headers, keys and now go in; verified, or a reason, comes out.
//!
//! A [`Scheme`] is compiled from the data of a catalogue entry and says where a proof stands
//! ([`Location`]), how its text is read ([`Syntax`]), what it covers ([`Template`]) and how it is
//! computed ([`Key`]). Each of these is one file. The same scheme verifies what comes in and signs
//! what goes out, so that the two cannot drift apart.
//!
//! This module knows no catalogue, no network and no clock, and keeps no secret beyond the key
//! state that an HMAC needs.

mod encoding;
mod form;
mod json;
mod location;
mod mac;
mod pipe;
mod problem;
mod scheme;
mod syntax;
mod template;
mod time;
mod values;
mod verify;

pub use encoding::Encoding;
pub use json::VALUE_BYTES_MAX;
pub use location::{Location, Pointer};
pub use mac::{Algorithm, Key, Tag};
pub use pipe::Filter;
pub use problem::{KeyError, Problem};
pub use scheme::{Scheme, Text};
pub use syntax::{Field, Syntax};
pub use template::{Context, Template};
pub use time::Unit;
pub use values::{Fields, Found, Request, Slot, Values};
pub use verify::{Proof, Window};

/// Text of a catalogue entry that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A location that is none of `header:`, `query:`, `form:` and `json:/`.
    #[error("location {0:?} is none of header:NAME, query:NAME, form:NAME, json:/POINTER")]
    Location(String),
    /// A template whose braces or brackets do not match, or that names an unknown placeholder.
    #[error("template {text:?}: {what}")]
    Template {
        /// The template.
        text: String,
        /// What is wrong with it.
        what: String,
    },
    /// A pattern of a syntax that cannot be matched without guessing.
    #[error("syntax pattern {text:?}: {what}")]
    Syntax {
        /// The pattern.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A word that is not one of a fixed list.
    #[error("{what} {text:?} is none of {known}")]
    Word {
        /// What the word stands for, such as `encoding`.
        what: &'static str,
        /// The word.
        text: String,
        /// The words there are.
        known: &'static str,
    },
}
