//! Live playlists of carousels: blocking reloads and delta updates answered by the box, without segments that cannot be served.
//!
//! Clauses are those of draft-pantos-hls-rfc8216bis-22 (1 May 2026). A request with delivery directives (section 6.2.5) names the
//! playlist without them. It goes to an origin only if the carousel does not carry the playlist, or no longer does.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use carousel::manifest::{self, Manifest, ManifestKind};
use carousel::name::{self, ObjectKey};
use carousel::query::name_of_range;
use carousel::reason::Counts;

use super::HttpServer;
use super::missing::Missing;
use super::playlist::{self, PlaylistEnd, PlaylistOptions, ReferenceLookup};
use super::serve::{ObjectLocation, ObjectRequest, Outcome, is_fresh};
use super::timeline;
use crate::clock;
use crate::store::StoredObject;

carousel::limits! {
    /// Blocking reloads that wait at a time.
    pub(super) const MAX_RELOADS: usize = 4096, "requests" {
        why: "A player of low latency has two: its picture and its sound.",
        full: "Further ones are answered with 503 and Retry-After.",
        free: "When the playlist advances, after three target durations, or when the player leaves.",
        test: "blocking_reloads_have_places",
    }
}

carousel::reasons! {
    /// Ends of blocking reloads.
    pub enum ReloadEnd in "http_blocking_reloads" by "end" {
        /// The playlist has what was asked for.
        Answered = "answered",
        /// The playlist has not advanced for three target durations: 503.
        Late = "late",
        /// It asks for what is too far ahead, or not as the specification has it: 400.
        Wrong = "wrong",
        /// Too many wait: 503.
        Full = "full",
        /// The carousel has stopped meanwhile, and the origin is asked.
        Origin = "origin",
        /// The player has left.
        Left = "left",
    }
}

/// Blocking reloads of all players.
#[derive(Debug, Default)]
pub struct Reloads {
    waiting: AtomicUsize,
    ended: Counts<ReloadEnd>,
}

impl Reloads {
    /// Number of waiting reloads.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counters of their ends.
    pub const fn ended(&self) -> &Counts<ReloadEnd> {
        &self.ended
    }

    /// Takes a place to wait, if one is free.
    fn enter(&self) -> Option<ReloadPermit<'_>> {
        let enter = |waiting| (waiting < MAX_RELOADS).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        Some(ReloadPermit { of: self, end: ReloadEnd::Left })
    }
}

/// The place of a waiting reload, freed when dropped.
struct ReloadPermit<'a> {
    of: &'a Reloads,
    end: ReloadEnd,
}

impl Drop for ReloadPermit<'_> {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(1, Ordering::Relaxed);
        self.of.ended.add(self.end);
    }
}

impl HttpServer {
    /// Blocking reloads.
    pub const fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Answers a request with delivery directives for a playlist of the carousel: as soon as the playlist has the requested
    /// segment or part, or with an error after three target durations. `None`: the carousel does not carry it, or no longer
    /// does; not returned for the latter if no origin `may_be_asked`.
    pub(super) async fn reload(
        &self,
        reload: &Reload,
        request: &ObjectRequest<'_>,
        may_be_asked: bool,
    ) -> Option<Result<ObjectLocation, Missing>> {
        let has_origin = may_be_asked && self.config.read_through && request.url(&self.origins).is_some();
        let (mut place, mut deadline): (Option<ReloadPermit<'_>>, _) = (None, None);
        loop {
            // Listen before checking, so that no later event is missed.
            let (advanced, appeared) = (self.shared.manifests.listen(), self.shared.flights.listen());
            let held = self.held(&reload.playlist, request).await;
            let Some(held) = held.filter(|it| it.meta().response.is_none()) else {
                return self.end(place, ReloadEnd::Origin, None);
            };
            // Directives are ignored for a playlist that has ended, and for anything but a media playlist. Decided from this
            // version: the table of manifests may already have the next one, which is not held yet.
            let live = held.live().and_then(|live| {
                let facts = Manifest::read(&held.bytes(0..held.meta().length)?)?;
                (facts.kind == ManifestKind::HlsMedia).then_some((live, facts))
            });
            let Some((live, facts)) = live else {
                return Some(Ok(ObjectLocation::Stored(held, "hit")));
            };
            if has_origin && !is_fresh(&held) {
                return self.end(place, ReloadEnd::Origin, None);
            }
            match reload.standing(&facts, &self.offered(&held, &facts)) {
                Standing::Answered => {
                    if reload.sequence.is_none() {
                        return Some(Ok(ObjectLocation::Stored(held, "hit")));
                    }
                    return self.end(
                        place,
                        ReloadEnd::Answered,
                        Some(Ok(ObjectLocation::Stored(held, "hit"))),
                    );
                }
                Standing::Wrong(why) => {
                    return self.end(place, ReloadEnd::Wrong, Some(Err(Missing::Directive(why))));
                }
                Standing::Waits => {}
            }
            if place.is_none() {
                place = self.reloads.enter();
                if place.is_none() {
                    return self.end(None, ReloadEnd::Full, Some(Err(Missing::Busy)));
                }
            }
            let patience = Duration::from_millis(3 * live.target_ms);
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + patience);
            tokio::select! {
                () = advanced => {}
                () = appeared => {}
                () = tokio::time::sleep_until(deadline) => {
                    return self.end(place, ReloadEnd::Late, Some(Err(Missing::NotAdvanced)));
                }
            }
        }
    }

