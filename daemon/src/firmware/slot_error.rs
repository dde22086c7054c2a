//! Failures of commands on slots, images and bundles, and whose fault each is.

use std::fmt;
use std::io;
use std::path::Path;

use super::bundle::Refusal;
use super::name::Slot;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A disk or file system: another attempt may succeed.
    Disk,
    /// The bundle or its kernel image: the same one fails again.
    Bundle,
    /// The state of this machine, which an operator has to change first.
    Machine,
    /// The arguments of the command.
    Arguments,
}

/// Why a command on slots, images or bundles failed.
#[derive(Debug)]
pub enum SlotError {
    /// A file or folder cannot be read or written.
    File(String, io::Error),
    /// A file does not have the content that it should have.
    Content(String, String),
    /// A kernel image on the EFI partition differs from the one that was announced.
    Digest {
        /// Its file.
        path: String,
        /// SHA-256 of the file.
        found: String,
        /// SHA-256 that was announced.
        expected: String,
    },
    /// The initial RAM disk has left no running slot.
    NotAppliance(String, io::Error),
    /// There is no variable of the loader.
    NoLoader(String, io::Error),
    /// The loader started something else than what runs.
    Loader(String),
    /// The other slot cannot be started: there is nothing to go back to.
    NoFallback(Slot),
    /// A slot has no image that can be started.
    NotStartable(Slot),
    /// The EFI partition has no image.
    NoImage,
    /// A slot that does not run cannot be known to be good.
    NotRunning(Slot),
    /// A start did not become healthy in time.
    Unhealthy {
        /// The running slot.
        slot: Slot,
        /// The missing part.
        what: &'static str,
        /// Time that it had.
        after_s: u64,
    },
    /// RAUC cannot be run, or failed.
    Rauc(String),
    /// The bundle is refused.
    Refused(Refusal, String),
    /// The unit that installs bundles did not take the request.
    NotTaken,
    /// The unit that installs bundles has failed, for this reason.
    Answered(String),
    /// The arguments name no slot or command.
    Arguments(String),
}

impl SlotError {
    /// A file that cannot be read or written.
    pub(super) fn file(path: &Path, err: io::Error) -> Self {
        Self::File(path.display().to_string(), err)
    }

    /// A file that does not have the content that it should have.
    pub(super) fn content(path: &Path, what: impl Into<String>) -> Self {
        Self::Content(path.display().to_string(), what.into())
    }

    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::File(..) => Fault::Disk,
            Self::Content(..) | Self::Digest { .. } | Self::Refused(..) => Fault::Bundle,
            Self::NotAppliance(..)
            | Self::NoLoader(..)
            | Self::Loader(_)
            | Self::NoFallback(_)
            | Self::NotStartable(_)
            | Self::NoImage
            | Self::NotRunning(_)
            | Self::Unhealthy { .. }
            | Self::Rauc(_)
            | Self::NotTaken
            | Self::Answered(_) => Fault::Machine,
            Self::Arguments(_) => Fault::Arguments,
        }
    }

    /// The reason for which a bundle is not installed that fails so when its kernel image is staged.
    pub(super) const fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal, _) => *refusal,
            _ => match self.fault() {
                Fault::Bundle => Refusal::Image,
                Fault::Disk | Fault::Machine | Fault::Arguments => Refusal::Installation,
            },
        }
    }
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, err) => write!(f, "{path}: {err}"),
            Self::Content(path, what) => write!(f, "{path}: {what}"),
            Self::Digest { path, found, expected } => {
                write!(f, "{path}: SHA-256 is {found}, {expected} was written")
            }
            Self::NotAppliance(path, err) => {
                write!(f, "{path}: {err}; this machine does not run the appliance image")
            }
            Self::NoLoader(path, err) => {
                write!(f, "{path}: {err}; was this machine started by systemd-boot?")
            }
            Self::NoFallback(slot) => {
                write!(f, "slot {slot} cannot be started: there is nothing to go back to")
            }
            Self::NotStartable(slot) => write!(f, "slot {slot} has no image that can be started"),
            Self::NoImage => f.write_str("the EFI partition has no image"),
            Self::NotRunning(slot) => {
                write!(f, "slot {slot} does not run: only what runs is known to be good")
            }
            Self::Unhealthy { slot, what, after_s } => {
                write!(f, "slot {slot} is not blessed: {what} after {after_s} s")
            }
            Self::Refused(reason, why) => write!(f, "refused ({reason}): {why}"),
            Self::NotTaken => f.write_str("the bundle was not picked up; is firmware-update.path active?"),
            Self::Loader(why) | Self::Rauc(why) | Self::Answered(why) | Self::Arguments(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for SlotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(_, err) | Self::NotAppliance(_, err) | Self::NoLoader(_, err) => Some(err),
            _ => None,
        }
    }
}

impl From<SlotError> for String {
    fn from(err: SlotError) -> Self {
        err.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_the_bundles_fault() {
        let disk = SlotError::File("EFI/skycache/x".to_owned(), io::ErrorKind::StorageFull.into());
        assert_eq!((disk.fault(), disk.refusal()), (Fault::Disk, Refusal::Installation));
        let bundle = SlotError::Content("uki.efi".to_owned(), "no PE".to_owned());
        assert_eq!((bundle.fault(), bundle.refusal()), (Fault::Bundle, Refusal::Image));
        let refused = SlotError::Refused(Refusal::FailedBefore, String::new());
        assert_eq!(refused.refusal(), Refusal::FailedBefore);
    }
}
