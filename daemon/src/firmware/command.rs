//! `skycached firmware …`: commands for operators, units and RAUC.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use carousel::digest::to_hex;
use serde_json::{Value, json};

use super::bundle::{self, Description, Refusal};
use super::esp::{Esp, Folder};
use super::health;
use super::lack::Own;
use super::name::{ImageName, Slot};
use super::pe;
use super::report::{self, Counters};
use super::slot_error::SlotError;
use crate::clock;

/// Interval at which the health of a start is checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest installation of a bundle by root's unit.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(3000);
/// File name of the answer to a request.
const ANSWER: &str = "answer.json";

/// Folder of the files that the initial RAM disk and root's commands write.
pub const RUN: &str = "/run/firmware";

/// Places of the appliance's files; others in tests.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The mounted EFI partition.
    pub esp: PathBuf,
    /// EFI variables.
    pub efivars: PathBuf,
    /// Folder of the files that the initial RAM disk writes.
    pub run: PathBuf,
    /// File with `IMAGE_VERSION`.
    pub os_release: PathBuf,
    /// File with `compatible`.
    pub system_conf: PathBuf,
    /// Partitions by their labels.
    pub partitions: PathBuf,
    /// Counters of bundles, on the configuration partition.
    pub counters: PathBuf,
    /// Request of the daemon to install a bundle.
    pub request: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            esp: "/efi".into(),
            efivars: "/sys/firmware/efi/efivars".into(),
            run: RUN.into(),
            os_release: "/etc/os-release".into(),
            system_conf: "/etc/rauc/system.conf".into(),
            partitions: "/dev/disk/by-partlabel".into(),
            counters: "/config/firmware.json".into(),
            request: "/run/skycache/firmware-request".into(),
        }
    }
}

impl Paths {
    fn esp(&self) -> Esp<Folder> {
        Esp::new(Folder(self.esp.clone()))
    }

    fn version(&self) -> Result<String, SlotError> {
        assignment(&self.os_release, "IMAGE_VERSION")
    }

    fn compatible(&self) -> Result<String, SlotError> {
        assignment(&self.system_conf, "compatible")
    }

    /// Hardware and version of this system, as far as its files give them.
    #[must_use]
    pub fn own(&self) -> Own {
        Own { compatible: self.compatible().ok(), version: self.version().ok() }
    }

    /// UUID of the hash tree in a slot.
    fn tree(&self, slot: Slot) -> Result<String, SlotError> {
        let path = self.partitions.join(format!("skycache_hash_{slot}"));
        let mut superblock = [0; 32];
        std::fs::File::open(&path)
            .and_then(|mut it| it.read_exact(&mut superblock))
            .map_err(|err| SlotError::file(&path, err))?;
        if &superblock[..8] != b"verity\0\0" {
            return Err(SlotError::content(&path, "no hash tree"));
        }
        Ok(to_hex(&superblock[16..]))
    }
}

/// Value of `KEY=VALUE` in a file of such lines.
fn assignment(path: &Path, key: &str) -> Result<String, SlotError> {
    let text = std::fs::read_to_string(path).map_err(|err| SlotError::file(path, err))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = value.map(|it| it.trim().trim_matches('"').to_owned());
    value.ok_or_else(|| SlotError::content(path, format!("no {key}=")))
}

fn state(image: &ImageName) -> &'static str {
    match image.tries {
        None => "good",
        Some(_) if image.is_startable() => "on_trial",
        Some(_) if image.has_failed() => "failed",
        Some(_) => "disarmed",
    }
}

/// Whether this machine runs the appliance's image.
#[must_use]
pub fn is_appliance(paths: &Paths) -> bool {
    health::running_slot(&paths.run).is_ok()
}