    fn end<T>(&self, place: Option<ReloadPermit<'_>>, end: ReloadEnd, answer: T) -> T {
        match place {
            Some(mut place) => place.end = end,
            None if end != ReloadEnd::Origin => drop(self.reloads.ended.add(end)),
            None => {}
        }
        answer
    }

    /// Facts of a playlist as sent to players.
    fn offered(&self, held: &Arc<StoredObject>, facts: &Manifest) -> Manifest {
        let shaped = self.shaped(held, facts, false).and_then(|text| Manifest::read(text.as_bytes()));
        shaped.unwrap_or_else(|| facts.clone())
    }

    /// A live manifest of the carousel as it is sent; `None`: as stored. It was parsed on arrival (`facts`, of this version or an
    /// adjacent one), and is scanned again here, since the set of available segments changes between requests.
    fn shaped(&self, object: &Arc<StoredObject>, facts: &Manifest, skip: bool) -> Option<String> {
        let meta = object.meta();
        let live = object.live().filter(|_| meta.response.is_none())?;
        let bytes = object.bytes(0..meta.length)?;
        let age_ms = clock::age_ms(meta.received_at).unsigned_abs();
        let options = PlaylistOptions { skip, is_young: age_ms <= live.target_ms };
        let held = PlaylistLookup { server: self, url: format!("http://{}", meta.key) };
        let text = std::str::from_utf8(&bytes).ok()?;
        match facts.kind {
            ManifestKind::HlsMedia => playlist::shaped(text, &held, options),
            ManifestKind::Dash => {
                let shorter = timeline::shaped(text, &held.url, live.is_renewed, &held);
                let update_ms = facts.update_period_ms.unwrap_or(0);
                let delayed =
                    manifest::delayed(shorter.as_deref().unwrap_or(text), live.target_ms, update_ms);
                delayed.or(shorter)
            }
            ManifestKind::HlsMultivariant | ManifestKind::Steering => None,
        }
    }

    /// An object of the cache as it is sent.
    pub(super) fn as_sent(&self, outcome: Outcome, key: &ObjectKey) -> Outcome {
        let Outcome::Stored(object, how) = outcome else { return outcome };
        let is_carried = object.live().is_some() && object.meta().response.is_none();
        // The format is the same for all versions of a manifest.
        let facts = is_carried.then(|| self.shared.manifests.facts(&object.meta().key)).flatten();
        let shaped = facts.and_then(|it| {
            let skip = Reload::of(key).is_some_and(|it| it.skip);
            self.shaped(&object, &it, skip)
        });
        match shaped {
            Some(text) => Outcome::Shaped(object, Bytes::from(text), how),
            None => Outcome::Stored(object, how),
        }
    }
}

/// Lookup of the references of the playlist at `url`.
struct PlaylistLookup<'a> {
    server: &'a HttpServer,
    url: String,
}

impl PlaylistLookup<'_> {
    fn key(&self, reference: &str) -> Option<ObjectKey> {
        ObjectKey::from_name(&name::resolve(&self.url, reference).ok()?, None).ok()
    }
}

