//! Options of firmware updates: `[firmware]`.

use carousel::command::is_word;
use carousel::config::Mistake;
use carousel::config::url::of_host;
use carousel::firmware::{Window, is_url, is_version};
use carousel::name::without_secrets;
use serde::{Deserialize, Serialize};

/// `[firmware]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirmwareOptions {
    /// Program that installs a bundle, with the bundle's path behind its arguments. Left out: updates that are offered are not
    /// taken.
    pub install: Vec<String>,
    /// Hardware of this box. Left out: `compatible` of `/etc/rauc/system.conf`, which only the appliance has.
    pub compatible: String,
    /// Version that runs. Left out: `IMAGE_VERSION` of `/etc/os-release`, which few systems but the appliance have.
    pub version: String,
    /// Part of each day, in UTC, in which updates are installed, such as `02:00-05:00`. Left out: as each offer says.
    pub window: String,
    /// Seconds without a request of a player before an update is installed.
    pub idle_s: u64,
    /// URL of the signed list of offers, for boxes without the carousel: `offers.xml`, which `headend send` writes beside the offers.
    pub url: String,
    /// Interval at which `url` is asked for, in seconds; each box begins at a moment of its own.
    pub url_interval_s: u64,
    /// URL to which results of updates are sent with `POST`, as JSON. Left out: nothing is sent.
    pub report_url: String,
    /// Seconds over which boxes are dispersed when they report.
    pub report_within_s: u64,
}

impl Default for FirmwareOptions {
    fn default() -> Self {
        Self {
            install: Vec::new(),
            compatible: String::new(),
            version: String::new(),
            window: String::new(),
            idle_s: 600,
            url: String::new(),
            url_interval_s: 3600,
            report_url: String::new(),
            report_within_s: 600,
        }
    }
}

impl FirmwareOptions {
    /// Values that cannot be used.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all = Vec::new();
        let mut wrong = |key: &str, what: String, fix: &str| {
            all.push(Mistake::of_value(&format!("firmware.{key}"), &what, fix));
        };
        if self.install.first().is_some_and(|it| !it.starts_with('/')) {
            wrong("install", "the program has no absolute path".to_owned(), "name it from / on");
        }
        if !self.compatible.is_empty() && !is_word(&self.compatible) {
            let what = format!("{:?} is not a name of hardware", self.compatible);
            wrong("compatible", what, "1 to 64 letters, digits, - _ .");
        }
        if !self.version.is_empty() && !is_version(&self.version) {
            let what = format!("{:?} is not a version", self.version);
            wrong("version", what, "1 to 64 letters, digits, . - ~ ^");
        }
        if !self.window.is_empty() && Window::parse(&self.window).is_none() {
            let what = format!("{:?} is not part of a day", self.window);
            wrong("window", what, "such as 02:00-05:00, in UTC");
        }
        for (key, url) in [("url", &self.url), ("report_url", &self.report_url)] {
            if has_userinfo(url) {
                let what = "a user or password in the URL is not sent".to_owned();
                wrong(key, what, "leave out what is before the @");
            } else if !url.is_empty() && !is_url(url) {
                let what = format!("{:?} is not a URL", without_secrets(url));
                wrong(key, what, "http://host/path or https://host/path");
            } else if let Some(fault) = of_host(url).into_iter().next().filter(|_| !url.is_empty()) {
                wrong(key, fault.what, &fault.fix);
            }
        }
        if self.url_interval_s < 60 {
            let what = format!("{} s is out of range", self.url_interval_s);
            wrong("url_interval_s", what, "60 at least; 3600 is usual");
        }
        all
    }

    /// `window`, if there is one.
    pub fn own_window(&self) -> Option<Window> {
        Window::parse(&self.window)
    }
}

/// Whether the authority of a URL names a user (RFC 3986 section 3.2.1).
fn has_userinfo(url: &str) -> bool {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    authority.is_some_and(|it| it.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_a_user_are_refused_and_not_quoted() {
        let mistakes = |url: &str| {
            let options = FirmwareOptions {
                url: url.to_owned(),
                report_url: url.to_owned(),
                ..FirmwareOptions::default()
            };
            let all = options.mistakes();
            assert!(!format!("{all:?}").contains("secret"), "{all:?}");
            all.into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        for fine in
            ["", "https://h/offers.xml", "https://h/report?key=secret", "http://h/a@b", "http://h?a@b"]
        {
            assert_eq!(mistakes(fine), [""; 0], "{fine}");
        }
        for wrong in ["https://operator:secret@h/report", "https://secret@h", "ftp://h/?key=secret"] {
            assert_eq!(mistakes(wrong), ["firmware.url", "firmware.report_url"], "{wrong}");
        }
    }
}