/// Slots, images and which of them is next.
///
/// # Errors
/// As for all of these: this is not an appliance, or a file cannot be read or written.
pub fn status(paths: &Paths) -> Result<Value, SlotError> {
    let running = health::running_slot(&paths.run)?;
    let images = paths.esp().images()?;
    let listed: Vec<Value> = images
        .iter()
        .map(|it| {
            json!({
                "name": it.to_string(), "version": it.version, "slot": it.slot.as_str(), "state": state(it),
                "tries_left": it.tries.map(|tries| tries.left), "tries_done": it.tries.map(|tries| tries.done),
            })
        })
        .collect();
    let counters = Counters::load(&paths.counters);
    Ok(json!({
        "schema": 1,
        "version": paths.version()?,
        "compatible": paths.compatible()?,
        "running": running.as_str(),
        "started": health::selected_entry(&paths.efivars).ok(),
        "next": images.first().map(|it| it.slot.as_str()),
        "images": listed,
        "installed": counters.installed,
        "refused": counters.refused,
    }))
}

/// Writes the status for the daemon, which may not read the EFI partition. Does nothing on other systems than the
/// appliance.
pub fn publish(paths: &Paths) {
    let Ok(status) = status(paths) else { return };
    if let Err(err) = report::leave(&paths.run, &status) {
        tracing::warn!("{}: {err}; the daemon shows the slots as they were", paths.run.display());
    }
}

/// Blesses the running image once the daemon is READY and answers players, within `wait`.
///
/// # Errors
/// Also if it does not become healthy in time.
pub fn mark_good(paths: &Paths, listen: SocketAddr, wait: Duration) -> Result<Value, SlotError> {
    mark_good_when(paths, wait, || health::ailment(listen))
}

