//! Watches what a call does beside computing.
//!
//! A thread's counters in `/proc` tell of reads, writes and waits. What leaves no trace there is not seen: the
//! system clock is read without a system call, and a packet may be sent without waiting for an answer.

use std::fs::File;
use std::io::Read as _;

/// How often a call is watched: a trace counts that is there each time, since the system may let any thread wait.
const REPETITIONS: usize = 5;

/// What a call did, at least, each time that it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effects {
    /// Reads and writes of files, pipes and terminals.
    pub(super) transfers: u64,
    /// Waits: for the network, a device, a timer, or another thread.
    pub(super) waits: u64,
}

/// Makes a call several times on this thread and returns what it did beside computing; nothing where the
/// system does not tell.
pub(super) fn of(mut call: impl FnMut()) -> Option<Effects> {
    // What is set up once, at the first call, is nobody's effect.
    call();
    let mut least: Option<Effects> = None;
    for _ in 0..REPETITIONS {
        // Reading the counters is counted too.
        let nothing = counted(&mut || ())?;
        let seen = counted(&mut call)?;
        let seen = Effects {
            transfers: seen.transfers.saturating_sub(nothing.transfers),
            waits: seen.waits.saturating_sub(nothing.waits),
        };
        least = Some(least.map_or(seen, |least| Effects {
            transfers: least.transfers.min(seen.transfers),
            waits: least.waits.min(seen.waits),
        }));
    }
    least
}

fn counted(call: &mut dyn FnMut()) -> Option<Effects> {
    let before = Effects::counters()?;
    call();
    let after = Effects::counters()?;
    Some(Effects { transfers: after.transfers - before.transfers, waits: after.waits - before.waits })
}

impl Effects {
    fn counters() -> Option<Self> {
        let transfers = counters("/proc/thread-self/io", &["syscr:", "syscw:"])?;
        let waits = counters("/proc/thread-self/status", &["voluntary_ctxt_switches:"])?;
        Some(Self { transfers, waits })
    }
}

/// Returns the sum of the named counters. One read of a fixed size: its own cost never differs.
fn counters(path: &str, names: &[&str]) -> Option<u64> {
    let mut text = [0; 4096];
    let length = File::open(path).ok()?.read(&mut text).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let value = |name: &&str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(*name))?.trim().parse().ok()
    };
    names.iter().map(value).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reading_and_waiting_are_seen_and_computing_is_not() {
        let Some(nothing) = of(|| drop(std::hint::black_box(vec![1; 10_000]))) else { return };
        assert_eq!(nothing, Effects { transfers: 0, waits: 0 });
        let reading = of(|| drop(std::fs::read("/proc/version"))).unwrap();
        assert!(reading.transfers > 0, "{reading:?}");
        let waiting = of(|| std::thread::sleep(Duration::from_micros(50))).unwrap();
        assert!(waiting.waits > 0, "{waiting:?}");
    }
}
