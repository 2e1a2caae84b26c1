//! What a connector answers, and what it makes of a delivery that it says nothing of.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::connector::{Rejection, Reply};
use crate::event::RejectReason;

/// Returns the answer that an event's kind asks for: `reply STATUS [NAME=VALUE;]…` with the event, or
/// `reject STATUS`.
pub(super) fn wanted(event: &Normalized) -> Option<NormalizeResult> {
    let mut words = event.kind.splitn(3, ' ');
    let (what, status) = (words.next()?, words.next()?.parse().ok()?);
    let headers = words.next().unwrap_or_default().split_terminator(';');
    let header = |text: &str| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let reply = Reply { status, headers: headers.filter_map(header).collect(), body: "hello".into() };
    let events = vec![Normalized { kind: "asked".to_owned(), ..event.clone() }];
    match what {
        "reply" => Some(NormalizeResult::Immediate { reply, events, learn: None, call: None }),
        "reject" => {
            let rejection = Rejection::new(RejectReason::InvalidHeader, "another's account");
            Some(NormalizeResult::Reject(rejection.with_status(status)))
        }
        _ => None,
    }
}

impl House {
    /// Sends a delivery of `acme`; returns all that comes back on the connection.
    async fn answer(&self, rest: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.running.started.listen).await.unwrap();
        let body = format!("k3y\n{rest}");
        let head = format!(
            "POST /hooks/acme HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Returns the one event of a delivery.
    async fn stored(&self, rest: &str) -> Arc<crate::event::StoredEvent> {
        let answer = self.acme(rest).await;
        assert_eq!(answer.status(), 200);
        let id = answer.headers()["x-hookkeeper-event-id"].to_str().unwrap().parse().unwrap();
        self.running.log.event(id).unwrap().unwrap()
    }
}

#[actix::test]
async fn an_answer_that_cannot_be_sent_is_the_connectors_failure_and_stores_nothing() {
    let house = House::start(Script::new(&[])).await;
    let bad =
        ["reply 0", "reply 100", "reply 101", "reply 199", "reply 600", "reply 200 a b=c;", "reply 200 =c;"];
    let bad = [&bad[..], &["reply 200 x-ü=c;", "reply 200 x=a\u{1}b;", "reject 200", "reject 600"]].concat();
    for (number, kind) in bad.iter().enumerate() {
        let answer = house.acme(&format!("{kind}\n{number}")).await;
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap()),
            (500, r#"{"error":"internal_error"}"#.to_owned()),
            "{kind}"
        );
    }
    let counters = &house.snapshot("acme").fixed.counters;
    assert_eq!(counters.accepted.load(Ordering::Relaxed), 0);
    let lines = || house.running.log.read_topic(crate::provider::AUDIT_PROVIDER, None, 100).unwrap().items;
    house.holds("their lines", || lines().len() == bad.len()).await;
    let (_, Record::Audit(line)) = lines().remove(0) else { panic!("it is a line of an audit") };
    assert_eq!(line.code, "connector_failed");
    assert_eq!(line.detail, "a reply has a status from 200 to 599, not 0");
    house.stop().await;
}

#[actix::test]
async fn an_answer_is_sent_as_the_connector_wants_it() {
    let house = House::start(Script::new(&[])).await;
    let answer = house.answer("reply 202 link=a;link=b;x=ü;\n1").await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    for header in ["link: a\r\n", "link: b\r\n", "x: ü\r\n", "x-hookkeeper-event-id: "] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    for status in [204, 205, 304] {
        let answer = house.answer(&format!("reply {status}\n{status}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "a body would be read as the next answer: {answer}");
    }
    house.stop().await;
}

#[actix::test]
async fn a_rejection_may_have_a_status_of_its_own_and_is_audited_all_the_same() {
    let house = House::start(Script::new(&[])).await;
    let answer = house.acme("reject 410\n1").await;
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap()),
        (410, r#"{"error":"invalid_header"}"#.to_owned())
    );
    let lines = || house.running.log.read_topic(crate::connector::AUDIT_TOPIC, None, 10).unwrap().items;
    house.holds("its line", || lines().len() == 1).await;
    let (_, Record::Audit(line)) = lines().remove(0) else { panic!("it is a line of an audit") };
    assert_eq!((line.code.as_str(), line.detail.as_str()), ("invalid_header", "another's account"));
    house.stop().await;
}

#[actix::test]
async fn a_delivery_of_which_the_connector_says_nothing_is_kept_all_the_same() {
    let house = House::start(Script::new(&[])).await;
    let event = house.stored("a\n1\n0").await;
    let content = &event.content;
    assert_eq!((content.kind.as_str(), &content.signature_status), ("unknown", &SignatureStatus::Unsigned));
    let first = house.stored("\n\n1").await;
    assert_eq!((first.content.kind.as_str(), &first.content.dedupe_key), ("unknown", &None));
    assert_ne!(house.stored("\n\n1").await.id, first.id, "an empty key makes no two events the same");
    house.stop().await;
}
