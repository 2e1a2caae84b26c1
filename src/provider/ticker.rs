//! Has the cron triggers of one provider tick: waits for the next time, and stores each tick as an event.
//!
//! Part of the provider's actor, which runs it as a future of its own; it waits for nothing but the clock.
//! What has ticked is known from the log alone: an event is a tick, and the fold keeps the last one of
//! each trigger, so a crash can neither lose a tick nor make one twice. The claim on the scheduled time as dedupe key
//! is the second line of defence.
//!
//! [`plan`] decides, without a clock, which ticks become events. One is **missed** when it lies before the
//! start of the process, or further back than [`LATE_MAX`]; then the trigger's `catchup` decides.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;

use crate::clock::Clock;
use crate::config::{Catchup, Cron, Trigger};
use crate::event::{Body, CRON_TICK, Timestamp, TriggerId};
use crate::event_log::record::{self, CronChange, Missed, Record};
use crate::event_log::{self, IngestError};

use super::own_events::{OwnEvent, OwnEvents, STORED_AT_ONCE};
use super::{Deps, Fixed};

/// How late a tick may be and still counts as kept: longer than an actor takes to be rebuilt and the device
/// may hang. Much longer, and a machine that slept would fire at random times what nobody asked for.
const LATE_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Most missed ticks that `catchup = "all"` makes up for: the last ones. More would flood the functions
/// after a long absence of a trigger that ticks every second.
const CATCHUP_MAX: usize = 1_000;
/// How far the clock may be set back before schedules begin anew at the new time; until then they wait for
/// it to come back to where it was. Vixie cron's bound: more than any change of summer time.
const SET_BACK_MAX: SignedDuration = SignedDuration::from_hours(3);
/// Pause after the log did not take a tick.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a tick is not stored; it stays due.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error(transparent)]
    Log(#[from] event_log::Error),
    #[error("the log takes no events")]
    Refused,
}

/// The schedules of one provider.
pub(super) struct Ticker {
    events: OwnEvents,
    clock: Clock,
    /// When the process started; what was due before was missed.
    started_at: Timestamp,
    schedules: Vec<Timed>,
}

/// One trigger and how far it has come.
struct Timed {
    trigger: Arc<Trigger>,
    fixed: Arc<Fixed>,
    /// All ticks up to here are events or given up; nothing while the log was not asked.
    through: Option<Timestamp>,
    /// Missed ticks up to here have their record.
    recorded: Option<Timestamp>,
}

/// The payload of a tick.
#[derive(Serialize)]
struct Payload<'a> {
    scheduled_at: Timestamp,
    cron_id: &'a TriggerId,
    catchup: bool,
}

/// A tick that becomes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tick {
    at: Timestamp,
    /// It was missed and is made up for.
    catchup: bool,
}

/// What is to be done about the ticks that are due.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    missed: Option<Missed>,
    ticks: Vec<Tick>,
}

/// Decides on all ticks after `through` up to and including `now`.
fn plan(cron: &Cron, through: Timestamp, now: Timestamp, started_at: Timestamp) -> Plan {
    let schedule = &cron.schedule;
    // A tick of the second in which the process starts is kept: it is not late.
    let start = Timestamp::from_second(started_at.as_second()).unwrap_or(started_at);
    let kept_from = now.saturating_sub(LATE_MAX).map_or(start, |bound| bound.max(start));
    let before = just_before(kept_from).min(now);
    let kept = schedule.between(through.max(before), now).map(|at| Tick { at, catchup: false });
    let Some(first) = schedule.next(through).filter(|first| *first <= before) else {
        return Plan { missed: None, ticks: kept.collect() };
    };
    let last = schedule.latest(through, before, 1).back().copied().unwrap_or(first);
    let made_up = match cron.catchup {
        Catchup::Skip => Vec::new(),
        Catchup::Latest => vec![last],
        Catchup::All => schedule.latest(through, before, CATCHUP_MAX).into(),
    };
    let given_up_through = match made_up.first() {
        None => Some(last),
        Some(first) => schedule.latest(through, just_before(*first), 1).back().copied(),
    };
    let count = schedule.count(through, before);
    let missed = Missed { first, last, count, made_up: made_up.len() as u64, given_up_through };
    let made_up = made_up.into_iter().map(|at| Tick { at, catchup: true });
    Plan { missed: Some(missed), ticks: made_up.chain(kept).collect() }
}

fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(at)
}

impl Ticker {
    /// Returns nothing for a provider without cron triggers.
    pub(super) fn new(deps: &Deps, started_at: Timestamp) -> Option<Self> {
        let scheduled = deps.triggers.iter().filter(|(trigger, _)| trigger.cron().is_some());
        let timed = |(trigger, fixed): &(Arc<Trigger>, Arc<Fixed>)| Timed {
            trigger: trigger.clone(),
            fixed: fixed.clone(),
            through: None,
            recorded: None,
        };
        let schedules: Vec<_> = scheduled.map(timed).collect();
        let events = OwnEvents { log: deps.log.clone(), provider: deps.entry.id.clone() };
        let clock = deps.clock.clone();
        (!schedules.is_empty()).then_some(Self { events, clock, started_at, schedules })
    }

