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
        return Err("no [[source]] has pull = \"https://host/path/master.m3u8\" or \"s3://bucket/prefix/\": nothing to fetch".to_owned());
    }
    let pulled = complete(config)?;
    if is_json {
        let sources: Vec<_> = pulled.iter().map(to_json).collect();
        print(&pretty(&json!({ "schema": 1, "sources": sources })))?;
    } else {
        let line = |it: &Pulled| {
            let keys = it.list.as_ref().map(|list| format!(" of {} keys", grouped(list.keys as usize)));
            format!(
                "{}: {} files{}, {} bytes fetched\n",
                it.source,
                grouped(it.files as usize),
                keys.unwrap_or_default(),
                it.bytes
            )
        };
        print(&pulled.iter().map(line).collect::<String>())?;
    }
    for (source, list) in pulled.iter().filter_map(|it| Some((&it.source, it.list.as_ref()?))) {
        let left_out = list.to_text();
        if !left_out.is_empty() {
            eprintln!("{source}: {left_out}");
        }
    }
    let missing: usize = pulled.iter().map(|it| it.missing.len()).sum();
    let shown = pulled.iter().flat_map(|it| &it.missing).take(SHOWN);
    for name in shown {
        eprintln!("missing: {name}");
    }
    match missing {
        0 => Ok(()),
        _ => Err(format!("{missing} of what is wanted did not come; players get it from the origin")),
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
    let mut value = json!({
        "source": pulled.source, "files": pulled.files, "bytes": pulled.bytes, "missing": pulled.missing,
    });
    if let Some(list) = &pulled.list {
        let left_out: Vec<_> = list
            .left_out
            .iter()
            .map(|(why, (count, first))| json!({ "reason": why.as_str(), "count": count, "first": first }))
            .collect();
        (value["keys"], value["left_out"]) = (list.keys.into(), left_out.into());
    }
    value
}