fn mark_good_when(
    paths: &Paths,
    wait: Duration,
    mut ailment: impl FnMut() -> Option<&'static str>,
) -> Result<Value, SlotError> {
    let running = health::running_slot(&paths.run)?;
    let selected = health::selected_entry(&paths.efivars)?;
    let until = clock::now() + wait;
    while let Some(what) = ailment() {
        if clock::now() >= until {
            return Err(SlotError::Unhealthy { slot: running, what, after_s: wait.as_secs() });
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    let blessed = paths.esp().bless(&selected, running)?;
    Ok(json!({ "schema": 1, "blessed": blessed.to_string() }))
}

/// Makes the other slot the next one, and forbids the running image until it changes.
///
/// # Errors
/// Also if the other slot cannot be started.
pub fn rollback(paths: &Paths) -> Result<Value, SlotError> {
    let running = health::running_slot(&paths.run)?;
    let mut esp = paths.esp();
    esp.reject(running)?;
    Ok(json!({ "schema": 1, "next": esp.primary()?.map(Slot::as_str) }))
}

/// Description of a bundle by `rauc info`, and the reason for which this box would refuse it.
fn examine(paths: &Paths, bundle: &Path) -> Result<(Description, Option<(Refusal, String)>), SlotError> {
    std::fs::metadata(bundle).map_err(|err| SlotError::file(bundle, err))?;
    let mut info = Command::new("rauc");
    info.arg("--conf").arg(&paths.system_conf).args(["info", "--output-format=json"]).arg(bundle);
    let output = info.output().map_err(|err| SlotError::Rauc(format!("rauc: {err}")))?;
    let mut described = Description {
        schema: 1,
        compatible: String::new(),
        version: String::new(),
        // This and whether it is signed as a downgrade are read from the bundle when it is mounted.
        efi_sha256: "0".repeat(64),
        allow_downgrade: false,
    };
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        let why = messages.lines().last().unwrap_or("rauc refuses the bundle").to_owned();
        return Ok((described, Some((bundle::of_rauc(&messages), why))));
    }
    let told: Value =
        serde_json::from_slice(&output.stdout).map_err(|err| SlotError::Rauc(format!("rauc info: {err}")))?;
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    (described.compatible, described.version) = (text("compatible"), text("version"));
    let verdict = bundle::check(&described, &paths.compatible()?, &paths.version()?);
    Ok((described, verdict.err()))
}

/// Whether this box would take a bundle. RAUC verifies its signature; the content is verified while it is installed.
///
/// # Errors
/// If the bundle cannot be read, or there is no RAUC. A refusal is not an error.
pub fn check_bundle(paths: &Paths, bundle: &Path) -> Result<Value, SlotError> {
    let (described, refusal) = examine(paths, bundle)?;
    let (reason, why) = refusal.map_or((None, None), |(reason, why)| (Some(reason.as_str()), Some(why)));
    Ok(json!({
        "schema": 1, "compatible": described.compatible, "version": described.version,
        "accepted": reason.is_none(), "reason": reason, "why": why,
    }))
}

/// Hands a bundle to RAUC, which calls [`backend`].
///
/// # Errors
/// The reason of a refusal, which is counted, or that RAUC failed.
pub fn install(paths: &Paths, bundle: &Path) -> Result<Value, SlotError> {
    let (described, refusal) = examine(paths, bundle)?;
    // Only the mounted bundle says whether it is signed as a downgrade.
    if let Some((reason, why)) = refusal.filter(|(reason, _)| *reason != Refusal::Downgrade) {
        report::count(&paths.counters, Some(reason));
        return Err(SlotError::Refused(reason, why));
    }
    let refused_before = Counters::load(&paths.counters).total_refused();
    let status = Command::new("rauc").arg("install").arg(bundle).stdout(std::process::Stdio::null()).status();
    let status = status.map_err(|err| SlotError::Rauc(format!("rauc: {err}")))?;
    if !status.success() {
        // A refusal by `stage` was counted with its reason.
        if Counters::load(&paths.counters).total_refused() == refused_before {
            report::count(&paths.counters, Some(Refusal::Installation));
        }
        let why = format!("rauc install: {status}; its log has the reason: journalctl -u rauc");
        return Err(SlotError::Rauc(why));
    }
    report::count(&paths.counters, None);
    let next = paths.esp().primary()?.map(Slot::as_str);
    Ok(json!({ "schema": 1, "installed": described.version, "next": next }))
}

/// Writes a request to root's unit, which installs the bundle, and waits for its answer.
///
/// # Errors
/// Why the bundle was not installed.
pub fn hand_over(paths: &Paths, bundle: &Path) -> Result<(), SlotError> {
    let answer = paths.run.join(ANSWER);
    // The result of this request, not of an earlier one; the folder is root's.
    let id = format!("{}-{}", std::process::id(), clock::wall().unix_ms());
    let request = json!({ "schema": 1, "id": id, "bundle": bundle.display().to_string() });
    crate::sys::replace(&paths.request, request.to_string().as_bytes())
        .map_err(|err| SlotError::file(&paths.request, err))?;
    let begun = clock::now();
    while clock::now().since(begun) < HAND_OVER_PATIENCE {
        let said = report::bounded(&answer).and_then(|it| serde_json::from_slice::<Value>(&it).ok());
        if let Some(said) = said.filter(|it| it["id"] == id) {
            return match said["why"].as_str() {
                None => Ok(()),
                Some(why) => Err(SlotError::Answered(why.to_owned())),
            };
        }
        clock::sleep(LOOK_INTERVAL);
    }
    // The link must not be used later for another bundle.
    let _ = std::fs::remove_file(&paths.request);
    Err(SlotError::NotTaken)
}

/// Installs the bundle of the request, and writes the answer.
///
/// # Errors
/// There is no request, or why the bundle was not installed.
pub fn take(paths: &Paths) -> Result<(), SlotError> {
    let request = report::bounded(&paths.request)
        .and_then(|it| serde_json::from_slice::<Value>(&it).ok())
        .ok_or_else(|| SlotError::content(&paths.request, "no request"));
    // The unit is started while this file exists.
    let _ = std::fs::remove_file(&paths.request);
    let request = request?;
    let bundle = request["bundle"].as_str().unwrap_or_default();
    let result = install(paths, Path::new(bundle)).map(|_| ());
    let answer =
        json!({ "schema": 1, "id": request["id"], "why": result.as_ref().err().map(ToString::to_string) });
    let path = paths.run.join(ANSWER);
    crate::sys::replace(&path, answer.to_string().as_bytes()).map_err(|err| SlotError::file(&path, err))?;
    result
}

/// Checks a mounted bundle and puts its kernel image on the EFI partition, without a bootable name.
fn stage(paths: &Paths, bundle: &Path) -> Result<(), SlotError> {
    let refused = |(reason, why): (Refusal, String)| SlotError::Refused(reason, why);
    let description = bundle::read_description(bundle).map_err(refused)?;
    bundle::check(&description, &paths.compatible()?, &paths.version()?).map_err(refused)?;
    let path = bundle.join("uki.efi");
    let open = || std::fs::File::open(&path).map_err(|err| SlotError::file(&path, err));
    let image = pe::read(&mut open()?).map_err(|why| SlotError::content(&path, why))?;
    if image.version != description.version {
        let what = format!("IMAGE_VERSION is {}, not {}", image.version, description.version);
        return Err(SlotError::content(&path, what));
    }
    let mut esp = paths.esp();
    if esp.has_failed(&description.efi_sha256)? {
        let why = format!("{} has failed on this box, or was rolled back", description.version);
        return Err(SlotError::Refused(Refusal::FailedBefore, why));
    }
    esp.stage(&description.version, &description.efi_sha256, &mut open()?)
}

fn slot_of(name: &str) -> Result<Slot, SlotError> {
    name.parse().map_err(SlotError::Arguments)
}

/// Commands of RAUC to its bootloader backend, and `stage BUNDLE`, its handler before an installation. The result is for
/// stdout.
///
/// # Errors
/// RAUC shows the line in its log and gives up.
pub fn backend(paths: &Paths, arguments: &[String]) -> Result<String, SlotError> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut esp = paths.esp();
    match arguments[..] {
        ["get-primary"] => {
            let slot = esp.primary()?.ok_or(SlotError::NoImage)?;
            Ok(format!("{slot}\n"))
        }
        ["set-primary", slot] => {
            let slot = slot_of(slot)?;
            esp.arm(slot, &paths.tree(slot)?)?;
            Ok(String::new())
        }
        ["get-state", slot] => Ok(if esp.is_good(slot_of(slot)?)? { "good\n" } else { "bad\n" }.to_owned()),
        ["set-state", slot, "bad"] => esp.disarm(slot_of(slot)?).map(|()| String::new()),
        ["set-state", slot, "good"] => {
            let slot = slot_of(slot)?;
            if health::running_slot(&paths.run)? != slot {
                return Err(SlotError::NotRunning(slot));
            }
            esp.bless(&health::selected_entry(&paths.efivars)?, slot).map(|_| String::new())
        }
        ["stage", bundle] => match stage(paths, Path::new(bundle)) {
            Ok(()) => Ok(String::new()),
            Err(err) => {
                let reason = err.refusal();
                report::count(&paths.counters, Some(reason));
                Err(match err {
                    SlotError::Refused(..) => err,
                    err => SlotError::Refused(reason, err.to_string()),
                })
            }
        },
        _ => Err(SlotError::Arguments(format!(
            "backend {}: not known; get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, stage BUNDLE",
            arguments.join(" ")
        ))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A box with version 1.4 in slot A, on which 1.5 was written into B.
    fn appliance(root: &Path) -> Paths {
        let paths = Paths {
            esp: root.join("efi"),
            efivars: root.join("efivars"),
            run: root.join("run"),
            os_release: root.join("os-release"),
            system_conf: root.join("system.conf"),
            partitions: root.join("partitions"),
            counters: root.join("firmware.json"),
            request: root.join("request"),
        };
        for folder in ["efi/EFI/Linux", "efi/EFI/skycache", "efivars", "run", "partitions", "bundle"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
        write("os-release", b"ID=skycache\nIMAGE_VERSION=\"1.4\"\n");
        write("system.conf", b"[system]\ncompatible=skycache-x86_64\n");
        write("efi/EFI/Linux/skycache_1.4_a.efi", b"A");
        write("efi/EFI/skycache/started_a", b"");
        write("run/slot", b"a\n");
        select(&paths, "skycache_1.4_a.efi");
        let mut superblock = b"verity\0\0\x01\0\0\0\x01\0\0\0".to_vec();
        superblock.extend([0xab; 16]);
        write("partitions/skycache_hash_b", &superblock);
        paths
    }

    fn select(paths: &Paths, name: &str) {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        let file = "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
        std::fs::write(paths.efivars.join(file), bytes).unwrap();
    }

    fn put_bundle(root: &Path, version: &str, image_version: &str) -> String {
        let osrel = format!("IMAGE_VERSION={image_version}\n");
        let cmdline = format!("skycache.verity={}", "ab".repeat(32));
        let uki = pe::write(&[(".osrel", &osrel), (".cmdline", &cmdline)]);
        let described = Description {
            schema: 1,
            compatible: "skycache-x86_64".to_owned(),
            version: version.to_owned(),
            efi_sha256: super::super::esp::digest(&mut uki.as_slice()).unwrap(),
            allow_downgrade: false,
        };
        std::fs::write(root.join("bundle/uki.efi"), uki).unwrap();
        let text = serde_json::to_vec(&described).unwrap();
        std::fs::write(root.join("bundle/firmware.json"), text).unwrap();
        root.join("bundle").display().to_string()
    }

    fn call(paths: &Paths, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        backend(paths, &arguments).map_err(|err| err.to_string())
    }

    fn names(paths: &Paths) -> Vec<String> {
        paths.esp().images().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_update_is_staged_armed_tried_and_blessed() {
        let root = tempfile::tempdir().unwrap();
        let paths = appliance(root.path());
        assert_eq!(call(&paths, &["get-primary"]).unwrap(), "a\n");
        assert_eq!(call(&paths, &["get-state", "b"]).unwrap(), "bad\n");
        let bundle = put_bundle(root.path(), "1.5", "1.5");
        call(&paths, &["stage", &bundle]).unwrap();
        assert_eq!(call(&paths, &["get-primary"]).unwrap(), "a\n", "staged is not bootable");
        call(&paths, &["set-state", "b", "bad"]).unwrap();
        call(&paths, &["set-primary", "b"]).unwrap();
        assert_eq!(names(&paths), ["skycache_1.5_b+3.efi", "skycache_1.4_a.efi"]);
        assert_eq!(call(&paths, &["get-primary"]).unwrap(), "b\n");
        assert_eq!(status(&paths).unwrap()["images"][0]["state"], "on_trial");
        assert!(call(&paths, &["set-state", "b", "good"]).is_err(), "it has not run");

        // The loader counts a try down and starts it.
        let linux = paths.esp.join("EFI/Linux");
        std::fs::rename(linux.join("skycache_1.5_b+3.efi"), linux.join("skycache_1.5_b+2-1.efi")).unwrap();
        std::fs::write(paths.run.join("slot"), "b\n").unwrap();
        select(&paths, "skycache_1.5_b+3.efi");
        let ill = mark_good_when(&paths, Duration::ZERO, || Some("ill")).unwrap_err();
        assert_eq!(ill.to_string(), "slot b is not blessed: ill after 0 s");
        assert_eq!(names(&paths)[0], "skycache_1.5_b+2-1.efi");
        std::fs::write(paths.esp.join("EFI/skycache/started_b"), "").unwrap();
        mark_good_when(&paths, Duration::ZERO, || None).unwrap();
        assert_eq!(names(&paths), ["skycache_1.5_b.efi", "skycache_1.4_a.efi"]);
        assert!(!paths.esp.join("EFI/skycache/started_b").exists());

        let back = rollback(&paths).unwrap();
        assert_eq!(back["next"], "a");
        assert_eq!(names(&paths), ["skycache_1.4_a.efi", "skycache_1.5_b+0-1.efi"]);
        let again = call(&paths, &["stage", &bundle]).unwrap_err();
        assert!(again.starts_with("refused (failed_before)"), "{again}");

        publish(&paths);
        let report = report::report(&paths.run).unwrap();
        assert_eq!(report["refused"]["failed_before"], 1, "{report}");
        assert_eq!((&report["next"], &report["images"][1]["state"]), (&json!("a"), &json!("failed")));
    }

    #[test]
    fn after_a_fallback_what_failed_is_not_blessed() {
        let root = tempfile::tempdir().unwrap();
        let paths = appliance(root.path());
        // The loader counted 1.5 down in this power cycle, then took 1.4.
        std::fs::write(paths.esp.join("EFI/Linux/skycache_1.5_b+0-3.efi"), "B").unwrap();
        mark_good_when(&paths, Duration::ZERO, || None).unwrap();
        assert_eq!(names(&paths), ["skycache_1.4_a.efi", "skycache_1.5_b+0-3.efi"]);
        select(&paths, "skycache_1.5_b+0-3.efi");
        assert!(
            mark_good_when(&paths, Duration::ZERO, || None).unwrap_err().to_string().contains("slot a runs")
        );
        assert!(rollback(&paths).unwrap_err().to_string().contains("nothing to go back to"));
    }

    #[test]
    fn a_bundle_that_is_handed_over_is_answered_for() {
        let root = tempfile::tempdir().unwrap();
        let paths = appliance(root.path());
        assert!(take(&paths).unwrap_err().to_string().contains("no request"));
        let asked = paths.clone();
        let asking = std::thread::spawn(move || hand_over(&asked, Path::new("/none/such.raucb")));
        while !paths.request.exists() {
            clock::sleep(Duration::from_millis(5));
        }
        // Without RAUC, or without a bundle: either way it is not installed, and both sides say why.
        let why = take(&paths).unwrap_err().to_string();
        assert_eq!(asking.join().unwrap().unwrap_err().to_string(), why);
        assert!(!paths.request.exists());
    }

    #[test]
    fn what_is_not_consistent_is_not_armed() {
        let root = tempfile::tempdir().unwrap();
        let paths = appliance(root.path());
        let wrong = call(&paths, &["stage", &put_bundle(root.path(), "1.5", "1.6")]).unwrap_err();
        assert!(wrong.starts_with("refused (image)"), "{wrong}");
        let bundle = put_bundle(root.path(), "1.5", "1.5");
        let path = root.path().join("bundle/uki.efi");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() = b'0';
        std::fs::write(&path, &bytes).unwrap();
        assert!(call(&paths, &["stage", &bundle]).unwrap_err().contains("SHA-256"));
        let bundle = put_bundle(root.path(), "1.5", "1.5");
        call(&paths, &["stage", &bundle]).unwrap();
        // The slot holds another tree than the image opens: RAUC was cut off, or wrote another file.
        let tree = root.path().join("partitions/skycache_hash_b");
        let mut superblock = std::fs::read(&tree).unwrap();
        superblock[20] ^= 1;
        std::fs::write(&tree, superblock).unwrap();
        assert!(call(&paths, &["set-primary", "b"]).unwrap_err().contains("another image's"));
        assert_eq!(names(&paths), ["skycache_1.4_a.efi"]);
        for wrong in [&["set-primary", "c"][..], &["get-state"], &["set-state", "a", "worse"], &[]] {
            assert!(call(&paths, wrong).is_err(), "{wrong:?}");
        }
    }
}
