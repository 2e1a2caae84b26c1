//! Linear, Notion, Stripe, and every other client of the catalogue.

use std::time::Duration;

use hookkeeper::catalog::{ArgType, ClientAuth, ProviderCatalog};
use hookkeeper::connector::{CallOptions, ClientError, ConnectorClient};
use serde_json::{Map, Value, json};

use super::{Api, Setup, TOKEN, at, options};
use crate::support::tls_host::{answer, answer_with};

#[tokio::test]
async fn linear_is_asked_in_graphql_page_by_page() {
    let api = Api::new(&Setup {
        provider: "linear",
        names: &["api.linear.app"],
        secrets: &[("api_key", TOKEN)],
        ..Setup::default()
    });
    api.host.respond_to(|asked| {
        let after = asked.json()["variables"]["after"].clone();
        let (id, more, end) = if after.is_null() { (1, true, "c1") } else { (2, false, "c2") };
        let issues = json!({"nodes": [{"id": id}], "pageInfo": {"hasNextPage": more, "endCursor": end}});
        answer(200, &json!({"data": {"issues": issues}}).to_string())
    });
    let args = json!({"all": true, "filter": {"team": {"key": {"eq": "ENG"}}}});
    let found = api.call("list_issues", args).await.unwrap();
    assert_eq!(found, json!({"items": [{"id": 1}, {"id": 2}], "next_cursor": null}));
    let requests = api.host.requests();
    assert_eq!(requests[0].header("authorization"), TOKEN, "a personal key stands there bare");
    assert_eq!(requests[0].line, "POST /graphql");
    assert_eq!(
        requests[0].json()["variables"],
        json!({"first": 100, "filter": {"team": {"key": {"eq": "ENG"}}}})
    );
    assert_eq!(requests[1].json()["variables"]["after"], "c1");

    api.host.serves("{\"data\":{\"issueCreate\":{\"success\":true,\"issue\":{\"id\":\"i\"}}}}");
    let created = api.call("create_issue", json!({"input": {"teamId": "t", "title": "x"}})).await.unwrap();
    assert_eq!(created, json!({"id": "i"}));
    api.host.serves("{\"data\":{\"viewer\":{\"id\":\"u\"}}}");
    let raw = api.call("graphql", json!({"query": "{ viewer { id } }"})).await.unwrap();
    assert_eq!(raw, json!({"viewer": {"id": "u"}}));
    assert_eq!(api.host.requests().pop().unwrap().json(), json!({"query": "{ viewer { id } }"}));
}

#[tokio::test]
async fn errors_of_linear_are_told_apart() {
    let failure = async |status: u16, extensions: &str| {
        let api = Api::new(&Setup {
            provider: "linear",
            names: &["api.linear.app"],
            secrets: &[("api_key", TOKEN)],
            ..Setup::default()
        });
        let body =
            format!("{{\"errors\":[{{\"message\":\"No\",\"extensions\":{{{extensions}}}}}],\"data\":null}}");
        api.host.respond(move |_| answer(status, &body));
        api.failure("get_issue", json!({"id": "ENG-1"})).await
    };
    let refused = failure(200, "\"userPresentableMessage\":\"Issue not found\"").await;
    assert_eq!(refused.to_string(), "the provider refused with status 200: Issue not found");
    assert!(matches!(failure(400, "\"code\":\"RATELIMITED\"").await, ClientError::RateLimited { .. }));
    let bad = failure(400, "\"type\":\"authentication error\"").await;
    assert!(matches!(bad, ClientError::Credentials(_)), "{bad}");
}

#[tokio::test]
async fn a_limit_of_linear_holds_until_its_headers_say() {
    let linear = || Setup {
        provider: "linear",
        names: &["api.linear.app"],
        secrets: &[("api_key", TOKEN)],
        ..Setup::default()
    };
    let body = "{\"errors\":[{\"message\":\"No\",\"extensions\":{\"code\":\"RATELIMITED\"}}]}";
    for counted in ["requests", "complexity"] {
        let api = Api::new(&linear());
        let reset = at(1800).as_millisecond();
        let headers =
            format!("x-ratelimit-{counted}-remaining: 0\r\nx-ratelimit-{counted}-reset: {reset}\r\n");
        api.host.respond(move |_| answer_with(400, &headers, body));
        for _ in 0..2 {
            let limited = api.failure("get_issue", json!({"id": "ENG-1"})).await;
            let half_an_hour =
                matches!(limited, ClientError::RateLimited { retry_after } if retry_after.as_secs() == 1800);
            assert!(half_an_hour, "{counted}: {limited}");
        }
        assert_eq!(api.host.asked().len(), 1, "{counted}: within it nothing is sent");
    }
}

