//! Command line of `skycached`: a contract with scripts and packages. Man pages and completions are generated from it.

use std::path::PathBuf;

use carousel::config::quantity::of_flag;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::DEFAULT_PATH;

/// Version, and the commit of a release build.
pub const VERSION: &str = env!("SKYCACHE_VERSION");

/// Receives carousels, stores their objects, serves them to players, repairs losses from origins.
#[derive(Debug, Parser)]
#[command(name = "skycached", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Configuration
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// The daemon that is asked.
#[derive(Debug, Args)]
pub struct AdminTarget {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Ask the TCP listener of a daemon instead of the socket of the configuration
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// File with the token of that daemon's admin interface
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub token_file: Option<PathBuf>,
    /// Certificates that are trusted instead of the system's: authorities, or that daemon's own (PEM)
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Receive and serve, until SIGINT or SIGTERM; SIGHUP reads the configuration again
    #[command(after_help = "Examples:\n  skycached run -c skycached.toml\n  skycached run --print-config")]
    Run {
        /// Configuration
        #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// Print the configuration that would be in force, with conf.d and every default, and end
        #[arg(long)]
        print_config: bool,
    },
    /// Check the configuration, this machine and its network; each finding says what to do
    #[command(
        after_help = "Examples:\n  skycached check\n  skycached check -c skycached.toml --seconds 10\n  skycached check --deep --json"
    )]
    Check {
        #[command(flatten)]
        common: CommonArgs,
        /// How long to listen for packets
        #[arg(long, default_value_t = 3, value_parser = seconds)]
        seconds: u64,
        /// Verify every object of the cache against its digest
        #[arg(long)]
        deep: bool,
        /// Print the configuration that is in force, with conf.d and every default, and end
        #[arg(long, conflicts_with_all = ["json", "deep"])]
        print_config: bool,
    },
    /// Feed a recording through the receive path into the cache; prints a JSON summary
    #[command(
        after_help = "Examples:\n  skycached replay recording.pcap\n  skycached replay stream.ts -c skycached.toml"
    )]
    Replay {
        /// pcap, pcapng or transport stream file
        #[arg(value_name = "FILE.pcap|FILE.ts")]
        recording: PathBuf,
        /// Configuration; without one, a temporary cache is used and removed at the end
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show what is received, stored, repaired and served
    #[command(
        after_help = "Examples:\n  skycached status\n  skycached status --watch\n  skycached status --json\n  skycached status --admin http://127.0.0.1:8081 --token-file token\n  skycached status --admin https://box.lan:8081 --token-file token --ca ca.pem"
    )]
    Status {
        #[command(flatten)]
        target: AdminTarget,
        /// Show it again every so many seconds, until interrupted
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", conflicts_with = "json")]
        watch: Option<u64>,
    },
    /// List the objects in the cache and those in flight
    #[command(
        after_help = "Examples:\n  skycached ls\n  skycached ls --sort size --limit 10\n  skycached ls --filter 'cdn.example.com/vod/*.m4s' --json"
    )]
    Ls {
        #[command(flatten)]
        target: AdminTarget,
        #[command(flatten)]
        listing: Listing,
    },
    /// Protect an object from eviction
    #[command(after_help = "Examples:\n  skycached pin https://cdn.example.com/vod/film/master.m3u8")]
    Pin(KeyArgs),
    /// Make a pinned object evictable again
    #[command(after_help = "Examples:\n  skycached unpin https://cdn.example.com/vod/film/master.m3u8")]
    Unpin(KeyArgs),
    /// Remove objects from the cache
    #[command(
        after_help = "Examples:\n  skycached purge https://cdn.example.com/vod/film/1.m4s\n  skycached purge http://box.example:8080/cdn.example.com/vod/film/1.m4s\n  skycached purge --prefix https://cdn.example.com/vod/film/\n  skycached purge --surrogate-key film-17 --soft"
    )]
    Purge(PurgeArgs),
    /// Remove every object whose key matches
    #[command(after_help = "Examples:\n  skycached ban 'cdn.example.com/vod/film/*'")]
    Ban {
        /// Key with `*` for any run of characters and `?` for one: `cdn.example.com/vod/*`
        pattern: String,
        /// Make them stale instead: their origin is asked about them, and while it fails they may be served
        #[arg(long)]
        soft: bool,
        /// Allow a pattern that everything matches
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        target: AdminTarget,
    },
    /// Show the keys that sign what is received, confirm an enrolled one, or forget it
    #[command(
        after_help = "Examples:\n  skycached trust list\n  skycached trust confirm 8f0c52d1a3b4e697\n  skycached trust forget 8f0c52d1a3b4e697"
    )]
    Trust {
        #[command(subcommand)]
        action: TrustAction,
    },
    /// Show a channel and two films over a link that loses packets, on this machine alone; needs the program headend
    #[cfg(feature = "demo")]
    #[command(
        after_help = "Examples:\n  skycached demo\n  skycached demo --loss 10 --listen 0.0.0.0:8080\n  skycached demo --once"
    )]
    Demo(crate::demo::Arguments),
    /// A/B updates of an appliance: slots, images, health
    #[command(
        after_help = "Examples:\n  skycached firmware status --json\n  skycached firmware check\n  skycached firmware check update.raucb\n  skycached firmware install update.raucb"
    )]
    Firmware {
        #[command(subcommand)]
        action: FirmwareAction,
    },
    /// Print completions for a shell: bash, zsh, fish
    #[command(
        after_help = "Examples:\n  skycached completions fish > ~/.config/fish/completions/skycached.fish"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Seconds, or a time with its unit.
