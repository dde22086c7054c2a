//! `headend check`: prints the findings of [`crate::check`] about a configuration.

use std::path::Path;

use carousel::config::finding::{Finding, Report, Severity};

use super::{Identity, open_unreported, pretty, print};
use crate::broadcast::Broadcast;
use crate::check::examine;
use crate::clock::{Clocks as _, SystemClocks};
use crate::config::Config;
use crate::lease::{self, StoreLook};
use crate::line::Line;
use crate::multiplex::Rotation;
use crate::options::Source;
use crate::package::Inventory;
use crate::plan;
use crate::pull::{self, OriginKind, Probed};

/// Whether a folder is not there, or has hidden files alone.
pub(super) fn is_empty(folder: &Path) -> bool {
    let is_hidden = |it: std::fs::DirEntry| it.file_name().as_encoded_bytes().starts_with(b".");
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().all(is_hidden),
        Err(err) => err.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Finding about a source that has nothing yet.
fn waiting_for(source: &Source) -> Finding {
    let about = format!("source {}", source.name);
    let path = source.path.display();
    let comes = match &source.pull {
        Some(_) => "`headend pull` fetches it, and so does `headend send`".to_owned(),
        None if source.ingest => format!("packagers upload to /{}/", source.name),
        None => {
            let what = match std::fs::read_dir(&source.path) {
                Err(err) => format!("{path}: {}", carousel::config::plain(&err)),
                Ok(_) => format!("{path} is empty"),
            };
            let fix = "correct path, or put packaged HLS or DASH there: `headend send` waits for it";
            return Finding::new(Severity::Warning, about, what, fix);
        }
    };
    Finding::fine(about, format!("nothing yet in {path}; {comes}"))
}

/// Problems of a source that are findings of their own.
const PROBLEMS_SHOWN: usize = 20;

/// Findings about what the sources have. Files that a manifest names and that cannot be carried are an error, as for `scan`; of a source
/// that is live, pulled or uploaded they are a warning, since its files come while they are looked at.
fn findings_of(broadcast: &mut Broadcast) -> Vec<Finding> {
    let mut found = Vec::new();
    for warning in broadcast.take_warnings() {
        let about = warning.source.map_or_else(|| "offers".to_owned(), |name| format!("source {name}"));
        found.push(Finding::of_message(Severity::Warning, about, &warning.text));
    }
    for (source, (_, inventory)) in broadcast.config().sources.iter().zip(broadcast.named_inventories()) {
        let about = format!("source {}", source.name);
        for problem in inventory.problems.iter().take(PROBLEMS_SHOWN) {
            found.push(Finding::new(Severity::Warning, about.clone(), problem.located(), problem.fix));
        }
        let scan = format!("`headend scan {}` lists all", source.path.display());
        if inventory.problems.len() > PROBLEMS_SHOWN {
            let what = format!("{} further problems", inventory.problems.len() - PROBLEMS_SHOWN);
            found.push(Finding::new(Severity::Warning, about.clone(), what, scan.clone()));
        }
        let counts = inventory.left_out_by_reason();
        if counts.is_empty() {
            continue;
        }
        let what = format!("not carried: {}", Inventory::left_out_text(&counts));
        let is_filled = source.reserved_bps.is_some() || source.pull.is_some() || source.ingest;
        found.push(match inventory.faults() {
            0 => Finding::fine(about, what),
            _ if is_filled => Finding::new(Severity::Warning, about, what, scan),
            _ => {
                let fix = format!("correct what the warnings about it say; {scan}");
                Finding::new(Severity::Error, about, what, fix)
            }
        });
    }
    for problem in &broadcast.catalog().problems {
        found.push(Finding::new(Severity::Warning, "catalogue", problem.located(), problem.fix));
    }
    found
}

fn of_probe(about: String, probed: Probed) -> Finding {
    match probed {
        Probed::Fine(what) => Finding::fine(about, what),
        Probed::Wrong { what, fix } => Finding::new(Severity::Error, about, what, fix),
    }
}

/// Examines a configuration that could be read. Fails if something keeps it from going on the air.
pub(super) fn check(config: Config, json: bool) -> Result<(), String> {
    let clocks = SystemClocks::new();
    let rate_bps = config.payload_rate_bps();
    let name = config.file.as_ref().map(|it| it.display().to_string()).unwrap_or_default();
    let mut destinations = Vec::new();
    // A packager that uploads has not begun, or nothing is pulled yet: that is not a mistake. Another folder may come later, too.
    let mut there = config.clone();
    let (waiting, sources) =
        there.sources.into_iter().partition::<Vec<_>, _>(|source| is_empty(&source.path));
    there.sources = sources;
    let (mut without_media, mut of_sources) = (Vec::new(), Vec::new());
    let planned = if there.sources.is_empty() && !waiting.is_empty() {
        Ok(plan::plan(&[], rate_bps, &plan::DeductedRates::default()))
    } else {
        open_unreported(there, false, Identity::Stable, &clocks, &super::Preparation::default()).and_then(
            |mut broadcast| {
                of_sources.extend(findings_of(&mut broadcast));
                without_media.extend(broadcast.named_inventories().filter_map(|(source, inventory)| {
                    let (what, fix) = inventory.without_media()?;
                    Some(Finding::new(Severity::Warning, format!("source {source}"), what, fix))
                }));
                let line = Line::open(&config, false, true, clocks.wall())?;
                destinations = line.destinations(broadcast.destinations());
                if !config.sessions.announce {
                    destinations.retain(|it| *it != config.sessions.announcement);
                }
                let (objects, taken) = match &config.multiplex {
                    Some(multiplex) if multiplex.is_carousel() => {
                        Rotation::new(&config, multiplex, false).planned(&broadcast.air)
                    }
                    _ => broadcast.air.planned(clocks.wall()),
                };
                Ok(plan::plan(&objects, rate_bps, &taken))
            },
        )
    };
    let planned = planned.as_ref().map_err(String::as_str);
    let mut found = examine(&config, &destinations, planned, clocks.wall()).0;
    found.extend(waiting.iter().map(waiting_for));
    found.extend(without_media);
    found.extend(of_sources);
    found.extend(
        crate::claim::of_others(&config).map(|why| Finding::of_message(Severity::Warning, "groups", &why)),
    );
    found.extend(pull::probe(&config).into_iter().map(|(name, kind, probed)| {
        let about = match kind {
            OriginKind::Bucket => format!("bucket of {name}"),
            OriginKind::Web => format!("origin of {name}"),
        };
        of_probe(about, probed)
    }));
    let events = pull::probe_events(&config);
    found.extend(events.into_iter().map(|(name, probed)| of_probe(format!("events of {name}"), probed)));
    found.extend(config.lease.as_ref().map(|options| match lease::look(options) {
        StoreLook::Fine => {
            let what =
                format!("{} keeps the conditions of writes; this headend is {}", options.url, options.node);
            Finding::fine("lease".to_owned(), what)
        }
        StoreLook::Unconditional(what) => {
            let fix = "give another url, or leave [lease] out";
            Finding::new(Severity::Error, "lease".to_owned(), what, fix)
        }
        StoreLook::Failed { what, fix } => Finding::new(Severity::Error, "lease".to_owned(), what, fix),
    }));
    let all = Report::new(found);
    print(&if json {
        let healthy = all.is_healthy();
        pretty(&serde_json::json!({ "schema": 1, "healthy": healthy, "findings": all.0 }))
    } else {
        all.to_text(&name, crate::progress::may_colour())
    })?;
    match all.is_healthy() {
        true => Ok(()),
        false => Err(format!("{name}: would not work as it is; each error above says what to do")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scan_finds_wrong_with_a_source_is_an_error_and_a_reserve_that_is_too_low_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let list = |end: &str| {
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXTINF:2,\nmissing.ts\n{end}")
        };
        let found = |end: &str, rest: &str| {
            std::fs::write(folder.path().join("film.m3u8"), list(end)).unwrap();
            // Two packets of a transport stream, and many of them.
            std::fs::write(folder.path().join("a.ts"), [0x47; 188 * 1000]).unwrap();
            let text = format!(
                "link.rate_bps = 8_000_000\n[[source]]\nname = 'one'\npath = '{}'\nbase = 'http://h/v/'\n{rest}",
                folder.path().display()
            );
            let config = Config::parse(&text, Path::new("/")).unwrap();
            let mut broadcast = open_unreported(
                config,
                false,
                Identity::Stable,
                &SystemClocks::new(),
                &super::super::Preparation::default(),
            )
            .unwrap();
            findings_of(&mut broadcast)
        };
        let is_about = |it: &Finding| it.about == "source one" && !it.fix.is_empty();
        let film = found("#EXT-X-ENDLIST\n", "");
        assert!(film.iter().all(is_about), "{film:?}");
        let severities: Vec<Severity> = film.iter().map(|it| it.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Error], "{film:?}");
        assert!(film[0].what.contains("missing.ts") && film[1].what == "not carried: 1 missing", "{film:?}");
        let live = found("", "reserved_bps = 1000\n");
        assert!(live.iter().all(|it| is_about(it) && it.severity == Severity::Warning), "{live:?}");
        assert!(
            live[0].what.contains("reserved_bps is") && live[0].fix.starts_with("raise reserved_bps"),
            "{live:?}"
        );
    }
}
