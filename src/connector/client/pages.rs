//! Where a listing goes on. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use url::Url;

use super::ClientError;
use super::args::Wanted;
use crate::catalog::{ClientPages, PageKind};
use crate::outbound::HeaderMap;

/// Most pages that one call reads; its result says where to go on.
pub(super) const PAGES_MAX: usize = 100;
/// Most bytes of answers that one call reads for a listing.
pub(super) const LISTING_BYTES_MAX: usize = 32 << 20;

/// A listing while its pages come in.
#[derive(Debug, Default)]
pub(super) struct Listing {
    items: Vec<Value>,
    /// Cursors that were followed: one that comes again would lead round in circles.
    seen: BTreeSet<String>,
    next: Option<String>,
    pages: usize,
    bytes: usize,
}

impl Listing {
    /// Starts where a caller says.
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self { next: wanted.cursor.clone(), seen: wanted.cursor.iter().cloned().collect(), ..Self::default() }
    }

    /// Returns the cursor of the page to read next.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Returns how many items are still wanted, where a number was asked for.
    pub(super) fn left(&self, wanted: &Wanted) -> Option<u64> {
        wanted.limit.map(|limit| limit.saturating_sub(self.items.len() as u64))
    }

    /// Takes a page in; tells whether another one is wanted.
    ///
    /// # Errors
    ///
    /// If the page has no items where they should be, or leads back to where one was already.
    pub(super) fn take(
        &mut self,
        pages: &ClientPages,
        wanted: &Wanted,
        page: Page<'_>,
    ) -> Result<bool, ClientError> {
        let Page { mut value, headers, base, bytes } = page;
        let next = next(pages, &value, headers, base)?;
        match value.pointer_mut(&pages.items).map(Value::take) {
            Some(Value::Array(items)) => self.items.extend(items),
            Some(Value::Null) => {}
            _ => return Err(ClientError::Malformed(format!("expected an array at {:?}", pages.items))),
        }
        if next.as_ref().is_some_and(|next| !self.seen.insert(next.clone())) {
            return Err(ClientError::Malformed("the next page is one that was read already".to_owned()));
        }
        self.next = next;
        self.pages += 1;
        self.bytes += bytes;
        let is_enough = match self.left(wanted) {
            Some(left) => left == 0,
            None => !wanted.all,
        };
        let is_full = self.pages >= PAGES_MAX || self.bytes >= LISTING_BYTES_MAX;
        Ok(self.next.is_some() && !is_enough && !is_full)
    }

    /// Returns the result.
    pub(super) fn into_value(self) -> Value {
        json!({"items": self.items, "next_cursor": self.next})
    }
}

/// One page as it came.
pub(super) struct Page<'a> {
    pub(super) value: Value,
    pub(super) headers: &'a HeaderMap,
    pub(super) base: &'a Url,
    pub(super) bytes: usize,
}

fn next(
    pages: &ClientPages,
    value: &Value,
    headers: &HeaderMap,
    base: &Url,
) -> Result<Option<String>, ClientError> {
    let has_more = pages.more.as_ref().is_none_or(|more| value.pointer(more) == Some(&Value::Bool(true)));
    let found = match pages.by {
        _ if !has_more => None,
        PageKind::Link => return linked(headers, base),
        PageKind::Cursor => value.pointer(&pages.from),
        PageKind::LastItem => {
            let items = value.pointer(&pages.items).and_then(Value::as_array);
            items.and_then(|items| items.last()).and_then(|last| last.pointer(&pages.from))
        }
    };
    Ok(found.and_then(super::encode::scalar).filter(|cursor| !cursor.is_empty()))
}

/// Returns the URL of the next page, which must be the API's own: credentials go there.
fn linked(headers: &HeaderMap, base: &Url) -> Result<Option<String>, ClientError> {
    let texts = headers.get_all("link").into_iter().filter_map(|value| value.to_str().ok());
    match texts.flat_map(links).find(|(_, rel)| rel.split(' ').any(|word| word == "next")) {
        None => Ok(None),
        Some((url, _)) => own_url(url, base).map(|url| Some(url.to_string())).ok_or_else(|| {
            ClientError::Malformed("the next page is at another host than the API".to_owned())
        }),
    }
}

/// Reads a URL that must be one of the API's, relative or not.
pub(super) fn own_url(text: &str, base: &Url) -> Option<Url> {
    let url = base.join(text).ok()?;
    let is_own = url.origin() == base.origin() && url.username().is_empty() && url.password().is_none();
    is_own.then_some(url)
}

/// Tells whether a URL of the API is one below the base URL, where calls go.
pub(super) fn is_below(url: &Url, base: &Url) -> bool {
    let rest = url.path().strip_prefix(base.path().trim_end_matches('/'));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// Returns URLs and relations of a `Link` header (RFC 8288), without links that say `results="false"`, as
/// those of Sentry do that lead to an empty page.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('<').skip(1).filter_map(|part| {
        let (url, rest) = part.split_once('>')?;
        let is_empty = parameter(rest, "results").is_some_and(|value| value.eq_ignore_ascii_case("false"));
        parameter(rest, "rel").filter(|_| !is_empty).map(|rel| (url, rel))
    })
}

