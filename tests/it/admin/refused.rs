//! The quarantine over the admin API.

use super::*;

impl Api {
    /// Puts a refused delivery into the quarantine.
    fn refuse(&self, reason: RejectReason, body: &[u8]) {
        let raw = RawInbound {
            method: "POST".into(),
            url: "/hooks/github?sig=1".into(),
            headers: vec![
                ("authorization".into(), "hunter2".into()),
                ("x-hub-signature-256".into(), "sha256=00".into()),
            ],
            body: body.to_vec().into(),
            received_at: Clock::system().now(),
            peer: Some([192, 0, 2, 7].into()),
        };
        self.quarantine.keep(Refused {
            trigger_id: &"github".parse().unwrap(),
            provider: &"github".parse().unwrap(),
            id_locations: &[],
            rejection: &Rejection::new(reason, "wrong secret"),
            raw: &raw,
        });
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", &format!("/api/v1/{path}"), &[], "").await
    }
}

#[test]
fn the_quarantine_is_listed_shown_released_and_purged_and_every_act_is_audited() {
    on_actix(async {
        let api = Api::new(None);
        for (reason, body) in [
            (RejectReason::InvalidSignature, b"good".as_slice()),
            (RejectReason::InvalidSignature, b"bad"),
            (RejectReason::MissingHeader, b"worse"),
            (RejectReason::InvalidSignature, b"good"),
        ] {
            api.refuse(reason, body);
        }
        // Ends the writer once everything is written; reading and releasing go on.
        api.quarantine.stop();
        let listing = api.get("quarantine").await.json();
        let held: Vec<String> = ids(&listing).into_iter().map(str::to_owned).collect();
        assert_eq!(held.len(), 4);
        let page = api.get("quarantine?limit=3").await.json();
        let next = page["next_cursor"].as_str().unwrap();
        assert_eq!(ids(&api.get(&format!("quarantine?cursor={next}")).await.json()), [&held[3]]);
        assert_eq!(ids(&api.get("quarantine?reason=missing_header").await.json()), [&held[1]]);
        assert_eq!(ids(&api.get("quarantine?trigger=notion").await.json()).len(), 0);
        assert_eq!(ids(&api.get("quarantine?until=1h").await.json()).len(), 0);
        api.get("quarantine?reason=because").await.is_problem(400, "invalid_parameter");
        api.get("quarantine?kind=push").await.is_problem(400, "unknown_parameter");
        api.get("quarantine/nonsense").await.is_problem(400, "invalid_id");
        api.get("quarantine/q0000000000000000").await.is_problem(404, "not_found");

        let shown = api.get(&format!("quarantine/{}", held[2])).await;
        assert!(!String::from_utf8_lossy(&shown.body).contains("hunter2"));
        let shown = shown.json();
        assert_eq!(shown["request"]["headers"][0], json!(["authorization", "[redacted]"]));
        assert_eq!((&shown["verifies_now"], &shown["reason"]), (&json!(false), &json!("invalid_signature")));

        let done = api.post(&format!("quarantine/{}/release", held[3]), json!({})).await.json();
        let event = done["events"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(api.get(&format!("events/{event}")).await.status, 200);
        api.get(&format!("quarantine/{}", held[3])).await.is_problem(404, "not_found");
        let detail = api.post(&format!("quarantine/{}/release", held[2]), json!({})).await;
        assert!(detail.is_problem(409, "still_rejected").contains("wrong secret"));
        api.post(&format!("quarantine/{}/release", held[2]), json!({"force": true}))
            .await
            .is_problem(400, "invalid_body");

        api.post("quarantine/release", json!({})).await.is_problem(400, "missing_filter");
        let done = api.post("quarantine/release", json!({"reason": "invalid_signature"})).await.json();
        assert_eq!((&done["released"], &done["failed"]), (&json!(1), &json!(1)), "{done}");
        assert_eq!(done["failures"][0]["id"], held[2].as_str());
        assert_eq!(ids(&api.get("quarantine").await.json()), [&held[1], &held[2]]);

        api.get("quarantine/release").await.is_problem(405, "method_not_allowed");
        api.delete("quarantine").await.is_problem(400, "missing_filter");
        assert_eq!(api.delete(&format!("quarantine/{}", held[2])).await.json()["purged"], 1);
        api.delete(&format!("quarantine/{}", held[2])).await.is_problem(404, "not_found");
        assert_eq!(api.delete("quarantine?trigger=github").await.json()["purged"], 1);
        assert_eq!(ids(&api.get("quarantine").await.json()).len(), 0);
        let audited = api.audited("audit.admin").await;
        let expected = [
            "quarantine_released",
            "quarantine_not_released",
            "quarantine_released",
            "quarantine_purged",
            "quarantine_purged",
        ];
        assert_eq!(audited, expected);
    });
}
