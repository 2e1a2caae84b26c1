//! The quarantine over a folder of its own.

use tempfile::TempDir;

use super::store::{PACE_BURST, QUEUE_BYTES_MAX, SENDER_ROOM};
use super::*;
use crate::secrets::MasterKey;

const SECRET: &[u8] = b"Bearer wolpertinger";

struct House {
    data: TempDir,
    vault: Arc<Vault>,
}

impl House {
    fn new() -> Self {
        Self {
            data: TempDir::new().unwrap(),
            vault: Arc::new(Vault::with_key(MasterKey::from_bytes([7; 32]))),
        }
    }

    fn start(&self) -> Quarantine {
        self.start_with_room(true)
    }

    fn start_with_room(&self, room: bool) -> Quarantine {
        Quarantine::start(Parts {
            data: self.data.path(),
            vault: self.vault.clone(),
            triggers: vec![id("github")],
            has_room: Box::new(move || room),
        })
        .unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.data.path().join("quarantine")).unwrap();
        let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "held"));
        files
    }
}

fn id(text: &str) -> TriggerId {
    text.parse().unwrap()
}

fn raw(second: i64, peer: [u8; 4], body: &[u8]) -> RawInbound {
    RawInbound {
        method: "POST".to_owned(),
        url: "/hooks/github?a=1".to_owned(),
        headers: vec![
            ("authorization".to_owned(), Bytes::from_static(SECRET)),
            ("x-github-delivery".to_owned(), Bytes::from_static(b"72d3162e")),
        ],
        body: Bytes::copy_from_slice(body),
        received_at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        peer: Some(IpAddr::from(peer)),
    }
}

fn keep(quarantine: &Quarantine, reason: RejectReason, raw: &RawInbound) {
    quarantine.keep(Refused {
        trigger_id: &id("github"),
        provider: &"github".parse().unwrap(),
        id_locations: &["header:X-GitHub-Delivery".to_owned(), "json:/id".to_owned()],
        rejection: &Rejection::new(reason, "no"),
        raw,
    });
}

const WRONG: RejectReason = RejectReason::InvalidSignature;
const MISSING: RejectReason = RejectReason::MissingHeader;

fn all(quarantine: &Quarantine) -> Vec<Held> {
    quarantine.list(&Filter::default(), None, 100_000).unwrap().0
}

#[test]
fn what_is_kept_is_there_after_a_restart_byte_for_byte_and_sealed() {
    let house = House::new();
    let quarantine = house.start();
    quarantine.verified(&id("github"), IpAddr::from([192, 0, 2, 1]));
    let (near, far) = (raw(0, [192, 0, 2, 1], b"{\"card\":4242}\xff"), raw(1, [192, 0, 2, 2], b"x"));
    keep(&quarantine, WRONG, &near);
    keep(&quarantine, MISSING, &far);
    quarantine.stop();

    let quarantine = house.start();
    let held = all(&quarantine);
    assert_eq!(held.iter().map(|held| held.reason).collect::<Vec<_>>(), [MISSING, WRONG], "newest first");
    assert_eq!(held[1].nearness, Nearness { has_form: true, is_known: true, has_id: true });
    assert_eq!(held[0].nearness, Nearness { has_form: false, is_known: false, has_id: true });
    let opened = quarantine.open(&held[1]).unwrap();
    assert_eq!(
        (opened.method, opened.url, opened.headers, opened.body),
        (near.method, near.url, near.headers, near.body)
    );
    assert_eq!((opened.received_at, opened.peer), (near.received_at, near.peer));

    for file in house.files() {
        let content = std::fs::read(&file).unwrap();
        for secret in [SECRET, b"card", b"github", b"/hooks"] {
            assert!(!content.windows(secret.len()).any(|window| window == secret), "{}", file.display());
        }
    }
    // Who verified before is known after a restart as well.
    keep(&quarantine, WRONG, &raw(2, [192, 0, 2, 1], b"y"));
    quarantine.stop();
    assert!(all(&quarantine)[0].nearness.is_known);
}