#[tokio::test]
async fn notion_is_asked_with_its_version_page_by_page() {
    let api = Api::new(&Setup { provider: "notion", names: &["api.notion.com"], ..Setup::default() });
    api.host.respond_to(|asked| match asked.json()["start_cursor"].as_str() {
        None => answer(200, "{\"results\":[{\"id\":\"a\"}],\"has_more\":true,\"next_cursor\":\"c\"}"),
        Some(_) => answer(200, "{\"results\":[{\"id\":\"b\"}],\"has_more\":false,\"next_cursor\":null}"),
    });
    let args = json!({"data_source_id": "d1", "filter": {"property": "Done"}, "limit": 150});
    let found = api.call("query_data_source", args).await.unwrap();
    assert_eq!(found, json!({"items": [{"id": "a"}, {"id": "b"}], "next_cursor": null}));
    let requests = api.host.requests();
    assert_eq!(requests[0].line, "POST /v1/data_sources/d1/query");
    assert_eq!(requests[0].header("notion-version"), "2025-09-03");
    assert_eq!(requests[0].json(), json!({"filter": {"property": "Done"}, "page_size": 100}));
    assert_eq!(requests[1].json()["start_cursor"], "c");
    api.host
        .respond(|_| answer_with(429, "retry-after: 2\r\n", "{\"code\":\"rate_limited\",\"message\":\"x\"}"));
    let limited = api.failure("get_page", json!({"page_id": "p"})).await;
    assert!(matches!(limited, ClientError::RateLimited { retry_after } if retry_after.as_secs() == 2));
}

fn with_key(key: &str) -> CallOptions {
    let mut options = options();
    options.idempotency_key = Some(key.to_owned());
    options
}

#[tokio::test]
async fn stripe_takes_forms_and_idempotency_keys() {
    let api = Api::new(&Setup {
        provider: "stripe",
        names: &["api.stripe.com"],
        secrets: &[("api_key", TOKEN)],
        settings: &[("account", "acct_1")],
        ..Setup::default()
    });
    api.host.serves("{\"id\":\"pi_1\"}");
    let args = json!({"amount": 1250, "currency": "usd", "metadata": {"order": "a&b"}, "confirm": true});
    let with_key = with_key("order-7");
    api.client.call_with("create_payment_intent", args, &with_key).await.unwrap();
    let asked = api.host.requests().pop().unwrap();
    assert_eq!(asked.line, "POST /v1/payment_intents");
    assert_eq!(asked.body, "amount=1250&confirm=true&currency=usd&metadata%5Border%5D=a%26b");
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!((asked.header("idempotency-key"), asked.header("stripe-account")), ("order-7", "acct_1"));
    assert!(!asked.headers.iter().any(|(name, _)| name == "stripe-version"), "an empty header is left out");

    api.host.respond(|asked| match asked.contains("starting_after=in_2") {
        false => answer(200, "{\"data\":[{\"id\":\"in_1\"},{\"id\":\"in_2\"}],\"has_more\":true}"),
        true => answer(200, "{\"data\":[{\"id\":\"in_3\"}],\"has_more\":false}"),
    });
    let args = json!({"created": {"gte": 5}, "all": true});
    let found = api.call("list_invoices", args).await.unwrap();
    assert_eq!(found["items"].as_array().unwrap().len(), 3);
    let last = api.host.requests().pop().unwrap();
    assert_eq!(last.line, "GET /v1/invoices?created%5Bgte%5D=5&limit=100&starting_after=in_2");

    let declined = "{\"error\":{\"type\":\"card_error\",\"code\":\"card_declined\",\"message\":\"Your card was declined.\"}}";
    api.host.respond(move |_| answer(402, declined));
    let error = api.failure("create_refund", json!({"charge": "ch_1"})).await;
    assert_eq!(
        error.to_string(),
        "the provider refused with status 402: card_declined: Your card was declined."
    );
}

