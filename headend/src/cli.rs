//! The command line of `headend`: a contract with scripts and packages. Man pages and completions are generated from it.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use carousel::command::{Action, LONGEST_DISPERSAL_S};
use carousel::config::quantity::of_flag;
use carousel::dvbi::Edition;
use carousel::firmware::LONGEST_DISPERSAL_S as LONGEST_WAIT_S;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use clap_complete::Shell;

/// Version, and the commit of a release build.
pub const VERSION: &str = crate::units::VERSION;

/// Puts packaged HLS and DASH on a one-way link, and explains what is on the air.
#[derive(Debug, Parser)]
#[command(name = "headend", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What is there: presentations, rungs, objects, bytes, durations, and what is wrong
    #[command(
        after_help = "Examples:\n  headend scan film/\n  headend scan film/ --json\n  headend scan film/master.m3u8 --base https://cdn.example.com/vod/film/"
    )]
    Scan {
        /// Directory with packaged HLS or DASH, or one manifest
        source: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
        /// Also carry files that no manifest refers to
        #[arg(long)]
        include_unreferenced: bool,
        /// URL of the directory, as a `[[source]]` gives it: absolute references below it are local
        #[arg(long, value_name = "URL", default_value = "")]
        base: String,
    },
    /// What the carousel will do: period, share and acquisition time of each object
    #[command(
        after_help = "Examples:\n  headend plan -c headend.toml\n  headend plan -c headend.toml --html plan.html\n  headend plan -c launch.toml --simulate --receivers 1000000"
    )]
    Plan(Plan),
    /// Check the configuration, its sources, interface, routes and rights, and the link's rate; each finding says what to do
    #[command(
        after_help = "Examples:\n  headend check -c headend.toml\n  headend check -c headend.toml --print-config"
    )]
    Check {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
        /// Print the configuration that is in force, with every default, and end
        #[arg(long, conflicts_with = "json")]
        print_config: bool,
    },
    /// Write the carousel to a recording
    #[command(
        after_help = "Examples:\n  headend build -c headend.toml --out cycle.pcap\n  headend build -c modulator.toml --out stream.ts --seconds 60"
    )]
    Build {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Recording to write
        #[arg(long, value_name = "X.pcap|X.ts")]
        out: PathBuf,
        /// Length of the recording; 0 is one full cycle
        #[arg(long, default_value_t = 0, value_parser = seconds)]
        seconds: u64,
    },
    /// Send on the air, paced, following the packager's output, until SIGINT, SIGTERM or SIGHUP
    #[command(
        after_help = "Examples:\n  headend send -c headend.toml\n  headend send -c headend.toml --once"
    )]
    Send {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Send every object once, close the sessions and end
        #[arg(long)]
        once: bool,
        /// Send although another `send` of this machine has the same configuration; with `[lease]` it is not needed
        #[arg(long)]
        alongside: bool,
        /// End when standard input ends, as it does when the program that started this one ends
        #[arg(long)]
        until_stdin_ends: bool,
        /// Print the configuration that would be in force, with every default, and end
        #[arg(long)]
        print_config: bool,
    },
    /// Fetch what sources pull from their origins, once; `send` does so by itself and goes on
    #[command(
        after_help = "Examples:\n  headend pull -c headend.toml\n  headend pull -c headend.toml --json"
    )]
    Pull {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show what a running `send` of this machine has on the air
    #[command(
        after_help = "Examples:\n  headend status -c headend.toml\n  headend status -c headend.toml --json"
    )]
    Status {
        /// Configuration that it was started with
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Write the DVB-I service list, the content guide, the NIP files and the gateway configuration
    #[command(
        after_help = "Examples:\n  headend catalog -c headend.toml --out catalogue/\n  headend catalog -c headend.toml --out catalogue/ --edition r8"
    )]
    Catalog {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Folder to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Edition of the service list, r0 to r8, instead of the configuration's
        #[arg(long, value_name = "rN")]
        edition: Option<Edition>,
        /// One JSON document on stdout: what was written, and what is wrong with guides and logos
        #[arg(long)]
        json: bool,
    },
    /// What is on the air: sessions, transport streams, carousels, objects, losses, timing
    #[command(
        after_help = "Examples:\n  headend inspect udp://224.0.23.14:3937 --interface eth1\n  headend inspect recording.pcap --extract objects/\n  headend inspect stream.ts --json"
    )]
    Inspect {
        /// pcap, pcapng or transport stream file, or udp://GROUP:PORT
        #[arg(value_name = "FILE|udp://GROUP:PORT")]
        source: String,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
        /// Write every complete object below this folder
        #[arg(long, value_name = "DIR")]
        extract: Option<PathBuf>,
        /// How long to listen; 0 is until interrupted. Recordings are read to their end
        #[arg(long, default_value_t = 10, value_parser = seconds)]
        seconds: u64,
        /// Interface (name or IPv4 address) that the group is joined on
        #[arg(long, default_value = "")]
        interface: String,
        /// Bits a second of a transport stream file that has neither clock references nor times
        #[arg(long, value_parser = |text: &str| of_flag("rate_bps", text))]
        rate_bps: Option<u64>,
    },
    /// Make the keys that sign carousels, add an online key, or take one back
    #[command(
        after_help = "Examples:\n  headend keygen --out keys/\n  headend keygen --out keys/ --root /media/safe/root.key --rotate\n  headend keygen --out keys/ --revoke 8f0c52d1a3b4e697"
    )]
    Keygen(Keygen),
    /// Give receivers a signed command with the carousel, show those in force, or take one back
    #[command(
        after_help = "Examples:\n  headend command -c headend.toml purge https://cdn.example.com/vod/a/1.m4s\n  headend command -c headend.toml ban 'cdn.example.com/vod/a/*' --group north --within-s 600\n  headend command -c headend.toml message Maintenance --valid-s 7200\n  headend command -c headend.toml list\n  headend command -c headend.toml cancel c1795219200000"
    )]
    Command(Order),
    /// Offer receivers a firmware update with the carousel, widen its share, show what is on offer, or withdraw it
    #[command(
        after_help = "Examples:\n  headend firmware offer -c headend.toml 1.5.raucb --compatible skycache-x86_64 --version 1.5 --share 1 --window 02:00-05:00\n  headend firmware share -c headend.toml skycache-x86_64_1.5 10\n  headend firmware list -c headend.toml\n  headend firmware withdraw -c headend.toml skycache-x86_64_1.5"
    )]
    Firmware {
        #[command(subcommand)]
        action: FirmwareAction,
    },
    /// Print completions for a shell: bash, zsh, fish
    #[command(after_help = "Examples:\n  headend completions bash > /etc/bash_completion.d/headend")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
