//! The report as JSON and as a table.

use std::fmt::Write as _;

use carousel::route::lls::{ListReport, ServiceDrop};
use serde_json::{Value, json};

use super::extract::MAX_EXTRACTED_BYTES;
use super::stream_report::{stream_json, stream_table};
use super::{FileReport, Report, SessionReport};
use crate::units::human_bytes;

/// The JSON document.
pub fn to_json(report: &Report) -> Value {
    let sessions = report.sessions.iter().map(|session| {
        let (protocol, how) = session.protocol();
        let seconds = Some(session.last_s - session.first_s).filter(|seconds| *seconds > 0.0);
        json!({
            "source": session.key.source.to_string(), "group": session.key.destination.ip().to_string(),
            "port": session.key.destination.port(), "tsi": session.key.tsi.0,
            "protocol": protocol, "how": how, "packets": session.packets, "bytes": session.bytes, "lost": session.lost,
            "rate_bps": seconds.map(|seconds| session.bytes as f64 * 8.0 / seconds), "first_s": session.first_s, "last_s": session.last_s,
            "fdt_instances": session.fdt_instances, "fdt_gap_s": session.fdt_gap_s, "closed": session.closed,
            "dropped": session.dropped, "route": session.route.as_ref().map(|channel| json!({
                "complete": channel.complete, "end_guessed": channel.guessed, "failed": channel.failed,
                "template": channel.template, "representation": channel.representation,
                "protects": channel.protects, "packets": session.route_packets,
            })),
        })
    });
    let objects = report.objects.iter().map(|object| {
        json!({
            "uri": object.uri, "length": object.length, "sha256": object.digest.map(carousel::Digest::to_hex),
            "source": object.key.source.to_string(), "group": object.key.destination.ip().to_string(),
            "port": object.key.destination.port(), "tsi": object.key.tsi.0,
            "toi": u64::try_from(object.toi.0).map_or_else(|_| json!(object.toi.0.to_string()), |toi| json!(toi)),
            "complete": object.digest.is_some(), "content_type": object.content_type, "content_encoding": object.encoding,
            "transfer_length": object.transfer_length, "received": object.received, "digest_checked": object.checked,
            "wrong": object.wrong, "end": object.end.map(carousel::growing::End::as_str),
            "chunk_of": object.chunk_of.as_ref().map(|(name, _)| name), "chunk_offset": object.chunk_of.as_ref().map(|(_, at)| at), "complete_s": object.complete_s,
            "extracted": object.extracted.as_ref().map(|path| path.display().to_string()),
        })
    });
    let objects = objects.chain(report.files.iter().map(file_json));
    let streams = report.streams.iter().map(stream_json);
    json!({
        "service_lists": report.service_lists.iter().map(list_json).collect::<Vec<_>>(),
        "schema": 1, "duration_s": report.duration_s, "truncated": report.truncated, "not_alc": report.not_alc,
        "left_out": report.left_out, "not_extracted": report.not_extracted, "streams": streams.collect::<Vec<_>>(), "sessions": sessions.collect::<Vec<_>>(), "objects": objects.collect::<Vec<_>>(),
    })
}

/// A service list of ATSC.
fn list_json(list: &ListReport) -> Value {
    let services = list.services.iter().map(|it| {
        let service = &it.service;
        let channel = service.channel.map(|(major, minor)| format!("{major}.{minor}"));
        json!({
            "id": it.id, "name": service.name, "channel": channel, "protocol": service.protocol.as_str(),
            "manifest": it.manifest, "groups": it.groups.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "left_out": it.dropped.map(ServiceDrop::as_str),
        })
    });
    json!({
        "source": list.source.to_string(), "group": list.group.to_string(), "bsid": list.bsid,
        "version": list.version, "services": services.collect::<Vec<_>>(),
    })
}

/// A file of a carousel among the objects.
fn file_json(file: &FileReport) -> Value {
    json!({
        "uri": file.uri.as_ref().unwrap_or(&file.path), "path": file.path, "length": file.length,
        "sha256": file.digest.to_hex(), "group": file.stream.map(|it| it.ip().to_string()),
        "port": file.stream.map(|it| it.port()), "tsi": null, "toi": null, "pid": file.pid.get(),
        "module": file.module.0, "module_version": file.module.1, "complete": true, "content_type": file.content_type,
        "digest_checked": file.checked, "complete_s": file.complete_s,
        "extracted": file.extracted.as_ref().map(|path| path.display().to_string()),
    })
}

/// Writes the state of a channel by the receiver of ROUTE.
fn route_table(channel: &carousel::route::ChannelState, flute_packets: u64, out: &mut String) {
    if channel.tsi == carousel::route::SIGNALLING_TSI {
        let _ = writeln!(out, "  signalling: {} packages that differ", channel.complete);
        return;
    }
    if !channel.protects.is_empty() {
        let tsis: Vec<String> = channel.protects.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "  repair symbols for the objects of TSI {}", tsis.join(", "));
        return;
    }
    let named = match &channel.template {
        Some(template) => format!("named by {template}"),
        None => "without a file template".to_owned(),
    };
    let representation =
        channel.representation.as_ref().map_or_else(String::new, |it| format!(", representation {it}"));
    let _ = writeln!(
        out,
        "  objects {named}{representation}: {} complete, {} of them without a mark of their end, {} given up",
        channel.complete, channel.guessed, channel.failed
    );
    if flute_packets > 0 {
        let _ = writeln!(out, "  {flute_packets} packets among them are of FLUTE");
    }
}

