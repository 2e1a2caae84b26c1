//! GitHub: as a person and as an App, its rate limits and its pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookkeeper::connector::{ClientError, ConnectorClient};
use hookkeeper::signature::{Hash, PrivateKey, PublicScheme};
use serde_json::{Value, json};

use super::{Api, Setup, TOKEN, at, options};
use crate::support::Asked;
use crate::support::tls_host::{answer, answer_with};

const API: &str = "api.github.com";

fn personal() -> Api {
    Api::new(&Setup { provider: "github", names: &[API], ..Setup::default() })
}

/// An App whose installation 7 gets the tokens `t1`, `t2` and so on, of which only those that `takes` names
/// are taken.
fn app(takes: fn(&str) -> bool) -> Api {
    let pem = PrivateKey::generate(PublicScheme::RsaPkcs1(Hash::Sha256)).to_pem();
    let api = Api::new(&Setup {
        provider: "github",
        names: &[API],
        secrets: &[("private_key", &pem)],
        settings: &[("app_id", "12345"), ("installation_id", "7")],
        ..Setup::default()
    });
    let tokens = Arc::new(AtomicUsize::new(0));
    let clock = api.clock.clone();
    api.host.respond_to(move |asked: &Asked| {
        if asked.line.starts_with("POST /app/installations/") {
            assert_eq!(asked.header("authorization").matches('.').count(), 2, "a token of the app itself");
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            let expires = clock.now().checked_add(std::time::Duration::from_secs(3600)).unwrap();
            let token = json!({"token": format!("t{number}"), "expires_at": expires.to_string()});
            return answer(201, &token.to_string());
        }
        let token = asked.header("authorization").trim_start_matches("Bearer ").to_owned();
        if takes(&token) {
            answer(201, &json!({"by": token}).to_string())
        } else {
            answer(401, "{\"message\":\"Bad credentials\"}")
        }
    });
    api
}

fn comment() -> Value {
    json!({"owner": "acme", "repo": "shop", "number": 7, "body": "Thanks!"})
}

