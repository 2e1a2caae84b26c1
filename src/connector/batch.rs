//! One element of a batch as a body of its own. Nothing of the delivery is lost: what stands between
//! the elements is kept with them, so that all parts one after the other are the delivery again.

use bytes::Bytes;

use crate::signature::items;

/// Most bytes of one part, with what stands around it; a batch with a larger one stays one event. Parts
/// are kept in the log's records, which have a bound of their own.
pub(super) const PART_BYTES_MAX: usize = 512 * 1024;

/// The part of a delivery that became one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPart {
    /// Its place among the delivery's events, counted from 0.
    pub index: u32,
    /// How many events the delivery became.
    pub count: u32,
    /// What stands before the element and behind the one before it.
    pub lead: Bytes,
    /// The element.
    pub body: Bytes,
    /// What stands behind the last element.
    pub tail: Bytes,
}

impl BatchPart {
    /// Cuts the elements of the array at a JSON pointer out of a body. Nothing comes of a body without such an
    /// array, and of one with an element that is too large to be an event of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use hookkeeper::connector::BatchPart;
    ///
    /// let parts = BatchPart::of_array(&r#"{"items": [{"a": 1}, {"a": 2}]}"#.into(), "/items").unwrap();
    /// assert_eq!((parts.len(), &parts[1].body[..]), (2, &br#"{"a": 2}"#[..]));
    /// assert_eq!(BatchPart::of_array(&"{}".into(), "/items"), None);
    /// ```
    pub fn of_array(body: &Bytes, pointer: &str) -> Option<Vec<Self>> {
        let text = std::str::from_utf8(body).ok()?;
        Self::cut(body, text, &items(text, &pointer.parse().ok()?)?)
    }

    /// Cuts a body into its elements. `text` is the JSON that holds them: the body itself, or a form
    /// field of it, and then there are no bytes of the body to keep between elements. Nothing comes of a
    /// body with too large a part.
    pub(super) fn cut(body: &Bytes, text: &str, items: &[&str]) -> Option<Vec<Self>> {
        let whole = text.as_bytes().as_ptr_range() == body.as_ptr_range();
        let count = items.len() as u32;
        let mut end = 0;
        let mut parts = Vec::with_capacity(items.len());
        for (index, item) in (0..).zip(items) {
            let is_last = index + 1 == count;
            let (lead, own, tail) = if whole {
                let start = item.as_ptr() as usize - text.as_ptr() as usize;
                let lead = body.slice(end..start);
                end = start + item.len();
                let tail = if is_last { body.slice(end..) } else { Bytes::new() };
                (lead, body.slice(start..end), tail)
            } else {
                // The form's own bytes are kept once, in front of the first element.
                let lead = if index == 0 { body.clone() } else { Bytes::new() };
                (lead, Bytes::copy_from_slice(item.as_bytes()), Bytes::new())
            };
            if lead.len() + own.len() + tail.len() > PART_BYTES_MAX {
                return None;
            }
            parts.push(Self { index, count, lead, body: own, tail });
        }
        Some(parts)
    }

    /// Puts a delivery together again from its parts, in their order. Of a delivery whose elements stood
    /// in a form field, the first part's lead is the whole.
    pub fn join<'p>(parts: impl IntoIterator<Item = &'p BatchPart>) -> Vec<u8> {
        parts.into_iter().flat_map(|part| [&part.lead[..], &part.body, &part.tail].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_delivery_again() {
        for text in [r#" [ {"a": 1} ,2, "x" ] "#, "[1]", "[\n]"] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            let view = std::str::from_utf8(&body).unwrap();
            let items = items(view, &"".parse().unwrap()).unwrap_or_default();
            let parts = BatchPart::cut(&body, view, &items).unwrap();
            assert_eq!(parts.len(), items.len());
            if !parts.is_empty() {
                assert_eq!(BatchPart::join(&parts), body);
            }
        }
    }

    #[test]
    fn a_batch_with_too_large_a_part_stays_whole() {
        let text = format!("[\"{}\"]", "x".repeat(PART_BYTES_MAX));
        let body = Bytes::from(text);
        let view = std::str::from_utf8(&body).unwrap();
        assert_eq!(BatchPart::cut(&body, view, &items(view, &"".parse().unwrap()).unwrap()), None);
    }

    #[test]
    fn elements_of_a_form_field_keep_the_form_with_the_first() {
        let body = Bytes::from_static(b"events=%5B1%2C2%5D");
        let parts = BatchPart::cut(&body, "[1,2]", &["1", "2"]).unwrap();
        assert_eq!((&parts[0].lead, &parts[0].body), (&body, &Bytes::from_static(b"1")));
        assert_eq!((&parts[1].lead[..], &parts[1].body[..], parts[1].count), (&b""[..], &b"2"[..], 2));
    }
}
