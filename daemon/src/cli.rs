//! The command line of `skycached`: a contract with scripts and packages. Man pages and completions are made from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::DEFAULT_PATH;

/// Receives carousels, keeps their objects, serves them to players, repairs what was lost.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Args)]
pub struct Common {
    /// Configuration
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Receive and serve, until SIGINT or SIGTERM; SIGHUP reads the configuration again
    Run {
        /// Configuration
        #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Every mistake in the configuration, and what this machine and its network lack, each with its mend
    Check {
        #[command(flatten)]
        common: Common,
        /// How long to listen for packets
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Read every object of the cache and compare it with its digest
        #[arg(long)]
        deep: bool,
    },
    /// Feed a recording through the receive path into the cache; prints a JSON summary
    Replay {
        /// pcap, pcapng or transport stream file
        #[arg(value_name = "FILE.pcap|FILE.ts")]
        recording: PathBuf,
        /// Configuration; without one, a cache of its own that is removed at the end
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// What is received, held, repaired and served
    Status(Common),
    /// The objects in the cache, and those on their way
    Ls(Common),
    /// Keep an object whatever else must go
    Pin(ByKey),
    /// Let a pinned object go when its turn comes
    Unpin(ByKey),
    /// Take an object out of the cache
    Purge(ByKey),
    /// Take out every object whose key matches
    Ban {
        /// Key with `*` for any run of characters and `?` for one: `cdn.example.com/vod/*`
        pattern: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub struct ByKey {
    /// Key or URL of the object
    pub key: String,
    #[command(flatten)]
    pub common: Common,
}
