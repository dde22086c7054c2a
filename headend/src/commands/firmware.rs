//! `headend firmware`: offers, lists and withdraws firmware bundles ([`crate::releases`]).

use carousel::command::{MAX_GROUPS, is_word};
use carousel::config::plain;
use carousel::firmware::{EVERYBODY, Offer, SERVICE, Window, is_version};
use carousel::time::WallTime;
use carousel::trust::Sealer;
use serde_json::json;

use super::{pretty, print};
use crate::cli::{FirmwareAction, Offering};
use crate::clock::{Clocks as _, SystemClocks};
use crate::config::Config;
use crate::releases::{self, Fault, Release};
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
            let base = config.firmware.as_ref().map_or("", |it| it.base.as_str());
            let release = releases::add(&config, given(&offering, base, date)?, date)?;
            say(&release, None, offering.json, "`headend send` carries it until then")
        }
        FirmwareAction::Share { id, percent, config, json } => {
            let config = load(&config)?;
            let (before, release) = releases::set_share(&config, &id, hundredths(percent)?, date)?;
            let fault = if json { releases::fault(&release) } else { None };
            say(&release, fault.as_ref(), json, share_note(before, release.offer.share))
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
            let looked: Vec<_> = releases.iter().map(|it| (it, releases::fault(it))).collect();
            if json {
                let all = looked.iter().map(|(it, fault)| releases::to_json(it, fault.as_ref()));
                print(&pretty(&json!({ "schema": 1, "offers": all.collect::<Vec<_>>() })))?;
            } else if releases.is_empty() {
                print("nothing is on offer\n")?;
            } else {
                print(&releases.iter().map(|it| format!("{}\n", line(it))).collect::<String>())?;
            }
            let problems: Vec<_> = looked
                .iter()
                .filter_map(|(_, fault)| Some(fault.as_ref()?.to_string()))
                .chain(problems)
                .collect();
            for problem in &problems {
                eprintln!("headend: {problem}");
            }
            match problems.len() {
                0 => Ok(()),
                1 => Err("1 entry of the folder of offers is not sent; see above".to_owned()),
                count => Err(format!("{count} entries of the folder of offers are not sent; see above")),
            }
        }
    }
}

fn load(path: &std::path::Path) -> Result<Config, String> {
    let config = Config::load(path)?;
    if releases::folder(&config).is_none() {
        let firmware = config.firmware.is_none().then_some("[firmware] with base");
        let signing = config.signing.is_none().then_some(
            "[signing] with keys, the folder that `headend keygen --out DIR` has made, since receivers take only what is signed",
        );
        let lacking: Vec<&str> = firmware.into_iter().chain(signing).collect();
        return Err(format!("{}: add {}", path.display(), lacking.join(", and ")));
    }
    // The folder of the offers is in that of the keys.
    let is_in_keys = config.firmware.as_ref().is_some_and(|it| it.folder.is_none());
    if let Some(signing) = config.signing.as_ref().filter(|_| is_in_keys) {
        signing::keys_are_there(&signing.keys)?;
    }
    Ok(config)
}

/// The key that would sign offers must be there, and be one that receivers take them of.
fn may_sign(config: &Config, wall: WallTime) -> Result<(), String> {
    let sealer = signing::sealer(config, wall)?;
    match sealer.as_ref().map(Sealer::certificate) {
        Some(certificate) if !certificate.covers(SERVICE) => Err(format!(
            "key {} may sign for {} alone, and receivers would refuse its firmware; `headend keygen{} --rotate --service {SERVICE}`, \
             with --service for each of the others, makes one that may sign both",
            certificate.key.id(),
            certificate.services.join(", "),
            config.keys_flag()
        )),
        _ => Ok(()),
    }
}

fn given(offering: &Offering, base: &str, date: u64) -> Result<Release, String> {
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
        parsed.ok_or_else(|| {
            format!("{text:?}: a window is such as 02:00-05:00, in UTC; 00:00-00:00 is the whole day")
        })
    });
    let path = bundle.canonicalize().map_err(|err| format!("{}: {}", bundle.display(), plain(&err)))?;
    let url = releases::url(base, &path)?;
    let (length, sha256) = releases::measure(&path)?;
    let offer = Offer {
        compatible: compatible.clone(),
        version: version.clone(),
        url,
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

/// Effect of a change of the share on receivers (`decide` and `updates` of the daemon's firmware).
const fn share_note(before: u16, now: u16) -> &'static str {
    if now < before {
        "receivers that are out now drop what they have of it; those that have installed it keep it, and an installation \
         that has begun goes on"
    } else if now == before {
        "the share is as it was"
    } else {
        "receivers that are in already stay in"
    }
}

/// A share in hundredths of a percent.
fn hundredths(percent: f64) -> Result<u16, String> {
    let hundredths = (percent * 100.0).round();
    if (0.0..=f64::from(EVERYBODY)).contains(&hundredths) {
        return Ok(hundredths as u16);
    }
    Err(format!("{percent} %: a share is 0 to 100 percent"))
}

fn say(release: &Release, fault: Option<&Fault>, as_json: bool, note: &str) -> Result<(), String> {
    if as_json {
        return print(&pretty(&releases::to_json(release, fault)));
    }
    print(&format!("{}\n{note}\n", line(release)))
}

fn line(release: &Release) -> String {
    let it = &release.offer;
    let window = match it.window {
        None => "at any time".to_owned(),
        Some(window) if window.is_whole_day() => format!("at any time of the day ({window} UTC)"),
        Some(window) => format!("{window} UTC"),
    };
    let groups = if it.groups.is_empty() { "all".to_owned() } else { it.groups.join(", ") };
    format!(
        "{}: {}, {} % of receivers ({groups}), {window}, until {}",
        release.id(),
        human_bytes(it.length),
        f64::from(it.share) / 100.0,
        signing::at(it.until).to_xml()
    )
}

#[cfg(test)]
mod tests {
    use carousel::firmware::Window;

    use super::*;
    use crate::releases::tests::release;

    #[test]
    fn a_change_of_the_share_says_what_it_does() {
        assert!(share_note(100, 1000).contains("stay in"));
        for (before, now) in [(1000, 100), (EVERYBODY, 0)] {
            let note = share_note(before, now);
            assert!(note.contains("drop what they have") && !note.contains("stay in"), "{note}");
        }
        assert!(share_note(7, 7).contains("as it was"));
    }

    #[test]
    fn the_same_time_twice_is_shown_as_the_whole_day_that_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut release = release(folder.path(), "1.5", b"bundle");
        for (window, told) in [
            ("02:00-05:00", ", 02:00-05:00 UTC, until"),
            ("02:00-02:00", ", at any time of the day (02:00-02:00 UTC), until"),
        ] {
            release.offer.window = Window::parse(window);
            assert!(line(&release).contains(told), "{}", line(&release));
        }
    }
}
