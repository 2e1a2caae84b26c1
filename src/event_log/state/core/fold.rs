//! What each record changes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::decided::Decided;
use super::super::keys::{self, DueKey};
use super::super::rows::{self, AttemptSummary, PollCursor, Run};
use super::{Core, Function, Known, due_key, fresh_key, state_index};
use crate::event::{FunctionId, Position, RunState, Timestamp, TriggerId};
use crate::event_log::codec::{self, DecodeError};
use crate::event_log::frame::Frame;
use crate::event_log::reader::damaged;
use crate::event_log::record::{
    Attempted, Controlled, Cron, CronChange, NewRun, Next, Record, Routed, RunAction, Start, Switch, Switched,
};
use crate::event_log::{Error, record};

/// How many held runs are made due in one batch: a trigger may hold more than memory should.
const RELEASE_RUNS: usize = 512;

impl Core {
    /// Folds a frame's records from the mark on.
    pub(in super::super) fn apply(&mut self, frame: &Frame) -> Result<(), Error> {
        debug_assert_eq!(frame.seq(), self.mark.next.frame(), "frames are folded in order");
        for index in self.mark.next.index()..frame.len() {
            let position = frame.position(index);
            let bytes = frame.bytes(index).expect("index is below the length");
            self.mark.next = position;
            self.apply_bytes(position, bytes).map_err(|error| match error {
                Fault::Decode(error) => damaged(frame.seq())(error),
                Fault::Store(error) => error,
            })?;
        }
        self.mark.next = Position::new(frame.seq() + 1, 0);
        Ok(())
    }

    fn apply_bytes(&mut self, position: Position, bytes: &[u8]) -> Result<(), Fault> {
        if codec::is_event(bytes) {
            self.mark.events += 1;
            if codec::is_tick(bytes) {
                let (trigger_id, tick) = codec::tick(bytes)?;
                self.ticked(&trigger_id, tick);
            }
            if let Some(name) =
                codec::is_spooled_event(bytes).then(|| codec::spooled_name(bytes)).transpose()?.flatten()
            {
                self.rows.put(keys::body_key(name), rows::encode_position(position));
            }
            return Ok(());
        }
        if codec::is_duplicate(bytes) {
            self.mark.duplicates += 1;
            return Ok(());
        }
        match codec::decode_record(bytes)? {
            Record::Event(_) | Record::Duplicate(_) => {}
            Record::Routed(routed) => self.routed(position, routed)?,
            Record::Created(created) => {
                for run in created.runs {
                    self.create(run, created.at)?;
                }
            }
            Record::Attempted(attempted) => self.attempted(position, attempted)?,
            Record::Controlled(controlled) => self.controlled(controlled)?,
            Record::Switched(switched) => {
                self.index_topic("lifecycle", position);
                self.switched(switched)?;
            }
            Record::Sealed(sealed) => {
                self.index_topic("secrets", position);
                let key = keys::sealed_key(&sealed.name);
                if sealed.sealed.is_empty() {
                    self.rows.remove(&key);
                    self.sealed.remove(&sealed.name);
                } else {
                    self.rows.put(key, sealed.sealed.to_vec());
                    self.sealed.insert(sealed.name, sealed.sealed);
                }
            }
            Record::Secret(news) => {
                self.index_topic("secrets", position);
                match self.secrets.apply(news) {
                    (key, Some(value)) => self.rows.put(key, value),
                    (key, None) => self.rows.remove(&key),
                }
            }
            Record::Audit(audit) => self.index_topic(&audit.topic, position),
            Record::Cron(cron) => {
                self.index_topic("cron", position);
                self.scheduled(cron);
            }
            Record::Permits(permits) => {
                self.index_topic("permits", position);
                self.permitted(permits);
            }
            Record::Polled(it) => {
                self.index_topic("poll", position);
                let cursor = PollCursor { cursor: it.cursor, at: it.at };
                self.rows.put(keys::cursor_key(&it.trigger_id), rows::encode_cursor(&cursor));
                self.cursors.insert(it.trigger_id, cursor);
            }
        }
        Ok(())
    }

