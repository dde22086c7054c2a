//! `cargo xtask tryout`: tests of the packages in clean roots, under systemd, with little memory, and with the tools that read
//! them. The tests are the scripts of `packaging/tryout`; this finds the packages and prepares a folder.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::install::install;
use crate::{run, workspace};

/// Where packages are tried.
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
    /// The whole build a second time, elsewhere, byte for byte
    Repeat,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Everything but the second build, if nothing is named
    places: Vec<Place>,
    /// Debian architectures
    #[arg(long, value_delimiter = ',', default_values = ["amd64", "arm64", "armhf"])]
    arch: Vec<String>,
    /// What `dist` has made
    #[arg(long, value_name = "DIR", default_value = "target/dist/packages")]
    packages: PathBuf,
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

pub(crate) fn run_scripts(arguments: &Arguments) -> Result<(), String> {
    let workspace = workspace().canonicalize().map_err(|err| format!("the workspace: {err}"))?;
    let packages = workspace.join(&arguments.packages);
    if !packages.exists() {
        return Err(format!("{}: not there; `cargo xtask dist` makes packages", packages.display()));
    }
    install(&NEEDED);
    let work = workspace.join("target/dist/tryout");
    std::fs::create_dir_all(&work).map_err(|err| format!("{}: {err}", work.display()))?;
    let default = [Place::Deb, Place::Boot, Place::Memory, Place::Feeds, Place::Monitoring];
    let places = if arguments.places.is_empty() { &default[..] } else { &arguments.places };
    // A network of its own: packages are tried where nobody else listens or sends.
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
            Place::Repeat => {
                run(Command::new(workspace.join("packaging/tryout/repeat.sh")).arg(&packages).arg(&work))?;
            }
        }
    }
    Ok(())
}