/// Objects listed in the table; JSON has all.
const TABLE_OBJECTS: usize = 200;

/// The table for a person.
pub fn to_table(report: &Report) -> String {
    let mut out = String::new();
    for stream in &report.streams {
        stream_table(stream, &mut out);
    }
    for session in &report.sessions {
        session_table(session, &mut out);
    }
    file_table(&report.files, &mut out);
    if report.not_extracted > 0 {
        let _ = writeln!(
            out,
            "{} objects were not extracted: {} are written already; remove some and start again",
            report.not_extracted,
            human_bytes(MAX_EXTRACTED_BYTES)
        );
    }
    if report.objects.is_empty() && report.sessions.is_empty() && !report.streams.is_empty() {
        return out;
    }
    for list in &report.service_lists {
        service_table(list, &mut out);
    }
    object_table(report, &mut out);
    if report.not_alc > 0 {
        let _ = writeln!(out, "{} datagrams are not ALC packets", report.not_alc);
    }
    if report.truncated {
        let _ = writeln!(out, "the recording ends inside a frame");
    }
    out
}

fn session_table(session: &SessionReport, out: &mut String) {
    let (protocol, how) = session.protocol();
    let seconds = session.last_s - session.first_s;
    let rate = match seconds > 0.0 {
        true => format!("{:.3} Mbit/s", session.bytes as f64 * 8e-6 / seconds),
        // A recording without times.
        false => format!("{} bytes", session.bytes),
    };
    let loss = session.lost as f64 * 100.0 / (session.packets + session.lost).max(1) as f64;
    let _ = writeln!(out, "{} from {}, TSI {}", session.key.destination, session.key.source, session.key.tsi);
    let _ = writeln!(
        out,
        "  {protocol} (detected by {how}), {} packets, {rate}, lost {} ({loss:.2} %)",
        session.packets, session.lost
    );
    if protocol == "FLUTE" {
        let _ = writeln!(
            out,
            "  {} FDT Instances, at most {:.2} s between FDT packets{}",
            session.fdt_instances,
            session.fdt_gap_s,
            if session.closed { ", closed by the A flag" } else { "" }
        );
    }
    if let Some(channel) = &session.route {
        route_table(channel, session.packets - session.route_packets, out);
    }
    for (reason, count) in &session.dropped {
        let _ = writeln!(out, "  {count} packets dropped: {reason}");
    }
}

/// Files of carousels.
fn file_table(files: &[FileReport], out: &mut String) {
    if !files.is_empty() {
        let _ = writeln!(out, "\n{:>10} {:>10} {:>10}  file of a carousel", "PID", "module", "bytes");
    }
    for file in files.iter().take(TABLE_OBJECTS) {
        let name = file.uri.as_ref().unwrap_or(&file.path);
        let _ = writeln!(out, "{:>10} {:>10} {:>10}  {name}", file.pid, file.module.0, file.length);
    }
    and_more(files.len(), out);
}

fn and_more(count: usize, out: &mut String) {
    if count > TABLE_OBJECTS {
        let _ = writeln!(out, "… and {} more; --json lists all", count - TABLE_OBJECTS);
    }
}

fn service_table(list: &ListReport, out: &mut String) {
    let _ = writeln!(out, "\nATSC services of {} by {}, version {}", list.bsid, list.source, list.version);
    for it in &list.services {
        let (name, protocol) = (&it.service.name, it.service.protocol.as_str());
        let state = match (it.dropped, &it.manifest) {
            (Some(why), _) => format!("not received: {why}"),
            (None, Some(manifest)) => manifest.clone(),
            (None, None) => "no manifest yet".to_owned(),
        };
        let _ = writeln!(out, "{:>10} {name:<20} {protocol:<10} {state}", it.service.id);
    }
}

fn object_table(report: &Report, out: &mut String) {
    let whole = report.objects.iter().filter(|object| object.digest.is_some()).count();
    let _ =
        writeln!(out, "\n{whole} of {} objects complete in {:.1} s", report.objects.len(), report.duration_s);
    if !report.objects.is_empty() {
        let _ = writeln!(out, "{:>10} {:>10} {:>10}  object", "TSI", "TOI", "bytes");
    }
    for object in report.objects.iter().take(TABLE_OBJECTS) {
        let name = object.uri.as_deref().unwrap_or("(no FDT names it)");
        let state = match (object.digest, object.wrong) {
            (Some(_), _) if object.end.is_some_and(carousel::growing::End::is_guessed) => {
                "  (no mark of its end)".to_owned()
            }
            (Some(_), _) => String::new(),
            (None, Some(wrong)) => format!("  WRONG: {wrong}"),
            (None, None) => {
                format!("  {} of {}", human_bytes(object.received), human_bytes(object.transfer_length))
            }
        };
        let _ = writeln!(
            out,
            "{:>10} {:>10} {:>10}  {name}{state}",
            object.key.tsi.0, object.toi.0, object.length
        );
    }
    and_more(report.objects.len(), out);
}