#[test]
fn a_folder_is_read_without_a_server_and_left_as_it_is() {
    let house = House::new();
    let reader = || Quarantine::reader(house.data.path(), house.vault.clone());
    assert!(all(&reader()).is_empty(), "there is no folder");
    let quarantine = house.start();
    keep(&quarantine, WRONG, &raw(0, [192, 0, 2, 1], b"x"));
    quarantine.stop();
    let held = all(&reader());
    assert_eq!(reader().open(&held[0]).unwrap().body, "x");

    let other = Arc::new(Vault::with_key(MasterKey::from_bytes([8; 32])));
    let error = Quarantine::reader(house.data.path(), other).list(&Filter::default(), None, 10).unwrap_err();
    assert!(error.to_string().contains("HOOKKEEPER_MASTER_KEY"), "{error}");
    assert_eq!(house.files().len(), 1);
}

#[test]
fn damaged_files_are_passed_over_and_purged_with_all() {
    let house = House::new();
    let quarantine = house.start();
    for second in 0..3 {
        keep(&quarantine, WRONG, &raw(second, [192, 0, 2, 1], b"x"));
    }
    quarantine.stop();
    let held = all(&quarantine);
    let file = |held: &Held| house.data.path().join(format!("quarantine/{}.held", held.id));
    std::fs::write(file(&held[0]), b"broke off").unwrap();
    let torn = std::fs::read(file(&held[1])).unwrap();
    std::fs::write(file(&held[1]), &torn[..torn.len() - 1]).unwrap();

    let damaged = held[0].id;
    let quarantine = house.start();
    let held = all(&quarantine);
    assert_eq!(held.len(), 2);
    assert!(matches!(quarantine.get(damaged), Err(Error::Sealed(_))), "it is there all the same");
    assert!(matches!(quarantine.open(&held[0]), Err(Error::Seal(_))), "its request broke off");
    assert!(quarantine.open(&held[1]).is_ok());
    let some = Filter { reason: Some(WRONG), ..Filter::default() };
    assert_eq!((quarantine.purge_all(&some), house.files().len()), (2, 1));
    assert_eq!((quarantine.purge_all(&Filter::default()), house.files().len()), (1, 0));
}

#[test]
fn a_flood_is_paced_and_takes_nothing_from_near_misses() {
    let house = House::new();
    let quarantine = house.start();
    keep(&quarantine, WRONG, &raw(0, [192, 0, 2, 1], b"the one that counts"));
    for n in 0..3_000_u32 {
        let [.., a, b] = n.to_be_bytes();
        keep(&quarantine, MISSING, &raw(1, [10, 0, a, b], b"forged"));
    }
    keep(&quarantine, WRONG, &raw(2, [192, 0, 2, 1], b"and another"));
    quarantine.stop();
    let gauges = quarantine.gauges();
    assert_eq!(gauges.entries as u64 + gauges.evicted + gauges.dropped, 3_002);
    assert!(gauges.entries <= PACE_BURST as usize + 2 && gauges.dropped >= 2_500, "{gauges:?}");
    assert_eq!(house.files().len(), gauges.entries);
    let near = Filter { reason: Some(WRONG), ..Filter::default() };
    assert_eq!(quarantine.list(&near, None, 10).unwrap().0.len(), 2, "another class has another pace");
}

