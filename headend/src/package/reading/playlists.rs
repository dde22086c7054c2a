//! Objects of HLS playlists and their interstitials.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::check::DeclaredProperties;
use super::super::inventory::LeftOutReason as Reason;
use super::super::manifest_error::PlaylistError;
use super::super::refer::{Local, decode, role_of};
use super::super::{Kind, Presentation, Role, Rung, TrackKind, content_type, hls};
use super::{Reading, dedup, is_multivariant};
use crate::encoding;

const HLS_TYPE: &str = "application/vnd.apple.mpegurl";

carousel::limits! {
    /// Nesting of interstitials.
    const MAX_ASSET_DEPTH: usize = 4, "levels" {
        why: "An advertisement may be interrupted itself.",
        full: "Interstitials further down are not part of the presentation.",
        free: "Holds for one presentation.",
        test: "interstitials_of_interstitials_end",
    }
}

impl Reading<'_> {
    pub(super) fn multivariant(&mut self, manifest: &str, bytes: &Arc<[u8]>, query: &str, depth: usize) {
        let around =
            hls::ParseContext { imports: None, query, has_any_query: depth == 0 && query.is_empty() };
        let multivariant = match parse(bytes, around) {
            Ok(hls::Playlist::Multivariant(multivariant)) => multivariant,
            Ok(hls::Playlist::Media(_)) => return self.media_alone(manifest, bytes, query, depth),
            Err(why) => return self.not_understood(manifest, &why),
        };
        self.carry_manifest(manifest, &decode(manifest), bytes, HLS_TYPE);
        self.queries.clear();
        let (mut rungs, mut live, mut duration_s) = (Vec::<Rung>::new(), false, None);
        // I-frame playlists list ranges of complete segments of other playlists.
        let is_trick = |it: &&hls::Offer| it.kind == Some(TrackKind::IFrames);
        let offers = multivariant.offers.iter().filter(|it| !is_trick(it));
        for offer in offers.chain(multivariant.offers.iter().filter(is_trick)) {
            let place = format!("{manifest}:{}", offer.line);
            let Some(local) = self.resolve(manifest, offer.line, &offer.uri) else { continue };
            if local.path == manifest {
                self.problem(&place, "the playlist refers to itself".to_owned(), "refer to a media playlist");
                continue;
            }
            self.referred.insert(local.path.clone());
            if rungs.iter().any(|rung| rung.playlist.as_ref() == Some(&local.path)) {
                continue;
            }
            let Some(file) = local.file.clone() else {
                self.missing(&place, manifest, &offer.uri, &local, Role::Manifest);
                continue;
            };
            let Some(bytes) = self.load(&file) else { continue };
            let around = hls::ParseContext {
                imports: Some(&multivariant.variables),
                query: &local.query,
                has_any_query: false,
            };
            match parse(&bytes, around) {
                Ok(hls::Playlist::Media(media)) => {
                    self.carry_manifest(&local.path, &file, &bytes, HLS_TYPE);
                    let rung = self.hls_rung(&local.path, offer, &media, depth);
                    live |= !media.ended;
                    if media.ended {
                        duration_s = Some(duration_s.unwrap_or(0.0_f64).max(rung.duration_s));
                    }
                    rungs.push(rung);
                }
                Ok(hls::Playlist::Multivariant(_)) => {
                    let what = format!("{} is a multivariant playlist itself", local.path);
                    self.problem(&place, what, "a multivariant playlist refers to media playlists only");
                }
                Err(why) => self.not_understood(&local.path, &why),
            }
        }
        for (line, uri) in &multivariant.others {
            if let Some(local) = self.resolve(manifest, *line, uri) {
                let role = role_of(&local.path);
                let place = format!("{manifest}:{line}");
                self.carry_or_tell(&place, manifest, uri, &local, role, DeclaredProperties::default());
            }
        }
        self.inventory.presentations.push(Presentation {
            kind: Kind::Hls,
            manifest: manifest.to_owned(),
            live,
            duration_s: duration_s.filter(|_| !live),
            rungs,
        });
    }

    /// Adds a media playlist without a multivariant playlist.
    pub(super) fn media_alone(&mut self, uri: &str, bytes: &Arc<[u8]>, query: &str, depth: usize) {
        let around =
            hls::ParseContext { imports: None, query, has_any_query: depth == 0 && query.is_empty() };
        let media = match parse(bytes, around) {
            Ok(hls::Playlist::Media(media)) => media,
            Ok(hls::Playlist::Multivariant(_)) => return,
            Err(why) => return self.not_understood(uri, &why),
        };
        self.carry_manifest(uri, &decode(uri), bytes, HLS_TYPE);
        let offer = hls::Offer { uri: uri.to_owned(), ..hls::Offer::default() };
        let rung = self.hls_rung(uri, &offer, &media, depth);
        let (live, duration_s) = (!media.ended, Some(rung.duration_s).filter(|_| media.ended));
        let manifest = uri.to_owned();
        let rungs = vec![rung];
        self.inventory.presentations.push(Presentation {
            kind: Kind::Hls,
            manifest,
            live,
            duration_s,
            rungs,
        });
    }

    pub(super) fn hls_rung(
        &mut self,
        playlist: &str,
        offer: &hls::Offer,
        media: &hls::Media,
        depth: usize,
    ) -> Rung {
        let mut rung = rung_of(playlist, offer, media);
        self.queries.clear();
        let is_live = !media.ended;
        // Files listed as complete segments, and those listed in ranges.
        let segments = || media.references.iter().filter(|it| it.role == Role::Segment && !it.is_part);
        let entire: HashSet<&str> =
            segments().filter(|it| it.range.is_none()).map(|it| it.uri.as_str()).collect();
        let in_ranges: HashSet<&str> =
            segments().filter(|it| it.range.is_some()).map(|it| it.uri.as_str()).collect();
        let mut inside = Vec::new();
        let mut last = None;
        for reference in &media.references {
            let is_in_ranges = reference.range.is_some() && in_ranges.contains(reference.uri.as_str());
            if reference.range.is_some() && !is_live && last == Some(&reference.uri) {
                // Byte ranges of one file.
                continue;
            }
            if reference.range.is_some() && reference.is_part && entire.contains(reference.uri.as_str()) {
                continue;
            }
            let Some(local) = self.resolve(playlist, reference.line, &reference.uri) else { continue };
            let place = format!("{playlist}:{}", reference.line);
            let expected = expected_of(reference, rung.kind);
            if reference.may_be_missing && local.file.is_none() {
                continue;
            }
            let range = reference.range.map(|(length, offset)| offset..offset.saturating_add(length));
            let is_carried_entire = self.inventory.objects.contains_key(&local.path);
            if let Some(range) = range.filter(|_| !is_carried_entire && (is_live || self.is_growing(&local)))
            {
                if reference.is_part && reference.role == Role::Segment {
                    // It is sent with its segment.
                    self.leave_out(Reason::BeingWritten, &place, &local.path, 1);
                    continue;
                }
                if is_in_ranges {
                    let name =
                        self.carry_range(&place, playlist, &reference.uri, &local, reference.role, &range);
                    list_for(&mut rung, reference.role).extend(name);
                    continue;
                }
            }
            if reference.role == Role::Segment {
                last = Some(&reference.uri);
            }
            let is_carried = if reference.role == Role::Key {
                self.carry_key(&place, &local)
            } else {
                match self.fault(&local, expected, reference.role) {
                    Some((Reason::NoRandomAccess, what)) => {
                        inside.push((place, local, what));
                        continue;
                    }
                    _ => {
                        self.carry_or_tell(&place, playlist, &reference.uri, &local, reference.role, expected)
                    }
                }
            };
            if is_carried {
                list_for(&mut rung, reference.role).push(local.path);
            }
        }
        self.not_random_access(inside, &mut rung, media.is_independent);
        dedup(&mut rung.inits);
        dedup(&mut rung.segments);
        rung.inits.retain(|init| !rung.segments.contains(init));
        self.assets(playlist, &media.assets, &mut rung, depth);
        rung
    }

    /// Handles segments that do not decode from their start. If most of a rung are so and no tag contradicts, the packager
    /// cuts by time, and they are playable in sequence; a few among others are faulty.
    pub(super) fn not_random_access(
        &mut self,
        inside: Vec<(String, Local, String)>,
        rung: &mut Rung,
        is_promised: bool,
    ) {
        let by_time = !is_promised && inside.len() > rung.segments.len();
        for (place, local, what) in inside {
            if by_time {
                if self.carry(&local, Role::Segment) {
                    rung.segments.push(local.path);
                }
            } else {
                self.problem(
                    &place,
                    format!("{} {what}", local.path),
                    "cut at key frames; players get it from the origin",
                );
                self.leave_out(Reason::NoRandomAccess, &place, &local.path, 1);
                self.reported_files.extend(local.file);
            }
        }
        if by_time {
            let what = "its segments do not begin with pictures that decode alone".to_owned();
            self.problem(&rung.id.clone(), what, "players can start at few places; cut at key frames");
        }
    }

    /// Adds the playlists and segments of interstitials, which are carried with the main content.
    pub(super) fn assets(&mut self, playlist: &str, assets: &[hls::Asset], rung: &mut Rung, depth: usize) {
        if depth >= MAX_ASSET_DEPTH {
            return;
        }
        let mut uris: Vec<(usize, String, String)> = Vec::new();
        for asset in assets {
            if !asset.is_list {
                uris.push((asset.line, playlist.to_owned(), asset.uri.clone()));
                continue;
            }
            let Some(local) = self.resolve(playlist, asset.line, &asset.uri) else { continue };
            let place = format!("{playlist}:{}", asset.line);
            let Some(bytes) = local.file.clone().and_then(|file| self.load(&file)) else {
                self.missing(&place, playlist, &asset.uri, &local, Role::Other);
                continue;
            };
            let document: serde_json::Value = match serde_json::from_slice(&bytes) {
                Ok(document) => document,
                Err(err) => {
                    self.not_understood(&local.path, &format!("the list of assets is not JSON: {err}"));
                    continue;
                }
            };
            if self.carry(&local, Role::Other) {
                rung.segments.push(local.path.clone());
            }
            let listed = document["ASSETS"].as_array().into_iter().flatten();
            let listed = listed.filter_map(|it| it["URI"].as_str());
            uris.extend(listed.map(|uri| (asset.line, local.path.clone(), uri.to_owned())));
        }
        for (line, base, uri) in uris {
            let Some(local) = self.resolve(&base, line, &uri) else { continue };
            let place = format!("{playlist}:{line}");
            if !self.referred.insert(local.path.clone()) {
                continue;
            }
            let Some(bytes) = local.file.clone().and_then(|file| self.load(&file)) else {
                self.missing(&place, &base, &uri, &local, Role::Manifest);
                continue;
            };
            if is_multivariant(&bytes) {
                self.multivariant(&local.path, &bytes, &local.query, depth + 1);
            } else {
                self.media_alone(&local.path, &bytes, &local.query, depth + 1);
            }
        }
    }
}

