//! One reading of a source: from its manifests to what is carried and what is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use carousel::time::WallTime;
use carousel::xml;

use super::check::{Expected, check};
use super::inventory::{LeftOut, LeftOutReason as Reason};
use super::refer::{Local, Referred, Resolver, decode, encode, role_of};
use super::tree::{FileOnDisk, Files, MAX_PROBLEMS, is_temporary};
use super::{
    Checked, GoodManifest, IgnoredQuery, Inventory, Kind, MAX_MANIFEST_BYTES, Memory, Options, Presentation,
    Problem, Role, Rung, TrackKind, dash, hls,
};

const HLS_TYPE: &str = "application/vnd.apple.mpegurl";
const DASH_TYPE: &str = "application/dash+xml";
/// How long a manifest may be half written, go backwards or name segments that are not there yet, before it is taken as it
/// is: two segments of usual length.
const HOLD_MS: i64 = 4000;
/// Nesting of interstitials: an advertisement's playlist may have some itself.
const MAX_ASSET_DEPTH: usize = 4;
/// Bytes of a file without an extension that tell whether it is a manifest.
const SNIFF_BYTES: usize = 256;
/// Names of left-out files that are listed by name; all are counted.
const MAX_LEFT_OUT: usize = 10_000;

const PACKAGE_ANEW: &str = "package it anew; players get it from the origin meanwhile";
const PUT_IT_THERE: &str = "put the file there, or package anew";