#[tokio::test]
async fn a_limit_of_stripe_is_backed_off_from_and_stops_nobody_for_a_minute() {
    let api = Api::new(&Setup {
        provider: "stripe",
        names: &["api.stripe.com"],
        secrets: &[("api_key", TOKEN)],
        ..Setup::default()
    });
    let locked = "{\"error\":{\"code\":\"lock_timeout\",\"message\":\"It is locked.\"}}";
    api.host.respond(move |_| answer(429, locked));
    let mut soon = options();
    soon.timeout = Duration::from_secs(1);
    let wait = async |second: i64| {
        api.clock.set(at(second));
        let called = api.client.call_with("get_customer", json!({"id": "cus_1"}), &soon).await;
        called.unwrap_err().retry_after().unwrap().as_secs()
    };
    assert_eq!((wait(0).await, wait(0).await), (2, 2));
    assert_eq!((wait(3).await, wait(3).await), (2, 4), "twice as long for the next one in a row");
    assert_eq!(api.host.asked().len(), 2);
}

#[tokio::test]
async fn a_key_that_no_header_carries_is_refused() {
    let api = Api::new(&Setup {
        provider: "stripe",
        names: &["api.stripe.com"],
        secrets: &[("api_key", TOKEN)],
        ..Setup::default()
    });
    let bad = with_key("a\r\nb: c");
    let error = api.client.call_with("create_customer", json!({}), &bad).await.unwrap_err();
    assert!(matches!(error, ClientError::InvalidArgs { .. }), "{error}");
    assert!(api.host.asked().is_empty());
}

#[tokio::test]
async fn monday_is_asked_in_graphql_and_says_with_200_that_it_refuses() {
    let api = Api::new(&Setup { provider: "monday", names: &["api.monday.com"], ..Setup::default() });
    api.host.respond_to(|asked| {
        let (id, cursor) = if asked.json()["variables"]["cursor"].is_null() {
            ("1", json!("c1"))
        } else {
            ("2", Value::Null)
        };
        let page = json!({"cursor": cursor, "items": [{"id": id}]});
        answer(200, &json!({"data": {"boards": [{"items_page": page}]}}).to_string())
    });
    let found = api.call("list_items", json!({"board_id": "7", "all": true})).await.unwrap();
    assert_eq!(found, json!({"items": [{"id": "1"}, {"id": "2"}], "next_cursor": null}));
    let requests = api.host.requests();
    assert_eq!((requests[0].line.as_str(), requests[0].header("authorization")), ("POST /v2", TOKEN));
    assert_eq!(requests[1].json()["variables"], json!({"board_id": "7", "limit": 100, "cursor": "c1"}));

    let refuse = async |code: &str| {
        let error = json!({"message": "No", "extensions": {"code": code}});
        let body = json!({"data": null, "errors": [error]}).to_string();
        api.host.respond(move |_| answer_with(200, "retry-after: 15\r\n", &body));
        api.failure("create_update", json!({"item_id": "1", "body": "x"})).await
    };
    let refused = refuse("UserUnauthorizedException").await;
    assert_eq!(refused.to_string(), "the provider refused with status 200: UserUnauthorizedException: No");
    let limited = refuse("FIELD_LIMIT_EXCEEDED").await;
    assert!(matches!(limited, ClientError::RateLimited { retry_after } if retry_after.as_secs() == 15));
}

#[tokio::test]
async fn circleci_decides_alone_how_long_a_page_is() {
    let api = Api::new(&Setup { provider: "circleci", names: &["circleci.com"], ..Setup::default() });
    api.host.respond(|asked| match asked.contains("page-token=p2") {
        false => answer(200, "{\"items\":[{\"id\":\"a\"},{\"id\":\"b\"}],\"next_page_token\":\"p2\"}"),
        true => answer(200, "{\"items\":[{\"id\":\"c\"}],\"next_page_token\":null}"),
    });
    let args = json!({"vcs": "gh", "org": "acme", "project": "shop", "limit": 3});
    let found = api.call("list_pipelines", args).await.unwrap();
    assert_eq!(found["items"].as_array().unwrap().len(), 3);
    let requests = api.host.requests();
    assert_eq!(requests[0].line, "GET /api/v2/project/gh/acme/shop/pipeline");
    assert_eq!(requests[0].header("circle-token"), TOKEN);
    assert_eq!(requests[1].line, "GET /api/v2/project/gh/acme/shop/pipeline?page-token=p2");
}

