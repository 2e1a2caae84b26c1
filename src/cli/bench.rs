//! `bench`: loads a server with signed deliveries.
//!
//! An open loop: deliveries are due at fixed times whatever the server does, and latency counts from the
//! time a delivery was due, not from when a connection was free for it. A server that stalls therefore
//! shows in every percentile, where a closed loop would simply send less. Bodies and signatures are
//! made ahead, so that the generator costs the machine little.

mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::wire::{Wire, find};
use super::render::{self, BOLD, RED, note, out};
use super::target::{Signed, Target, Wanted, fresh_id, sample};
use super::{ConfigFile, Told, Usage};
use crate::catalog::Sample;
use crate::clock::Clock;
use crate::config::parse_duration;
use crate::connector::{Rendered, render as render_sample};
use crate::event::{Header, Timestamp};

/// Greatest latency that is told apart, in microseconds: one minute.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Significant digits of latencies.
const DIGITS: u8 = 3;
/// How long after the end of the load answers are waited for.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause before a connection that failed is opened again.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);
/// Fewest and most deliveries per second of an open loop.
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1_000_000.0;
/// Most connections.
const CONNECTIONS_MAX: usize = 10_000;
/// Most memory that requests signed ahead take; beyond it there are fewer bodies.
const POOL_BYTES_MAX: usize = 512 * 1024 * 1024;

/// `bench`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hookkeeper bench                              as fast as the local server answers, for 10 s
  hookkeeper bench --rate 5000 --duration 60s   an open loop of 5,000 deliveries a second
  hookkeeper bench --connections 128 --body-size 7KB")]
pub(super) struct Bench {
    /// The provider to act as
    #[arg(default_value = "github")]
    provider: String,
    /// Deliveries per second; 0 sends as fast as answers come (a closed loop)
    #[arg(long, value_name = "COUNT", default_value_t = 0.0)]
    rate: f64,
    /// Connections, each kept open
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    connections: usize,
    /// How long
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    duration: String,
    /// Size of each body; the sample is filled up to it
    #[arg(long, value_name = "SIZE", default_value = "7KB")]
    body_size: String,
    /// Distinct bodies; each delivery has an id of its own all the same
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    bodies: usize,
    /// Bodies from the files in this folder, as they are, in place of the sample
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["body_size", "bodies"])]
    bodies_from: Option<PathBuf>,
    /// Kind of event [default: the provider's first sample]
    #[arg(long, value_name = "KIND")]
    event: Option<String>,
    /// Where to [default: the local server's trigger of this provider]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Sign with this: env:NAME, file:PATH, or the secret itself [default: the trigger's]
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// Take URL, secret and settings from this trigger [default: the provider's first]
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// A request of the pool.
enum Prepared {
    /// Signed ahead, ready for the wire; the id, which the signature does not cover, is replaced at this place.
    Signed {
        /// Head and body.
        bytes: Vec<u8>,
        /// Where the id stands in the head.
        id_at: usize,
    },
    /// The signature covers the delivery's id, so that each delivery is signed anew. Costs more.
    Anew { content: Content },
}

/// What a delivery's body is made of.
enum Content {
    /// The sample, filled up to a size with a text that tells this body from the others.
    Sample { bytes: usize, filler: String },
    /// The bytes of a file.
    File(Vec<u8>),
}

impl Content {
    fn body(&self, sample: Vec<u8>) -> Vec<u8> {
        match self {
            Content::Sample { bytes, filler } => fill_up(sample, *bytes, filler),
            Content::File(body) => body.clone(),
        }
    }
}

/// What all connections share.
struct Shared {
    address: String,
    target: Target,
    sample: Sample,
    pool: Vec<Prepared>,
    begun: Instant,
    end: Instant,
    /// Time between two deliveries; nothing for a closed loop.
    interval: Option<Duration>,
    next: AtomicU64,
    /// A permit for each delivery of an open loop that has become due.
    due: Semaphore,
    nonce: u64,
}

/// What a connection saw.
struct Seen {
    /// Latency from the time a delivery was due, in microseconds.
    latency: Histogram<u64>,
    accepted: u64,
    duplicates: u64,
    refused: u64,
    failed: u64,
    first_failure: Option<String>,
}

impl Seen {
    fn new() -> Self {
        let latency = Histogram::new_with_max(LATENCY_US_MAX, DIGITS).expect("the bounds are good");
        Self { latency, accepted: 0, duplicates: 0, refused: 0, failed: 0, first_failure: None }
    }

