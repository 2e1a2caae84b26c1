//! Builds and wires everything; the only module that knows all others.
