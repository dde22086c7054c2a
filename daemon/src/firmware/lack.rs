//! Conditions under which a box takes updates: an installer, its hardware and version, and a trusted key. Missing conditions
//! are reported in the log, by `skycached firmware status`, and by `skycached check`.

use super::options::FirmwareOptions;

/// Hardware and running version, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Hardware.
    pub compatible: Option<String>,
    /// Version that runs.
    pub version: Option<String>,
}

impl Own {
    /// The configuration takes precedence over the files of the system.
    #[must_use]
    pub fn or_as_configured(self, options: &FirmwareOptions) -> Self {
        let counts = |said: &str, own: Option<String>| match said {
            "" => own,
            said => Some(said.to_owned()),
        };
        Self {
            compatible: counts(&options.compatible, self.compatible),
            version: counts(&options.version, self.version),
        }
    }
}

/// Fix for a configured program that cannot be started.
pub const PROGRAM_FIX: &str = "name a program in [firmware] install that is there and executable";

/// A missing condition without which a box installs no updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// No installer is configured.
    Program,
    /// The hardware is not known.
    Compatible,
    /// The running version is not known.
    Version,
    /// No root key is pinned or confirmed: offers are ignored.
    Key,
}

impl Lack {
    /// Everything that is missing. `own`: as configured, too; `has_key`: a root key is pinned or confirmed.
    pub fn all(options: &FirmwareOptions, own: &Own, has_key: bool) -> Vec<Self> {
        if options.install.is_empty() {
            return vec![Self::Program];
        }
        let checks = [
            (own.compatible.is_none(), Self::Compatible),
            (own.version.is_none(), Self::Version),
            (!has_key, Self::Key),
        ];
        checks.into_iter().filter_map(|(is_missing, it)| is_missing.then_some(it)).collect()
    }

    /// The missing condition.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Program => "no program is named that installs them",
            Self::Compatible => "the hardware of this box is not known",
            Self::Version => "the version that runs is not known",
            Self::Key => "no root key is pinned or confirmed: offers are ignored",
        }
    }

    /// The fix.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Program => "set [firmware] install",
            Self::Compatible => "set [firmware] compatible, or have compatible= in /etc/rauc/system.conf",
            Self::Version => "set [firmware] version, or have IMAGE_VERSION= in /etc/os-release",
            Self::Key => {
                "set [trust] keys to the root key that `headend keygen` has printed, or confirm one: skycached trust confirm KEY"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_the_configuration_counts_over_the_system() {
        let of_system = Own { compatible: None, version: Some("1.4".to_owned()) };
        let none = FirmwareOptions::default();
        assert_eq!(Lack::all(&none, &of_system, false), [Lack::Program]);
        let install = vec!["/bin/true".to_owned()];
        let options = FirmwareOptions { install, ..none };
        assert_eq!(Lack::all(&options, &Own::default(), true), [Lack::Compatible, Lack::Version]);
        assert_eq!(Lack::all(&options, &of_system, false), [Lack::Compatible, Lack::Key]);
        let named = FirmwareOptions { compatible: "lab-box".to_owned(), ..options };
        let own = of_system.or_as_configured(&named);
        assert_eq!((own.compatible.as_deref(), own.version.as_deref()), (Some("lab-box"), Some("1.4")));
        assert_eq!(Lack::all(&named, &own, true), []);
    }
}