pub(super) struct Reading<'a> {
    files: &'a Files,
    options: &'a Options,
    resolver: Resolver<'a>,
    now: WallTime,
    memory: &'a mut Memory,
    inventory: Inventory,
    /// Files that are carried, by their path in the file system.
    carried_files: HashSet<String>,
    /// Files that are left out for a reason that is told.
    told_files: HashSet<String>,
    /// Manifests that another one refers to.
    referred: HashSet<String>,
    /// Names of query parameters that manifests have, and those that select something.
    query_names: BTreeSet<String>,
    selecting: BTreeSet<String>,
    /// Paths that are named with several values of such a parameter.
    selected: HashSet<String>,
    /// The query under which the manifest that is read names a path.
    queries: HashMap<String, String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        files: &'a Files,
        options: &'a Options,
        now: WallTime,
        memory: &'a mut Memory,
        inventory: Inventory,
    ) -> Self {
        let resolver = Resolver::new(files, &options.base, options.ignored_query.as_ref());
        Self {
            files,
            options,
            resolver,
            now,
            memory,
            inventory,
            carried_files: HashSet::new(),
            told_files: HashSet::new(),
            referred: HashSet::new(),
            query_names: BTreeSet::new(),
            selecting: BTreeSet::new(),
            selected: HashSet::new(),
            queries: HashMap::new(),
        }
    }

    pub(super) fn read(mut self, only: Option<&str>) -> Inventory {
        let manifests: Vec<String> =
            self.resolver.paths().filter(|path| self.is_manifest(path, only)).map(str::to_owned).collect();
        let (mut mpds, mut masters, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for path in manifests {
            let Some(bytes) = self.load(&path) else { continue };
            let uri = encode(&path);
            if is_mpd(&bytes) {
                mpds.push((uri, bytes));
            } else if is_multivariant(&bytes) {
                masters.push((uri, bytes));
            } else {
                lists.push((uri, bytes));
            }
        }
        for (uri, bytes) in mpds {
            self.mpd(&uri, &bytes);
        }
        for (uri, bytes) in masters {
            self.multivariant(&uri, &bytes, "", 0);
        }
        for (uri, bytes) in lists {
            if !self.referred.contains(&uri) {
                self.media_alone(&uri, &bytes, "", 0);
            }
        }
        self.order_presentations();
        self.settle_queries();
        self.rest(only.is_some());
        self.inventory
    }

    fn is_manifest(&self, path: &str, only: Option<&str>) -> bool {
        if let Some(only) = only {
            return path == only;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        if role_of(path) == Role::Manifest {
            return true;
        }
        // `/live/stream` is a playlist for servers that name types themselves.
        !name.contains('.') && self.files.get(path).is_some_and(sniff)
    }

    /// The title is what nothing else refers to; of several, what offers most, in the outermost folder, not what comes
    /// first in the alphabet.
    fn order_presentations(&mut self) {
        let referred = &self.referred;
        let presentations = &mut self.inventory.presentations;
        let is_title = |it: &Presentation| !referred.contains(&it.manifest);
        // Two that refer to each other are titles both.
        if presentations.iter().any(is_title) {
            presentations.retain(is_title);
        }
        // A media playlist whose segments another presentation has offers nothing of its own.
        let is_alone =
            |it: &Presentation| it.rungs.len() == 1 && it.rungs[0].playlist.as_ref() == Some(&it.manifest);
        let offered: HashSet<&String> = presentations
            .iter()
            .filter(|it| !is_alone(it))
            .flat_map(|it| it.rungs.iter().flat_map(|rung| &rung.segments))
            .collect();
        let is_part = |it: &Presentation| {
            is_alone(it) && {
                let segments = &it.rungs[0].segments;
                !segments.is_empty() && segments.iter().all(|path| offered.contains(path))
            }
        };
        let parts: HashSet<String> =
            presentations.iter().filter(|it| is_part(it)).map(|it| it.manifest.clone()).collect();
        presentations.retain(|it| !parts.contains(&it.manifest));
        let bytes = |it: &Presentation| -> u64 {
            let paths = it.rungs.iter().flat_map(|rung| &rung.segments);
            paths.filter_map(|path| self.inventory.objects.get(path)).map(|object| object.length).sum()
        };
        let mut ranked: Vec<_> = std::mem::take(presentations)
            .into_iter()
            .map(|it| {
                let rank = (is_alone(&it), it.manifest.matches('/').count(), std::cmp::Reverse(bytes(&it)));
                (rank, it)
            })
            .collect();
        ranked.sort_by(|(a, first), (b, second)| a.cmp(b).then_with(|| first.manifest.cmp(&second.manifest)));
        self.inventory.presentations = ranked.into_iter().map(|(_, it)| it).collect();
    }

    /// Which query parameters the box may ignore.
    fn settle_queries(&mut self) {
        let selected = &self.selected;
        self.inventory.objects.retain(|path, _| !selected.contains(path));
        for rung in self.inventory.presentations.iter_mut().flat_map(|it| &mut it.rungs) {
            rung.segments.retain(|path| !selected.contains(path));
        }
        self.inventory.ignored_query = match &self.options.ignored_query {
            Some(rule) => rule.clone(),
            None => {
                let names: Vec<String> = self.query_names.difference(&self.selecting).cloned().collect();
                if names.is_empty() || names.len() > carousel::query::MAX_PARAMETERS {
                    IgnoredQuery::Nothing
                } else {
                    IgnoredQuery::Names(names)
                }
            }
        };
    }

    /// Files that no manifest refers to.
    fn rest(&mut self, is_one_manifest: bool) {
        let no_manifest = self.inventory.presentations.is_empty()
            && self.inventory.problems.is_empty()
            && self.inventory.left_out.is_empty()
            && !is_one_manifest;
        let live: Vec<(String, HashSet<(String, String)>)> = self
            .inventory
            .presentations
            .iter()
            .filter(|it| it.live)
            .map(|it| {
                let names = it.rungs.iter().flat_map(|rung| &rung.segments);
                (it.manifest.clone(), names.filter_map(|path| numbered(&decode(path))).collect())
            })
            .collect();
        let mut old: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for (path, file) in self.files {
            if self.carried_files.contains(path) || self.told_files.contains(path) {
                continue;
            }
            // What earlier runs, or the window's past, left of a live presentation.
            let pattern = if live.is_empty() { None } else { numbered(path) };
            let of = pattern.and_then(|pattern| live.iter().find(|(_, names)| names.contains(&pattern)));
            if let Some((manifest, _)) = of {
                old.entry(manifest.clone()).or_insert_with(|| (encode(path), 0)).1 += 1;
                continue;
            }
            let role = role_of(path);
            let is_wanted = self.options.include_unreferenced && role != Role::Key && !is_one_manifest;
            if (is_wanted || no_manifest) && file.is_finished {
                let uri = encode(path);
                self.inventory.objects.insert(uri.clone(), file.object(&uri, role));
            } else {
                self.inventory.unreferenced += 1;
            }
        }
        for (place, (name, count)) in old {
            self.inventory.left_out.push(LeftOut { reason: Reason::OldSegment, place, name, count });
        }
    }

    // Manifests.

    /// The bytes of a manifest: its newest complete version.
    fn load(&mut self, path: &str) -> Option<Arc<[u8]>> {
        let file = self.files.get(path)?;
        let good = self.memory.manifests.get(path);
        if let Some(good) = good
            && (good.length, good.modified_ns) == (file.length, file.modified_ns)
        {
            return Some(Arc::clone(&good.bytes));
        }
        let before = good.map(|good| Arc::clone(&good.bytes));
        if !file.is_finished {
            if before.is_none() {
                self.leave_out(Reason::BeingWritten, path, path, 1);
            }
            return before;
        }
        if file.length > MAX_MANIFEST_BYTES {
            let what = format!("{} bytes are too many for a manifest", file.length);
            self.problem(path, what, "split the presentation");
            self.leave_out(Reason::NotUnderstood, path, path, 1);
            return before;
        }
        let bytes: Arc<[u8]> = match std::fs::read(&file.file) {
            Ok(bytes) => bytes.into(),
            Err(err) => {
                self.problem(path, err.to_string(), "make the file readable");
                self.leave_out(Reason::Unreadable, path, path, 1);
                return before;
            }
        };
        if self.options.is_following
            && let Some(before) = &before
            && !self.replaces(path, file, &bytes, before)
        {
            self.inventory.is_unsettled = true;
            return Some(Arc::clone(before));
        }
        let (length, modified_ns) = (file.length, file.modified_ns);
        let good = GoodManifest { length, modified_ns, bytes: Arc::clone(&bytes) };
        self.memory.manifests.insert(path.to_owned(), good);
        Some(bytes)
    }

    /// Whether a new version of a manifest takes the place of the one before: it is complete, does not go backwards, and
    /// what it names is there. What stays otherwise for long is how the packager means it, unless it cannot be read at all.
    fn replaces(&self, path: &str, file: &FileOnDisk, bytes: &[u8], before: &[u8]) -> bool {
        let is_old = self.now.unix_ms() - (file.modified_ns / 1_000_000) as i64 > HOLD_MS;
        let uri = encode(path);
        if is_mpd(before) || is_mpd(bytes) {
            let Ok(mpd) = self.parse_mpd(&uri, bytes) else { return false };
            let is_there = |uri: &String| match self.resolver.place(uri.clone()) {
                Referred::Local(local) => self.is_there(&local),
                _ => true,
            };
            let named = mpd.representations.iter().all(|it| {
                let (dash::Addressing::List(listed) | dash::Addressing::Pattern { listed, .. }) =
                    &it.addressing;
                it.init.iter().all(is_there)
                    && listed.iter().filter(|it| !it.is_optional).all(|it| is_there(&it.uri))
            });
            return named || is_old;
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let anything = hls::Surroundings { imports: None, query: "" };
        match (
            hls::parse(text, anything),
            std::str::from_utf8(before).ok().map(|it| hls::parse(it, anything)),
        ) {
            (Ok(hls::Playlist::Media(new)), Some(Ok(hls::Playlist::Media(old)))) => {
                let is_backwards = new.end_sequence < old.end_sequence && !new.ended;
                let all_there = new.references.iter().filter(|it| !it.may_be_missing).all(|it| {
                    match self.resolver.resolve(&uri, &it.uri) {
                        Referred::Local(local) => self.is_there(&local),
                        _ => true,
                    }
                });
                (all_there && !is_backwards) || is_old
            }
            (Ok(hls::Playlist::Multivariant(_)), _) => true,
            (Ok(hls::Playlist::Media(_)), _) => true,
            // Imports and query parameters are not known here: then it was no reason before either.
            (Err(why), Some(Err(_))) => why.contains("variable") || why.contains("query parameter"),
            (Err(_), _) => false,
        }
    }

    fn is_there(&self, local: &Local) -> bool {
        let file = local.file.as_ref().and_then(|path| self.files.get(path));
        file.is_some_and(|file| file.is_finished && file.length > 0)
    }

    fn not_understood(&mut self, uri: &str, why: String) {
        let mend = "it is read again when it changes; if it is finished, package it anew";
        self.problem(uri, why, mend);
        self.leave_out(Reason::NotUnderstood, uri, uri, 1);
        self.told_files.insert(decode(uri));
    }

    fn carry_manifest(&mut self, uri: &str, file: &str, bytes: &Arc<[u8]>, content_type: &'static str) {
        if self.inventory.objects.contains_key(uri) {
            return;
        }
        let Some(found) = self.files.get(file) else { return };
        let mut object = found.object(uri, Role::Manifest);
        object.content_type = content_type;
        object.length = bytes.len() as u64;
        // What is on the air stays as it is while a newer version is held back.
        if let Some(good) = self.memory.manifests.get(file) {
            object.modified_ns = good.modified_ns;
        }
        object.bytes = Some(Arc::clone(bytes));
        self.carried_files.insert(file.to_owned());
        self.inventory.objects.insert(uri.to_owned(), object);
    }

    // HLS.

    fn multivariant(&mut self, manifest: &str, bytes: &Arc<[u8]>, query: &str, depth: usize) {
        let around = hls::Surroundings { imports: None, query };
        let parsed = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned());
        let multivariant = match parsed.and_then(|text| hls::parse(text, around)) {
            Ok(hls::Playlist::Multivariant(multivariant)) => multivariant,
            Ok(hls::Playlist::Media(_)) => return self.media_alone(manifest, bytes, query, depth),
            Err(why) => return self.not_understood(manifest, why),
        };
        self.carry_manifest(manifest, &decode(manifest), bytes, HLS_TYPE);
        self.queries.clear();
        let (mut rungs, mut live, mut duration_s) = (Vec::<Rung>::new(), false, None);
        for offer in &multivariant.offers {
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
            let around = hls::Surroundings { imports: Some(&multivariant.variables), query: &local.query };
            let parsed = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned());
            match parsed.and_then(|text| hls::parse(text, around)) {
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
                Err(why) => self.not_understood(&local.path, why),
            }
        }
        for (line, uri) in &multivariant.others {
            if let Some(local) = self.resolve(manifest, *line, uri) {
                let role = role_of(&local.path);
                let place = format!("{manifest}:{line}");
                self.carry_or_tell(&place, manifest, uri, &local, role, Expected::default());
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

    /// A media playlist that no multivariant playlist refers to.
    fn media_alone(&mut self, uri: &str, bytes: &Arc<[u8]>, query: &str, depth: usize) {
        let around = hls::Surroundings { imports: None, query };
        let parsed = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned());
        let media = match parsed.and_then(|text| hls::parse(text, around)) {
            Ok(hls::Playlist::Media(media)) => media,
            Ok(hls::Playlist::Multivariant(_)) => return,
            Err(why) => return self.not_understood(uri, why),
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

    fn hls_rung(&mut self, playlist: &str, offer: &hls::Offer, media: &hls::Media, depth: usize) -> Rung {
        let mut rung = Rung {
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
        };
        self.queries.clear();
        let is_live = !media.ended;
        let is_video = rung.kind == TrackKind::Video;
        let mut inside = Vec::new();
        let mut last = None;
        for reference in &media.references {
            if reference.range.is_some() && last == Some(&reference.uri) {
                // Byte ranges of one file.
                continue;
            }
            let Some(local) = self.resolve(playlist, reference.line, &reference.uri) else { continue };
            let place = format!("{playlist}:{}", reference.line);
            let expected = Expected {
                is_encrypted: reference.is_encrypted,
                is_mp4: reference.has_map
                    && reference.role == Role::Segment
                    && rung.kind != TrackKind::Subtitles,
                is_random_access: is_video
                    && reference.role == Role::Segment
                    && !reference.is_part
                    && reference.range.is_none(),
            };
            if reference.may_be_missing && local.file.is_none() {
                continue;
            }
            if reference.role == Role::Segment {
                last = Some(&reference.uri);
            }
            let is_carried = if reference.role == Role::Key {
                self.carry_key(&place, &local)
            } else if is_live && reference.range.is_some() {
                self.leave_out_growing(&place, &local);
                continue;
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
                let list = if reference.role == Role::Init { &mut rung.inits } else { &mut rung.segments };
                list.push(local.path);
            }
        }
        self.not_random_access(inside, &mut rung, media.is_independent);
        dedup(&mut rung.inits);
        dedup(&mut rung.segments);
        rung.inits.retain(|init| !rung.segments.contains(init));
        self.assets(playlist, &media.assets, &mut rung, depth);
        rung
    }

    /// Segments that do not decode from their start. Where most of a rung are so and no tag says otherwise, the packager cuts
    /// by time, and they play one after the other; a few among others are broken.
    fn not_random_access(
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
                self.told_files.extend(local.file);
            }
        }
        if by_time {
            let what = "its segments do not begin with pictures that decode alone".to_owned();
            self.problem(&rung.id.clone(), what, "players can start at few places; cut at key frames");
        }
    }

    /// Interstitials belong to what they interrupt: their playlists and segments are carried with it.
    fn assets(&mut self, playlist: &str, assets: &[hls::Asset], rung: &mut Rung, depth: usize) {
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
                    self.not_understood(&local.path, format!("the list of assets is no JSON: {err}"));
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

    // DASH.

    fn parse_mpd(&self, manifest: &str, bytes: &[u8]) -> Result<dash::Mpd, String> {
        let root = xml::parse(bytes).map_err(|err| err.to_string())?;
        let around = dash::Surroundings {
            uri: &self.resolver.uri_of(manifest),
            now: self.now,
            is_ours: &|uri| self.resolver.is_ours(uri),
            load: &|uri| {
                let Referred::Local(local) = self.resolver.place(uri.to_owned()) else { return None };
                let file = self.files.get(&local.file?)?;
                let bytes =
                    std::fs::read(&file.file).ok().filter(|it| it.len() as u64 <= MAX_MANIFEST_BYTES)?;
                xml::parse(&bytes).ok()
            },
        };
        dash::parse(&root, &around)
    }

    fn mpd(&mut self, manifest: &str, bytes: &Arc<[u8]>) {
        let mpd = match self.parse_mpd(manifest, bytes) {
            Ok(mpd) => mpd,
            Err(why) => return self.not_understood(manifest, why),
        };
        self.carry_manifest(manifest, &decode(manifest), bytes, DASH_TYPE);
        self.queries.clear();
        for (name, why) in mpd.left_out {
            let place = format!("{manifest} ({name})");
            self.problem(
                &place,
                format!("not carried: {why}"),
                "the rest is carried; players get this from the origin",
            );
            self.leave_out(Reason::NotUnderstood, manifest, &name, 1);
        }
        for uri in mpd.others {
            if let Some(local) = self.place(manifest, &uri) {
                let role = role_of(&local.path);
                self.carry_or_tell(manifest, manifest, &uri, &local, role, Expected::default());
            }
        }
        let mut rungs = Vec::new();
        for representation in mpd.representations {
            rungs.push(self.representation(manifest, representation));
        }
        self.inventory.presentations.push(Presentation {
            kind: Kind::Dash,
            manifest: manifest.to_owned(),
            live: mpd.live,
            duration_s: mpd.duration_s,
            rungs,
        });
    }

    fn representation(&mut self, manifest: &str, representation: dash::Representation) -> Rung {
        let place = format!("{manifest} (Representation {})", representation.ids[2]);
        let mut rung = Rung {
            id: representation.ids[2].clone(),
            kind: representation.kind,
            bandwidth_bps: representation.bandwidth_bps,
            codecs: representation.codecs,
            resolution: representation.resolution,
            language: representation.language,
            playlist: None,
            dash_ids: Some(representation.ids),
            inits: Vec::new(),
            segments: Vec::new(),
            duration_s: representation.duration_s,
        };
        if let Some(uri) = representation.init
            && let Some(local) = self.place(&place, &uri)
            && self.carry_or_tell(&place, manifest, &uri, &local, Role::Init, Expected::default())
        {
            rung.inits.push(local.path);
        }
        for uri in representation.others {
            if let Some(local) = self.place(&place, &uri)
                && self.carry_or_tell(&place, manifest, &uri, &local, Role::Other, Expected::default())
            {
                rung.segments.push(local.path);
            }
        }
        let expected = Expected {
            is_encrypted: false,
            is_mp4: representation.is_mp4,
            is_random_access: rung.kind == TrackKind::Video,
        };
        let (listed, pattern) = match representation.addressing {
            dash::Addressing::List(listed) => (listed, None),
            dash::Addressing::Pattern { listed, before, after, window } => {
                (listed, Some((before, after, window)))
            }
        };
        let mut inside = Vec::new();
        let mut take = |reading: &mut Self, uri: &str, is_optional: bool| {
            let Some(local) = reading.place(&place, uri) else { return };
            if is_optional && local.file.is_none() {
                return;
            }
            if let Some((Reason::NoRandomAccess, what)) = reading.fault(&local, expected, Role::Segment) {
                inside.push((place.clone(), local, what));
            } else if reading.carry_or_tell(&place, manifest, uri, &local, Role::Segment, expected) {
                rung.segments.push(local.path);
            }
        };
        for named in &listed {
            take(self, &named.uri, named.is_optional);
        }
        if let Some((before, after, window)) = pattern {
            let found = self.resolver.matching(&before, &after);
            let meant: Vec<_> = found.into_iter().filter(|(number, _)| window.means(*number)).collect();
            // Where the clock or the MPD is wrong altogether, what is there is what there is.
            let is_empty = !meant.iter().any(|(number, _)| window.is_available(*number));
            let (mut first, mut old) = (None, 0);
            for (number, path) in &meant {
                if is_empty || window.is_available(*number) {
                    // The template's own spelling of the number, which leading zeros are a part of.
                    let digits = &path[decode(below(&before, &self.resolver)).len()..];
                    let end = decode(after.split('?').next().unwrap_or_default()).len();
                    let uri = format!("{before}{}{after}", &digits[..digits.len() - end]);
                    take(self, &uri, true);
                } else {
                    first.get_or_insert_with(|| encode(path));
                    old += 1;
                    self.told_files.insert(path.clone());
                }
            }
            if let Some(name) = first {
                let place = manifest.to_owned();
                self.inventory.left_out.push(LeftOut { reason: Reason::OldSegment, place, name, count: old });
            }
        }
        self.not_random_access(inside, &mut rung, false);
        dedup(&mut rung.segments);
        rung.inits.retain(|init| !rung.segments.contains(init));
        rung
    }

    // References.

    fn place(&mut self, place: &str, uri: &str) -> Option<Local> {
        let referred = self.resolver.place(uri.to_owned());
        self.local(place, uri, referred)
    }

    fn resolve(&mut self, manifest: &str, line: usize, reference: &str) -> Option<Local> {
        let place = if line > 0 { format!("{manifest}:{line}") } else { manifest.to_owned() };
        if reference.split(['?', '#']).next().is_some_and(|path| path.contains('\\')) {
            let what = format!("{reference:?} has a backslash, which players read differently");
            self.problem(&place, what, "URIs have slashes: write `/`");
        }
        let referred = self.resolver.resolve(manifest, reference);
        self.local(&place, reference, referred)
    }

    /// The local name that a reference leads to; what it leads to otherwise is told.
    fn local(&mut self, place: &str, reference: &str, referred: Referred) -> Option<Local> {
        match referred {
            Referred::Local(local) => {
                self.note_query(place, &local);
                Some(local)
            }
            Referred::Opaque => None,
            Referred::Remote(_) if self.is_own_path(reference) => {
                self.own_path(place, reference);
                None
            }
            Referred::Remote(uri) => {
                let what = if reference.starts_with("..") || reference.starts_with('/') {
                    format!(
                        "{reference} leaves the source's folder and is not carried: players ask for {uri}"
                    )
                } else {
                    format!("{reference} lies elsewhere and is not carried")
                };
                self.problem(place, what, "players get it from there");
                self.leave_out(Reason::Elsewhere, place, reference, 1);
                None
            }
            Referred::Bad(err) => {
                self.problem(place, format!("{reference:?} is no URI: {err}"), "rename the file");
                self.leave_out(Reason::BadName, place, reference, 1);
                None
            }
        }
    }

    /// Whether a reference is the path that a file here has on this machine.
    fn is_own_path(&self, reference: &str) -> bool {
        reference.starts_with('/')
            && std::fs::canonicalize(&self.inventory.root).is_ok_and(|root| {
                let below = std::path::Path::new(reference).strip_prefix(root);
                below.is_ok_and(|below| self.files.contains_key(&*below.to_string_lossy()))
            })
    }

    fn own_path(&mut self, place: &str, reference: &str) {
        let base = self.resolver.uri_of("");
        let host = base.split('/').nth(2).filter(|_| !self.options.base.is_empty()).unwrap_or("the origin");
        let what = format!(
            "{reference} is a path of the packager's machine: players ask for https://{host}{reference}"
        );
        self.problem(place, what, "write names relative to the manifest");
        self.leave_out(Reason::Missing, place, reference, 1);
    }

    /// Remembers the query parameters of a name. One that has several values for one path of a manifest selects something.
    fn note_query(&mut self, place: &str, local: &Local) {
        if local.query.is_empty() || self.options.ignored_query.is_some() {
            return;
        }
        let path = local.path.split('?').next().unwrap_or_default();
        self.query_names.extend(carousel::query::names(&local.query).map(str::to_owned));
        let Some(before) = self.queries.insert(path.to_owned(), local.query.clone()) else { return };
        if before == local.query {
            return;
        }
        let values: BTreeSet<&str> = before.split('&').collect();
        let others = local.query.split('&').filter(|pair| !values.contains(pair));
        let names: Vec<String> =
            others.map(|pair| pair.split('=').next().unwrap_or(pair).to_owned()).collect();
        let what =
            format!("{path} is named with several values of {}, and is one file here", names.join(", "));
        self.problem(
            place,
            what,
            "set ignore_query of the source if it is the same file, or write the files",
        );
        self.leave_out(Reason::QuerySelects, place, path, 1);
        self.selected.insert(path.to_owned());
        self.told_files.extend(local.file.clone());
        self.selecting.extend(names);
    }

    /// Takes the file into the inventory if it is there and has no fault; tells what is wrong otherwise.
    fn carry_or_tell(
        &mut self,
        place: &str,
        manifest: &str,
        reference: &str,
        local: &Local,
        role: Role,
        expected: Expected,
    ) -> bool {
        if local.file.is_none() {
            self.missing(place, manifest, reference, local, role);
            return false;
        }
        if let Some((reason, what)) = self.fault(local, expected, role) {
            // The end of the writing is an event.
            if reason != Reason::BeingWritten {
                self.problem(place, format!("{} {what}", local.path), PACKAGE_ANEW);
            }
            self.leave_out(reason, place, &local.path, 1);
            self.told_files.extend(local.file.clone());
            return false;
        }
        self.carry(local, role)
    }

    fn carry(&mut self, local: &Local, role: Role) -> bool {
        let Some((path, file)) = local.file.as_ref().and_then(|path| Some((path, self.files.get(path)?)))
        else {
            return false;
        };
        if !self.inventory.objects.contains_key(&local.path) {
            self.carried_files.insert(path.clone());
            self.inventory.objects.insert(local.path.clone(), file.object(&local.path, role));
        } else if role == Role::Segment {
            // One file of ranges: its init section and its index are among them, and the file is as long as the film.
            let carried = self.inventory.objects.get_mut(&local.path);
            if let Some(object) = carried.filter(|it| matches!(it.role, Role::Init | Role::Other)) {
                object.role = Role::Segment;
            }
        }
        true
    }

    /// A file of which a live playlist lists ranges grows until the presentation ends: sent now, every further segment would
    /// be a new version of all of it.
    fn leave_out_growing(&mut self, place: &str, local: &Local) {
        let Some(path) = local.file.clone() else { return };
        if self.told_files.insert(path) {
            let what = format!("{} grows until the live presentation ends", local.path);
            self.problem(
                place,
                what,
                "players get it from the origin until then; write a file for each segment",
            );
            self.leave_out(Reason::Growing, place, &local.path, 1);
        }
    }

    /// A key beside the media. It is on the air for everybody: that is told.
    fn carry_key(&mut self, place: &str, local: &Local) -> bool {
        if local.file.is_none() {
            // Keys belong on a key server: one that is not here is as it should be.
            return false;
        }
        let what = format!("{} is a key: broadcast, everybody has it", local.path);
        self.problem(place, what, "serve keys from a key server and take them out of the folder");
        self.carry(local, Role::Key)
    }

    /// What is wrong with a file, if anything.
    fn fault(&mut self, local: &Local, expected: Expected, role: Role) -> Option<(Reason, String)> {
        let path = local.file.as_ref()?;
        let file = self.files.get(path)?;
        if !file.is_finished {
            return Some((Reason::BeingWritten, "is still being written".to_owned()));
        }
        if !matches!(role, Role::Segment | Role::Init) {
            return None;
        }
        if let Some(known) = self.memory.checks.get(path)
            && (known.length, known.modified_ns, known.expected) == (file.length, file.modified_ns, expected)
        {
            return known.fault.as_ref().map(|fault| (fault.reason, fault.what.clone()));
        }
        let fault = match check(&file.file, file.length, expected) {
            Ok(fault) => fault,
            Err(err) => return Some((Reason::Unreadable, format!("cannot be read: {err}"))),
        };
        let (length, modified_ns) = (file.length, file.modified_ns);
        let result = fault.as_ref().map(|fault| (fault.reason, fault.what.clone()));
        self.memory.checks.insert(path.clone(), Checked { length, modified_ns, expected, fault });
        result
    }

    fn missing(&mut self, place: &str, manifest: &str, reference: &str, local: &Local, role: Role) {
        if self.is_own_path(reference) {
            return self.own_path(place, reference);
        }
        let plain = decode(local.path.split('?').next().unwrap_or_default());
        let name = plain.rsplit('/').next().unwrap_or(&plain);
        match self.resolver.meant(manifest, reference) {
            Some((what, mend)) => self.problem(place, what, mend),
            None if is_temporary(name) => {
                let what = format!("{} is a temporary file by its name and is not carried", local.path);
                self.problem(place, what, "rename it when it is finished");
            }
            None if role == Role::Key => {}
            None => self.problem(place, format!("{} is missing", local.path), PUT_IT_THERE),
        }
        self.leave_out(Reason::Missing, place, &local.path, 1);
    }

    fn leave_out(&mut self, reason: Reason, place: &str, name: &str, count: usize) {
        let left_out = LeftOut { reason, place: place.to_owned(), name: name.to_owned(), count };
        let has_room = self.inventory.left_out.len() < MAX_LEFT_OUT;
        match self.inventory.left_out.last_mut() {
            _ if has_room => self.inventory.left_out.push(left_out),
            Some(last) if last.reason == reason => last.count += count,
            _ => self.inventory.left_out.push(left_out),
        }
    }

    fn problem(&mut self, place: &str, what: String, mend: &'static str) {
        let problem = Problem { place: place.to_owned(), what, mend };
        if self.inventory.problems.len() < MAX_PROBLEMS && !self.inventory.problems.contains(&problem) {
            self.inventory.problems.push(problem);
        }
    }
}

/// The part of a URI below the base.
fn below<'u>(uri: &'u str, resolver: &Resolver<'_>) -> &'u str {
    resolver.below(uri).unwrap_or(uri)
}

fn sniff(file: &FileOnDisk) -> bool {
    use std::io::Read as _;
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    let read =
        std::fs::File::open(&file.file).and_then(|it| it.take(SNIFF_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && (is_mpd(&head) || text_of(&head).starts_with(b"#EXTM3U"))
}

fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start()
}

/// Whether a manifest is an MPD, by its bytes: names promise nothing.
fn is_mpd(bytes: &[u8]) -> bool {
    let text = text_of(bytes);
    text.starts_with(b"<") || text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff")
}

fn is_multivariant(bytes: &[u8]) -> bool {
    let tags = [
        "#EXT-X-STREAM-INF",
        "#EXT-X-MEDIA:",
        "#EXT-X-I-FRAME-STREAM-INF",
        "#EXT-X-IMAGE-STREAM-INF",
        "#EXT-X-SESSION-",
    ];
    let text = String::from_utf8_lossy(bytes);
    text.lines().take(10_000).any(|line| tags.iter().any(|tag| line.starts_with(tag)))
}

/// What a media playlist by itself carries, by the names of its segments.
fn kind_of(media: &hls::Media) -> TrackKind {
    let first = media.references.iter().find(|it| it.role == Role::Segment);
    let content_type = first.map_or("", |it| super::content_type(&it.uri));
    match content_type.split('/').next() {
        Some("audio") => TrackKind::Audio,
        Some("text") => TrackKind::Subtitles,
        _ if content_type == "application/ttml+xml" => TrackKind::Subtitles,
        _ => TrackKind::Video,
    }
}

/// What is before and behind the last number of a name.
fn numbered(path: &str) -> Option<(String, String)> {
    let end = path.rfind(|c: char| c.is_ascii_digit())? + 1;
    let name = path.rfind('/').map_or(0, |at| at + 1);
    let digits = path[..end].bytes().rev().take_while(u8::is_ascii_digit).count();
    // The digit of an extension (`.mp4`, `.m4s`) is no number.
    if path[..end]
        .rfind('.')
        .is_some_and(|dot| dot > name && end - digits > dot && path[dot + 1..].len() <= 4)
    {
        let stem = path[..end].rfind('.')?;
        let (before, after) = numbered(&path[..stem])?;
        return Some((before, format!("{after}{}", &path[stem..])));
    }
    (end - digits >= name).then(|| (path[..end - digits].to_owned(), path[end..].to_owned()))
}

/// Drops repeats, keeps the first of each.
fn dedup(paths: &mut Vec<String>) {
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
}
