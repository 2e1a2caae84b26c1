//! Signature schemes, pure: bytes, headers, keys and now go in; verified, or a reason, comes out.
//!
//! A [`Scheme`] is compiled from the data of a catalogue entry and says where a proof stands
//! ([`Location`]), how its text is read ([`Syntax`]), what it covers ([`Template`]) and how it is
//! computed ([`Algorithm`], [`Key`]). Each of these is one file. The same scheme verifies what comes in
//! and signs what goes out, so that the two cannot drift apart.
//!
//! This module knows no catalogue, no network and no clock, and keeps no secret that a scheme does not
//! compute with.

mod algorithm;
mod encoding;
mod form;
mod hash;
mod items;
mod json;
pub(crate) mod json_text;
mod jwt;
mod key;
mod listed;
mod location;
mod multipart;
mod packed;
mod pipe;
mod private_key;
mod problem;
mod public_key;
mod scheme;
mod sign;
mod syntax;
mod template;
mod time;
mod values;
mod verify;

pub use algorithm::Algorithm;
pub use encoding::Encoding;
pub use hash::Hash;
pub use items::{ITEMS_MAX, items};
pub use json::{SIGNED_VALUE_BYTES_MAX, VALUE_BYTES_MAX};
pub use jwt::Alg;
pub use key::Key;
pub use location::{Location, Pointer};
pub use pipe::Filter;
pub use private_key::PrivateKey;
pub use problem::{KeyError, Problem};
pub use public_key::{Curve, PublicKey, Scheme as PublicScheme};
pub use scheme::{BindText, Scheme, SigningKey, Text};
pub use sign::{PROOF_MARK, Signed, with_query};
pub use syntax::{Field, Syntax};
pub use template::{Context, Template};
pub use time::Unit;
pub use values::{Fields, Found, Named, Request, Slot, Values};
pub use verify::{Proof, Window};

/// Text of a catalogue entry that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A location that is none of those that there are.
    #[error(
        "location {0:?} is none of header:NAME, query:NAME, form:NAME, json:/POINTER, item:/POINTER, \
         claim:NAME, packed:HEADER/POINTER, body"
    )]
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
