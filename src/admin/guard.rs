//! Who may talk to the admin API: Host check, no cross-origin writes, token.
//!
//! Pure: method, path and headers in, a verdict out.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Problem;
use crate::secrets::Secret;

/// The rules of one listener.
pub(super) struct Guard {
    token: Option<Arc<ArcSwap<Secret>>>,
    names: Vec<String>,
}

/// What the rules look at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Caller<'a> {
    /// Upper case.
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) sec_fetch_site: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
}

impl Guard {
    /// Returns the rules; the token may be changed at any time; `names` are further names in the Host header that are answered to.
    pub(super) fn new(token: Option<Arc<ArcSwap<Secret>>>, names: &[String]) -> Self {
        Self { token, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Lets a caller pass or not.
    ///
    /// # Errors
    ///
    /// 403 for a foreign Host or origin, 401 without the token.
    pub(super) fn check(&self, caller: Caller<'_>) -> Result<(), Problem> {
        // Whoever watches whether the process lives needs no name and no token, and learns nothing else.
        if matches!(caller.path, "/healthz" | "/readyz") {
            return Ok(());
        }
        self.check_host(caller.host)?;
        check_origin(caller)?;
        self.check_token(caller.authorization)
    }

    /// A page that rebinds its own name to our address sends that name as Host. Addresses cannot be rebound.
    fn check_host(&self, host: Option<&str>) -> Result<(), Problem> {
        let Some(host) = host else {
            return Err(Problem::bad("missing_host", "the request has no Host header"));
        };
        let name = without_port(host).to_ascii_lowercase();
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        if is_address || name == "localhost" || self.names.contains(&name) {
            return Ok(());
        }
        Err(Problem::new(
            403,
            "unknown_host",
            "this name is not known here: call the admin API by its address, or add the name to server.admin_names",
        ))
    }

    fn check_token(&self, authorization: Option<&str>) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let Some(authorization) = authorization else {
            return Err(Problem::new(401, "missing_token", "send the admin token: Authorization: Bearer …"));
        };
        let given = authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // Secrets compare in constant time.
        if given.is_some_and(|(_, given)| Secret::new(given.trim()) == **token.load()) {
            return Ok(());
        }
        Err(Problem::new(401, "invalid_token", "this is not the admin token"))
    }
}

/// Refuses writes that a browser sends for another site's page.
fn check_origin(caller: Caller<'_>) -> Result<(), Problem> {
    if matches!(caller.method, "GET" | "HEAD") {
        return Ok(());
    }
    let foreign_site = caller.sec_fetch_site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = caller.host.unwrap_or_default();
    let foreign_origin = caller.origin.is_some_and(|origin| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host))
    });
    if foreign_site || foreign_origin {
        return Err(Problem::new(403, "cross_origin", "pages of other sites change nothing here"));
    }
    Ok(())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Guard {
        Guard::new(None, &["Hooks.internal".to_owned()])
    }

    #[track_caller]
    fn check(guard: &Guard, caller: Caller<'_>, expected: Option<&str>) {
        assert_eq!(guard.check(caller).err().map(|problem| problem.code), expected, "{caller:?}");
    }

    #[test]
    fn names_that_are_not_ours_are_refused() {
        for (host, expected) in [
            (Some("127.0.0.1:8081"), None),
            (Some("localhost"), None),
            (Some("LOCALHOST:8081"), None),
            (Some("[::1]:8081"), None),
            (Some("10.0.0.7:8081"), None),
            (Some("hooks.internal:1"), None),
            (Some("evil.example"), Some("unknown_host")),
            (Some("127.0.0.1.evil.example:8081"), Some("unknown_host")),
            (Some("localhost.evil.example"), Some("unknown_host")),
            (Some("localhost:"), Some("unknown_host")),
            (Some(""), Some("unknown_host")),
            (None, Some("missing_host")),
        ] {
            check(&open(), Caller { method: "GET", path: "/api/v1", host, ..Caller::default() }, expected);
        }
    }

    #[test]
    fn writes_of_other_sites_are_refused() {
        let write =
            Caller { method: "POST", path: "/api/v1", host: Some("localhost:81"), ..Caller::default() };
        check(&open(), write, None);
        for (origin, expected) in [
            ("http://localhost:81", None),
            ("https://localhost:81", None),
            ("http://localhost:82", Some("cross_origin")),
            ("http://evil.example", Some("cross_origin")),
            ("null", Some("cross_origin")),
        ] {
            check(&open(), Caller { origin: Some(origin), ..write }, expected);
        }
        for (site, expected) in [
            ("same-origin", None),
            ("none", None),
            ("same-site", Some("cross_origin")),
            ("cross-site", Some("cross_origin")),
        ] {
            check(&open(), Caller { sec_fetch_site: Some(site), ..write }, expected);
        }
        let read = Caller { method: "GET", origin: Some("http://evil.example"), ..write };
        check(&open(), read, None);
    }

    #[test]
    fn a_token_is_asked_for_once_there_is_one() {
        let guard = Guard::new(Some(Arc::new(ArcSwap::from_pointee(Secret::new("hunter2")))), &[]);
        let caller = Caller { method: "GET", path: "/api/v1", host: Some("localhost"), ..Caller::default() };
        for (authorization, expected) in [
            (None, Some("missing_token")),
            (Some("Bearer hunter2"), None),
            (Some("bearer hunter2"), None),
            (Some("Bearer hunter3"), Some("invalid_token")),
            (Some("Bearer"), Some("invalid_token")),
            (Some("Basic hunter2"), Some("invalid_token")),
            (Some("hunter2"), Some("invalid_token")),
        ] {
            check(&guard, Caller { authorization, ..caller }, expected);
        }
        check(&guard, Caller { path: "/healthz", ..caller }, None);
        check(&guard, Caller { path: "/readyz", host: None, ..caller }, None);
    }
}
