//! The servers of the ladder.

use std::path::Path;
use std::sync::Arc;

use actix_web::web::{self, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::StreamExt;
use hookkeeper::app::{ServeOptions, run};
use hookkeeper::catalog::ProviderCatalog;
use hookkeeper::clock::Clock;
use hookkeeper::config::{
    Backoff, Concurrency, Config, Dedupe, Format, Function, Handler, Log, Retry, SecretRef, Server, Trigger,
    TriggerKind,
};
use hookkeeper::connector::{
    Connector, ConnectorRegistry, Judging, NormalizeResult, RawInbound, TriggerSettings, Verifier,
};
use hookkeeper::event_log::{EventLog, MemoryLog};
use hookkeeper::secrets::Secret;

use crate::SECRET;
use crate::flood::Slow;
use crate::plain_log::PlainLog;

const WORKERS: usize = 2;

/// Serves one rung and prints its address.
pub(crate) fn serve(rung: &str, dir: &str, function: &str) {
    let dir = Path::new(dir);
    let plain = |compressed| Arc::new(PlainLog::create(&dir.join("plain"), compressed)) as Arc<dyn EventLog>;
    let mut registry = ConnectorRegistry::new(ProviderCatalog::built_in());
    match rung {
        "verify" => verify_only(),
        "plain" => hookkeeper(dir, registry, None, Some(plain(false))),
        "plain+fn" => hookkeeper(dir, registry, Some(function), Some(plain(false))),
        "frames" => hookkeeper(dir, registry, None, Some(plain(true))),
        "frames+fn" => hookkeeper(dir, registry, Some(function), Some(plain(true))),
        "memory" => hookkeeper(dir, registry, None, Some(Arc::new(MemoryLog::new()))),
        "sled" => hookkeeper(dir, registry, None, None),
        "slow" => {
            let slow = || Box::new(Slow { id: "linear".parse().unwrap() }) as Box<dyn Connector>;
            registry.register(slow);
            hookkeeper(dir, registry, None, None);
        }
        "functions" => hookkeeper(dir, registry, Some(function), None),
        other => panic!("no rung {other}"),
    }
}

fn hookkeeper(
    dir: &Path,
    registry: ConnectorRegistry,
    function: Option<&str>,
    store: Option<Arc<dyn EventLog>>,
) {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let server = Server { listen: loopback, admin: loopback, workers: WORKERS, ..Server::default() };
    let config = Config {
        secrets: Default::default(),
        server,
        log: Log { path: dir.join("data") },
        outbound: Default::default(),
        triggers: vec![trigger("github"), trigger("linear")],
        functions: function
            .map(|url| Function {
                id: "receiver".parse().unwrap(),
                on: Vec::new(),
                events: Vec::new(),
                when: None,
                handler: Handler::Http { url: url.to_owned() },
                timeout: Function::TIMEOUT,
                retry: Retry { attempts: 8, backoff: Backoff::Standard },
                concurrency: Concurrency { limit: 32, key: None },
                signing_secret: vec![SecretRef::Literal("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())],
                sign_as_provider: false,
                format: Format::Binary,
            })
            .into_iter()
            .collect(),
        providers: Vec::new(),
        clients: Vec::new(),
    };
    run(ServeOptions {
        config,
        registry,
        clock: Clock::system(),
        store,
        started: Box::new(|started| println!("{} {}", started.listen, started.admin)),
    })
    .unwrap();
}

fn trigger(provider: &str) -> Trigger {
    Trigger {
        id: provider.parse().unwrap(),
        provider: provider.parse().unwrap(),
        kind: TriggerKind::Webhook,
        path: format!("/hooks/{provider}"),
        secrets: [("signing_secret".to_owned(), vec![SecretRef::Literal(SECRET.to_owned())])].into(),
        tolerance: None,
        dedupe_window: Trigger::DEDUPE_WINDOW,
        dedupe: Dedupe::Delivery,
        rate_limit: None,
        settings: Default::default(),
        public_keys: Vec::new(),
    }
}

/// Reads the body, verifies, answers.
fn verify_only() {
    let secrets = [("signing_secret".to_owned(), vec![Secret::new(SECRET)])].into();
    let settings = TriggerSettings { secrets, ..TriggerSettings::default() };
    let entry = ProviderCatalog::built_in().get("github").unwrap().clone();
    let verifier = Arc::new(Verifier::new(&entry, &settings).unwrap());
    actix::System::new().block_on(async move {
        let app =
            move || App::new().app_data(web::Data::from(verifier.clone())).default_service(web::to(verify));
        let server = HttpServer::new(app).workers(WORKERS).bind(("127.0.0.1", 0)).unwrap();
        println!("{}", server.addrs()[0]);
        server.run().await.unwrap();
    });
}

async fn verify(request: HttpRequest, mut payload: Payload, verifier: web::Data<Verifier>) -> HttpResponse {
    let mut body = web::BytesMut::new();
    while let Some(Ok(chunk)) = payload.next().await {
        body.extend_from_slice(&chunk);
    }
    let headers = request.headers().iter();
    let raw = RawInbound {
        method: request.method().as_str().to_owned(),
        url: request.path().to_owned(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), web::Bytes::copy_from_slice(value.as_bytes())))
            .collect(),
        body: body.freeze(),
        received_at: Clock::system().now(),
        peer: None,
    };
    match verifier.normalize_inbound(&raw, Judging::at(raw.received_at)) {
        NormalizeResult::Event(_) => HttpResponse::Ok().finish(),
        _ => HttpResponse::Unauthorized().finish(),
    }
}
