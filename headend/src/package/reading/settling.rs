//! Results that need all manifests: titles, query parameters, and unreferenced files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::super::inventory::{LeftOut, LeftOutReason as Reason};
use super::super::refer::{decode, encode, role_of};
use super::super::{IgnoredQuery, Presentation, Role};
use super::Reading;

impl Reading<'_> {
    /// Moves the title to the front: the presentation without references to it. Of several, those with more than one playlist
    /// come first, then those in outer folders, then those with more bytes.
    pub(super) fn order_presentations(&mut self) {
        let referred = &self.referred;
        let presentations = &mut self.inventory.presentations;
        let is_title = |it: &Presentation| !referred.contains(&it.manifest);
        // Two that refer to each other are both titles.
        if presentations.iter().any(is_title) {
            presentations.retain(is_title);
        }
        // A media playlist whose segments are in another presentation has no content of its own.
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

    /// Decides which query parameters the box may ignore. Objects with several values of a parameter are left to the origin.
    pub(super) fn settle_queries(&mut self) {
        let mut names: BTreeSet<String> = self.query_names.difference(&self.selecting).cloned().collect();
        if names.len() > carousel::query::MAX_PARAMETERS {
            names.clear();
        }
        let mut is_reported = !self.selecting.is_empty();
        for (path, queried) in std::mem::take(&mut self.queried) {
            let is_carried = self.inventory.objects.contains_key(&path) && !self.selected.contains(&path);
            if !is_carried || queried.names.is_subset(&names) {
                continue;
            }
            if !is_reported {
                let what = "more query parameters than can be signalled to boxes".to_owned();
                self.problem(&queried.place, what, "set ignore_query of the source");
                is_reported = true;
            }
            self.leave_out(Reason::QuerySelects, &queried.place, &path, 1);
            self.reported_files.extend(queried.file);
            self.selected.insert(path);
        }
        let selected = &self.selected;
        self.inventory.objects.retain(|path, _| !selected.contains(path));
        for rung in self.inventory.presentations.iter_mut().flat_map(|it| &mut it.rungs) {
            rung.segments.retain(|path| !selected.contains(path));
        }
        self.inventory.ignored_query = match &self.options.ignored_query {
            Some(rule) => rule.clone(),
            None if names.is_empty() => IgnoredQuery::Nothing,
            None => IgnoredQuery::Names(names.into_iter().collect()),
        };
    }

    /// Handles unreferenced files.
    pub(super) fn rest(&mut self, is_one_manifest: bool) {
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
            if self.carried_files.contains(path) || self.reported_files.contains(path) {
                continue;
            }
            // Files of a live presentation left from earlier runs, or from before the window.
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
}

/// Parts of a name before and after its last number.
pub(in crate::package) fn numbered(path: &str) -> Option<(String, String)> {
    let end = path.rfind(|c: char| c.is_ascii_digit())? + 1;
    let name = path.rfind('/').map_or(0, |at| at + 1);
    let digits = path[..end].bytes().rev().take_while(u8::is_ascii_digit).count();
    // Digits in an extension (`.mp4`, `.m4s`) do not count.
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