    /// Ticks until the log is closed.
    pub(super) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(next) => self.clock.sleep_until(next).await,
                Err(Error::Ingest(IngestError::Failing(event_log::Error::Closed)))
                | Err(Error::Log(event_log::Error::Closed)) => return,
                Err(error) => {
                    tracing::warn!(provider = %self.events.provider, %error, "a tick could not be stored and stays due");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// Stores what is due, and returns the time of the next tick of all.
    async fn turn(&mut self) -> Result<Timestamp, Error> {
        let (mut next, mut failure) = (Timestamp::MAX, None);
        for index in 0..self.schedules.len() {
            // One that finds no room keeps no other from its time.
            match self.tick(index).await {
                Ok(Some(at)) => next = next.min(at),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(next), Err)
    }

    /// Stores what is due of one trigger, and returns its next time.
    async fn tick(&mut self, index: usize) -> Result<Option<Timestamp>, Error> {
        let now = self.clock.now();
        let through = self.come(index, now).await?;
        let trigger = self.schedules[index].trigger.clone();
        let cron = trigger.cron().expect("only cron triggers are scheduled");
        let Some(first) = cron.schedule.next(through) else { return Ok(None) };
        if first > now {
            return Ok(Some(first));
        }
        if !self.events.takes_events() {
            return Err(Error::Refused);
        }
        let Plan { missed, ticks } = plan(cron, through, now, self.started_at);
        if let Some(missed) = missed {
            self.record(index, now, missed).await?;
        }
        for ticks in ticks.chunks(STORED_AT_ONCE) {
            self.store(index, now, ticks).await?;
        }
        let through = self.schedules[index].through.unwrap_or(through);
        Ok(cron.schedule.next(through))
    }

    /// Returns how far a trigger has come. A schedule that is new, was changed, or whose last tick lies far
    /// ahead of a clock that was set back, begins now.
    async fn come(&mut self, index: usize, now: Timestamp) -> Result<Timestamp, Error> {
        let timed = &self.schedules[index];
        let id = &timed.trigger.id;
        let schedule = timed.trigger.cron().map(|cron| cron.schedule.to_string()).unwrap_or_default();
        let through = match timed.through {
            Some(through) => Some(through),
            None => {
                // An actor that was here before may have stored what is not folded yet.
                let tail = *self.events.log.tail().borrow();
                self.events.log.folded(tail).await?;
                let state = self.events.log.state().schedule(id);
                state.filter(|state| state.schedule == schedule).map(|state| state.through)
            }
        };
        let is_ahead = |through: &Timestamp| through.duration_since(now) > SET_BACK_MAX;
        let through = match through {
            Some(through) if !is_ahead(&through) => through,
            before => {
                if let Some(last) = before {
                    tracing::warn!(trigger_id = %id, %last, "the clock was set back; the schedule begins anew");
                }
                self.append(index, now, CronChange::Began { schedule }).await?;
                now
            }
        };
        self.schedules[index].through = Some(through);
        Ok(through)
    }

    /// Writes a record of missed ticks, unless they have theirs, and gives up those that are given up.
    async fn record(&mut self, index: usize, now: Timestamp, missed: Missed) -> Result<(), Error> {
        let timed = &self.schedules[index];
        if timed.recorded < Some(missed.last) {
            let Missed { first, last, count, made_up, .. } = missed;
            tracing::warn!(trigger_id = %timed.trigger.id, %first, %last, count, made_up, "ticks were missed");
            self.append(index, now, CronChange::Missed(missed.clone())).await?;
        }
        let timed = &mut self.schedules[index];
        timed.recorded = timed.recorded.max(Some(missed.last));
        timed.through = timed.through.max(missed.given_up_through);
        Ok(())
    }

    async fn append(&self, index: usize, at: Timestamp, change: CronChange) -> Result<(), Error> {
        let trigger_id = self.schedules[index].trigger.id.clone();
        let record = Record::Cron(record::Cron { at, trigger_id, change });
        Ok(self.events.log.append_durable(vec![record]).await.map(drop)?)
    }

    /// Stores ticks of one trigger, in order.
    async fn store(&mut self, index: usize, now: Timestamp, ticks: &[Tick]) -> Result<(), Error> {
        let timed = &self.schedules[index];
        let events = ticks.iter().map(|tick| event(&timed.trigger.id, *tick)).collect();
        self.events.store((&timed.trigger, &timed.fixed), now, events).await?;
        let timed = &mut self.schedules[index];
        timed.through = timed.through.max(ticks.last().map(|tick| tick.at));
        Ok(())
    }
}

fn event(cron_id: &TriggerId, tick: Tick) -> OwnEvent {
    let payload = Payload { scheduled_at: tick.at, cron_id, catchup: tick.catchup };
    OwnEvent {
        kind: CRON_TICK.to_owned(),
        occurred_at: Some(tick.at),
        dedupe_key: tick.at.to_string(),
        content_type: "application/json".to_owned(),
        body: Body::Inline(serde_json::to_vec(&payload).expect("a payload serializes").into()),
    }
}

#[cfg(test)]
mod tests;
