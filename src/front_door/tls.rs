//! TLS from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

use crate::config::Tls;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file does not hold what it should.
    #[error("cannot read {what} from {}: {source}", path.display())]
    Pem {
        /// Certificates or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The key is another certificate's.
    #[error("the key {} does not belong to the certificate {}", key.display(), cert.display())]
    Mismatch {
        /// The certificates' file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Certificate or key are broken, or are of a kind that is not supported.
    #[error("certificate {} and key {} do not serve: {source}", cert.display(), key.display())]
    Unusable {
        /// The certificates' file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Reads certificate chain and key.
///
/// # Errors
///
/// If a file cannot be read or is not PEM, or if certificate and key do not go together.
pub fn load(tls: &Tls) -> Result<rustls::ServerConfig, Error> {
    let pem = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pem { what, path, source }
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect)
        .and_then(|found: Vec<_>| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) })
        .map_err(pem("certificates", &tls.cert))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(pem("a private key", &tls.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key))
        .map_err(|source| {
            let (cert, key) = (tls.cert.clone(), tls.key.clone());
            match source {
                rustls::Error::InconsistentKeys(_) => Error::Mismatch { cert, key },
                source => Error::Unusable { cert, key, source },
            }
        })
}
