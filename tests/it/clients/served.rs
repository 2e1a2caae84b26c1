//! Calls through a running server: configuration, admin API, command line, audit.

use hookkeeper::clock::Clock;
use hookkeeper::signature::{Hash, PrivateKey, PublicScheme};
use serde_json::{Value, json};

use super::TOKEN;
use crate::support::tls_host::{answer, answer_with};
use crate::support::{Answer, Server, TlsHost, http};

const HOST: &str = "github.acme.example";

/// A server with a client of GitHub that calls the host.
fn server(host: &TlsHost) -> Server {
    let mut server = Server::prepare("");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}\
         [clients.github]\nsecrets = {{ token = \"store:github/token\" }}\n\
         base_url = \"https://{HOST}/api/v3\"\n",
        host.outbound(server.folder.path(), &[HOST])
    );
    std::fs::write(server.folder.path().join("hookkeeper.toml"), config).unwrap();
    server.restart();
    server
}

fn post(server: &Server, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    http::request(server.admin, "POST", &format!("/api/v1/{path}"), &headers, body.to_string().as_bytes())
}

fn keep_token(server: &Server) {
    let headers = [("content-type", "application/json")];
    let body = json!({ "value": TOKEN }).to_string();
    let kept = http::request(server.admin, "PUT", "/api/v1/secrets/github/token", &headers, body.as_bytes());
    assert_eq!(kept.status, 200);
}

fn comment() -> Value {
    json!({"owner": "acme", "repo": "shop", "number": 7, "body": "Thanks! hunter33"})
}

#[test]
fn a_provider_is_called_through_the_admin_api() {
    let host = TlsHost::start(&[HOST]);
    host.serves("{\"id\":1}");
    let server = server(&host);
    let call = |method: &str, args: Value| {
        let answer = post(&server, "providers/github/call", &json!({"method": method, "args": args}));
        (answer.status, answer.json())
    };
    // Without the secret nothing is sent, and the answer says what to do.
    let (status, problem) = call("create_comment", comment());
    assert_eq!((status, &problem["code"]), (424, &json!("credentials")));
    assert!(problem["detail"].as_str().unwrap().contains("secrets set github/token"), "{problem}");
    assert!(host.asked().is_empty());

    keep_token(&server);
    assert_eq!(call("create_comment", comment()), (200, json!({"result": {"id": 1}})));
    assert!(host.asked()[0].starts_with("POST /api/v3/repos/acme/shop/issues/7/comments"));
    assert_eq!(host.requests()[0].header("authorization"), format!("Bearer {TOKEN}"));

    for (method, args, status, code) in [
        ("create_coment", comment(), 404, "unknown_method"),
        ("create_comment", json!({"owner": "a"}), 422, "invalid_args"),
    ] {
        let (found, problem) = call(method, args);
        assert_eq!((found, problem["code"].as_str().unwrap()), (status, code), "{problem}");
    }
    host.respond(|_| answer(404, "{\"message\":\"Not Found\"}"));
    let (status, problem) = call("create_comment", comment());
    assert_eq!((status, &problem["code"]), (502, &json!("refused")));
    assert_eq!(problem["provider_status"], 404);

    host.respond(|_| answer_with(429, "retry-after: 30\r\n", "{}"));
    let limited =
        post(&server, "providers/github/call", &json!({"method": "request", "args": {"path": "/a"}}));
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("30")));
    assert!((29_000..=30_000).contains(&limited.json()["retry_after_ms"].as_u64().unwrap()));

    let lines = server.items(&["log", "read", "audit.provider"]);
    let called: Vec<&str> = lines
        .iter()
        .filter(|line| line["code"] == "client_called")
        .filter_map(|line| line["detail"].as_str()?.split(',').next())
        .collect();
    let expected = [
        "github request: rate_limited",
        "github create_comment: refused",
        "github create_comment: invalid_args",
        "github create_coment: unknown_method",
        "github create_comment: ok",
        "github create_comment: credentials",
    ];
    let mut sorted = called.clone();
    sorted.sort_unstable();
    let mut wanted = expected;
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    let told = format!("{lines:?}{}", server.log());
    assert!(!told.contains("hunter"), "neither the secret nor the arguments are told");
}