#[tokio::test]
async fn mailchimp_is_called_at_the_data_center_of_the_key() {
    let api = Api::new(&Setup {
        provider: "mailchimp",
        names: &["us19.api.mailchimp.com"],
        secrets: &[("api_key", TOKEN)],
        settings: &[("data_center", "us19")],
        ..Setup::default()
    });
    api.host.respond(|_| answer(404, "{\"title\":\"Resource Not Found\",\"detail\":\"No such member.\"}"));
    let args = json!({"list_id": "l1", "member": "ann@example.com"});
    let error = api.failure("get_member", args).await;
    assert_eq!(error.to_string(), "the provider refused with status 404: No such member.");
    let asked = api.host.requests().pop().unwrap();
    assert_eq!(asked.line, "GET /3.0/lists/l1/members/ann%40example.com");
    assert!(asked.header("authorization").starts_with("Basic "));
}

#[tokio::test]
async fn paddle_goes_on_after_the_last_one() {
    let api = Api::new(&Setup {
        provider: "paddle",
        names: &["api.paddle.com"],
        secrets: &[("api_key", TOKEN)],
        ..Setup::default()
    });
    api.host.respond(|asked| {
        let (id, more) = if asked.contains("after=sub_1") { ("sub_2", false) } else { ("sub_1", true) };
        let pages = json!({"has_more": more, "next": "https://api.paddle.com/subscriptions?after=x"});
        answer(200, &json!({"data": [{"id": id}], "meta": {"pagination": pages}}).to_string())
    });
    let found = api.call("list_subscriptions", json!({"status": "active", "all": true})).await.unwrap();
    assert_eq!(found, json!({"items": [{"id": "sub_1"}, {"id": "sub_2"}], "next_cursor": null}));
    let last = api.host.requests().pop().unwrap();
    assert_eq!(last.line, "GET /subscriptions?after=sub_1&per_page=100&status=active");
}

/// A value of the argument's type.
fn any(kind: ArgType) -> Value {
    match kind {
        ArgType::String | ArgType::Any => json!("x"),
        ArgType::Integer | ArgType::Number => json!(7),
        ArgType::Boolean => json!(true),
        ArgType::Object => json!({"a": "b"}),
        ArgType::Array => json!(["a"]),
    }
}

#[tokio::test]
async fn every_method_of_every_client_sends_a_request_that_shows_who_calls() {
    for entry in ProviderCatalog::built_in().entries() {
        let Some(client) = &entry.client else { continue };
        assert!(!client.source.is_empty() && !client.read_on.is_empty(), "{}: facts need a source", entry.id);
        let auth = client.auth.first().expect("every client shows who calls");
        let secrets: Vec<(&str, &str)> = auth.secrets().into_iter().map(|name| (name, TOKEN)).collect();
        let open = client.settings.iter().filter(|setting| setting.default.is_none());
        let settings: Vec<(&str, &str)> = open.map(|setting| (setting.name.as_str(), "mine")).collect();
        let host = client.settings.iter().fold(client.base_url.clone(), |url, setting| {
            let value = setting.default.as_deref().unwrap_or("mine");
            url.replace(&format!("${{{}}}", setting.name), value)
        });
        let host = host.trim_start_matches("https://").split('/').next().unwrap();
        let api = Api::new(&Setup {
            provider: entry.id.as_str(),
            names: &[host],
            secrets: &secrets,
            settings: &settings,
            ..Setup::default()
        });
        api.host.respond(|_| answer(400, "{}"));
        let methods = client.all_methods();
        for (second, method) in (0..).zip(methods.iter().filter(|method| method.name != "request")) {
            // Some allow one call at a time.
            api.clock.set(at(second));
            let mut args: Map<String, Value> = Map::new();
            for arg in method.args.iter().filter(|arg| method.is_required(arg)) {
                let value = arg.values.first().map_or_else(|| any(arg.kind), |value| json!(value));
                args.insert(arg.name.clone(), value);
            }
            if method.name == "upload_file" {
                args.insert("content".to_owned(), json!("x"));
            }
            let error = api.failure(&method.name, Value::Object(args)).await;
            assert!(matches!(error, ClientError::Refused { .. }), "{} {}: {error}", entry.id, method.name);
            let asked = api.host.requests().pop().unwrap();
            let shown = asked.headers.iter().any(|(_, value)| value.contains(TOKEN))
                || asked.header("authorization").starts_with("Basic ")
                || asked.line.contains(TOKEN);
            assert!(shown, "{} {}: {asked:?}", entry.id, method.name);
            assert!(!asked.line.contains(['{', '$']), "{}", asked.line);
        }
        assert!(!matches!(auth, ClientAuth::Query { .. }), "a secret in a query ends up in logs");
    }
}

