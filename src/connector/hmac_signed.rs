//! [`verify_hmac_signed`]: the six common header styles for connectors that are written by hand.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use super::plan::Plan;
use super::{RawInbound, Rejection};
use crate::catalog::ProviderCatalog;
use crate::event::{ProviderId, RejectReason, Timestamp};
use crate::secrets::Secret;
use crate::signature::{Key, KeyError, Request, Values, Window};

/// The topic that refusals are audited on.
pub const AUDIT_TOPIC: &str = "audit.signature_verify";

/// A style of signed request. What it means in detail stands in the catalogue entry of its name. For any other
/// style there is [`Scheme`](crate::signature::Scheme), whose example is a connector's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HmacStyle {
    /// `X-Hub-Signature-256: sha256=<hex>` over the body.
    GitHub,
    /// `X-Notion-Signature: sha256=<hex>` over the body.
    Notion,
    /// `Stripe-Signature: t=<unix>,v1=<hex>[,v1=<hex>…]` over `{timestamp}.{body}`.
    Stripe,
    /// `X-Slack-Signature: v0=<hex>` over `v0:{timestamp}:{body}`.
    Slack,
    /// `Linear-Signature: <hex>` over the body, which holds the signed time.
    Linear,
    /// `webhook-signature: v1,<base64>[ v1,<base64>…]` over `{id}.{timestamp}.{body}`.
    StandardWebhooks,
}

static PLANS: LazyLock<BTreeMap<&'static str, Arc<Plan>>> = LazyLock::new(|| {
    let catalog = ProviderCatalog::built_in();
    let plan = |id: &'static str| {
        let entry = catalog.get(id).expect("a style's entry is built in");
        (id, Arc::new(Plan::new(entry, &BTreeMap::new()).expect("a test compiles every built-in entry")))
    };
    HmacStyle::ALL.iter().map(|style| plan(style.entry_id())).collect()
});

impl HmacStyle {
    /// Every style.
    pub const ALL: [HmacStyle; 6] = [
        HmacStyle::GitHub,
        HmacStyle::Notion,
        HmacStyle::Stripe,
        HmacStyle::Slack,
        HmacStyle::Linear,
        HmacStyle::StandardWebhooks,
    ];

    /// Returns the id of the catalogue entry that the style is.
    pub fn entry_id(self) -> &'static str {
        match self {
            HmacStyle::GitHub => "github",
            HmacStyle::Notion => "notion",
            HmacStyle::Stripe => "stripe",
            HmacStyle::Slack => "slack",
            HmacStyle::Linear => "linear",
            HmacStyle::StandardWebhooks => "standard-webhooks",
        }
    }
}

/// What is told of a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureRejected {
    /// The provider whose request it should have been.
    pub provider_id: ProviderId,
    /// The code that the sender sees.
    pub reason: RejectReason,
    /// For the operator: which header, which form. Never a secret, never how close.
    pub hint: String,
    /// When.
    pub at: Timestamp,
    /// The sender's address.
    pub peer: Option<IpAddr>,
}

/// Takes refusals for [`AUDIT_TOPIC`]. A closure is one; what judges a request is handed one with
/// [`InboundCtx::audit`](super::InboundCtx::audit).
pub trait AuditSink {
    /// Takes one refusal. Called on the request's way, so it must not wait.
    fn signature_rejected(&self, rejected: SignatureRejected);
}

impl<F: Fn(SignatureRejected)> AuditSink for F {
    fn signature_rejected(&self, rejected: SignatureRejected) {
        self(rejected);
    }
}

impl fmt::Debug for dyn AuditSink + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSink")
    }
}

impl From<SignatureRejected> for Rejection {
    fn from(rejected: SignatureRejected) -> Self {
        Self::new(rejected.reason, rejected.hint)
    }
}

/// What became of a request's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Verified {
        /// Which secret of the list yields it.
        secret_index: usize,
        /// The signed time, where the style has one.
        signed_at: Option<Timestamp>,
    },
    /// It does not.
    Rejected(Rejection),
}