fn seconds(text: &str) -> Result<u64, String> {
    Ok(of_flag("seconds_s", text)?)
}

/// Objects that `purge` removes.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Keys of objects, their URLs at the origin, or the URLs that a player asks this box for
    #[arg(required_unless_present_any = ["prefix", "surrogate_key"], value_name = "KEY")]
    pub keys: Vec<String>,
    /// Every object whose key begins so, or whose URL does
    #[arg(long)]
    pub prefix: Vec<String>,
    /// Every object that its origin has given this name (`Surrogate-Key`, `Cache-Tag`)
    #[arg(long, value_name = "NAME")]
    pub surrogate_key: Vec<String>,
    /// Make them stale instead: their origin is asked about them, and while it fails they may be served
    #[arg(long)]
    pub soft: bool,
    /// Allow an empty prefix, which is everything
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub target: AdminTarget,
}

impl PurgeArgs {
    /// As parameters of the admin interface.
    pub fn parameters(&self) -> Vec<(&'static str, &str)> {
        let mut all: Vec<(&'static str, &str)> = Vec::new();
        for (name, values) in
            [("key", &self.keys), ("prefix", &self.prefix), ("surrogate_key", &self.surrogate_key)]
        {
            all.extend(values.iter().map(|it| (name, it.as_str())));
        }
        all.extend(flags(self.soft, self.yes));
        all
    }
}

/// Flags of purges as parameters of the admin interface.
pub fn flags<'a>(soft: bool, yes: bool) -> impl Iterator<Item = (&'static str, &'a str)> {
    [("soft", soft), ("yes", yes)].into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name, "true"))
}

/// Commands of `trust`.
#[derive(Debug, Subcommand)]
pub enum TrustAction {
    /// Keys, trusted and not, and what was refused
    List {
        #[command(flatten)]
        target: AdminTarget,
    },
    /// Keep trusting the key that was enrolled on first contact
    Confirm(KeyIdArgs),
    /// Trust an enrolled key no longer: the next one that signs may be enrolled
    Forget(KeyIdArgs),
}

#[derive(Debug, Args)]
pub struct KeyIdArgs {
    /// The root key's id: 16 hexadecimal digits
    pub key: String,
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Commands for an appliance's slots.
#[derive(Debug, Subcommand)]
pub enum FirmwareAction {
    /// Show what runs, what is next, every kernel image, and the updates that are offered, with why they are not installed
    Status {
        #[command(flatten)]
        target: AdminTarget,
    },
    /// Verify a bundle, and say whether this box would take it; without one, show the updates that the carousel offers
    Check {
        /// RAUC's bundle
        bundle: Option<PathBuf>,
        #[command(flatten)]
        target: AdminTarget,
    },
    /// Install a bundle into the slot that does not run; the next start takes it
    Install {
        /// RAUC's bundle
        bundle: PathBuf,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Hand a bundle to the system's updater and wait for the end: for `[firmware] install` of a daemon without rights
    HandOver {
        /// RAUC's bundle
        bundle: PathBuf,
    },
    /// Install the bundle that was handed over, as root
    Take,
    /// Go back to the other slot at the next start
    Rollback {
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Bless the running image once the daemon is READY and answers players
    MarkGood {
        #[command(flatten)]
        common: CommonArgs,
        /// How long it may take to become healthy
        #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = seconds)]
        wait: u64,
    },
    /// What RAUC asks of a bootloader
    #[command(hide = true)]
    Backend {
        /// get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, stage BUNDLE
        arguments: Vec<String>,
    },
}

/// The objects that are listed, and their order.
#[derive(Debug, Default, Args)]
pub struct Listing {
    /// Order: key, or the largest, newest, most used or soonest to expire first
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// Only keys that match (`*`, `?`) or, without these, contain this
    #[arg(long, value_name = "PATTERN")]
    pub filter: Option<String>,
    /// Objects of the cache at most; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
}

/// Orders of `ls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Sort {
    /// By key
    #[default]
    Key,
    /// The largest first
    Size,
    /// The newest first
    Received,
    /// The soonest to expire first
    Expires,
    /// The most used first
    Uses,
}

#[derive(Debug, Args)]
pub struct KeyArgs {
    /// Key of the object, its URL at the origin, or the URL that a player asks this box for
    pub key: String,
    #[command(flatten)]
    pub target: AdminTarget,
}
