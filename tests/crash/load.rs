//! Signed load from several connections, and the account of what was acknowledged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::powercut::Random;
use crate::support::{Connection, Receiver, Server, github};

/// Connections that send at once.
const CONNECTIONS: u64 = 4;

/// What was acknowledged: delivery id → event id and body.
pub(crate) type Acked = HashMap<String, (String, Vec<u8>)>;

/// Returns how many cycles a crash test runs.
pub(crate) fn cycles() -> u64 {
    std::env::var("HOOKKEEPER_CRASH_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// Returns the seed of a test's random choices, and prints it so that a failure can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("HOOKKEEPER_CRASH_SEED").ok().and_then(|n| n.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    eprintln!("{test}: HOOKKEEPER_CRASH_SEED={seed}");
    seed
}

/// Senders that go on until they are stopped or the server is gone.
pub(crate) struct Load {
    next: Arc<AtomicU64>,
    acked: Arc<Mutex<Acked>>,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self { next: Arc::default(), acked: Arc::default() }
    }

    pub(crate) fn acked(&self) -> Acked {
        self.acked.lock().unwrap().clone()
    }

    /// Starts senders; each sends new events one after the other until an error or `stop`.
    pub(crate) fn send(&self, front: SocketAddr, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
        let sender = |_| {
            let (next, acked, stop) = (self.next.clone(), self.acked.clone(), stop.clone());
            std::thread::spawn(move || {
                let Ok(mut connection) = Connection::open(front) else { return };
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (delivery, body) = delivery(number);
                    let Ok(answer) = github(&mut connection, "push", &delivery, &body) else { return };
                    if answer.status == 200 {
                        let id = answer.header("x-hookkeeper-event-id").unwrap().to_owned();
                        acked.lock().unwrap().insert(delivery, (id, body));
                    }
                }
            })
        };
        (0..CONNECTIONS).map(sender).collect()
    }

    /// Sends every delivery so far again, as a provider does that saw no answer; an event that was
    /// acknowledged must keep its id.
    pub(crate) fn redeliver_unacked(&self, server: &Server) {
        let mut connection = Connection::open(server.front).unwrap();
        let acked = self.acked();
        for number in 0..self.next.load(Ordering::Relaxed) {
            let (id, body) = delivery(number);
            if acked.contains_key(&id) {
                continue;
            }
            let answer = github(&mut connection, "push", &id, &body).unwrap();
            assert_eq!(answer.status, 200, "redelivery of {id}: {}", answer.text());
            let event = answer.header("x-hookkeeper-event-id").unwrap().to_owned();
            self.acked.lock().unwrap().insert(id, (event, body));
        }
    }

    /// Checks every promise about what was acknowledged.
    pub(crate) fn check(&self, server: &Server, receiver: &Receiver) {
        let acked = self.acked();
        let stored = stored_events(server);
        for (delivery, (id, body)) in &acked {
            let found = stored.get(delivery).map(Vec::as_slice).unwrap_or_default();
            assert_eq!(
                found,
                std::slice::from_ref(id),
                "acknowledged delivery {delivery} is stored once under its id"
            );
            let answer = server.get(&format!("/api/v1/events/{id}/body"));
            assert_eq!((answer.status, &answer.body), (200, body), "body of {delivery}, byte for byte");
        }
        for (delivery, ids) in &stored {
            assert_eq!(ids.len(), 1, "delivery {delivery} is stored once, not as {ids:?}");
        }
        server.wait("every acknowledged event to reach its function", |_| {
            let got = receiver.got();
            let delivered: std::collections::HashSet<_> =
                got.iter().filter_map(|d| d.header("ce-id")).collect();
            acked.values().all(|(id, _)| delivered.contains(id.as_str()))
        });
        eprintln!("{} events acknowledged, {} stored", acked.len(), stored.len());
    }
}

/// Returns delivery id and body of the event of that number; bodies differ and have odd bytes.
fn delivery(number: u64) -> (String, Vec<u8>) {
    let mut random = Random((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let filler: String = (0..random.below(3000)).map(|_| char::from(33 + random.below(90) as u8)).collect();
    let text = serde_json::json!({ "number": number, "ref": "refs/heads/main", "filler": filler });
    (format!("delivery-{number}"), format!(" {text}\t\r\n").into_bytes())
}

/// Lists all stored events: delivery id → event ids.
pub(crate) fn stored_events(server: &Server) -> HashMap<String, Vec<String>> {
    let mut stored: HashMap<String, Vec<String>> = HashMap::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/api/v1/events?limit=500{cursor}")).json();
        for event in page["items"].as_array().unwrap() {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            stored.entry(text("dedupe_key")).or_default().push(text("id"));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return stored,
        }
    }
}
