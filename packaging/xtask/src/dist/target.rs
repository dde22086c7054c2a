//! Build targets, and each distribution's name for them.

use clap::ValueEnum;

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cpu {
    /// Servers and edge PoPs
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit boxes
    Aarch64,
    /// 32-bit boxes with hardware floating point
    Armv7,
}

/// A C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Libc {
    /// glibc 2.28 or later: Debian 10 and Ubuntu 20.04 have it.
    Gnu,
    /// musl, linked in: runs on any Linux.
    Musl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) cpu: Cpu,
    pub(crate) libc: Libc,
}

/// The oldest glibc that programs run with.
pub(crate) const GLIBC: &str = "2.28";

impl Target {
    /// As rustc calls it.
    pub(crate) const fn triple(self) -> &'static str {
        match (self.cpu, self.libc) {
            (Cpu::X86_64, Libc::Gnu) => "x86_64-unknown-linux-gnu",
            (Cpu::X86_64, Libc::Musl) => "x86_64-unknown-linux-musl",
            (Cpu::Aarch64, Libc::Gnu) => "aarch64-unknown-linux-gnu",
            (Cpu::Aarch64, Libc::Musl) => "aarch64-unknown-linux-musl",
            (Cpu::Armv7, Libc::Gnu) => "armv7-unknown-linux-gnueabihf",
            (Cpu::Armv7, Libc::Musl) => "armv7-unknown-linux-musleabihf",
        }
    }

    /// As cargo-zigbuild calls it: with the glibc to link against.
    pub(crate) fn zig_triple(self) -> String {
        match self.libc {
            Libc::Gnu => format!("{}.{GLIBC}", self.triple()),
            Libc::Musl => self.triple().to_owned(),
        }
    }

    /// Whether programs leave out what only servers need: HTTP/3; those of OpenWrt and OpenEmbedded the demo too.
    pub(crate) const fn is_for_boxes(self) -> bool {
        matches!(self.cpu, Cpu::Aarch64 | Cpu::Armv7)
    }

    /// The profile of `Cargo.toml`: small for boxes, fast for servers.
    pub(crate) const fn profile(self) -> &'static str {
        match self.cpu {
            Cpu::X86_64 => "server",
            Cpu::Aarch64 | Cpu::Armv7 => "stb",
        }
    }
}

impl Cpu {
    /// As Debian calls it.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// As OpenWrt calls those of its package architectures that the program runs on.
    pub(crate) const fn openwrt(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["x86_64"],
            Self::Aarch64 => {
                &["aarch64_generic", "aarch64_cortex-a53", "aarch64_cortex-a72", "aarch64_cortex-a76"]
            }
            Self::Armv7 => &[
                "arm_cortex-a5_vfpv4",
                "arm_cortex-a7_neon-vfpv4",
                "arm_cortex-a7_vfpv4",
                "arm_cortex-a8_vfpv3",
                "arm_cortex-a9_neon",
                "arm_cortex-a9_vfpv3-d16",
                "arm_cortex-a15_neon-vfpv4",
            ],
        }
    }

    /// As OpenEmbedded calls those of its tunes that boxes have and the program runs on.
    pub(crate) const fn openembedded(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["core2-64", "x86_64"],
            Self::Aarch64 => &["aarch64", "armv8a", "cortexa53", "cortexa72"],
            Self::Armv7 => {
                &["armv7ahf-vfp", "armv7ahf-neon", "cortexa7hf-vfp", "cortexa9hf-neon", "cortexa15hf-neon"]
            }
        }
    }

    /// As the OCI image specification calls it, with its variant.
    pub(crate) const fn oci(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::X86_64 => ("amd64", None),
            Self::Aarch64 => ("arm64", Some("v8")),
            Self::Armv7 => ("arm", Some("v7")),
        }
    }
}