#[tokio::test]
async fn every_method_is_the_request_that_github_knows() {
    let api = personal();
    api.host.serves("{\"id\":1}");
    let repo = |more: Value| {
        let mut args = json!({"owner": "acme", "repo": "shop"});
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    for (method, args, expected) in [
        ("create_comment", comment(), "POST /repos/acme/shop/issues/7/comments {\"body\":\"Thanks!\"}"),
        (
            "add_labels",
            repo(json!({"number": 7, "labels": ["bug"]})),
            "POST /repos/acme/shop/issues/7/labels {\"labels\":[\"bug\"]}",
        ),
        (
            "remove_label",
            repo(json!({"number": 7, "label": "a/b c"})),
            "DELETE /repos/acme/shop/issues/7/labels/a%2Fb%20c",
        ),
        (
            "request_review",
            repo(json!({"number": 7, "reviewers": ["ann"]})),
            "POST /repos/acme/shop/pulls/7/requested_reviewers {\"reviewers\":[\"ann\"]}",
        ),
        ("create_issue", repo(json!({"title": "x"})), "POST /repos/acme/shop/issues {\"title\":\"x\"}"),
        (
            "merge",
            repo(json!({"number": 7, "method": "squash"})),
            "PUT /repos/acme/shop/pulls/7/merge {\"merge_method\":\"squash\"}",
        ),
        ("request", json!({"path": "/rate_limit"}), "GET /rate_limit"),
        (
            "request",
            json!({"path": "/user/repos", "body": {"name": "x"}}),
            "POST /user/repos {\"name\":\"x\"}",
        ),
    ] {
        assert_eq!(api.call(method, args).await.unwrap(), json!({"id": 1}), "{method}");
        assert_eq!(api.host.asked().last().unwrap(), expected);
    }
    let last = api.host.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(last.header("x-github-api-version"), "2022-11-28");
    assert_eq!(last.header("accept"), "application/vnd.github+json");
    assert!(last.header("user-agent").starts_with("hookkeeper/"));
}

#[tokio::test]
async fn nothing_is_sent_for_a_call_that_makes_no_sense() {
    let api = personal();
    for (method, args, expected) in [
        ("create_coment", comment(), "there is no method `create_coment`; did you mean `create_comment`?"),
        (
            "create_issue",
            json!({"owner": "a", "repo": "b", "titel": "x"}),
            "arguments of `create_issue`: unknown argument `titel`; did you mean `title`?",
        ),
        (
            "create_issue",
            json!({"owner": "a", "repo": "b"}),
            "arguments of `create_issue`: `title` is missing: the title",
        ),
        (
            "create_comment",
            json!({"owner": "..", "repo": "b", "number": 1, "body": "x"}),
            "arguments of `create_comment`: the path holds dots or characters that lead elsewhere",
        ),
    ] {
        assert_eq!(api.failure(method, args).await.to_string(), expected);
    }
    assert!(api.host.asked().is_empty());
}

#[tokio::test]
async fn fifty_calls_of_an_app_fetch_one_token() {
    let api = app(|_| true);
    let calls = (0..50).map(|_| api.call("create_comment", comment()));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(result.unwrap(), json!({"by": "t1"}));
    }
    let fetched = |api: &Api| api.host.asked().iter().filter(|it| it.contains("access_tokens")).count();
    assert_eq!(fetched(&api), 1);
    assert!(api.host.asked()[0].starts_with("POST /app/installations/7/access_tokens"));
    // Five minutes before it expires, it is fetched anew.
    api.clock.set(at(3301));
    assert_eq!(api.call("create_comment", comment()).await.unwrap(), json!({"by": "t2"}));
    assert_eq!(fetched(&api), 2);
    let mut elsewhere = comment();
    elsewhere["installation_id"] = json!(8);
    assert_eq!(api.call("create_comment", elsewhere).await.unwrap(), json!({"by": "t3"}));
    assert!(api.host.asked().iter().any(|it| it.starts_with("POST /app/installations/8/access_tokens")));
}

#[tokio::test]
async fn a_token_that_is_good_no_longer_is_fetched_anew_once() {
    let api = app(|token| token != "t1");
    let calls = (0..50).map(|_| api.call("create_comment", comment()));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(result.unwrap(), json!({"by": "t2"}));
    }
    assert_eq!(api.host.asked().iter().filter(|it| it.contains("access_tokens")).count(), 2);

    let never = app(|_| false);
    let error = never.failure("create_comment", comment()).await;
    assert!(matches!(&error, ClientError::Credentials(why) if why.contains("Bad credentials")), "{error}");
    assert_eq!(never.host.asked().len(), 4, "two tokens and two calls, not more");
}

#[tokio::test]
async fn an_app_that_gets_no_token_says_why() {
    let api = app(|_| true);
    api.host.respond(|_| answer(404, "{\"message\":\"Not Found\"}"));
    let error = api.failure("create_comment", comment()).await;
    assert_eq!(
        error.to_string(),
        "credentials: no token for installation 7: the provider refused with status 404: Not Found"
    );
    let error = api.failure("create_comment", comment()).await;
    assert!(matches!(error, ClientError::Credentials(_)));
    assert_eq!(api.host.asked().len(), 1, "nobody asks again at once");
}

#[tokio::test]
async fn a_token_that_cannot_be_had_for_the_moment_is_no_fault_of_the_credentials() {
    let api = app(|_| true);
    api.host.respond(|_| answer(502, "{\"message\":\"Server Error\"}"));
    for _ in 0..2 {
        let error = api.failure("create_comment", comment()).await;
        let expected = "the provider refused with status 502: no token for installation 7: Server Error";
        assert_eq!((error.to_string().as_str(), error.code()), (expected, "refused"));
        assert_eq!(error.retry_after(), Some(Duration::ZERO), "the caller may come again");
    }
    assert_eq!(api.host.asked().len(), 1, "nobody asks again at once");
    api.clock.set(at(6));
    api.host.respond(|_| String::new());
    let error = api.failure("create_comment", comment()).await;
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    assert_eq!(api.host.asked().len(), 2);
}