#[test]
fn what_a_provider_said_of_its_limit_outlives_a_restart() {
    let host = TlsHost::start(&[HOST]);
    host.respond(|_| answer_with(429, "retry-after: 3600\r\n", "{}"));
    let mut server = server(&host);
    keep_token(&server);
    let call = json!({"method": "request", "args": {"path": "/a"}});
    assert_eq!(post(&server, "providers/github/call", &call).status, 429);
    server.stop();
    server.restart();
    let limited = post(&server, "providers/github/call", &call);
    assert_eq!(limited.status, 429);
    assert!(limited.json()["retry_after_ms"].as_u64().unwrap() > 3_500_000);
    assert_eq!(host.asked().len(), 1, "it is not asked again");
}

#[test]
fn a_provider_that_does_not_answer_in_time_is_504() {
    let host = TlsHost::start(&[HOST]);
    let server = server(&host);
    keep_token(&server);
    host.hold();
    let call = json!({"method": "request", "args": {"path": "/a"}, "timeout": "200ms"});
    let late = post(&server, "providers/github/call", &call);
    host.open();
    let problem = late.json();
    assert_eq!((late.status, &problem["status"]), (504, &json!(504)), "{problem}");
    assert_eq!(problem["code"], "timeout");
    assert!(problem["detail"].as_str().unwrap().contains("no answer within"), "{problem}");
}

#[test]
fn a_call_waits_for_its_permit_in_its_own_lane() {
    let host = TlsHost::start(&[HOST]);
    let reset = Clock::system().now().as_second() + 3_600;
    // So few are left that they are kept for live calls.
    let left =
        format!("x-ratelimit-limit: 100\r\nx-ratelimit-remaining: 5\r\nx-ratelimit-reset: {reset}\r\n");
    host.respond(move |_| answer_with(200, &left, "{}"));
    let server = server(&host);
    keep_token(&server);
    let call = json!({"method": "request", "args": {"path": "/a"}});
    assert_eq!(post(&server, "providers/github/call", &call).status, 200);
    for (lane, status) in [("backfill", 429), ("replay", 429), ("live", 200)] {
        let mut call = call.clone();
        call["lane"] = json!(lane);
        assert_eq!(post(&server, "providers/github/call", &call).status, status, "{lane}");
    }
    let called = server.run(&["call", "github", "request", "--lane", "backfill", "--arg", "path=/a"]);
    assert_eq!(called.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&called.stderr).contains("rate limit"), "{called:?}");
    assert_eq!(host.asked().len(), 2, "who is out of its lane's share is not sent");
}

#[test]
fn a_secret_that_only_a_client_uses_is_in_use() {
    let host = TlsHost::start(&[HOST]);
    let server = server(&host);
    let secrets = || server.items(&["secrets", "list"]);
    let missing = &secrets()[0];
    assert_eq!((&missing["client"], &missing["name"]), (&json!("github"), &json!("token")));
    assert!(missing["problem"].is_string(), "{missing}");
    keep_token(&server);
    let kept = secrets();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((&kept[0]["reference"], &kept[0]["state"]), (&json!("store:github/token"), &json!("current")));
    assert_eq!((&kept[0]["problem"], &kept[0]["warnings"]), (&json!(null), &json!([])));
    let told = server.cli(&["secrets", "list"]);
    assert!(told.contains("github") && !told.contains("unused"), "{told}");
}

#[test]
fn what_cannot_be_called_is_told_apart() {
    let host = TlsHost::start(&[HOST]);
    let server = server(&host);
    let problem = |path: &str, body: Value| {
        let answer = post(&server, path, &body);
        let problem: Value = answer.json();
        (answer.status, problem["code"].as_str().unwrap().to_owned(), problem["detail"].to_string())
    };
    let call = json!({"method": "post"});
    let (status, _, detail) = problem("providers/gihub/call", call.clone());
    assert!(status == 404 && detail.contains("did you mean `github`"), "{detail}");
    let (status, code, detail) = problem("providers/slack/call", call.clone());
    assert!(status == 404 && code == "no_client" && detail.contains("[clients.slack]"), "{detail}");
    let (_, code, detail) = problem("providers/zoom/call", call);
    assert!(code == "no_client" && detail.contains("[[providers]]"), "{detail}");
    for bad in [
        json!({}),
        json!({"method": "a", "timeout": "2h"}),
        json!({"method": "a", "lane": "fast"}),
        json!({"method": "a", "idempotency_key": ""}),
        json!({"method": "a", "more": 1}),
    ] {
        assert_eq!(problem("providers/github/call", bad).0, 400);
    }
    assert_eq!(server.get("/api/v1/providers/github/call").status, 405);
}

