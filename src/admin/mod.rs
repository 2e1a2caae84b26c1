//! The admin listener: API, health.