/// Returns the value of a link's parameter.
fn parameter<'t>(parameters: &'t str, wanted: &str) -> Option<&'t str> {
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().trim_end_matches(',').split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches(['"', ' ', ',']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        "https://api.acme.example/v1".parse().unwrap()
    }

    fn link(text: &str) -> HeaderMap {
        [("link".parse().unwrap(), text.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_next_link_is_found_among_others() {
        let check = |text: &str, expected: Result<Option<&str>, ()>| {
            let found = linked(&link(text), &base()).map_err(drop);
            assert_eq!(found, expected.map(|url| url.map(str::to_owned)), "{text}");
        };
        let two = "<https://api.acme.example/v1/a?page=1>; rel=\"prev\", <https://api.acme.example/v1/a?page=3>; rel=\"next\"";
        check(two, Ok(Some("https://api.acme.example/v1/a?page=3")));
        check("</v1/a?x=1,2>; title=\"x\"; rel=next", Ok(Some("https://api.acme.example/v1/a?x=1,2")));
        check("<https://api.acme.example/v1/a?page=1>; rel=\"last\"", Ok(None));
        let sentry = |results: &str| {
            format!(
                "<https://api.acme.example/v1/a?c=0>; rel=\"previous\"; results=\"false\"; cursor=\"0\", <https://api.acme.example/v1/a?c=1>; rel=\"next\"; results=\"{results}\"; cursor=\"1\""
            )
        };
        check(&sentry("true"), Ok(Some("https://api.acme.example/v1/a?c=1")));
        check(&sentry("false"), Ok(None));
        check("nonsense", Ok(None));
        check("<https://evil.example/>; rel=\"next\"", Err(()));
        check("<http://api.acme.example/>; rel=\"next\"", Err(()));
        check("<https://api.acme.example:8443/>; rel=\"next\"", Err(()));
        check("<//evil.example/>; rel=\"next\"", Err(()));
    }

    #[test]
    fn what_is_below_a_url_goes_on_with_a_segment() {
        let check = |base: &str, url: &str, expected: bool| {
            assert_eq!(is_below(&url.parse().unwrap(), &base.parse().unwrap()), expected, "{base} {url}");
        };
        check("https://a.example", "https://a.example/x", true);
        check("https://a.example/v1", "https://a.example/v1/x?y", true);
        check("https://a.example/v1", "https://a.example/v10/x", false);
        check("https://a.example/v1", "https://a.example/v1", false);
        check("https://a.example/v1", "https://a.example/", false);
    }

    fn cursor() -> ClientPages {
        toml::from_str(
            "by = \"cursor\"\nsize = \"n\"\nitems = \"/items\"\nfrom = \"/next\"\ninto = \"cursor\"\nmore = \"/more\"",
        )
        .unwrap()
    }

    fn page(value: Value, headers: &HeaderMap, base: &Url) -> Result<(bool, Value), String> {
        let wanted = Wanted { limit: None, all: true, cursor: Some("a".to_owned()) };
        let mut listing = Listing::new(&wanted);
        let more = listing.take(&cursor(), &wanted, Page { value, headers, base, bytes: 1 });
        more.map(|more| (more, listing.into_value())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_page_says_whether_and_where_it_goes_on() {
        let check = |value: Value, expected: Result<(bool, Value), &str>| {
            let found = page(value.clone(), &HeaderMap::new(), &base());
            assert_eq!(found, expected.map_err(str::to_owned), "{value}");
        };
        let ends = json!({"items": [1], "next_cursor": null});
        check(
            json!({"items": [1], "next": "b", "more": true}),
            Ok((true, json!({"items": [1], "next_cursor": "b"}))),
        );
        check(json!({"items": [1], "next": "b", "more": false}), Ok((false, ends.clone())));
        check(json!({"items": [1], "next": "", "more": true}), Ok((false, ends)));
        check(
            json!({"items": [1], "next": "a", "more": true}),
            Err("the answer makes no sense: the next page is one that was read already"),
        );
        check(json!({"more": true}), Err("the answer makes no sense: expected an array at \"/items\""));
    }

    #[test]
    fn the_last_item_names_the_next_page() {
        let pages: ClientPages = toml::from_str(
            "by = \"last-item\"\nsize = \"n\"\nitems = \"/data\"\nfrom = \"/id\"\ninto = \"starting_after\"\nmore = \"/has_more\"",
        )
        .unwrap();
        let value = json!({"data": [{"id": "a"}, {"id": "b"}], "has_more": true});
        let found = next(&pages, &value, &HeaderMap::new(), &base()).unwrap();
        assert_eq!(found.as_deref(), Some("b"));
        let empty = json!({"data": [], "has_more": true});
        assert_eq!(next(&pages, &empty, &HeaderMap::new(), &base()).unwrap(), None);
    }

    #[test]
    fn a_listing_ends_at_its_bounds_and_says_where_it_goes_on() {
        let wanted = Wanted { limit: None, all: true, cursor: None };
        let mut listing = Listing::default();
        let mut read = 0;
        loop {
            let value = json!({"items": [read], "next": format!("c{read}"), "more": true});
            let page = Page { value, headers: &HeaderMap::new(), base: &base(), bytes: 1 };
            read += 1;
            if !listing.take(&cursor(), &wanted, page).unwrap() {
                break;
            }
        }
        assert_eq!(read, PAGES_MAX);
        assert_eq!(listing.into_value()["next_cursor"], format!("c{}", PAGES_MAX - 1));
    }
}