#[test]
fn what_gives_way_is_removed_from_the_folder() {
    let house = House::new();
    let quarantine = house.start();
    let body = vec![b'x'; BODY_BYTES_MAX];
    for second in 0..20 {
        // One at a time: the queue holds less than this.
        keep(&quarantine, WRONG, &raw(second, [192, 0, 2, 1], &body));
        while quarantine.gauges().entries as u64 + quarantine.gauges().evicted <= second as u64 {
            std::thread::yield_now();
        }
    }
    quarantine.stop();
    let held = all(&quarantine);
    let newest: Vec<_> = held.iter().map(|held| held.received_at.as_second() - 1_700_000_000).collect();
    assert_eq!(newest, [19, 18, 17, 16, 15, 14, 13], "with its seal, the eighth would be over 8 MiB");
    let bytes: u64 = house.files().iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= SENDER_ROOM.bytes, "{bytes}");
    assert_eq!(house.files().len(), held.len());
}

#[test]
fn a_large_body_is_not_kept_and_a_full_disk_keeps_nothing() {
    let house = House::new();
    let quarantine = house.start();
    keep(&quarantine, WRONG, &raw(0, [192, 0, 2, 1], &vec![b'x'; BODY_BYTES_MAX + 1]));
    quarantine.stop();
    let held = &all(&quarantine)[0];
    assert_eq!((held.has_body, held.body_bytes), (false, BODY_BYTES_MAX as u64 + 1));

    let quarantine = house.start_with_room(false);
    keep(&quarantine, WRONG, &raw(1, [192, 0, 2, 1], b"x"));
    quarantine.stop();
    keep(&quarantine, WRONG, &raw(2, [192, 0, 2, 1], b"x"));
    assert_eq!((all(&quarantine).len(), quarantine.gauges().dropped), (1, 2));
}

#[test]
fn pages_and_filters_find_each_delivery_once() {
    let house = House::new();
    let quarantine = house.start();
    for second in 0..9 {
        let reason = if second % 3 == 0 { MISSING } else { WRONG };
        keep(&quarantine, reason, &raw(second, [192, 0, 2, 1], b"x"));
    }
    quarantine.stop();
    let second = |held: &Held| held.received_at.as_second() - 1_700_000_000;
    let pages = |filter: &Filter| {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = quarantine.list(filter, cursor, 2).unwrap();
            found.extend(page.iter().map(second));
            match next {
                Some(next) => cursor = Some(next),
                None => return found,
            }
        }
    };
    assert_eq!(pages(&Filter::default()), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let at = |second: i64| Some(Timestamp::from_second(1_700_000_000 + second).unwrap());
    let some = Filter { reason: Some(MISSING), since: at(1), until: at(6), ..Filter::default() };
    assert_eq!(pages(&some), [3]);
    assert!(pages(&Filter { trigger: Some(id("other")), ..Filter::default() }).is_empty());
}

#[test]
fn one_delivery_is_released_by_one_at_a_time() {
    let house = House::new();
    let quarantine = house.start();
    keep(&quarantine, WRONG, &raw(0, [192, 0, 2, 1], b"x"));
    quarantine.stop();
    let held = all(&quarantine)[0].id;
    let claim = quarantine.claim(held).unwrap();
    assert!(matches!(quarantine.claim(held), Err(Error::Busy(_))));
    drop(claim);
    quarantine.claim(held).unwrap().done();
    assert!(matches!(quarantine.get(held), Err(Error::NotFound(_))));
    assert!(house.files().is_empty() && !quarantine.purge(held));
}

#[test]
fn handing_over_does_not_wait_for_the_disk() {
    let house = House::new();
    let quarantine = house.start();
    // Whoever reads holds the shelf; the writer waits for it, and senders for nobody.
    let shelf = quarantine.store().shelf().lock();
    let large = raw(0, [192, 0, 2, 1], &vec![b'x'; BODY_BYTES_MAX]);
    for _ in 0..200 {
        keep(&quarantine, WRONG, &large);
    }
    assert!(quarantine.store().queued_bytes.load(Ordering::Relaxed) <= QUEUE_BYTES_MAX);
    assert!(quarantine.store().dropped.load(Ordering::Relaxed) >= 190);
    drop(shelf);
    quarantine.stop();
    assert_eq!(quarantine.store().queued_bytes.load(Ordering::Relaxed), 0);
}
