//! The page at `/`: what there is to play, for a person.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use http::{Response, header};

use super::Player;
use super::body::PlayerBody;

/// Manifests listed.
const MAX_LISTED: usize = 500;

/// Text in markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn is_manifest(key: &str) -> bool {
    key.ends_with(".m3u8") || key.ends_with(".mpd")
}

/// Whether `key` is a media playlist or such beside a multivariant one: only entry points are listed where there are any.
fn entry_points(mut keys: Vec<String>) -> Vec<String> {
    keys.sort();
    let folder = |key: &str| key.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
    let folders: Vec<String> = keys.iter().map(|key| folder(key)).collect();
    let is_below = |key: &str| {
        let mine = folder(key);
        folders.iter().any(|other| {
            mine.len() > other.len()
                && mine.starts_with(other.as_str())
                && mine.as_bytes()[other.len()] == b'/'
        })
    };
    keys.iter().filter(|key| !is_below(key)).cloned().collect()
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

pub(super) fn respond(player: &Player) -> Response<PlayerBody> {
    let shared = &player.shared;
    let (usage, losses) = (shared.store.usage(), shared.stats.losses());
    let keys: Vec<String> = shared
        .store
        .list()
        .iter()
        .map(|it| it.meta().key.as_str().to_owned())
        .filter(|key| is_manifest(key))
        .collect();
    let mut titles = String::new();
    let listed = entry_points(keys);
    for key in listed.iter().take(MAX_LISTED) {
        let kind = if key.ends_with(".mpd") { "DASH" } else { "HLS" };
        let _ = write!(titles, "<li><a href=\"/{0}\">{0}</a> <small>{kind}</small></li>", escape(key));
    }
    if listed.is_empty() {
        titles.push_str("<li>Nothing to play yet: no manifest has arrived.</li>");
    }
    let arriving = shared.flights.list();
    let mut flights = String::new();
    for flight in arriving.iter().take(20) {
        let total = flight.length.map_or_else(|| "?".to_owned(), megabytes);
        let _ = write!(
            flights,
            "<li>{} <small>{} of {total}</small></li>",
            escape(flight.key.as_str()),
            megabytes(flight.received_bytes())
        );
    }
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
<meta http-equiv=refresh content=5><title>Skycache</title><style>\
:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
table{{border-collapse:collapse}}td{{padding:.2rem 1.5rem .2rem 0}}td+td{{text-align:right;font-variant-numeric:tabular-nums}}\
small{{opacity:.7}}a{{overflow-wrap:anywhere}}a:focus{{outline:3px solid}}</style>\
<h1>Skycache</h1><h2>To play</h2><ul>{titles}</ul><p>Open a link's address in a player such as VLC, ffplay or mpv.</p>\
<h2>State</h2><table>\
<tr><td>Objects in the cache<td>{}<tr><td>Space<td>{} of {}\
<tr><td>Received<td>{} in {} packets<tr><td>Packets lost on the link<td>{}\
<tr><td>Objects received<td>{}<tr><td>… of them repaired from an origin<td>{}<tr><td>On their way<td>{}</table><ul>{flights}</ul></html>",
        usage.objects,
        megabytes(usage.bytes),
        megabytes(usage.quota_bytes),
        megabytes(losses.bytes),
        losses.datagrams,
        shared.stats.lost() + losses.kernel_drops,
        shared.received.load(Relaxed),
        shared.repaired.load(Relaxed),
        arriving.len(),
    );
    let mut response = Response::new(PlayerBody::of(html));
    let headers = response.headers_mut();
    let names = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in names {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entry_points_are_listed_and_markup_is_text() {
        let keys =
            ["h/a/master.m3u8", "h/a/v0/media.m3u8", "h/a/manifest.mpd", "h/b.m3u8"].map(str::to_owned);
        // With h/b.m3u8 listed too, everything below h/ would count as its parts.
        assert_eq!(entry_points(keys[..3].to_vec()), ["h/a/manifest.mpd", "h/a/master.m3u8"]);
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
