//! What an answer means: for the run, and for the breaker. Pure.

use super::breaker::Outcome;
use crate::config::Retry;
use crate::event::Timestamp;
use crate::event_log::record::Next;
use crate::flow;
use crate::function::{Answer, Verdict};

/// Why a run is a dead letter: it used up its attempts.
pub const ATTEMPTS_EXHAUSTED: &str = "attempts_exhausted";
/// Why a run is a dead letter: its function refused it for good.
pub const FINAL: &str = "final";
/// Why a run is a dead letter: what it needs of its event is gone.
pub const BODY_MISSING: &str = "body_missing";

/// Returns what follows an attempt that ended at `ended_at`. `random` is the jitter of the wait.
pub(super) fn next(retry: &Retry, attempt: u32, answer: &Answer, ended_at: Timestamp, random: u32) -> Next {
    match answer.verdict {
        Verdict::Done => Next::Succeeded,
        Verdict::Fail => Next::Dead(FINAL.to_owned()),
        Verdict::Retry { .. } if attempt >= retry.attempts => Next::Dead(ATTEMPTS_EXHAUSTED.to_owned()),
        Verdict::Retry { after } => {
            let wait = flow::next_wait(retry.backoff, attempt, after, random);
            Next::RetryAt(ended_at.saturating_add(wait).unwrap_or(Timestamp::MAX))
        }
    }
}

/// Returns what the breaker makes of it.
pub(super) fn for_breaker(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Done => Outcome::Success,
        Verdict::Fail => Outcome::Refused,
        Verdict::Retry { .. } => Outcome::Failure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::config::Backoff;

    fn check(verdict: Verdict, attempt: u32, expected: Next) {
        let answer = Answer { verdict, status: None, note: String::new(), answer: Bytes::new() };
        let retry = Retry { attempts: 3, backoff: Backoff::Standard };
        assert_eq!(next(&retry, attempt, &answer, Timestamp::UNIX_EPOCH, 0), expected);
    }

    #[test]
    fn an_answer_says_what_becomes_of_the_run() {
        let at = |seconds| Next::RetryAt(Timestamp::from_second(seconds).unwrap());
        let retry = Verdict::Retry { after: None };
        check(Verdict::Done, 3, Next::Succeeded);
        check(Verdict::Fail, 1, Next::Dead("final".to_owned()));
        check(retry.clone(), 1, at(5));
        check(retry.clone(), 2, at(300));
        check(retry.clone(), 3, Next::Dead("attempts_exhausted".to_owned()));
        check(retry, 4, Next::Dead("attempts_exhausted".to_owned()));
        check(Verdict::Retry { after: Some(Duration::from_secs(60)) }, 1, at(60));
    }
}
