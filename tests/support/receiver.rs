//! A function's endpoint whose answers a test sets, and which remembers what it got.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Delivery {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

type Respond = dyn Fn(&Delivery, usize) -> String + Send + Sync;

struct Inner {
    got: Mutex<Vec<Delivery>>,
    arrived: Condvar,
    respond: Box<Respond>,
}

/// An HTTP server on a free port.
#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl Receiver {
    /// Answers 200 to everything.
    pub fn start() -> Self {
        Self::answering(|_, _| ok())
    }

    /// Answers with what `respond` makes of a delivery and its number, counted from 0: the bytes of
    /// an HTTP answer.
    pub fn answering(respond: impl Fn(&Delivery, usize) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner =
            Arc::new(Inner { got: Mutex::default(), arrived: Condvar::new(), respond: Box::new(respond) });
        let receiver = Self { address, inner: inner.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let inner = inner.clone();
                std::thread::spawn(move || serve(stream, &inner));
            }
        });
        receiver
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn got(&self) -> Vec<Delivery> {
        self.inner.got.lock().unwrap().clone()
    }

    /// Waits until at least `count` deliveries arrived, and returns all.
    pub fn wait_for(&self, count: usize) -> Vec<Delivery> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut got = self.inner.got.lock().unwrap();
        while got.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} deliveries arrived in 30 s", got.len());
            got = self.inner.arrived.wait_timeout(got, left).unwrap().0;
        }
        got.clone()
    }
}

/// The bytes of an answer 200.
pub fn ok() -> String {
    status(200, "")
}

/// The bytes of an answer with further header lines, each ending in CR LF.
pub fn status(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n")
}

fn serve(stream: TcpStream, inner: &Inner) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(delivery) = read(&mut reader) {
        let number = {
            let mut got = inner.got.lock().unwrap();
            got.push(delivery.clone());
            inner.arrived.notify_all();
            got.len() - 1
        };
        let answer = (inner.respond)(&delivery, number);
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Delivery> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        let line = String::from_utf8_lossy(&line);
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut delivery = Delivery { path, headers, body: Vec::new() };
    let length = delivery.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    delivery.body.resize(length, 0);
    reader.read_exact(&mut delivery.body).ok()?;
    Some(delivery)
}
