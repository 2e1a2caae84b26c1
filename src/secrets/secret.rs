//! Bytes that must not be shown.

use zeroize::Zeroizing;

/// The bytes of a secret. Shows nothing in `Debug`, compares in constant time, is wiped when dropped.
#[derive(Clone)]
pub struct Secret(std::sync::Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes of a secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(std::sync::Arc::new(Zeroizing::new(bytes.into())))
    }

    /// Returns the bytes, for the one place that computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Tells whether the secret cannot protect anything: empty, blank, or all NUL.
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }

    #[test]
    fn blank_secrets_are_recognised() {
        assert!(
            Secret::new("").is_blank() && Secret::new(" \n").is_blank() && Secret::new([0, 0]).is_blank()
        );
        assert!(!Secret::new("x").is_blank());
    }
}