    fn add(&mut self, other: &Seen) {
        self.latency.add(&other.latency).expect("both have the same bounds");
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.failed += other.failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }
}

impl Bench {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let duration = parse_duration(&self.duration).filter(|it| !it.is_zero());
        let duration = duration.ok_or_else(|| Usage("--duration: write 10s, 1m".to_owned()))?;
        let size = crate::config::parse_size(&self.body_size).and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| Usage("--body-size: write 7KB, 1MB".to_owned()))?;
        let is_rate = self.rate == 0.0 || (RATE_MIN..=RATE_MAX).contains(&self.rate);
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) || self.bodies == 0 || !is_rate {
            return Err(Usage(format!(
                "use 1 to {CONNECTIONS_MAX} connections, 1 or more bodies, a rate of 0 or of {RATE_MIN} to {RATE_MAX}"
            ))
            .into());
        }
        let target = Target::find(Wanted {
            provider: &self.provider,
            url: self.url.as_deref(),
            secret: self.secret.as_deref(),
            invalid: false,
            trigger: self.trigger.as_deref(),
            config: &self.config,
        })
        .await?;
        if target.url.scheme() != "http" {
            return Err(Usage("the load is sent over plain HTTP: name an http:// URL".to_owned()).into());
        }
        let sample = sample(&target.entry, self.event.as_deref())?.clone();
        let pool = self.prepare(&target, &sample, size)?;
        let bodies = match &self.bodies_from {
            Some(folder) => format!("{} bodies of {}", pool.len(), folder.display()),
            None => format!("{} distinct bodies of {size} bytes", pool.len()),
        };
        let host = target.url.host_str().context("the URL has no host")?;
        let address = format!("{host}:{}", target.url.port_or_known_default().unwrap_or(80));
        let interval = (self.rate > 0.0).then(|| Duration::from_secs_f64(1.0 / self.rate));
        TcpStream::connect(&address).await.with_context(|| format!("nobody answers at {address}"))?;
        if !self.json {
            let rate = match interval {
                Some(_) => format!("{} per second", self.rate),
                None => "as fast as answers come".to_owned(),
            };
            let anew = pool.iter().any(|it| matches!(it, Prepared::Anew { .. }));
            let signed = if anew { "signed while sending" } else { "signed ahead" };
            note(format_args!("{rate}, {} connections, {bodies}, {signed}", self.connections));
        }
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        let begun = Instant::now();
        let shared = Arc::new(Shared {
            address,
            target,
            sample,
            pool,
            begun,
            end: begun + duration,
            interval,
            next: AtomicU64::new(0),
            due: Semaphore::new(0),
            nonce: u64::from_ne_bytes(nonce),
        });
        if let Some(interval) = interval {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || pace(&shared, interval));
        }
        let tasks: Vec<_> =
            (0..self.connections).map(|_| tokio::spawn(connection(Arc::clone(&shared)))).collect();
        let mut seen = Seen::new();
        for task in tasks {
            seen.add(&task.await?);
        }
        let took = begun.elapsed().min(duration + DRAIN);
        let unsent = unsent(&shared);
        self.tell(&seen, took, unsent)?;
        if seen.failed + seen.refused + unsent > 0 { Err(Told(1).into()) } else { Ok(()) }
    }

    /// Signs the bodies ahead, where that can be done.
    fn prepare(&self, target: &Target, sample: &Sample, size: usize) -> anyhow::Result<Vec<Prepared>> {
        let now = Clock::system().now();
        let prepare = |content: Content| {
            let id = fresh_id()?;
            let signed = delivery(target, sample, &content, &id, now)?;
            let other = delivery(target, sample, &content, &fresh_id()?, now)?;
            // All that two deliveries of one body may differ in is one header that is the id.
            let differs = |(a, b): &(&Header, &Header)| a != b;
            let differing: Vec<_> = signed.headers.iter().zip(&other.headers).filter(differs).collect();
            let id_alone = differing.len() == 1 && differing[0].0.1.as_ref() == id.as_bytes();
            if signed.body != other.body || !id_alone {
                return Ok(Prepared::Anew { content });
            }
            let mut bytes = head(target, &signed);
            let id_at = find(&bytes, id.as_bytes()).context("the id stands in the head")?;
            bytes.extend_from_slice(&signed.body);
            Ok(Prepared::Signed { bytes, id_at })
        };
        if let Some(folder) = &self.bodies_from {
            return files(folder)?.into_iter().map(|body| prepare(Content::File(body))).collect();
        }
        let count = self.bodies.min(POOL_BYTES_MAX / size.max(1)).max(1);
        let filled = |_| prepare(Content::Sample { bytes: size, filler: fresh_id()? });
        (0..count).map(filled).collect()
    }

    fn tell(&self, seen: &Seen, took: Duration, unsent: u64) -> anyhow::Result<()> {
        let answered = seen.accepted + seen.duplicates + seen.refused;
        let per_second = answered as f64 / took.as_secs_f64();
        let at = |quantile: f64| seen.latency.value_at_quantile(quantile);
        if self.json {
            return render::json(&json!({
                "accepted": seen.accepted,
                "duplicates": seen.duplicates,
                "refused": seen.refused,
                "failed": seen.failed,
                "unsent": unsent,
                "seconds": took.as_secs_f64(),
                "per_second": per_second,
                "latency_us": {
                    "mean": seen.latency.mean(),
                    "p50": at(0.5),
                    "p90": at(0.9),
                    "p99": at(0.99),
                    "p999": at(0.999),
                    "max": seen.latency.max(),
                },
            }));
        }
        let mut out = out();
        writeln!(out, "{BOLD}{per_second:.0} deliveries/s{BOLD:#} over {:.1} s", took.as_secs_f64())?;
        writeln!(out, "  accepted    {}", seen.accepted)?;
        for (what, count) in [
            ("duplicates", seen.duplicates),
            ("refused", seen.refused),
            ("failed", seen.failed),
            ("unsent", unsent),
        ] {
            if count > 0 {
                writeln!(out, "  {RED}{what:<10}{RED:#}  {count}")?;
            }
        }
        if let Some(failure) = &seen.first_failure {
            writeln!(out, "  first failure: {failure}")?;
        }
        let from = if self.rate > 0.0 { "from the time each was due" } else { "from the time each was sent" };
        writeln!(out, "  latency, {from}:")?;
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            writeln!(out, "    {name:<6}  {}", render::micros(at(quantile)))?;
        }
        Ok(writeln!(out, "    max     {}", render::micros(seen.latency.max()))?)
    }
}