    fn index_topic(&mut self, topic: &str, position: Position) {
        self.rows.put(keys::topic_key(topic, position.frame()), Vec::new());
    }

    fn routed(&mut self, position: Position, routed: Routed) -> Result<(), Error> {
        if routed.from != self.mark.routed_through || routed.through <= routed.from {
            return Ok(());
        }
        let (through, at) = (routed.through, routed.at);
        let (decided, others) = Decided::split(position, routed);
        for run in others {
            self.create(run, at)?;
        }
        self.decided(&Arc::new(decided))?;
        self.rows.put_new(keys::routed_key(through), rows::encode_position(position));
        self.mark.routed_through = through;
        Ok(())
    }

    /// Counts the runs that a decision started and that have no row, and makes the due ones known.
    fn decided(&mut self, decided: &Arc<Decided>) -> Result<(), Error> {
        let (from, through) = decided.span();
        // Replays may have made runs of events that the router had not come to.
        let with_row = self.rows_between(from, through)?;
        let mut due: BTreeMap<&FunctionId, Vec<DueKey>> = BTreeMap::new();
        for new in decided.runs() {
            if !with_row.is_empty() && with_row.contains(&keys::run_key(&new.id)) {
                continue;
            }
            if !self.functions.contains_key(&new.id.function) {
                self.functions.insert(new.id.function.clone(), Function::default());
            }
            let function = self.functions.get_mut(&new.id.function).expect("it was just put there");
            let key = fresh_key(new);
            let state = if key.is_some() { RunState::Pending } else { RunState::Skipped };
            function.counts[state_index(state)] += 1;
            due.entry(&new.id.function).or_default().extend(key);
        }
        self.decisions.keep(decided);
        for (id, keys) in due {
            if keys.is_empty() {
                continue;
            }
            self.rows.put_new(keys::fresh_key(id, decided.position), rows::encode_fresh(keys.len() as u32));
            let function = self.functions.get_mut(id).expect("its runs were counted");
            function.fresh.decided(decided.position, keys.into_iter());
            self.notify(id);
        }
        Ok(())
    }

    /// A due run that existed by a decision alone gets its row.
    fn leave_fresh(&mut self, run: &Run, decision: Position) -> Result<(), Error> {
        let Some(key) = due_key(run) else { return Ok(()) };
        let function = &run.id.function;
        self.functions.entry(function.clone()).or_default().fresh.remove(key);
        let key = keys::fresh_key(function, decision);
        match self.rows.get(&key)?.as_deref().and_then(rows::decode_fresh) {
            Some(left) if left > 1 => self.rows.put(key, rows::encode_fresh(left - 1)),
            _ => self.rows.remove(&key),
        }
        Ok(())
    }

    fn create(&mut self, new: NewRun, at: Timestamp) -> Result<(), Error> {
        if self.known(&new.id)?.is_some() {
            return Ok(());
        }
        let paused = self.triggers.get(&new.trigger_id).is_some_and(|trigger| trigger.paused);
        let (state, reason, due_at) = match new.start {
            Start::Due(due) => (RunState::Pending, None, Some(due)),
            Start::Held if paused => (RunState::Waiting, Some(record::HELD.to_owned()), None),
            // The trigger was resumed before the router came to the event.
            Start::Held => (RunState::Pending, None, Some(at)),
            Start::Skipped(reason) => (RunState::Skipped, Some(reason.as_str().to_owned()), None),
        };
        let run = Run {
            id: new.id,
            trigger_id: new.trigger_id,
            kind: new.kind,
            cause: new.cause,
            state,
            reason,
            created_at: at,
            due_at,
            attempts: 0,
            finished_at: state.is_final().then_some(at),
            history: Vec::new(),
        };
        self.set_run(None, run)
    }

