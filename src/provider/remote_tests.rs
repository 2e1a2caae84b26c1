//! Tests of what is decided for whoever asks, and of the flights; time is set, nothing sleeps.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

const START: i64 = 1_700_000_000;
const LIFETIME: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

/// A host whose answers are set, and a cache before it.
struct Host {
    remote: Remote<u32>,
    clock: Clock,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Result<u32, String>>>,
}

impl Host {
    fn new() -> Self {
        let clock = Clock::fixed(at(0));
        let answer = Arc::new(Mutex::new(Ok(1)));
        Self { remote: Remote::new(clock.clone()), clock, asked: Arc::default(), answer }
    }

    fn answers(&self, answer: Result<u32, &str>) {
        *self.answer.lock() = answer.map_err(str::to_owned);
    }

    /// Asks at a time for a value that is at least `least`.
    async fn get_least(&self, seconds: i64, name: u8, least: u32) -> Result<u32, Unavailable> {
        self.clock.set(at(seconds));
        let suits = |value: &u32| *value >= least;
        let ask = Ask { name: [name; 32], lifetime: LIFETIME, grace: GRACE, suits: &suits };
        let deadline = Instant::now() + Duration::from_secs(60);
        let fetch = || {
            let (asked, answer) = (self.asked.clone(), self.answer.lock().clone());
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                answer
            }
        };
        self.remote.get(&ask, deadline, fetch).await
    }

    async fn get(&self, seconds: i64) -> Result<u32, Unavailable> {
        self.get_least(seconds, 0, 0).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn retry_after(result: Result<u32, Unavailable>) -> u64 {
    result.unwrap_err().retry_after.as_secs()
}

#[tokio::test]
async fn what_was_fetched_serves_for_its_lifetime() {
    let host = Host::new();
    assert_eq!(host.get(0).await, Ok(1));
    host.answers(Ok(2));
    assert_eq!(host.get(3599).await, Ok(1));
    assert_eq!(host.asked(), 1);
    assert_eq!(host.get(3600).await, Ok(2));
    assert_eq!(host.asked(), 2);
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_pause_that_grows() {
    let host = Host::new();
    host.answers(Err("down"));
    assert_eq!(host.get(0).await, Err(Unavailable { retry_after: BACKOFF_FIRST, why: "down".into() }));
    host.clock.set(at(0));
    assert_eq!(retry_after(host.get(0).await), 1);
    assert_eq!(host.asked(), 1);
    let mut now = 1;
    for pause in [2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(retry_after(host.get(now).await), pause);
        assert_eq!(retry_after(host.get(now + pause as i64 - 1).await), 1);
        now += pause as i64;
    }
    assert_eq!(host.asked(), 8);
    host.answers(Ok(7));
    assert_eq!(host.get(now).await, Ok(7));
}

#[tokio::test]
async fn what_cannot_be_fetched_anew_serves_for_a_grace() {
    let host = Host::new();
    assert_eq!(host.get(0).await, Ok(1));
    host.answers(Err("down"));
    assert_eq!(host.get(3600).await, Ok(1));
    assert_eq!(host.asked(), 2, "it was tried");
    assert_eq!(host.get(3600).await, Ok(1));
    assert_eq!(host.asked(), 2, "and not again within the pause");
    assert_eq!(host.get(3600 + 599).await, Ok(1));
    assert!(host.get(3600 + 600).await.is_err(), "the grace ends");
    host.answers(Ok(2));
    assert_eq!(host.get(3600 + 700).await, Ok(2));
}

#[tokio::test]
async fn what_lacks_something_is_fetched_anew_once_in_a_while() {
    let host = Host::new();
    assert_eq!(host.get_least(0, 0, 5).await, Ok(1), "fetched just now, it is the answer");
    assert_eq!(host.get_least(29, 0, 5).await, Ok(1));
    assert_eq!(host.asked(), 1);
    assert_eq!(host.get_least(30, 0, 5).await, Ok(1));
    assert_eq!(host.asked(), 2);
    host.answers(Ok(5));
    assert_eq!(host.get_least(59, 0, 5).await, Ok(1));
    assert_eq!(host.get_least(60, 0, 5).await, Ok(5), "a new key is found");
    assert_eq!(host.asked(), 3);
    host.answers(Err("down"));
    assert!(host.get_least(100, 0, 6).await.is_err(), "nobody knows whether it is there by now");
    assert_eq!(host.get_least(100, 0, 5).await, Ok(5), "who lacks nothing is served");
}

#[tokio::test]
async fn who_asks_at_once_shares_one_flight() {
    let (clock, gate) = (Clock::fixed(at(0)), Arc::new(Semaphore::new(0)));
    let (remote, asked) = (Remote::new(clock), Arc::new(AtomicUsize::new(0)));
    let get = || {
        let (remote, gate, asked) = (remote.clone(), gate.clone(), asked.clone());
        tokio::spawn(async move {
            let ask = Ask { name: [0; 32], lifetime: LIFETIME, grace: GRACE, suits: &|_: &u32| true };
            let fetch = || {
                let (gate, asked) = (gate.clone(), asked.clone());
                async move {
                    asked.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    Ok(9)
                }
            };
            remote.get(&ask, Instant::now() + Duration::from_secs(60), fetch).await
        })
    };
    let first = get();
    let others: Vec<_> = (0..50).map(|_| get()).collect();
    tokio::task::yield_now().await;
    // Who asked first goes away: its flight goes on for the others.
    first.abort();
    gate.add_permits(1);
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(9));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_flight_that_panics_is_a_failure() {
    let clock = Clock::fixed(at(0));
    let remote: Remote<u32> = Remote::new(clock);
    let ask = Ask { name: [0; 32], lifetime: LIFETIME, grace: GRACE, suits: &|_: &u32| true };
    let deadline = Instant::now() + Duration::from_secs(60);
    let failed = remote.get(&ask, deadline, || async { panic!("on purpose") }).await;
    assert_eq!(failed.unwrap_err().why, "the fetch was cut off");
}

#[tokio::test]
async fn who_has_no_time_left_gets_what_is_there() {
    let host = Host::new();
    let never = || std::future::pending::<Result<u32, String>>();
    let ask = |name: u8| Ask { name: [name; 32], lifetime: LIFETIME, grace: GRACE, suits: &|_: &u32| true };
    assert!(host.remote.get(&ask(1), Instant::now(), never).await.is_err());
    assert_eq!(host.get(0).await, Ok(1));
    host.clock.set(at(3700));
    assert_eq!(host.remote.get(&ask(0), Instant::now(), never).await, Ok(1));
}

#[tokio::test]
async fn ever_new_names_cost_a_bounded_number_of_fetches_and_evict_nothing_useful() {
    let host = Host::new();
    assert_eq!(host.get_least(0, 255, 0).await, Ok(1));
    host.answers(Err("404"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let forged = |number: u32| {
        let mut name = [1; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        name
    };
    let mut asked_at = Vec::new();
    for number in 0..20_000_u32 {
        // 20 names a second.
        host.clock.set(at(i64::from(number / 20)));
        let ask = Ask { name: forged(number), lifetime: LIFETIME, grace: GRACE, suits: &|_: &u32| true };
        let (asked, answer) = (host.asked.clone(), host.answer.lock().clone());
        let fetch = || {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                answer
            }
        };
        assert!(host.remote.get(&ask, deadline, fetch).await.is_err());
        asked_at.push(host.asked());
    }
    assert!(host.asked() <= 1 + UNKNOWN_BURST as usize + 1000, "{}", host.asked());
    assert!(host.asked() > 900, "the bucket fills again: {}", host.asked());
    assert!(host.remote.0.slots.lock().len() <= SLOTS_MAX);
    let before = host.asked();
    assert_eq!(host.get_least(1000, 255, 0).await, Ok(1), "an honest sender's key is still here");
    assert_eq!(host.asked(), before);
}

#[tokio::test]
async fn a_clock_that_goes_back_blocks_nobody_for_long() {
    let host = Host::new();
    host.answers(Err("down"));
    assert!(host.get(100_000).await.is_err());
    host.answers(Ok(3));
    // The allowance for what was never fetched may need a second to see it.
    let _ = host.get(0).await;
    assert_eq!(host.get(1).await, Ok(3));
}