#[test]
fn a_provider_is_called_from_the_command_line() {
    let host = TlsHost::start(&[HOST]);
    host.respond(|_| answer(200, "{\"id\":1}"));
    let server = server(&host);
    keep_token(&server);
    let args = ["call", "github", "create_comment", "--arg", "owner=acme", "--arg", "repo=7"];
    let text = server.cli(&[&args[..], &["--arg", "number=7", "--args", "{\"body\":\"hi\"}"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"id": 1}));
    assert_eq!(host.asked()[0], "POST /api/v3/repos/acme/7/issues/7/comments {\"body\":\"hi\"}");

    let refused = server.run(&["call", "github", "create_coment"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr.contains("did you mean `create_comment`"), "{stderr}");
    assert!(stderr.contains("`hookkeeper call PROVIDER` lists them"), "{stderr}");

    let listed = server.cli(&["call", "github"]);
    for part in ["create_comment", "installation_id?", "method?", "GET, POST, PUT, PATCH, DELETE"] {
        assert!(listed.contains(part), "{part}\n{listed}");
    }
    let items = server.items(&["call", "slack"]);
    let upload = items.iter().find(|item| item["name"] == "upload_file").unwrap();
    assert_eq!(upload["args"][0]["name"], "filename");
    let shown = server.cli(&["providers", "show", "github"]);
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("(hookkeeper call github)"), "{shown}");
}

#[test]
fn a_client_is_printed_as_it_is_read() {
    let table = "[clients.github]\nsecrets = { private_key = \"literal:hunter2\" }\n\
                 settings = { app_id = \"1\" }\nbase_url = \"https://ghe.example.com/api/v3\"\n";
    let server = Server::prepare(table);
    let printed = server.cli(&["check", "--offline", "--print"]);
    assert!(printed.contains(&table.replace("hunter2", "[redacted]")), "{printed}");
}

#[test]
fn check_finds_what_is_wrong_with_a_client() {
    let check = |table: &str, parts: &[&str]| {
        let server = Server::prepare(table);
        let checked = server.run(&["check", "--offline"]);
        let stderr = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(if parts.is_empty() { 0 } else { 2 }), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part}\n{stderr}");
        }
    };
    check("[clients.github]\nsecrets = { token = \"env:X\" }\n", &[]);
    check(
        "[clients.github]\nsecrets = { private_key = \"file:app.pem\" }\nsettings = { app_id = \"1\" }\n",
        &[],
    );
    let app = "[clients.github]\nsecrets = { private_key = \"env:X\" }\n";
    check(&format!("{app}settings = {{ app_id = \"Iv1.8a61f9b3a7aba766\" }}\n"), &[]);
    check(
        &format!("{app}settings = {{ app_id = \"my-app\" }}\n"),
        &["key: clients.github.settings.app_id", "is no id of a GitHub App", "Client ID"],
    );
    check(
        &format!("{app}settings = {{ app_id = \"1\", installation_id = \"acme\" }}\n"),
        &["key: clients.github.settings.installation_id", "is no id of an installation"],
    );
    check(&format!("{app}settings = {{ app_id = \"1\", installation_id = \"\" }}\n"), &[]);
    let private = "[clients.github]\nsecrets = { token = \"env:X\" }\nbase_url = \"https://10.1.2.3/api\"\n";
    check(private, &["clients.github.base_url", "10.1.2.3 is private", "outbound.allow_private"]);
    check(&format!("[outbound]\nallow_private = [\"10.0.0.0/8\"]\n{private}"), &[]);
    let pinned = private.replace("10.1.2.3", "GHE.example.com");
    check(
        &format!("[outbound]\nhosts = {{ \"ghe.example.com\" = \"127.0.0.1:443\" }}\n{pinned}"),
        &["loopback"],
    );
    check("[clients.githb]\n", &["unknown provider", "did you mean `github`?"]);
    check("[clients.zoom]\n", &["nothing is known of the API of `zoom`"]);
    check(
        "[clients.github]\nsecrets = { tokn = \"env:X\" }\n",
        &["the client has no secret of this name", "did you mean `token`?"],
    );
    check(
        "[clients.github]\nsecrets = { private_key = \"env:X\" }\n",
        &["the client of github needs the secret token, or the secret private_key and the setting app_id"],
    );
    check(
        "[clients.github]\nsecrets = { token = \"env:X\" }\nsettings = { ap_id = \"1\" }\n",
        &["the client has no setting of this name", "did you mean `app_id`?"],
    );
    check("[clients.github]\nsecrets = { token = \"hunter2\" }\n", &["must not stand in the configuration"]);
    check(
        "[clients.github]\nsecrets = { token = \"env:X\" }\nbase_url = \"http://a.example\"\n",
        &["is called over https"],
    );
    check(
        "[clients.acme]\nsecrets = { key = \"env:X\" }\n[[providers]]\nid = \"acme\"\n[providers.client]\n\
         base_url = \"https://api.acme.example\"\n[[providers.client.auth]]\nkind = \"bearer\"\nsecret = \"key\"\n\
         [[providers.client.secrets]]\nname = \"key\"\nabout = \"x\"\n",
        &[],
    );
    check(
        "[[providers]]\nid = \"acme\"\n[providers.client]\nbase_url = \"https://api.acme.example\"\n\
         [[providers.client.secrets]]\nname = \"key\"\nabout = \"x\"\n",
        &["this is no catalogue entry", "secret \"key\" is not used"],
    );
}

