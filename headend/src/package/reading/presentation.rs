//! Objects of DASH MPDs.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use carousel::time::WallTime;
use carousel::xml;

use super::super::check::DeclaredProperties;
use super::super::inventory::{LeftOut, LeftOutReason as Reason};
use super::super::manifest_error::MpdError;
use super::super::refer::{Local, ReferenceTarget, decode, encode, role_of};
use super::super::{Kind, MAX_MANIFEST_BYTES, Presentation, Role, Rung, TrackKind, dash};
use super::{Reading, dedup};
use crate::encoding;
use crate::sys::read_source_file;

/// Resolution of file times, which are coarser than a packager's clock.
const COARSE_NS: i128 = 100_000_000;
const DASH_TYPE: &str = "application/dash+xml";

/// A Representation whose segments are being added to the inventory.
struct OpenRepresentation<'a> {
    /// Manifest and Representation, for messages.
    place: String,
    manifest: &'a str,
    is_live: bool,
    /// Older files belong to an earlier run of the packager.
    began_ns: Option<i128>,
    expected: DeclaredProperties,
    rung: Rung,
    /// Segments that do not decode from their start: place, file, fault.
    inside: Vec<(String, Local, String)>,
}

impl Reading<'_> {
    /// `written_ns`: the time of its file.
    pub(super) fn parse_mpd(
        &self,
        manifest: &str,
        bytes: &[u8],
        written_ns: Option<i128>,
    ) -> Result<dash::Mpd, MpdError> {
        let text = encoding::of_manifest(bytes)?;
        let root = xml::parse(text.as_bytes()).map_err(MpdError::Xml)?;
        let around = dash::ParseContext {
            uri: &self.resolver.uri_of(manifest),
            now: self.now,
            written: written_ns.map(|ns| WallTime::from_unix_ms((ns / 1_000_000) as i64)),
            nearness: &|uri| self.resolver.nearness(uri),
            load: &|uri| {
                let ReferenceTarget::Local(local) = self.resolver.place(uri.to_owned()) else { return None };
                let file = self.files.get(&local.file?)?;
                let bytes = read_source_file(&file.file, MAX_MANIFEST_BYTES).ok();
                let bytes = bytes.filter(|it| it.len() as u64 <= MAX_MANIFEST_BYTES)?;
                xml::parse(encoding::of_manifest(&bytes).ok()?.as_bytes()).ok()
            },
        };
        dash::parse(&root, &around)
    }

    pub(super) fn mpd(&mut self, manifest: &str, bytes: &Arc<[u8]>) {
        let file = decode(manifest);
        let good = self.memory.manifests.get(&file).map(|it| it.modified_ns);
        let written_ns = good.or_else(|| self.files.get(&file).map(|it| it.modified_ns));
        let mpd = match self.parse_mpd(manifest, bytes, written_ns) {
            Ok(mpd) => mpd,
            Err(why) => return self.not_understood(manifest, &why),
        };
        self.carry_manifest(manifest, &file, bytes, DASH_TYPE);
        self.queries.clear();
        let began_ns = mpd.began.map(|it| i128::from(it.unix_ms()) * 1_000_000 - COARSE_NS);
        for base in &mpd.bases {
            self.note_absolute_base(manifest, base);
        }
        for base in mpd.encoded_bases {
            let what = format!(
                "BaseURL {base} is percent-encoded: it is not a URL, and players look beside the MPD"
            );
            self.problem(
                manifest,
                what,
                "write it plain; Shaka Packager encodes what --base_urls gives: leave it out",
            );
        }
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
                self.carry_or_tell(manifest, manifest, &uri, &local, role, DeclaredProperties::default());
            }
        }
        let mut rungs = Vec::new();
        for representation in mpd.representations {
            rungs.push(self.representation(manifest, representation, mpd.live, began_ns));
        }
        self.inventory.presentations.push(Presentation {
            kind: Kind::Dash,
            manifest: manifest.to_owned(),
            live: mpd.live,
            duration_s: mpd.duration_s,
            rungs,
        });
    }

    pub(super) fn representation(
        &mut self,
        manifest: &str,
        representation: dash::Representation,
        live: bool,
        began_ns: Option<i128>,
    ) -> Rung {
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
        let init = DeclaredProperties { is_init: true, ..DeclaredProperties::default() };
        if let Some(dash::SegmentUrl { uri, range, .. }) = representation.init
            && let Some(local) = self.place(&place, &uri)
        {
            match range.filter(|_| live || self.is_growing(&local)) {
                Some(range) => {
                    rung.inits.extend(self.carry_range(&place, manifest, &uri, &local, Role::Init, &range));
                }
                None if self.carry_or_tell(&place, manifest, &uri, &local, Role::Init, init) => {
                    rung.inits.push(local.path);
                }
                None => {}
            }
        }
        for uri in representation.others {
            if let Some(local) = self.place(&place, &uri)
                && self.carry_or_tell(
                    &place,
                    manifest,
                    &uri,
                    &local,
                    Role::Other,
                    DeclaredProperties::default(),
                )
            {
                rung.segments.push(local.path);
            }
        }
        let expected = DeclaredProperties {
            is_encrypted: false,
            is_init: false,
            is_mp4: representation.is_mp4,
            is_random_access: rung.kind == TrackKind::Video,
        };
        let mut taking = OpenRepresentation {
            place,
            manifest,
            is_live: live,
            began_ns,
            expected,
            rung,
            inside: Vec::new(),
        };
        let (listed, pattern) = match representation.addressing {
            dash::Addressing::List(listed) => (listed, None),
            dash::Addressing::Pattern { listed, affixes, window } => (listed, Some((affixes, window))),
        };
        for named in &listed {
            self.take_segment(&mut taking, &named.uri, named.range.as_ref(), named.is_optional);
        }
        if let Some((affixes, window)) = pattern {
            self.take_pattern(&mut taking, &affixes, &window);
        }
        let OpenRepresentation { mut rung, inside, .. } = taking;
        self.not_random_access(inside, &mut rung, false);
        dedup(&mut rung.segments);
        rung.inits.retain(|init| !rung.segments.contains(init));
        rung
    }

    /// Adds a segment to the inventory, if its file exists or is mandatory.
    fn take_segment(
        &mut self,
        taking: &mut OpenRepresentation<'_>,
        uri: &str,
        range: Option<&Range<u64>>,
        is_optional: bool,
    ) {
        let OpenRepresentation { place, manifest, is_live, expected, rung, inside, .. } = taking;
        let Some(local) = self.place(place, uri) else { return };
        if is_optional && local.file.is_none() {
            return;
        }
        if let Some(range) = range.filter(|_| *is_live || self.is_growing(&local)) {
            let name = self.carry_range(place, manifest, uri, &local, Role::Segment, range);
            rung.segments.extend(name);
            return;
        }
        if let Some((Reason::NoRandomAccess, what)) = self.fault(&local, *expected, Role::Segment) {
            inside.push((place.clone(), local, what));
        } else if self.carry_or_tell(place, manifest, uri, &local, Role::Segment, *expected) {
            rung.segments.push(local.path);
        }
    }

    /// Adds the segments of a live template that exist and are in its window.
    fn take_pattern(
        &mut self,
        taking: &mut OpenRepresentation<'_>,
        affixes: &[(String, String)],
        window: &dash::Window,
    ) {
        let mut meant = Vec::new();
        for (before, after) in affixes {
            let found = self.resolver.matching(before, after);
            let found = found.into_iter().filter(|(number, _)| window.means(*number));
            meant.extend(found.map(|(number, path)| (number, path, before, after)));
        }
        meant.sort();
        // An earlier run may have left segments with future numbers, which this run has not written yet.
        let modified_ns = |path: &String| self.files.get(path).map(|file| file.modified_ns);
        let is_of_run = |path: &String| taking.began_ns <= modified_ns(path);
        let of_run: HashSet<String> =
            meant.iter().map(|(_, path, ..)| path).filter(|it| is_of_run(it)).cloned().collect();
        // All files are older if they keep the times of their originals.
        let is_any = of_run.is_empty() && window.has_run();
        // If the clock or the MPD is wrong, or the packager has stopped, use the newest.
        let of_run = |path: &String| is_any || of_run.contains(path);
        let is_empty = !meant.iter().any(|(number, path, ..)| window.is_available(*number) && of_run(path));
        let newest: HashSet<u64> = if is_empty {
            let most = window.most.map_or(usize::MAX, |most| most * affixes.len());
            let of_run = meant.iter().filter(|(_, path, ..)| of_run(path));
            let mut by_age: Vec<_> = of_run.map(|(number, path, ..)| (modified_ns(path), *number)).collect();
            by_age.sort_unstable();
            by_age.into_iter().rev().take(most).map(|(_, number)| number).collect()
        } else {
            HashSet::new()
        };
        let (mut first, mut old) = (None, 0);
        for (number, path, before, after) in &meant {
            if of_run(path) && (newest.contains(number) || window.is_available(*number)) {
                // The digits as in the template, with leading zeros.
                let digits = &path[decode(self.resolver.below(before).unwrap_or(before)).len()..];
                let end = decode(after.split('?').next().unwrap_or_default()).len();
                let uri = format!("{before}{}{after}", &digits[..digits.len() - end]);
                self.take_segment(taking, &uri, None, true);
            } else {
                first.get_or_insert_with(|| encode(path));
                old += 1;
                self.reported_files.insert(path.clone());
            }
        }
        if let Some(name) = first {
            let place = taking.manifest.to_owned();
            self.inventory.left_out.push(LeftOut { reason: Reason::OldSegment, place, name, count: old });
        }
    }
}
