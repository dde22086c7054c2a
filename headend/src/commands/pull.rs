//! `headend pull`.

use serde_json::json;

use super::{pretty, print};
use crate::config::Config;
use crate::progress::bar;
use crate::pull::{self, Pulled};
use crate::units::grouped;

/// Names that are printed of what is missing.
const SHOWN: usize = 5;

/// Fetches what sources pull, once.
pub(super) fn pull(config: &Config, is_json: bool) -> Result<(), String> {
    if config.sources.iter().all(|source| source.pull.is_none()) {
        return Err("no [[source]] has pull = \"https://host/path/master.m3u8\": nothing to fetch".to_owned());
    }
    let pulled = complete(config)?;
    if is_json {
        let sources: Vec<_> = pulled.iter().map(to_json).collect();
        print(&pretty(&json!({ "schema": 1, "sources": sources })))?;
    } else {
        let line = |it: &Pulled| {
            format!("{}: {} files, {} bytes fetched\n", it.source, grouped(it.files as usize), it.bytes)
        };
        print(&pulled.iter().map(line).collect::<String>())?;
    }
    let missing: usize = pulled.iter().map(|it| it.missing.len()).sum();
    let shown = pulled.iter().flat_map(|it| &it.missing).take(SHOWN);
    for name in shown {
        eprintln!("missing: {name}");
    }
    match missing {
        0 => Ok(()),
        _ => {
            Err(format!("{missing} of what the manifests name did not come; players get it from the origin"))
        }
    }
}

/// The same before a recording or a single pass, with a line for each source.
pub(super) fn before(config: &Config) -> Result<(), String> {
    if config.sources.iter().all(|source| source.pull.is_none()) {
        return Ok(());
    }
    for it in complete(config)? {
        eprintln!("{}: pulled {} files of {} bytes", it.source, grouped(it.files as usize), it.bytes);
    }
    Ok(())
}

fn complete(config: &Config) -> Result<Vec<Pulled>, String> {
    let bar = bar("{spinner} pulled {pos} files, {msg}", 0);
    let result = pull::complete(config, |files, bytes| {
        bar.set_position(files);
        bar.set_message(format!("{:.1} MB", bytes as f64 * 1e-6));
    });
    bar.finish_and_clear();
    result
}

fn to_json(pulled: &Pulled) -> serde_json::Value {
    json!({
        "source": pulled.source, "files": pulled.files, "bytes": pulled.bytes, "missing": pulled.missing,
    })
}