#[tokio::test]
async fn rate_limits_tell_when_to_come_again() {
    let wait = async |bytes: String| {
        let api = personal();
        api.host.respond(move |_| bytes.clone());
        match api.failure("create_comment", comment()).await {
            ClientError::RateLimited { retry_after } => retry_after.as_secs(),
            other => panic!("{other}"),
        }
    };
    let reset = at(90).as_second();
    let primary =
        format!("x-ratelimit-limit: 5000\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: {reset}\r\n");
    let message = "{\"message\":\"API rate limit exceeded for user ID 1.\"}";
    assert_eq!(wait(answer_with(403, &primary, message)).await, 90);
    let secondary = "{\"message\":\"You have exceeded a secondary rate limit. Please wait a few minutes.\"}";
    assert_eq!(wait(answer_with(403, "retry-after: 17\r\n", secondary)).await, 17);
    assert_eq!(wait(answer(403, secondary)).await, 60);
    assert_eq!(wait(answer_with(429, "retry-after: 5\r\n", secondary)).await, 5);
}

#[tokio::test]
async fn secondary_limits_in_a_row_are_waited_out_longer_each_time() {
    let api = personal();
    api.host.respond(|_| answer(403, "{\"message\":\"You have exceeded a secondary rate limit.\"}"));
    let wait = async |second: i64| {
        api.clock.set(at(second));
        api.failure("create_comment", comment()).await.retry_after().unwrap().as_secs()
    };
    assert_eq!((wait(0).await, wait(0).await), (60, 60));
    assert_eq!((wait(61).await, wait(61).await), (60, 120));
    assert_eq!(api.host.asked().len(), 2);
}

#[tokio::test]
async fn a_repository_that_was_renamed_is_found_where_it_is_now() {
    let api = personal();
    api.host.respond(|asked| match asked {
        "POST /repos/acme/shop/issues/7/comments" => {
            let to = "location: https://api.github.com/repositories/1/issues/7/comments\r\n";
            answer_with(307, to, "{\"message\":\"Moved Permanently\"}")
        }
        "GET /repos/acme/shop/issues/7/comments" => {
            answer_with(301, "location: /repositories/1/issues/7/comments\r\n", "{}")
        }
        "POST /repositories/1/issues/7/comments" => answer(201, "{\"id\":1}"),
        "GET /repositories/1/issues/7/comments" => answer(200, "[{\"id\":1}]"),
        _ => answer(404, ""),
    });
    assert_eq!(api.call("create_comment", comment()).await.unwrap(), json!({"id": 1}));
    let requests = api.host.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[1].header("authorization"), format!("Bearer {TOKEN}"));
    let listed = json!({"owner": "acme", "repo": "shop", "number": 7});
    let found = api.call("list_comments", listed.clone()).await.unwrap();
    assert_eq!(found["items"], json!([{"id": 1}]));
    api.host.respond(|_| answer_with(301, "location: /repositories/1\r\n", ""));
    let error = api.failure("list_comments", listed).await;
    assert_eq!(error.to_string(), "the answer makes no sense: it redirects more than 3 times");
    assert_eq!(api.host.asked().len(), 2 + 2 + 4);
}

#[tokio::test]
async fn errors_are_told_with_githubs_own_words() {
    let api = personal();
    for (status, body, expected) in [
        (404, "{\"message\":\"Not Found\"}", "the provider refused with status 404: Not Found"),
        (
            403,
            "{\"message\":\"Resource not accessible by integration\"}",
            "the provider refused with status 403: Resource not accessible by integration",
        ),
        (422, "{\"message\":\"tok-hunter22?\"}", "the provider refused with status 422: [redacted]?"),
        (401, "{\"message\":\"Bad credentials\"}", "credentials: the provider refused them: Bad credentials"),
    ] {
        api.host.respond(move |_| answer(status, body));
        assert_eq!(api.failure("create_comment", comment()).await.to_string(), expected);
    }
}