    fn attempted(&mut self, position: Position, it: Attempted) -> Result<(), Error> {
        let Some(before) = self.known(&it.run)? else { return Ok(()) };
        let same = |last: &AttemptSummary| last.attempt == it.attempt && last.started_at == it.started_at;
        if before.run.history.last().is_some_and(same) {
            return Ok(());
        }
        let mut run = before.run.clone();
        if run.history.len() >= rows::HISTORY_MAX {
            run.history.remove(0);
        }
        run.history.push(AttemptSummary {
            attempt: it.attempt,
            started_at: it.started_at,
            duration_us: it.duration_us,
            status: it.status,
            note: it.note.chars().take(rows::NOTE_CHARS_MAX).collect(),
            position,
        });
        if run.state == RunState::Pending {
            run.attempts = it.attempt;
            let ended_at = ended_at(it.started_at, it.duration_us);
            match it.next {
                Next::Succeeded => finish(&mut run, RunState::Succeeded, None, ended_at),
                Next::Dead(reason) => finish(&mut run, RunState::Dead, Some(reason), ended_at),
                Next::RetryAt(at) => run.due_at = Some(at),
            }
        }
        let after = Known { run: run.clone(), decision: None };
        self.set_run(Some(&before), run)?;
        self.land(&it.run, Some(&after));
        Ok(())
    }

    fn controlled(&mut self, it: Controlled) -> Result<(), Error> {
        let Some(before) = self.known(&it.run)? else { return Ok(()) };
        let mut run = before.run.clone();
        match it.action {
            RunAction::Cancel if !run.state.is_final() => {
                finish(&mut run, RunState::Cancelled, Some(record::CANCELLED.to_owned()), it.at);
            }
            RunAction::Purge if run.state == RunState::Dead => {
                finish(&mut run, RunState::Cancelled, Some(record::PURGED.to_owned()), it.at);
            }
            RunAction::Retry if run.state != RunState::Succeeded => {
                run.state = RunState::Pending;
                run.reason = None;
                run.due_at = Some(it.at);
                run.attempts = 0;
                run.finished_at = None;
            }
            RunAction::Cancel | RunAction::Purge | RunAction::Retry => return Ok(()),
        }
        self.set_run(Some(&before), run)
    }

    fn switched(&mut self, it: Switched) -> Result<(), Error> {
        match it.switch {
            Switch::TriggerPaused(id, paused) => {
                if !paused {
                    self.resume(&id, it.at)?;
                }
                self.triggers.entry(id.clone()).or_default().paused = paused;
                self.put_trigger(&id);
            }
            Switch::TriggerArmed(id, until) => {
                self.triggers.entry(id.clone()).or_default().armed_until = until;
                self.put_trigger(&id);
            }
            Switch::FunctionPaused(id, paused) => {
                self.function_states.entry(id.clone()).or_default().paused = paused;
                self.put_function(&id);
            }
            Switch::Breaker { function: id, open_until, opened } => {
                let state = self.function_states.entry(id.clone()).or_default();
                (state.open_until, state.opened) = (open_until, opened);
                self.put_function(&id);
            }
        }
        Ok(())
    }

    fn ticked(&mut self, id: &TriggerId, tick: Timestamp) {
        let state = self.schedules.entry(id.clone()).or_default();
        state.through = state.through.max(tick);
        state.last_tick = state.last_tick.max(Some(tick));
        self.put_schedule(id);
    }

    fn scheduled(&mut self, it: Cron) {
        let state = self.schedules.entry(it.trigger_id.clone()).or_default();
        match it.change {
            CronChange::Began { schedule } => (state.schedule, state.through) = (schedule, it.at),
            CronChange::Missed(missed) => {
                state.missed += missed.count.saturating_sub(missed.made_up);
                state.through = missed.given_up_through.map_or(state.through, |it| it.max(state.through));
            }
        }
        self.put_schedule(&it.trigger_id);
    }

    fn put_schedule(&mut self, id: &TriggerId) {
        let value = rows::encode_schedule(&self.schedules[id]);
        self.rows.put(keys::schedule_key(id), value);
    }

    fn put_trigger(&mut self, id: &TriggerId) {
        let value = rows::encode_trigger(&self.triggers[id]);
        self.rows.put(keys::trigger_key(id), value);
    }

