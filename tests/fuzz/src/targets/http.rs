//! HTTP of players and origins: heads of requests, fields of caching, manifests that are rewritten.

use carousel::time::WallTime;
use http::{HeaderMap, Uri};
use skycache::caching::{self, Directives, RequestDirectives, Validators};
use skycache::http::probe;

use crate::input::Input;

const LENGTHS: [u64; 4] = [0, 1, 1000, u64::MAX];
/// Ranges of one request that are answered.
const MAX_RANGES: usize = 16;

/// Heads of requests: what the short way understands, keys, ranges, conditions.
pub(super) fn head(bytes: &[u8]) {
    for length in LENGTHS {
        let Some((target, host, part)) = probe::quick(bytes, length) else { break };
        assert!(target.starts_with('/') && !target.contains([' ', '\r', '\n']), "{target:?}");
        assert!(!host.contains(['\r', '\n']), "{host:?}");
        if let Some(Some(part)) = part {
            assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
        }
        // The usual reader must understand the same: one request, one host, no body.
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        // Empty lines before a request are skipped (RFC 9112 section 2.2).
        let text = text.trim_start_matches(['\r', '\n']);
        assert!(text.starts_with("get ") && text.ends_with('\n'), "{text:?}");
        assert!(!text.contains("\ntransfer-encoding:") && !text.contains("\ncontent-length:"), "{text:?}");
        assert_eq!(text.matches("\nhost:").count(), 1, "{text:?}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let target = first.split(' ').nth(1).unwrap_or(first);
    let request = fields(lines.clone());
    let host = caching::text(&request, "host");
    if let Ok(uri) = target.parse::<Uri>() {
        for is_origin_form in [false, true] {
            for key in probe::keys(&uri, host, is_origin_form) {
                let path = key.as_str().split('?').next().unwrap_or_default();
                assert!(path.split('/').all(|it| it != ".."), "{key:?}");
            }
        }
    }
    for header in [Some(first), caching::text(&request, "range")].into_iter().flatten() {
        for length in LENGTHS {
            let Some(ranges) = probe::ranges(header, length) else { continue };
            assert!(!ranges.is_empty() && ranges.len() <= MAX_RANGES);
            let sum = ranges.iter().map(|it| it.end - it.start).fold(0, u64::saturating_add);
            assert!(ranges.iter().all(|it| it.start < it.end && it.end <= length));
            assert!(ranges.len() == 1 || sum <= length, "{header} of {length}");
        }
    }
}

/// Lines of `name: value`; what is not a field is left out.
fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> HeaderMap {
    caching::from_pairs(
        lines.filter_map(|line| line.split_once(':').map(|(name, value)| (name, value.trim()))),
    )
}

/// Fields of a request and of a response, an empty line between them: caching as pure functions.
pub(super) fn caching_rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (request, response) = text.split_once("\n\n").unwrap_or(("", text));
    let (request, response) = (fields(request.lines()), fields(response.lines()));
    let date = caching::parse_date(text.lines().next().unwrap_or_default());
    // Dates before 1970 are read, as long past, and never written.
    if let Some(date) = date.filter(|&date| date >= WallTime::from_unix_ms(0)) {
        let written = caching::write_date(date);
        assert_eq!(caching::parse_date(&written), Some(date), "{written}");
    }
    let _ = (Directives::of(&response).lifetime_s(), RequestDirectives::of(&request));
    let validators = Validators::of(&response);
    assert!(!validators.same_version(&validators) || Validators::any(&response) || validators.are_strong());
    let _ = (validators.precondition(&request), validators.range_counts(&request), validators.if_range());
    if let Some(selecting) = caching::selecting_of(&request, &response) {
        assert!(caching::selects(&selecting, &request, None), "a request selects what it has selected");
    }
    let kept = caching::end_to_end(&response);
    assert!(!kept.contains_key("connection") && !kept.contains_key("transfer-encoding"));
    let pairs = caching::to_pairs(&kept);
    assert_eq!(caching::to_pairs(&caching::from_pairs(pairs.clone())), pairs, "kept fields are read again");
    let mut fresher = kept.clone();
    caching::freshen(&mut fresher, &response);
    let now = WallTime::from_unix_ms(1_795_219_200_000);
    for status in [200, 206, 302, 404, 500] {
        let exchange = caching::Exchange {
            request: &request,
            status,
            response: &response,
            requested_at: now,
            received_at: now.plus_ms(100),
            date: now,
            default_ms: Some(5000),
        };
        if caching::judge(&exchange).is_ok() {
            let directives = Directives::of(&response);
            assert!(!directives.private, "nothing private is kept");
            assert!(
                !directives.no_store || directives.must_understand,
                "nothing that is not to be stored is"
            );
        }
    }
}

/// A manifest of an origin, whole and in two pieces.
pub(super) fn rewriting(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (coding, at) = (input.byte(), usize::from(input.short()));
    let body = input.rest();
    let coding = [None, Some("gzip"), Some("deflate"), Some("br"), Some("zstd")][usize::from(coding % 5)];
    let whole = probe::rewritten(coding, [body]);
    let (first, second) = body.split_at(at.min(body.len()));
    assert_eq!(probe::rewritten(coding, [first, second]), whole, "pieces give the same as the whole");
    if coding.is_none() && whole.is_none() {
        assert!(body.len() >= 2, "what is short is passed on");
    }
}