#[test]
fn check_judges_a_base_url_that_is_made_of_settings() {
    let told = |table: &str| {
        let checked = Server::prepare(table).run(&["check", "--offline"]);
        (checked.status.code(), String::from_utf8_lossy(&checked.stderr).into_owned())
    };
    let check = |table: &str, parts: &[&str]| {
        let (code, told) = told(table);
        assert_eq!(code, Some(2), "{told}");
        for part in parts {
            assert!(told.contains(part), "{part}\n{told}");
        }
    };
    let client = "[clients.mailgun]\nsecrets = { api_key = \"env:X\" }\nsettings = { host = \"10.1.2.3\" }\n";
    let place = "key: clients.mailgun.settings.host";
    let refused = "the base URL https://10.1.2.3/, made of host, is not called";
    check(client, &[place, refused, "10.1.2.3 is private", "outbound.allow_private"]);
    let allowed = format!("[outbound]\nallow_private = [\"10.0.0.0/8\"]\n{client}");
    assert_eq!(told(&allowed).0, Some(0));
    assert_eq!(told(&client.replace("10.1.2.3", "mail.acme.example/api")).0, Some(0), "no name follows");
    let pinned = client.replace("10.1.2.3", "mail.acme.example");
    assert_eq!(told(&pinned).0, Some(0));
    let pinned = format!("[outbound]\nhosts = {{ \"mail.acme.example\" = \"127.0.0.1:443\" }}\n{pinned}");
    check(&pinned, &[place, "127.0.0.1 is loopback"]);
    check(&client.replace("10.1.2.3", "https://api.mailgun.net"), &[place, "neither https:// nor a slash"]);
    check(&client.replace("10.1.2.3", "a b"), &[place, "the base URL of mailgun is no https URL"]);
    let own = "[clients.acme]\nsecrets = { key = \"env:X\" }\n[[providers]]\nid = \"acme\"\n[providers.client]\n\
               base_url = \"https://10.1.2.3\"\n[[providers.client.auth]]\nkind = \"bearer\"\nsecret = \"key\"\n\
               [[providers.client.secrets]]\nname = \"key\"\nabout = \"x\"\n";
    check(own, &["key: clients.acme\n", "the base URL https://10.1.2.3/ is not called", "is private"]);
}

#[test]
fn check_tries_the_key_of_an_app() {
    let table =
        "[clients.github]\nsecrets = { private_key = \"file:app.pem\" }\nsettings = { app_id = \"1\" }\n";
    let server = Server::prepare(table);
    let checked = |key: &str| {
        std::fs::write(server.folder.path().join("app.pem"), key).unwrap();
        let checked = server.run(&["check"]);
        (checked.status.code(), String::from_utf8_lossy(&checked.stderr).into_owned())
    };
    let pem = PrivateKey::generate(PublicScheme::RsaPkcs1(Hash::Sha256)).to_pem();
    assert_eq!(checked(&pem).0, Some(0));
    let (code, told) = checked("hunter2");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("no RSA key in PEM") && !told.contains("hunter2"), "{told}");
    // Beside another problem of the same client too.
    for (settings, other) in [
        ("settings = { app_id = \"my-app\" }", "is no id of a GitHub App"),
        ("settings = { app_id = 1 }", "settings.app_id"),
        ("", "the setting app_id"),
        ("settings = { app_id = \"1\" }\nbase_url = \"http://a.example/\"", "called over https"),
    ] {
        let table = table.replace("settings = { app_id = \"1\" }", settings);
        let server = Server::prepare(&table);
        std::fs::write(server.folder.path().join("app.pem"), "hunter2").unwrap();
        let told = String::from_utf8_lossy(&server.run(&["check"]).stderr).into_owned();
        assert!(told.contains("no RSA key in PEM") && told.contains(other), "{settings}: {told}");
    }
}
