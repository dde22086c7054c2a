//! The command line of `headend`: a contract with scripts and packages. Man pages and completions are made from it.

use std::path::PathBuf;

use carousel::dvbi::Edition;
use clap::{Parser, Subcommand};

/// Puts packaged HLS and DASH on a one-way link, and explains what is on the air.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What is there: presentations, rungs, objects, bytes, durations, and what is wrong
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
    Plan(Plan),
    /// Write the carousel to a recording
    Build {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Recording to write
        #[arg(long, value_name = "X.pcap|X.ts")]
        out: PathBuf,
        /// Length of the recording; 0 is one full cycle
        #[arg(long, default_value_t = 0)]
        seconds: u64,
    },
    /// Send on the air, paced, following the packager's output, until SIGINT or SIGTERM
    Send {
        /// Configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Send every object once, close the sessions and end
        #[arg(long)]
        once: bool,
    },
    /// Write the DVB-I service list, the content guide, the NIP files and the gateway configuration
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
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Interface (name or IPv4 address) that the group is joined on
        #[arg(long, default_value = "")]
        interface: String,
        /// Bits a second of a transport stream file that has neither clock references nor times
        #[arg(long)]
        rate_bps: Option<u64>,
    },
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
    #[arg(long, requires = "simulate")]
    pub receivers: Option<u64>,
    /// Seed, instead of the configuration's: the same seed gives the same figures
    #[arg(long, requires = "simulate")]
    pub seed: Option<u64>,
}
