//! Checks of the requirements of firmware updates: the installer, hardware and version, and a trusted key.

use super::{Finding, Severity};
use crate::commands::may_be_commanded;
use crate::config::Config;
use crate::firmware::{FirmwareOptions, Installer as _, Lack, Own, PROGRAM_FIX, Paths, Program};

const ABOUT: &str = "[firmware]";

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    // With the keys that an operator has confirmed. A key that cannot be read is a mistake, and was said before.
    let trust = crate::trust::recalled(&config.trust, &config.store.path);
    of(config, Paths::default().own(), trust.is_ok_and(|it| may_be_commanded(&it)))
}

fn of(config: &Config, own: Own, has_key: bool) -> Vec<Finding> {
    let options = &config.firmware;
    if *options == FirmwareOptions::default() {
        return Vec::new();
    }
    let own = own.or_as_configured(options);
    let lacks = Lack::all(options, &own, has_key);
    let mut found: Vec<Finding> = lacks
        .iter()
        .map(|it| {
            Finding::new(Severity::Error, ABOUT, format!("updates are not taken: {}", it.what()), it.fix())
        })
        .collect();
    if options.install.is_empty() {
        return found;
    }
    match Program(options.install.clone()).is_ready() {
        Err(why) => {
            found.push(Finding::new(Severity::Error, ABOUT, format!("updates wait: {why}"), PROGRAM_FIX));
        }
        Ok(()) if found.is_empty() => {
            let (compatible, version) = (own.compatible.unwrap_or_default(), own.version.unwrap_or_default());
            let what = format!("{compatible}, {version} runs; later versions go to {}", options.install[0]);
            found.push(Finding::fine(ABOUT, what));
        }
        Ok(()) => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str, has_key: bool) -> Vec<String> {
        let config = Config::parse(text).unwrap();
        of(&config, Own::default(), has_key).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_updates_lack_is_found_with_its_fix() {
        assert!(findings("", false).is_empty(), "a box that asks for no updates lacks nothing");
        let all = findings("[firmware]\ninstall = ['/none/such']", false).join("\n");
        for part in [
            "the hardware of this box is not known",
            "[firmware] compatible",
            "the version that runs is not known",
            "[firmware] version",
            "no root key is pinned or confirmed",
            "[trust] keys",
            "/none/such: there is no such program",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        let named = "[firmware]\ninstall = ['/bin/sh']\ncompatible = 'lab-box'\nversion = '1.4'";
        let fine = findings(named, true);
        assert!(fine.len() == 1 && fine[0].contains("lab-box, 1.4 runs"), "{fine:?}");
        assert_eq!(findings(named, false).len(), 1);
        let url = findings("[firmware]\nurl = 'https://h/offers.xml'", true);
        assert!(url.len() == 1 && url[0].contains("set [firmware] install"), "{url:?}");
        let only_named = findings("[firmware]\ncompatible = 'lab-box'\nversion = '1.4'", true);
        assert!(only_named.len() == 1 && only_named[0].contains("set [firmware] install"), "{only_named:?}");
        // A folder is not a program.
        let folder = findings(&named.replace("/bin/sh", "/tmp"), true);
        assert!(folder.len() == 1 && folder[0].contains("not a file"), "{folder:?}");
    }
}
