//! `headend pull`: fetches the packages of pulled sources once ([`crate::pull`]).

use std::collections::BTreeMap;

use serde_json::json;

use super::{pretty, print};
use crate::config::Config;
use crate::progress::bar;
use crate::pull::{self, BucketList, Missing, PullFailure, Pulled};
use crate::units::{counted, grouped};

/// Names that are printed of what is missing, of each reason.
const SHOWN: usize = 5;
/// Names in the JSON document, with reason and fix; the counts by reason are of all.
const SHOWN_IN_JSON: usize = 1000;

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
    for line in pulled.iter().flat_map(left_out) {
        eprintln!("{line}");
    }
    all_came(&pulled)?;
    let missing = || pulled.iter().flat_map(|it| &it.missing);
    match missing().count() {
        0 => Ok(()),
        count => {
            // Files that the origin does not have either.
            let nowhere = missing().filter(|it| it.reason == PullFailure::NotFound.as_str()).count();
            let rest = match nowhere {
                0 => "players get it from the origin".to_owned(),
                all if all == count => "the origin does not have them either: players get 404".to_owned(),
                some => {
                    format!(
                        "the origin does not have {} of these; players get the rest from it",
                        grouped(some)
                    )
                }
            };
            Err(format!("{} could not be fetched; see above; {rest}", counted(count, "file")))
        }
    }
}

/// The same before a recording or a single pass, with a line for each source.
pub(super) fn before(config: &Config) -> Result<(), String> {
    if config.sources.iter().all(|source| source.pull.is_none()) {
        return Ok(());
    }
    let pulled = complete(config)?;
    for it in &pulled {
        eprintln!("{}: pulled {} files of {} bytes", it.source, grouped(it.files as usize), it.bytes);
        for line in left_out(it) {
            eprintln!("{line}");
        }
    }
    all_came(&pulled)
}

/// Fails if a source could not be pulled at all. Each of several has a line.
fn all_came(pulled: &[Pulled]) -> Result<(), String> {
    let told = |it: &Pulled| Some(format!("source {}: {}", it.source, it.refusal.as_ref()?));
    let refused: Vec<String> = pulled.iter().filter_map(told).collect();
    match &refused[..] {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => {
            for line in all {
                eprintln!("headend: {line}");
            }
            Err(format!("{} of {} sources could not be pulled; see above", all.len(), pulled.len()))
        }
    }
}

