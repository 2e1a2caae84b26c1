//! Why TLS with a host does not come about, in words; what rustls says of it is the name of a type.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use rustls::CertificateError as Fault;

/// Says why the host or its certificate is refused, if that is what an error, or the one within it, is about.
/// `trust` says how an authority of one's own comes to be trusted.
pub(crate) fn refusal(error: &(dyn Error + 'static), trust: &str) -> Option<Cow<'static, str>> {
    // What an I/O error carries is not its source, but stands in its place.
    if let Some(within) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return refusal(within, trust);
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => Some(in_words(fault, trust)),
        // Such as a server of plain HTTP, which answers that it was sent nonsense.
        rustls::Error::InvalidMessage(_) => Some("it does not speak TLS at this port".into()),
        rustls::Error::PeerIncompatible(_) => Some("it speaks neither TLS 1.2 nor 1.3 as we do".into()),
        rustls::Error::AlertReceived(alert) => Some(format!("it refused TLS with us: {alert:?}").into()),
        _ => None,
    }
}

fn in_words(fault: &Fault, trust: &str) -> Cow<'static, str> {
    let words = match fault {
        // An authority of the same name, with another key, is another one.
        Fault::UnknownIssuer | Fault::BadSignature => {
            let untrusted = "its certificate is of an authority that is not trusted; if it is your own";
            return format!("{untrusted}, {trust}").into();
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        Fault::Expired | Fault::ExpiredContext { .. } => "its certificate has expired",
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this machine's clock right?"
        }
        Fault::Revoked => "its certificate was revoked",
        Fault::BadEncoding => "its certificate does not parse",
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => "its certificate is not a server's",
        // Such as one that is its own authority, which is what `openssl req -x509` makes.
        Fault::Other(why) => return format!("its certificate does not hold: {why}").into(),
        _ => "its certificate does not hold",
    };
    words.into()
}
