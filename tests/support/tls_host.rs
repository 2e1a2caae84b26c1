//! A host that speaks https with a certificate of its own authority, and whose answers a test sets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long a test waits for the host.
const TIMEOUT: Duration = Duration::from_secs(30);

type Respond = dyn Fn(&Asked) -> String + Send + Sync;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method, and path with query.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    /// Returns the value of a header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }

    /// Reads the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

struct Inner {
    asked: Mutex<Vec<Asked>>,
    respond: Mutex<Box<Respond>>,
    gate: Mutex<Gate>,
    opened: Condvar,
}

/// What the host does of its own accord.
#[derive(PartialEq)]
enum Gate {
    /// It answers, and ends the connection.
    Open,
    /// It takes requests, and answers none.
    Held,
    /// It answers, and ends no connection.
    Stalled,
}

/// The host.
pub struct TlsHost {
    pub address: SocketAddr,
    /// The authority's certificate as PEM.
    pub ca: String,
    inner: Arc<Inner>,
}

impl TlsHost {
    /// Serves these names, and 404 until something else is set.
    pub fn start(names: &[&str]) -> Self {
        Self::start_until(names, 2100)
    }

    /// As [`start`](Self::start), with a certificate that ends with the given year's beginning.
    pub fn start_until(names: &[&str], year: i32) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inner = Arc::new(Inner {
            asked: Mutex::default(),
            respond: Mutex::new(Box::new(|_| answer(404, ""))),
            gate: Mutex::new(Gate::Open),
            opened: Condvar::new(),
        });
        let host =
            Self { address: listener.local_addr().unwrap(), ca: authority.pem(), inner: inner.clone() };
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (inner, config) = (inner.clone(), config.clone());
                std::thread::spawn(move || drop(serve(stream, config, &inner)));
            }
        });
        host
    }

    /// Sets what is answered: the bytes of an HTTP answer, made of method and path.
    pub fn respond(&self, respond: impl Fn(&str) -> String + Send + Sync + 'static) {
        self.respond_to(move |asked| respond(&asked.line));
    }

    /// Sets what is answered: the bytes of an HTTP answer, made of the whole request.
    pub fn respond_to(&self, respond: impl Fn(&Asked) -> String + Send + Sync + 'static) {
        *self.inner.respond.lock().unwrap() = Box::new(respond);
    }

    /// Answers everything with 200 and this body.
    pub fn serves(&self, body: &str) {
        let bytes = answer(200, body);
        self.respond(move |_| bytes.clone());
    }

    /// Takes requests, and answers none until [`open`](Self::open).
    pub fn hold(&self) {
        *self.inner.gate.lock().unwrap() = Gate::Held;
    }

    /// Answers, and ends no connection until [`open`](Self::open): what an answer lacks is waited for.
    pub fn stall(&self) {
        *self.inner.gate.lock().unwrap() = Gate::Stalled;
    }

    /// Answers what is held, and ends what is stalled.
    pub fn open(&self) {
        *self.inner.gate.lock().unwrap() = Gate::Open;
        self.inner.opened.notify_all();
    }

    /// Method, path and body of every request so far.
    pub fn asked(&self) -> Vec<String> {
        let told = |asked: &Asked| format!("{} {}", asked.line, asked.body).trim_end().to_owned();
        self.inner.asked.lock().unwrap().iter().map(told).collect()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// `[outbound]` of a configuration in `folder` that reaches these names here.
    pub fn outbound(&self, folder: &Path, names: &[&str]) -> String {
        std::fs::write(folder.join("ca.pem"), &self.ca).unwrap();
        let hosts: BTreeMap<&str, String> =
            names.iter().map(|name| (*name, self.address.to_string())).collect();
        format!(
            "[outbound]\nallow_private = [\"127.0.0.1\"]\nhosts = {}\nca = \"ca.pem\"\n",
            toml::Value::try_from(hosts).unwrap()
        )
    }
}

/// The bytes of an answer with further headers, each with its line end.
pub fn answer_with(status: u16, headers: &str, body: &str) -> String {
    answer(status, body).replacen("\r\n", &format!("\r\n{headers}"), 1)
}

/// The bytes of an answer.
pub fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

impl Inner {
    fn wait_while(&self, gate: Gate) {
        drop(self.opened.wait_timeout_while(self.gate.lock().unwrap(), TIMEOUT, |now| *now == gate));
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, inner: &Inner) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let asked = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut length, mut headers) = (0, Vec::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked = Asked { line: asked, headers, body: String::from_utf8_lossy(&body).into_owned() };
    inner.asked.lock().unwrap().push(asked.clone());
    inner.wait_while(Gate::Held);
    let bytes = (inner.respond.lock().unwrap())(&asked);
    let stream = reader.get_mut();
    stream.write_all(bytes.as_bytes())?;
    stream.flush()?;
    inner.wait_while(Gate::Stalled);
    stream.conn.send_close_notify();
    stream.flush()
}
