//! Where a redirect of an API leads, such as that of a repository that was renamed. Pure.

use url::Url;

use super::ClientError;
use super::pages::{is_below, own_url};
use super::request::Draft;
use crate::outbound::Answer;

/// Most redirects of one request that are followed.
pub(super) const REDIRECTS_MAX: usize = 3;

/// Returns where a request is to be made again, if an answer is a redirect.
///
/// # Errors
///
/// If it is one that is not followed: to another host or from under the base URL, where credentials do not belong, or
/// one that would make another request of what is no GET.
pub(super) fn target(answer: &Answer, draft: &Draft, base: &Url) -> Result<Option<Url>, ClientError> {
    if !(300..400).contains(&answer.status) {
        return Ok(None);
    }
    let keeps_request = match answer.status {
        307 | 308 => true,
        301..=303 => draft.verb == "GET",
        _ => false,
    };
    let location = answer.headers.get("location").and_then(|value| value.to_str().ok());
    let url = location.filter(|_| keeps_request).and_then(|location| own_url(location, &draft.url));
    match url.filter(|url| is_below(url, base)) {
        Some(mut url) => {
            url.set_fragment(None);
            Ok(Some(url))
        }
        None => Err(refused(answer, base)),
    }
}

/// Says that a redirect is not followed, without where it leads.
pub(super) fn refused(answer: &Answer, base: &Url) -> ClientError {
    let host = base.host_str().unwrap_or_default();
    let status = answer.status;
    ClientError::Malformed(format!("{host} answered with a redirect, status {status}, which is not followed"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[track_caller]
    fn check(verb: &str, status: u16, location: Option<&str>, expected: Option<&str>) {
        let base: Url = "https://api.acme.example/v1".parse().unwrap();
        let url = "https://api.acme.example/v1/repos/a?x=1".parse().unwrap();
        let draft = Draft { verb: verb.to_owned(), url, headers: Vec::new(), body: Bytes::new() };
        let headers = location.map(|url| ("location".parse().unwrap(), url.parse().unwrap()));
        let answer = Answer { status, headers: headers.into_iter().collect(), body: Bytes::new() };
        let found = target(&answer, &draft, &base).map_err(|error| error.to_string());
        match expected {
            Some(url) => assert_eq!(found.unwrap().unwrap().as_str(), url),
            None => assert!(found.unwrap_err().contains("redirect"), "{location:?}"),
        }
    }

    #[test]
    fn only_what_is_the_same_request_of_the_same_api_is_followed() {
        let to = Some("https://api.acme.example/v1/repositories/7");
        for status in [301, 302, 303, 307, 308] {
            check("GET", status, to, to);
            check("POST", status, to, to.filter(|_| status >= 307));
        }
        check("GET", 301, Some("/v1/b?y=2#z"), Some("https://api.acme.example/v1/b?y=2"));
        check("GET", 301, Some("b"), Some("https://api.acme.example/v1/repos/b"));
        for elsewhere in [
            "https://evil.example/v1/b",
            "http://api.acme.example/v1/b",
            "https://api.acme.example:8443/v1/b",
            "https://user@api.acme.example/v1/b",
            "https://127.0.0.1/v1/b",
            "//evil.example/v1/b",
            "https://api.acme.example/v2/b",
            "https://api.acme.example/v10/b",
            "/v1/../b",
            "https://",
            "",
        ] {
            let expected =
                if elsewhere.is_empty() { Some("https://api.acme.example/v1/repos/a?x=1") } else { None };
            check("GET", 307, Some(elsewhere), expected);
        }
        check("GET", 307, None, None);
        check("GET", 304, to, None);
    }
}
