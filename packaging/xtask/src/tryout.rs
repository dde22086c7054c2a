//! `cargo xtask tryout`: tests of the packages in clean roots, under systemd, with little memory, and with the tools that read
//! them. The tests are the scripts of `packaging/tryout`; this module finds the packages and prepares a folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::fleet::{self, FleetArguments};
use crate::install::{apt, install, python_program};
use crate::{cargo, run, target_dir, workspace};

/// Systems on which packages are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// Clean Debian roots: install, receive, serve, upgrade, downgrade, remove, purge
    Deb,
    /// systemd as init: notify, restart under load, reload, watchdog, exposure
    Boot,
    /// 64 MB of memory
    Memory,
    /// .ipk and .apk by their own tools, where they are installed, and by their formats
    Feeds,
    /// Prometheus and Alertmanager beside a live cache: which alert fires how soon
    Monitoring,
    /// The appliance's disk image in QEMU under OVMF, by software emulation: to the first cached segment over HTTP
    Image,
    /// Bundles of Debian's RAUC: which the appliance takes, and the reason for which it refuses the others
    Bundle,
    /// The admin interface of a live daemon against docs/openapi.json, by schemathesis and a validator; needs no package
    Api,
    /// Three edges, two shields, an origin and a broker of Kafka in network namespaces: purges, losses of nodes, players that
    /// compare every byte; needs no package
    Fleet,
    /// The whole build a second time, elsewhere, byte for byte
    Repeat,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Everything but the disk image, bundles, the admin interface, the fleet and the second build, if nothing is named
    places: Vec<Place>,
    /// Debian architectures
    #[arg(long, value_delimiter = ',', default_values = ["amd64", "arm64", "armhf"])]
    arch: Vec<String>,
    /// What `dist` has made
    #[arg(long, value_name = "DIR", default_value = "target/dist/packages")]
    packages: PathBuf,
    #[command(flatten)]
    fleet: FleetArguments,
}

/// Programs that the scripts need, and the Debian packages that have them.
const NEEDED: [(&str, &str); 6] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("nsenter", "util-linux"),
];

const NEEDED_FOR_IMAGE: [(&str, &str); 4] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("mcopy", "mtools"), ("sfdisk", "fdisk"), ("curl", "curl")];

const NEEDED_FOR_BUNDLE: [(&str, &str); 2] = [("rauc", "rauc"), ("openssl", "openssl")];
/// The programs as they are in the tree, with tools of the Python registry.
fn api(workspace: &Path) -> Result<(), String> {
    run(cargo().args(["build", "--quiet", "-p", "skycache", "-p", "skycache-headend"]))?;
    let validator = python_program("openapi-spec-validator", "openapi-spec-validator==0.9.0")?;
    let schemathesis = python_program("schemathesis", "schemathesis==4.32.5")?;
    let mut script = Command::new(workspace.join("packaging/tryout/api.sh"));
    run(script.arg(workspace).arg(target_dir().join("debug")).arg(validator).arg(schemathesis))
}

pub(crate) fn run_scripts(arguments: &Arguments) -> Result<(), String> {
    let workspace = workspace().canonicalize().map_err(|err| format!("the workspace: {err}"))?;
    let packages = workspace.join(&arguments.packages);
    if arguments.places.contains(&Place::Api) {
        println!("== {:?}", Place::Api);
        api(&workspace)?;
        if arguments.places.len() == 1 {
            return Ok(());
        }
    }
    if arguments.places.contains(&Place::Fleet) {
        println!("== {:?}", Place::Fleet);
        fleet::try_out(&workspace, &arguments.fleet)?;
        if arguments.places.iter().all(|it| matches!(it, Place::Api | Place::Fleet)) {
            return Ok(());
        }
    }
    if !packages.exists() && arguments.places != [Place::Bundle] {
        return Err(format!("{}: not there; `cargo xtask dist` makes packages", packages.display()));
    }
    match arguments.places[..] {
        [Place::Image] => install(&NEEDED_FOR_IMAGE),
        [Place::Bundle] => install(&NEEDED_FOR_BUNDLE),
        _ => install(&NEEDED),
    }
    let work = workspace.join("target/dist/tryout");
    std::fs::create_dir_all(&work).map_err(|err| format!("{}: {err}", work.display()))?;
    let default = [Place::Deb, Place::Boot, Place::Memory, Place::Feeds, Place::Monitoring];
    let places = if arguments.places.is_empty() { &default[..] } else { &arguments.places };
    // A network of its own: packages are tried without other listeners and senders.
    let script = |name: &str| {
        let mut command = Command::new("unshare");
        let prepare =
            "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec \"$0\" \"$@\"";
        command.args(["--net", "sh", "-c", prepare]).arg(workspace.join("packaging/tryout").join(name));
        command
    };
    for place in places {
        println!("== {place:?}");
        match place {
            Place::Deb => {
                for arch in &arguments.arch {
                    run(script("deb.sh").arg(&packages).arg(arch).arg(&work))?;
                }
            }
            Place::Boot => {
                for arch in arguments.arch.iter().filter(|arch| *arch == "amd64") {
                    run(script("boot.sh").arg(&packages).arg(arch).arg(&work))?;
                }
            }
            Place::Memory => run(script("memory.sh").arg(&packages).arg(&work))?,
            Place::Feeds => run(script("feeds.sh").arg(&packages).arg(&work))?,
            Place::Monitoring => run(script("monitoring.sh").arg(&packages).arg(&work))?,
            Place::Image => {
                if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
                    apt(&["ovmf"])?;
                }
                let image = newest_image(&packages)?;
                let headend = program("skycache-headend", "headend")?;
                run(script("image.sh").arg(image).arg(&work).arg(headend))?;
            }
            Place::Bundle => {
                let skycached = program("skycache", "skycached")?;
                let mut command = Command::new("unshare");
                command.arg("--mount").arg(workspace.join("packaging/tryout/bundle.sh"));
                run(command.arg(skycached).arg(&work))?;
            }
            // Before the others.
            Place::Api | Place::Fleet => {}
            Place::Repeat => {
                run(Command::new(workspace.join("packaging/tryout/repeat.sh")).arg(&packages).arg(&work))?;
            }
        }
    }
    Ok(())
}

/// A program of this workspace, of cargo's dev profile.
fn program(package: &str, name: &str) -> Result<PathBuf, String> {
    run(cargo().args(["build", "--quiet", "-p", package, "--bin", name]))?;
    Ok(target_dir().join("debug").join(name))
}

/// The disk image of `dist image` for x86_64 that was made last.
fn newest_image(packages: &Path) -> Result<PathBuf, String> {
    let failed = |err: std::io::Error| format!("{}: {err}", packages.display());
    let entries = std::fs::read_dir(packages).map_err(failed)?.filter_map(Result::ok);
    let images = entries.filter(|it| it.file_name().to_string_lossy().ends_with("-amd64.img"));
    let newest = images.max_by_key(|it| it.metadata().and_then(|it| it.modified()).ok());
    newest.map(|it| it.path()).ok_or_else(|| {
        format!("{}: no disk image; `cargo xtask dist image --cpu x86_64`", packages.display())
    })
}
