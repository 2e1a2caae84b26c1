//! Bytes that must not be shown.

use zeroize::Zeroizing;

/// What is shown in place of a secret.
const REDACTED: &str = "[redacted]";

/// The bytes of a secret. Shows nothing in `Debug`, `Display` and serde, compares in constant time. Clones share
/// the bytes, which are wiped when the last one is dropped.
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
        write!(f, "Secret({REDACTED})")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    /// Writes that there is one, so that a type that holds a secret may be shown.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
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
    fn no_way_of_writing_it_shows_anything() {
        #[derive(Debug, serde::Serialize)]
        struct Holder {
            secret: Secret,
            list: Vec<Secret>,
        }
        let secret = Secret::new("hunter2");
        let holder = Holder { secret: secret.clone(), list: vec![secret.clone()] };
        let json = serde_json::to_string(&holder).unwrap();
        let toml = toml::to_string(&holder).unwrap();
        for text in [format!("{secret:?}"), format!("{secret:#?}"), secret.to_string(), format!("{holder:?}")]
        {
            assert!(!text.contains("hunter2") && text.contains("redacted"), "{text}");
        }
        assert!(!json.contains("hunter2") && !toml.contains("hunter2"), "{json} {toml}");
    }

    #[test]
    fn clones_share_the_bytes() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.clone().expose().as_ptr(), secret.expose().as_ptr());
    }

    #[test]
    fn blank_secrets_are_recognised() {
        assert!(
            Secret::new("").is_blank() && Secret::new(" \n").is_blank() && Secret::new([0, 0]).is_blank()
        );
        assert!(!Secret::new("x").is_blank());
    }
}