    fn put_function(&mut self, id: &FunctionId) {
        let value = rows::encode_function(&self.function_states[id]);
        self.rows.put(keys::function_key(id), value);
        self.notify(id);
    }

    /// Makes a trigger's held runs due. However many they are, no batch holds more than a stretch of
    /// them: the mark stays before this record, and folding the record again goes on with the rest.
    fn resume(&mut self, id: &TriggerId, at: Timestamp) -> Result<(), Error> {
        loop {
            let mut held = Vec::new();
            self.scan_prefix(&keys::held_of(id), false, |key, _| {
                held.push(keys::run_key_of_held(id, key));
                let more = held.len() < RELEASE_RUNS;
                Ok(if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            for key in &held {
                let Some(before) = self.row_at(key)? else { continue };
                let due_at = Some(at);
                let run = Run { state: RunState::Pending, reason: None, due_at, ..before.run.clone() };
                self.set_run(Some(&before), run)?;
            }
            if held.len() < RELEASE_RUNS {
                return Ok(());
            }
            self.flush_now()?;
        }
    }

    /// Writes what has changed so far, unless a batch is on its way already.
    fn flush_now(&mut self) -> Result<(), Error> {
        if self.rows.is_writing() {
            return Ok(());
        }
        let batch = self.take_batch();
        batch.write(&*self.table)?;
        self.rows.written();
        Ok(())
    }

    /// Puts a run's row, and brings indexes, sums and the windows in step with it.
    fn set_run(&mut self, before: Option<&Known>, run: Run) -> Result<(), Error> {
        let row_before = before.filter(|known| known.decision.is_none()).map(|known| &known.run);
        if let Some(Known { run, decision: Some(decision) }) = before {
            self.leave_fresh(run, *decision)?;
        }
        let (old, new) = (row_before.and_then(due_key), due_key(&run));
        let in_flight = self.is_in_flight(&run.id);
        let function_id = &run.id.function;
        let function = self.functions.entry(function_id.clone()).or_default();
        if let Some(before) = before {
            let count = &mut function.counts[state_index(before.run.state)];
            *count = count.saturating_sub(1);
        }
        function.counts[state_index(run.state)] += 1;
        if old != new {
            if let Some(key) = old {
                function.due.remove(key);
                self.rows.remove(&key.stored(function_id));
            }
            if let Some(key) = new {
                self.rows.put_new(key.stored(function_id), Vec::new());
                if !in_flight {
                    function.due.insert(key);
                    self.notify(function_id);
                }
            }
        }
        let key_of_held = |run: &Run| keys::held_key(&run.trigger_id, &run.id);
        let key_of_dead = |run: &Run| keys::dead_key(&run.id);
        self.set_index(row_before, &run, |run| run.state == RunState::Waiting, key_of_held);
        self.set_index(row_before, &run, |run| run.state == RunState::Dead, key_of_dead);
        let (key, value) = (keys::run_key(&run.id), rows::encode_run(&run));
        match row_before {
            None => self.rows.put_new(key, value),
            Some(_) => self.rows.put(key, value),
        }
        Ok(())
    }

    fn set_index(
        &mut self,
        before: Option<&Run>,
        run: &Run,
        belongs: impl Fn(&Run) -> bool,
        key: impl Fn(&Run) -> Vec<u8>,
    ) {
        match (before.is_some_and(&belongs), belongs(run)) {
            (false, true) => self.rows.put_new(key(run), Vec::new()),
            (true, false) => self.rows.remove(&key(run)),
            _ => {}
        }
    }
}

/// Why a record could not be folded.
enum Fault {
    Decode(DecodeError),
    Store(Error),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn finish(run: &mut Run, state: RunState, reason: Option<String>, at: Timestamp) {
    run.state = state;
    run.reason = reason;
    run.due_at = None;
    run.finished_at = Some(at);
}

fn ended_at(started_at: Timestamp, duration_us: u64) -> Timestamp {
    let micros = started_at.as_microsecond().saturating_add_unsigned(duration_us);
    Timestamp::from_microsecond(micros).unwrap_or(started_at)
}