#[tokio::test]
async fn the_readmes_example_of_a_client_works() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let example = blocks.find(|block| block.contains("[providers.client]")).unwrap();
    let table: toml::Table = example.parse().unwrap();
    let entry = toml::to_string(&table["providers"][0]).unwrap();
    let api = Api::new(&Setup {
        provider: "acme",
        entry: Some(&entry),
        names: &["shop.acme.example"],
        settings: &[("subdomain", "shop")],
        ..Setup::default()
    });
    api.host.respond(|asked| match asked {
        "POST /api/v2/tickets.json" => answer(201, "{\"ticket\":{\"id\":1}}"),
        _ => answer(200, "{\"tickets\":[],\"meta\":{\"has_more\":false,\"after_cursor\":null}}"),
    });
    let created = api.call("create_ticket", json!({"subject": "a", "comment": "b"})).await.unwrap();
    assert_eq!(created, json!({"id": 1}));
    assert_eq!(api.host.requests()[0].json(), json!({"ticket": {"subject": "a", "comment": {"body": "b"}}}));
    let listed = api.call("list_tickets", json!({"all": true})).await.unwrap();
    assert_eq!(listed, json!({"items": [], "next_cursor": null}));
    assert_eq!(api.host.requests()[1].line, "GET /api/v2/tickets.json?page%5Bsize%5D=100");
}

#[tokio::test]
async fn a_redirect_is_not_followed_where_the_url_shows_who_calls() {
    let api = Api::new(&Setup {
        provider: "telegram",
        names: &["api.telegram.org"],
        secrets: &[("bot_token", "123:tok-hunter22")],
        ..Setup::default()
    });
    api.host.respond(|_| answer_with(307, "location: /elsewhere\r\n", ""));
    let error = api.failure("send_message", json!({"chat_id": 7, "text": "x"})).await;
    let expected = "the answer makes no sense: api.telegram.org answered with a redirect, status 307, which is not followed";
    assert_eq!(error.to_string(), expected);
    assert_eq!(api.host.asked().len(), 1);
}

#[tokio::test]
async fn telegrams_token_stands_in_the_path_and_its_wait_in_the_body() {
    let api = Api::new(&Setup {
        provider: "telegram",
        names: &["api.telegram.org"],
        secrets: &[("bot_token", "123:tok-hunter22")],
        ..Setup::default()
    });
    api.host.serves("{\"ok\":true,\"result\":{\"message_id\":1}}");
    let args = json!({"chat_id": 5, "text": "hi"});
    assert_eq!(api.call("send_message", args.clone()).await.unwrap(), json!({"message_id": 1}));
    assert_eq!(api.host.requests()[0].line, "POST /bot123:tok-hunter22/sendMessage");
    api.host.respond(|_| {
        answer(
            429,
            "{\"ok\":false,\"error_code\":429,\"description\":\"x\",\"parameters\":{\"retry_after\":11}}",
        )
    });
    let limited = api.failure("send_message", args).await;
    assert!(matches!(limited, ClientError::RateLimited { retry_after } if retry_after.as_secs() == 11));
}
