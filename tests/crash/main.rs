//! Tests that start and kill the real server.
