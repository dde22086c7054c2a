//! Entry points for fuzz targets (`tests/fuzz`): functions of this room that process bytes of players and origins.

use std::ops::Range;
use std::sync::Arc;

use carousel::name::ObjectKey;
use http::Uri;

use super::manifest::Rewriter;
use super::quick::Plain;
use super::range::{self, RequestedRange};
use super::target::targets;
use super::urls::UrlMap;
use crate::origin::{Route, by_longest_path};

/// A request that is answered without hyper: target, host, and its range of an object of `length` bytes.
pub type Quick = (String, String, Option<Option<Range<u64>>>);

/// Parses a head without hyper.
pub fn quick(bytes: &[u8], length: u64) -> Option<Quick> {
    let plain = Plain::of(bytes)?;
    Some((plain.target.to_owned(), plain.host.to_owned(), plain.range(length)))
}

/// The ranges that a `Range` field requests.
pub fn ranges(header: &str, length: u64) -> Option<Vec<Range<u64>>> {
    let _ = (range::is_single(header), range::exact(header));
    match range::parse(Some(header), length) {
        RequestedRange::Ranges(ranges) => Some(ranges),
        RequestedRange::Whole | RequestedRange::Unsatisfiable => None,
    }
}

fn routes() -> Vec<Route> {
    let route = |path: &str, base: &str| Route { path: path.into(), base: base.into(), ..Route::default() };
    let mut routes =
        vec![route("/vod/", "https://cdn.example.com/v/"), route("/vod/live/", "https://live.example/")];
    by_longest_path(&mut routes);
    routes
}

/// The objects that a request may name.
pub fn keys(uri: &Uri, host: Option<&str>, is_origin_form: bool) -> Vec<ObjectKey> {
    let routes: Arc<[Route]> = routes().into();
    let targets = targets(uri, host, &routes, is_origin_form).unwrap_or_default();
    targets.into_iter().map(|it| it.key).collect()
}

/// An origin's manifest, given in pieces, with its URLs mapped; `None` if it cannot be decoded.
pub fn rewritten<'a>(coding: Option<&str>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let map = UrlMap::new(Some("https://cdn.example.com/v/a/m.m3u8"), routes().iter());
    let mut rewriter = Rewriter::new(coding, map).ok()?;
    let mut out = Vec::new();
    for piece in pieces {
        rewriter.push(piece, &mut out).ok()?;
    }
    rewriter.finish(&mut out).ok()?;
    Some(out)
}
