//! `headend scan`: the inventory of a source as a table or JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::package::media::{self, Audio, Facts, Video};
use crate::package::{Inventory, LeftOutReason, Presentation, Role, Rung};
use crate::units::{counted, human_bytes, human_seconds};

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
                "media": media::facts_of(inventory, rung).map(|facts| media_json(&facts)),
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
        .map(|problem| json!({ "place": problem.place, "what": problem.what, "fix": problem.fix }));
    let left_out = inventory.left_out.iter().map(
        |it| json!({ "reason": it.reason.as_str(), "place": it.place, "name": it.name, "count": it.count }),
    );
    let by_reason = inventory.left_out_by_reason();
    let by_reason = by_reason.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count)));
    json!({
        "schema": 1,
        "root": inventory.root.display().to_string(),
        "presentations": presentations.collect::<Vec<_>>(),
        "objects": objects.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
        "left_out_by_reason": by_reason.collect::<serde_json::Map<_, _>>(),
        "unreferenced": inventory.unreferenced,
        "no_vary_search": inventory.ignored_query.to_field(),
        "total_bytes": inventory.objects.values().map(|object| object.length).sum::<u64>(),
    })
}

/// Facts of the media, where the manifest may say otherwise.
fn media_json(facts: &Facts) -> Value {
    json!({
        "video": facts.video.as_ref().map(video_json),
        "audio": facts.audio.iter().map(audio_json).collect::<Vec<_>>(),
        "subtitles": facts.subtitles,
        "is_protected": facts.is_protected,
    })
}

fn video_json(video: &Video) -> Value {
    let colour = &video.colour;
    json!({
        "codec": video.codec, "width": video.width, "height": video.height, "sample_aspect": video.sample_aspect,
        "display_aspect": video.display_aspect(), "definition": video.definition().as_str(),
        "frame_rate": video.frame_rate, "is_interlaced": video.is_interlaced, "bit_depth": video.bit_depth,
        "primaries": colour.primaries, "transfer": colour.transfer, "matrix": colour.matrix,
        "is_full_range": colour.is_full_range, "alternative_transfer": colour.alternative_transfer,
        "dynamic": video.dynamic().as_str(), "hdr10": video.hdr10, "hdr10_plus": video.hdr10_plus,
        "dolby_vision": video.dolby_vision,
    })
}

fn audio_json(audio: &Audio) -> Value {
    json!({
        "codec": audio.codec, "channels": audio.channels, "sample_rate_hz": audio.sample_rate_hz,
        "language": audio.language,
    })
}

/// Note on files without a manifest.
const NO_MANIFEST: &str = "no manifest: the files are carried as they are, and players need the manifest of a package (.m3u8 or .mpd)";

/// The table for a person.
pub fn to_table(inventory: &Inventory) -> String {
    let mut out = String::new();
    for presentation in &inventory.presentations {
        table_of(&mut out, inventory, presentation);
    }
    let total: u64 = inventory.objects.values().map(|object| object.length).sum();
    let of_role = |role: Role| inventory.objects.values().filter(|object| object.role == role).count();
    let manifests = of_role(Role::Manifest);
    let roles = [(Role::Segment, "media segment"), (Role::Init, "init segment"), (Role::Key, "key")];
    let mut parts: Vec<String> = roles
        .iter()
        .map(|(role, name)| counted(of_role(*role), name))
        .filter(|it| !it.starts_with("0 "))
        .collect();
    parts.insert(0, counted(manifests, "manifest"));
    parts.extend(Some(of_role(Role::Other)).filter(|&count| count > 0).map(|count| format!("{count} other")));
    let _ = writeln!(
        out,
        "{}, {} ({})",
        counted(inventory.objects.len(), "object"),
        human_bytes(total),
        parts.join(", ")
    );
    if manifests == 0 {
        let _ = writeln!(out, "{NO_MANIFEST}");
    }
    if let Some(rule) = inventory.ignored_query.to_field() {
        let _ = writeln!(out, "one object whatever the query has for {rule}; signalled to receivers");
    }
    for left_out in inventory.left_out.iter().filter(|it| it.reason == LeftOutReason::OldSegment) {
        let others = if left_out.count == 1 { "is" } else { "and others are" };
        let _ = writeln!(
            out,
            "{}, not carried: {} {others} outside the live window of {}",
            counted(left_out.count, "old segment"),
            left_out.name,
            left_out.place
        );
    }
    if inventory.unreferenced > 0 {
        let is = if inventory.unreferenced == 1 { "is" } else { "are" };
        let _ = writeln!(
            out,
            "{} that no manifest refers to {is} not carried; include_unreferenced carries them, keys excepted",
            counted(inventory.unreferenced, "file")
        );
    }
    let mut others = inventory.left_out_by_reason();
    others.remove(&LeftOutReason::OldSegment);
    if !others.is_empty() {
        let _ = writeln!(out, "not carried: {}", Inventory::left_out_text(&others));
    }
    if !inventory.problems.is_empty() {
        let _ = writeln!(out, "\n{}:", counted(inventory.problems.len(), "problem"));
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
        "  {:<28} {:<9} {:>9} {:>13} {:>9} {:>10}",
        "rung", "kind", "kbit/s", "picture", "segments", "bytes"
    );
    for rung in &presentation.rungs {
        let picture = picture(inventory, rung);
        let lengths = rung.segments.iter().chain(&rung.inits).filter_map(|path| inventory.objects.get(path));
        let bytes: u64 = lengths.map(|object| object.length).sum();
        let rate = match rung.bandwidth_bps {
            // An audio rendition of HLS has no BANDWIDTH: its mean.
            0 if bytes > 0 && rung.duration_s > 0.0 => {
                format!("~{:.0}", bytes as f64 * 8e-3 / rung.duration_s)
            }
            0 => String::new(),
            bps => (bps / 1000).to_string(),
        };
        let bytes = human_bytes(bytes);
        let _ = writeln!(
            out,
            "  {:<28} {:<9} {rate:>9} {picture:>13} {:>9} {bytes:>10}",
            rung.id,
            rung.kind.as_str(),
            rung.segments.len(),
        );
    }
    out.push('\n');
}

