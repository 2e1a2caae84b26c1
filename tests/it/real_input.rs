//! Real deliveries through a real server: bodies that others wrote, signed by the providers' own SDKs,
//! received by functions that verify with them.

use std::collections::HashMap;

use jiff::ToSpan;

use crate::sdk::{Delivery, sdks};
use crate::support::{Connection, Receiver, Server};

const GITHUB: &str = "It's a Secret to Everybody";
const STRIPE: &str = "whsec_5e34a1f0c2b74d7e9a";
const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SLACK: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const FUNCTION: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// How many of GitHub's examples are sent; every event has several.
const EXAMPLES: usize = 60;

fn server(receiver: &Receiver) -> Server {
    let mut text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n".to_owned();
    for (provider, secret) in
        [("github", GITHUB), ("stripe", STRIPE), ("standard-webhooks", STANDARD), ("slack", SLACK)]
    {
        // What is delivered an hour late was received an hour ago.
        let tolerance = if provider == "github" { "" } else { "tolerance = \"2h\"\n" };
        text.push_str(&format!(
            "[[triggers]]\nid = \"{provider}\"\nprovider = \"{provider}\"\n{tolerance}\
             secrets = {{ signing_secret = \"literal:{secret}\" }}\n"
        ));
    }
    text.push_str(&format!(
        "[[functions]]\nid = \"as-provider\"\nhandler = {{ http = \"{}\" }}\nsign_as = \"provider\"\n\
         [[functions]]\nid = \"as-hookkeeper\"\nhandler = {{ http = \"{}\" }}\nsigning_secret = \"literal:{FUNCTION}\"\n",
        receiver.url("/as-provider"),
        receiver.url("/as-hookkeeper"),
    ));
    Server::start(&text)
}

#[test]
fn what_the_sdks_sign_comes_through_and_what_is_delivered_they_accept() {
    let Some(sdks) = sdks() else { return };
    let receiver = Receiver::start();
    let server = server(&receiver);
    let now = hookkeeper::clock::Clock::system().now();
    let hour_ago = now - 1.hour();

    let examples: Vec<_> = sdks.github_examples().into_iter().step_by(5).take(EXAMPLES).collect();
    assert!(examples.len() >= 50, "GitHub's SDK publishes {} of them", examples.len());
    let delivery =
        |provider: &str, n: usize, body: Vec<u8>, at| Delivery { body, id: format!("{provider}-{n}"), at };
    let mut sent: HashMap<String, (&str, Delivery)> = HashMap::new();
    let mut connection = Connection::open(server.front).unwrap();
    for (provider, secret, at) in [
        ("github", GITHUB, now),
        ("stripe", STRIPE, hour_ago),
        ("standard-webhooks", STANDARD, hour_ago),
        ("slack", SLACK, hour_ago),
    ] {
        let bodies: Vec<(String, Vec<u8>)> = match provider {
            "github" => examples.clone(),
            _ => (0..5).map(|n| (String::new(), body(provider, n))).collect(),
        };
        let deliveries: Vec<_> =
            bodies.iter().enumerate().map(|(n, (_, body))| delivery(provider, n, body.clone(), at)).collect();
        let signed = sdks.sign(provider, secret, &deliveries);
        for ((delivery, headers), (event, _)) in deliveries.into_iter().zip(signed).zip(&bodies) {
            let mut all = vec![("content-type", "application/json")];
            if provider == "github" {
                all.extend([("x-github-event", event.as_str()), ("x-github-delivery", delivery.id.as_str())]);
            }
            let headers: Vec<_> =
                headers.iter().map(|(n, v)| (n.as_str(), std::str::from_utf8(v).unwrap())).collect();
            all.extend(headers);
            let path = format!("/hooks/{provider}");
            let answer = connection.request("POST", &path, &all, &delivery.body).unwrap();
            assert_eq!(answer.status, 200, "{provider} {}: {}", delivery.id, answer.text());
            let id = answer.header("x-hookkeeper-event-id").unwrap().to_owned();
            sent.insert(id, (provider, delivery));
        }
    }

    let got = receiver.wait_for(2 * sent.len());
    let arrived = hookkeeper::clock::Clock::system().now();
    for (path, secret_of) in [("/as-provider", None), ("/as-hookkeeper", Some(FUNCTION))] {
        let mut by_provider: HashMap<&str, Vec<_>> = HashMap::new();
        for request in got.iter().filter(|request| request.path == path) {
            let (provider, delivery) = &sent[request.header("ce-id").unwrap()];
            assert!(request.body == delivery.body, "{provider} {}: byte for byte", delivery.id);
            let headers =
                request.headers.iter().map(|(n, v)| (n.clone(), v.clone().into_bytes().into())).collect();
            // The receiver's clock shows when the delivery arrived there, not when the provider sent it.
            by_provider
                .entry(provider)
                .or_default()
                .push((Delivery { at: arrived, ..delivery.clone() }, headers));
        }
        assert_eq!(by_provider.values().map(Vec::len).sum::<usize>(), sent.len(), "{path}");
        for (provider, requests) in by_provider {
            let (sdk, secret) = match (secret_of, provider) {
                (Some(secret), _) => ("standard-webhooks", secret),
                (None, "github") => (provider, GITHUB),
                (None, "stripe") => (provider, STRIPE),
                (None, "slack") => (provider, SLACK),
                (None, _) => (provider, STANDARD),
            };
            for (verdict, (delivery, _)) in sdks.verify(sdk, secret, &requests).iter().zip(&requests) {
                assert_eq!(*verdict, Ok(()), "{path} {provider} {}", delivery.id);
            }
        }
    }
}

fn body(provider: &str, n: usize) -> Vec<u8> {
    let value = match provider {
        "slack" => serde_json::json!({
            "type": "event_callback", "event_id": format!("Ev{n}"), "event": { "type": "message", "text": "häh?" },
        }),
        _ => {
            serde_json::json!({ "id": format!("evt_{n}"), "type": "invoice.paid", "created": 1_700_000_000, "data": {} })
        }
    };
    serde_json::to_vec_pretty(&value).unwrap()
}
