//! A/B updates of an appliance: kernel images on the EFI partition, RAUC's custom bootloader backend, and updates that the
//! carousel offers ([`Updates`]).
//!
//! ```text
//! EFI/Linux/skycache_1.4_a.efi        healthy once: no counter
//! EFI/Linux/skycache_1.5_b+3.efi      armed: three tries left; the loader counts them down in the name
//! EFI/Linux/skycache_1.5_b+0-3.efi    three tries, none became healthy: taken only if there is nothing else
//! EFI/skycache/staged_1.6_DIGEST      complete and verified, not bootable
//! EFI/skycache/started_a              written by the initial RAM disk, removed once the start is healthy
//! ```
//!
//! All state is in names: no file's content says which slot is next, so that a power cut cannot corrupt it. An image gets its
//! bootable name by a rename, after its bytes were read back and compared with their digest, and after its slot was written.
//! `systemd-bless-boot` is masked: it blesses the image whose tries were counted down, which after a fallback within one power
//! cycle is the one that failed; [`esp::Esp::bless`] blesses the image that the loader reports to have started.

mod bundle;
mod command;
mod decide;
mod esp;
mod health;
mod installer;
mod lack;
mod name;
mod options;
mod pe;
mod report;
mod slot_error;
#[cfg(test)]
mod tests;
mod updates;
#[cfg(test)]
mod updates_tests;
mod version;

pub use bundle::Refusal;
pub use command::{
    Paths, RUN, backend, check_bundle, hand_over, install, is_appliance, mark_good, publish, rollback,
    status, take,
};
pub use decide::{Audience, BundleProgress, HoldReason};
pub use installer::{InstallError, Installer, Program};
pub use lack::{Lack, Own, PROGRAM_FIX};
pub use name::Slot;
pub use options::FirmwareOptions;
pub use report::report;
pub use slot_error::{Fault, SlotError};
pub use updates::{Bundle, Step, UpdateOutcome, Updates};
