//! Command line of `skycached`: a contract with scripts and packages. Man pages and completions are generated from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::DEFAULT_PATH;

/// Receives carousels, stores their objects, serves them to players, repairs losses from origins.
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
    /// Check the configuration, this machine and its network; each finding says what to do
    Check {
        #[command(flatten)]
        common: Common,
        /// How long to listen for packets
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Verify every object of the cache against its digest
        #[arg(long)]
        deep: bool,
    },
    /// Feed a recording through the receive path into the cache; prints a JSON summary
    Replay {
        /// pcap, pcapng or transport stream file
        #[arg(value_name = "FILE.pcap|FILE.ts")]
        recording: PathBuf,
        /// Configuration; without one, a temporary cache is used and removed at the end
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show what is received, stored, repaired and served
    Status(Common),
    /// List the objects in the cache and those in flight
    Ls(Common),
    /// Protect an object from eviction
    Pin(ByKey),
    /// Make a pinned object evictable again
    Unpin(ByKey),
    /// Remove an object from the cache
    Purge(ByKey),
    /// Remove every object whose key matches
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