impl ReferenceLookup for PlaylistLookup<'_> {
    fn can_serve(&self, reference: &str, range: Option<Range<u64>>) -> bool {
        // Unknown for references that are not valid names: assume that they can be served.
        let Some(key) = self.key(reference) else { return true };
        let HttpServer { shared, origins, config, .. } = self.server;
        let (store, flights, name) = (&shared.store, &shared.flights, key.as_str());
        let comes = || match (flights.get(name), &range) {
            // The available part of a growing object.
            (Some(flight), Some(range)) if flight.length.is_none() => {
                flight.available_from(range.start) >= range.end
            }
            // A lost flight will not be completed.
            (Some(flight), _) => !flight.is_lost(clock::now()),
            (None, _) => self.server.may_be_sent(&key),
        };
        let is_own = || {
            let name = range.as_ref().map(|range| name_of_range(name, range));
            name.is_some_and(|name| flights.get(&name).is_some() || store.contains(&name))
        };
        // Checked in the order in which objects move: in reverse, an object could be missed in between.
        comes()
            || store.contains(name)
            || is_own()
            || (config.read_through
                && origins.url_for(&key).is_some_and(|url| !self.server.filler.is_left_alone(&url)))
            || self.server.without_ignored_query(&key).is_some()
    }

    fn reach(&self, reference: &str) -> Option<PlaylistEnd> {
        let key = self.key(reference)?;
        let held = self.server.shared.store.contains(key.as_str());
        let facts = self.server.shared.manifests.facts(&key).filter(|it| held && it.is_live)?;
        let last = facts.last_sequence;
        Some(match facts.last_part {
            Some(part) => {
                let next = last.map_or(facts.first_sequence?, |last| last.saturating_add(1));
                PlaylistEnd { sequence: next, part: Some(part) }
            }
            None => PlaylistEnd { sequence: last?, part: facts.parts_of_last.checked_sub(1) },
        })
    }
}

/// Delivery directives of a playlist request (section 6.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reload {
    /// The playlist without them.
    pub(super) playlist: ObjectKey,
    /// The media sequence number, and the part, that the playlist must have.
    sequence: Option<u64>,
    part: Option<u64>,
    /// Older segments may be left out.
    skip: bool,
    /// A value is not a number.
    is_unreadable: bool,
}

/// Comparison of a request with a playlist.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The playlist has the requested segment or part, or none is requested.
    Answered,
    /// The playlist may have it soon.
    Waits,
    /// The request violates the specification.
    Wrong(&'static str),
}

impl Reload {
    pub(super) fn of(key: &ObjectKey) -> Option<Self> {
        let (path, query) = key.as_str().split_once('?')?;
        let (directives, others): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|it| it.starts_with("_HLS_"));
        if directives.is_empty() {
            return None;
        }
        let name = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
        let value = |name: &str| directives.iter().find_map(|it| it.strip_prefix(name));
        let number = |name: &str| value(name).map(str::parse::<u64>);
        let (sequence, part) = (number("_HLS_msn="), number("_HLS_part="));
        let is_unreadable = [&sequence, &part].into_iter().any(|it| matches!(it, Some(Err(_))));
        Some(Self {
            playlist: ObjectKey::from_name(&name, None).ok()?,
            sequence: sequence.and_then(Result::ok),
            part: part.and_then(Result::ok),
            skip: matches!(value("_HLS_skip="), Some("YES" | "v2")),
            is_unreadable,
        })
    }

    /// Compares the request with a playlist: `held` as stored, `offered` as sent to players.
    fn standing(&self, held: &Manifest, offered: &Manifest) -> Standing {
        if self.is_unreadable {
            return Standing::Wrong("_HLS_msn and _HLS_part are decimal integers");
        }
        let Some(wanted) = self.sequence else {
            return match self.part {
                Some(_) => Standing::Wrong("_HLS_part needs _HLS_msn"),
                None => Standing::Answered,
            };
        };
        let first = held.first_sequence.unwrap_or(0);
        // Number of the segment whose parts follow the last complete one.
        let next = |it: &Manifest| it.last_sequence.map_or(first, |last| last.saturating_add(1));
        if wanted > next(held).saturating_add(1) {
            return Standing::Wrong("_HLS_msn is more than two segments ahead");
        }
        let last_part = held.last_part.filter(|_| wanted >= next(held));
        let limit = advance_part_limit(held);
        if self
            .part
            .is_some_and(|part| wanted >= next(held) && part > last_part.map_or(limit, |it| it + limit))
        {
            return Standing::Wrong("_HLS_part is too far ahead");
        }
        let Some(part) = self.part else {
            return if wanted < next(offered) { Standing::Answered } else { Standing::Waits };
        };
        // A part beyond the last one of its segment is the first one of the next.
        let is_beyond = wanted.saturating_add(1) == next(offered)
            && offered.parts_of_last > 0
            && part >= offered.parts_of_last;
        let (wanted, part) = if is_beyond { (wanted + 1, 0) } else { (wanted, part) };
        let is_there = wanted < next(offered)
            || (wanted == next(offered) && offered.last_part.is_some_and(|last| last >= part));
        if is_there { Standing::Answered } else { Standing::Waits }
    }
}

