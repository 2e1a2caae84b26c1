//! Signature schemes, pure: bytes, headers, secrets and now in; verified or a reason out.
