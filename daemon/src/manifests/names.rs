//! Names of segments: the pattern that those of a rendition share, and the names after one that has a number.

use std::ops::Range;
use std::sync::Arc;

use carousel::manifest;
use carousel::name::ObjectKey;

use super::content::{coding_of, plain};
use crate::store::StoredObject;

/// Sequence numbers searched after a missing segment: covers a link outage of 30 s with one-second segments.
const NUMBERS_AFTER: u64 = 32;

pub(super) fn url_of(key: &ObjectKey) -> String {
    format!("http://{key}")
}

/// The folder of a name, with its last `/`; empty if it has none.
pub(super) fn folder_of(key: &ObjectKey) -> &str {
    let path = key.as_str().split('?').next().unwrap_or_default();
    &path[..path.rfind('/').map_or(0, |at| at + 1)]
}

/// A name without its query, with each run of digits in the last path segment replaced by `#`.
pub(super) fn pattern_of(name: &str) -> String {
    let path = name.split('?').next().unwrap_or(name);
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let mut out = String::with_capacity(path.len() + 1);
    out.push_str(folder);
    out.push('/');
    let mut was_digit = false;
    for c in file.chars() {
        let is_digit = c.is_ascii_digit();
        if !is_digit {
            out.push(c);
        } else if !was_digit {
            out.push('#');
        }
        was_digit = is_digit;
    }
    out
}

/// The names of the [`NUMBERS_AFTER`] segments after `key` in a manifest that names its segments by number: `key` differs from
/// one of its names in one number only.
pub(super) fn numbered_after(manifest: &Arc<StoredObject>, key: &ObjectKey) -> Vec<String> {
    let meta = manifest.meta();
    let Some(bytes) = manifest.bytes(0..meta.length) else { return Vec::new() };
    let Some(text) = plain(&bytes, coding_of(meta)) else { return Vec::new() };
    let (mut numbers, mut is_first) = (Vec::new(), false);
    manifest::names(&text, &url_of(&meta.key), &mut |segment| {
        // Segments of a timeline are found by [`successors`].
        if segment.timeline.is_none()
            && let Ok(name) = ObjectKey::from_name(segment.url, None)
        {
            is_first |= name == *key;
            numbers.extend(one_number_of(key.as_str(), name.as_str()));
            numbers.dedup();
        }
        !is_first && numbers.len() < 2
    });
    // The first segment of a rendition may also resemble those of other renditions.
    match numbers.as_slice() {
        [number] if !is_first => names_after(key.as_str(), number.clone()),
        _ => Vec::new(),
    }
}

/// The range of the number in which `name` differs from `other`, if that is the only difference.
fn one_number_of(name: &str, other: &str) -> Option<Range<usize>> {
    let is_digit = |it: &u8| it.is_ascii_digit();
    let same = |(a, b): &(u8, u8)| a == b;
    let pairs = || name.bytes().zip(other.bytes());
    let alike = pairs().take_while(same).count();
    // The number may begin with digits common to both.
    let start = alike - name.as_bytes()[..alike].iter().rev().take_while(|it| is_digit(it)).count();
    let end = start + name.as_bytes()[start..].iter().take_while(|it| is_digit(it)).count();
    let other_end = start + other.as_bytes()[start..].iter().take_while(|it| is_digit(it)).count();
    let is_number = start < end && start < other_end && name[start..end] != other[start..other_end];
    (is_number && name[end..] == other[other_end..]).then_some(start..end)
}

/// The name with the following numbers in place of the one at `number`, with the same width.
fn names_after(name: &str, number: Range<usize>) -> Vec<String> {
    let (width, value) = (number.len(), name[number.clone()].parse::<u64>());
    let next =
        value.into_iter().flat_map(|value| (1..=NUMBERS_AFTER).filter_map(move |it| value.checked_add(it)));
    next.map(|next| format!("{}{next:0width$}{}", &name[..number.start], &name[number.end..])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_segment_is_where_its_manifest_has_one() {
        let after = |name: &str, other: &str| {
            let number = one_number_of(name, other)?;
            Some(names_after(name, number)[0].clone())
        };
        assert_eq!(after("h/s-9.m4s", "h/s-1.m4s").as_deref(), Some("h/s-10.m4s"));
        assert_eq!(after("h/s-00112.m4s", "h/s-00001.m4s").as_deref(), Some("h/s-00113.m4s"));
        assert_eq!(
            after("h/s-110.m4s", "h/s-1.m4s").as_deref(),
            Some("h/s-111.m4s"),
            "more digits, alike at first"
        );
        assert_eq!(
            after("h/12-v3.m4s?a=1", "h/1-v3.m4s?a=1").as_deref(),
            Some("h/13-v3.m4s?a=1"),
            "not the rendition's"
        );
        for (name, other) in [
            ("h/12-v3.m4s", "h/1-v4.m4s"),
            ("h/s-1.m4s", "h/s-1.m4s"),
            ("h/s-1.m4s", "h/s-1.mp4"),
            ("h/s-.m4s", "h/s-1.m4s"),
            ("h/s-1", "h/s-1x"),
            ("", ""),
        ] {
            assert_eq!(after(name, other), None, "{name} {other}");
        }
        assert_eq!(names_after("s99999999999999999999", 1..21), Vec::<String>::new(), "no number of 64 bits");
        assert_eq!(names_after("s9", 1..2).len() as u64, NUMBERS_AFTER);
    }
}
