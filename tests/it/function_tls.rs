//! Functions behind https whose receiver is none that may be trusted: the attempt's note says why, in words.

use hookkeeper::config::Format;
use hookkeeper::function::{Client, Handler, HttpHandler, Verdict};

use crate::exec_guard::invocation;
use crate::support::TlsHost;

/// Returns the note of an attempt.
async fn note(url: &str) -> String {
    let handler = HttpHandler::new(Client::new(), url, Format::Binary, &[], None).unwrap();
    let answered = handler.call(invocation(b"{}")).await;
    assert_eq!((answered.verdict, answered.status), (Verdict::Retry { after: None }, None));
    answered.note
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_told_with_how_to_trust_it() {
    let host = TlsHost::start(&["127.0.0.1"]);
    let expected = "cannot be reached: its certificate is of an authority that is not trusted; if it is your own, add \
                    the authority's certificate to those that the system trusts, or to the file that the variable \
                    SSL_CERT_FILE names";
    assert_eq!(note(&format!("https://{}/", host.address)).await, expected);
    assert!(host.asked().is_empty());
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    assert_eq!(note(&url).await, "cannot be reached: it does not speak TLS at this port");
}
