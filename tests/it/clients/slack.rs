//! Slack: what a 200 says, and the upload in three requests.

use hookkeeper::connector::ClientError;
use serde_json::json;

use super::{Api, Setup, TOKEN};
use crate::support::tls_host::{answer, answer_with};

fn slack() -> Api {
    Api::new(&Setup { provider: "slack", names: &["slack.com", "files.slack.com"], ..Setup::default() })
}

#[tokio::test]
async fn every_method_is_the_request_that_slack_knows() {
    let api = slack();
    api.host.serves("{\"ok\":true,\"ts\":\"1.2\",\"view\":{\"id\":\"V1\"},\"user\":{\"id\":\"U1\"}}");
    for (method, args, result, expected) in [
        (
            "post",
            json!({"channel": "C1", "text": "a b", "blocks": [{"type": "divider"}]}),
            "ts",
            "POST /api/chat.postMessage blocks=%5B%7B%22type%22%3A%22divider%22%7D%5D&channel=C1&text=a+b",
        ),
        (
            "update",
            json!({"channel": "C1", "ts": "1.2", "text": "b"}),
            "ts",
            "POST /api/chat.update channel=C1&text=b&ts=1.2",
        ),
        (
            "react",
            json!({"channel": "C1", "timestamp": "1.2", "name": "eyes"}),
            "ts",
            "POST /api/reactions.add channel=C1&name=eyes&timestamp=1.2",
        ),
        (
            "open_view",
            json!({"trigger_id": "t", "view": {"type": "modal"}}),
            "id",
            "POST /api/views.open trigger_id=t&view=%7B%22type%22%3A%22modal%22%7D",
        ),
        ("user_info", json!({"user": "U1"}), "id", "GET /api/users.info?user=U1"),
        (
            "request",
            json!({"path": "/conversations.join", "body": {"channel": "C1"}}),
            "ts",
            "POST /api/conversations.join channel=C1",
        ),
    ] {
        let found = api.call(method, args).await.unwrap();
        assert!(found[result].is_string(), "{method}: {found}");
        assert_eq!(api.host.asked().last().unwrap(), expected);
    }
    let last = api.host.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), format!("Bearer {TOKEN}"));
}

#[tokio::test]
async fn a_200_that_is_not_ok_is_a_failure() {
    let api = slack();
    let post = json!({"channel": "C1", "text": "x"});
    let failure = async |bytes: String| {
        api.host.respond(move |_| bytes.clone());
        api.failure("post", post.clone()).await
    };
    let refused = failure(answer(200, "{\"ok\":false,\"error\":\"channel_not_found\"}")).await;
    assert_eq!(refused.to_string(), "the provider refused with status 200: channel_not_found");
    let scope =
        failure(answer(200, "{\"ok\":false,\"error\":\"missing_scope\",\"needed\":\"chat:write\"}")).await;
    assert_eq!(scope.to_string(), "the provider refused with status 200: missing_scope: chat:write");
    let revoked = failure(answer(200, "{\"ok\":false,\"error\":\"token_revoked\"}")).await;
    assert!(matches!(revoked, ClientError::Credentials(_)), "{revoked}");
    let limited =
        failure(answer_with(429, "retry-after: 30\r\n", "{\"ok\":false,\"error\":\"ratelimited\"}")).await;
    assert!(matches!(limited, ClientError::RateLimited { retry_after } if retry_after.as_secs() == 30));
}

#[tokio::test]
async fn a_limit_of_one_method_is_not_waited_out_by_sending_again() {
    let api = slack();
    api.host.respond(|_| answer(200, "{\"ok\":false,\"error\":\"ratelimited\"}"));
    let post = json!({"channel": "C1", "text": "x"});
    api.failure("post", post.clone()).await;
    let again = api.failure("post", post).await;
    assert!(matches!(again, ClientError::RateLimited { .. }), "{again}");
    assert_eq!(api.host.asked().len(), 1, "within the wait nothing is sent");
    api.host.serves("{\"ok\":true,\"user\":{}}");
    assert!(api.call("user_info", json!({"user": "U1"})).await.is_ok(), "each method has its own limit");
}

