//! Keeps actors alive: rebuilds a panicked one from its factory, with backoff.
