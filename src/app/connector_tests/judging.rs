//! What a connector in code that takes long over deliveries costs others.

use super::*;

/// More deliveries than are judged at once on any machine that tests this.
const DELIVERIES: usize = 70;

#[actix::test]
#[allow(
    clippy::await_holding_lock,
    reason = "what it blocks is other threads, for as long as the test holds it"
)]
async fn one_that_takes_long_over_deliveries_holds_up_no_other() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let at_once = (processors / 2).max(2);
    for callback in ["normalize_inbound", "wanted_keys"] {
        let script = Script::new(&[(callback, &[Does::Blocks; DELIVERIES])]);
        let house = House::start(script.clone()).await;
        let blocked = script.blocked.lock().unwrap();
        let slow = (0..at_once + 2).map(|id| house.acme_with(format!("order.paid\n{id}")));
        let others = async {
            house.holds("they are being judged", || script.calls(callback) == at_once).await;
            for id in 0..20 {
                assert_eq!(house.github(&id.to_string()).await, 200, "{callback}");
            }
            assert_eq!(script.calls(callback), at_once, "no more at once");
            drop(blocked);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(slow), others);
        assert!(answers.iter().all(|status| *status == 200), "{callback}: {answers:?}");
        house.stop().await;
    }
}
