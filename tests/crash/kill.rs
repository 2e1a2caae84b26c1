//! SIGKILL at random moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::{Load, Random, cycles, seed};
use crate::support::{Receiver, Server, config};

#[test]
fn no_acknowledged_event_is_lost_by_sigkill() {
    let mut random = Random(seed("sigkill"));
    let receiver = Receiver::start();
    let mut server = Server::prepare(&config(&receiver.url("/fn")));
    let load = Load::new();
    for _ in 0..cycles() {
        server.restart();
        let senders = load.send(server.front, &Arc::default());
        std::thread::sleep(Duration::from_millis(20 + random.below(300)));
        server.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
    server.restart();
    assert!(load.acked().len() as u64 >= cycles(), "the load got through between the kills");
    load.redeliver_unacked(&server);
    load.check(&server, &receiver);
}

#[test]
fn a_graceful_stop_under_load_exits_with_0_and_loses_nothing() {
    let receiver = Receiver::start();
    let mut server = Server::start(&config(&receiver.url("/fn")));
    let (load, stop) = (Load::new(), Arc::new(AtomicBool::new(false)));
    let senders = load.send(server.front, &stop);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    server.restart();
    assert!(!load.acked().is_empty());
    load.redeliver_unacked(&server);
    load.check(&server, &receiver);
}
