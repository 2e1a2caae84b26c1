//! Bounds that several modules share, each with its unit.
