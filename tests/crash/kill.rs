//! The whole server: SIGKILL and power cuts at random moments, and a graceful stop under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::{Load, cycles, seed};
use crate::powercut::{Model, PowerCut, Random};
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
        std::thread::sleep(Duration::from_millis(20 + random.below(300) as u64));
        server.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
    server.restart();
    assert!(load.acked().len() as u64 >= cycles(), "the load got through between the kills");
    load.redeliver_unacked(&server);
    load.check(&server, &receiver);
}

/// Cuts the server's power again and again; `model` says what a cut takes.
fn check_power_cuts(name: &str, model: impl Fn(u64) -> Model) {
    let mut random = Random(seed(name) | 1);
    let receiver = Receiver::start();
    let mut server = Server::prepare(&config(&receiver.url("/fn")));
    let Some(cut) = PowerCut::prepare(server.folder.path(), &server.data()) else { return };
    let load = Load::new();
    for _ in 0..cycles() {
        let mut command = server.command();
        cut.watch(&mut command);
        server.restart_as(command);
        let senders = load.send(server.front, &Arc::default());
        std::thread::sleep(Duration::from_millis(50 + random.below(300) as u64));
        server.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        cut.cut(model(random.below(usize::MAX) as u64));
    }
    server.restart();
    assert!(load.acked().len() as u64 >= cycles(), "the load got through between the cuts");
    load.redeliver_unacked(&server);
    load.check(&server, &receiver);
}

#[test]
fn no_acknowledged_event_is_lost_by_power_cuts_that_take_all_unsynced() {
    check_power_cuts("server, strict", |_| Model::Strict);
}

#[test]
fn no_acknowledged_event_is_lost_by_power_cuts_that_take_and_tear_some() {
    check_power_cuts("server, random", Model::Random);
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
