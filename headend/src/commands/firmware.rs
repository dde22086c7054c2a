//! `headend firmware`.

use carousel::command::{MAX_GROUPS, is_word};
use carousel::firmware::{EVERYBODY, Offer, SERVICE, Window, is_version};
use carousel::time::WallTime;
use carousel::trust::Sealer;
use serde_json::json;

use super::{pretty, print};
use crate::cli::{FirmwareAction, Offering};
use crate::clock::{Clocks as _, SystemClocks};
use crate::config::Config;
use crate::releases::{self, Release};
use crate::signing;
use crate::units::human_bytes;

/// Offers receivers firmware, shows what is on offer, widens its share, or withdraws it.
pub(super) fn firmware(action: FirmwareAction) -> Result<(), String> {
    let wall = SystemClocks::new().wall();
    let date = wall.unix_seconds();
    match action {
        FirmwareAction::Offer(offering) => {
            let config = load(&offering.config)?;
            may_sign(&config, wall)?;
            let release = releases::add(&config, given(&offering, date)?, date)?;
            // The URL is the configuration's.
            let (all, _) = releases::read(&config, date);
            let release = all.into_iter().find(|it| it.id() == release.id()).unwrap_or(release);
            say(&release, offering.json, "`headend send` carries it until then")
        }
        FirmwareAction::Share { id, percent, config, json } => {
            let release = releases::set_share(&load(&config)?, &id, hundredths(percent)?, date)?;
            say(&release, json, "receivers that are in already stay in")
        }
        FirmwareAction::Withdraw { id, config, json } => {
            releases::withdraw(&load(&config)?, &id)?;
            if json {
                return print(&pretty(&json!({ "schema": 1, "id": id, "done": "withdrawn" })));
            }
            print(&format!("{id}: withdrawn; receivers that have installed it keep it\n"))
        }
        FirmwareAction::List { config, json } => {
            let (releases, problems) = releases::read(&load(&config)?, date);
            for problem in problems {
                eprintln!("headend: {problem}");
            }
            if json {
                let all: Vec<_> = releases.iter().map(releases::to_json).collect();
                return print(&pretty(&json!({ "schema": 1, "offers": all })));
            }
            print(&releases.iter().map(|it| format!("{}\n", line(it))).collect::<String>())
        }
    }
}

fn load(path: &std::path::Path) -> Result<Config, String> {
    let config = Config::load(path)?;
    if releases::folder(&config).is_none() {
        return Err(format!("{}: add [firmware] with base, and [signing] with keys", path.display()));
    }
    Ok(config)
}

/// The key that would sign offers must be there, and be one that receivers take them of.
fn may_sign(config: &Config, wall: WallTime) -> Result<(), String> {
    let sealer = signing::sealer(config, wall)?;
    match sealer.as_ref().map(Sealer::certificate) {
        Some(certificate) if !certificate.covers(SERVICE) => Err(format!(
            "key {} may sign for {} alone, and receivers would refuse its firmware; `headend keygen --rotate --service {SERVICE}`, \
             with --service for each of the others, makes one that may sign both",
            certificate.key.id(),
            certificate.services.join(", ")
        )),
        _ => Ok(()),
    }
}

fn given(offering: &Offering, date: u64) -> Result<Release, String> {
    let Offering { bundle, compatible, version, .. } = offering;
    if !is_word(compatible) {
        return Err(format!("{compatible:?}: hardware has 1 to 64 letters, digits, - _ ."));
    }
    if !is_version(version) {
        return Err(format!("{version:?}: a version has 1 to 64 letters, digits, . - ~ ^"));
    }
    if let Some(odd) = offering.groups.iter().find(|it| !is_word(it)) {
        return Err(format!("{odd:?}: groups have 1 to 64 letters, digits, - _ ."));
    }
    if offering.groups.len() > MAX_GROUPS {
        return Err(format!("more than {MAX_GROUPS} groups; leave them out to mean all receivers"));
    }
    let window = offering.window.as_deref().map(|text| {
        let parsed = Window::parse(text);
        parsed.ok_or_else(|| format!("{text:?}: a window is such as 02:00-05:00, in UTC"))
    });
    let path = bundle.canonicalize().map_err(|err| format!("{}: {err}", bundle.display()))?;
    let (length, sha256) = releases::measure(&path)?;
    let offer = Offer {
        compatible: compatible.clone(),
        version: version.clone(),
        url: String::new(),
        length,
        sha256,
        allow_downgrade: offering.downgrade,
        share: hundredths(offering.share)?,
        groups: offering.groups.clone(),
        window: window.transpose()?,
        session: None,
        source: None,
        repair_after_s: offering.repair_after_s,
        repair_within_s: offering.repair_within_s,
        until: date + offering.valid_s,
    };
    Ok(Release { path, offer })
}

/// A share in hundredths of a percent.
fn hundredths(percent: f64) -> Result<u16, String> {
    let hundredths = (percent * 100.0).round();
    if (0.0..=f64::from(EVERYBODY)).contains(&hundredths) {
        return Ok(hundredths as u16);
    }
    Err(format!("{percent} %: a share is 0 to 100 percent"))
}

fn say(release: &Release, as_json: bool, note: &str) -> Result<(), String> {
    if as_json {
        return print(&pretty(&releases::to_json(release)));
    }
    print(&format!("{}\n{note}\n", line(release)))
}

fn line(release: &Release) -> String {
    let it = &release.offer;
    let window = it.window.map_or_else(|| "at any time".to_owned(), |it| format!("{it} UTC"));
    let groups = if it.groups.is_empty() { "all".to_owned() } else { it.groups.join(", ") };
    format!(
        "{}: {}, {} % of receivers ({groups}), {window}, until {}",
        release.id(),
        human_bytes(it.length),
        f64::from(it.share) / 100.0,
        signing::at(it.until).to_xml()
    )
}
