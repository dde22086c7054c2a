//! Description of a bundle beside RAUC's manifest, and the decision whether this box takes it.
//!
//! RAUC has verified the bundle's signature and hardware before; the description is under the same signature. RAUC 1.8 neither
//! compares versions nor writes files on the EFI partition.

use std::cmp::Ordering;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::name::is_version;
use super::version;

/// File of the description in a bundle.
pub(super) const DESCRIPTION: &str = "firmware.json";

carousel::limits! {
    /// Description of a bundle.
    const MAX_DESCRIPTION: u64 = 16 * 1024, "bytes" {
        why: "It has some 200.",
        full: "The bundle is refused as `description`.",
        free: "Holds for one bundle.",
        test: "a_description_is_read_or_refused",
    }
}

/// `firmware.json` of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// 1
    pub schema: u32,
    /// Hardware, as RAUC's `compatible`.
    pub compatible: String,
    pub version: String,
    /// Of `uki.efi`.
    pub efi_sha256: String,
    /// Signed as a downgrade: may be older than the running version.
    #[serde(default)]
    pub allow_downgrade: bool,
}

carousel::reasons! {
    /// Why a bundle is not installed. RAUC's own refusals come first.
    pub enum Refusal in "firmware_refused" by "reason" {
        /// The bundle is not signed by a trusted key.
        Signature = "signature",
        /// The bundle is not a bundle, or cut off: its end does not say where its signature is.
        Damaged = "damaged",
        /// This box has no keyring, and takes no updates.
        Keyring = "keyring",
        /// RAUC gave up for another reason, as its log says: the content does not have the signed hashes, the slot cannot be written.
        Installation = "installation",
        /// The bundle has no readable description.
        Description = "description",
        /// The bundle is for other hardware.
        Compatible = "compatible",
        /// The version has characters that an image's name cannot have, or is too long.
        Version = "version",
        /// The bundle is older than what runs, and not signed as a way back.
        Downgrade = "downgrade",
        /// The version already runs.
        Same = "same",
        /// The kernel image does not have the digest, or the version, that the description gives.
        Image = "image",
        /// This image was started until its tries ran out, or was rolled back by an operator.
        FailedBefore = "failed_before",
    }
}

/// The refusal that RAUC's messages report (checked with RAUC 1.8: their texts are not an interface, hence the last one).
pub(super) fn of_rauc(messages: &str) -> Refusal {
    let texts = [
        ("signature verification failed", Refusal::Signature),
        ("failed to load CA", Refusal::Keyring),
        ("Invalid bundle format", Refusal::Damaged),
    ];
    texts.into_iter().find(|(text, _)| messages.contains(text)).map_or(Refusal::Installation, |it| it.1)
}

/// Reads the description of a mounted bundle.
///
/// # Errors
/// The reason, and one line.
pub(super) fn read_description(bundle: &Path) -> Result<Description, (Refusal, String)> {
    let path = bundle.join(DESCRIPTION);
    let wrong = |why: String| (Refusal::Description, format!("{}: {why}", path.display()));
    let length = std::fs::metadata(&path).map_err(|err| wrong(err.to_string()))?.len();
    if length > MAX_DESCRIPTION {
        return Err(wrong(format!("{length} bytes are too many")));
    }
    let text = std::fs::read(&path).map_err(|err| wrong(err.to_string()))?;
    let description: Description = serde_json::from_slice(&text).map_err(|err| wrong(err.to_string()))?;
    if description.schema != 1 {
        return Err(wrong(format!("schema {} is not known to this version", description.schema)));
    }
    Ok(description)
}

