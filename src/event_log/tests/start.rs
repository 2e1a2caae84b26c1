//! What opening costs: as much as is not folded yet, however much is stored.

use std::sync::atomic::AtomicUsize;

use super::*;

/// A store that counts the frames that it hands out.
struct Counting {
    sled: Arc<SledLog>,
    frames: AtomicUsize,
}

impl EventLog for Counting {
    fn acquire(&self, partition: Partition) -> Result<(Epoch, Seq), Error> {
        self.sled.acquire(partition)
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        expected: Seq,
        frames: &[Bytes],
    ) -> Result<Appended, Error> {
        self.sled.append(partition, epoch, expected, frames)
    }

    fn read(&self, partition: Partition, from: Seq, bytes_max: usize) -> Result<Vec<(Seq, Bytes)>, Error> {
        let frames = self.sled.read(partition, from, bytes_max)?;
        self.frames.fetch_add(frames.len(), Ordering::Relaxed);
        Ok(frames)
    }

    fn tail(&self, partition: Partition) -> Result<Seq, Error> {
        self.sled.tail(partition)
    }

    fn get(&self, partition: Partition, seq: Seq) -> Result<Option<Bytes>, Error> {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.sled.get(partition, seq)
    }

    fn trim(&self, partition: Partition, before: Seq) -> Result<(), Error> {
        self.sled.trim(partition, before)
    }

    fn redact(&self, partition: Partition, seq: Seq, frame: &[u8]) -> Result<(), Error> {
        self.sled.redact(partition, seq, frame)
    }
}

/// Opens what is derived from a closed log, as opening the log does; returns how many frames that took, and what
/// is due then.
fn opened(dir: &Path) -> (usize, Taken) {
    let sled = Arc::new(SledLog::open(dir, false).unwrap());
    let tail = sled.tail(PARTITION).unwrap();
    let table = Arc::new(SledTable::open(Arc::clone(&sled)).unwrap());
    let store = Arc::new(Counting { sled, frames: AtomicUsize::new(0) });
    let reader = Arc::new(Reader {
        store: Arc::clone(&store) as Arc<dyn EventLog>,
        cache: FrameCache::default(),
        reading: parking_lot::Mutex::default(),
        bodies: dir.join(BODIES_DIR),
        _lock: Lock::take(dir).unwrap(),
    });
    let state = State::open(table, Arc::clone(&reader), tail).unwrap();
    Claims::open(&dir.join(CLAIMS_DIR), &reader, tail, CLAIMS_KEPT, 0, TABLE_CLAIMS).unwrap();
    let taken = state.take_due(&function(), ms(0), 10).unwrap();
    (store.frames.load(Ordering::Relaxed), taken)
}

async fn check(finished: usize) {
    let mut bed = Bed::sled();
    for n in 0..=finished {
        let id = bed.ingest(Some(&n.to_string())).await.id();
        bed.append(routed(bed.log(), id, Start::Due(at(0)))).await;
        if n < finished {
            bed.append(attempted(run_id(id, 1), 1, Next::Succeeded)).await;
        }
    }
    drop(bed.log.take());
    let (frames, taken) = opened(bed.dir.path());
    assert_eq!(taken.runs.len(), 1, "one run of {finished} is not finished");
    assert!(frames <= 4, "{frames} frames were read, with {finished} runs finished");
}

#[tokio::test]
async fn opening_costs_what_is_pending_and_not_what_is_stored() {
    check(2).await;
    check(200).await;
}