#[tokio::test]
async fn a_file_is_uploaded_in_three_requests() {
    let api = slack();
    api.host.respond(|asked| match asked {
        "POST /api/files.getUploadURLExternal" => answer(
            200,
            "{\"ok\":true,\"upload_url\":\"https://files.slack.com/upload/v1/abc?x=1\",\"file_id\":\"F1\"}",
        ),
        "POST /upload/v1/abc?x=1" => answer(200, "OK - 5"),
        "POST /api/files.completeUploadExternal" => answer(200, "{\"ok\":true,\"files\":[{\"id\":\"F1\"}]}"),
        _ => answer(404, ""),
    });
    let args = json!({"filename": "a.txt", "content": "hello", "channel": "C1", "initial_comment": "see"});
    assert_eq!(api.call("upload_file", args).await.unwrap(), json!({"id": "F1"}));
    assert_eq!(
        api.host.asked(),
        [
            "POST /api/files.getUploadURLExternal filename=a.txt&length=5",
            "POST /upload/v1/abc?x=1 hello",
            "POST /api/files.completeUploadExternal channel_id=C1&files=%5B%7B%22id%22%3A%22F1%22%2C%22title%22%3A%22a.txt%22%7D%5D&initial_comment=see",
        ]
    );
    let requests = api.host.requests();
    assert_eq!(requests[1].header("authorization"), "", "the token is not shown to whatever URL Slack names");
    assert_eq!(requests[1].header("host"), "files.slack.com");
}

#[tokio::test]
async fn a_file_goes_to_the_host_of_governments_too() {
    let api = Api::new(&Setup {
        provider: "slack",
        names: &["slack-gov.com", "files.slack-gov.com"],
        base_url: Some("https://slack-gov.com/api"),
        ..Setup::default()
    });
    api.host.respond(|asked| match asked {
        "POST /api/files.getUploadURLExternal" => answer(
            200,
            "{\"ok\":true,\"upload_url\":\"https://files.slack-gov.com/upload/v1/a\",\"file_id\":\"F1\"}",
        ),
        "POST /upload/v1/a" => answer(200, "OK - 5"),
        _ => answer(200, "{\"ok\":true,\"files\":[{\"id\":\"F1\"}]}"),
    });
    let args = json!({"filename": "a.txt", "content": "hello"});
    assert_eq!(api.call("upload_file", args).await.unwrap(), json!({"id": "F1"}));
}

#[tokio::test]
async fn a_file_goes_nowhere_else() {
    let api = slack();
    for (url, expected) in [
        ("https://evil.example/upload", "the answer leads to a host that is none of the API's"),
        ("nonsense", "the answer holds no URL where one belongs"),
    ] {
        let body = json!({"ok": true, "upload_url": url, "file_id": "F1"}).to_string();
        api.host.respond(move |_| answer(200, &body));
        let error = api.failure("upload_file", json!({"filename": "a", "content": "x"})).await;
        assert_eq!(error.to_string(), format!("the answer makes no sense: {expected}"));
    }
    api.host.respond(|asked| match asked {
        "POST /upload" => answer_with(307, "location: https://files.slack.com/other\r\n", ""),
        _ => {
            answer(200, "{\"ok\":true,\"upload_url\":\"https://files.slack.com/upload\",\"file_id\":\"F1\"}")
        }
    });
    let error = api.failure("upload_file", json!({"filename": "a", "content": "x"})).await;
    assert!(error.to_string().contains("files.slack.com answered with a redirect"), "{error}");
    let asked = api.host.asked().len();
    for args in [
        json!({"filename": "a"}),
        json!({"filename": "a", "content": ""}),
        json!({"filename": "a", "content": "x", "content_base64": "eA=="}),
        json!({"filename": "a", "content_base64": "!"}),
    ] {
        let error = api.failure("upload_file", args).await;
        assert!(matches!(error, ClientError::InvalidArgs { .. }), "{error}");
    }
    assert_eq!(api.host.asked().len(), asked);
}
