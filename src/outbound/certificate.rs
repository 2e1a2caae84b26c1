//! Why a host's certificate is refused, in words; what rustls says of it is a type's name.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use rustls::CertificateError as Fault;

/// Says why the certificate is refused, if that is what an error, or the one within it, is about.
pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<Cow<'static, str>> {
    // What an I/O error carries is not its source, but stands in its place.
    if let Some(within) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return refusal(within);
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => Some(in_words(fault)),
        _ => None,
    }
}

fn in_words(fault: &Fault) -> Cow<'static, str> {
    let words = match fault {
        // An authority of the same name, with another key, is another one.
        Fault::UnknownIssuer | Fault::BadSignature => {
            "its certificate is of an authority that is not trusted; if it is your own, name the authority's \
             certificate in outbound.ca"
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