/// The manifest's picture size, or the media's where it has none, and the media's dynamic range; the language of what has
/// no picture.
fn picture(inventory: &Inventory, rung: &Rung) -> String {
    let video = media::facts_of(inventory, rung).and_then(|facts| facts.video);
    let said = || video.as_ref().map(|video| (video.width, video.height));
    let Some((width, height)) = rung.resolution.or_else(said) else { return rung.language.clone() };
    let dynamic = video.as_ref().map_or("", |video| video.dynamic().as_str());
    format!("{width}x{height} {dynamic}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::package::{self, Options};

    fn cmaf() -> Inventory {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/media/cmaf"));
        package::read(root, &Options::default()).unwrap()
    }

    #[test]
    fn the_document_has_what_the_media_say_beside_what_the_manifest_says() {
        let document = to_json(&cmaf());
        let rungs = document["presentations"][0]["rungs"].as_array().unwrap();
        let video = &rungs[0]["media"]["video"];
        assert_eq!(
            (&rungs[0]["width"], &video["width"], &video["height"]),
            (&json!(640), &json!(640), &json!(360))
        );
        assert_eq!((&video["display_aspect"], &video["dynamic"]), (&json!([16, 9]), &json!("SDR")));
        let sound = &rungs[3]["media"];
        assert_eq!((&sound["video"], &sound["audio"][0]["codec"]), (&Value::Null, &json!("mp4a.40.2")));
    }

    #[test]
    fn pictures_have_their_dynamic_range_and_sounds_none() {
        let table = to_table(&cmaf());
        assert_eq!(table.matches("640x360 SDR").count(), 2, "{table}");
        assert!(table.lines().any(|line| line.contains("audio") && !line.contains("SDR")), "{table}");
    }

    #[test]
    fn a_rendition_without_a_bandwidth_has_the_mean_of_its_segments_and_one_is_not_several() {
        let table = to_table(&cmaf());
        let audio = table.lines().find(|it| it.starts_with("  media_3.m3u8")).unwrap();
        assert!(audio.contains(" ~51 "), "{table}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("film.mp4"), "x").unwrap();
        let table = to_table(&package::read(dir.path(), &Options::default()).unwrap());
        assert!(table.starts_with("1 object, 1 B (0 manifests, 1 media segment)\nno manifest: "), "{table}");
    }

    #[test]
    fn media_that_say_nothing_leave_the_manifest_its_word() {
        let dir = tempfile::tempdir().unwrap();
        let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=640x360\nv.m3u8\n";
        let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n1.ts\n#EXT-X-ENDLIST\n";
        for (name, text) in [("m.m3u8", master), ("v.m3u8", list), ("1.ts", "encrypted")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let inventory = package::read(dir.path(), &Options::default()).unwrap();
        assert!(to_table(&inventory).contains(" 640x360 "));
        assert_eq!(to_json(&inventory)["presentations"][0]["rungs"][0]["media"], Value::Null);
    }
}
