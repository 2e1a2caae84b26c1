//! Whatever bytes the disk gives back, reading them as a frame or record neither panics nor takes memory
//! beyond the limits; what is read as a record is written as it was.
#![no_main]

use hookkeeper::event_log::codec::{decode_record, encode_record};
use hookkeeper::event_log::decode_frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = decode_frame(0, 7, bytes) {
        for (_, record) in frame.records() {
            let _ = record;
        }
    }
    if let Ok(record) = decode_record(bytes) {
        assert_eq!(decode_record(&encode_record(&record)).as_ref(), Ok(&record));
    }
});
