//! Listings over the log: events in both directions, and topics.

use std::sync::Arc;

use super::codec;
use super::frame::Frame;
use super::reader::damaged;
use super::record::Record;
use super::{Error, Log, Seq};
use crate::event::{Position, StoredEvent};

/// Some items of a listing, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C = Position> {
    /// The items.
    pub items: Vec<T>,
    /// Give this to get what follows; nothing at the end.
    pub next: Option<C>,
}

/// How far a listing of events may go.
#[derive(Debug, Clone, Copy)]
pub struct EventScan {
    /// Most events to return.
    pub limit: usize,
    /// Most events to look at before handing back a cursor.
    pub scan_max: usize,
}

/// Topics that every log has, as their tags tell.
const BUILT_IN_TOPICS: [&str; 4] = ["events", "runs", "lifecycle", "secrets"];
/// Most frames of a topic to look up at once.
const TOPIC_FRAMES: usize = 64;
/// Most frames that one page of a listing looks at: those without anything wanted take time too.
const SCAN_FRAMES_MAX: usize = 4096;

impl Log {
    /// Lists events newest first, those before `cursor`, that `wanted` wants. A page may hold fewer than
    /// the limit and still have a cursor, since a listing looks at a bounded number of events and frames.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or a frame is damaged.
    pub fn events_before(
        &self,
        cursor: Option<Position>,
        scan: EventScan,
        mut wanted: impl FnMut(&StoredEvent) -> bool,
    ) -> Result<Page<Arc<StoredEvent>>, Error> {
        let tail = *self.0.tail.borrow();
        let end = cursor.unwrap_or(Position::new(tail + 1, 0)).min(Position::new(tail + 1, 0));
        let mut listing = Listing::new(scan);
        let mut seq = end.frame();
        let mut below = end.index();
        loop {
            if let Some(frame) = self.uncached(seq)? {
                for index in (0..below.min(frame.len())).rev() {
                    if listing.visit(&frame, index, &mut wanted)? {
                        return Ok(listing.page);
                    }
                }
            }
            if seq <= 1 || listing.leave(Position::new(seq, 0)) {
                return Ok(listing.page);
            }
            seq -= 1;
            below = usize::MAX;
        }
    }

    /// Lists events oldest first, those after `cursor`, that `wanted` wants; else as
    /// [`events_before`](Self::events_before).
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or a frame is damaged.
    pub fn events_after(
        &self,
        cursor: Option<Position>,
        scan: EventScan,
        mut wanted: impl FnMut(&StoredEvent) -> bool,
    ) -> Result<Page<Arc<StoredEvent>>, Error> {
        let after = cursor.unwrap_or(Position::ZERO);
        let mut listing = Listing::new(scan);
        self.0.reader.scan(after.frame().max(1), |frame| {
            for index in 0..frame.len() {
                if frame.position(index) > after && listing.visit(&frame, index, &mut wanted)? {
                    return Ok(false);
                }
            }
            Ok(!listing.leave(Position::new(frame.seq(), Position::RECORDS_PER_FRAME_MAX - 1)))
        })?;
        Ok(listing.page)
    }

    /// A frame from the cache, or from the store without putting it there: listings read far.
    fn uncached(&self, seq: Seq) -> Result<Option<Arc<Frame>>, Error> {
        let reader = &self.0.reader;
        if let Some(frame) = reader.cache.get(seq) {
            return Ok(Some(frame));
        }
        let Some(stored) = reader.store.get(super::PARTITION, seq)? else { return Ok(None) };
        Ok(Some(Arc::new(super::decode_frame(super::PARTITION, seq, &stored).map_err(damaged(seq))?)))
    }

    /// Returns the names of all topics.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn topics(&self) -> Result<Vec<String>, Error> {
        let mut topics: Vec<String> = BUILT_IN_TOPICS.iter().map(|topic| (*topic).to_owned()).collect();
        topics.extend(self.0.state.topics()?);
        topics.sort();
        topics.dedup();
        Ok(topics)
    }

    /// Reads a topic's records after `after`, oldest first. A page may hold fewer than `limit` records
    /// and still have a cursor, since it looks at a bounded number of frames. An unknown topic is empty.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or a frame is damaged.
    pub fn read_topic(
        &self,
        topic: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Page<(Position, Record)>, Error> {
        let after = after.unwrap_or(Position::ZERO);
        let mut page = Page { items: Vec::new(), next: None };
        let mut from = after.frame().max(1);
        let mut looked_at = 0;
        loop {
            let frames = self.frames_with(topic, from)?;
            let Some(last) = frames.last().copied() else { return Ok(page) };
            for seq in frames {
                let Some(frame) = self.uncached(seq)? else { continue };
                for index in 0..frame.len() {
                    let position = frame.position(index);
                    if position <= after || !belongs(&frame, index, topic)? {
                        continue;
                    }
                    if page.items.len() >= limit {
                        page.next = page.items.last().map(|(position, _)| *position);
                        return Ok(page);
                    }
                    if let Some(record) = frame.record(index).map_err(damaged(seq))? {
                        page.items.push((position, record));
                    }
                }
                looked_at += 1;
                if looked_at >= SCAN_FRAMES_MAX {
                    page.next = Some(Position::new(seq, Position::RECORDS_PER_FRAME_MAX - 1));
                    return Ok(page);
                }
            }
            from = last + 1;
        }
    }

    /// Returns the next frames, from `from` on, that may hold records of a topic.
    fn frames_with(&self, topic: &str, from: Seq) -> Result<Vec<Seq>, Error> {
        if matches!(topic, "events" | "runs") {
            let tail = *self.0.tail.borrow();
            return Ok((from..=tail).take(TOPIC_FRAMES).collect());
        }
        self.0.state.frames_of_topic(topic, from, TOPIC_FRAMES)
    }
}

fn belongs(frame: &Frame, index: usize, topic: &str) -> Result<bool, Error> {
    let bytes = frame.bytes(index).expect("index is below the length");
    match codec::topic_of_tag(bytes) {
        Some(own) => Ok(own == topic),
        None => match frame.record(index).map_err(damaged(frame.seq()))? {
            Some(Record::Audit(audit)) => Ok(audit.topic == topic),
            _ => Ok(false),
        },
    }
}

/// A listing of events in the making.
struct Listing {
    scan: EventScan,
    looked_at: usize,
    frames: usize,
    page: Page<Arc<StoredEvent>>,
}

impl Listing {
    fn new(scan: EventScan) -> Self {
        Self { scan, looked_at: 0, frames: 0, page: Page { items: Vec::new(), next: None } }
    }

    /// Leaves a frame for the next one, where `cursor` goes on; tells whether the page is done.
    fn leave(&mut self, cursor: Position) -> bool {
        self.frames += 1;
        let done = self.frames >= SCAN_FRAMES_MAX;
        if done {
            self.page.next = Some(cursor);
        }
        done
    }

    /// Looks at one record; tells whether the page is done.
    fn visit(
        &mut self,
        frame: &Frame,
        index: usize,
        wanted: &mut impl FnMut(&StoredEvent) -> bool,
    ) -> Result<bool, Error> {
        if !frame.is_event(index) {
            return Ok(false);
        }
        let Some(Record::Event(event)) = frame.record(index).map_err(damaged(frame.seq()))? else {
            return Ok(false);
        };
        self.looked_at += 1;
        if wanted(&event) {
            self.page.items.push(Arc::new(event));
        }
        let done = self.page.items.len() >= self.scan.limit || self.looked_at >= self.scan.scan_max;
        if done {
            self.page.next = Some(frame.position(index));
        }
        Ok(done)
    }
}
