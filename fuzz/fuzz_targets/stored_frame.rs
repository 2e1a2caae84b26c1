//! Whatever bytes the disk gives back, reading them as a frame, a record or a sealed secret neither
//! panics nor takes memory beyond the limits; what is read as a record is written as it was.

#![no_main]

use hookkeeper::event_log::codec::{decode_record, encode_record};
use hookkeeper::event_log::record::Record;
use hookkeeper::event_log::{Frame, decode_frame};
use hookkeeper::secrets::MasterKey;
use libfuzzer_sys::fuzz_target;

fn read_frame(frame: &Frame) {
    for (position, record) in frame.records() {
        assert_eq!(position.frame(), 7);
        let is_event = matches!(record, Ok(Record::Event(_)));
        assert!(!is_event || frame.is_event(position.index()) && frame.event_id(position.index()).is_some());
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = decode_frame(0, 7, bytes) {
        read_frame(&frame);
    }
    if let Ok(record) = decode_record(bytes) {
        let written = encode_record(&record);
        assert_eq!(decode_record(&written).as_ref(), Ok(&record));
        assert_eq!(encode_record(&decode_record(&written).expect("it was just read")), written);
    }
    let key = MasterKey::from_bytes([7; 32]);
    assert!(key.unseal("github/signing_secret", bytes).is_err(), "nobody seals without the key");
});