/// Signs one delivery.
fn delivery(
    target: &Target,
    sample: &Sample,
    content: &Content,
    id: &str,
    now: Timestamp,
) -> anyhow::Result<Signed> {
    let rendered = render_sample(sample, id, now);
    let body = content.body(rendered.body);
    target.sign(Rendered { body, ..rendered }, Some(&sample.kind), id, now)
}

/// Reads the files of a folder, by name, as far as they fit the pool.
fn files(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let reading = || format!("reading the bodies in {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(reading)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let (mut bodies, mut room) = (Vec::new(), POOL_BYTES_MAX);
    for path in paths {
        let body = std::fs::read(&path).with_context(reading)?;
        let Some(left) = room.checked_sub(body.len()) else { break };
        room = left;
        bodies.push(body);
    }
    anyhow::ensure!(!bodies.is_empty(), "there is no file in {}", folder.display());
    Ok(bodies)
}

/// Fills a JSON object up to a size with a text of its own, so that no two bodies are alike.
fn fill_up(body: Vec<u8>, size: usize, filler: &str) -> Vec<u8> {
    let end = body.iter().rposition(|byte| *byte == b'}').filter(|_| body.first() == Some(&b'{'));
    let (Some(end), true) = (end, body.len() + 16 < size) else { return body };
    let mut filled = body[..end].to_vec();
    filled.extend_from_slice(b",\"filler\":\"");
    let text = format!("the quick brown fox of {filler} jumps over the lazy dog; ");
    let missing = size.saturating_sub(filled.len() + 2);
    filled.extend(text.bytes().cycle().take(missing));
    filled.extend_from_slice(b"\"}");
    filled
}

/// Lays out the head of a request.
fn head(target: &Target, signed: &Signed) -> Vec<u8> {
    let (method, path) = (&signed.method, &signed.path);
    let (host, length) = (target.url.host_str().unwrap_or_default(), signed.body.len());
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n").into_bytes();
    for (name, value) in &signed.headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

impl Shared {
    /// Returns the next delivery's number and the time it is due; nothing once the load is over.
    fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = match self.interval {
            Some(interval) => self.due_at(interval, number),
            None => Instant::now(),
        };
        (due < self.end).then_some((number, due))
    }

    /// Returns when a delivery of an open loop is due. There is a permit for each that is due before the end, so that
    /// whoever takes one is let go.
    fn due_at(&self, interval: Duration, number: u64) -> Instant {
        self.begun + interval.mul_f64(number as f64)
    }
}

/// Counts deliveries that were due but never sent, as the load was over when their turn came.
fn unsent(shared: &Shared) -> u64 {
    let Some(interval) = shared.interval else { return 0 };
    let due = ((shared.end - shared.begun).as_secs_f64() / interval.as_secs_f64()).ceil() as u64;
    due.saturating_sub(shared.next.load(Ordering::Relaxed))
}

/// Lets each delivery of an open loop go when it is due. A thread of its own wakes within some tens of microseconds;
/// the runtime's timer would send all that is due within a millisecond at once, as no provider does.
fn pace(shared: &Shared, interval: Duration) {
    let due = (0..).map(|number| shared.due_at(interval, number));
    for due in due.take_while(|due| *due < shared.end) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        shared.due.add_permits(1);
    }
}

