//! One supervised actor per provider: secrets, rate buckets, activation and handshake state.