/// Lines on what is not there: keys of the bucket, files that did not come by reason with what to do, and what came and is not
/// carried.
fn left_out(pulled: &Pulled) -> Vec<String> {
    let source = &pulled.source;
    let mut lines = Vec::new();
    let keys = pulled.list.as_ref().map(BucketList::to_text).unwrap_or_default();
    if !keys.is_empty() {
        lines.push(format!("{source}: {keys}"));
    }
    for (reason, all) in by_reason(pulled) {
        lines.push(format!("{source}: {} {reason}: {}", grouped(all.len()), all[0].fix));
        let told =
            |it: &&Missing| if it.detail.is_empty() { String::new() } else { format!(": {}", it.detail) };
        lines.extend(all.iter().take(SHOWN).map(|it| format!("  {}{}", it.name, told(it))));
        if all.len() > SHOWN {
            lines.push(format!("  and {} more", grouped(all.len() - SHOWN)));
        }
    }
    if !pulled.not_carried.is_empty() {
        let told = pulled.not_carried.iter();
        let told = told.map(|(reason, &count)| format!("{} {}", grouped(count), reason.counted(count)));
        lines.push(format!("{source}: not carried: {}", told.collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// Files that did not come, by reason.
fn by_reason(pulled: &Pulled) -> BTreeMap<&'static str, Vec<&Missing>> {
    let mut all: BTreeMap<&str, Vec<&Missing>> = BTreeMap::new();
    for it in &pulled.missing {
        all.entry(it.reason).or_default().push(it);
    }
    all
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
    let missing: Vec<&str> = pulled.missing.iter().map(|it| it.name.as_str()).collect();
    let files = pulled
        .missing
        .iter()
        .take(SHOWN_IN_JSON)
        .map(|it| json!({ "name": it.name, "reason": it.reason, "detail": it.detail, "fix": it.fix }));
    let counts = by_reason(pulled).into_iter().map(|(reason, all)| (reason.to_owned(), json!(all.len())));
    let not_carried = pulled.not_carried.iter();
    let not_carried = not_carried.map(|(reason, count)| (reason.as_str().to_owned(), json!(count)));
    let mut value = json!({
        "source": pulled.source, "files": pulled.files, "bytes": pulled.bytes, "missing": missing,
        "missing_files": files.collect::<Vec<_>>(),
        "missing_by_reason": counts.collect::<serde_json::Map<_, _>>(),
        "not_carried_by_reason": not_carried.collect::<serde_json::Map<_, _>>(),
        "failed": pulled.refusal.as_ref().map(|it| json!({ "reason": it.reason, "what": it.what, "fix": it.fix })),
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

#[cfg(test)]
mod tests {
    use crate::package::LeftOutReason;
    use crate::pull::{OriginKind, PullFailure, Refusal};

    use super::*;

    #[test]
    fn what_did_not_come_is_told_by_reason_up_to_a_bound_with_what_to_do() {
        let missing = |at: usize, why: PullFailure, detail: &str| Missing {
            name: format!("{at}.ts"),
            reason: why.as_str(),
            detail: detail.to_owned(),
            fix: why.fix(OriginKind::Web),
        };
        let mut all: Vec<Missing> = (0..SHOWN_IN_JSON).map(|at| missing(at, PullFailure::Full, "")).collect();
        all.push(missing(SHOWN_IN_JSON, PullFailure::NotFound, "404"));
        let pulled = Pulled {
            source: "film".to_owned(),
            files: 1,
            bytes: 2,
            missing: all,
            not_carried: [(LeftOutReason::NotMedia, 2)].into(),
            list: None,
            refusal: None,
        };
        let lines = left_out(&pulled);
        assert_eq!(lines[0], format!("film: 1,000 full: {}", PullFailure::Full.fix(OriginKind::Web)));
        assert_eq!((lines[1].as_str(), lines[1 + SHOWN].as_str()), ("  0.ts", "  and 995 more"));
        assert!(lines[2 + SHOWN].starts_with("film: 1 not_found: correct the path"), "{lines:?}");
        assert_eq!(lines[3 + SHOWN..], ["  1000.ts: 404", "film: not carried: 2 not media"]);
        let value = to_json(&pulled);
        assert_eq!(value["missing"].as_array().unwrap().len(), SHOWN_IN_JSON + 1);
        assert_eq!(value["missing_files"].as_array().unwrap().len(), SHOWN_IN_JSON);
        assert_eq!(value["missing_files"][0]["reason"], "full");
        assert_eq!(value["missing_by_reason"], json!({ "full": SHOWN_IN_JSON, "not_found": 1 }));
        assert_eq!(value["not_carried_by_reason"], json!({ "not_media": 2 }));
        assert!(value["failed"].is_null());
    }

    #[test]
    fn a_source_that_did_not_come_is_an_error_and_has_its_reason_in_the_document() {
        let of = |source: &str, refusal: Option<Refusal>| Pulled {
            source: source.to_owned(),
            refusal,
            ..Pulled::default()
        };
        let gone = || {
            let (reason, what) = ("not_found", "https://h/a.m3u8: not_found (404)".to_owned());
            Some(Refusal { reason, what, fix: "correct the path" })
        };
        assert_eq!(all_came(&[of("a", None), of("b", None)]), Ok(()));
        let one = all_came(&[of("a", None), of("b", gone())]).unwrap_err();
        assert_eq!(one, "source b: https://h/a.m3u8: not_found (404); correct the path");
        let both = all_came(&[of("a", gone()), of("b", gone()), of("c", None)]).unwrap_err();
        assert!(both.starts_with("2 of 3 sources"), "{both}");
        let value = to_json(&of("b", gone()));
        assert_eq!(
            (&value["failed"]["reason"], &value["failed"]["fix"]),
            (&json!("not_found"), &json!("correct the path"))
        );
    }
}