/// Drives one connection until the load is over.
async fn connection(shared: Arc<Shared>) -> Seen {
    let mut seen = Seen::new();
    let mut open: Option<Wire> = None;
    while let Some((number, due)) = shared.take() {
        let mut from = due;
        if shared.interval.is_some() && shared.due.try_acquire().map(SemaphorePermit::forget).is_err() {
            shared.due.acquire().await.expect("it is never closed").forget();
            // The connection was free in time: that it was woken late is not the server's doing.
            from = Instant::now();
        }
        if Instant::now() > shared.end + DRAIN {
            break;
        }
        match deliver(&shared, &mut open, number).await {
            Ok(answer) => {
                let us = u64::try_from(from.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX);
                seen.latency.saturating_record(us);
                match answer {
                    Outcome::Accepted => seen.accepted += 1,
                    Outcome::Duplicate => seen.duplicates += 1,
                    Outcome::Refused(status) => {
                        seen.refused += 1;
                        seen.first_failure.get_or_insert_with(|| format!("status {status}"));
                    }
                }
            }
            Err(error) => {
                open = None;
                seen.failed += 1;
                seen.first_failure.get_or_insert_with(|| error.to_string());
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        }
    }
    seen
}

enum Outcome {
    Accepted,
    Duplicate,
    Refused(u16),
}

async fn deliver(shared: &Shared, open: &mut Option<Wire>, number: u64) -> std::io::Result<Outcome> {
    let wire = match open {
        Some(wire) => wire,
        None => open.insert(Wire::open(&shared.address).await?),
    };
    // No two alike, and as long as the id that stands in the request: 36 characters.
    let id = format!("{:016x}-{number:019}", shared.nonce);
    match &shared.pool[usize::try_from(number).unwrap_or(0) % shared.pool.len()] {
        Prepared::Signed { bytes, id_at } => {
            wire.request.clear();
            wire.request.extend_from_slice(bytes);
            wire.request[*id_at..id_at + id.len()].copy_from_slice(id.as_bytes());
        }
        Prepared::Anew { content } => {
            let (target, now) = (&shared.target, Clock::system().now());
            let signed = delivery(target, &shared.sample, content, &id, now);
            let signed = signed.map_err(std::io::Error::other)?;
            wire.request = head(target, &signed);
            wire.request.extend_from_slice(&signed.body);
        }
    }
    let answer = wire.exchange().await?;
    if answer.closes {
        *open = None;
    }
    Ok(match answer.status {
        200..=299 if answer.is_duplicate => Outcome::Duplicate,
        200..=299 => Outcome::Accepted,
        status => Outcome::Refused(status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_filled_up_to_their_size() {
        let filled = fill_up(br#"{"a":1}"#.to_vec(), 200, "id");
        assert_eq!(filled.len(), 200);
        assert!(serde_json::from_slice::<serde_json::Value>(&filled).is_ok());
        assert_eq!(fill_up(b"[1]".to_vec(), 200, "id"), b"[1]");
        assert_eq!(fill_up(b"{}".to_vec(), 5, "id"), b"{}");
    }

    #[test]
    fn bodies_of_a_folder_are_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        assert!(files(folder.path()).is_err(), "an empty folder gives no load");
        std::fs::write(folder.path().join("b"), "two").unwrap();
        std::fs::write(folder.path().join("a"), [0, 255]).unwrap();
        std::fs::create_dir(folder.path().join("c")).unwrap();
        assert_eq!(files(folder.path()).unwrap(), [vec![0, 255], b"two".to_vec()]);
        assert_eq!(Content::File(b"two".to_vec()).body(b"{}".to_vec()), b"two");
    }

    #[test]
    fn replacement_ids_are_as_long_as_the_ones_they_replace() {
        assert_eq!(format!("{:016x}-{:019}", 0, 1_000_000).len(), fresh_id().unwrap().len());
    }
}