/// Whether a box of this hardware that runs this version takes the bundle.
///
/// # Errors
/// The reason, and one line.
pub(super) fn check(it: &Description, compatible: &str, running: &str) -> Result<(), (Refusal, String)> {
    if it.compatible != compatible {
        let why = format!("the bundle is for {:?}, this is {compatible:?}", it.compatible);
        return Err((Refusal::Compatible, why));
    }
    if !is_version(&it.version) {
        return Err((Refusal::Version, format!("{:?} cannot be a version in a name", it.version)));
    }
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if it.efi_sha256.len() != 64 || !it.efi_sha256.bytes().all(is_digit) {
        return Err((Refusal::Description, "efi_sha256 is not 64 digits".to_owned()));
    }
    match version::compare(&it.version, running) {
        Ordering::Less if !it.allow_downgrade => {
            let why = format!("{} is older than {running}, and not signed as a way back", it.version);
            Err((Refusal::Downgrade, why))
        }
        Ordering::Equal => Err((Refusal::Same, format!("{} already runs", it.version))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            schema: 1,
            compatible: "skycache-x86_64".to_owned(),
            version: "1.5".to_owned(),
            efi_sha256: "0".repeat(64),
            allow_downgrade: false,
        }
    }

    fn reason(it: &Description, running: &str) -> Option<Refusal> {
        check(it, "skycache-x86_64", running).err().map(|it| it.0)
    }

    #[test]
    fn each_wrong_bundle_has_its_reason() {
        let good = description();
        assert_eq!(reason(&good, "1.4"), None);
        assert_eq!(reason(&good, "1.5~rc1"), None);
        assert_eq!(reason(&good, "1.5"), Some(Refusal::Same));
        assert_eq!(reason(&good, "1.10"), Some(Refusal::Downgrade));
        assert_eq!(reason(&Description { allow_downgrade: true, ..good.clone() }, "1.10"), None);
        let other = Description { compatible: "skycache-aarch64".to_owned(), ..good.clone() };
        assert_eq!(reason(&other, "1.4"), Some(Refusal::Compatible));
        let named = Description { version: "1.5_b+3".to_owned(), ..good.clone() };
        assert_eq!(reason(&named, "1.4"), Some(Refusal::Version));
        let digest = Description { efi_sha256: "../../x".to_owned(), ..good };
        assert_eq!(reason(&digest, "1.4"), Some(Refusal::Description));
    }

    /// Messages of `rauc info` of 1.8 about a bundle of another key, one cut off, one with a damaged signature, an empty one,
    /// and without its keyring.
    #[test]
    fn raucs_refusals_have_their_reasons() {
        let said = [
            ("signature verification failed: Verify error: self-signed certificate", Refusal::Signature),
            (
                "Invalid bundle format: Signature size (8578318793458725325) exceeds bundle size",
                Refusal::Damaged,
            ),
            ("Invalid bundle format: Signature data is no valid CMS", Refusal::Damaged),
            (
                "Invalid bundle format: Failed to seek to end of bundle: Error seeking in file: Invalid argument",
                Refusal::Damaged,
            ),
            ("failed to load CA file '/etc/rauc/keyring.pem' and/or directory '(null)'", Refusal::Keyring),
            ("Failed mounting bundle: failed to run mount", Refusal::Installation),
        ];
        for (line, reason) in said {
            let messages = format!("rauc-Message: 07:00:37.506: Verifying bundle signature... \n{line}\n");
            assert_eq!(of_rauc(&messages), reason, "{line}");
        }
    }

    #[test]
    fn a_description_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let read = || read_description(folder.path());
        assert_eq!(read().unwrap_err().0, Refusal::Description);
        let path = folder.path().join(DESCRIPTION);
        std::fs::write(&path, serde_json::to_vec(&description()).unwrap()).unwrap();
        assert_eq!(read().unwrap(), description());
        let newer = Description { schema: 2, ..description() };
        std::fs::write(&path, serde_json::to_vec(&newer).unwrap()).unwrap();
        assert!(read().unwrap_err().1.contains("schema 2"));
        let mut text = serde_json::to_vec(&description()).unwrap();
        text.resize(MAX_DESCRIPTION as usize, b' ');
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read().unwrap(), description());
        text.push(b' ');
        std::fs::write(&path, &text).unwrap();
        assert!(read().unwrap_err().1.contains("too many"));
    }
}
