//! Tests of `packaging/image`, without a machine, for mistakes that would brick a box with systemd-boot 252 and RAUC 1.8.

use std::path::PathBuf;

use super::bundle;

fn lists() -> PathBuf {
    crate::workspace().join("packaging/image")
}

fn text(name: &str) -> String {
    let path = lists().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Lines that say something.
fn lines(name: &str) -> Vec<String> {
    let text = text(name);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn has(name: &str, line: &str) -> bool {
    lines(name).iter().any(|it| it == line)
}

/// `systemd-bless-boot` blesses what was counted down, which after a fallback in one power cycle is the image that failed.
#[test]
fn nothing_but_the_product_blesses() {
    assert!(has("units.txt", "mask systemd-bless-boot.service"));
    assert!(has("drop.txt", "usr/lib/systemd/system-generators/systemd-bless-boot-generator"));
    assert!(has("units.txt", "enable firmware-health.service"));
}

/// A failed daemon or EFI partition must end the start, so that its try counts: `Requires=` would leave the unit unstarted.
#[test]
fn a_start_that_is_not_healthy_ends() {
    let unit = "root/usr/lib/systemd/system/firmware-health.service";
    assert!(has(unit, "FailureAction=reboot"));
    assert!(!lines(unit).iter().any(|it| it.starts_with("Requires")), "{unit}");
    let emergency = "root/usr/lib/systemd/system/emergency.service.d/50-skycache.conf";
    assert!(has(emergency, "SuccessAction=reboot-force") && has(emergency, "FailureAction=reboot-force"));
    assert!(text("cmdline.txt").split_whitespace().any(|it| it.starts_with("panic=")));
    assert!(
        lines("root/usr/lib/systemd/system.conf.d/50-skycache.conf")
            .iter()
            .any(|it| it.starts_with("RuntimeWatchdogSec="))
    );
}

/// An image that cannot be started hands back to the firmware: the loader stands once more in its order than there are tries
/// (3, `TRIES` of `daemon/src/firmware`).
#[test]
fn the_loader_stands_once_more_in_the_boot_order_than_there_are_tries() {
    let script = text("root/usr/lib/skycache/firmware-boot-order");
    assert!(script.contains("-lt 4 ]"), "{script}");
    let esp = crate::workspace().join("daemon/src/firmware/esp.rs");
    assert!(std::fs::read_to_string(esp).unwrap().contains("const TRIES: u32 = 3;"));
    assert!(has(
        "packages.txt",
        "efibootmgr              # the loader stands in the firmware's boot order more often than an image has tries"
    ));
}

/// `roothash=` makes the real root's generator wait for partitions; the automatic one would take slots for its own.
#[test]
fn systemd_does_not_look_for_the_root_itself() {
    let line = text("cmdline.txt");
    assert!(!line.contains("roothash=") && line.contains("systemd.gpt_auto=0"), "{line}");
}

/// Dependencies that modules.dep does not show to the initial RAM disk, and what PID 1 needs before modules-load.
#[test]
fn the_initial_ram_disk_has_what_the_slot_needs() {
    for module in [
        "reed_solomon.ko",
        "dm-verity.ko",
        "squashfs.ko",
        "nls_cp437.ko",
        "nls_ascii.ko",
        "vfat.ko",
        "efivarfs.ko",
    ] {
        let has = lines("initrd/modules.txt").iter().any(|it| it.ends_with(&format!("/{module}")));
        assert!(has, "{module}");
    }
}

/// RAUC 1.8: no backend for systemd-boot, raw slots by class as the bundle has them, no plain bundles.
#[test]
fn raucs_slots_are_those_of_the_bundle() {
    let name = "root/etc/rauc/system.conf";
    assert!(has(name, "bootloader=custom") && has(name, "bundle-formats=-plain"));
    assert!(has(name, "pre-install=/usr/lib/skycache/firmware-pre-install"));
    for (class, _) in bundle::IMAGES {
        for (number, slot) in ["a", "b"].into_iter().enumerate() {
            let at = lines(name).iter().position(|it| *it == format!("[slot.{class}.{number}]"));
            let section = &lines(name)[at.unwrap_or_else(|| panic!("no slot.{class}.{number}"))..][1..3];
            assert_eq!(section[0], format!("device=/dev/disk/by-partlabel/skycache_{class}_{slot}"));
            assert_eq!(section[1], "type=raw");
        }
    }
    assert!(has(
        "root/usr/lib/systemd/system/rauc.service.d/50-skycache.conf",
        "ExecStart=/usr/bin/rauc --override-boot-slot=${SLOT} service"
    ));
}

/// The package's file of options would count before `Environment=`, and the clock without a chip would stand at 1970.
#[test]
fn the_clock_goes_on_from_the_last_shutdown() {
    let unit = "root/usr/lib/systemd/system/chrony.service.d/50-skycache.conf";
    assert!(has(unit, "EnvironmentFile=") && has(unit, "Environment=DAEMON_OPTS=\"-F 1 -s\""));
}

/// Files of the EFI partition are root's alone, by the mount's umask: copied as they are, neither skycached nor networkd could read
/// them. chrony's StateDirectory= fails on a link.
#[test]
fn what_is_copied_can_be_read_by_its_reader() {
    let script = text("root/usr/lib/skycache/firmware-configuration");
    assert!(script.contains("root:skycache 640; done") && script.contains("root:root 644; done"), "{script}");
    assert!(!text("root/usr/lib/tmpfiles.d/skycache-appliance.conf").contains("L /var/lib/chrony"));
    assert!(has("root/etc/chrony/chrony.conf", "driftfile /config/chrony/drift"));
}

/// The daemon has no rights on the slots, and a unit that is refused must not restart the machine.
#[test]
fn an_update_that_is_handed_over_is_installed_by_root_and_tried_at_once() {
    assert!(has("units.txt", "enable firmware-update.path"));
    let request = "/run/skycache/firmware-request";
    assert!(has("root/usr/lib/systemd/system/firmware-update.path", &format!("PathExists={request}")));
    let daemon = crate::workspace().join("daemon/src/firmware/command.rs");
    assert!(std::fs::read_to_string(daemon).unwrap().contains(&format!("request: \"{request}\".into()")));
    let unit = "root/usr/lib/systemd/system/firmware-update.service";
    assert!(has(unit, "ExecStart=/usr/bin/skycached firmware take") && has(unit, "SuccessAction=reboot"));
    assert!(!lines(unit).iter().any(|it| it.starts_with("FailureAction")));
    let install = "install = [\"/usr/bin/skycached\", \"firmware\", \"hand-over\"]";
    assert!(has("root/usr/lib/skycache/appliance.toml", install));
    let script = text("root/usr/lib/skycache/firmware-configuration");
    assert!(script.contains("take /usr/lib/skycache/appliance.toml $to/00-appliance.toml root:skycache 640"));
}

/// Open ports are documented, and there is no login.
#[test]
fn what_is_open_is_documented() {
    let rules = lines("root/etc/nftables.conf");
    let guide = std::fs::read_to_string(crate::workspace().join("docs/appliance.md")).unwrap();
    for port in rules.iter().filter_map(|it| it.strip_prefix("tcp dport ")?.strip_suffix(" accept")) {
        assert!(guide.contains(&format!("| TCP {port} |")), "{port}");
    }
    assert_eq!(rules.iter().filter(|it| it.contains("policy drop")).count(), 2);
    // One name that cannot be looked up, and none of the rules is loaded: the root has no /etc/protocols.
    let named = rules.iter().find(|it| it.contains("l4proto") && !it.contains("l4proto { 1, 2, 58 }"));
    assert_eq!(named, None);
    let health = "root/usr/lib/systemd/system/firmware-health.service";
    assert!(has(health, "ExecStartPre=/usr/bin/systemctl is-active --quiet nftables.service"));
    for unit in ["getty.target", "serial-getty@.service", "autovt@.service"] {
        assert!(has("units.txt", &format!("mask {unit}")), "{unit}");
    }
    assert!(!lines("packages.txt").iter().any(|it| it.contains("ssh")));
}