/// Verifies a request of one of the common styles over its raw bytes, in constant time, against every
/// secret of a rotation list, within the caller's window; tells `audit` of a refusal. A connector passes on the
/// sink that it was handed, [`InboundCtx::audit`](super::InboundCtx::audit).
///
/// # Errors
///
/// If a secret is blank or does not have the style's form: our failure, not the sender's.
///
/// # Examples
///
/// ```
/// use hookkeeper::connector::{HmacStyle, RawInbound, SignatureRejected, Verdict, verify_hmac_signed};
/// use hookkeeper::event::{ProviderId, Timestamp};
/// use hookkeeper::secrets::Secret;
/// use hookkeeper::signature::Window;
///
/// let now = Timestamp::UNIX_EPOCH;
/// let raw = RawInbound {
///     method: "POST".into(),
///     url: "/hooks/acme".into(),
///     headers: vec![(
///         "x-hub-signature-256".into(),
///         "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".into(),
///     )],
///     body: "Hello, World!".into(),
///     received_at: now,
///     peer: None,
/// };
/// let audit = |rejected: SignatureRejected| eprintln!("{}: {}", rejected.reason, rejected.hint);
/// let secrets = [Secret::new("It's a Secret to Everybody")];
/// let acme = ProviderId::new("acme")?;
/// let window = Window { now, tolerance: None };
/// let verdict = verify_hmac_signed(&audit, &acme, HmacStyle::GitHub, &raw, &secrets, window)?;
/// assert_eq!(verdict, Verdict::Verified { secret_index: 0, signed_at: None });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify_hmac_signed(
    audit: &(impl AuditSink + ?Sized),
    provider_id: &ProviderId,
    style: HmacStyle,
    raw: &RawInbound,
    secrets: &[Secret],
    window: Window,
) -> Result<Verdict, KeyError> {
    let plan = &PLANS[style.entry_id()];
    let scheme = &plan.main_form().expect("every style has a scheme").scheme;
    let keys: Vec<Key> =
        secrets.iter().map(|secret| scheme.key(secret.expose())).collect::<Result<_, _>>()?;
    let request = Request {
        method: &raw.method,
        url: &raw.url,
        public_url: None,
        headers: &raw.headers,
        body: &raw.body,
    };
    let values = Values::new(&plan.fields, request);
    Ok(match scheme.verify(&keys, &values, window) {
        Ok(proof) => Verdict::Verified { secret_index: proof.key_index, signed_at: proof.signed_at },
        Err(problem) => {
            let rejection = Rejection::new(problem.reason(), problem.to_string());
            audit.signature_rejected(SignatureRejected {
                provider_id: provider_id.clone(),
                reason: rejection.reason,
                hint: rejection.hint.clone(),
                at: window.now,
                peer: raw.peer,
            });
            Verdict::Rejected(rejection)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;
    use crate::connector::TriggerSettings;
    use crate::connector::{SignRequest, Signer, generate_secret};

    /// Signs a body in a style, then verifies it as changed by `change`, `late_s` seconds later.
    fn check(
        style: HmacStyle,
        late_s: i64,
        change: impl Fn(&mut RawInbound),
        expected: Result<(), RejectReason>,
    ) {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let catalog = ProviderCatalog::built_in();
        let entry = catalog.get(style.entry_id()).unwrap();
        let secret = generate_secret(&entry.secrets[0], &[9; 32]);
        let signer = Signer::new(entry, &TriggerSettings::of_secrets([secret.clone()])).unwrap().unwrap();
        let body = format!(r#"{{"webhookTimestamp": {}}}"#, now.as_millisecond());
        let request = SignRequest {
            method: "POST",
            url: "/",
            headers: &[],
            body: body.as_bytes(),
            now,
            delivery_id: "msg_1",
            kind: None,
        };
        let headers = signer.sign(request).unwrap();
        let mut raw = RawInbound {
            method: "POST".into(),
            url: "/".into(),
            headers: headers.headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
            body: body.into(),
            received_at: now,
            peer: None,
        };
        change(&mut raw);
        let audited = RefCell::new(Vec::new());
        let audit = |rejected: SignatureRejected| audited.borrow_mut().push(rejected.reason);
        let window = Window {
            now: now + jiff::SignedDuration::from_secs(late_s),
            tolerance: Some(Duration::from_secs(60)),
        };
        let secrets = [Secret::new("d2hhdCBjYW1lIGJlZm9yZQ=="), secret];
        let provider = ProviderId::new("acme").unwrap();
        let verdict = verify_hmac_signed(&audit, &provider, style, &raw, &secrets, window).unwrap();
        let outcome = match verdict {
            Verdict::Verified { secret_index, .. } => {
                assert_eq!(secret_index, 1);
                Ok(())
            }
            Verdict::Rejected(rejection) => Err(rejection.reason),
        };
        assert_eq!(outcome, expected, "{style:?}");
        assert_eq!(*audited.borrow(), expected.err().into_iter().collect::<Vec<_>>(), "refusals are audited");
    }

    #[test]
    fn every_style_verifies_what_it_should_and_audits_the_rest() {
        for style in HmacStyle::ALL {
            check(style, 0, |_| (), Ok(()));
            check(style, 0, |raw| raw.headers.clear(), Err(RejectReason::MissingHeader));
            check(style, 0, |raw| raw.body = "{}".into(), Err(RejectReason::InvalidSignature));
        }
    }

    #[test]
    fn the_callers_window_is_enforced_in_both_directions_to_the_second() {
        use HmacStyle::{Linear, Slack, StandardWebhooks, Stripe};
        for style in [Linear, Slack, StandardWebhooks, Stripe] {
            check(style, 60, |_| (), Ok(()));
            check(style, -60, |_| (), Ok(()));
            check(style, 61, |_| (), Err(RejectReason::TimestampOutOfWindow));
            check(style, -61, |_| (), Err(RejectReason::TimestampOutOfWindow));
        }
        check(HmacStyle::GitHub, 86_400, |_| (), Ok(()));
    }

    #[test]
    fn the_signature_is_checked_before_the_clock() {
        check(HmacStyle::Stripe, 86_400, |raw| raw.body = "{}".into(), Err(RejectReason::InvalidSignature));
    }

    #[test]
    fn a_blank_secret_is_our_failure() {
        let raw = RawInbound {
            method: "POST".into(),
            url: "/".into(),
            headers: Vec::new(),
            body: "".into(),
            received_at: Timestamp::UNIX_EPOCH,
            peer: None,
        };
        let window = Window { now: Timestamp::UNIX_EPOCH, tolerance: None };
        let provider = ProviderId::new("acme").unwrap();
        let audit = |_: SignatureRejected| ();
        let blank = [Secret::new("\0")];
        let result = verify_hmac_signed(&audit, &provider, HmacStyle::GitHub, &raw, &blank, window);
        assert_eq!(result, Err(KeyError::Blank));
    }
}
