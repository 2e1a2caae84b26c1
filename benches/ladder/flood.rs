//! What a flood of one provider costs another: the p99 of a provider that sends little, alone and beside
//! one that sends as fast as it is answered, or at a rate. Once with a log in memory, which leaves what judging costs
//! others; once as it is; once beside a connector in code that takes long over each delivery.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hookkeeper::connector::{
    ActivationHandle, Connector, ConnectorError, InboundCtx, NormalizeResult, Normalized,
    ProviderPayloadSchema, RawInbound, TriggerBinding, TriggerKind,
};
use hookkeeper::event::{ProviderId, SignatureStatus};

use crate::{SECRET, Server};

/// Deliveries per second of the provider that sends little.
const QUIET_RATE: u64 = 200;
/// How long a flood goes on before its neighbour is looked at: its bodies are signed first, and connections opened.
const WARM_UP: Duration = Duration::from_secs(1);
/// Connections of the one that floods.
const FLOOD_CONNECTIONS: u64 = 64;

/// What [`Slow`] takes for each delivery.
const SLOW: Duration = Duration::from_millis(2);

/// Measures both in turns, and prints the medians.
pub(crate) fn measure(function: &str, seconds: u64, rounds: u64, rate: u64) {
    let parts = [
        ("memory", "another provider, stored in memory"),
        ("sled", "another provider, stored on the device"),
        ("slow", "a connector that takes 2 ms of a processor for each"),
    ];
    for (rung, other) in parts {
        let (mut quiet, mut flooded, mut floods) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let server = Server::start(rung, dir.path(), function);
            let alone = run(start(&server, "github", QUIET_RATE, 4, seconds));
            let flood = start(&server, "linear", rate, FLOOD_CONNECTIONS, seconds + 2 * WARM_UP.as_secs());
            std::thread::sleep(WARM_UP);
            let beside = run(start(&server, "github", QUIET_RATE, 4, seconds));
            let flood = run(flood);
            eprintln!(
                "round {round}: alone {:?}, beside {:?} of {:.0}/s",
                p99(&alone),
                p99(&beside),
                per_second(&flood)
            );
            quiet.push(p99(&alone));
            flooded.push(p99(&beside));
            floods.push(per_second(&flood));
        }
        let (quiet, flooded) = (median(quiet), median(flooded));
        println!(
            "p99 of {QUIET_RATE}/s: {quiet:.2} ms alone, {flooded:.2} ms beside {:.0}/s of {other}: {:.2} times",
            median(floods),
            flooded / quiet
        );
    }
}

/// A connector in code that takes its time, and any delivery.
pub(crate) struct Slow {
    pub(crate) id: ProviderId,
}

#[async_trait]
impl Connector for Slow {
    fn provider_id(&self) -> &ProviderId {
        &self.id
    }

    fn kinds(&self) -> &[TriggerKind] {
        &[TriggerKind::Webhook]
    }

    async fn activate(&self, bindings: &[TriggerBinding]) -> Result<ActivationHandle, ConnectorError> {
        Ok(ActivationHandle::new(self.id.clone(), bindings.len()))
    }

    fn normalize_inbound(
        &self,
        _: &RawInbound,
        _: InboundCtx<'_>,
    ) -> Result<NormalizeResult, ConnectorError> {
        let begun = Instant::now();
        while begun.elapsed() < SLOW {
            std::hint::spin_loop();
        }
        Ok(NormalizeResult::Event(Normalized {
            kind: "slow".to_owned(),
            dedupe_key: None,
            occurred_at: None,
            signature_status: SignatureStatus::Verified { covers_body: true },
            secret_index: None,
            part: None,
        }))
    }

    fn payload_schema(&self) -> ProviderPayloadSchema {
        ProviderPayloadSchema::named("SlowPayload")
    }
}

fn start(server: &Server, provider: &str, rate: u64, connections: u64, seconds: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hookkeeper"))
        .args(["bench", provider, "--json", "--rate", &rate.to_string(), "--url"])
        .arg(format!("http://{}/hooks/{provider}", server.address))
        .args(["--secret", SECRET, "--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--body-size", "7KB"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn run(child: Child) -> serde_json::Value {
    serde_json::from_slice(&child.wait_with_output().unwrap().stdout).expect("bench prints JSON")
}

fn p99(load: &serde_json::Value) -> f64 {
    load["latency_us"]["p99"].as_f64().unwrap() / 1000.0
}

fn per_second(load: &serde_json::Value) -> f64 {
    load["per_second"].as_f64().unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
