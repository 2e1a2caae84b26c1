//! Which functions an event starts, and why not the others: pure.
