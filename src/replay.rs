//! Stored events become new runs.
