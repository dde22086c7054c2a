//! `headend scan`: what is there, as a table or JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::package::{Inventory, Presentation, Role};
use crate::plan::human_seconds;

/// The JSON document.
pub fn to_json(inventory: &Inventory) -> Value {
    let bytes = |paths: &[String]| {
        paths.iter().filter_map(|path| inventory.objects.get(path)).map(|it| it.length).sum::<u64>()
    };
    let presentations = inventory.presentations.iter().map(|presentation| {
        let rungs = presentation.rungs.iter().map(|rung| {
            json!({
                "id": rung.id, "kind": rung.kind.as_str(), "bandwidth_bps": rung.bandwidth_bps, "codecs": rung.codecs,
                "width": rung.resolution.map(|it| it.0), "height": rung.resolution.map(|it| it.1),
                "language": rung.language, "playlist": rung.playlist, "inits": rung.inits, "segments": rung.segments.len(),
                "bytes": bytes(&rung.segments) + bytes(&rung.inits), "duration_s": rung.duration_s,
            })
        });
        json!({
            "kind": presentation.kind.as_str(), "manifest": presentation.manifest, "live": presentation.live,
            "duration_s": presentation.duration_s, "rungs": rungs.collect::<Vec<_>>(),
        })
    });
    let objects = inventory.objects.values().map(|object| {
        json!({ "path": object.path, "length": object.length, "content_type": object.content_type, "role": object.role.as_str() })
    });
    let problems = inventory
        .problems
        .iter()
        .map(|problem| json!({ "place": problem.place, "what": problem.what, "mend": problem.mend }));
    json!({
        "schema": 1,
        "root": inventory.root.display().to_string(),
        "presentations": presentations.collect::<Vec<_>>(),
        "objects": objects.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "unreferenced": inventory.unreferenced,
        "total_bytes": inventory.objects.values().map(|object| object.length).sum::<u64>(),
    })
}

/// The table for a person.
pub fn to_table(inventory: &Inventory) -> String {
    let mut out = String::new();
    for presentation in &inventory.presentations {
        table_of(&mut out, inventory, presentation);
    }
    let total: u64 = inventory.objects.values().map(|object| object.length).sum();
    let manifests = inventory.objects.values().filter(|object| object.role == Role::Manifest).count();
    let _ =
        writeln!(out, "{} objects, {} ({manifests} manifests)", inventory.objects.len(), human_bytes(total));
    if inventory.unreferenced > 0 {
        let _ = writeln!(
            out,
            "{} files that no manifest refers to are not carried (include_unreferenced carries them)",
            inventory.unreferenced
        );
    }
    if !inventory.problems.is_empty() {
        let _ = writeln!(out, "\n{} problems:", inventory.problems.len());
        for problem in &inventory.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out
}

fn table_of(out: &mut String, inventory: &Inventory, presentation: &Presentation) {
    let length = match (presentation.live, presentation.duration_s) {
        (true, _) => "live".to_owned(),
        (false, Some(seconds)) => human_seconds(seconds),
        (false, None) => "unknown duration".to_owned(),
    };
    let _ = writeln!(out, "{} {}, {length}", presentation.kind.as_str(), presentation.manifest);
    let _ = writeln!(
        out,
        "  {:<28} {:<9} {:>9} {:>11} {:>9} {:>10}",
        "rung", "kind", "kbit/s", "picture", "segments", "bytes"
    );
    for rung in &presentation.rungs {
        let picture = rung
            .resolution
            .map_or_else(|| rung.language.clone(), |(width, height)| format!("{width}x{height}"));
        let lengths = rung.segments.iter().chain(&rung.inits).filter_map(|path| inventory.objects.get(path));
        let bytes = human_bytes(lengths.map(|object| object.length).sum());
        let _ = writeln!(
            out,
            "  {:<28} {:<9} {:>9} {picture:>11} {:>9} {bytes:>10}",
            rung.id,
            rung.kind.as_str(),
            rung.bandwidth_bps / 1000,
            rung.segments.len(),
        );
    }
    out.push('\n');
}

/// `999 B`, `1.2 MB`.
pub fn human_bytes(bytes: u64) -> String {
    scaled(bytes as f64, "B")
}

/// `61.3 Mbit/s`.
pub fn human_bps(bps: f64) -> String {
    scaled(bps, "bit/s")
}

fn scaled(value: f64, unit: &str) -> String {
    let scales = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match scales.iter().find(|(size, _)| value >= *size) {
        Some((size, prefix)) => format!("{:.1} {prefix}{unit}", value / size),
        None => format!("{value:.0} {unit}"),
    }
}
