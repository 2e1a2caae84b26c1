//! What is special about some clients: headers, hosts, and how their errors and pages look.

use hookkeeper::connector::ClientError;
use serde_json::json;

use super::{Api, Setup, TOKEN};
use crate::support::tls_host::{answer, answer_with};

#[tokio::test]
async fn a_listing_of_sentry_ends_where_its_next_page_is_empty() {
    let api = Api::new(&Setup { provider: "sentry", names: &["sentry.io"], ..Setup::default() });
    api.host.respond(|asked| {
        let (id, results) = if asked.contains("cursor=") { (2, false) } else { (1, true) };
        let next = "https://sentry.io/api/0/organizations/acme/issues/?cursor=0:100:0";
        let link = format!("link: <{next}>; rel=\"next\"; results=\"{results}\"; cursor=\"0:100:0\"\r\n");
        answer_with(200, &link, &format!("[{{\"id\":\"{id}\"}}]"))
    });
    let found = api.call("list_issues", json!({"organization": "acme", "all": true})).await.unwrap();
    assert_eq!(found, json!({"items": [{"id": "1"}, {"id": "2"}], "next_cursor": null}));
    assert_eq!(api.host.requests()[0].line, "GET /api/0/organizations/acme/issues/?limit=100");
}

#[tokio::test]
async fn pagerduty_hears_its_media_type_and_in_whose_name() {
    let setup = |settings| Setup {
        provider: "pagerduty",
        names: &["api.pagerduty.com"],
        secrets: &[("api_key", TOKEN)],
        settings,
        ..Setup::default()
    };
    let api = Api::new(&setup(&[("from", "ann@example.com")]));
    api.host.serves("{\"incident\":{\"id\":\"Q1\"}}");
    let service = json!({"id": "P1", "type": "service_reference"});
    let args = json!({"title": "down", "service": service, "urgency": "high"});
    assert_eq!(api.call("create_incident", args).await.unwrap(), json!({"id": "Q1"}));
    let asked = api.host.requests().pop().unwrap();
    let incident = json!({"type": "incident", "title": "down", "service": service, "urgency": "high"});
    assert_eq!(asked.json(), json!({"incident": incident}));
    assert_eq!(asked.header("accept"), "application/vnd.pagerduty+json;version=2");
    assert_eq!(asked.header("from"), "ann@example.com");
    assert_eq!(asked.header("authorization"), format!("Token token={TOKEN}"));

    let api = Api::new(&setup(&[]));
    api.host.respond(|_| {
        answer(
            400,
            "{\"error\":{\"code\":2001,\"message\":\"Invalid Input\",\"errors\":[\"Title is blank\"]}}",
        )
    });
    let error = api.failure("list_incidents", json!({"status": "triggered"})).await;
    assert_eq!(error.to_string(), "the provider refused with status 400: 2001: Title is blank");
    let asked = api.host.requests().pop().unwrap();
    assert_eq!(asked.line, "GET /incidents?statuses%5B%5D=triggered");
    assert!(!asked.headers.iter().any(|(name, _)| name == "from"), "an empty header is left out");
}

#[tokio::test]
async fn zendesk_knows_a_token_by_its_owners_address() {
    let api = Api::new(&Setup {
        provider: "zendesk",
        names: &["acme.zendesk.com"],
        secrets: &[("api_token", TOKEN)],
        settings: &[("subdomain", "acme"), ("email", "ann@example.com")],
        ..Setup::default()
    });
    api.host.serves("{\"ticket\":{\"id\":7}}");
    let args = json!({"id": 7, "body": "Thanks!", "public": false});
    assert_eq!(api.call("add_comment", args).await.unwrap(), json!({"id": 7}));
    let asked = api.host.requests().pop().unwrap();
    assert_eq!(asked.line, "PUT /api/v2/tickets/7.json");
    assert_eq!(asked.json(), json!({"ticket": {"comment": {"body": "Thanks!", "public": false}}}));
    // ann@example.com/token:tok-hunter22
    let basic = "Basic YW5uQGV4YW1wbGUuY29tL3Rva2VuOnRvay1odW50ZXIyMg==";
    assert_eq!(asked.header("authorization"), basic);
}

#[tokio::test]
async fn a_throttled_shop_is_a_rate_limit() {
    let api = Api::new(&Setup {
        provider: "shopify",
        names: &["acme.myshopify.com"],
        secrets: &[("access_token", TOKEN)],
        settings: &[("shop", "acme")],
        ..Setup::default()
    });
    api.host.serves("{\"data\":{\"tagsAdd\":{\"node\":{\"id\":\"o\"},\"userErrors\":[]}}}");
    let args = json!({"id": "gid://shopify/Order/1", "tags": ["vip"]});
    let added = api.call("add_tags", args.clone()).await.unwrap();
    assert_eq!(added, json!({"node": {"id": "o"}, "userErrors": []}));
    let asked = api.host.requests().pop().unwrap();
    assert_eq!(asked.line, "POST /admin/api/2026-07/graphql.json");
    assert_eq!(asked.header("x-shopify-access-token"), TOKEN);
    assert_eq!(asked.json()["variables"], args);
    api.host.respond(|_| {
        answer(200, "{\"errors\":[{\"message\":\"Throttled\",\"extensions\":{\"code\":\"THROTTLED\"}}]}")
    });
    let limited = api.failure("add_tags", args).await;
    assert!(matches!(limited, ClientError::RateLimited { .. }), "{limited}");
}

#[tokio::test]
async fn trello_has_key_and_token_in_a_header() {
    let api = Api::new(&Setup {
        provider: "trello",
        names: &["api.trello.com"],
        settings: &[("api_key", "key1")],
        ..Setup::default()
    });
    api.host.serves("{\"id\":\"c\"}");
    api.call("create_card", json!({"list": "l", "name": "x"})).await.unwrap();
    let asked = api.host.requests().pop().unwrap();
    assert_eq!((asked.line.as_str(), asked.json()), ("POST /1/cards", json!({"idList": "l", "name": "x"})));
    let shown = format!("OAuth oauth_consumer_key=\"key1\", oauth_token=\"{TOKEN}\"");
    assert_eq!(asked.header("authorization"), shown);
}

#[tokio::test]
async fn mailgun_takes_forms_at_the_host_of_the_region() {
    let api = Api::new(&Setup {
        provider: "mailgun",
        names: &["api.eu.mailgun.net"],
        secrets: &[("api_key", TOKEN)],
        settings: &[("host", "api.eu.mailgun.net")],
        ..Setup::default()
    });
    api.host.serves("{\"id\":\"<m@example.com>\",\"message\":\"Queued. Thank you.\"}");
    let args = json!({"domain": "example.com", "from": "a@example.com", "to": "b@example.com", "tag": "t"});
    api.call("send_message", args).await.unwrap();
    let asked = api.host.requests().pop().unwrap();
    assert_eq!(asked.line, "POST /v3/example.com/messages");
    assert_eq!(asked.body, "from=a%40example.com&o%3Atag=t&to=b%40example.com");
}
