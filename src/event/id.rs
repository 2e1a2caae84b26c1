//! Ids of events and runs.

use std::fmt;
use std::str::FromStr;

use super::{FunctionId, InvalidName, Position};

/// Crockford's base 32, the alphabet of ULIDs.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Length of a ULID's text.
const TEXT_LEN: usize = 26;

/// The id of an event: a ULID (<https://github.com/ulid/spec>) issued by the log's committer.
///
/// 48 bits of milliseconds since 1970, the event's [`Position`] in 56 bits, 24 random bits. The
/// committer never lets the time part go back, so ids grow strictly, also across restarts and clock
/// steps, and the position in an id finds its event without an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

impl EventId {
    /// Builds the id of the event at `position`, issued at `time_ms` (milliseconds since 1970; only
    /// the low 48 bits count), with 24 bits of `random`.
    pub fn new(time_ms: u64, position: Position, random: u32) -> Self {
        let time = u128::from(time_ms & ((1 << 48) - 1));
        Self(time << 80 | u128::from(position.bits()) << 24 | u128::from(random & 0x00ff_ffff))
    }

    /// Returns the time of issue in milliseconds since 1970.
    pub fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Returns where in the log the event stands.
    pub fn position(self) -> Position {
        let bits = (self.0 >> 24) as u64 & ((1 << 56) - 1);
        Position::from_bits(bits).expect("masked to 56 bits above")
    }

    /// Returns the id's 128 bits.
    pub fn bits(self) -> u128 {
        self.0
    }

    /// Returns the id of the given bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; TEXT_LEN];
        for (i, slot) in text.iter_mut().enumerate() {
            let shift = 5 * (TEXT_LEN - 1 - i) as u32;
            *slot = ALPHABET[(self.0 >> shift) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id is 26 characters of Crockford's base 32, such as 01KAR5M2D40000000000000000")]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != TEXT_LEN || !text.is_ascii() || text.as_bytes()[0] > b'7' {
            return Err(ParseEventIdError);
        }
        text.bytes()
            .try_fold(0_u128, |bits, byte| {
                let digit = ALPHABET.iter().position(|c| *c == byte.to_ascii_uppercase());
                digit.map(|digit| bits << 5 | digit as u128).ok_or(ParseEventIdError)
            })
            .map(Self)
    }
}

impl serde::Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> serde::Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

/// The id of a run. It follows from event, function and generation, so that creating a run twice
/// changes nothing: `<event id>-<function id>-<generation>`.
///
/// Generation 1 is the live run; each replay or redelivery of the event adds one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// The event that the run is for.
    pub event: EventId,
    /// The function that runs.
    pub function: FunctionId,
    /// Counted from 1.
    pub generation: u32,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.event, self.function, self.generation)
    }
}

/// Text that is not a run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a run id is <event id>-<function id>-<generation>, such as 01KAR5M2D40000000000000000-deploy-1")]
pub struct ParseRunIdError;

impl From<InvalidName> for ParseRunIdError {
    fn from(_: InvalidName) -> Self {
        Self
    }
}

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (event, rest) = text.split_at_checked(TEXT_LEN).ok_or(ParseRunIdError)?;
        let rest = rest.strip_prefix('-').ok_or(ParseRunIdError)?;
        let (function, generation) = rest.rsplit_once('-').ok_or(ParseRunIdError)?;
        let generation = generation.parse().map_err(|_| ParseRunIdError)?;
        if generation == 0 {
            return Err(ParseRunIdError);
        }
        Ok(Self {
            event: event.parse().map_err(|_| ParseRunIdError)?,
            function: function.parse()?,
            generation,
        })
    }
}

impl serde::Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.event, &self.function, self.generation).serialize(serializer)
        }
    }
}

impl<'de> serde::Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            let (event, function, generation) = serde::Deserialize::deserialize(deserializer)?;
            Ok(Self { event, function, generation })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn event_id_text_round_trips_and_keeps_its_order(
            a in any::<(u64, u64, u32)>(), b in any::<(u64, u64, u32)>()
        ) {
            let id = |(time, bits, random): (u64, u64, u32)| {
                EventId::new(time, Position::from_bits(bits >> 8).unwrap(), random)
            };
            let (a, b) = (id(a), id(b));
            prop_assert_eq!(a.to_string().parse::<EventId>().unwrap(), a);
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn event_id_carries_its_position(time in 0_u64..1 << 48, frame in 0..=Position::FRAME_MAX, index in 0_usize..4096) {
            let id = EventId::new(time, Position::new(frame, index), u32::MAX);
            prop_assert_eq!(id.position(), Position::new(frame, index));
            prop_assert_eq!(id.time_ms(), time);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<EventId>();
            let _ = text.parse::<RunId>();
        }
    }

    #[test]
    fn run_id_round_trips_with_dashes_in_the_function() {
        let id = RunId {
            event: EventId::new(1, Position::new(7, 3), 5),
            function: "deploy-eu-1".parse().unwrap(),
            generation: 2,
        };
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
    }
}