/// Number of parts beyond the last one that may be requested (section 6.2.5.2).
fn advance_part_limit(playlist: &Manifest) -> u64 {
    match playlist.part_target_ms {
        Some(target_ms @ 1..1000) => 3000_u64.div_ceil(target_ms),
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<Reload> {
        Reload::of(&ObjectKey::from_name(name, None).unwrap())
    }

    #[test]
    fn directives_are_taken_out_of_the_name() {
        assert_eq!(of("h/a.m3u8"), None);
        assert_eq!(of("h/a.m3u8?t=1"), None);
        let reload = of("h/a.m3u8?t=1&_HLS_msn=7&_HLS_part=1&_HLS_skip=v2").unwrap();
        assert_eq!(reload.playlist.as_str(), "h/a.m3u8?t=1");
        assert_eq!((reload.sequence, reload.part, reload.skip), (Some(7), Some(1), true));
        assert!(!of("h/a.m3u8?_HLS_skip=NO").unwrap().skip);
    }

    #[test]
    fn a_blocking_reload_is_answered_waits_or_is_wrong() {
        // Segment 6 is complete and has four parts of half a second; segment 7 has this many of them.
        let playlist = |parts: usize| {
            let part = "#EXT-X-PART:DURATION=0.5,URI=\"p\"\n";
            let text = format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:2,\na\n{}\
                 #EXTINF:2,\nb\n{}",
                part.repeat(4),
                part.repeat(parts)
            );
            Manifest::read(text.as_bytes()).unwrap()
        };
        let standing = |query: &str, parts| {
            let playlist = playlist(parts);
            match of(&format!("h/a.m3u8?{query}")).unwrap().standing(&playlist, &playlist) {
                Standing::Answered => "answered",
                Standing::Waits => "waits",
                Standing::Wrong(_) => "wrong",
            }
        };
        for (query, parts, expected) in [
            ("_HLS_skip=YES", 0, "answered"),
            ("_HLS_msn=4", 0, "answered"),
            ("_HLS_msn=6", 0, "answered"),
            ("_HLS_msn=7", 3, "waits"),
            ("_HLS_msn=8", 0, "waits"),
            ("_HLS_msn=9", 0, "wrong"),
            ("_HLS_msn=7&_HLS_part=1", 0, "waits"),
            ("_HLS_msn=7&_HLS_part=1", 1, "waits"),
            ("_HLS_msn=7&_HLS_part=1", 2, "answered"),
            ("_HLS_msn=7&_HLS_part=7", 2, "waits"),
            ("_HLS_msn=7&_HLS_part=8", 2, "wrong"),
            // Beyond the last part of segment 6: the first one of segment 7.
            ("_HLS_msn=6&_HLS_part=3", 0, "answered"),
            ("_HLS_msn=6&_HLS_part=4", 0, "waits"),
            ("_HLS_msn=6&_HLS_part=4", 1, "answered"),
            ("_HLS_msn=5&_HLS_part=99", 0, "answered"),
            ("_HLS_part=1", 0, "wrong"),
            ("_HLS_msn=x", 0, "wrong"),
            ("_HLS_msn=-1", 0, "wrong"),
            ("_HLS_msn=18446744073709551615&_HLS_part=18446744073709551615", 0, "wrong"),
        ] {
            assert_eq!(standing(query, parts), expected, "{query} {parts}");
        }
        // Segments that the box cannot serve yet are not there yet.
        let reload = of("h/a.m3u8?_HLS_msn=7&_HLS_part=1").unwrap();
        assert_eq!(reload.standing(&playlist(2), &playlist(1)), Standing::Waits);
    }

    #[test]
    fn blocking_reloads_have_places() {
        let reloads = Reloads::default();
        let mut places: Vec<_> = (0..MAX_RELOADS).map(|_| reloads.enter().unwrap()).collect();
        assert!(reloads.enter().is_none());
        assert_eq!(reloads.waiting(), MAX_RELOADS);
        places.pop();
        assert!(reloads.enter().is_some(), "one has left");
        places.clear();
        assert_eq!(reloads.waiting(), 0);
        assert_eq!(reloads.ended().get(ReloadEnd::Left), MAX_RELOADS as u64 + 1);
    }
}