pub struct Keygen {
    /// Folder of the keys; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Secret of the root key, if it is not in the folder
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// Add an online key: it signs from the next start on, and those before it stay valid
    #[arg(long)]
    pub rotate: bool,
    /// Write a revocation list with this online key, and those of the list before
    #[arg(long, value_name = "KEY")]
    pub revoke: Vec<String>,
    /// Days for which the new online key is valid
    #[arg(long, default_value_t = 400, value_parser = |text: &str| of_flag("valid_days", text))]
    pub days: u64,
    /// Service identifier that the new key may sign for, or `announcement`; without any it may sign for all
    #[arg(long = "service", value_name = "ID")]
    pub services: Vec<String>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Order {
    /// What receivers are to do, or what is to be done with commands
    #[arg(value_parser = PossibleValuesParser::new(Action::NAMES.into_iter().chain(["list", "cancel"])))]
    pub action: String,
    /// URL or key of an object; pattern; text; name of a system; identifier of a command
    pub target: Option<String>,
    /// Configuration of the `send` that repeats it
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only receivers of this group (`[commands] groups` of their configuration)
    #[arg(long = "group", value_name = "NAME")]
    pub groups: Vec<String>,
    /// Seconds for which it is in force: receivers that are off find it when they are on again
    #[arg(long, default_value_t = 86_400, value_parser = |text: &str| within(text, 1..=31_622_400))]
    pub valid_s: u64,
    /// Seconds over which receivers are dispersed
    #[arg(long, default_value_t = 0, value_parser = |text: &str| within(text, 0..=LONGEST_DISPERSAL_S))]
    pub within_s: u64,
    /// Identifier: a receiver does one of each only once
    #[arg(long)]
    pub id: Option<String>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Commands of `firmware`.
#[derive(Debug, Subcommand)]
pub enum FirmwareAction {
    /// Offer a bundle: `send` carries it, and receivers that it concerns install it
    Offer(Offering),
    /// Change the share of receivers that are in; those that are in a share are in every greater one, and those that are in no more
    /// drop what they have of the bundle, unless its installation has begun
    Share {
        /// Identifier, as `list` shows it
        id: String,
        /// Percent of receivers: 10, or 0.5
        #[arg(value_parser = percent)]
        percent: f64,
        /// Configuration of the `send` that carries it
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show the bundles on offer, and read their files
    #[command(alias = "check")]
    List {
        /// Configuration of the `send` that carries them
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Take a bundle off the air; receivers that have not installed it will not
    Withdraw {
        /// Identifier, as `list` shows it
        id: String,
        /// Configuration of the `send` that carries it
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Offering {
    /// RAUC's bundle; the file must stay where it is, and its name, percent-encoded, is the end of its URL
    pub bundle: PathBuf,
    /// Configuration of the `send` that carries it
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Hardware that it is for, as RAUC's `compatible`
    #[arg(long, value_name = "NAME")]
    pub compatible: String,
    /// Version of the image in it
    #[arg(long)]
    pub version: String,
    /// Percent of receivers that are in
    #[arg(long, default_value_t = 100.0, value_name = "PERCENT", value_parser = percent)]
    pub share: f64,
    /// Part of each day, in UTC, in which receivers install; the same time twice is the whole day. Left out: as each receiver is
    /// configured, else at any time. In each case when nobody watches
    #[arg(long, value_name = "HH:MM-HH:MM")]
    pub window: Option<String>,
    /// Let it be older than what runs; the bundle must be signed as a way back, too
    #[arg(long)]
    pub downgrade: bool,
    /// Only receivers of this group (`[commands] groups` of their configuration)
    #[arg(long = "group", value_name = "NAME")]
    pub groups: Vec<String>,
    /// Seconds for which it is on offer
    #[arg(long, default_value_t = 30 * 86_400, value_parser = |text: &str| within(text, 1..=31_622_400))]
    pub valid_s: u64,
    /// Seconds for which receivers leave what is missing to the carousel
    #[arg(long, default_value_t = 3 * 86_400, value_parser = |text: &str| within(text, 0..=LONGEST_WAIT_S))]
    pub repair_after_s: u64,
    /// Seconds over which they are dispersed then when they ask the origin
    #[arg(long, default_value_t = 86_400, value_parser = |text: &str| within(text, 0..=LONGEST_WAIT_S))]
    pub repair_within_s: u64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON document on stdout
    #[arg(long, conflicts_with = "html")]
    pub json: bool,
    /// A page with charts
    #[arg(long, value_name = "OUT")]
    pub html: Option<PathBuf>,
    /// Play `[simulation]`: receivers, weather and viewing against the plan
    #[arg(long)]
    pub simulate: bool,
    /// Receivers, instead of the configuration's
    #[arg(long, requires = "simulate", value_parser = whole)]
    pub receivers: Option<u64>,
    /// Seed, instead of the configuration's: the same seed gives the same figures
    #[arg(long, requires = "simulate", value_parser = whole)]
    pub seed: Option<u64>,
}

/// A whole number.
fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a whole number belongs here, without a unit: 60".to_owned())
}

/// Seconds, or a time with its unit.
fn seconds(text: &str) -> Result<u64, String> {
    Ok(of_flag("seconds_s", text)?)
}

/// Seconds of a range.
fn within(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = seconds(text)?;
    match range.contains(&number) {
        true => Ok(number),
        false => Err(format!("it is {} to {} seconds", range.start(), range.end())),
    }
}

/// Percent of receivers, with or without the sign.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    let percent = number.parse().ok().filter(|it| (0.0..=100.0).contains(it));
    percent.ok_or_else(|| "a share is 0 to 100 percent of the receivers: 10, 10% or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_in_percent_with_or_without_the_sign() {
        for (text, expected) in [("10", 10.0), ("10%", 10.0), ("0.5 %", 0.5), ("0", 0.0), ("100%", 100.0)] {
            assert_eq!(percent(text), Ok(expected), "{text}");
        }
        for text in ["", "%", "ten", "101", "-1", "NaN", "inf"] {
            assert!(percent(text).unwrap_err().contains("0 to 100 percent"), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_told_in_words() {
        let refused = |arguments: &[&str]| {
            let all = ["headend"].iter().chain(arguments).chain(&["-c", "x"]);
            Cli::try_parse_from(all).unwrap_err().to_string()
        };
        for arguments in [
            &["build", "--out", "x.ts", "--seconds", "1m"][..],
            &["build", "--out", "x.ts", "--seconds", "4 GB"],
            &["plan", "--simulate", "--receivers", "many"],
            &["command", "list", "--valid-s", "an hour"],
            &["firmware", "share", "a_8", "ten"],
        ] {
            let why = refused(arguments);
            let is_told = ["a whole number belongs here", "0 to 100 percent", "expected a number, e.g. 3600"];
            let is_told = is_told.iter().any(|it| why.contains(it));
            assert!(is_told && !why.contains("digit") && !why.contains("literal"), "{why}");
        }
        assert!(refused(&["command", "list", "--valid-s", "0"]).contains("it is 1 to 31622400"));
    }
}