fn parse(bytes: &[u8], around: hls::ParseContext<'_>) -> Result<hls::Playlist, PlaylistError> {
    hls::parse(&encoding::of_manifest(bytes)?, around)
}

/// Media kind of a single media playlist, by the names of its segments.
fn kind_of(media: &hls::Media) -> TrackKind {
    let first = media.references.iter().find(|it| it.role == Role::Segment);
    let content_type = first.map_or("", |it| content_type(&it.uri));
    match content_type.split('/').next() {
        Some("audio") => TrackKind::Audio,
        Some("text") => TrackKind::Subtitles,
        _ if content_type == "application/ttml+xml" => TrackKind::Subtitles,
        _ => TrackKind::Video,
    }
}

/// A rung with only its playlist.
fn rung_of(playlist: &str, offer: &hls::Offer, media: &hls::Media) -> Rung {
    Rung {
        id: playlist.to_owned(),
        kind: offer.kind.unwrap_or_else(|| kind_of(media)),
        bandwidth_bps: offer.bandwidth_bps,
        codecs: offer.codecs.clone(),
        resolution: offer.resolution,
        language: offer.language.clone(),
        playlist: Some(playlist.to_owned()),
        dash_ids: None,
        inits: Vec::new(),
        segments: Vec::new(),
        duration_s: media.duration_s,
    }
}

/// Required kind of the file of a reference.
fn expected_of(reference: &hls::Reference, kind: TrackKind) -> DeclaredProperties {
    let is_segment = reference.role == Role::Segment;
    let is_entire = reference.range.is_none();
    DeclaredProperties {
        is_encrypted: reference.is_encrypted,
        is_mp4: reference.has_map && is_segment && kind != TrackKind::Subtitles,
        is_random_access: kind == TrackKind::Video && is_segment && !reference.is_part && is_entire,
        is_init: reference.role == Role::Init && is_entire,
    }
}

const fn list_for(rung: &mut Rung, role: Role) -> &mut Vec<String> {
    match role {
        Role::Init => &mut rung.inits,
        _ => &mut rung.segments,
    }
}
