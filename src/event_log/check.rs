//! Looking a log over for `doctor`: every frame, every body, and whether what is derived fits.

use std::path::Path;
use std::sync::Arc;

use super::claims::{Files, claim_key};
use super::frame::Frame;
use super::reader::Reader;
use super::record::Record;
use super::state::State;
use super::{CLAIMS_DIR, CLAIMS_KEPT, Error, Log, PARTITION, decode_frame, open_to_read};
use crate::event::{Body, StoredEvent};
use crate::frames::Seq;

/// Most findings that a report lists; it counts all.
const FINDINGS_MAX: usize = 100;
/// How much is read from the store at once.
const READ_BYTES: usize = 1024 * 1024;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Frames read.
    pub frames: u64,
    /// Bytes of frames read, as stored.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Events among them.
    pub events: u64,
    /// Duplicates among them.
    pub duplicates: u64,
    /// Spooled bodies, whose files were read and compared.
    pub bodies: u64,
    /// Dedupe keys that were looked up in the files of claims.
    pub claims: u64,
    /// How many findings there are; none is a log in order.
    pub findings: u64,
    /// The first of them, each a sentence that says what and where.
    pub listed: Vec<String>,
}

impl Report {
    fn finding(&mut self, text: String) {
        self.findings += 1;
        if self.listed.len() < FINDINGS_MAX {
            self.listed.push(text);
        }
    }
}

impl Log {
    /// Reads all of a stopped server's log and compares it with its checksums, its bodies, and what is
    /// derived from it. Blocks.
    ///
    /// # Errors
    ///
    /// If a process has the folder, or the store itself cannot be read; what is wrong within it is in the
    /// report.
    pub fn check(dir: &Path) -> Result<Report, Error> {
        let (reader, sled, table) = open_to_read(dir)?;
        let mut report = Report::default();
        // Without files of claims there is nothing to compare: they are made anew when the log is opened.
        let files = Files::read(&dir.join(CLAIMS_DIR));
        check_frames(&mut report, &reader, files.as_ref())?;
        if let Some(files) = &files {
            files.damage().into_iter().for_each(|text| report.finding(text));
        }
        if report.findings == 0 {
            check_state(
                &mut report,
                &State::open(table, Arc::clone(&reader), reader.store.tail(PARTITION)?)?,
            );
        }
        let blobs = sled.map_or(0, |sled| sled.blobs());
        if blobs > 0 {
            report.finding(format!("{blobs} values lie outside the file that the store flushes"));
        }
        Ok(report)
    }
}

fn check_frames(report: &mut Report, reader: &Reader, files: Option<&Files>) -> Result<(), Error> {
    let mut next: Option<Seq> = None;
    loop {
        let frames = reader.store.read(PARTITION, next.unwrap_or(1), READ_BYTES)?;
        if frames.is_empty() {
            return Ok(());
        }
        for (seq, stored) in frames {
            let expected = next.unwrap_or(seq);
            if seq != expected {
                report.finding(format!("frames {expected} to {} are missing", seq - 1));
            }
            next = Some(seq + 1);
            report.frames += 1;
            report.bytes += stored.len() as u64;
            match decode_frame(PARTITION, seq, &stored) {
                Ok(frame) => check_records(report, reader, &frame, files),
                Err(error) => report.finding(format!("frame {seq}: {error}")),
            }
        }
    }
}

fn check_records(report: &mut Report, reader: &Reader, frame: &Frame, files: Option<&Files>) {
    for (position, record) in frame.records() {
        report.records += 1;
        match record {
            Ok(Record::Event(event)) => {
                check_event(report, reader, &event);
                if let Some(files) = files {
                    check_claim(report, &event, files);
                }
            }
            Ok(Record::Duplicate(_)) => report.duplicates += 1,
            Ok(_) => {}
            Err(error) => report.finding(format!("record {position}: {error}")),
        }
    }
}

fn check_event(report: &mut Report, reader: &Reader, event: &StoredEvent) {
    report.events += 1;
    if let Body::Spooled(_) = &event.content.body {
        report.bodies += 1;
        if let Err(error) = reader.body(event) {
            report.finding(format!("event {}: {error}", event.id));
        }
    }
}

/// The fold must have counted what the log holds.
fn check_state(report: &mut Report, state: &State) {
    let counts = state.counts();
    if (counts.events, counts.duplicates) != (report.events, report.duplicates) {
        report.finding(format!(
            "the derived state counts {} events and {} duplicates, the log holds {} and {}: run doctor --rebuild",
            counts.events, counts.duplicates, report.events, report.duplicates
        ));
    }
}

/// A key of an event that the files cover must be held by it or by a later event.
fn check_claim(report: &mut Report, event: &StoredEvent, files: &Files) {
    let Some(key) = &event.content.dedupe_key else { return };
    let kept_from = files.newest_ms().saturating_sub(CLAIMS_KEPT.as_millis() as u64);
    if event.id.position().frame() > files.through() || event.id.time_ms() < kept_from {
        return;
    }
    report.claims += 1;
    match files.get(claim_key(event.content.trigger_id.as_str(), key)) {
        Ok(Some(holder)) if holder >= event.id => {}
        Ok(_) => {
            report.finding(format!("the dedupe key of event {} is not in the files of claims", event.id));
        }
        Err(error) => report.finding(error.to_string()),
    }
}
