//! Ids that people choose: of providers, triggers and functions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest id that people may choose, in bytes. It is part of keys and run ids.
const NAME_BYTES_MAX: usize = 64;

/// Text that does not serve as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an id is 1 to {NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, '-' and '_', the first one a letter or digit"
)]
pub struct InvalidName;

fn check(text: &str) -> Result<(), InvalidName> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if first && rest && text.len() <= NAME_BYTES_MAX { Ok(()) } else { Err(InvalidName) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Cheap to clone; 1 to 64 characters of `a-z A-Z 0-9 - _`, the first a letter or digit.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the id of the given text.
            ///
            /// # Errors
            ///
            /// If the text does not serve as an id.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                check(text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// Returns the id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// The id of a provider: an external service that sends events, such as `github`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hookkeeper::ProviderId;
    ///
    /// assert_eq!(ProviderId::new("github").unwrap().as_str(), "github");
    /// assert!("no spaces".parse::<ProviderId>().is_err());
    /// ```
    ProviderId
}
name! {
    /// The id of a trigger: a configured activation of a provider.
    TriggerId
}
name! {
    /// The id of a function.
    FunctionId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_their_alphabet_and_length() {
        for good in ["a", "github", "Deploy_2-eu", "0", &"x".repeat(64)] {
            assert!(TriggerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(TriggerId::new(bad), Err(InvalidName), "{bad}");
        }
    }
}