/// Serves comments one to a page, three pages.
fn pages(asked: &Asked) -> String {
    let page: u32 = match asked.line.split_once("page=1&page=").or_else(|| asked.line.split_once("&page=")) {
        Some((_, page)) => page.parse().unwrap(),
        None => 1,
    };
    let link = format!(
        "link: <https://{API}/repos/acme/shop/issues/7/comments?per_page=1&page={}>; rel=\"next\", <https://{API}/x>; rel=\"last\"\r\n",
        page + 1
    );
    answer_with(200, if page < 3 { &link } else { "" }, &json!([{"id": page}]).to_string())
}

#[tokio::test]
async fn a_listing_follows_the_links() {
    let api = personal();
    api.host.respond_to(pages);
    let of = json!({"owner": "acme", "repo": "shop", "number": 7});
    let with = |name: &str, value: Value| {
        let mut args = of.clone();
        args[name] = value;
        args
    };
    let all = api.call("list_comments", with("all", json!(true))).await.unwrap();
    assert_eq!(all, json!({"items": [{"id": 1}, {"id": 2}, {"id": 3}], "next_cursor": null}));
    assert_eq!(api.host.asked()[0], "GET /repos/acme/shop/issues/7/comments?per_page=100");
    let one = api.call("list_comments", of.clone()).await.unwrap();
    assert_eq!(one["items"], json!([{"id": 1}]));
    let next = one["next_cursor"].clone();
    let rest = api.call("list_comments", with("cursor", next)).await.unwrap();
    assert_eq!(rest["items"], json!([{"id": 2}]));
    let two = api.call("list_comments", with("limit", json!(2))).await.unwrap();
    assert_eq!(two["items"].as_array().unwrap().len(), 2);
    let error = api.failure("list_comments", with("cursor", json!("https://evil.example/"))).await;
    assert!(matches!(error, ClientError::InvalidArgs { .. }), "{error}");
}

#[tokio::test]
async fn a_listing_that_goes_round_or_elsewhere_is_refused() {
    let api = personal();
    let args = json!({"owner": "acme", "repo": "shop", "number": 7, "all": true});
    for (next, expected) in [
        (format!("https://{API}/again?page=2"), "the next page is one that was read already"),
        ("https://evil.example/".to_owned(), "the next page is at another host than the API"),
    ] {
        api.host.respond(move |_| answer_with(200, &format!("link: <{next}>; rel=\"next\"\r\n"), "[1]"));
        let error = api.failure("list_comments", args.clone()).await;
        assert_eq!(error.to_string(), format!("the answer makes no sense: {expected}"));
    }
}

#[tokio::test]
async fn enterprise_servers_are_called_where_they_are() {
    let api = Api::new(&Setup {
        provider: "github",
        names: &["ghe.acme.example"],
        base_url: Some("https://ghe.acme.example/api/v3"),
        ..Setup::default()
    });
    api.host.serves("{}");
    api.client.call_with("create_comment", comment(), &options()).await.unwrap();
    assert!(api.host.asked()[0].starts_with("POST /api/v3/repos/acme/shop/issues/7/comments"));
    let asked = api.host.asked().len();
    for elsewhere in ["https://ghe.acme.example/api/v30/x", "https://ghe.acme.example/login"] {
        let args = json!({"owner": "acme", "repo": "shop", "number": 7, "cursor": elsewhere});
        let error = api.failure("list_comments", args).await;
        assert!(matches!(error, ClientError::InvalidArgs { .. }), "{elsewhere}: {error}");
    }
    assert_eq!(api.host.asked().len(), asked, "a cursor leads nowhere else at the server");
}
