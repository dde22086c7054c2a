//! Parsing of `Range` (RFC 9110 section 14). Pure.

use std::ops::Range;

carousel::limits! {
    /// Ranges of one request.
    const MAX_RANGES: usize = 16, "ranges" {
        why: "Browsers and players ask for one; many small overlapping ones are an attack.",
        full: "The whole object is sent, which a server may always do.",
        free: "Holds for one request.",
        test: "every_form_of_rfc_9110",
    }
}

/// Meaning of a `Range` header for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestedRange {
    /// Everything: no header, another unit, bad syntax, or too many.
    Whole,
    /// These ranges, in the order of the request; none is empty.
    Ranges(Vec<Range<u64>>),
    /// No byte of the object.
    Unsatisfiable,
}

/// Parses a `Range` header for an object of `length` bytes.
pub(super) fn parse(header: Option<&str>, length: u64) -> RequestedRange {
    let Some((unit, list)) = header.and_then(|it| it.split_once('=')) else { return RequestedRange::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RequestedRange::Whole;
    }
    let (mut ranges, mut specs) = (Vec::new(), 0_usize);
    for spec in list.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        specs += 1;
        let Some(range) = parse_spec(spec, length) else { return RequestedRange::Whole };
        if specs > MAX_RANGES {
            return RequestedRange::Whole;
        }
        ranges.extend(Some(range).filter(|range| range.start < range.end));
    }
    let asked: u64 = ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
    match (specs, ranges.len()) {
        (0, _) => RequestedRange::Whole,
        (_, 0) => RequestedRange::Unsatisfiable,
        // Overlapping ranges with more bytes than the object.
        (_, n) if n > 1 && asked > length => RequestedRange::Whole,
        _ => RequestedRange::Ranges(ranges),
    }
}

/// Whether a `Range` header asks for one range of bytes.
pub(super) fn is_single(header: &str) -> bool {
    single(header).is_some_and(|spec| parse_spec(spec, u64::MAX).is_some())
}

/// The range of a `Range` header, if it is one with both ends.
pub(super) fn exact(header: &str) -> Option<Range<u64>> {
    let spec = single(header).filter(|it| !it.starts_with('-') && !it.ends_with('-'))?;
    parse_spec(spec, u64::MAX).filter(|range| range.end < u64::MAX)
}

/// End of a range that extends to the end of a growing object: the largest integer of JavaScript, as RFC 8673 section 2
/// recommends.
pub(super) const OPEN_END: u64 = 1 << 53;

/// The range of a `Range` header for an object of unknown length: with both ends, or from a byte on ([`OPEN_END`]).
/// `None` for the complete object.
pub(super) fn growing(header: &str) -> Option<Range<u64>> {
    let spec = single(header).filter(|it| !it.starts_with('-'))?;
    parse_spec(spec, OPEN_END).filter(|range| range.start < range.end && *range != (0..OPEN_END))
}

/// Text after the unit, if the unit is bytes and there is one range.
fn single(header: &str) -> Option<&str> {
    let (unit, spec) = header.split_once('=')?;
    (unit.trim().eq_ignore_ascii_case("bytes") && !spec.contains(',')).then(|| spec.trim())
}

/// `first-last`, `first-`, `-suffix`; empty if outside. `None`: bad syntax.
fn parse_spec(spec: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        return Some(length.saturating_sub(number(last)?)..length);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(first.min(length)..last.saturating_add(1).min(length))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges are what this is about
mod tests {
    use super::*;

    #[test]
    fn exact_ranges_have_both_ends() {
        assert_eq!(exact("bytes=10-19"), Some(10..20));
        assert_eq!(exact("Bytes = 0-0"), Some(0..1));
        for header in ["bytes=10-", "bytes=-10", "bytes=0-1,3-4", "bytes=5-4", "items=0-5", "bytes=", "0-5"] {
            assert_eq!(exact(header), None, "{header}");
        }
    }

    #[test]
    fn ranges_of_what_grows() {
        for (header, range) in [
            ("bytes=0-9", Some(0..10)),
            ("bytes=10-", Some(10..OPEN_END)),
            ("Bytes = 10-9007199254740991", Some(10..OPEN_END)),
            ("bytes=10-18446744073709551615", Some(10..OPEN_END)),
            ("bytes=0-", None),
            ("bytes=-10", None),
            ("bytes=0-1,3-4", None),
            ("bytes=9007199254740992-", None),
            ("bytes=5-4", None),
        ] {
            assert_eq!(growing(header), range, "{header}");
        }
    }

    #[test]
    fn every_form_of_rfc_9110() {
        let of = |header: &str| parse(Some(header), 1000);
        for (header, range) in [
            ("bytes=0-499", 0..500),
            ("bytes=500-", 500..1000),
            ("bytes=-1", 999..1000),
            ("bytes=-5000", 0..1000),
            ("bytes=990-99999999999999999999999", 990..1000),
            ("Bytes = 0-0", 0..1),
        ] {
            assert_eq!(of(header), RequestedRange::Ranges(vec![range]), "{header}");
        }
        assert_eq!(of("bytes=0-0, ,-1"), RequestedRange::Ranges(vec![0..1, 999..1000]));
        assert_eq!(of("bytes=1000-, 5-6"), RequestedRange::Ranges(vec![5..7]));
        for header in ["bytes=1000-", "bytes=-0", "bytes=1000-2000,3000-"] {
            assert_eq!(of(header), RequestedRange::Unsatisfiable, "{header}");
        }
        for header in [
            "bytes=",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=--1",
            "bytes=+1-2",
            "items=0-5",
            "0-5",
            "bytes=0-999,0-999",
        ] {
            assert_eq!(of(header), RequestedRange::Whole, "{header}");
        }
        let many = format!("bytes={}", (0..17).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(","));
        assert_eq!(of(&many), RequestedRange::Whole);
        assert_eq!(parse(Some("bytes=0-"), 0), RequestedRange::Unsatisfiable);
        assert_eq!(parse(None, 5), RequestedRange::Whole);
    }
}
